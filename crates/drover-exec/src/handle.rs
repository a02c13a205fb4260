//! Events in, effects out.
//!
//! Nothing happens except through the journal: `handle` proposes a record, and only when it hears that the record is
//! durable does the state change and the work begin (I1). There is at most one record on its way, and never a record
//! and
//! work at once, so that a crash leaves exactly one thing in doubt.

use crate::commands::Command;
use crate::error::{Refused, StandDown};
use crate::journal::{JournalError, Order, PageOrder};
use crate::progress::{Phase, Progress, Settle};
use crate::state::{Execution, InFlight, Work};
use drover_model::journal::{CheckOutcome, Entry, FailureNature, Record, RunState, StepFailure, StepOutcome};
use drover_model::plan::{Repeatability, Step, StepKind, ValidationTarget};
use drover_model::traffic::Actor;
use drover_model::{Epoch, Span, Timestamp};

/// What the outside tells the run. Closed: nothing else moves it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This process commands from now on: after `create`, or after `replay` by a new leader.
    Start {
        /// Under this epoch.
        epoch: Epoch,
    },
    /// The record is durable.
    Appended {
        /// Which.
        sequence: u64,
    },
    /// The record is not known to be durable.
    AppendFailed {
        /// Which.
        sequence: u64,
        /// Why.
        error: JournalError,
    },
    /// An attempt ended.
    ActDone {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        result: Result<StepOutcome, StepFailure>,
    },
    /// An attempt at undoing ended.
    UndoDone {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        result: Result<StepOutcome, StepFailure>,
    },
    /// Time has passed.
    Tick,
    /// A person, or another part of drover, wants something.
    Command(Command),
}

/// What the run wants done.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // A handful at a time, performed at once.
pub enum Effect {
    /// Make this durable, then say `Appended` or `AppendFailed`.
    Append(Record),
    /// Take a step, then say `ActDone`.
    Act(Order),
    /// Undo a step, then say `UndoDone`.
    Undo(Order),
    /// Stop the work under way. Its outcome no longer matters.
    CancelAct,
    /// Say `Tick` at this time; replaces every earlier wish.
    WakeAt(Timestamp),
    /// Tell people.
    Page(PageOrder),
    /// The run is over, durably.
    Finished(RunState),
    /// Stop without another word in the journal: the run belongs to another process, or to a person.
    StandDown(StandDown),
}

impl Execution {
    /// Takes one event.
    ///
    /// # Errors
    /// [`Refused`] when the event or command does not apply; nothing has changed then. An outcome of work that was
    /// cancelled, or a record that was reported durable before, is no error: it has no effect.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Result<Vec<Effect>, Refused> {
        let run = || self.origin.run.clone();
        if self.live.stood_down {
            return Err(Refused::StoodDown { run: run() });
        }
        if self.live.epoch.is_none() && !matches!(event, Event::Start { .. }) {
            return Err(Refused::NotStarted { run: run() });
        }
        let mut effects = match event {
            Event::Start { epoch } => self.start(epoch, now)?,
            Event::Appended { sequence } => self.appended(sequence, now)?,
            Event::AppendFailed { sequence, error } => self.append_failed(sequence, error, now),
            Event::ActDone { step, attempt, result } => self.work_done(Work::Act, step, attempt, result, now),
            Event::UndoDone { step, attempt, result } => {
                self.work_done(Work::Undo, step, attempt, result, now)
            }
            Event::Tick => self.tick(now),
            Event::Command(command) => self.command(command, now)?,
        };
        if let Some(at) = self.wake_at() {
            effects.push(Effect::WakeAt(at));
        }
        Ok(effects)
    }

    /// Takes command. A run with work in doubt, or last commanded by somebody else, is taken over on the record first.
    fn start(&mut self, epoch: Epoch, now: Timestamp) -> Result<Vec<Effect>, Refused> {
        let run = || self.origin.run.clone();
        if self.live.epoch.is_some() {
            return Err(Refused::AlreadyStarted { run: run() });
        }
        let newest = self.progress.epoch;
        if epoch.incarnation == newest.incarnation && epoch.counter < newest.counter {
            return Err(Refused::OldEpoch { run: run(), newest, epoch });
        }
        self.live.epoch = Some(epoch);
        if let Some(pending) = &mut self.live.pending {
            // The first record of a new run: it may not be durable, so it is written under whoever commands now.
            pending.record.epoch = epoch;
            self.progress.epoch = epoch;
            return Ok(vec![Effect::Append(pending.record.clone())]);
        }
        let mut effects: Vec<Effect> = self.pages(now).into_iter().map(Effect::Page).collect();
        match self.progress.phase {
            Phase::Over(state) => effects.push(Effect::Finished(state)),
            Phase::Stepping { .. } | Phase::Undoing { .. } => {
                effects.extend(self.propose(Entry::TakenOver, now));
            }
            _ if epoch != newest => effects.extend(self.propose(Entry::TakenOver, now)),
            _ => effects.extend(self.advance(now)),
        }
        Ok(effects)
    }

    /// The record is durable: now it counts.
    fn appended(&mut self, sequence: u64, now: Timestamp) -> Result<Vec<Effect>, Refused> {
        if sequence < self.progress.sequence {
            return Ok(Vec::new());
        }
        let Some(pending) = self.live.pending.take_if(|p| p.record.sequence == sequence) else {
            return Err(Refused::UnknownRecord { run: self.origin.run.clone(), sequence });
        };
        if let Err(illegal) = self.progress.admit(&self.origin.run, &pending.record) {
            return Ok(self.stand_down(StandDown::Illegal(illegal)));
        }
        let noted = self.progress.noted_at == sequence;
        let mut effects: Vec<Effect> = self.page_alone_of(sequence).map(Effect::Page).into_iter().collect();
        if noted {
            effects.extend(self.page().map(Effect::Page));
        }
        match &pending.record.entry {
            Entry::StepStarted { step, attempt } => effects.extend(self.begin(*step, *attempt, now)),
            Entry::UndoStarted { step, attempt } => effects.extend(self.begin_undo(*step, *attempt, now)),
            _ => match self.progress.phase {
                Phase::Over(state) => effects.push(Effect::Finished(state)),
                _ => effects.extend(self.advance(now)),
            },
        }
        Ok(effects)
    }

    /// Begins an attempt whose intent is durable.
    fn begin(&mut self, step: u32, attempt: u32, now: Timestamp) -> Option<Effect> {
        let work = match &self.progress.step(step).kind {
            StepKind::Approve { .. } => return None, // A person acts, not drover.
            StepKind::Wait { .. } => Work::Wait,
            StepKind::Preflight { .. }
            | StepKind::VerifyApp { .. }
            | StepKind::ShiftTraffic { .. }
            | StepKind::VerifyDns { .. }
            | StepKind::Validate { .. }
            | StepKind::Drained { .. }
            | StepKind::Notify { .. }
            | StepKind::Run { .. } => Work::Act,
        };
        let until = now + time_for(self.progress.step(step));
        self.live.in_flight = Some(InFlight { work, step, attempt, until });
        if work == Work::Wait {
            return None;
        }
        cov_mark::hit!(i1_journal_first);
        let key = format!("{}/{}", self.origin.run, self.progress.step(step).id);
        self.order(step, attempt, key, until).map(Effect::Act)
    }

    fn begin_undo(&mut self, step: u32, attempt: u32, now: Timestamp) -> Option<Effect> {
        let until = now + self.progress.step(step).timeout;
        self.live.in_flight = Some(InFlight { work: Work::Undo, step, attempt, until });
        let key = format!("{}/{}/undo", self.origin.run, self.progress.step(step).id);
        let keeps = self.progress.keeps(step);
        let order = self.order(step, attempt, key, until)?;
        Some(Effect::Undo(Order { keeps, ..order }))
    }

    /// Work is ordered only with the approved plan in hand; without one there is nothing to order.
    fn order(&self, index: u32, attempt: u32, key: String, deadline: Timestamp) -> Option<Order> {
        Some(Order {
            run: self.origin.run.clone(),
            epoch: self.progress.epoch,
            plan: self.progress.approved.clone()?,
            origin: self.origin.clone(),
            index,
            attempt,
            key,
            deadline,
            keeps: false,
            declared_at: self.progress.declared_at(),
            began_at: self.progress.created_at,
        })
    }

    /// An attempt ended: its outcome becomes a record before anything else begins.
    fn work_done(
        &mut self,
        work: Work,
        step: u32,
        attempt: u32,
        result: Result<StepOutcome, StepFailure>,
        now: Timestamp,
    ) -> Vec<Effect> {
        let ours = |w: &mut InFlight| (w.work, w.step, w.attempt) == (work, step, attempt);
        if self.live.in_flight.take_if(ours).is_none() {
            return Vec::new(); // Cancelled, or told twice.
        }
        let result = match work {
            Work::Act => result.and_then(|outcome| judged(&self.progress, step, outcome)),
            Work::Undo | Work::Wait => result,
        };
        let entry = match (work, result) {
            (_, Err(failure)) if failure.kind == FailureNature::Fenced => {
                return self.stand_down(StandDown::Fenced(failure.message));
            }
            (Work::Undo, Ok(outcome)) => Entry::UndoDone { step, attempt, outcome },
            (Work::Undo, Err(failure)) => Entry::UndoFailed { step, attempt, failure },
            (_, Ok(outcome)) => Entry::StepDone { step, attempt, outcome },
            (_, Err(failure)) => Entry::StepFailed { step, attempt, failure },
        };
        self.propose(entry, now)
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        if self.live.pending.is_some() {
            return self.append_again(now);
        }
        match self.live.in_flight {
            Some(work) if now < work.until => Vec::new(),
            Some(work) => self.time_is_up(work, now),
            None => self.advance(now),
        }
    }

    fn time_is_up(&mut self, work: InFlight, now: Timestamp) -> Vec<Effect> {
        let InFlight { step, attempt, .. } = work;
        if let (Work::Wait, StepKind::Wait { span, .. }) = (work.work, &self.progress.step(step).kind) {
            let outcome = StepOutcome {
                measurements: Vec::new(),
                ..StepOutcome::done(false, format!("waited {span}"))
            };
            self.live.in_flight = None;
            return self.propose(Entry::StepDone { step, attempt, outcome }, now);
        }
        let allowed = match work.work {
            Work::Undo => self.progress.step(step).timeout,
            Work::Act | Work::Wait => time_for(self.progress.step(step)),
        };
        let message = format!("timed out after {allowed}");
        let kind = match (work.work, self.progress.step(step).kind.repeatability()) {
            (Work::Act, Repeatability::AtMostOnce) => FailureNature::Uncertain,
            _ => FailureNature::Retryable,
        };
        let failure = StepFailure { kind, message, measurements: Vec::new() };
        let mut effects = vec![Effect::CancelAct];
        effects.extend(self.work_done(work.work, step, attempt, Err(failure), now));
        effects
    }

    /// Does what the state alone asks for. The same for one who lived through the run and for one who read of it.
    fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        let entry = match &self.progress.phase {
            Phase::Awaiting { expires_at } | Phase::Asking { expires_at } if now >= *expires_at => {
                cov_mark::hit!(expired_is_not_consent);
                Entry::Expired
            }
            Phase::Ready => self.next_attempt(),
            Phase::Backoff { retry_at } if now >= *retry_at => self.next_attempt(),
            Phase::UndoReady { step } => self.next_undo(*step),
            Phase::UndoBackoff { step, retry_at } if now >= *retry_at => self.next_undo(*step),
            Phase::Settling(Settle::End { state, summary, .. }) => {
                Entry::Ended { state: *state, summary: summary.clone() }
            }
            Phase::Settling(Settle::Pause { reason, .. }) => {
                Entry::Paused { by: Actor::Automatic, reason: reason.clone() }
            }
            Phase::Settling(Settle::RollBack { reason }) => Entry::RollbackBegun { reason: reason.clone() },
            Phase::Unrecorded
            | Phase::Awaiting { .. }
            | Phase::Asking { .. }
            | Phase::Backoff { .. }
            | Phase::UndoBackoff { .. }
            | Phase::Stepping { .. }
            | Phase::Undoing { .. }
            | Phase::Held { .. }
            | Phase::Over(_) => return Vec::new(),
        };
        self.propose(entry, now)
    }

    fn next_attempt(&self) -> Entry {
        let step = self.progress.cursor;
        Entry::StepStarted { step, attempt: self.progress.steps[step as usize].attempts + 1 }
    }

    fn next_undo(&self, step: u32) -> Entry {
        Entry::UndoStarted { step, attempt: self.progress.steps[step as usize].undo_attempts + 1 }
    }
}

/// The time for one attempt. `wait` and `validate` take a time by design: a wait is over then, and a validation has its
/// timeout on top.
fn time_for(step: &Step) -> Span {
    match &step.kind {
        StepKind::Wait { span, .. } => *span,
        StepKind::Validate { targets } => {
            let longest = targets.iter().map(ValidationTarget::longest).max().unwrap_or(Span::ZERO);
            longest.plus(step.timeout)
        }
        StepKind::Preflight { .. }
        | StepKind::VerifyApp { .. }
        | StepKind::ShiftTraffic { .. }
        | StepKind::VerifyDns { .. }
        | StepKind::Drained { .. }
        | StepKind::Approve { .. }
        | StepKind::Notify { .. }
        | StepKind::Run { .. } => step.timeout,
    }
}

/// A success that its own numbers do not bear out is none (I10): a bad one is a failure, a missing one holds.
fn judged(progress: &Progress, step: u32, outcome: StepOutcome) -> Result<StepOutcome, StepFailure> {
    let worst = outcome.measurements.iter().map(|m| m.outcome).max();
    let validates = matches!(progress.step(step).kind, StepKind::Validate { .. });
    let (kind, message) = match worst {
        None | Some(CheckOutcome::Noted) if validates => {
            (FailureNature::Inconclusive, "nothing was measured".to_owned())
        }
        None | Some(CheckOutcome::Noted | CheckOutcome::Pass) => return Ok(outcome),
        Some(CheckOutcome::Fail) => (FailureNature::Permanent, outcome.summary),
        Some(CheckOutcome::Inconclusive | CheckOutcome::Error) => {
            (FailureNature::Inconclusive, outcome.summary)
        }
    };
    cov_mark::hit!(i10_no_data_is_no_pass);
    Err(StepFailure { kind, message, measurements: outcome.measurements })
}
