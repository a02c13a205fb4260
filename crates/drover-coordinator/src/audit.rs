//! Every command, decision and refusal, in order, kept for ever.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_model::traffic::Actor;
use drover_model::{Epoch, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// From 1, without gaps within an epoch.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Under which leader.
    pub epoch: Epoch,
    /// Who.
    pub by: Actor,
    /// What was asked or done: `freeze`, `apply`, `approve`.
    pub verb: String,
    /// About what.
    pub subject: String,
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// What came of it.
    pub outcome: String,
}

/// Numbers for numbered records, found once at the start and counted on in memory: only the leader writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The next number.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The last number given out.
    pub fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts on after `number`.
    pub fn continue_after(&self, number: u64) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}

/// The number at the end of a store key.
#[must_use]
pub fn number_of_key(key: &str) -> u64 {
    key.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl Coordinator {
    /// Writes one line.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn audit(
        &self,
        by: &Actor,
        verb: &str,
        subject: &str,
        reason: &str,
        outcome: &str,
    ) -> Result<(), CoordinatorError> {
        let number = self.counters.audit.next();
        let record = AuditRecord {
            number,
            at: self.clock.now(),
            epoch: self.db.epoch(),
            by: by.clone(),
            verb: verb.into(),
            subject: subject.into(),
            reason: reason.into(),
            outcome: outcome.into(),
        };
        self.db.put(&keys::numbered(keys::AUDIT, number), &record).await
    }
}
