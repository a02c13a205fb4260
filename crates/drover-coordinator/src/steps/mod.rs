//! Hands: what each step kind does to the world. Each looks first and does only what is missing, so that doing it
//! again after a crash is harmless (I1). Nothing here chooses: the plan has every detail.

mod drained;
mod preflight;
mod publish;
mod run;
mod shift;
mod sides;
mod step_back;
mod to_the_end;
mod validate;
mod verify;

pub(crate) use publish::ASKED_AT_ONCE;
#[cfg(test)]
pub(crate) use shift::until_some_is_left;
pub(crate) use sides::Moved;

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::outbox::NewPage;
use drover_exec::{Effects, Order, PageAbout, PageOrder};
use drover_model::api::Severity;
use drover_model::journal::{FailureNature, Measurement, RunState, StepFailure, StepOutcome};
use drover_model::plan::{Reversal, StepKind};
use drover_model::runbook::Purpose;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::Instrument as _;

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
        e => failed(FailureNature::Retryable, drover_model::chain(&e)),
    }
}

pub(crate) fn done(changed: bool, summary: impl Into<String>, measurements: Vec<Measurement>) -> StepOutcome {
    StepOutcome { measurements, ..StepOutcome::done(changed, summary) }
}

/// The same, published without these servers.
pub(crate) fn reaching_all_but(missing: BTreeSet<String>, outcome: StepOutcome) -> StepOutcome {
    StepOutcome { published_partial: missing.into_iter().collect(), ..outcome }
}

impl Effects for Hands {
    async fn act(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        self.coordinator.until_it_acts().await;
        self.take(order).instrument(step_span(order, "step")).await
    }

    async fn undo(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        self.coordinator.until_it_acts().await;
        self.take_back(order).instrument(step_span(order, "undo")).await
    }

    fn page(&self, order: &PageOrder) {
        let c = self.coordinator.clone();
        let page = NewPage {
            key: order.key.clone(),
            severity: page_severity(order.about),
            subject: order.run.to_string(),
            message: order.message.clone(),
            next: Some(match order.about {
                PageAbout::Asks => {
                    format!(
                        "drover approve {run} --reason TEXT, or drover reject {run} --reason TEXT",
                        run = order.run
                    )
                }
                PageAbout::Alone | PageAbout::Holds | PageAbout::Ended(_) => {
                    format!("drover run show {}", order.run)
                }
            }),
        };
        self.coordinator.tasks.spawn(async move { c.page_until_written(page).await });
    }
}

/// Every line that is logged inside of a step carries its run, step and attempt.
fn step_span(order: &Order, what: &'static str) -> tracing::Span {
    tracing::info_span!("step", run = %order.run, id = order.step().id, attempt = order.attempt, what)
}

impl Hands {
    async fn take(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        let c = &self.coordinator;
        tracing::info!("begins");
        let result = match &order.step().kind {
            StepKind::Preflight { predicates } => preflight::act(c, order, predicates).await,
            StepKind::VerifyApp { targets } => verify::app(c, targets).await,
            StepKind::ShiftTraffic { changes } => shift::act(c, order, changes).await,
            kind @ StepKind::VerifyDns { .. } => match order.plan.expected_by(kind) {
                Some(expected) => verify::dns(c, order, expected).await,
                None => Err(failed(FailureNature::Permanent, "the plan does not say what DNS must answer")),
            },
            StepKind::Validate { targets } => validate::act(c, targets).await,
            StepKind::Drained { targets, quiet } => drained::act(c, order, targets, *quiet).await,
            StepKind::Notify { message } => notify(c, order, message).await,
            StepKind::Run { command, repeatability, observe } => {
                let runs = run::act(&c.options.launcher, order, command, *repeatability, observe.as_ref());
                // Dropped, it ends the program: a successor finds nothing still at work.
                tokio::select! {
                    done = runs => done,
                    () = c.until_it_acts_no_more() => Err(run::broken_off(*repeatability)),
                }
            }
            // A matter of time and of people: the state machine takes these itself.
            StepKind::Wait { .. } | StepKind::Approve { .. } => Ok(done(false, "nothing to do", Vec::new())),
        };
        match &result {
            Ok(o) => tracing::info!("done: {}", o.summary),
            Err(f) => tracing::warn!("failed: {}", f.message),
        }
        result
    }

    async fn take_back(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        match &order.step().reversal {
            Reversal::Nothing => Ok(done(false, "nothing to undo", Vec::new())),
            Reversal::RestoreWeights { changes } => shift::undo(&self.coordinator, order, changes).await,
            Reversal::StepBack { changes, out } => {
                step_back::undo(&self.coordinator, order, changes, out).await
            }
            Reversal::ForwardOnly => {
                Err(failed(FailureNature::Permanent, "this step can't be undone, only carried on"))
            }
            Reversal::AskOperator => {
                Err(failed(FailureNature::Permanent, "only a person can say how to undo this step"))
            }
        }
    }
}

/// How bad what a run tells is. An end as planned and a rejected question need nobody; whatever else a run says means
/// that what it was to mend is not mended, or that it waits for somebody.
fn page_severity(about: PageAbout) -> Severity {
    match about {
        PageAbout::Ended(RunState::Succeeded | RunState::Rejected) => Severity::Info,
        PageAbout::Ended(RunState::SucceededWithExceptions) => Severity::Warning,
        PageAbout::Asks | PageAbout::Alone | PageAbout::Holds | PageAbout::Ended(_) => Severity::Critical,
    }
}

async fn notify(c: &Coordinator, order: &Order, message: &str) -> Result<StepOutcome, StepFailure> {
    let intent = &order.plan.intent;
    let page = NewPage {
        // The key is the same for every attempt, so that a crash between page and record does not page twice.
        key: order.key.clone(),
        severity: match (intent.automatic, intent.purpose) {
            (true, Purpose::Failover) => Severity::Critical,
            // Drover brings something back by itself: good news, but nobody was asked.
            (true, _) => Severity::Warning,
            (false, _) => Severity::Info,
        },
        subject: order.run.to_string(),
        message: format!("{}: {message} ({} {})", order.run, intent.purpose, intent.region),
        next: Some(format!("drover run follow {}", order.run)),
    };
    match c.page(page).await {
        Ok(()) => Ok(done(true, "written to the outbox", Vec::new())),
        Err(e) => Err(failed(FailureNature::Retryable, drover_model::chain(&e))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_pages_as_loud_as_what_it_says() {
        let ended = |state| page_severity(PageAbout::Ended(state));
        assert_eq!(ended(RunState::Succeeded), Severity::Info);
        assert_eq!(ended(RunState::SucceededWithExceptions), Severity::Warning);
        assert_eq!(ended(RunState::Aborted), Severity::Critical);
        assert_eq!(ended(RunState::ExpiredUnapproved), Severity::Critical);
        assert_eq!(page_severity(PageAbout::Asks), Severity::Critical);
        assert_eq!(page_severity(PageAbout::Holds), Severity::Critical);
        assert_eq!(page_severity(PageAbout::Alone), Severity::Critical);
    }
}
