//! The world that each decision was made from, kept for `replay` and never waited for.
//!
//! A world of a thousand services in ten regions is several megabytes. What is decided at night must not wait until they
//! are written, and who lists decisions must not read them: they have records of their own. A coordinator that is killed
//! between the two leaves a decision with its reasons and without its world, which `replay` says; one that is told to end
//! leaves none: worlds are written for as long as somebody decides.
//!
//! Most of a world was there at the decision before. It is written as what differs from a base, which is a whole world in
//! a record of its own: the first one since the start or since the configuration changed, or one from which the others
//! had gone too far. Beside the base stands who is written by it: it goes when nobody is.

use crate::audit::number_of_key;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::kept_world::{Differs, KeptWorld, OfBase, concerning, have_one_configuration};
use drover_model::RegionId;
use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::plan::World;
use drover_store::{Expect, Revision};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Worlds waiting to be written; past this one is not kept, first of those by which nothing was done, and the log says so.
pub const WORLDS_WAITING_MAX: usize = 16;
/// Of the 5 s that a stop may take, so much for what waits here.
const REST_WITHIN: Duration = Duration::from_secs(1);
/// A world that differs from its base in more than this part of it becomes a base itself,
const DIFFERS_PART_MAX: usize = 8;
/// and never for fewer verdicts and services than these.
const DIFFERS_MIN: usize = 64;

/// What a decision was made from.
#[derive(Clone)]
struct Judged {
    region: RegionId,
    /// Nothing was done or asked.
    holds: bool,
    world: Arc<World>,
}

/// What others are written by.
struct Base {
    number: u64,
    world: Arc<World>,
    /// At which it was written: who is written by it lands only while it is there.
    revision: Revision,
}

impl Base {
    /// A world by this base, unless it has another configuration or has gone too far from it.
    fn differs(&self, judged: &Judged) -> Option<Differs> {
        if !have_one_configuration(&judged.world, &self.world) {
            return None;
        }
        let differs = Differs::of(&judged.world, &self.world, self.number, judged.region.clone());
        let seldom = self.world.verdicts.len() + self.world.traffic.len();
        (differs.changes() <= DIFFERS_MIN.max(seldom / DIFFERS_PART_MAX)).then_some(differs)
    }
}

/// Worlds on their way to the store, by the number of their decision.
#[derive(Default)]
pub(crate) struct Worlds {
    waiting: Mutex<BTreeMap<u64, Judged>>,
    wake: Notify,
    /// Cancelled when nobody decides any more.
    no_more: CancellationToken,
    /// Held while a world is written and while a base is removed.
    base: tokio::sync::Mutex<Option<Base>>,
}

impl Worlds {
    /// Kept by the decider for as long as it runs: a look that has begun when it is told to stop still decides.
    pub(crate) fn while_deciding(&self) -> DropGuard {
        self.no_more.clone().drop_guard()
    }

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
            return Ok(Some(concerning(&judged.world, &judged.region)));
        }
        let key = keys::numbered(keys::WORLDS, number);
        match self.db.get::<KeptWorld>(&key).await?.map(|(kept, _)| kept) {
            None => Ok(None),
            Some(KeptWorld::Whole(world)) => Ok(Some(*world)),
            Some(KeptWorld::Differs(differs)) => {
                let base_key = keys::numbered(keys::WORLD_BASES, differs.base);
                let base = self.db.get::<World>(&base_key).await?;
                let (base, _) = base.ok_or_else(|| {
                    CoordinatorError::store(format!("read {key}"), format!("{base_key} is missing"))
                })?;
                Ok(Some(differs.on(base)))
            }
        }
    }

    /// Writes worlds down until told to stop, and after that those of the look that the decider is in.
    pub(crate) async fn run_worlds(self: Arc<Self>) {
        let last = async {
            self.stop.cancelled().await;
            self.worlds.no_more.cancelled().await;
        };
        tokio::pin!(last);
        loop {
            tokio::select! {
                () = &mut last => break,
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
        let written = tokio::task::spawn_blocking(move || runtime.block_on(me.write_world(number, &judged)));
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

    async fn write_world(&self, number: u64, judged: &Judged) -> Result<(), CoordinatorError> {
        let mut held = self.worlds.base.lock().await;
        if let Some(base) = held.as_ref()
            && let Some(differs) = base.differs(judged)
        {
            let there = Expect::ModRevision(base.revision);
            let txn = self.db.fenced().expect(keys::numbered(keys::WORLD_BASES, base.number), there);
            let txn = self.db.put_op(txn, &keys::numbered(keys::WORLDS, number), &differs)?;
            let txn = self.db.put_op(txn, &keys::world_use(base.number, number), &json!({}))?;
            if self.db.commit("store a world", txn).await?.is_some() {
                return Ok(());
            }
        }
        // It is its own base.
        *held = None;
        let differs = Differs::of(&judged.world, &judged.world, number, judged.region.clone());
        let txn =
            self.db.put_op(self.db.fenced(), &keys::numbered(keys::WORLD_BASES, number), &*judged.world)?;
        let txn = self.db.put_op(txn, &keys::numbered(keys::WORLDS, number), &differs)?;
        let txn = self.db.put_op(txn, &keys::numbered(keys::WORLD_USES, number), &json!({}))?;
        let txn = self.db.put_op(txn, &keys::world_use(number, number), &json!({}))?;
        let revision = self.db.commit("store a world", txn).await?;
        *held = revision.map(|revision| Base { number, world: judged.world.clone(), revision });
        Ok(())
    }

    /// All that is kept of a decision's world, but for its base: in the order in which it may go.
    pub(crate) async fn keys_of_world(&self, number: u64) -> Result<Vec<String>, CoordinatorError> {
        let key = keys::numbered(keys::WORLDS, number);
        let kept = match self.db.get::<OfBase>(&key).await {
            Ok(kept) => kept.and_then(|(kept, _)| kept.base),
            Err(e @ CoordinatorError::Fenced { .. }) => return Err(e),
            // What can't be read can be forgotten; its mark keeps a base longer, which harms nobody.
            Err(e) => {
                tracing::error!(error = &e as &dyn std::error::Error, "can't read {key}, which is forgotten");
                None
            }
        };
        let in_use = kept.map(|base| keys::world_use(base, number));
        Ok(in_use.into_iter().chain([key]).collect())
    }

    /// Removes the bases by which no world is written any more.
    pub(crate) async fn drop_unused_bases(&self) -> Result<(), CoordinatorError> {
        let mut after = None;
        loop {
            // Nothing is written while it is looked whether anything was.
            let held = self.worlds.base.lock().await;
            // The base's own mark, and the first world that is written by it.
            let (items, _) = self.db.list_page_as_it_is::<IgnoredAny>(keys::WORLD_USES, after, 2).await?;
            let Some((mark, _)) = items.first() else { return Ok(()) };
            let is_used = items.get(1).is_some_and(|(key, _)| key.starts_with(&format!("{mark}/")));
            if !is_used {
                let number = number_of_key(mark);
                if held.as_ref().is_none_or(|base| base.number != number) {
                    let base = keys::numbered(keys::WORLD_BASES, number);
                    let txn = self.db.fenced().delete(base).delete(mark.as_str());
                    self.db.commit("forget the base of worlds", txn).await?;
                }
            }
            // After all that is written by it: `~` comes after `/`.
            after = Some(format!("{mark}~"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, GUARD};
    use drover_model::RequestsPerSecond;
    use drover_model::traffic::Load;

    fn judged(world: World) -> Judged {
        Judged { region: RegionId::new("eu-west").unwrap(), holds: false, world: Arc::new(world) }
    }

    #[tokio::test]
    async fn what_was_done_is_kept_before_what_was_not() {
        let bed = Bed::new().await;
        let world = Arc::new(bed.world_without("eu-west"));
        let judged = |holds| Judged { holds, world: world.clone(), ..judged(World::clone(&world)) };
        let mut waiting = BTreeMap::from([(1, judged(false)), (2, judged(true)), (3, judged(true))]);
        for expected in [2, 3, 1] {
            assert_eq!(least_missed(&waiting), Some(expected));
            waiting.remove(&expected);
        }
        assert_eq!(least_missed(&waiting), None);
    }

    /// What is kept under a number, but for what no record has.
    async fn kept(bed: &Bed, number: u64) -> Option<World> {
        assert!(bed.c.worlds.waiting().is_empty(), "from the store");
        bed.c.world_of(number).await.unwrap()
    }

    fn as_judged(judged: &Judged) -> World {
        World { service_versions: Arc::default(), ..concerning(&judged.world, &judged.region) }
    }

    async fn bases(bed: &Bed) -> Vec<u64> {
        let there = bed.c.db.list::<IgnoredAny>(keys::WORLD_BASES).await.unwrap();
        there.iter().map(|(key, _)| number_of_key(key)).collect()
    }

    /// Worlds one after another, and by which base each is written.
    fn history(bed: &Bed) -> Vec<(Judged, u64)> {
        let well = bed.world_without("nowhere");
        let mut failed = bed.world_without("eu-west");
        failed.holds.clear();
        let mut less = failed.clone();
        let (first, _) = less.verdicts.iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
        less.verdicts.remove(&first);
        let service = less.config.services.keys().next().unwrap().clone();
        less.traffic.remove(&service);
        less.loads.insert(service, Load::Declared { rate: RequestsPerSecond(7) });
        less.heard_since_start.clear();
        less.runs.clear();
        let mut configured = less.clone();
        let mut config = drover_model::config::Config::clone(&configured.config);
        config.settings.retention.transitions = drover_model::Span::from_hours(1);
        configured.config = Arc::new(config);
        let mut other_runbooks = configured.clone();
        other_runbooks.runbooks.pop_first();
        [
            (well.clone(), 1),
            (failed, 1),
            (less, 1),
            (well.clone(), 1),
            (configured, 5),
            (other_runbooks, 6),
            (well, 7),
        ]
        .map(|(world, base)| (judged(world), base))
        .into()
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_decided_on_also_after_a_start() {
        let bed = Bed::new().await;
        let history = history(&bed);
        for ((judged, base), number) in history.iter().zip(1..) {
            bed.c.write_world(number, judged).await.unwrap();
            let key = keys::numbered(keys::WORLDS, number);
            assert_eq!(bed.c.db.get::<OfBase>(&key).await.unwrap().unwrap().0.base, Some(*base), "{number}");
        }
        assert_eq!(bases(&bed).await, [1, 5, 6, 7]);
        let bed = bed.reopened().await;
        for ((judged, _), number) in history.iter().zip(1..) {
            assert_eq!(kept(&bed, number).await, Some(as_judged(judged)), "{number}");
        }
        assert_eq!(kept(&bed, 99).await, None);
        bed.c.write_world(8, &history[0].0).await.unwrap();
        assert_eq!(bases(&bed).await, [1, 5, 6, 7, 8], "a start begins with a base");
    }

    /// One thread runs everything in turn: who is ready gets as far as it can meanwhile.
    async fn others_go_on() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_look_decides_that_began_before_the_stop_is_kept() {
        let bed = Bed::new().await;
        let dead = bed.world_without("eu-west");
        bed.c.live().standing = dead.verdicts;
        let look = bed.c.admission.lock().await;
        bed.c.keep_going("worlds", bed.c.clone().run_worlds());
        bed.c.keep_going("decider", bed.c.clone().run_decider());
        bed.c.decide_wake.notify_one();
        others_go_on().await;
        bed.c.stop.cancel();
        others_go_on().await;
        drop(look);
        bed.c.tasks.close();
        tokio::time::timeout(GUARD, bed.c.tasks.wait()).await.unwrap();
        let decided = bed.c.db.list::<IgnoredAny>(keys::DECISIONS).await.unwrap();
        assert!(!decided.is_empty());
        for (key, _) in decided {
            assert!(kept(&bed, number_of_key(&key)).await.is_some(), "{key}");
        }
    }

    #[tokio::test]
    async fn a_world_that_an_earlier_version_kept_whole_is_read() {
        let bed = Bed::new().await;
        let judged = judged(bed.world_without("eu-west"));
        let whole = concerning(&judged.world, &judged.region);
        bed.c.db.put(&keys::numbered(keys::WORLDS, 3), &whole).await.unwrap();
        assert_eq!(kept(&bed, 3).await, Some(as_judged(&judged)));
        assert_eq!(bed.c.keys_of_world(3).await.unwrap(), [keys::numbered(keys::WORLDS, 3)]);
    }

    #[tokio::test]
    async fn a_base_is_kept_for_as_long_as_a_world_needs_it() {
        let bed = Bed::new().await;
        let history = history(&bed);
        for ((judged, _), number) in history.iter().zip(1..) {
            bed.c.write_world(number, judged).await.unwrap();
        }
        for gone in 1..=4 {
            let keys = bed.c.keys_of_world(gone).await.unwrap();
            let txn = keys.iter().fold(bed.c.db.fenced(), |txn, key| txn.delete(key.as_str()));
            bed.c.db.commit("forget", txn).await.unwrap();
            bed.c.drop_unused_bases().await.unwrap();
            // The first four are written by 1.
            let left: &[u64] = if gone < 4 { &[1, 5, 6, 7] } else { &[5, 6, 7] };
            assert_eq!(bases(&bed).await, left, "without {gone}");
            for ((judged, _), number) in history.iter().zip(1..).filter(|(_, number)| *number > gone) {
                assert_eq!(kept(&bed, number).await, Some(as_judged(judged)), "{number}");
            }
        }
        // The one in use stays though nothing is written by it.
        let keys = bed.c.keys_of_world(7).await.unwrap();
        let txn = keys.iter().fold(bed.c.db.fenced(), |txn, key| txn.delete(key.as_str()));
        bed.c.db.commit("forget", txn).await.unwrap();
        bed.c.drop_unused_bases().await.unwrap();
        assert_eq!(bases(&bed).await, [5, 6, 7]);
        let bed = bed.reopened().await;
        bed.c.drop_unused_bases().await.unwrap();
        assert_eq!(bases(&bed).await, [5, 6], "after a start it is in use no more");
    }

    #[tokio::test]
    async fn a_world_never_lands_without_its_base() {
        let bed = Bed::new().await;
        let one = judged(bed.world_without("eu-west"));
        bed.c.write_world(1, &one).await.unwrap();
        bed.c.db.delete(&keys::numbered(keys::WORLD_BASES, 1)).await.unwrap();
        bed.c.write_world(2, &one).await.unwrap();
        assert_eq!(bases(&bed).await, [2]);
        assert_eq!(kept(&bed, 2).await, Some(as_judged(&one)));
        let missing = bed.c.world_of(1).await.unwrap_err();
        assert!(drover_model::chain(&missing).contains("world-bases/000000000001 is missing"), "{missing}");
    }

    #[tokio::test]
    async fn a_world_that_went_too_far_from_its_base_becomes_one() {
        let bed = Bed::new().await;
        let mut world = bed.world_without("nowhere");
        let (key, standing) = world.verdicts.iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
        let many = |world: &mut World, count: usize| {
            for n in 0..count {
                let service = drover_model::ServiceId::new(format!("s-{n}")).unwrap();
                world
                    .verdicts
                    .insert(drover_model::EndpointKey::new(&service, &key.region), standing.clone());
            }
        };
        bed.c.write_world(1, &judged(world.clone())).await.unwrap();
        many(&mut world, DIFFERS_MIN);
        bed.c.write_world(2, &judged(world.clone())).await.unwrap();
        assert_eq!(bases(&bed).await, [1]);
        many(&mut world, DIFFERS_MIN + 1);
        bed.c.write_world(3, &judged(world.clone())).await.unwrap();
        assert_eq!(bases(&bed).await, [1, 3]);
        assert_eq!(
            kept(&bed, 2).await.unwrap().verdicts.len() + 1,
            kept(&bed, 3).await.unwrap().verdicts.len()
        );
    }
}
