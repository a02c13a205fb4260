//! Why an event, a command or a stored record is not taken.

use crate::journal::JournalError;
use drover_model::journal::{Entry, JOURNAL_RECORDS_MAX};
use drover_model::reason::Reason;
use drover_model::{Epoch, PlanId, RunId, Timestamp, TokenName};

/// A record that cannot follow those before it. A journal that holds one is not replayed further: its run needs a
/// person, since guessing what was meant would be acting on something that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalRecord {
    /// There is nothing to replay.
    #[error("the journal is empty")]
    Empty,
    /// The first record says what the run is; this one does not.
    #[error("the journal of {run} begins with `{entry}` instead of `created`")]
    NoBeginning {
        /// The run.
        run: RunId,
        /// What it begins with.
        entry: &'static str,
    },
    /// Written by a later build.
    #[error("record {sequence} of {run} has format {found}, this build reads up to {known}")]
    Schema {
        /// The run.
        run: RunId,
        /// Which record.
        sequence: u64,
        /// Its format.
        found: u16,
        /// The newest format read.
        known: u16,
    },
    /// It belongs to another run.
    #[error("record {sequence} of {run} belongs to {found}")]
    OtherRun {
        /// The run.
        run: RunId,
        /// Which record.
        sequence: u64,
        /// The run that it names.
        found: RunId,
    },
    /// A record is missing, or there twice.
    #[error("the journal of {run} has record {found} where {expected} is due")]
    Gap {
        /// The run.
        run: RunId,
        /// Due.
        expected: u64,
        /// Found.
        found: u64,
    },
    /// More records than a run may have.
    #[error("the journal of {run} has more than {JOURNAL_RECORDS_MAX} records")]
    TooMany {
        /// The run.
        run: RunId,
    },
    /// Authority went backwards, or changed without a takeover (I3).
    #[error("record {sequence} of {run} was written under epoch {found} after {before}")]
    Epoch {
        /// The run.
        run: RunId,
        /// Which record.
        sequence: u64,
        /// Of the records before.
        before: Epoch,
        /// Of this record.
        found: Epoch,
    },
    /// The entry does not apply where the run stands.
    #[error("record {sequence} of {run} is `{entry}`, which cannot follow when the run is {state}")]
    Entry {
        /// The run.
        run: RunId,
        /// Which record.
        sequence: u64,
        /// Where the run stood.
        state: String,
        /// What the record says.
        entry: &'static str,
    },
}

/// An event or command was not taken; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The state does not allow the command; says which state.
    #[error("{0}")]
    State(Reason),
    /// The plan that was named is not the plan that is asked about (I9).
    #[error("{run} asks about {asked}, not about {named}")]
    OtherPlan {
        /// The run.
        run: RunId,
        /// Its plan.
        asked: PlanId,
        /// What was named.
        named: PlanId,
    },
    /// The answer came too late.
    #[error("the question of {run} expired at {at}")]
    QuestionExpired {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
    },
    /// A step is let pass only with a reason, which the report will show.
    #[error("`{command}` needs a reason")]
    ReasonMissing {
        /// The command.
        command: &'static str,
    },
    /// Consent can only come from a person.
    #[error("only a person may `{command}`")]
    NeedsPerson {
        /// The command.
        command: &'static str,
    },
    /// More than one must agree, and nothing proves who this is.
    #[error(
        "{run} asks {needed} people, who are counted by their tokens, and this approval shows none: it would count for nobody"
    )]
    NotProven {
        /// The run.
        run: RunId,
        /// How many it asks.
        needed: u32,
    },
    /// That person has agreed.
    #[error("{name} has agreed to {run} already: it needs another person")]
    SamePerson {
        /// The run.
        run: RunId,
        /// As whom.
        name: TokenName,
    },
    /// What several people are asked one person does not let pass.
    #[error("{step} of {run} asks several people, and is not let pass by one")]
    NotSkipped {
        /// The run.
        run: RunId,
        /// The question.
        step: String,
    },
    /// The named step is not the one that stands.
    #[error("{run} stands at {standing}, not at {named}")]
    OtherStep {
        /// The run.
        run: RunId,
        /// Where it stands.
        standing: String,
        /// What was named.
        named: String,
    },
    /// A record is on its way to the journal, or the journal cannot be written.
    #[error("record {sequence} of {run} is not durable yet")]
    Busy {
        /// The run.
        run: RunId,
        /// Which record.
        sequence: u64,
    },
    /// Drover itself may not end it as it stands.
    #[error("drover does not end {run} by itself: it is a person's, or in the middle of a change")]
    DoesNotGiveWay {
        /// The run.
        run: RunId,
    },
    /// The journal has room for the rest of the run only.
    #[error(
        "{run} has {records} records in its journal and takes no more commands, except `abort` and `reject`"
    )]
    TooManyRecords {
        /// The run.
        run: RunId,
        /// How many.
        records: u64,
    },
    /// Nothing drives the run yet.
    #[error("{run} has not been started by this coordinator")]
    NotStarted {
        /// The run.
        run: RunId,
    },
    /// It was started before.
    #[error("{run} is being driven already")]
    AlreadyStarted {
        /// The run.
        run: RunId,
    },
    /// A newer leader has written to the journal (I3).
    #[error("{run} was last commanded under epoch {newest}, this is {epoch}")]
    OldEpoch {
        /// The run.
        run: RunId,
        /// Of the newest record.
        newest: Epoch,
        /// Of the one who wants to go on.
        epoch: Epoch,
    },
    /// This process does not command the run any more.
    #[error("this coordinator no longer commands {run}")]
    StoodDown {
        /// The run.
        run: RunId,
    },
    /// The record that is said to be durable was never asked for.
    #[error("record {sequence} of {run} was not asked for")]
    UnknownRecord {
        /// The run.
        run: RunId,
        /// Which.
        sequence: u64,
    },
}

impl Refused {
    /// Stable code, for scripts.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Refused::State(reason) => return reason.code(),
            Refused::OtherPlan { .. } => "other_plan",
            Refused::QuestionExpired { .. } => "question_expired",
            Refused::ReasonMissing { .. } => "reason_missing",
            Refused::NeedsPerson { .. } => "needs_person",
            Refused::DoesNotGiveWay { .. } => "does_not_give_way",
            Refused::NotProven { .. } => "approval_not_proven",
            Refused::SamePerson { .. } => "same_person",
            Refused::NotSkipped { .. } => "asks_several",
            Refused::OtherStep { .. } => "other_step",
            Refused::Busy { .. } => "journal_busy",
            Refused::TooManyRecords { .. } => "too_many_records",
            Refused::NotStarted { .. } => "not_started",
            Refused::AlreadyStarted { .. } => "already_started",
            Refused::OldEpoch { .. } => "old_epoch",
            Refused::StoodDown { .. } => "stood_down",
            Refused::UnknownRecord { .. } => "unknown_record",
        }
        .to_owned()
    }

    /// The reason with its numbers, where the model has one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Refused::State(reason) => Some(reason.clone()),
            Refused::OtherPlan { named, .. } => Some(Reason::UnknownPlan { plan: named.to_string() }),
            _ => None,
        }
    }

    /// The command that goes on from here.
    #[must_use]
    pub fn next_command(&self) -> Option<String> {
        match self {
            Refused::State(reason) => reason.next_command(),
            Refused::OtherPlan { run, .. }
            | Refused::QuestionExpired { run, .. }
            | Refused::OtherStep { run, .. }
            | Refused::TooManyRecords { run, .. } => Some(format!("drover run show {run}")),
            Refused::NotProven { run, .. } => Some(format!(
                "export DROVER_TOKEN_FILE=FILE, then drover approve {run} --reason TEXT; {}",
                alone(run)
            )),
            Refused::SamePerson { run, .. } => {
                Some(format!("somebody else: drover approve {run} --reason TEXT; {}", alone(run)))
            }
            Refused::NotSkipped { run, .. } => {
                Some(format!("drover run resume {run} --reason TEXT asks anew; or drover run abort {run}"))
            }
            _ => None,
        }
    }
}

/// What is left at night, when there is nobody else.
fn alone(run: &RunId) -> String {
    format!("with nobody else there, an admin: drover approve {run} --alone --reason TEXT")
}

/// Why this process stopped without ending the run: another one goes on with it, or a person must look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandDown {
    /// A newer leader commands (I3).
    #[error("{0}")]
    Fenced(String),
    /// Somebody else wrote to the journal.
    #[error("another process writes to the journal")]
    Conflict(#[source] JournalError),
    /// The journal holds something that this build cannot follow.
    #[error("the journal cannot be followed")]
    Illegal(#[source] IllegalRecord),
    /// The run cannot be started by this process.
    #[error("the run was not started")]
    Refused(#[source] Refused),
}

/// The word for an entry, as in the journal.
pub(crate) fn entry_word(entry: &Entry) -> &'static str {
    match entry {
        Entry::Created { .. } => "created",
        Entry::Approved { .. } => "approved",
        Entry::Rejected { .. } => "rejected",
        Entry::Expired => "expired",
        Entry::StepStarted { .. } => "step_started",
        Entry::StepDone { .. } => "step_done",
        Entry::StepFailed { .. } => "step_failed",
        Entry::StepSkipped { .. } => "step_skipped",
        Entry::Paused { .. } => "paused",
        Entry::Resumed { .. } => "resumed",
        Entry::AbortRequested { .. } => "abort_requested",
        Entry::RollbackBegun { .. } => "rollback_begun",
        Entry::UndoStarted { .. } => "undo_started",
        Entry::UndoDone { .. } => "undo_done",
        Entry::UndoFailed { .. } => "undo_failed",
        Entry::TakenOver => "taken_over",
        Entry::Ended { .. } => "ended",
    }
}
