//! Changes of verdicts, written down behind the back of whoever judged: a report must not wait for a disk.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::decision::DecisionBody;
use drover_model::plan::StandingVerdict;
use drover_model::{DecisionId, EndpointKey, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Decisions waiting to be written; past this a verdict change is logged and not stored, and says so.
pub const DECISIONS_WAITING_MAX: usize = 10_000;

/// Of the 5 s that a stop may take, so much for what waits here.
const REST_WITHIN: Duration = Duration::from_secs(2);

/// A change of verdict on its way into the store.
pub struct ToRecord {
    /// When.
    pub at: Timestamp,
    /// With its inputs, for `explain` and `replay`.
    pub body: DecisionBody,
    /// What stands from now on, for the next start.
    pub remember: Option<(EndpointKey, StandingVerdict)>,
}

impl Coordinator {
    /// Writes a verdict down soon, without holding up whoever judged.
    pub(crate) fn record_later(&self, record: ToRecord) {
        if self.recorder.try_send(record).is_err() {
            tracing::error!(
                "more than {DECISIONS_WAITING_MAX} decisions wait to be stored; this one is only logged"
            );
        }
    }

    /// Writes down what was recorded until told to stop.
    pub(crate) async fn run_recorder(self: Arc<Self>, mut inbox: mpsc::Receiver<ToRecord>) {
        loop {
            let record = tokio::select! {
                () = self.stop.cancelled() => return self.record_rest(inbox).await,
                next = inbox.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            if let Err(e) = self.record(record).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't store a verdict");
            }
        }
    }

    /// What waits when the coordinator stops is still written, as far as the time for stopping allows.
    async fn record_rest(&self, mut inbox: mpsc::Receiver<ToRecord>) {
        let began = Instant::now();
        while let Ok(record) = inbox.try_recv() {
            if began.elapsed() > REST_WITHIN {
                tracing::error!("stopping: {} verdicts are not stored", inbox.len() + 1);
                return;
            }
            if let Err(e) = self.record(record).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't store a verdict");
                return;
            }
        }
    }

    async fn record(&self, ToRecord { at, body, remember }: ToRecord) -> Result<(), CoordinatorError> {
        let id = DecisionId::numbered(self.counters.decisions.next());
        self.store_decision(&id, at, body).await?;
        match remember {
            Some((endpoint, standing)) => self.db.put(&keys::standing(&endpoint), &standing).await,
            None => Ok(()),
        }
    }

    /// What stood for each endpoint when the coordinator before this one stopped.
    pub(crate) async fn recall_standing(&self) -> Result<(), CoordinatorError> {
        let stored: Vec<(String, StandingVerdict)> = self.db.list(keys::STANDING).await?;
        let known = stored.into_iter().filter_map(|(key, standing)| {
            let endpoint = key.strip_prefix(keys::STANDING)?.parse().ok()?;
            Some((endpoint, standing))
        });
        let mut live = self.live();
        live.recalled = known.collect();
        live.keep_only(&self.loaded().config);
        Ok(())
    }
}
