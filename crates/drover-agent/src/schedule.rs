//! When each endpoint is probed: one queue and one timer for all of them.
//!
//! ```text
//! slot n of a target:   start + phase + n × interval ± 5 %
//! ```
//!
//! The phase comes from a hash of agent and endpoint, so that neither one agent's targets nor all agents' probes of one
//! target come in a burst; the jitter keeps them from falling into step with something else. Slots are absolute: a late
//! probe does not make the next one late, and a new list does not move what it left alone.
//!
//! Two kinds of being late are told apart. When all permits are taken, probes wait for one and then run: delayed, not
//! lost. When the process itself stood still (stopped, suspended), a whole interval of every target is due at once; it
//! is not made up for in a burst, the schedule goes on with the next slots.

use crate::ledger::Ledger;
use crate::probe::{Prober, STALL_MIN};
use crate::roster::Roster;
use crate::target::Target;
use drover_model::{AgentId, EndpointKey};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Jitter of one slot, either way, in parts of a thousand of the interval.
pub const JITTER_PER_MILLE: u64 = 50;

/// When one target is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    seed: u64,
    interval_nanos: u64,
    phase_nanos: u64,
}

impl Slots {
    /// The slots of `endpoint` at `agent`.
    #[must_use]
    pub fn new(agent: &AgentId, endpoint: &EndpointKey, interval: Duration) -> Self {
        let seed = hash(&(agent.as_str(), endpoint.service.as_str(), endpoint.region.as_str()));
        let interval_nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX / 4).max(1);
        Self { seed, interval_nanos, phase_nanos: seed % interval_nanos }
    }

    /// Slot `n`, counted from the schedule's start.
    #[must_use]
    pub fn due(&self, n: u64) -> Duration {
        let range = self.interval_nanos / 1_000 * JITTER_PER_MILLE;
        let jitter = hash(&(self.seed, n)) % (2 * range + 1);
        let nominal = self.phase_nanos.saturating_add(n.saturating_mul(self.interval_nanos));
        Duration::from_nanos(nominal.saturating_add(jitter).saturating_sub(range))
    }

    /// The first slot that is due after `elapsed`.
    #[must_use]
    pub fn next_after(&self, elapsed: Duration) -> u64 {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let mut n = (nanos.saturating_sub(self.phase_nanos) / self.interval_nanos).saturating_sub(1);
        while self.due(n) <= elapsed {
            n += 1;
        }
        n
    }
}

/// Keyless, so that it is the same after a restart.
fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Upper bounds of the classes in which delays are counted, in milliseconds; the last class has none.
pub const DELAY_CLASSES_MILLIS: [u64; 7] = [1, 5, 20, 100, 500, 2_000, 10_000];

/// How the schedule is kept.
#[derive(Debug, Default)]
pub struct ScheduleStats {
    started: AtomicU64,
    overlaps: AtomicU64,
    missed: AtomicU64,
    in_flight: AtomicU64,
    delay_max_micros: AtomicU64,
    delays: [AtomicU64; DELAY_CLASSES_MILLIS.len() + 1],
}

/// [`ScheduleStats`] at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ScheduleView {
    /// Probes begun.
    pub started: u64,
    /// Probes not begun because the target's last one was still under way.
    pub skipped_overlaps: u64,
    /// Slots that passed while the agent stood still or waited for a permit.
    pub missed: u64,
    /// Probes under way.
    pub in_flight: u64,
    /// Longest time from a slot to its probe's start, in microseconds.
    pub delay_max_micros: u64,
    /// Starts by delay: one count for each of [`DELAY_CLASSES_MILLIS`], and those beyond.
    pub delays: Vec<u64>,
}

impl ScheduleStats {
    /// As it stands.
    #[must_use]
    pub fn view(&self) -> ScheduleView {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        ScheduleView {
            started: get(&self.started),
            skipped_overlaps: get(&self.overlaps),
            missed: get(&self.missed),
            in_flight: get(&self.in_flight),
            delay_max_micros: get(&self.delay_max_micros),
            delays: self.delays.iter().map(get).collect(),
        }
    }

    fn count_start(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let class = DELAY_CLASSES_MILLIS.iter().position(|&max| micros <= max * 1_000);
        self.delays[class.unwrap_or(DELAY_CLASSES_MILLIS.len())].fetch_add(1, Ordering::Relaxed);
        self.delay_max_micros.fetch_max(micros, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
    }
}

struct Entry {
    target: Arc<Target>,
    slots: Slots,
}

/// Starts every probe at its time.
pub struct Scheduler {
    agent: AgentId,
    prober: Arc<Prober>,
    ledger: Arc<Ledger>,
    stats: Arc<ScheduleStats>,
    permits: Arc<Semaphore>,
    start: Instant,
    entries: Vec<Entry>,
    /// (due, entry, slot), the earliest on top.
    queue: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    probes: JoinSet<()>,
}

impl Scheduler {
    /// A schedule for `agent` with at most `in_flight_max` probes under way at once.
    #[must_use]
    pub fn new(
        agent: AgentId,
        prober: Arc<Prober>,
        ledger: Arc<Ledger>,
        stats: Arc<ScheduleStats>,
        in_flight_max: usize,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(in_flight_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            agent,
            prober,
            ledger,
            stats,
            permits,
            start: Instant::now(),
            entries: Vec::new(),
            queue: BinaryHeap::new(),
            probes: JoinSet::new(),
        }
    }

    /// Probes what `rosters` holds until told to stop; what is under way then is given up.
    pub async fn run(
        mut self,
        mut rosters: watch::Receiver<Option<Arc<Roster>>>,
        shutdown: CancellationToken,
    ) {
        rosters.mark_changed();
        loop {
            let due = self.queue.peek().map(|Reverse((due, ..))| *due);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = rosters.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let roster = rosters.borrow_and_update().clone();
                    self.install(roster.as_deref());
                }
                () = until(due) => {
                    if due.is_some_and(|due| due.elapsed() >= STALL_MIN) {
                        self.skip_what_was_slept_through();
                    }
                    self.start_due(&shutdown).await;
                }
            }
        }
    }

    fn install(&mut self, roster: Option<&Roster>) {
        self.prober.forget_files();
        let targets = roster.map(|r| r.targets.clone()).unwrap_or_default();
        self.entries = targets
            .into_iter()
            .map(|target| {
                let slots = Slots::new(&self.agent, target.key(), target.spec().interval.to_duration());
                Entry { target, slots }
            })
            .collect();
        let elapsed = self.start.elapsed();
        let place = |(at, entry): (usize, &Entry)| {
            let slot = entry.slots.next_after(elapsed);
            Reverse((self.start + entry.slots.due(slot), at, slot))
        };
        self.queue = self.entries.iter().enumerate().map(place).collect();
    }

    /// Every probe that is due. Ends when none is, so that what is due afterwards is waited for, not found late.
    async fn start_due(&mut self, shutdown: &CancellationToken) {
        while let Some(&Reverse((due, at, slot))) = self.queue.peek() {
            if due > Instant::now() {
                return;
            }
            self.queue.pop();
            if !self.start_one(due, at, shutdown).await {
                return;
            }
            self.requeue(at, slot);
        }
    }

    fn requeue(&mut self, at: usize, slot: u64) {
        let slots = self.entries[at].slots;
        let next = slots.next_after(self.start.elapsed()).max(slot + 1);
        self.stats.missed.fetch_add(next - slot - 1, Ordering::Relaxed);
        self.queue.push(Reverse((self.start + slots.due(next), at, next)));
    }

    fn skip_what_was_slept_through(&mut self) {
        let now = Instant::now();
        tracing::warn!("the agent stood still; the schedule goes on with the next slots");
        while let Some(&Reverse((due, at, slot))) = self.queue.peek() {
            if due > now {
                return;
            }
            self.queue.pop();
            self.stats.missed.fetch_add(1, Ordering::Relaxed);
            self.requeue(at, slot);
        }
    }

    /// False when told to stop meanwhile.
    async fn start_one(&mut self, due: Instant, at: usize, shutdown: &CancellationToken) -> bool {
        while self.probes.try_join_next().is_some() {}
        let target = Arc::clone(&self.entries[at].target);
        let Some(running) = target.watch().begin() else {
            self.stats.overlaps.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let Some(permit) = self.permit(shutdown).await else { return false };
        self.stats.count_start(due.elapsed());
        let flight = Flight::new(Arc::clone(&self.stats), permit);
        let (prober, ledger) = (Arc::clone(&self.prober), Arc::clone(&self.ledger));
        self.probes.spawn(async move {
            let result = prober.probe(&target).await;
            ledger.record(&target, result);
            drop((running, flight));
        });
        true
    }

    async fn permit(&self, shutdown: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Some(permit);
        }
        tokio::select! {
            () = shutdown.cancelled() => None,
            permit = permits.acquire_owned() => permit.ok(),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A probe under way, counted for as long as it is.
struct Flight {
    stats: Arc<ScheduleStats>,
    _permit: OwnedSemaphorePermit,
}

impl Flight {
    fn new(stats: Arc<ScheduleStats>, permit: OwnedSemaphorePermit) -> Self {
        stats.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { stats, _permit: permit }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(endpoint: &str, interval: Duration) -> Slots {
        Slots::new(&"eu-west-1".parse().unwrap(), &endpoint.parse().unwrap(), interval)
    }

    #[test]
    fn slots_keep_their_distance_and_never_drift() {
        let interval = Duration::from_secs(30);
        let slots = slots("shop@us-east", interval);
        for n in 1..2_000 {
            let gap = slots.due(n) - slots.due(n - 1);
            assert!(gap >= interval * 9 / 10 && gap <= interval * 11 / 10, "slot {n} after {gap:?}");
        }
        let drift = slots.due(1_000_000) - slots.due(0);
        assert!(drift.abs_diff(interval * 1_000_000) <= interval / 10);
    }

    #[test]
    fn the_phase_is_the_same_after_a_restart_and_spreads_over_the_interval() {
        let interval = Duration::from_secs(10);
        assert_eq!(slots("shop@us-east", interval), slots("shop@us-east", interval));
        let mut tenths = [0_u32; 11];
        for i in 0..1_000 {
            let due = slots(&format!("s{i}@us-east"), interval).due(0);
            tenths[usize::try_from(due.as_secs()).unwrap()] += 1;
        }
        assert!(tenths[..10].iter().all(|&n| n > 50), "{tenths:?}");
    }

    #[test]
    fn the_next_slot_is_the_first_one_after() {
        let slots = slots("shop@us-east", Duration::from_millis(100));
        for millis in (0..5_000).step_by(7) {
            let elapsed = Duration::from_millis(millis);
            let n = slots.next_after(elapsed);
            assert!(slots.due(n) > elapsed);
            assert!(n == 0 || slots.due(n - 1) <= elapsed, "slot {} was passed over", n.saturating_sub(1));
        }
    }
}
