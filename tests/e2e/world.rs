//! A sample world of the real binary: `drover up` in a directory of its own, with all of its processes. Tests look at it
//! through the command line, as people do, and make trouble with signals, configuration files and played vantages.
//!
//! Whatever a test needs to know of the inside (which process is which, where the configuration lies) is read from the
//! processes' own command lines.

use crate::wire;
use drover_model::RunId;
use drover_model::api::{ExplainView, RunView, StatusView};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{Config, encode};
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use drover_tests::{binary, surroundings};

/// Every length of time of the shipped policy is divided by this: a probe a second.
pub const FACTOR: u32 = 30;
/// Hang guard for everything that a test waits for: a failover takes a tenth of it.
pub const GUARD: Duration = Duration::from_secs(120);
/// Twice what a failover needs to begin (three probes, and one to settle): who did nothing until then, does nothing.
pub const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For the world to end in order before it is killed.
const END_WITHIN: Duration = Duration::from_secs(15);
/// Worlds at a time. Each has fourteen processes and some hundred clients, and waits most of the time: four keep two cores half busy.
pub const WORLDS_MAX: usize = 4;
/// Questions to DNS, so that a region with a share is surely among the answers.
const DNS_QUESTIONS: usize = 60;

pub const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The right to run one world.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let (running, ended) = &RUNNING;
        let mut n = running.lock().unwrap_or_else(PoisonError::into_inner);
        while *n >= WORLDS_MAX {
            n = ended.wait(n).unwrap_or_else(PoisonError::into_inner);
        }
        *n += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What a process that has ended said.
    pub fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It must have ended so.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} in\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// A change of one record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsChange {
    /// Which.
    pub set: String,
    /// The generation before; none when there was no such set.
    pub from: Option<u64>,
    /// The generation that was made; none when the set was removed.
    pub to: Option<u64>,
}

/// One of the world's processes.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    arguments: Vec<String>,
}

impl Process {
    fn is(&self, word: &str) -> bool {
        self.arguments.get(1).is_some_and(|a| a == word)
    }

    /// The value after an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|a| a == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap_or_else(|e| panic!("{signal} to {self:?}: {e}"));
    }
}

/// A running world. It ends with this value.
pub struct World {
    binary: PathBuf,
    up: Child,
    directory: tempfile::TempDir,
    /// As it was at the start.
    pub config: Config,
    config_file: PathBuf,
    _turn: Turn,
}

/// How a world is started.
#[derive(Default)]
pub struct Setup {
    /// A command, with its words, that starts `drover up`: it must become it, and not fork.
    pub under: Vec<String>,
    /// Further words for `drover up`.
    pub words: Vec<String>,
    /// Further variables for all of its processes.
    pub variables: Vec<(&'static str, String)>,
}

impl World {
    /// Starts the sample world and waits until all is well.
    pub fn up() -> Self {
        Self::start(Setup::default())
    }

    /// Starts it in a certain way, and waits until all is well.
    pub fn start(setup: Setup) -> Self {
        let Setup { under, words, variables } = setup;
        let (binary, turn) = (binary(), Turn::wait());
        let directory = tempfile::Builder::new().prefix("e2e-").tempdir().unwrap();
        let log = File::create(directory.path().join("up.log")).unwrap();
        // The kernel ends the world with the thread that started it, however that thread ends.
        let tied = ["setpriv", "--pdeathsig", "TERM", "--"];
        let line: Vec<&str> = under.iter().map(String::as_str).chain(tied).collect();
        let mut up = Command::new(line[0]);
        up.args(&line[1..]).arg(&binary).args(["up", "--factor", &FACTOR.to_string()]);
        surroundings(&mut up, directory.path());
        up.args(words).envs(variables);
        let mut up = up.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let config_file = said_to_run(&mut up, directory.path());
        let config = read(&config_file);
        let world = Self { binary, up, directory, config, config_file, _turn: turn };
        world.until("all endpoints are healthy and all vantages report", is_well);
        world
    }

    /// Something in the directory where `drover up` was called.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `drover` with these words in the world's directory.
    pub fn drover(&self, words: &[&str]) -> Said {
        self.drover_of(None, words)
    }

    /// The same, said by somebody: where tests run as root, the name counts that `sudo` was called under.
    pub fn drover_by(&self, name: &str, words: &[&str]) -> Said {
        self.drover_of(Some(name), words)
    }

    fn drover_of(&self, name: Option<&str>, words: &[&str]) -> Said {
        let mut command = Command::new(&self.binary);
        surroundings(&mut command, self.directory.path());
        command.envs(name.map(|name| ("SUDO_USER", name)));
        Said::of(command.args(words).stdin(Stdio::null()).output().unwrap())
    }

    /// Everything at a glance, unless the coordinator is away.
    pub fn status_now(&self) -> Option<StatusView> {
        let said = self.drover(&["status", "-o", "json"]);
        if said.code == 6 { None } else { Some(said.expect_code(0).json()) }
    }

    pub fn status(&self) -> StatusView {
        self.wait_for("the coordinator answers", Self::status_now)
    }

    pub fn explain(&self, subject: &str) -> ExplainView {
        self.drover(&["explain", subject, "-o", "json"]).expect_code(0).json()
    }

    /// A run, unless the coordinator is away.
    pub fn run_now(&self, run: &RunId) -> Option<RunView> {
        let said = self.drover(&["run", "show", run.as_str(), "-o", "json"]);
        if said.code == 6 { None } else { Some(said.expect_code(0).json()) }
    }

    pub fn run(&self, run: &RunId) -> RunView {
        self.drover(&["run", "show", run.as_str(), "-o", "json"]).expect_code(0).json()
    }

    /// Waits until something is there.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(began.elapsed() < GUARD, "not within {GUARD:?}: {what}\n{}", self.evidence());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until the status says so.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&StatusView) -> bool) -> StatusView {
        self.wait_for(what, |w| w.status_now().filter(&holds))
    }

    /// Watches for [`LONG_ENOUGH`] that it stays so.
    #[track_caller]
    pub fn stays(&self, what: &str, holds: impl Fn(&StatusView) -> bool) {
        self.stays_for(LONG_ENOUGH, what, holds);
    }

    /// Watches that it stays so.
    #[track_caller]
    pub fn stays_for(&self, watched: Duration, what: &str, holds: impl Fn(&StatusView) -> bool) {
        let began = Instant::now();
        while began.elapsed() < watched {
            let status = self.status();
            assert!(holds(&status), "no longer: {what}\n{}", self.evidence());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for a run, the newest when several are there, and until it is in `state`.
    #[track_caller]
    pub fn until_run(&self, state: RunState) -> RunView {
        let newest = |w: &Self| {
            let runs = w.status_now()?.runs;
            let newest = runs.into_iter().max_by_key(|r| r.started_at)?;
            assert!(
                newest.state == state || !newest.state.is_final(),
                "{} is {} instead of {state}: {}\n{}",
                newest.id,
                newest.state,
                newest.summary,
                self.evidence()
            );
            (newest.state == state).then_some(newest.id)
        };
        let run = self.wait_for(&format!("a run is {state}"), newest);
        self.run(&run)
    }

    /// Waits until `explain` gives a reason with this code, live or stored.
    #[track_caller]
    pub fn until_explained(&self, region: &str, code: &str) -> ExplainView {
        self.wait_for(&format!("{region} is explained by {code}"), |w| {
            let view = w.explain(region);
            let told = view.decisions.iter().any(|d| d.region.as_str() == region && d.reason.code() == code)
                || view.history.iter().any(|h| h.subject == region && h.code == code);
            told.then_some(view)
        })
    }

    /// Makes a plan by these words and gives its name.
    #[track_caller]
    pub fn plan(&self, words: &[&str]) -> String {
        let words: Vec<&str> = words.iter().copied().chain(["-o", "json", "--plan"]).collect();
        let view: Value = self.drover(&words).expect_code(8).json();
        view["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("no plan in {view}")).to_owned()
    }

    /// Runs a plan that was shown, and follows it.
    pub fn apply(&self, plan: &str) -> Said {
        self.drover(&["apply", plan, "--reason", "as agreed", "--yes"])
    }

    /// Changes the coordinator's configuration and waits until it is in force.
    #[track_caller]
    pub fn edit(&self, change: impl FnOnce(&mut Config)) {
        self.edit_and(change, || ());
    }

    /// As [`World::edit`], with something done the moment that the change is on disk.
    #[track_caller]
    pub fn edit_and(&self, change: impl FnOnce(&mut Config), then: impl FnOnce()) {
        let before = self.status().coordinator.config_version;
        let mut config = read(&self.config_file);
        change(&mut config);
        let new = self.path("world.new");
        std::fs::write(&new, encode::to_yaml(&config)).unwrap();
        std::fs::rename(new, &self.config_file).unwrap();
        then();
        self.until("the change is in force", |s| s.coordinator.config_version != before);
    }

    /// A further file in the coordinator's configuration directory.
    pub fn config_path(&self, name: &str) -> PathBuf {
        self.config_file.with_file_name(name)
    }

    /// The regions that DNS answers with for a service.
    pub fn answered(&self, service: &str) -> Vec<String> {
        let server = self.config.settings.dns.as_ref().unwrap().answering().next().unwrap().1;
        let service = self.config.services.values().find(|s| s.name.as_str() == service).unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..DNS_QUESTIONS {
            seen.extend(wire::addresses(server, &service.dns_name).iter().map(ToString::to_string));
        }
        let region =
            |e: &drover_model::config::Endpoint| seen.contains(&e.address).then(|| e.region.to_string());
        service.endpoints.values().filter_map(region).collect()
    }

    /// `drover up` itself, which starts a dead coordinator again.
    pub fn keeper(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.up.id()).unwrap())
    }

    #[track_caller]
    fn process(&self, what: &str, is: impl Fn(&Process) -> bool) -> Process {
        self.wait_for(&format!("{what} runs"), |w| processes(&w.up).into_iter().find(&is))
    }

    /// Where the world's processes keep their files.
    pub fn files(&self) -> PathBuf {
        self.config_file.parent().and_then(Path::parent).unwrap().to_owned()
    }

    pub fn coordinator(&self) -> Process {
        self.process("the coordinator", |p| p.is("coordinator"))
    }

    pub fn agent(&self, name: &str) -> Process {
        let file = format!("/{name}.yaml");
        self.process(name, |p| p.is("agent") && p.option("--identity").is_some_and(|i| i.ends_with(&file)))
    }

    pub fn service(&self, service: &str, region: &str) -> Process {
        let is = |p: &Process| {
            p.is("sample-service")
                && p.option("--service") == Some(service)
                && p.option("--region") == Some(region)
        };
        self.process(&format!("{service} in {region}"), is)
    }

    /// A DNS server by the name of its files: `dns` or `dns-2`.
    pub fn dns(&self, name: &str) -> Process {
        let file = format!("/{name}.yaml");
        self.process(name, |p| p.is("dns") && p.option("--config").is_some_and(|c| c.ends_with(&file)))
    }

    /// The references that vantages check themselves by.
    pub fn references(&self) -> Process {
        self.process("the references", |p| p.is("sample-service") && p.option("--service").is_none())
    }

    /// What is wrong with an endpoint from now on, as its control socket takes it.
    pub fn fault(&self, of: &Process, faults: &Value) {
        wire::order(Path::new(of.option("--control").unwrap()), faults);
    }

    /// Every change of DNS that its server remembers having made: its own log, not drover's word.
    pub fn dns_changes(&self) -> Vec<DnsChange> {
        let control = self.config.settings.dns.as_ref().unwrap().embedded().unwrap().instances[0].control;
        let (status, answer) = wire::http(control, "GET", "/v1/changes", "").unwrap();
        assert_eq!(status, 200, "{answer}");
        let batches = answer["applied"].as_array().unwrap_or_else(|| panic!("no list in {answer}"));
        let changes = batches.iter().flat_map(|b| b["changes"].as_array().unwrap());
        changes
            .map(|c| DnsChange {
                set: c["key"].to_string(),
                from: c["from_generation"].as_u64(),
                to: c["to_generation"].as_u64(),
            })
            .collect()
    }

    /// What a failing test prints.
    fn evidence(&self) -> String {
        let said = self.drover(&["status", "--all"]);
        let why = self.drover(&["explain", "eu-west"]);
        let up = std::fs::read_to_string(self.path("up.log")).unwrap_or_default();
        format!("{}{}\n{}{}\nup: {up}", said.stdout, said.stderr, why.stdout, why.stderr)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.up.id()) else { return };
        // A child that was not waited for keeps its number, so that nobody else is hit.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let began = Instant::now();
        while matches!(self.up.try_wait(), Ok(None)) && began.elapsed() < END_WITHIN {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// Every living process that a world started.
fn processes(up: &Child) -> Vec<Process> {
    let parent = i32::try_from(up.id()).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        // Processes come and go while the directory is read; one that is gone is no finding.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let of = after_name.split_whitespace().nth(1).and_then(|p| p.parse::<i32>().ok());
        if of == Some(parent) && !command.is_empty() {
            let arguments = command.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned());
            found.push(Process { pid, arguments: arguments.collect() });
        }
    }
    found
}

/// Waits until `drover up` says that its world runs, and gives the coordinator's configuration file.
fn said_to_run(up: &mut Child, directory: &Path) -> PathBuf {
    let began = Instant::now();
    while !directory.join(".drover/world.json").exists() {
        let log = || std::fs::read_to_string(directory.join("up.log")).unwrap_or_default();
        if let Some(status) = up.try_wait().unwrap() {
            panic!("`drover up` ended ({status}): {}", log());
        }
        assert!(began.elapsed() < GUARD, "`drover up` has no world after {GUARD:?}: {}", log());
        std::thread::sleep(LOOK_EVERY);
    }
    let all = processes(up);
    let coordinator =
        all.iter().find(|p| p.is("coordinator")).unwrap_or_else(|| panic!("no coordinator in {all:?}"));
    Path::new(coordinator.option("--config").unwrap()).join("world.yaml")
}

fn read(file: &Path) -> Config {
    let text = std::fs::read_to_string(file).unwrap();
    let name = file.display().to_string();
    decode::load(&[SourceFile::new(name, text)])
        .unwrap_or_else(|e| panic!("{}: {e:?}", file.display()))
        .config
}

/// Every endpoint healthy with its full share, every vantage heard, nothing that needs attention.
pub fn is_well(status: &StatusView) -> bool {
    let endpoints = || status.services.iter().flat_map(|s| &s.endpoints);
    endpoints().all(|e| e.verdict == VerdictState::Healthy && e.weight.0 > 0)
        && status.vantages.iter().all(|v| v.state.counts())
        && status.dns.iter().all(|d| d.reachable && d.behind.is_empty())
}

/// Published weights of a service, by region.
pub fn weights(status: &StatusView, service: &str) -> Vec<(String, u8)> {
    let found = status.services.iter().find(|s| s.name.as_str() == service).unwrap();
    found.endpoints.iter().map(|e| (e.region.to_string(), e.weight.0)).collect()
}

/// Does every endpoint still have its share?
pub fn all_serve(status: &StatusView) -> bool {
    status.services.iter().all(|s| s.endpoints.iter().all(|e| e.weight.0 > 0))
}
