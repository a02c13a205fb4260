//! The world that each decision was made from, kept for `replay` and never waited for.
//!
//! A world of a thousand services in ten regions is several megabytes. What is decided at night must not wait until they
//! are written, and who lists decisions must not read them: they have records of their own. A coordinator that is killed
//! between the two leaves a decision with its reasons and without its world, which `replay` says.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_core::decide;
use drover_model::RegionId;
use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::plan::World;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Worlds waiting to be written; past this one is not kept, first of those by which nothing was done, and the log says so.
pub const WORLDS_WAITING_MAX: usize = 16;
/// Of the 5 s that a stop may take, so much for what waits here.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// What a decision was made from.
#[derive(Clone)]
struct Judged {
    region: RegionId,
    /// Nothing was done or asked.
    holds: bool,
    world: Arc<World>,
}

impl Judged {
    /// What of it the decision depends on.
    fn narrowed(&self) -> World {
        self.world.narrowed(&decide::concerned(&self.world, &self.region))
    }
}

/// Worlds on their way to the store, by the number of their decision.
#[derive(Default)]
pub(crate) struct Worlds {
    waiting: Mutex<BTreeMap<u64, Judged>>,
    wake: Notify,
}

impl Worlds {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Judged>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(u64, Judged)> {
        self.waiting().first_key_value().map(|(number, judged)| (*number, judged.clone()))
    }
}

/// The oldest of those by which nothing was done, else the oldest.
fn least_missed(waiting: &BTreeMap<u64, Judged>) -> Option<u64> {
    let holds = waiting.iter().find(|(_, judged)| judged.holds);
    holds.or_else(|| waiting.iter().next()).map(|(number, _)| *number)
}

impl Coordinator {
    /// Keeps the world of a decision soon, without holding up what was decided.
    pub(crate) fn keep_world_later(&self, number: u64, decision: &ActionDecision, world: &Arc<World>) {
        let (region, holds) = (decision.region.clone(), decision.conclusion == Conclusion::Hold);
        let mut waiting = self.worlds.waiting();
        waiting.insert(number, Judged { region, holds, world: world.clone() });
        let given_up = (waiting.len() > WORLDS_WAITING_MAX).then(|| least_missed(&waiting)).flatten();
        if let Some(number) = given_up {
            waiting.remove(&number);
            tracing::error!(
                "more than {WORLDS_WAITING_MAX} worlds wait to be stored; decision-{number} can't be run again"
            );
        }
        drop(waiting);
        self.worlds.wake.notify_one();
    }

    /// The world of a decision, unless it was not kept.
    pub(crate) async fn world_of(&self, number: u64) -> Result<Option<World>, CoordinatorError> {
        let waits = self.worlds.waiting().get(&number).cloned();
        if let Some(judged) = waits {
            return Ok(Some(judged.narrowed()));
        }
        Ok(self.db.get::<World>(&keys::numbered(keys::WORLDS, number)).await?.map(|(world, _)| world))
    }

    /// Writes worlds down until told to stop.
    pub(crate) async fn run_worlds(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.worlds.wake.notified() => {}
            }
            while let Some((number, judged)) = self.worlds.next() {
                self.keep_world(number, judged).await;
            }
        }
        let began = Instant::now();
        while let Some((number, judged)) = self.worlds.next() {
            if began.elapsed() > REST_WITHIN {
                return tracing::error!("stopping: {} worlds are not stored", self.worlds.waiting().len());
            }
            self.keep_world(number, judged).await;
        }
    }

    async fn keep_world(self: &Arc<Self>, number: u64, judged: Judged) {
        let (me, runtime) = (self.clone(), tokio::runtime::Handle::current());
        // Megabytes become JSON: on a thread that nobody else waits for.
        let written = tokio::task::spawn_blocking(move || {
            let world = judged.narrowed();
            runtime.block_on(me.db.put(&keys::numbered(keys::WORLDS, number), &world))
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::error!(
                error = &e as &dyn std::error::Error,
                "can't store the world of decision-{number}, which can't be run again"
            ),
            Err(e) => tracing::error!("storing the world of decision-{number} broke off: {e}"),
        }
        self.worlds.waiting().remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;

    #[tokio::test]
    async fn what_was_done_is_kept_before_what_was_not() {
        let bed = Bed::new().await;
        let world = Arc::new(bed.world_without("eu-west"));
        let judged =
            |holds| Judged { region: RegionId::new("eu-west").unwrap(), holds, world: world.clone() };
        let mut waiting = BTreeMap::from([(1, judged(false)), (2, judged(true)), (3, judged(true))]);
        for expected in [2, 3, 1] {
            assert_eq!(least_missed(&waiting), Some(expected));
            waiting.remove(&expected);
        }
        assert_eq!(least_missed(&waiting), None);
    }
}
