//! SIGKILL to the coordinator at a random moment of a failover. Whatever it was doing, its successor ends it right.

use crate::world::{WORLDS_MAX, World, weights};
use drover_model::ServiceId;
use drover_model::journal::{Entry, RunState};
use drover_model::runbook::Purpose;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rounds when `DROVER_E2E_KILL_ROUNDS` does not say.
const ROUNDS: u64 = 3;
/// While the failure is being concluded, in milliseconds after the region died.
const DETECTING_MILLIS: std::ops::Range<u64> = 0..2_500;
/// While the run goes on, in milliseconds after it was seen: its waits alone, for the caches and for validation, take 5.5 s.
const RUNNING_MILLIS: std::ops::Range<u64> = 0..5_000;
/// One round in so many kills before there is a run; all others in the middle of it.
const DETECTING_ONE_IN: u64 = 5;

#[test]
fn a_failover_survives_the_death_of_its_coordinator() {
    let rounds =
        std::env::var("DROVER_E2E_KILL_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("a number of rounds"));
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= rounds {
                break;
            }
            round(seed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORLDS_MAX {
            scope.spawn(work);
        }
    });
}

#[allow(clippy::print_stderr, reason = "a test's own output, shown when it fails")]
fn round(seed: u64) {
    let w = World::up();
    let mut random = fastrand::Rng::with_seed(seed);
    let (epoch, first) = (w.status().coordinator.epoch, w.coordinator());
    w.drover(&["break", "eu-west"]).expect_code(0);
    let detecting = seed % DETECTING_ONE_IN == DETECTING_ONE_IN - 1;
    let moment = if detecting {
        random.u64(DETECTING_MILLIS)
    } else {
        w.until("the failover runs", |s| !s.runs.is_empty());
        random.u64(RUNNING_MILLIS)
    };
    std::thread::sleep(Duration::from_millis(moment));
    let standing = w.status_now().and_then(|s| s.runs.first().map(|r| r.summary.clone()));
    first.signal(Signal::SIGKILL);
    // Shown when the round fails, to play it again.
    eprintln!(
        "seed {seed}: the coordinator is killed {moment} ms after {}; {}",
        if detecting { "the region" } else { "its run was seen" },
        standing.as_deref().unwrap_or("there is no run yet")
    );
    let services: BTreeSet<&ServiceId> = w.config.services.keys().collect();
    let status = w.until("the failover is done", |s| {
        let done = s.runs.iter().filter(|r| r.state == RunState::Succeeded);
        s.coordinator.epoch > epoch && done.flat_map(|r| &r.services).collect::<BTreeSet<_>>() == services
    });
    assert_ne!(w.coordinator().pid, first.pid);
    if !detecting {
        // The kill hit the run and not its aftermath, or the round would prove nothing.
        let run = w.run(&status.runs[0].id);
        assert!(run.timeline.iter().any(|t| t.entry == Entry::TakenOver), "{:#?}", run.timeline);
    }
    let runs: Vec<_> = status.runs.iter().map(|r| (r.purpose, r.region.as_str(), r.state)).collect();
    let succeeded = (Purpose::Failover, "eu-west", RunState::Succeeded);
    assert!(runs.iter().all(|run| *run == succeeded), "{runs:?}");
    let moved: usize = status.runs.iter().map(|r| r.services.len()).sum();
    assert_eq!(moved, services.len(), "each service once, whoever finished it: {:?}", status.runs);
    // A successor that begins to listen in the middle concludes of one service a probe before the other, and does not wait.
    assert!(detecting || runs.len() == 1, "one failover: {:?}", status.runs);
    for service in ["checkout", "catalog"] {
        let expected = [("ap-south".to_owned(), 50), ("eu-west".to_owned(), 0), ("us-east".to_owned(), 50)];
        assert_eq!(weights(&status, service), expected);
        assert_eq!(w.answered(service), ["ap-south", "us-east"]);
    }
    no_generation_twice(&w);
}

/// The DNS instance remembers every change that it made: each record set went forward, step by step.
#[track_caller]
pub fn no_generation_twice(w: &World) {
    let mut live: BTreeMap<String, u64> = BTreeMap::new();
    let changes = w.dns_changes();
    for change in &changes {
        let before = live.get(&change.set).copied();
        assert_eq!(change.from, before, "{change:?} in {changes:#?}");
        let to = change.to.unwrap_or_else(|| panic!("removed: {change:?} in {changes:#?}"));
        assert!(before.is_none_or(|b| b < to), "{change:?} in {changes:#?}");
        live.insert(change.set.clone(), to);
    }
    assert_eq!(live.len(), w.config.services.len(), "{changes:#?}");
}
