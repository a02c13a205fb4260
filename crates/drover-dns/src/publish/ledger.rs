//! What an instance remembers beside what it serves: who commanded last, and the last applied batches.

use std::collections::VecDeque;
use std::sync::Arc;

use drover_model::Epoch;

use super::{APPLIED_BATCHES_KEPT_MAX, APPLIED_CHANGES_KEPT_MAX, AppliedBatch};

/// What is durable beside the snapshot. Cheap to copy: it is replaced as a whole by every change.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) highest_epoch: Option<Epoch>,
    /// Oldest first; bounded.
    pub(super) applied: VecDeque<Arc<AppliedBatch>>,
}

impl Ledger {
    /// The same under this epoch.
    pub(super) fn under(&self, epoch: Epoch) -> Self {
        Self { highest_epoch: Some(epoch), applied: self.applied.clone() }
    }

    /// Adds a batch; the oldest go once there are too many.
    pub(super) fn remember(&mut self, batch: Arc<AppliedBatch>) {
        self.applied.push_back(batch);
        let mut changes: usize = self.applied.iter().map(|batch| batch.changes.len()).sum();
        // The newest is kept in any case.
        while self.applied.len() > 1
            && (self.applied.len() > APPLIED_BATCHES_KEPT_MAX || changes > APPLIED_CHANGES_KEPT_MAX)
        {
            changes -= self.applied.pop_front().map_or(0, |oldest| oldest.changes.len());
        }
    }
}
