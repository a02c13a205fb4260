//! Forgets what may be forgotten, each class by its own age. Runs and the audit are kept for ever, and so is every
//! decision that a run came of.
//!
//! Of a record only what its age depends on is decoded, and what is over is deleted in batches: a sweep must cost little
//! beside deciding.

use crate::audit::number_of_key;
use crate::coordinator::Coordinator;
use crate::db::{LIST_PAGE, keys};
use crate::error::CoordinatorError;
use crate::observations::HISTORY_OBSERVATIONS;
use crate::operator::PLAN_KEPT_FOR;
use crate::outbox::KEPT_FOR;
use crate::published::HISTORY_PUBLISHED;
use drover_model::{RunId, Span, Timestamp};
use drover_store::TXN_OPS_MAX;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::sync::Arc;
use std::time::Duration;

/// How often the broom comes.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// An answer is kept for repeats this long.
const ANSWER_KEPT_FOR: Span = Span::from_hours(24);
/// What a run moved is kept this long after its end: only an undo needs it, and that is part of the run.
const MOVED_KEPT_FOR: Span = Span::from_hours(24);
/// Deletes in one transaction; the leader's record is its only compare.
const DELETES_MAX: usize = TXN_OPS_MAX;
/// A decision, its world, and that this is written by a base.
const KEYS_OF_DECISION_MAX: usize = 3;

/// Of a record, when it was written.
#[derive(Deserialize)]
struct At {
    #[serde(alias = "made_at")]
    at: Timestamp,
}

/// Of a decision, its time and whether a run came of it.
#[derive(Deserialize)]
struct Decided {
    at: Timestamp,
    body: DecidedBody,
}

#[derive(Deserialize)]
struct DecidedBody {
    #[serde(default)]
    run: Option<IgnoredAny>,
}

/// Of a run that is over, when that was.
#[derive(Deserialize)]
struct Over {
    ended_at: Option<Timestamp>,
}

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Forget,
    /// It is young, and so are all that come after it.
    Young,
}

impl Coordinator {
    /// Sweeps until told to stop.
    pub(crate) async fn run_retention(self: Arc<Self>) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(e) = self.sweep(self.clock.now()).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't sweep the store");
            }
        }
    }

    /// Forgets what is over at `now`.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<(), CoordinatorError> {
        let retention = self.loaded().config.settings.retention.clone();
        let before = u64::try_from((now - retention.observations).as_millis()).unwrap_or(0);
        self.history
            .prune(HISTORY_OBSERVATIONS, before)
            .await
            .map_err(|e| CoordinatorError::store("prune observations", e))?;
        let before = u64::try_from((now - retention.transitions).as_millis()).unwrap_or(0);
        self.history
            .prune(HISTORY_PUBLISHED, before)
            .await
            .map_err(|e| CoordinatorError::store("prune publications", e))?;
        // The history is this machine's own; what the store forgets is the leader's to say.
        if !self.db.is_leader() {
            return Ok(());
        }
        // In the order of their numbers, which is that of their times: what follows a young one need not be read.
        self.sweep_under(keys::DECISIONS, |d: &Decided| match now.since(d.at) > retention.transitions {
            false => Fate::Young,
            true if d.body.run.is_some() => Fate::Keep,
            true => Fate::Forget,
        })
        .await?;
        self.drop_unused_bases().await?;
        for (prefix, kept_for) in
            [(keys::ANSWERS, ANSWER_KEPT_FOR), (keys::PLANS, PLAN_KEPT_FOR), (keys::PAGED, KEPT_FOR)]
        {
            let fate = |a: &At| if now.since(a.at) > kept_for { Fate::Forget } else { Fate::Keep };
            self.sweep_under(prefix, fate).await?;
        }
        self.sweep_moved(now).await
    }

    /// Deletes what is over, a page at a time, so that a large store is never in memory whole.
    async fn sweep_under<T: DeserializeOwned>(
        &self,
        prefix: &str,
        fate: impl Fn(&T) -> Fate,
    ) -> Result<(), CoordinatorError> {
        let mut after = None;
        loop {
            let (items, next) = self.db.list_page::<T>(prefix, after, LIST_PAGE).await?;
            let fates: Vec<(String, Fate)> = items.into_iter().map(|(k, r)| (k, fate(&r))).collect();
            // One page, not one record: a clock that was set back leaves a few out of order.
            let young = !fates.is_empty() && fates.iter().all(|(_, f)| *f == Fate::Young);
            let over = fates.into_iter().filter(|(_, f)| *f == Fate::Forget).map(|(k, _)| k);
            self.forget(over.collect()).await?;
            match next.filter(|_| !young) {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// A decision goes in one transaction with its world.
    async fn forget(&self, over: Vec<String>) -> Result<(), CoordinatorError> {
        for some in over.chunks(DELETES_MAX / KEYS_OF_DECISION_MAX) {
            let mut keys = Vec::new();
            for key in some {
                if key.starts_with(keys::DECISIONS) {
                    keys.extend(self.keys_of_world(number_of_key(key)).await?);
                }
                keys.push(key.clone());
            }
            self.delete_all(keys).await?;
        }
        Ok(())
    }

    async fn sweep_moved(&self, now: Timestamp) -> Result<(), CoordinatorError> {
        let mut over = Vec::new();
        for (key, _) in self.db.list::<IgnoredAny>(keys::MOVED).await? {
            let run = RunId::numbered(number_of_key(&key));
            let ended = self.db.get_sound::<Over>(&keys::ended(&run)).await?.and_then(|(o, _)| o.ended_at);
            if ended.is_some_and(|at| now.since(at) > MOVED_KEPT_FOR) {
                over.push(key);
            }
        }
        self.delete_all(over).await
    }

    async fn delete_all(&self, keys: Vec<String>) -> Result<(), CoordinatorError> {
        for batch in keys.chunks(DELETES_MAX) {
            let txn = batch.iter().fold(self.db.fenced(), |txn, key| txn.delete(key.as_str()));
            self.db.commit("forget what is over", txn).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, person};
    use drover_model::api::RunSummary;
    use drover_model::journal::RunState;
    use drover_model::runbook::Purpose;
    use drover_model::{PlanId, RegionId};
    use serde_json::{Value, json};

    const DAY: Span = Span::from_hours(24);

    /// How many records there are under each prefix.
    async fn count(bed: &Bed, prefix: &str) -> usize {
        bed.c.db.list::<IgnoredAny>(prefix).await.unwrap().len()
    }

    async fn verdict(bed: &Bed, number: u64, at: Timestamp, run: Option<&str>) {
        // Not a whole decision: what a sweep does not need it must not ask for.
        let body = json!({"kind": "action", "run": run, "world": {"large": [1, 2, 3]}});
        let record = json!({"schema": 1, "at": at, "body": body});
        bed.c.db.put(&keys::numbered(keys::DECISIONS, number), &record).await.unwrap();
    }

    #[tokio::test]
    async fn decisions_are_kept_for_the_time_of_transitions_and_those_with_a_run_for_ever() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let kept_for = bed.c.loaded().config.settings.retention.transitions;
        assert_eq!(kept_for, DAY.times(90), "as shipped");
        verdict(&bed, 1, now - DAY.times(91), None).await;
        verdict(&bed, 2, now - DAY.times(91), Some("run-1")).await;
        verdict(&bed, 3, now - DAY.times(89), None).await;
        for number in [1, 2] {
            bed.c.db.put(&keys::numbered(keys::WORLDS, number), &json!({})).await.unwrap();
        }
        bed.c.sweep(now).await.unwrap();
        let left: Vec<String> =
            bed.c.db.list::<IgnoredAny>(keys::DECISIONS).await.unwrap().into_iter().map(|(k, _)| k).collect();
        assert_eq!(left, [keys::numbered(keys::DECISIONS, 2), keys::numbered(keys::DECISIONS, 3)]);
        let worlds = bed.c.db.list::<IgnoredAny>(keys::WORLDS).await.unwrap();
        assert_eq!(worlds[0].0, keys::numbered(keys::WORLDS, 2), "a world goes with its decision");
        assert_eq!(worlds.len(), 1);
        bed.c.sweep(now + DAY.times(2)).await.unwrap();
        assert_eq!(count(&bed, keys::DECISIONS).await, 1);
    }

    #[tokio::test]
    async fn more_than_one_batch_goes_in_one_sweep() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let old = now - DAY.times(91);
        for numbers in (1..=300_u64).collect::<Vec<_>>().chunks(100) {
            let one = |txn, n: &u64| {
                let record = json!({"at": old, "body": {"kind": "verdict"}});
                bed.c.db.put_op(txn, &keys::numbered(keys::DECISIONS, *n), &record).unwrap()
            };
            let txn = numbers.iter().fold(bed.c.db.fenced(), one);
            bed.c.db.commit("make decisions", txn).await.unwrap();
        }
        bed.c.sweep(now).await.unwrap();
        assert_eq!(count(&bed, keys::DECISIONS).await, 0);
    }

    #[tokio::test]
    async fn answers_plans_and_pages_go_in_their_time() {
        let bed = Bed::new().await;
        // As they are really written.
        bed.plan().await;
        let api = bed.serve().await;
        let body = serde_json::to_vec(&json!({"by": person(), "reason": "r", "service": null})).unwrap();
        let rearmed = crate::testbed::send(reqwest::Method::POST, api, "/v1/rearm", Some(body)).await;
        assert_eq!(rearmed.0, 200, "{}", rearmed.2);
        let page: Value = json!({"key": "k", "at": bed.c.clock.now(), "closed": true});
        bed.c.db.put(&format!("{}k", keys::PAGED), &page).await.unwrap();
        let now = bed.c.clock.now();

        for (later, left) in [
            (DAY.minus(Span::from_mins(5)), [1, 1, 1]),
            (DAY.plus(Span::from_mins(5)), [0, 0, 1]),
            (DAY.times(7).plus(Span::from_mins(5)), [0, 0, 0]),
        ] {
            bed.c.sweep(now + later).await.unwrap();
            let found = [
                count(&bed, keys::ANSWERS).await,
                count(&bed, keys::PLANS).await,
                count(&bed, keys::PAGED).await,
            ];
            assert_eq!(found, left, "after {later}");
        }
    }

    #[tokio::test]
    async fn what_a_run_moved_goes_a_day_after_its_end_and_never_before() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        for (number, ended_at) in [(1, Some(now - DAY.times(2))), (2, Some(now)), (3, None)] {
            let id = RunId::numbered(number);
            bed.c.db.put(&keys::moved(&id), &json!({})).await.unwrap();
            let Some(at) = ended_at else { continue };
            let summary = RunSummary {
                id: id.clone(),
                purpose: Purpose::Drain,
                region: RegionId::new("us-east").unwrap(),
                services: Vec::new(),
                state: RunState::Succeeded,
                plan: PlanId::from_text("plan-0123456789ab"),
                by: person(),
                started_at: at,
                ended_at: Some(at),
                summary: "done".into(),
            };
            bed.c.db.put(&keys::ended(&id), &summary).await.unwrap();
        }
        bed.c.sweep(now).await.unwrap();
        let left: Vec<u64> = bed
            .c
            .db
            .list::<IgnoredAny>(keys::MOVED)
            .await
            .unwrap()
            .iter()
            .map(|(k, _)| number_of_key(k))
            .collect();
        assert_eq!(left, [2, 3], "a run that is not over may still be undone");
        assert_eq!(count(&bed, keys::ENDED).await, 2, "how runs ended is kept for ever");
    }

    #[tokio::test]
    async fn raw_observations_are_kept_for_their_time() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let kept_for = bed.c.loaded().config.settings.retention.observations;
        assert_eq!(kept_for, DAY.times(2), "as shipped");
        let millis = |t: Timestamp| u64::try_from(t.as_millis()).unwrap();
        for age in [kept_for.plus(Span::from_mins(1)), kept_for.minus(Span::from_mins(1))] {
            bed.c.history.append(HISTORY_OBSERVATIONS, millis(now - age), "a-1", b"[]").unwrap();
        }
        bed.c.history.flush().await.unwrap();
        bed.c.sweep(now).await.unwrap();
        let left = bed.c.history.range(HISTORY_OBSERVATIONS, 0, u64::MAX, 0).unwrap();
        assert_eq!(left.len(), 1);
        assert!(left[0].id.timestamp_ms > millis(now - kept_for));
    }
}
