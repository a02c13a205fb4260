//! A place: a network namespace with nothing but its own loopback and the device of [`crate::fabric`]. A process keeps it,
//! and the kernel takes it away with the last one in it, so that nothing has a name that could be left behind.

use crate::network;
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A namespace is made in milliseconds.
const MADE_WITHIN: Duration = Duration::from_secs(20);

/// The address of a place's machine, inside of a network that all places share.
pub fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(index).unwrap(), 1)
}

/// The place of an address.
pub fn index_of(address: Ipv4Addr) -> Option<usize> {
    match address.octets() {
        [10, 77, index, 1] => Some(index.into()),
        _ => None,
    }
}

/// One place. It ends with this value.
pub struct Place {
    pub index: usize,
    holder: Child,
}

impl Place {
    pub fn open(index: usize) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "sleep", "infinity"]);
        let holder = command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut place = Self { index, holder };
        let (own, began) = (fs::read_link("/proc/self/ns/net").unwrap(), Instant::now());
        while fs::read_link(place.file()).map_or(true, |other| other == own) {
            let ended = place.holder.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < MADE_WITHIN,
                "no namespace ({ended:?}): {}",
                network::HOW
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        place.run(&["ip", "link", "set", "lo", "up"]);
        place
    }

    fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A command there, that ends with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.arg(format!("--net={}", self.file().display())).args(["--", program]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Runs a command there to its end, which must be a good one.
    pub fn run(&self, words: &[&str]) -> String {
        let said = network::output(self.command(words[0]).args(&words[1..]).stdin(Stdio::null()));
        assert!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// Loads rules of nftables there.
    pub fn filter(&self, rules: &str) {
        let mut command = self.command("nft");
        let child = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}: {}", network::HOW));
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "nft: {}\n{rules}", String::from_utf8_lossy(&said.stderr));
    }

    /// For a thread that enters later.
    pub fn open_file(&self) -> File {
        File::open(self.file()).unwrap()
    }

    /// Does something there, and comes back.
    pub fn within<T: Send>(&self, does: impl FnOnce() -> T + Send) -> T {
        let there = || {
            enter(&self.open_file());
            does()
        };
        std::thread::scope(|s| s.spawn(there).join()).unwrap_or_else(|e| std::panic::resume_unwind(e))
    }
}

/// The calling thread opens sockets in that namespace from now on.
pub fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("setns: {e}: {}", network::HOW));
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
