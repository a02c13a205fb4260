//! A role of the program as a process of its own, without a world around it: for faults that take one process only.

use crate::world::{GUARD, binary, surroundings};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{Config, encode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A directory with the sample configuration, where roles keep their files.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let site = Self { directory: tempfile::Builder::new().prefix("e2e-role-").tempdir().unwrap() };
        fs::create_dir(site.path("config")).unwrap();
        site.configure(|c| c.settings.dns = None);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The shipped configuration, changed.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = shipped();
        change(&mut config);
        fs::write(self.path("config/world.yaml"), encode::to_yaml(&config)).unwrap();
    }

    /// The same with this one DNS server.
    pub fn configure_dns(&self, dns: &Dns) {
        self.configure(|c| {
            let instance = &mut c.settings.dns.as_mut().unwrap().embedded_mut().unwrap().instances[0];
            (instance.control, instance.query) = (dns.control, dns.query);
        });
    }

    /// Starts `drover WORDS` below the command `under`, which must become it and not fork.
    pub fn start(&self, name: &str, under: &[&str], words: &[&str]) -> Role {
        let (log, ready) = (self.path(&format!("{name}.log")), self.path(&format!("{name}.ready")));
        let _ = fs::remove_file(&ready);
        // The kernel ends it with the thread that started it, however that thread ends.
        let tied = ["setpriv", "--pdeathsig", "KILL", "--"];
        let mut line = under.iter().chain(&tied).map(PathBuf::from).collect::<Vec<_>>();
        line.push(binary());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(words).arg("--ready-file").arg(&ready);
        surroundings(&mut command, self.directory.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = child.spawn().unwrap_or_else(|e| panic!("can't start {line:?}: {e}"));
        Role { name: name.to_owned(), child, log, ready }
    }

    /// A coordinator with its state in `state`, on this address and the socket `NAME.sock`.
    pub fn coordinator(&self, name: &str, under: &[&str], listen: &str, state: &Path) -> Role {
        let (config, socket) = (self.path("config"), self.path(&format!("{name}.sock")));
        let [config, socket, state] = [config.as_path(), &socket, state].map(|p| p.to_str().unwrap());
        let words =
            ["coordinator", "--config", config, "--state", state, "--socket", socket, "--listen", listen];
        self.start(name, under, &words)
    }

    /// Starts a DNS server; port 0 takes free ones.
    pub fn dns(&self, listen: &str, control: &str) -> Role {
        let (file, state) = (self.path("dns.yaml"), self.path("dns"));
        let zone = json!({"zone": "drover.test", "nameservers": [
            {"name": "ns1.drover.test", "addresses": ["127.0.0.1"]},
            {"name": "ns2.drover.test", "addresses": ["127.0.0.1"]},
        ]});
        fs::write(&file, zone.to_string()).unwrap();
        let [file, state] = [&file, &state].map(|p| p.to_str().unwrap());
        self.start(
            "dns",
            &[],
            &["dns", "--config", file, "--state", state, "--listen", listen, "--control", control],
        )
    }

    /// An agent that reports to this coordinator and tells about itself at `status`.
    pub fn agent(&self, coordinator: SocketAddr, status: &str) -> Role {
        let identity = json!({
            "agent": "eu-west-1", "region": "eu-west", "coordinators": [format!("http://{coordinator}")],
            "state_dir": self.path("agent"), "status": status,
        });
        let file = self.path("agent.yaml");
        fs::write(&file, identity.to_string()).unwrap();
        self.start("agent", &[], &["agent", "--identity", file.to_str().unwrap()])
    }

    /// Runs a command against the coordinator at `address`; its exit code, and all that it said.
    pub fn ask(&self, address: &str, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary());
        surroundings(&mut command, self.directory.path());
        let said =
            command.args(words).args(["--coordinator", address]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
        (said.status.code().unwrap_or(-1), text.into_owned())
    }
}

/// The sample world as it is shipped.
fn shipped() -> Config {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regions");
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        files.push(SourceFile::new(path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    decode::load(&files).unwrap_or_else(|e| panic!("{e:?}")).config
}

/// Where a DNS server answers.
#[derive(Debug, Clone, Copy)]
pub struct Dns {
    pub query: SocketAddr,
    pub control: SocketAddr,
}

/// A running role. It ends with this value.
pub struct Role {
    name: String,
    child: Child,
    log: PathBuf,
    ready: PathBuf,
}

impl Role {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Did it write this so far?
    pub fn says(&self, part: &str) -> bool {
        says(&self.log(), part)
    }

    /// Waits until it serves; what it says of itself.
    pub fn ready(&mut self) -> Value {
        match self.ready_or_ended() {
            Ok(ready) => ready,
            Err(code) => panic!("{} ended with {code}: {}", self.name, self.log()),
        }
    }

    /// Waits until it serves, or ended with this code instead.
    pub fn ready_or_ended(&mut self) -> Result<Value, i32> {
        let began = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&self.ready) {
                return Ok(serde_json::from_str(&text).unwrap());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status.code().unwrap_or(-1));
            }
            assert!(began.elapsed() < GUARD, "{} is not ready: {}", self.name, self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The loopback address of a coordinator's API.
    pub fn api(&mut self) -> SocketAddr {
        self.ready()["http"].as_str().unwrap().parse().unwrap()
    }

    /// The addresses of a DNS server.
    pub fn addresses(&mut self) -> Dns {
        let ready = self.ready();
        let address = |v: &Value| v.as_str().unwrap().parse().unwrap();
        Dns { query: address(&ready["dns"][0]), control: address(&ready["control"]) }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended; its exit code.
    pub fn ended(&mut self) -> i32 {
        let began = Instant::now();
        while self.is_alive() {
            assert!(began.elapsed() < GUARD, "{} does not end: {}", self.name, self.log());
            std::thread::sleep(LOOK_EVERY);
        }
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Descriptors that a process holds.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Connections and listeners that a process holds. Files come and go, these stay.
pub fn sockets(pid: i32) -> usize {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let leads_to = held.filter_map(|d| fs::read_link(d.path()).ok());
    leads_to.filter(|to| to.to_string_lossy().starts_with("socket:")).count()
}

/// The highest number of a descriptor that a process holds.
pub fn highest_descriptor(pid: i32) -> usize {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    held.filter_map(|d| d.file_name().to_str()?.parse().ok()).max().unwrap()
}

/// Sets the number below which every further descriptor of a running process must be.
pub fn limit_descriptors(pid: i32, soft: usize) {
    let limit = format!("--nofile={soft}:");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).output();
    let done = done.unwrap_or_else(|e| panic!("prlimit: {e}; install it: apt-get install -y util-linux"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Is this part of a text that was laid out for a terminal, wherever its lines were broken?
pub fn says(text: &str, part: &str) -> bool {
    let flat = |text: &str| text.replace(|c: char| c.is_whitespace() || "│╰─▶×".contains(c), "");
    flat(text).contains(&flat(part))
}

/// Waits until something is there.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < GUARD, "not within {GUARD:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
