//! A process of the world, under a supervisor as a service manager is one.

use crate::place::Place;
use drover_tests::surroundings;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Between an end and the next start, as `RestartSec=` of the shipped units.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How it is started, and what runs.
pub struct Process {
    name: String,
    program: String,
    words: Vec<String>,
    log: PathBuf,
    directory: PathBuf,
    child: Option<Child>,
    ended: Option<(Instant, i32)>,
}

impl Process {
    pub fn new(name: String, program: String, words: Vec<String>, log: PathBuf, directory: PathBuf) -> Self {
        Self { name, program, words, log, directory, child: None, ended: None }
    }

    /// Starts it in this place, unless it runs.
    pub fn start(&mut self, place: &Place) {
        if self.child.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = place.command(&self.program);
        let path = std::env::var("PATH").unwrap_or_default();
        surroundings(&mut command, &self.directory);
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(&self.words);
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}: run tests/setup", self.name));
        (self.child, self.ended) = (Some(child), None);
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // A child that was not waited for keeps its number, so that nobody else is hit.
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal);
        }
    }

    /// SIGKILL, as a power loss is to everybody else.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.ended = None;
    }

    /// Starts it again some time after it ended by itself; its exit code, once.
    pub fn restart_if_ended(&mut self, place: &Place) -> Option<i32> {
        if let Some((at, _)) = self.ended {
            if at.elapsed() >= RESTART_AFTER {
                self.start(place);
            }
            return None;
        }
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        let code = status.code().unwrap_or(-1);
        (self.child, self.ended) = (None, Some((Instant::now(), code)));
        Some(code)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
