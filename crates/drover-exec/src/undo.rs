//! Undoing: the steps that changed something, or may have, in reverse order.
//!
//! A step cut short is undone like one that was done, since an undo observes first. The first step that cannot be
//! undone stops the way back: below the point of no return nothing is touched without a person. A ramp is not undone at
//! all when it fails: it goes back to the last share that was validated, by one undo, and what that undo finds decides
//! whether the region keeps it or is taken out, because it is down.

use crate::policy::retry_at;
use crate::progress::{Phase, Progress, Settle, Standing, StepProgress, StepStatus, Touched};
use crate::transitions::{Applied, Misfit};
use drover_model::Timestamp;
use drover_model::journal::{FailureNature, RunState, StepFailure, StepOutcome};
use drover_model::plan::{Reversal, Step, StepKind};

impl Progress {
    pub(crate) fn rollback_begun(&mut self, reason: &str) -> Applied {
        if !matches!(self.phase, Phase::Settling(Settle::RollBack { .. })) {
            return Err(Misfit);
        }
        self.cause = Some(reason.to_owned());
        self.to_last_good = true;
        self.undo_below(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Goes on with the last step before `end` that is to be undone.
    pub(crate) fn undo_below(&mut self, end: u32) {
        let touched = (0..end).rev().find(|i| self.steps[*i as usize].touched != Touched::No);
        let Some(index) = touched else {
            return self.all_undone();
        };
        self.step_mut(index).begin_afresh();
        let id = &self.step(index).id;
        let stop = match self.step(index).reversal {
            Reversal::RestoreWeights { .. } | Reversal::StepBack { .. } => {
                self.phase = Phase::UndoReady { step: index };
                return;
            }
            Reversal::ForwardOnly => format!("{id} cannot be undone: from there the way is forward"),
            Reversal::AskOperator => format!("only a person can say how to undo {id}"),
            // Such a step is never marked as touched; were it so, there would be nothing to do for it.
            Reversal::Nothing => return self.undo_below(index),
        };
        cov_mark::hit!(forward_only_is_not_undone);
        let summary = format!("{stop}; {}", self.because());
        self.phase = Phase::Settling(Settle::End {
            state: RunState::NeedsOperator,
            summary,
            at: Standing::Undo(index),
        });
    }

    /// Does the way back end with this step? What a ramp validated before it stays, unless a person wants all of it undone.
    fn ends_at(&self, index: u32) -> bool {
        self.to_last_good && matches!(self.step(index).reversal, Reversal::StepBack { .. })
    }

    /// Was what this stage published validated since, so that it is itself the last good one?
    pub(crate) fn keeps(&self, index: u32) -> bool {
        let after = self.plan.steps.iter().zip(&self.steps).skip(index as usize + 1);
        let until_next = after.take_while(|(step, _)| !matches!(step.kind, StepKind::ShiftTraffic { .. }));
        let validated = |(step, progress): (&Step, &StepProgress)| {
            matches!(step.kind, StepKind::Validate { .. }) && progress.status == StepStatus::Done
        };
        self.ends_at(index) && until_next.into_iter().any(validated)
    }

    /// Goes on below a step that was undone or left in place.
    pub(crate) fn undo_after(&mut self, index: u32) {
        if self.ends_at(index) {
            cov_mark::hit!(rolled_back_to_the_last_good_share);
            return self.all_undone();
        }
        self.undo_below(index);
    }

    fn because(&self) -> String {
        format!("rolling back because {}", self.cause.as_deref().unwrap_or("a person asked for it"))
    }

    /// A run with something left in place was not rolled back, whatever was wished.
    fn all_undone(&mut self) {
        let led_to =
            self.led_to.as_ref().map(|to| format!(" to the last good share ({to})")).unwrap_or_default();
        let (state, summary) = if self.left_in_place.is_empty() {
            (
                RunState::RolledBack,
                format!("rolled back{led_to} because {}", self.cause.as_deref().unwrap_or("of an abort")),
            )
        } else {
            (RunState::Aborted, format!("{}; {}", self.left_in_place.join("; "), self.because()))
        };
        self.phase = Phase::Settling(Settle::End { state, summary, at: Standing::Step });
    }

    pub(crate) fn undo_started(&mut self, index: u32, attempt: u32) -> Applied {
        match self.phase {
            Phase::UndoReady { step } | Phase::UndoBackoff { step, .. } if step == index => {}
            _ => return Err(Misfit),
        }
        if attempt != self.steps[index as usize].undo_attempts + 1 {
            return Err(Misfit);
        }
        self.step_mut(index).undo_attempts = attempt;
        self.phase = Phase::Undoing { step: index, attempt };
        Ok(())
    }

    pub(crate) fn undo_done(
        &mut self,
        index: u32,
        attempt: u32,
        outcome: &StepOutcome,
        at: Timestamp,
    ) -> Applied {
        if self.phase != (Phase::Undoing { step: index, attempt }) {
            return Err(Misfit);
        }
        let stays = self.keeps(index) && !outcome.changed;
        if self.ends_at(index) {
            self.led_to = Some(outcome.summary.clone());
        }
        let step = self.step_mut(index);
        step.touched = Touched::No;
        // What was good and stays was not undone.
        if !stays {
            step.status = StepStatus::Undone;
            step.ended_at = Some(at);
            step.summary.clone_from(&outcome.summary);
            step.published_partial.clone_from(&outcome.published_partial);
        }
        self.undo_after(index);
        Ok(())
    }

    pub(crate) fn undo_failed(
        &mut self,
        index: u32,
        attempt: u32,
        failure: &StepFailure,
        at: Timestamp,
    ) -> Applied {
        if self.phase != (Phase::Undoing { step: index, attempt }) || failure.kind == FailureNature::Fenced {
            return Err(Misfit);
        }
        let step = self.step_mut(index);
        step.failures += 1;
        step.ended_at = Some(at);
        step.summary = format!("undo failed: {}", failure.message);
        let failures = step.failures;
        let step = self.step(index);
        if failure.kind == FailureNature::Retryable && failures < step.attempts {
            self.phase = Phase::UndoBackoff { step: index, retry_at: retry_at(step, failures, at) };
            return Ok(());
        }
        cov_mark::hit!(both_failures_are_told);
        let summary = format!("undo of {} failed: {}; {}", step.id, failure.message, self.because());
        let (state, at) = (RunState::NeedsOperator, Standing::Undo(index));
        self.phase = Phase::Settling(Settle::End { state, summary, at });
        Ok(())
    }
}
