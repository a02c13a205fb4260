//! What happened to every request.

use drover_model::{RegionId, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whose request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A client that follows DNS.
    Follower,
    /// A client that keeps its first address, as if nobody acted.
    Control,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// When it was sent.
    pub at: Timestamp,
    /// When it was answered, or given up.
    pub ended_at: Timestamp,
    /// The region that it was sent to.
    pub region: RegionId,
    /// By whom.
    pub group: Group,
    /// It was answered well.
    pub ok: bool,
    /// It was sent to an address past its TTL, because DNS did not answer.
    pub stale: bool,
}

/// Requests of one region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered well.
    pub ok: u64,
    /// Not.
    pub failed: u64,
}

impl Counts {
    /// One more.
    pub fn add(&mut self, ok: bool) {
        if ok {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.ok + self.failed
    }
}

/// Requests that are remembered: three minutes of all clients, longer than any scene.
const SHOTS_KEPT: usize = 120_000;

/// Every request of a crowd, in the order in which they ended; of a long life only the last ones.
#[derive(Debug, Default)]
pub struct Ledger {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Forgotten before the first that is kept.
    forgotten: usize,
    shots: VecDeque<Shot>,
}

impl Ledger {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub fn record(&self, shot: Shot) {
        let mut kept = self.kept();
        kept.shots.push_back(shot);
        if kept.shots.len() > SHOTS_KEPT {
            kept.shots.pop_front();
            kept.forgotten += 1;
        }
    }

    /// How many there were.
    pub fn seen(&self) -> usize {
        let kept = self.kept();
        kept.forgotten + kept.shots.len()
    }

    /// How many of a kind.
    pub fn count(&self, of: impl Fn(&Shot) -> bool) -> u64 {
        self.kept().shots.iter().filter(|s| of(s)).count() as u64
    }

    /// By region, those of `group` after the first `seen`.
    pub fn by_region(&self, seen: usize, group: Group) -> BTreeMap<RegionId, Counts> {
        let kept = self.kept();
        let mut counts: BTreeMap<RegionId, Counts> = BTreeMap::new();
        for shot in kept.shots.iter().skip(seen.saturating_sub(kept.forgotten)).filter(|s| s.group == group) {
            counts.entry(shot.region.clone()).or_default().add(shot.ok);
        }
        counts
    }

    /// By region, those of `group` sent in a span of time, half-open.
    pub fn by_region_between(
        &self,
        group: Group,
        from: Timestamp,
        to: Timestamp,
    ) -> BTreeMap<RegionId, Counts> {
        let mut counts: BTreeMap<RegionId, Counts> = BTreeMap::new();
        let kept = self.kept();
        let meant = kept.shots.iter().filter(|s| s.group == group && s.at >= from && s.at < to);
        meant.for_each(|s| counts.entry(s.region.clone()).or_default().add(s.ok));
        counts
    }

    /// Those of `group` sent in a span of time, half-open.
    pub fn between(&self, group: Group, from: Timestamp, to: Timestamp) -> Counts {
        let mut counts = Counts::default();
        let kept = self.kept();
        kept.shots
            .iter()
            .filter(|s| s.group == group && s.at >= from && s.at < to)
            .for_each(|s| counts.add(s.ok));
        counts
    }
}
