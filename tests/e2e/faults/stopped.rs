//! Processes that are stopped for longer than every window and then go on, as when a virtual machine is moved or its
//! host swaps: they know nothing of the time that they slept.
//!
//! What they say afterwards of the time before must not count as news (checklist 9, 10 and 39), and nobody moves traffic
//! because somebody was silent (checklist 1).

use super::SEEN_FOR;
use crate::world::{Process, REGIONS, World, all_serve, is_well};
use drover_model::api::StatusView;
use drover_model::decision::VantageState;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// Longer than every window of the policy, divided as it is here.
const STOPPED_FOR: Duration = Duration::from_secs(12);

fn quiet(status: &StatusView) -> bool {
    status.runs.is_empty() && all_serve(status)
}

/// The policy's windows, all of which must pass.
fn longer_than_every_window(w: &World) {
    let vantage = &w.config.settings.vantage;
    let mut windows = vec![vantage.silent_after, vantage.common_cause_window, vantage.max_clock_skew];
    for service in w.config.services.values() {
        windows.extend([service.failover.failure_window, service.stale_after(), service.timeout]);
    }
    for window in windows {
        assert!(window.to_duration() < STOPPED_FOR, "{window} is not over after {STOPPED_FOR:?}");
    }
}

/// The right world again, and it stays so.
#[track_caller]
fn right_again(w: &World) {
    w.until("all is well again", |s| is_well(s) && quiet(s));
    w.stays_for(SEEN_FOR, "nothing moves", |s| is_well(s) && quiet(s));
    assert_eq!(w.answered("checkout"), REGIONS);
    assert_eq!(w.answered("catalog"), REGIONS);
}

/// Stops them; DNS goes on answering with every region for as long as they are.
fn stop(w: &World, processes: &[Process]) {
    processes.iter().for_each(|p| p.signal(Signal::SIGSTOP));
    let began = Instant::now();
    while began.elapsed() < STOPPED_FOR {
        assert_eq!(w.answered("checkout"), REGIONS, "DNS does not need whoever is stopped (I12)");
        std::thread::sleep(Duration::from_millis(200));
    }
    processes.iter().for_each(|p| p.signal(Signal::SIGCONT));
}

fn agents(w: &World) -> Vec<Process> {
    w.config.agents().keys().map(|a| w.agent(a.as_str())).collect()
}

#[test]
fn an_agent_that_was_stopped_is_silent_and_then_a_vantage_again() {
    let w = World::up();
    longer_than_every_window(&w);
    let agent = w.agent("us-east-1");
    agent.signal(Signal::SIGSTOP);
    let vantage =
        |s: &StatusView| s.vantages.iter().find(|v| v.agent.as_str() == "us-east-1").unwrap().clone();
    w.until("its silence is noticed", |s| vantage(s).state == VantageState::Silent);
    w.stays_for(STOPPED_FOR, "nothing moves", quiet);
    agent.signal(Signal::SIGCONT);
    right_again(&w);
    assert_eq!(w.agent("us-east-1").pid, agent.pid);
}

#[test]
fn a_coordinator_that_was_stopped_takes_nothing_old_for_news() {
    let w = World::up();
    longer_than_every_window(&w);
    let (coordinator, before) = (w.coordinator(), w.status().coordinator);
    stop(&w, std::slice::from_ref(&coordinator));
    right_again(&w);
    let after = w.status().coordinator;
    assert_eq!((w.coordinator().pid, after.epoch), (coordinator.pid, before.epoch), "it led all the time");
}

/// As a host that stops all of its machines: nobody saw anything, and all wake with probes that seem to have timed out.
#[test]
fn all_agents_and_the_coordinator_stopped_at_once() {
    let w = World::up();
    longer_than_every_window(&w);
    let mut all = agents(&w);
    all.push(w.coordinator());
    stop(&w, &all);
    right_again(&w);
}
