//! A plan, or why there is none, on one screen: what `drover-core` says, with the words painted that decide.

use crate::output::paint::{Tone, paint};
use crate::output::{Look, table};
use drover_model::api::PlanView;
use drover_model::reason::Reason;

/// The screen.
pub fn render(view: &PlanView, look: &Look) -> String {
    let diff = drover_core::diff::render(&view.planned, look.width);
    let mut text: String = diff.lines().map(|line| format!("{}\n", painted(line))).collect();
    // What a guard said stands above already.
    let told = |r: &Reason| view.planned.guards.iter().any(|g| g.reason == *r);
    for reason in view.planned.refusals.iter().filter(|r| !told(r)) {
        text.push_str(&table::hanging(look, vec![vec![paint(Tone::Bad, "refused"), reason.to_string()]]));
    }
    text
}

fn painted(line: &str) -> String {
    let mark = |tone, word: &str| line.replacen(word, &paint(tone, word), 1);
    match line.trim_start() {
        l if l.starts_with("NO ") => mark(Tone::Bad, "NO"),
        l if l.starts_with("LEFT ") => mark(Tone::Doubtful, "LEFT"),
        l if l.starts_with("OVER ") => mark(Tone::Bad, "OVER"),
        l if l.starts_with("ok ") => mark(Tone::Good, "ok"),
        l if l.starts_with("no plan") => mark(Tone::Bad, "no plan"),
        l if l.starts_with("plan-") => line.split_once(' ').map_or_else(
            || paint(Tone::Strong, line),
            |(id, rest)| format!("{} {rest}", paint(Tone::Strong, id)),
        ),
        l if l.starts_with("----") => paint(Tone::Doubtful, line),
        l if l.contains("(too much)") => mark(Tone::Bad, "(too much)"),
        l if l.starts_with("estimate") && l.contains(" OVER ") => mark(Tone::Doubtful, "OVER"),
        _ => line.to_owned(),
    }
}
