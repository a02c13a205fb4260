//! Which words stand out. Each says the same without its colour.

use crate::output::paint::{Tone, paint};
use drover_model::api::Severity;
use drover_model::decision::{OpinionState, VantageState, VerdictState};
use drover_model::journal::{CheckOutcome, RunState};

/// How bad a line is: `!!`, `!` or `-`.
pub fn severity(severity: Severity) -> String {
    match severity {
        Severity::Critical => paint(Tone::Bad, "!!"),
        Severity::Warning => paint(Tone::Doubtful, "!"),
        Severity::Info => "-".to_owned(),
    }
}

/// A verdict.
pub fn verdict(state: VerdictState) -> String {
    let tone = match state {
        VerdictState::Healthy => Tone::Good,
        VerdictState::Degraded | VerdictState::Partitioned | VerdictState::Unknown => Tone::Doubtful,
        VerdictState::Unreachable | VerdictState::Down => Tone::Bad,
    };
    paint(tone, state)
}

/// An opinion.
pub fn opinion(state: OpinionState) -> String {
    let tone = match state {
        OpinionState::Healthy => Tone::Good,
        OpinionState::Failing => Tone::Bad,
        OpinionState::Unknown => Tone::Doubtful,
    };
    paint(tone, state)
}

/// Whether a vantage may speak.
pub fn vantage(state: VantageState) -> String {
    paint(if state.counts() { Tone::Good } else { Tone::Doubtful }, state)
}

/// Where a run stands.
pub fn run(state: RunState) -> String {
    let tone = match state {
        RunState::Succeeded => Tone::Good,
        RunState::Running | RunState::Validating => Tone::Strong,
        RunState::AwaitingApproval | RunState::NeedsOperator | RunState::Paused | RunState::Aborted => {
            Tone::Bad
        }
        RunState::SucceededWithExceptions
        | RunState::RollingBack
        | RunState::RolledBack
        | RunState::Rejected
        | RunState::ExpiredUnapproved => Tone::Doubtful,
    };
    paint(tone, state)
}

/// Where a step stands.
pub fn step(state: &str) -> String {
    match state {
        "done" => paint(Tone::Good, state),
        "failed" => paint(Tone::Bad, state),
        "running" => paint(Tone::Strong, state),
        "skipped" | "undone" => paint(Tone::Doubtful, state),
        other => other.to_owned(),
    }
}

/// What a measurement came to.
pub fn outcome(outcome: CheckOutcome) -> String {
    let tone = match outcome {
        CheckOutcome::Noted => Tone::Quiet,
        CheckOutcome::Pass => Tone::Good,
        CheckOutcome::Inconclusive | CheckOutcome::Error => Tone::Doubtful,
        CheckOutcome::Fail => Tone::Bad,
    };
    paint(tone, outcome)
}

/// A guard: `ok` or `NO`.
pub fn guard(passed: bool) -> String {
    if passed { paint(Tone::Good, "ok") } else { paint(Tone::Bad, "NO") }
}
