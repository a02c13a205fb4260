//! The schedule at work: on time, never twice at once, never more than allowed, and nothing lost by waiting.

use crate::world::{HANG_GUARD, Script, Seen, answer, endpoint, http_check, spec, tcp_spec};
use drover_agent::buffer::Buffer;
use drover_agent::ledger::Ledger;
use drover_agent::probe::Prober;
use drover_agent::roster::Rosters;
use drover_agent::schedule::{ScheduleStats, ScheduleView, Scheduler};
use drover_agent::state::StateDir;
use drover_model::Span;
use drover_model::config::HealthCheck;
use drover_model::probe::{FailureKind, Observation, ProbeOutcome, ProbeTarget};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct World {
    stats: Arc<ScheduleStats>,
    ledger: Arc<Ledger>,
    rosters: Arc<Rosters>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(targets: Vec<ProbeTarget>, in_flight_max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let agent: drover_model::AgentId = "eu-west-1".parse().unwrap();
        let rosters = Arc::new(Rosters::new(agent.clone(), "eu-west".parse().unwrap(), state));
        rosters.install(crate::agent::list("v1", targets)).await.unwrap();
        let ledger = Arc::new(Ledger::new(Arc::clone(&rosters), Buffer::new(100_000, 1)));
        let stats = Arc::new(ScheduleStats::default());
        let prober = Arc::new(Prober::default());
        let scheduler = Scheduler::new(agent, prober, Arc::clone(&ledger), Arc::clone(&stats), in_flight_max);
        let stop = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(rosters.subscribe(), stop.clone()));
        Self { stats, ledger, rosters, stop, task, _dir: dir }
    }

    async fn wait_until(&self, done: impl Fn(&ScheduleView) -> bool) -> ScheduleView {
        let waiting = async {
            loop {
                let view = self.stats.view();
                if done(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(HANG_GUARD, waiting).await.expect("the schedule gets there")
    }

    fn observations(&self) -> BTreeMap<String, Vec<Observation>> {
        let mut by_endpoint = BTreeMap::<String, Vec<Observation>>::new();
        for observation in self.ledger.batch(0, 0).observations {
            by_endpoint.entry(observation.endpoint.to_string()).or_default().push(observation);
        }
        by_endpoint
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it stops").unwrap();
    }
}

#[tokio::test]
async fn every_target_is_probed_at_its_interval() {
    let (address, _) = endpoint(answer("200 OK", "")).await;
    let target = |i| {
        let mut spec = spec(&format!("s{i}@us-east"), address, HealthCheck::Http(http_check()));
        spec.interval = Span::from_millis(200);
        spec
    };
    let world = World::new((0..20).map(target).collect(), 100).await;
    let view = world.wait_until(|v| v.started >= 200 && v.in_flight == 0).await;
    assert_eq!(view.skipped_overlaps, 0, "{view:?}");
    let observations = world.observations();
    assert_eq!(observations.len(), 20);
    for (endpoint, seen) in &observations {
        assert!(seen.len() >= 8, "{endpoint} was probed {} times of 10", seen.len());
        for pair in seen.windows(2) {
            let gap = pair[1].began_at.since(pair[0].began_at);
            // 200 ms ± 10 %; a late first one makes the gap smaller, because slots are absolute.
            let late = Span::from_millis(view.delay_max_micros / 1_000 + 5);
            assert!(gap.plus(late) >= Span::from_millis(180), "{endpoint}: {gap}, late by {late} at most");
        }
    }
    world.stop().await;
}

/// A probe that takes longer than its interval is not doubled: the slots meanwhile are skipped, and counted.
#[tokio::test]
async fn a_target_is_never_probed_twice_at_once() {
    let (address, seen) = endpoint(Script::Silence).await;
    let mut slow = spec("slow@us-east", address, HealthCheck::Http(http_check()));
    slow.timeout = Span::from_millis(450);
    let world = World::new(vec![slow], 100).await;
    let view = world.wait_until(|v| v.started >= 4).await;
    assert!(view.skipped_overlaps >= 6, "{view:?}");
    assert_eq!(seen.open_max.load(Ordering::SeqCst), 1);
    world.stop().await;
}

async fn crowded() -> (World, Arc<Seen>) {
    let (address, seen) = endpoint(Script::Silence).await;
    let target = |i| {
        let mut spec = spec(&format!("s{i}@us-east"), address, HealthCheck::Http(http_check()));
        spec.timeout = Span::from_millis(100);
        spec
    };
    (World::new((0..30).map(target).collect(), 4).await, seen)
}

/// 30 targets want 300 probes a second of 100 ms each, and four at a time allow 40: all of them get their turn.
#[tokio::test]
async fn with_too_few_permits_probes_are_delayed_and_none_is_starved() {
    let (world, seen) = crowded().await;
    let view = world.wait_until(|v| v.started >= 120).await;
    assert!(view.in_flight <= 4, "{view:?}");
    // A connection that the probe gave up may still be seen by the endpoint for a moment.
    assert!(seen.open_max.load(Ordering::SeqCst) <= 16, "{}", seen.open_max.load(Ordering::SeqCst));
    let observations = world.observations();
    assert_eq!(observations.len(), 30, "somebody was starved");
    assert!(observations.values().all(|o| o.len() >= 2));
    assert!(view.delay_max_micros > 100_000 && view.missed > 0, "the delay is measured: {view:?}");
    assert_eq!(view.delays.iter().sum::<u64>(), view.started);
    world.stop().await;
}

#[tokio::test]
async fn a_new_list_takes_over_at_once() {
    let (old, at_old) = endpoint(answer("200 OK", "")).await;
    let (new, at_new) = endpoint(answer("200 OK", "")).await;
    let world = World::new(vec![tcp_spec(old)], 10).await;
    world.wait_until(|v| v.started >= 3).await;
    world.rosters.install(crate::agent::list("v2", vec![tcp_spec(new)])).await.unwrap();
    let moved = async {
        while at_new.accepted.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, moved).await.unwrap();
    let then = at_old.accepted.load(Ordering::SeqCst);
    world.wait_until(|v| v.started >= 10).await;
    assert_eq!(at_old.accepted.load(Ordering::SeqCst), then, "the old endpoint is still probed");
    world.stop().await;
}

/// The runtime of this test has one thread; blocking it stops the whole agent, as SIGSTOP or a hypervisor would.
#[tokio::test]
async fn an_agent_that_stood_still_blames_nobody_and_makes_up_for_nothing() {
    let (address, _) = endpoint(Script::Silence).await;
    let target = |i| {
        let mut spec = spec(&format!("s{i}@us-east"), address, HealthCheck::Http(http_check()));
        spec.timeout = Span::from_millis(250);
        spec
    };
    let world = World::new((0..20).map(target).collect(), 100).await;
    let before = world.wait_until(|v| v.started >= 20 && v.in_flight >= 10).await;
    let told = world.ledger.buffer().last_sequence();
    std::thread::sleep(Duration::from_secs(3));
    let after = world.wait_until(|v| v.missed >= 20 && v.started > before.started).await;
    assert!(after.started <= before.started + 20, "a burst of {} probes", after.started - before.started);
    world.wait_until(|v| v.started >= before.started + 40).await;
    let observations = world.ledger.batch(0, 0).observations;
    let in_flight = usize::try_from(before.in_flight).unwrap();
    let stalled = observations.iter().filter(|o| o.sequence > told).take(in_flight);
    for observation in stalled {
        let ProbeOutcome::Failed { kind, detail } = &observation.outcome else { panic!("{observation:?}") };
        assert_eq!(*kind, FailureKind::Local, "{detail}");
        assert!(detail.contains("stood still"), "{detail}");
    }
    world.stop().await;
}
