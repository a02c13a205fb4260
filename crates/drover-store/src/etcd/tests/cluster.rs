//! A cluster of real etcd members on this machine, each a process that can be killed and started again.
//!
//! It uses nothing of drover's, so that the end-to-end tests use this file, too.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ends a wait that hangs: a member is ready in a second, on a busy machine in ten.
const READY_MAX: Duration = Duration::from_secs(90);
const INSTALL: &str = "apt-get install -y --no-install-recommends etcd-server etcd-client";

/// Some members, and the directory in which they keep their data.
pub struct Cluster {
    members: Vec<Member>,
    directory: TempDir,
    token: String,
    flags: Vec<String>,
    /// Which data directory is in use: a restored snapshot goes into a new one.
    life: u32,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `count` members with `flags` beside what a cluster needs, and waits until they are ready.
    pub fn start(count: usize, flags: &[&str]) -> Self {
        // Held all at once, so that each is another one.
        let held: Vec<TcpListener> =
            (0..count * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
        drop(held);
        let members = ports.chunks(2).map(|pair| Member { client: pair[0], peer: pair[1], process: None });
        let mut cluster = Self {
            members: members.collect(),
            directory: tempfile::tempdir().unwrap(),
            token: "drover-test".to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            life: 0,
        };
        cluster.start_all();
        cluster
    }

    /// What a client is given.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.endpoint(member)).collect()
    }

    pub fn endpoint(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[member].client)
    }

    /// SIGKILL, as a power loss is to everybody else.
    pub fn kill(&mut self, member: usize) {
        let mut process = self.members[member].process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts a member that was killed, with what it has on disk.
    pub fn restart(&mut self, member: usize) {
        self.spawn(member);
        self.wait_ready(member);
    }

    pub fn kill_all(&mut self) {
        for member in 0..self.members.len() {
            if self.members[member].process.is_some() {
                self.kill(member);
            }
        }
    }

    /// Starts whoever does not run, and waits for all: without a quorum none becomes ready by itself.
    pub fn start_all(&mut self) {
        for member in 0..self.members.len() {
            if self.members[member].process.is_none() {
                self.spawn(member);
            }
        }
        (0..self.members.len()).for_each(|member| self.wait_ready(member));
    }

    /// The member that leads now, and one that follows.
    pub fn leader_and_follower(&self) -> (usize, usize) {
        let begun = Instant::now();
        loop {
            for member in 0..self.members.len() {
                let told = self.ctl(member, &["endpoint", "status", "-w", "fields"]);
                let told = String::from_utf8_lossy(&told.stdout).into_owned();
                let field = |name: &str| {
                    let line = told.lines().find(|line| line.starts_with(&format!("\"{name}\"")))?;
                    line.rsplit(' ').next().map(str::to_owned)
                };
                if field("Leader").is_some() && field("Leader") == field("MemberID") {
                    return (member, (member + 1) % self.members.len());
                }
            }
            assert!(begun.elapsed() < READY_MAX, "no member leads");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `etcdctl` at one member.
    pub fn ctl(&self, member: usize, arguments: &[&str]) -> Output {
        let mut command = tied("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint(member)]).args(arguments);
        command.output().unwrap_or_else(|error| panic!("can't run etcdctl ({error}); install it: {INSTALL}"))
    }

    /// A snapshot of what one member has.
    pub fn snapshot(&self, member: usize) -> PathBuf {
        let file = self.directory.path().join(format!("snapshot-{}", self.life));
        let saved = self.ctl(member, &["snapshot", "save", file.to_str().unwrap()]);
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        file
    }

    /// Puts the whole cluster back to a snapshot, under a token: with the same one the cluster has the same id.
    pub fn restore(&mut self, snapshot: &Path, token: &str) {
        self.kill_all();
        self.life += 1;
        token.clone_into(&mut self.token);
        for (member, this) in self.members.iter().enumerate() {
            let mut command = tied("etcdctl");
            command.env("ETCDCTL_API", "3").args(["snapshot", "restore", snapshot.to_str().unwrap()]);
            command.args(["--name", &format!("m{member}"), "--initial-cluster", &self.initial()]);
            command.args(["--initial-cluster-token", &self.token]);
            command.args(["--initial-advertise-peer-urls", &format!("http://127.0.0.1:{}", this.peer)]);
            command.arg("--data-dir").arg(self.data(member));
            let restored = command.output().unwrap();
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        }
        self.start_all();
    }

    fn data(&self, member: usize) -> PathBuf {
        self.directory.path().join(format!("m{member}-{}", self.life))
    }

    fn initial(&self) -> String {
        let each = self.members.iter().enumerate();
        let each = each.map(|(member, this)| format!("m{member}=http://127.0.0.1:{}", this.peer));
        each.collect::<Vec<_>>().join(",")
    }

    fn spawn(&mut self, member: usize) {
        let this = &self.members[member];
        let client = self.endpoint(member);
        let peer = format!("http://127.0.0.1:{}", this.peer);
        let mut command = tied("etcd");
        command.args(["--name", &format!("m{member}"), "--initial-cluster", &self.initial()]);
        command.args(["--initial-cluster-token", &self.token, "--initial-cluster-state", "new"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(&self.flags).arg("--data-dir").arg(self.data(member));
        let log = self.directory.path().join(format!("m{member}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process =
            command.spawn().unwrap_or_else(|error| panic!("can't run etcd ({error}); install it: {INSTALL}"));
        self.members[member].process = Some(process);
    }

    /// Waits until a member says that it is part of a healthy cluster.
    fn wait_ready(&mut self, member: usize) {
        let begun = Instant::now();
        let port = self.members[member].client;
        while !is_healthy(port) {
            let process = self.members[member].process.as_mut().expect("it was started");
            let ended = process.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > READY_MAX {
                let log = fs::read_to_string(self.directory.path().join(format!("m{member}.log"))).unwrap();
                panic!("member {member} is not ready ({ended:?}); if etcd is missing: {INSTALL}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}

/// A command that dies with the thread that starts it.
fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}
