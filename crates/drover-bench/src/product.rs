//! The program under test: the real binary in its roles, each a process of its own, so that its processor time and its
//! memory are its own.

use crate::error::{Attempt, BenchError, Result, unexpected};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A guard against hanging: a role with the largest world here is ready within a tenth of it.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// Lines of a role's log that are shown when it failed.
const LAST_WORDS: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The binary: `DROVER_BIN`, else the one beside this program, built just now so that it is never an old one.
pub fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("DROVER_BIN") {
        let path = PathBuf::from(&given);
        return path.canonicalize().attempt(format!("find DROVER_BIN, which is {}", path.display()));
    }
    let own = std::env::current_exe().attempt("find this program")?;
    let directory = own.parent().unwrap_or(Path::new("."));
    if directory.file_name() != Some(OsStr::new("release")) {
        return Err(BenchError::Missing {
            program: "the drover binary of this profile".into(),
            command: "build it and set DROVER_BIN, or run this program with --release".into(),
        });
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "-p", "drover-cli"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .attempt("run cargo to build drover")?;
    if !built.success() {
        return unexpected(format!("drover could not be built ({built})"));
    }
    Ok(directory.join("drover"))
}

/// One process, killed when this value goes, or when this program does.
#[derive(Debug)]
pub struct Role {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Role {
    /// Starts a program with its words; what it says goes into a log in `directory`. Call it on this program's main
    /// thread: the kernel ends a role with the thread that started it.
    pub fn start(name: &'static str, directory: &Path, command: &Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).attempt(format!("create {}", log.display()))?;
        let also = file.try_clone().attempt("share a log")?;
        // The kernel ends it with this program, however that ends.
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            bound.current_dir(directory);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(name, value),
                None => bound.env_remove(name),
            };
        }
        bound.stdin(Stdio::null()).stdout(file).stderr(also);
        let child = bound.spawn().attempt(format!("start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// `drover WORD`, ready when it has written its ready file, which is given back.
    pub fn drover<T: DeserializeOwned>(
        binary: &Path,
        name: &'static str,
        directory: &Path,
        words: &[&OsStr],
    ) -> Result<(Self, T)> {
        let ready = directory.join(format!("{name}.ready"));
        let mut command = Command::new(binary);
        command.args(words).arg(format!("--die-with-parent={}", std::process::id()));
        command.arg("--log-format=json").arg("--ready-file").arg(&ready).env_remove("DROVER_LOG");
        let mut role = Self::start(name, directory, &command)?;
        let began = Instant::now();
        while !ready.exists() {
            if let Ok(Some(status)) = role.child.try_wait() {
                return unexpected(format!("{name} ended ({status}): {}", role.last_words()));
            }
            if began.elapsed() > READY_WITHIN {
                return unexpected(format!(
                    "{name} is not ready after {READY_WITHIN:?}: {}",
                    role.last_words()
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let text = std::fs::read(&ready).attempt(format!("read {}", ready.display()))?;
        let said = serde_json::from_slice(&text).attempt(format!("read {}", ready.display()))?;
        Ok((role, said))
    }

    /// Stops it where it is, so that it does nothing more.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(i32::try_from(self.child.id()).attempt("name a process")?);
        kill(process, signal).attempt(format!("send {signal} to {}", self.name))
    }

    /// What it has logged.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
    }

    /// Bytes that it has logged so far.
    pub fn logged(&self) -> Result<usize> {
        let length = std::fs::metadata(&self.log).attempt(format!("read {}", self.log.display()))?.len();
        usize::try_from(length).attempt("measure a log")
    }

    /// Lines of its log from that byte on that are warnings or errors. A page is news of the world, and no complaint.
    pub fn complaints(&self, from: usize) -> Result<Vec<String>> {
        let text = std::fs::read(&self.log).attempt(format!("read {}", self.log.display()))?;
        let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
        let bad = |l: &&str| l.contains("\"level\":\"WARN\"") || l.contains("\"level\":\"ERROR\"");
        let is_page = |l: &&str| l.contains("\"target\":\"drover_coordinator::outbox\"");
        Ok(text.lines().filter(bad).filter(|l| !is_page(l)).map(str::to_owned).collect())
    }

    /// Processor time that it has used.
    pub fn processor(&self) -> Result<Duration> {
        processor_of(&self.child.id().to_string())
    }

    /// The same to the nanosecond, of each of its threads.
    pub fn threads(&self) -> Result<Threads> {
        let path = format!("/proc/{}/task", self.child.id());
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(&path).attempt(format!("read {path}"))? {
            let path = thread.attempt(format!("read {path}"))?.path().join("schedstat");
            // A thread may end meanwhile.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(nanoseconds) = text.split(' ').next().and_then(|t| t.parse().ok()) {
                threads.insert(path, Duration::from_nanos(nanoseconds));
            }
        }
        Ok(Threads(threads))
    }

    /// Memory of a kind that the kernel tells, now, in MiB.
    pub fn memory_mib(&self, what: &str) -> Result<f64> {
        memory_mib(&self.child.id().to_string(), what)
    }

    /// The most memory that it has used, in MiB.
    pub fn memory_peak_mib(&self) -> Result<f64> {
        self.memory_mib("VmHWM")
    }
}

/// Processor time that each thread of a role has used.
#[derive(Debug)]
pub struct Threads(BTreeMap<PathBuf, Duration>);

impl Threads {
    /// What was used since then, by the threads that are still there.
    pub fn since(&self, earlier: &Self) -> Duration {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, used)| used.saturating_sub(before(thread))).sum()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It fails only for a child that has ended already.
        let _ = self.child.kill();
        if let Err(e) = self.child.wait() {
            eprintln!("drover-bench: can't wait for {}: {e}", self.name);
        }
    }
}

/// User and system time of a process, named as in /proc.
pub fn processor_of(process: &str) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).attempt(format!("read {path}"))?;
    // After the name, which may hold anything, the 12th and 13th fields are user and system ticks.
    let ticks = text.rsplit(')').next().map(|rest| {
        let fields = rest.split_whitespace().skip(11).take(2);
        fields.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>()
    });
    let per_second = sysconf(SysconfVar::CLK_TCK).attempt("ask for the length of a tick")?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks.unwrap_or_default() as f64 / per_second as f64))
}

/// A line of a process's status, which the kernel gives in KiB.
pub fn memory_mib(process: &str, what: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).attempt(format!("read {path}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(what)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|k| k / 1024.0).ok_or_else(|| BenchError::Unexpected(format!("{path} does not say {what}")))
}
