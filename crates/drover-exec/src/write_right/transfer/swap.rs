//! The three transactions on the record. Each requires that the leader's key is its own and that the record is as it was
//! seen; the grant takes its proof as an argument.

use super::{Intent, Revision};
use drover_model::write_right::{Members, RightState, WriteGeneration, WriteRight};
use drover_model::{AgentId, Epoch};

/// What a swap does to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SwapKind {
    /// No renewal any more (step 8).
    Close,
    /// The target has it (step 12).
    Grant,
    /// The holder has it back (step 14).
    Abort,
}

/// A compare-and-swap of the record. Only a [`Transfer`](super::Transfer) makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Swap {
    kind: SwapKind,
    epoch: Epoch,
    expected: Revision,
    record: WriteRight,
}

/// The proof that nobody but the target can write from now (I5): made where steps 10 and 11 are checked, nowhere else.
#[derive(Debug)]
pub(super) struct Fenced {
    target: AgentId,
    generation: WriteGeneration,
}

impl Fenced {
    pub(super) fn of(intent: &Intent) -> Self {
        Self { target: intent.target.clone(), generation: intent.from.next() }
    }
}

impl Swap {
    pub(super) fn close(epoch: Epoch, seen: &WriteRight, expected: Revision, intent: &Intent) -> Self {
        let state = RightState::Closing { target: intent.target.clone(), plan: intent.plan.clone() };
        Self { kind: SwapKind::Close, epoch, expected, record: WriteRight { state, ..seen.clone() } }
    }

    /// The old holder is a member like any other, so that there is somebody to take over from a new one that dies before it
    /// renewed. The members of a grant count as acknowledged: the new holder knows of nobody before its first renewal, and is
    /// told these by it, or what one change made of them (step 15).
    pub(super) fn grant(epoch: Epoch, seen: &WriteRight, expected: Revision, fenced: Fenced) -> Self {
        let mut members =
            Members { version: seen.members.version.next(), promotable: seen.members.promotable.clone() };
        members.promotable.insert(seen.holder.clone());
        members.promotable.remove(&fenced.target);
        let mut sync_set = seen.sync_set.clone();
        sync_set.remove(&fenced.target);
        let record = WriteRight {
            incarnation: seen.incarnation,
            generation: fenced.generation,
            holder: fenced.target,
            acknowledged: members.clone(),
            members,
            sync_set,
            state: RightState::Open,
        };
        Self { kind: SwapKind::Grant, epoch, expected, record }
    }

    pub(super) fn abort(
        epoch: Epoch,
        seen: &WriteRight,
        expected: Revision,
        generation: WriteGeneration,
    ) -> Self {
        let record = WriteRight { generation, state: RightState::Open, ..seen.clone() };
        Self { kind: SwapKind::Abort, epoch, expected, record }
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> SwapKind {
        self.kind
    }

    /// Whose key must be the leader's.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The revision that the record must have.
    #[must_use]
    pub fn expected(&self) -> Revision {
        self.expected
    }

    /// What the record becomes.
    #[must_use]
    pub fn record(&self) -> &WriteRight {
        &self.record
    }
}
