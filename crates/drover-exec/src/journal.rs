//! What programs provide: a place for records, and hands.

use crate::approved::Approved;
use crate::state::Origin;
use drover_model::journal::{Record, RunState, StepFailure, StepOutcome};
use drover_model::plan::{Plan, Step};
use drover_model::{Epoch, RunId, Timestamp};
use std::future::Future;
use std::sync::Arc;

/// Why a record was not written, or not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A newer leader commands (I3): nothing may be written any more.
    #[error("a newer leader commands: {detail}")]
    Fenced {
        /// Which, where it is known.
        detail: String,
    },
    /// No room. Trying again helps once there is some.
    #[error("the journal has no room: {detail}")]
    OutOfSpace {
        /// How much is missing, where it is known.
        detail: String,
    },
    /// It is larger than a record may be, and was not written.
    #[error("the record has {bytes} bytes, {limit} are the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// It may have been written or not. Trying again helps.
    #[error("the journal cannot be reached: {detail}")]
    Unavailable {
        /// Why.
        detail: String,
    },
    /// Another record stands at this sequence.
    #[error("another record stands at {sequence}")]
    Conflict {
        /// Which sequence.
        sequence: u64,
    },
}

/// The durable record of runs.
pub trait Journal: Send {
    /// Makes `record` durable. It must be the next of its run, written under the newest epoch that the store knows.
    /// Appending the very record that already stands at its sequence is a success: an answer may have been lost.
    ///
    /// # Errors
    /// [`JournalError`]; after [`JournalError::Unavailable`] the record may be durable or not.
    fn append(&mut self, record: &Record) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Every record of `run`, in order; empty when there is no such run.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`] when it cannot be read.
    fn load(&mut self, run: &RunId) -> impl Future<Output = Result<Vec<Record>, JournalError>> + Send;
}

/// One attempt at one step, with all that the hands need. It can only be made from an approved plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// Who commands: receivers refuse an older one (I3).
    pub epoch: Epoch,
    /// The plan.
    pub plan: Approved<Plan>,
    /// Who began the run, and why.
    pub origin: Arc<Origin>,
    /// Index of the step in the plan.
    pub index: u32,
    /// From 1; counts over all leaders.
    pub attempt: u32,
    /// Idempotency key: the same for every attempt at this step of this run, another one for its undo.
    pub key: String,
    /// When the attempt is given up.
    pub deadline: Timestamp,
    /// For an undo of a ramp's stage: what it published was validated since, and stays unless its region is down.
    pub keeps: bool,
    /// When what the run moved was live in DNS and verified everywhere; none before.
    pub declared_at: Option<Timestamp>,
    /// When the run was created.
    pub began_at: Timestamp,
}

impl Order {
    /// The step.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.plan.steps[self.index as usize]
    }
}

/// What a page of a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAbout {
    /// It waits for an answer.
    Asks,
    /// One person answered for all who were asked.
    Alone,
    /// It holds, or its journal can't be written, and somebody must look.
    Holds,
    /// It is over.
    Ended(RunState),
}

/// A page: people are told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrder {
    /// The same for the same page told again by a new leader, so that the outbox sends it once.
    pub key: String,
    /// The run.
    pub run: RunId,
    /// What it is about, for whoever routes it.
    pub about: PageAbout,
    /// What to say.
    pub message: String,
}

/// Hands. An implementation observes first and does only what is missing, so that a further attempt is harmless; it may
/// be dropped at any await, when an attempt is cancelled.
pub trait Effects: Sync {
    /// Takes the step. Never called for `wait` and `approve`, which are a matter of time and of people.
    fn act(&self, order: &Order) -> impl Future<Output = Result<StepOutcome, StepFailure>> + Send;

    /// Undoes the step, which may have been done wholly, in part or not at all. Never sends traffic back to a region
    /// that
    /// is down: that is a permanent failure, and a person decides.
    fn undo(&self, order: &Order) -> impl Future<Output = Result<StepOutcome, StepFailure>> + Send;

    /// Tells people. Must not wait; delivery is the outbox's.
    fn page(&self, page: &PageOrder);
}
