//! Configuration changes and runbooks.

use crate::output::paint::{Tone, paint};
use crate::output::words::span;
use crate::output::{Look, table};
use drover_model::config::diff::Change;
use drover_model::runbook::{OnFailure, Runbook, RunbookStep, RunbookStepKind, WaitFor};

/// What a directory would change.
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no changes\n".to_owned();
    }
    let tone = |c: &Change| match (&c.old, &c.new) {
        (None, _) => Tone::Good,
        (_, None) => Tone::Bad,
        _ => Tone::Doubtful,
    };
    let painted = |c: &Change| {
        let line = c.to_string();
        let (sign, rest) = line.split_at(1);
        format!("{}{rest}\n", paint(tone(c), sign))
    };
    changes.iter().map(painted).collect()
}

/// Runbooks in one line each.
pub fn runbooks(all: &[Runbook], look: &Look) -> String {
    let row = |r: &Runbook| {
        vec![r.name.clone(), r.purpose.to_string(), r.steps.len().to_string(), r.description.clone()]
    };
    table::table(look, &["runbook", "for", "steps", ""], all.iter().map(row).collect())
}

/// One runbook, step by step.
pub fn runbook(r: &Runbook, look: &Look) -> String {
    let mut rows = Vec::new();
    steps(&r.steps, "", &mut rows);
    let title = format!("{} (for {}): {}", paint(Tone::Strong, &r.name), r.purpose, r.description);
    let header = ["", "step", "timeout", "tries", "on failure", ""];
    format!("{}\n{}", table::paragraph(look, &title), table::table(look, &header, rows))
}

fn steps(all: &[RunbookStep], prefix: &str, rows: &mut Vec<Vec<String>>) {
    for (i, s) in all.iter().enumerate() {
        let number = format!("{prefix}{}", i + 1);
        let on_failure = match s.on_failure {
            OnFailure::Abort => "abort",
            OnFailure::RollBack => "roll back",
            OnFailure::Pause => "pause",
            OnFailure::Continue => "go on",
        };
        let note = match &s.kind {
            RunbookStepKind::Wait(WaitFor::Drain) => "until old answers left the caches".to_owned(),
            RunbookStepKind::Wait(WaitFor::Soak) => "for the service's soak".to_owned(),
            RunbookStepKind::Wait(WaitFor::Fixed(time)) => span(*time),
            RunbookStepKind::Drained => "what still reaches the old side".to_owned(),
            RunbookStepKind::Approve(text) | RunbookStepKind::Notify(text) => text.clone(),
            RunbookStepKind::Run(run) => format!("{}: {}", run.repeatability.word(), run.command.join(" ")),
            RunbookStepKind::Ramp(_) => "once for each share of the ramp".to_owned(),
            _ => String::new(),
        };
        let word = s.kind.word().to_owned();
        rows.push(vec![
            number.clone(),
            word,
            span(s.timeout),
            s.attempts.to_string(),
            on_failure.into(),
            note,
        ]);
        if let RunbookStepKind::Ramp(inner) = &s.kind {
            steps(inner, &format!("{number}."), rows);
        }
    }
}
