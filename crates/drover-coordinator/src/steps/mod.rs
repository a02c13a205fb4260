//! Hands: what each step kind does to the world. Each looks first and does only what is missing, so that doing it
//! again after a crash is harmless (I1). Nothing here chooses: the plan has every detail.

mod preflight;
mod publish;
mod shift;
mod sides;
mod validate;
mod verify;

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::outbox::NewPage;
use drover_exec::{Effects, Order, PageOrder};
use drover_model::api::Severity;
use drover_model::journal::{FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::{Reversal, StepKind};
use std::sync::Arc;

/// The coordinator's hands.
pub struct Hands {
    pub(crate) coordinator: Arc<Coordinator>,
}

pub(crate) fn failed(kind: FailureNature, message: impl Into<String>) -> StepFailure {
    StepFailure { kind, message: message.into(), measurements: Vec::new() }
}

/// A failure of the store, which may pass; but a newer leader's word is final (I3).
fn store_failure(e: CoordinatorError) -> StepFailure {
    match e {
        CoordinatorError::Fenced { .. } => failed(FailureNature::Fenced, e.to_string()),
        e => failed(FailureNature::Retryable, crate::text::chain(&e)),
    }
}

pub(crate) fn done(changed: bool, summary: impl Into<String>, measurements: Vec<Measurement>) -> StepOutcome {
    StepOutcome { changed, summary: summary.into(), measurements }
}

impl Effects for Hands {
    async fn act(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        let c = &self.coordinator;
        tracing::info!(run = %order.run, step = order.step().id, attempt = order.attempt, "step begins");
        let result = match &order.step().kind {
            StepKind::Preflight { predicates } => preflight::act(c, predicates),
            StepKind::VerifyApp { targets } => verify::app(c, targets).await,
            StepKind::ShiftTraffic { changes } => shift::act(c, order, changes).await,
            StepKind::VerifyDns { expected } => verify::dns(c, expected).await,
            StepKind::Validate { targets } => validate::act(c, targets).await,
            StepKind::Notify { message } => notify(c, order, message).await,
            // A matter of time and of people: the state machine takes these itself.
            StepKind::Wait { .. } | StepKind::Approve { .. } => Ok(done(false, "nothing to do", Vec::new())),
        };
        match &result {
            Ok(o) => tracing::info!(run = %order.run, step = order.step().id, "step done: {}", o.summary),
            Err(f) => tracing::warn!(run = %order.run, step = order.step().id, "step failed: {}", f.message),
        }
        result
    }

    async fn undo(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        match &order.step().reversal {
            Reversal::Nothing => Ok(done(false, "nothing to undo", Vec::new())),
            Reversal::RestoreWeights { changes } => shift::undo(&self.coordinator, order, changes).await,
            Reversal::ForwardOnly => {
                Err(failed(FailureNature::Permanent, "this step can't be undone, only carried on"))
            }
            Reversal::AskOperator => {
                Err(failed(FailureNature::Permanent, "only a person can say how to undo this step"))
            }
        }
    }

    fn page(&self, page: &PageOrder) {
        let c = self.coordinator.clone();
        let page = NewPage {
            key: page.key.clone(),
            severity: page_severity(&page.message),
            subject: page.key.split(['/', ':', ' ']).next().unwrap_or_default().to_owned(),
            message: page.message.clone(),
            next: Some("drover run list".into()),
        };
        self.coordinator.tasks.spawn(async move {
            if let Err(e) = c.page(page).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't write a page down");
            }
        });
    }
}

/// How bad what a run tells is. An end as planned and a rejected question need nobody; whatever else a run says means
/// that what it was to mend is not mended, or that it waits for somebody.
fn page_severity(message: &str) -> Severity {
    use drover_model::journal::RunState;
    let ended = |state: RunState| message.contains(&format!(" ended {state}:"));
    if ended(RunState::Succeeded) || ended(RunState::Rejected) {
        Severity::Info
    } else if ended(RunState::SucceededWithExceptions) {
        Severity::Warning
    } else {
        Severity::Critical
    }
}

async fn notify(c: &Coordinator, order: &Order, message: &str) -> Result<StepOutcome, StepFailure> {
    let intent = &order.plan.intent;
    let page = NewPage {
        // The key is the same for every attempt, so that a crash between page and record does not page twice.
        key: order.key.clone(),
        severity: if intent.automatic { Severity::Critical } else { Severity::Info },
        subject: order.run.to_string(),
        message: format!("{}: {message} ({} {})", order.run, intent.purpose, intent.region),
        next: Some(format!("drover run follow {}", order.run)),
    };
    match c.page(page).await {
        Ok(()) => Ok(done(true, "written to the outbox", Vec::new())),
        Err(e) => Err(failed(FailureNature::Retryable, crate::text::chain(&e))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_pages_as_loud_as_what_it_says() {
        assert_eq!(page_severity("run-1 (failover eu-west) ended succeeded: all steps done"), Severity::Info);
        let doubtful = "run-1 (failover eu-west) ended succeeded with exceptions: a step was skipped";
        assert_eq!(page_severity(doubtful), Severity::Warning);
        let aborted = "run-1 (failover eu-west) ended aborted: a check failed";
        assert_eq!(page_severity(aborted), Severity::Critical);
        let stuck = "run-1 (failover eu-west) needs an operator: step 3 failed";
        assert_eq!(page_severity(stuck), Severity::Critical);
        assert_eq!(page_severity("run-1 holds: record 4 could not be written"), Severity::Critical);
    }
}
