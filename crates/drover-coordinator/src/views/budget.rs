//! The time that a run still needs, so that an objective which can't be met is told at once and not when it is over.

use drover_core::plan::by_design;
use drover_model::api::{RunView, StepView};
use drover_model::journal::RunState;
use drover_model::plan::{Step, StepKind};
use drover_model::{Span, Timestamp};

/// What the steps ahead take: by design, or as they usually do where that is longer, less what the step under way has
/// had of it. Nothing for a run that is over or goes back.
pub(crate) fn remaining(view: &RunView, now: Timestamp) -> Option<Span> {
    let state = view.summary.state;
    if state.is_final() || state == RunState::RollingBack {
        return None;
    }
    let steps = view.plan.steps.iter().zip(&view.steps);
    Some(steps.map(|(step, shown)| of_step(step, shown, now)).fold(Span::ZERO, Span::plus))
}

fn of_step(step: &Step, shown: &StepView, now: Timestamp) -> Span {
    // The objective is one of recovery, which was proven before.
    if matches!(step.kind, StepKind::Drained { .. }) {
        return Span::ZERO;
    }
    let whole = by_design(&step.kind).max(shown.usual.unwrap_or_default());
    match shown.state.as_str() {
        "done" | "skipped" => Span::ZERO,
        "running" => whole.minus(shown.started_at.map(|t| now.since(t)).unwrap_or_default()),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::runbook::OnFailure;

    fn step(kind: &str) -> Step {
        let text = format!(
            r#"{{"id":"1","kind":{kind},"timeout":"1s","attempts":1,"backoff":"1s","on_failure":"abort",
               "reversal":{{"reversal":"nothing"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn shown(state: &str, usual: Option<u64>) -> StepView {
        StepView {
            id: "1".into(),
            state: state.into(),
            attempts: 1,
            attempts_max: 1,
            started_at: Some(Timestamp::from_millis(0)),
            ended_at: None,
            usual: usual.map(Span::from_secs),
            summary: String::new(),
            on_failure: OnFailure::Abort,
            measurements: vec![],
            shares: vec![],
            published_partial: vec![],
        }
    }

    #[test]
    fn a_step_is_reckoned_by_design_or_as_usual_less_what_it_has_had() {
        let wait = step(r#"{"kind":"wait","span":"45s","why":"caches"}"#);
        let publish = step(r#"{"kind":"notify","message":"m"}"#);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let table = [
            (&wait, shown("pending", None), 45),
            (&wait, shown("pending", Some(50)), 50),
            (&wait, shown("running", None), 35),
            (&wait, shown("failed", None), 45),
            (&wait, shown("done", Some(50)), 0),
            (&wait, shown("skipped", None), 0),
            (&publish, shown("pending", None), 0),
            (&publish, shown("pending", Some(7)), 7),
            (&publish, shown("running", Some(7)), 0),
        ];
        for (step, shown, seconds) in table {
            assert_eq!(of_step(step, &shown, at(10)), Span::from_secs(seconds), "{shown:?}");
        }
    }
}
