//! Forgets what may be forgotten, in the order of its age: raw observations, then transitions. Runs and the audit are
//! kept for ever, and so is every decision that a run came of.

use crate::api::commands::StoredAnswer;
use crate::coordinator::Coordinator;
use crate::db::{LIST_PAGE, keys};
use crate::error::CoordinatorError;
use crate::ingest::HISTORY_OBSERVATIONS;
use crate::operator::PLAN_KEPT_FOR;
use crate::outbox::{KEPT_FOR, PageRecord};
use drover_model::Span;
use drover_model::api::PlanView;
use drover_model::decision::{DecisionBody, StoredDecision};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// How often the broom comes.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// An answer is kept for repeats this long.
const ANSWER_KEPT_FOR: Span = Span::from_hours(24);

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
            if let Err(e) = self.sweep().await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't sweep the store");
            }
        }
    }

    pub(crate) async fn sweep(&self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        let retention = self.loaded().config.settings.retention.clone();
        let before = u64::try_from((now - retention.observations).as_millis()).unwrap_or(0);
        self.history
            .prune(HISTORY_OBSERVATIONS, before)
            .await
            .map_err(|e| CoordinatorError::store("prune observations", e))?;
        self.sweep_under::<StoredDecision>(keys::DECISIONS, |stored| {
            let led_to_run = matches!(&stored.body, DecisionBody::Action { run: Some(_), .. });
            !led_to_run && now.since(stored.at) > retention.transitions
        })
        .await?;
        self.sweep_under::<StoredAnswer>(keys::ANSWERS, |a| now.since(a.at) > ANSWER_KEPT_FOR).await?;
        self.sweep_under::<PlanView>(keys::PLANS, |p| now.since(p.made_at) > PLAN_KEPT_FOR).await?;
        self.sweep_under::<PageRecord>(keys::PAGED, |p| now.since(p.at) > KEPT_FOR).await
    }

    /// Deletes what is over, a page at a time, so that a large store is never in memory whole.
    async fn sweep_under<T: DeserializeOwned>(
        &self,
        prefix: &str,
        is_over: impl Fn(&T) -> bool,
    ) -> Result<(), CoordinatorError> {
        let mut after = None;
        loop {
            let (items, next) = self.db.list_page::<T>(prefix, after, LIST_PAGE).await?;
            for (key, _) in items.iter().filter(|(_, record)| is_over(record)) {
                self.db.delete(key).await?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
