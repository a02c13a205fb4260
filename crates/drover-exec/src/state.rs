//! A run in memory: what its records say, and what is under way right now.

use crate::approved::Consent;
use crate::handle::Effect;
use crate::progress::{Phase, Progress, Standing};
use drover_model::approvals::Approvals;
use drover_model::journal::{Entry, JOURNAL_SCHEMA, Record, RunState, Trigger};
use drover_model::plan::Plan;
use drover_model::traffic::Actor;
use drover_model::{Epoch, RunId, Span, Timestamp};
use std::sync::Arc;

/// How a run came to be. Never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// Who began it.
    pub by: Actor,
    /// What made it begin.
    pub trigger: Trigger,
    /// A person must agree first, within this time.
    pub ask: Option<Span>,
    /// Objective.
    pub rto: Span,
}

/// A record on its way to the journal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    pub record: Record,
    /// Failed appends.
    pub tries: u32,
    /// When it is appended again; absent while an append is under way.
    pub retry_at: Option<Timestamp>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Act,
    Undo,
    Wait,
}

/// Work under way, until it is done or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub work: Work,
    pub step: u32,
    pub attempt: u32,
    /// When a wait is over, or when the attempt is given up.
    pub until: Timestamp,
}

/// What this process knows beyond the journal. Lost in a crash, and not missed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Live {
    /// The epoch that this process commands under, once it has started.
    pub epoch: Option<Epoch>,
    pub stood_down: bool,
    pub pending: Option<Pending>,
    pub in_flight: Option<InFlight>,
}

/// One run of one plan.
#[derive(Debug, Clone)]
pub struct Execution {
    pub(crate) origin: Arc<Origin>,
    pub(crate) progress: Progress,
    pub(crate) live: Live,
}

impl Execution {
    /// A new run. Its first record comes back as [`Effect::Append`]; nothing else happens before it is durable. Feed
    /// [`crate::Event::Start`] to have it appended (as [`crate::drive()`] does), or store the record by other means and
    /// replay it.
    #[must_use = "the first record must become durable"]
    pub fn create(
        run: RunId,
        consent: Consent,
        by: Actor,
        trigger: Trigger,
        rto: Span,
        epoch: Epoch,
        now: Timestamp,
    ) -> (Self, Effect) {
        let (plan, ask, approvals) = consent.into_parts();
        let entry = Entry::Created {
            plan: Plan::clone(&plan),
            by: by.clone(),
            trigger: trigger.clone(),
            ask,
            rto,
            approvals,
        };
        let record = Record { schema: JOURNAL_SCHEMA, run: run.clone(), sequence: 0, at: now, epoch, entry };
        let pending = Pending { record: record.clone(), tries: 0, retry_at: None };
        let execution = Self {
            origin: Arc::new(Origin { run, by, trigger, ask, rto }),
            progress: Progress::new(plan, epoch, now),
            live: Live { pending: Some(pending), ..Live::default() },
        };
        (execution, Effect::Append(record))
    }

    /// The run's name.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.origin.run
    }

    /// How it came to be.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// What it does.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.progress.plan
    }

    /// All that its records say.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Where it stands, as durably recorded.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.progress.state()
    }

    /// Is it over?
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.progress.phase, Phase::Over(_))
    }

    /// Did this process stop commanding it?
    #[must_use]
    pub fn has_stood_down(&self) -> bool {
        self.live.stood_down
    }

    /// Sequence of the next record, which is the number of durable ones.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.progress.sequence
    }

    /// The record on its way to the journal, when there is one.
    #[must_use]
    pub fn pending(&self) -> Option<&Record> {
        self.live.pending.as_ref().map(|p| &p.record)
    }

    /// Steps skipped or failed that were let pass.
    #[must_use]
    pub fn exceptions(&self) -> &[String] {
        &self.progress.exceptions
    }

    /// Why it asks, holds or ended.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.progress.note
    }

    /// Index of the step that stands or comes next; absent before the first record and at the end. While rolling back
    /// it is the step
    /// that is undone.
    #[must_use]
    pub fn current_step(&self) -> Option<u32> {
        let index = match &self.progress.phase {
            Phase::UndoReady { step }
            | Phase::UndoBackoff { step, .. }
            | Phase::Undoing { step, .. }
            | Phase::Held { at: Standing::Undo(step), .. } => *step,
            Phase::Unrecorded | Phase::Awaiting { .. } | Phase::Over(_) => return None,
            _ => self.progress.cursor,
        };
        ((index as usize) < self.progress.plan.steps.len()).then_some(index)
    }

    /// Is one more record due at once, whatever happens?
    pub(crate) fn is_settling(&self) -> bool {
        matches!(self.progress.phase, Phase::Settling(_))
    }

    /// How many people its question asks for, and who agreed; after it, those of the last one.
    #[must_use]
    pub fn approvals(&self) -> &Approvals {
        &self.progress.approvals
    }

    /// When the open question expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self.progress.phase {
            Phase::Awaiting { expires_at } | Phase::Asking { expires_at } => Some(expires_at),
            _ => None,
        }
    }

    /// When the run wants to be told the time, at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.live.stood_down || self.live.epoch.is_none() {
            return None;
        }
        if let Some(pending) = &self.live.pending {
            return pending.retry_at;
        }
        match self.progress.phase {
            Phase::Awaiting { expires_at } | Phase::Asking { expires_at } => Some(expires_at),
            Phase::Backoff { retry_at } | Phase::UndoBackoff { retry_at, .. } => Some(retry_at),
            _ => self.live.in_flight.map(|w| w.until),
        }
    }
}
