//! What follows a failure: another attempt, or what the runbook says.
//!
//! | failure | then |
//! | --- | --- |
//! | retryable, attempts left | the same step again, after a pause that doubles |
//! | inconclusive | hold, unless the runbook says `continue`: no data is neither a pass nor a failure (I10) |
//! | retryable with no attempts left, or permanent | `on_failure` |
//! | uncertain | a person, whatever the runbook says: it may have been done, and doing it again may harm (I1) |
//! | fenced | nothing at all: a newer leader owns the run, and this one may not write (I3) |

use crate::progress::{Phase, Progress, Settle, Standing};
use drover_model::journal::{FailureNature, RunState, StepFailure};
use drover_model::plan::Step;
use drover_model::runbook::OnFailure;
use drover_model::{Span, Timestamp};

/// The pause between attempts doubles up to this, unless the runbook begins with a longer one: ten minutes is the
/// longest that an on-call should have to wait to see whether the next attempt works.
pub const BACKOFF_MAX: Span = Span::from_mins(10);

/// Leaders that may be lost in the middle of one step before a person is asked: a step that kills its leader would
/// otherwise kill each of them in turn. Five, because a rolling restart of five replicas during a long validation is
/// ordinary work.
pub const TAKEOVERS_PER_STEP_MAX: u32 = 5;

/// When a step that has just failed for the `failures`-th time in a row is tried again.
pub(crate) fn retry_at(step: &Step, failures: u32, failed_at: Timestamp) -> Timestamp {
    let doublings = failures.saturating_sub(1).min(20); // 2^20 backoffs are past any cap.
    let pause = step.backoff.times(1 << doublings).min(BACKOFF_MAX.max(step.backoff));
    failed_at + pause
}

impl Progress {
    /// The attempt at the cursor has failed: what now?
    pub(crate) fn after_failure(&mut self, failure: &StepFailure, at: Timestamp) {
        let step = self.step(self.cursor);
        let failures = self.steps[self.cursor as usize].failures;
        let why = format!("{} failed: {}", step.id, failure.message);
        match failure.kind {
            FailureNature::Retryable if failures < step.attempts => {
                self.phase = Phase::Backoff { retry_at: retry_at(step, failures, at) };
            }
            FailureNature::Inconclusive => {
                cov_mark::hit!(i10_inconclusive_holds);
                let why = format!("{} is inconclusive: {}", step.id, failure.message);
                match step.on_failure {
                    OnFailure::Continue => self.except(why),
                    OnFailure::Abort | OnFailure::RollBack | OnFailure::Pause => self.hold(why),
                }
            }
            FailureNature::Uncertain => self.doubt(&failure.message),
            FailureNature::Retryable | FailureNature::Permanent | FailureNature::Fenced => self.give_up(why),
        }
    }

    /// The step at the cursor may have been done or not, and nothing but a person can find out (I1).
    pub(crate) fn doubt(&mut self, why: &str) {
        cov_mark::hit!(i1_uncertain_needs_an_operator);
        let id = &self.step(self.cursor).id;
        let summary = format!(
            "{id} may have been done or not ({why}), and can be neither observed nor repeated: skip it if it was done, \
             resume to do it"
        );
        self.phase =
            Phase::Settling(Settle::End { state: RunState::NeedsOperator, summary, at: Standing::Step });
    }

    /// The step has failed for good.
    fn give_up(&mut self, why: String) {
        match self.step(self.cursor).on_failure {
            OnFailure::Abort => {
                let (state, summary) = if self.anything_touched() {
                    (RunState::NeedsOperator, format!("{why}; earlier changes stay in place"))
                } else {
                    (RunState::Aborted, format!("{why}; nothing was changed"))
                };
                self.phase = Phase::Settling(Settle::End { state, summary, at: Standing::Step });
            }
            OnFailure::RollBack => self.phase = Phase::Settling(Settle::RollBack { reason: why }),
            OnFailure::Pause => self.hold(why),
            OnFailure::Continue => self.except(why),
        }
    }

    /// A question was not answered with yes: its policy, but going on is not one of the choices.
    pub(crate) fn give_up_question(&mut self, why: &str) {
        let why = format!("{}: {why}", self.step(self.cursor).id);
        match self.step(self.cursor).on_failure {
            OnFailure::Continue => self.hold(why),
            OnFailure::Abort | OnFailure::RollBack | OnFailure::Pause => self.give_up(why),
        }
    }

    fn hold(&mut self, reason: String) {
        self.phase = Phase::Settling(Settle::Pause { reason, at: Standing::Step });
    }

    fn except(&mut self, why: String) {
        self.exceptions.push(why);
        self.advance();
    }
}
