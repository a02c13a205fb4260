//! Changes of verdicts, written down behind the back of whoever judged: a report must not wait for a disk.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::decision::DecisionBody;
use drover_model::plan::StandingVerdict;
use drover_model::{DecisionId, EndpointKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Decisions waiting to be written; past this a verdict change is logged and not stored, and says so.
pub const DECISIONS_WAITING_MAX: usize = 10_000;

/// Of these, so many in one transaction: each takes two operations, and a few KiB where a hundred vantages look.
const RECORDS_PER_TXN: usize = 16;

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
        // Followers judge as well, so that they know when they lead; what is written down is the leader's.
        if !self.db.is_leader() {
            return;
        }
        if self.recorder.try_send(record).is_err() {
            tracing::error!(
                "more than {DECISIONS_WAITING_MAX} decisions wait to be stored; this one is only logged"
            );
        }
    }

    /// Writes down what was recorded until told to stop.
    pub(crate) async fn run_recorder(self: Arc<Self>, mut inbox: mpsc::Receiver<ToRecord>) {
        loop {
            let mut some = Vec::new();
            tokio::select! {
                () = self.stop.cancelled() => return self.record_rest(inbox).await,
                taken = inbox.recv_many(&mut some, RECORDS_PER_TXN) => if taken == 0 { return },
            };
            let count = some.len();
            if let Err(e) = self.record(some).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't store {count} verdicts");
            }
        }
    }

    /// What waits when the coordinator stops is still written, as far as the time for stopping allows.
    async fn record_rest(&self, mut inbox: mpsc::Receiver<ToRecord>) {
        let began = Instant::now();
        loop {
            let some: Vec<ToRecord> =
                std::iter::from_fn(|| inbox.try_recv().ok()).take(RECORDS_PER_TXN).collect();
            let count = some.len();
            if count == 0 {
                return;
            }
            if began.elapsed() > REST_WITHIN {
                tracing::error!("stopping: {} verdicts are not stored", inbox.len() + count);
                return;
            }
            if let Err(e) = self.record(some).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't store {count} verdicts");
                return;
            }
        }
    }

    /// Writes these down in one transaction: when a region fails, hundreds come at once, and a sync for each would keep
    /// the disk from what is done about it.
    async fn record(&self, some: Vec<ToRecord>) -> Result<(), CoordinatorError> {
        let mut txn = self.db.fenced();
        // Of one endpoint the last counts; a transaction changes no key twice.
        let mut standing = BTreeMap::new();
        for ToRecord { at, body, remember } in some {
            let id = DecisionId::numbered(self.counters.decisions.next());
            let (key, stored) = self.decision_record(&id, at, body);
            txn = self.db.put_op(txn, &key, &stored)?;
            standing.extend(remember);
        }
        for (endpoint, standing) in standing {
            txn = self.db.put_op(txn, &keys::standing(&endpoint), &standing)?;
        }
        self.db.commit("write verdicts down", txn).await.map(|_| ())
    }

    /// What stood for each endpoint when the coordinator before this one stopped.
    pub(crate) async fn stored_standing(
        &self,
    ) -> Result<BTreeMap<EndpointKey, StandingVerdict>, CoordinatorError> {
        let stored = self.db.list_placed::<StandingVerdict>(keys::STANDING).await?;
        let known = stored.into_iter().filter_map(|(key, standing)| {
            let endpoint = key.strip_prefix(keys::STANDING)?.parse().ok()?;
            Some((endpoint, standing))
        });
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, at_secs};
    use drover_core::verdict;
    use drover_model::decision::{StoredDecision, VerdictInputs};

    fn change(endpoint: &EndpointKey, secs: i64) -> ToRecord {
        let at = at_secs(secs);
        let (outside, inside, endpoint_of) = (vec![], vec![], endpoint.clone());
        let inputs = VerdictInputs { endpoint: endpoint_of, at, need: 2, outside, inside, led_since: None };
        let verdict = verdict::conclude(&inputs);
        let standing = StandingVerdict { verdict: verdict.clone(), since: at, recent_changes: vec![] };
        let body = DecisionBody::Verdict { inputs, verdict };
        ToRecord { at, body, remember: Some((endpoint.clone(), standing)) }
    }

    #[tokio::test]
    async fn changes_that_come_together_are_all_kept_and_the_last_of_an_endpoint_stands() {
        let bed = Bed::new().await;
        let (one, other) = ("checkout@eu-west".parse().unwrap(), "catalog@eu-west".parse().unwrap());
        let last = bed.c.counters.decisions.last();
        bed.c.record(vec![change(&one, 1), change(&other, 2), change(&one, 3)]).await.unwrap();
        for number in 1..=3 {
            let key = keys::numbered(keys::DECISIONS, last + number);
            let (stored, _) = bed.c.db.get::<StoredDecision>(&key).await.unwrap().unwrap();
            assert_eq!(stored.at, at_secs(i64::try_from(number).unwrap()));
        }
        for (endpoint, secs) in [(&one, 3), (&other, 2)] {
            let (standing, _) =
                bed.c.db.get::<StandingVerdict>(&keys::standing(endpoint)).await.unwrap().unwrap();
            assert_eq!(standing.since, at_secs(secs));
        }
    }
}
