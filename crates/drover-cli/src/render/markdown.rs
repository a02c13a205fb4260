//! A run as an incident timeline to paste: times in UTC, because readers sit in many zones.

use super::run::{time_taken, trigger};
use crate::output::words::{list, span, whole};
use drover_model::api::RunView;
use std::fmt::Write as _;

/// The page.
pub fn render(view: &RunView) -> String {
    let s = &view.summary;
    let mut text = format!("## {}: {} of {} ({})\n\n", s.id, s.purpose, list(&s.services), s.region);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "- **{name}:** {}", escaped(value));
    };
    line("State", &format!("{}: {}", s.state, s.summary));
    line("Begun", &format!("{} by {}, {}", s.started_at, s.by, trigger(&view.trigger)));
    if let Some(ended) = s.ended_at {
        line("Ended", &ended.to_string());
    }
    line("Time", &time_taken(view));
    line("Plan", s.plan.as_str());
    if !view.plan.intent.reason.is_empty() {
        line("Reason", &view.plan.intent.reason);
    }
    for exception in &view.exceptions {
        line("Exception", exception);
    }
    if !s.state.is_final() {
        line("Next", &view.next_decision);
    }
    timeline(view, &mut text);
    steps(view, &mut text);
    text
}

fn timeline(view: &RunView, text: &mut String) {
    text.push_str("\n### Timeline (UTC)\n\n| time | after | what |\n| --- | --- | --- |\n");
    for e in &view.timeline {
        let _ = writeln!(text, "| {} | +{} | {} |", e.at, span(e.after), escaped(&e.sentence));
    }
}

fn steps(view: &RunView, text: &mut String) {
    text.push_str("\n### Steps\n\n| step | state | took | result |\n| --- | --- | --- | --- |\n");
    for s in &view.steps {
        let took = s.started_at.zip(s.ended_at).map(|(a, b)| span(whole(b.since(a)))).unwrap_or_default();
        let mut result = escaped(&s.summary);
        for m in &s.measurements {
            let value = m.value.as_deref().unwrap_or("no data");
            let _ = write!(result, "<br>{} {value} ({}): {}", escaped(&m.name), escaped(&m.bound), m.outcome);
        }
        let _ = writeln!(text, "| {} | {} | {took} | {result} |", s.id, s.state);
    }
}

/// What would end a cell or begin a tag is written out.
fn escaped(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}
