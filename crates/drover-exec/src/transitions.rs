//! The transition function: what one record makes of the state. It is total: every pair of state and entry is either
//! spelt out here and in `undo.rs`, or a [`Misfit`]. Living through a run and replaying it both come through here, so
//! that they cannot disagree.

use crate::approved::Approved;
use crate::policy::TAKEOVERS_PER_STEP_MAX;
use crate::progress::{Alone, Hold, Phase, Progress, Settle, Standing, StepStatus, Touched};
use drover_model::approvals::{Approvals, Voice};
use drover_model::journal::{Entry, FailureNature, RunState, StepFailure, StepOutcome};
use drover_model::plan::{Plan, Repeatability, Reversal, StepKind};
use drover_model::traffic::Actor;
use drover_model::{PlanId, Span, Timestamp};

/// The entry does not apply here. The caller knows the record and the state, and names both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit;

pub(crate) type Applied = Result<(), Misfit>;

impl Progress {
    /// Applies one entry. On a misfit nothing has changed.
    pub(crate) fn apply(&mut self, entry: &Entry, at: Timestamp) -> Applied {
        match entry {
            Entry::Created { plan, by, ask, approvals, .. } => self.created(plan, by, *ask, approvals, at),
            Entry::Approved { by, plan, reason, voice } => self.consent(by, plan, reason, voice, at),
            Entry::Rejected { by, reason } => self
                .declined(RunState::Rejected, format!("rejected by {by}: {reason}"), at)
                .map(|()| self.stopped_by = Some(by.clone())),
            Entry::Expired => {
                let silence = "nobody answered in time, which is not consent".to_owned();
                self.declined(RunState::ExpiredUnapproved, silence, at)
            }
            Entry::StepStarted { step, attempt } => self.step_started(*step, *attempt, at),
            Entry::StepDone { step, attempt, outcome } => self.step_done(*step, *attempt, outcome, at),
            Entry::StepFailed { step, attempt, failure } => self.step_failed(*step, *attempt, failure, at),
            Entry::StepSkipped { step, by, reason } => self.skipped(*step, by, reason, at),
            Entry::Paused { by, reason } => self.paused(by, reason, at),
            Entry::Resumed { .. } => self.resumed(),
            Entry::AbortRequested { by, reason, roll_back } => {
                self.aborted(by, reason, *roll_back, at).map(|()| self.stopped_by = Some(by.clone()))
            }
            Entry::RollbackBegun { reason } => self.rollback_begun(reason),
            Entry::UndoStarted { step, attempt } => self.undo_started(*step, *attempt),
            Entry::UndoDone { step, attempt, outcome } => self.undo_done(*step, *attempt, outcome, at),
            Entry::UndoFailed { step, attempt, failure } => self.undo_failed(*step, *attempt, failure, at),
            Entry::TakenOver => self.taken_over(),
            Entry::Ended { state, summary } => self.ended(*state, summary, at),
        }
    }

    /// Remembers what people should hear, and which record said so.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.note = note.into();
        self.noted_at = self.sequence;
    }

    /// The step at the cursor is next, or all steps are behind.
    pub(crate) fn go_on(&mut self) {
        self.phase = if (self.cursor as usize) < self.plan.steps.len() {
            Phase::Ready
        } else if self.exceptions.is_empty() {
            let summary = format!("all {} steps done", self.plan.steps.len());
            Phase::Settling(Settle::End { state: RunState::Succeeded, summary, at: Standing::Step })
        } else {
            cov_mark::hit!(i10_exceptions_are_told);
            let summary = format!("done, except: {}", self.exceptions.join("; "));
            let state = RunState::SucceededWithExceptions;
            Phase::Settling(Settle::End { state, summary, at: Standing::Step })
        };
    }

    /// Leaves the step at the cursor behind.
    pub(crate) fn advance(&mut self) {
        self.cursor += 1;
        self.go_on();
    }

    fn created(
        &mut self,
        plan: &Plan,
        by: &Actor,
        ask: Option<Span>,
        approvals: &Approvals,
        at: Timestamp,
    ) -> Applied {
        if self.phase != Phase::Unrecorded || *plan != *self.plan {
            return Err(Misfit);
        }
        if let Some(expires) = ask {
            self.phase = Phase::Awaiting { expires_at: at + expires };
            self.approvals.clone_from(approvals);
            self.note(match approvals.asks_several() {
                false => "nothing is done until a person approves".to_owned(),
                true => format!("nothing is done until {approvals}"),
            });
        } else if approvals.asks_several() {
            // Nobody was asked.
            return Err(Misfit);
        } else {
            self.approved = Some(Approved::recorded(&self.plan, by).map_err(|_| Misfit)?);
            self.go_on();
        }
        Ok(())
    }

    fn consent(&mut self, by: &Actor, plan: &PlanId, reason: &str, voice: &Voice, at: Timestamp) -> Applied {
        let approved = Approved::named(&self.plan, plan).map_err(|_| Misfit)?;
        if matches!(by, Actor::Automatic) {
            return Err(Misfit);
        }
        if !matches!(self.phase, Phase::Awaiting { .. } | Phase::Asking { .. }) {
            return Err(Misfit);
        }
        let (approvals, is_enough) = self.approvals.after(voice).map_err(|_| Misfit)?;
        self.approvals = approvals;
        if *voice == Voice::Alone && self.approvals.asks_several() {
            let (by, reason) = (by.clone(), reason.to_owned());
            self.alone.push(Alone { sequence: self.sequence, at, by, reason });
        }
        if !is_enough {
            cov_mark::hit!(one_of_two_is_not_enough);
            self.note(format!("nothing is done until {}", self.approvals));
            return Ok(());
        }
        match self.phase {
            Phase::Awaiting { .. } => {
                self.approved = Some(approved);
                self.go_on();
            }
            Phase::Asking { .. } => {
                let cursor = self.cursor;
                let who = match voice {
                    Voice::Proven { .. } if self.approvals.asks_several() => self.approvals.names(),
                    _ => by.to_string(),
                };
                let step = self.step_mut(cursor);
                step.status = StepStatus::Done;
                step.ended_at = Some(at);
                step.summary = format!("approved by {who}: {reason}");
                self.advance();
            }
            _ => return Err(Misfit),
        }
        self.approved_by_person = true;
        Ok(())
    }

    /// A person said no, or nobody said anything. Before anything changed that is the end; later, leaving the world
    /// half moved without a word would be worse, so that the step's policy applies, except that silence or a no never
    /// count as a pass.
    fn declined(&mut self, state: RunState, why: String, at: Timestamp) -> Applied {
        match self.phase {
            Phase::Awaiting { .. } => {}
            Phase::Asking { .. } => {
                let cursor = self.cursor;
                let step = self.step_mut(cursor);
                step.status = StepStatus::Failed;
                step.ended_at = Some(at);
                step.summary.clone_from(&why);
                if self.anything_touched() {
                    self.give_up_question(&why);
                    return Ok(());
                }
            }
            _ => return Err(Misfit),
        }
        self.phase = Phase::Settling(Settle::End { state, summary: why, at: Standing::Step });
        Ok(())
    }

    fn step_started(&mut self, index: u32, attempt: u32, at: Timestamp) -> Applied {
        let ready = matches!(self.phase, Phase::Ready | Phase::Backoff { .. });
        if !ready || index != self.cursor || attempt != self.steps[index as usize].attempts + 1 {
            return Err(Misfit);
        }
        let step = self.step_mut(index);
        step.attempts = attempt;
        step.status = StepStatus::Running;
        step.started_at.get_or_insert(at);
        step.ended_at = None;
        step.summary.clear();
        self.phase = Phase::Stepping { attempt };
        if let StepKind::Approve { message, expires, approvals } = &self.step(index).kind {
            let (message, expires_at) = (message.clone(), at + *expires);
            // Whoever began the run has not agreed to this by it.
            self.approvals = Approvals::of(*approvals);
            self.phase = Phase::Asking { expires_at };
            self.note(message);
        }
        Ok(())
    }

    fn step_done(&mut self, index: u32, attempt: u32, outcome: &StepOutcome, at: Timestamp) -> Applied {
        if self.phase != (Phase::Stepping { attempt }) || index != self.cursor {
            return Err(Misfit);
        }
        let reversible = self.step(index).reversal != Reversal::Nothing;
        let step = self.step_mut(index);
        if reversible && outcome.changed {
            step.touch(Touched::Yes);
        }
        step.status = StepStatus::Done;
        step.ended_at = Some(at);
        step.summary.clone_from(&outcome.summary);
        step.measurements.clone_from(&outcome.measurements);
        step.published_partial.clone_from(&outcome.published_partial);
        let id = self.step(index).id.clone();
        self.exceptions.extend(outcome.exception.iter().map(|why| format!("{id}: {why}")));
        self.advance();
        Ok(())
    }

    fn step_failed(&mut self, index: u32, attempt: u32, failure: &StepFailure, at: Timestamp) -> Applied {
        let fenced = failure.kind == FailureNature::Fenced;
        if self.phase != (Phase::Stepping { attempt }) || index != self.cursor || fenced {
            return Err(Misfit);
        }
        self.cut_short(&failure.message, at);
        let step = self.step_mut(index);
        step.failures += 1;
        step.measurements.clone_from(&failure.measurements);
        self.after_failure(failure, at);
        Ok(())
    }

    /// The attempt at the cursor ended without success: its effect may be there in part.
    fn cut_short(&mut self, why: &str, at: Timestamp) {
        let cursor = self.cursor;
        let reversible = self.step(cursor).reversal != Reversal::Nothing;
        let step = self.step_mut(cursor);
        if reversible {
            step.touch(Touched::Maybe);
        }
        step.status = StepStatus::Failed;
        step.ended_at = Some(at);
        why.clone_into(&mut step.summary);
    }

    fn skipped(&mut self, index: u32, by: &Actor, reason: &str, at: Timestamp) -> Applied {
        if matches!(by, Actor::Automatic) || index as usize >= self.steps.len() {
            return Err(Misfit);
        }
        let id = self.step(index).id.clone();
        match self.phase {
            Phase::Backoff { .. } | Phase::Held { at: Standing::Step, .. } if index == self.cursor => {
                self.exceptions.push(format!("{id} skipped by {by}: {reason}"));
                let step = self.step_mut(index);
                step.status = StepStatus::Skipped;
                step.ended_at = Some(at);
                step.summary = format!("skipped by {by}: {reason}");
                self.advance();
            }
            Phase::Held { at: Standing::Undo(standing), .. } if index == standing => {
                self.left_in_place.push(format!("{id} left in place by {by}: {reason}"));
                self.undo_after(index);
            }
            _ => return Err(Misfit),
        }
        Ok(())
    }

    fn paused(&mut self, by: &Actor, reason: &str, at: Timestamp) -> Applied {
        let standing = match &self.phase {
            Phase::Settling(Settle::Pause { at, .. }) if matches!(by, Actor::Automatic) => *at,
            Phase::Ready | Phase::Backoff { .. } => Standing::Step,
            Phase::Stepping { .. } => {
                self.cut_short("stopped by a pause", at);
                if self.is_at_most_once() {
                    // Held like any other pause, a mere `resume` would do it a second time.
                    self.doubt(&format!("paused by {by}: {reason}"));
                    return Ok(());
                }
                Standing::Step
            }
            Phase::UndoReady { step } | Phase::UndoBackoff { step, .. } | Phase::Undoing { step, .. } => {
                Standing::Undo(*step)
            }
            _ => return Err(Misfit),
        };
        self.phase = Phase::Held { hold: Hold::Paused, at: standing };
        self.held_by_person = matches!(by, Actor::Person { .. });
        match by {
            Actor::Automatic => self.note(reason),
            Actor::Person { .. } => self.note(format!("paused by {by}: {reason}")),
        }
        Ok(())
    }

    /// The step that stood is tried afresh: its attempts count on, its budget is whole again.
    fn resumed(&mut self) -> Applied {
        match self.phase {
            Phase::Held { at: Standing::Step, .. } => {
                let cursor = self.cursor;
                self.step_mut(cursor).begin_afresh();
                self.go_on();
            }
            Phase::Held { at: Standing::Undo(step), .. } => self.undo_below(step + 1),
            _ => return Err(Misfit),
        }
        Ok(())
    }

    fn aborted(&mut self, by: &Actor, reason: &str, roll_back: bool, at: Timestamp) -> Applied {
        let mut why = match by {
            Actor::Automatic => reason.to_owned(),
            Actor::Person { .. } => format!("aborted by {by}: {reason}"),
        };
        match &self.phase {
            Phase::Awaiting { .. } => return self.stop(why, Standing::Step),
            Phase::Stepping { .. } => {
                self.cut_short("stopped by an abort", at);
                if self.is_at_most_once() {
                    why = format!("{why}; {} may have been done or not", self.step(self.cursor).id);
                }
            }
            Phase::Asking { .. }
            | Phase::Ready
            | Phase::Backoff { .. }
            | Phase::Held { at: Standing::Step, .. } => {}
            Phase::UndoReady { step }
            | Phase::UndoBackoff { step, .. }
            | Phase::Undoing { step, .. }
            | Phase::Held { at: Standing::Undo(step), .. }
                if !roll_back =>
            {
                let standing = Standing::Undo(*step);
                return self.stop(why, standing);
            }
            _ => return Err(Misfit),
        }
        if !roll_back {
            return self.stop(why, Standing::Step);
        }
        self.cause = Some(why);
        self.to_last_good = matches!(by, Actor::Automatic);
        self.undo_below(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Can the step at the cursor be neither observed nor repeated?
    fn is_at_most_once(&self) -> bool {
        self.step(self.cursor).kind.repeatability() == Repeatability::AtMostOnce
    }

    fn stop(&mut self, summary: String, at: Standing) -> Applied {
        self.phase = Phase::Settling(Settle::End { state: RunState::Aborted, summary, at });
        Ok(())
    }

    /// A new leader goes on. What was under way has an outcome that nobody knows: an observable or keyed step is tried
    /// again, anything else needs a person. So does a step that has taken down leader after leader.
    fn taken_over(&mut self) -> Applied {
        match self.phase {
            Phase::Unrecorded | Phase::Over(_) => Err(Misfit),
            Phase::Stepping { .. } => {
                let cursor = self.cursor;
                let kind = self.step(cursor).kind.clone();
                let reversible = self.step(cursor).reversal != Reversal::Nothing;
                let waits = matches!(kind, StepKind::Wait { .. });
                let step = self.step_mut(cursor);
                step.takeovers += u32::from(!waits);
                if reversible {
                    step.touch(Touched::Maybe);
                }
                let takeovers = step.takeovers;
                self.after_takeover(kind.repeatability(), takeovers, Standing::Step, Phase::Ready);
                Ok(())
            }
            Phase::Undoing { step, .. } => {
                self.step_mut(step).takeovers += 1;
                let takeovers = self.steps[step as usize].takeovers;
                let again = Phase::UndoReady { step };
                self.after_takeover(Repeatability::Observable, takeovers, Standing::Undo(step), again);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn after_takeover(&mut self, repeatability: Repeatability, takeovers: u32, at: Standing, again: Phase) {
        let summary = match repeatability {
            Repeatability::AtMostOnce => return self.doubt("a leader was lost in the middle of it"),
            _ if takeovers > TAKEOVERS_PER_STEP_MAX => {
                cov_mark::hit!(a_poison_step_stops);
                format!(
                    "{takeovers} leaders were lost in the middle of this step, {TAKEOVERS_PER_STEP_MAX} allowed"
                )
            }
            Repeatability::Observable | Repeatability::Keyed => {
                self.phase = again;
                return;
            }
        };
        self.phase = Phase::Settling(Settle::End { state: RunState::NeedsOperator, summary, at });
    }

    fn ended(&mut self, state: RunState, summary: &str, at: Timestamp) -> Applied {
        let Phase::Settling(Settle::End { state: due, at: standing, .. }) = &self.phase else {
            return Err(Misfit);
        };
        if *due != state {
            return Err(Misfit);
        }
        let standing = *standing;
        self.note(summary);
        if state.is_final() {
            self.ended_at = Some(at);
            self.phase = Phase::Over(state);
        } else {
            self.phase = Phase::Held { hold: Hold::NeedsOperator, at: standing };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use drover_model::Epoch;
    use drover_model::plan::{Plan, Step};
    use std::sync::Arc;

    fn plan() -> Plan {
        let step = r#"{"id":"1-notify","kind":{"kind":"notify","message":"m"},"timeout":"1s","attempts":1,
            "backoff":"1s","on_failure":"abort","reversal":{"reversal":"nothing"}}"#;
        let step: Step = serde_json::from_str(step).unwrap();
        let head = r#"{"schema":1,"id":"plan-0","intent":{"purpose":"drain","services":[],"region":"eu-west","to":null,
            "automatic":false,"hold_for":null,"reason":""},"services":[],"runbook":"r","base":{},"steps":[]}"#;
        let mut plan: Plan = serde_json::from_str(head).unwrap();
        plan.steps.push(step);
        plan
    }

    #[test]
    fn a_step_that_can_be_neither_observed_nor_repeated_stops_for_a_person() {
        let mut progress = Progress::new(Arc::new(plan()), Epoch::default(), Timestamp::from_millis(0));
        progress.after_takeover(Repeatability::AtMostOnce, 1, Standing::Step, Phase::Ready);
        let Phase::Settling(Settle::End { state, .. }) = progress.phase else {
            panic!("went on: {:?}", progress.phase);
        };
        assert_eq!(state, RunState::NeedsOperator);
        for repeatability in [Repeatability::Observable, Repeatability::Keyed] {
            progress.after_takeover(repeatability, 1, Standing::Step, Phase::Ready);
            assert_eq!(progress.phase, Phase::Ready);
        }
    }
}
