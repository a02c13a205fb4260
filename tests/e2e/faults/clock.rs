//! The wall clocks of all machines are set by an hour while everything runs, forward and back.
//!
//! Windows, ages and ends are counted on a clock that nobody sets, so that a jump moves no traffic, ends nothing that a
//! person laid down, and silences no vantage (checklist 9: windows on the monotonic clock, two wall clocks never
//! compared for evidence). Detection works as before.

use super::SEEN_FOR;
use crate::wire;
use crate::world::{REGIONS, Setup, World, all_serve, is_well, weights};
use drover_model::api::StatusView;
use drover_model::journal::RunState;
use drover_model::{Span, Timestamp};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian keeps the library, below a directory named after the machine's architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// Of the hour, so much at least must be seen.
const NEARLY: Span = Span::from_mins(50);

/// The library that sits between a program and its clocks.
fn library() -> PathBuf {
    let mut places = fs::read_dir("/usr/lib").unwrap().flatten().map(|e| e.path().join(LIBRARY));
    places.find(|p| p.exists()).unwrap_or_else(|| {
        panic!("no /usr/lib/*/{LIBRARY}: install it: apt-get install -y faketime (tests/setup does)")
    })
}

/// A wall clock that can be set.
struct WallClock {
    directory: tempfile::TempDir,
}

impl WallClock {
    fn new() -> Self {
        let clock = Self { directory: tempfile::Builder::new().prefix("e2e-clock-").tempdir().unwrap() };
        clock.set("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// As an offset to the true time. Whole, or not at all: it is read all the time.
    fn set(&self, offset: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// For the environment of whoever lives by it. The file is read anew each second; what a program counts by is the
    /// machine's and stays true.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |p: &Path| p.display().to_string();
        vec![
            ("LD_PRELOAD", text(&library())),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// What the library shares among the processes of a world, by the number of the first, and does not take away.
struct LeftBehind(Pid);

impl Drop for LeftBehind {
    fn drop(&mut self) {
        for name in ["faketime_shm", "sem.faketime_sem"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}_{}", self.0));
        }
    }
}

/// All is well, nothing was done, and what a person laid down is still there.
fn quiet_and_frozen(status: &StatusView) -> bool {
    is_well(status) && all_serve(status) && status.runs.is_empty() && status.freeze.is_some()
}

/// The agent's wall clock, as it tells it itself.
fn agent_clock(w: &World, agent: &str) -> Timestamp {
    let (_, body) = wire::over_socket(&w.files().join(format!("{agent}.sock")), "/v1/agent");
    let status: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e} in {body}"));
    serde_json::from_value(status["at"].clone()).unwrap()
}

/// Sets all wall clocks and goes through what may depend on them: what stands, a restart, a failover.
fn jump(offset: &str, is_set: impl Fn(Timestamp, Timestamp) -> bool) {
    let clock = WallClock::new();
    let w = World::start(Setup { variables: clock.environment(), ..Setup::default() });
    let _left = LeftBehind(w.keeper());
    // Shorter than the jump: by the wall clock it would be over, or not have begun.
    w.drover(&["freeze", "--for", "30m", "--reason", "the clock is being mended"]).expect_code(0);
    let agents: Vec<String> = w.config.agents().keys().map(ToString::to_string).collect();
    let before = agent_clock(&w, &agents[0]);
    clock.set(offset);
    // Every process looks at its own time whether the file is new. Until the last of them did, some are skewed.
    for agent in &agents {
        w.wait_for("the clocks of all agents are set", |w| {
            is_set(before, agent_clock(w, agent)).then_some(())
        });
    }
    w.until("the coordinator's is set too", quiet_and_frozen);
    w.stays_for(SEEN_FOR, "nothing moves and nothing ends", quiet_and_frozen);
    assert_eq!(w.answered("checkout"), REGIONS);
    assert!(!w.status().attention.iter().any(|a| a.code == "vantage_skewed"), "{:?}", w.status().attention);
    w.drover(&["unfreeze", "--reason", "it is mended"]).expect_code(0);

    // From here on the coordinator counts from the new time, with records of the old one before it.
    let (epoch, coordinator) = (w.status().coordinator.epoch, w.coordinator());
    coordinator.signal(Signal::SIGKILL);
    w.until("its successor sees that all is well", |s| s.coordinator.epoch > epoch && is_well(s));
    w.drover(&["break", "eu-west"]).expect_code(0);
    let run = w.until_run(RunState::Succeeded);
    assert_eq!(run.summary.region.as_str(), "eu-west");
    assert!(run.elapsed <= run.rto, "{} of {}: by which clock?", run.elapsed, run.rto);
    assert_eq!(w.status().runs.len(), 1, "{:?}", w.status().runs);
    let weights = weights(&w.status(), "checkout");
    let expected = [("ap-south".to_owned(), 50), ("eu-west".to_owned(), 0), ("us-east".to_owned(), 50)];
    assert_eq!(weights, expected);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    for entry in fs::read_dir(w.files()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "log") {
            let log = fs::read_to_string(entry.path()).unwrap();
            assert!(!log.contains("panicked"), "{}: {log}", entry.path().display());
        }
    }
}

#[test]
fn a_clock_that_is_set_forward_by_an_hour() {
    jump("+3600", |before, now| now > before + NEARLY);
}

#[test]
fn a_clock_that_is_set_back_by_an_hour() {
    jump("-3600", |before, now| now + NEARLY < before);
}
