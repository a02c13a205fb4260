//! `explain`: the sentence first, then what it rests on: vantages, rules, guards, history.

use super::{status, tones};
use crate::output::paint::{Tone, paint};
use crate::output::words::{ago, clock, span, whole};
use crate::output::{Look, table};
use drover_model::api::{EndpointExplanation, ExplainView, ReplayView};
use drover_model::decision::{ActionDecision, DecisionBody, VantageOpinion};
use drover_model::reason::Reason;

/// The whole explanation.
pub fn render(view: &ExplainView, look: &Look) -> String {
    let mut text = table::paragraph(look, &paint(Tone::Strong, &view.sentence));
    if !view.standing.is_empty() {
        text.push('\n');
        text.push_str(&status::rows(&view.standing.iter().collect::<Vec<_>>(), look));
    }
    for e in &view.endpoints {
        text.push('\n');
        text.push_str(&endpoint(e, look));
    }
    // A decision about nothing has guards that say no more than that.
    for d in view.decisions.iter().filter(|d| d.reason != Reason::NothingToDo) {
        text.push('\n');
        text.push_str(&decision(d, look));
    }
    if !view.history.is_empty() {
        let row = |h: &drover_model::api::DecisionSummary| {
            vec![h.id.to_string(), ago(look, h.at), h.sentence.clone()]
        };
        text.push('\n');
        text.push_str(&table::table(
            look,
            &["decided before", "when", "what"],
            view.history.iter().map(row).collect(),
        ));
    }
    text
}

fn endpoint(e: &EndpointExplanation, look: &Look) -> String {
    let v = &e.verdict;
    let since = e.since.map(|t| format!(" since {} ({})", clock(look, t), ago(look, t))).unwrap_or_default();
    let suspect = if v.suspect { ", suspect" } else { "" };
    let mut text = table::paragraph(
        look,
        &format!(
            "{} is {}{since}{suspect}: {}. Rule: {} of {} outside vantages must agree; {} failing, {} healthy, {} abstain",
            e.endpoint,
            tones::verdict(v.state),
            v.reason,
            v.need,
            v.configured,
            v.failing,
            v.healthy,
            v.abstaining
        ),
    );
    let outside = e.inputs.outside.iter().map(|o| opinion(o, "outside"));
    let inside = e.inputs.inside.iter().map(|o| opinion(o, "inside"));
    let header = ["vantage", "view", "speaks", "holds", "in a row", "good", "failed", "last probe"];
    text.push_str(&table::indented(
        &table::table(&table::narrowed(look, 2), &header, outside.chain(inside).collect()),
        2,
    ));
    text
}

fn opinion(o: &VantageOpinion, view: &str) -> Vec<String> {
    let age = o.last_probe_age.map_or_else(|| "none".to_owned(), |a| format!("{} ago", span(whole(a))));
    let failure = match (&o.last_failure, o.last_probe_failed) {
        (Some(kind), true) => format!(", failed: {}", kind),
        (None, true) => ", failed".to_owned(),
        (Some(kind), false) => format!(", good; before: {}", kind),
        (None, false) => String::new(),
    };
    let gray = if o.gray { ", by share" } else { "" };
    vec![
        o.vantage.to_string(),
        view.to_owned(),
        tones::vantage(o.vantage_state),
        format!("{}{gray}", tones::opinion(o.state)),
        o.streak.to_string(),
        o.good.to_string(),
        o.failed.to_string(),
        format!("{age}{failure}"),
    ]
}

fn decision(d: &ActionDecision, look: &Look) -> String {
    let services: Vec<&str> = d.services.iter().map(|s| s.as_str()).collect();
    let again = d.look_again_at.map(|t| format!(", looking again {}", ago(look, t))).unwrap_or_default();
    let of = if services.is_empty() { String::new() } else { format!(" of {}", services.join(", ")) };
    let mut text = table::paragraph(
        look,
        &format!(
            "{}: {} for {}{of}{again}: {}",
            d.region,
            paint(Tone::Strong, d.conclusion),
            d.class,
            d.reason
        ),
    );
    let row = |g: &drover_model::decision::GuardResult| {
        let next = g.reason.next_command().filter(|_| !g.passed);
        let next = next.map(|n| format!("\n{}", paint(Tone::Quiet, n))).unwrap_or_default();
        vec![tones::guard(g.passed), g.guard.clone(), format!("{}{next}", g.reason)]
    };
    if !d.guards.is_empty() {
        let rows = d.guards.iter().map(row).collect();
        text.push_str(&table::indented(
            &table::table(&table::narrowed(look, 2), &["", "guard", "says"], rows),
            2,
        ));
    }
    text
}

/// A stored decision that was run again.
pub fn replay(view: &ReplayView, look: &Look) -> String {
    let d = &view.decision;
    let (tone, word) = if view.same { (Tone::Good, "the same") } else { (Tone::Bad, "DIFFERENT") };
    let mut text =
        table::paragraph(look, &format!("{} run again on its stored inputs: {}", d.id, paint(tone, word)));
    let mut rows =
        vec![vec!["stored".to_owned(), view.stored.clone()], vec!["now".to_owned(), view.now.clone()]];
    rows.push(vec![
        "when".to_owned(),
        format!("{} ({}), epoch {}", clock(look, d.at), ago(look, d.at), d.epoch),
    ]);
    if let DecisionBody::Action { plan, run, .. } = &d.body {
        let of = |what: Option<String>| what.unwrap_or_else(|| "none".to_owned());
        rows.push(vec!["plan".to_owned(), of(plan.as_ref().map(ToString::to_string))]);
        rows.push(vec!["run".to_owned(), of(run.as_ref().map(ToString::to_string))]);
    }
    text.push_str(&table::hanging(look, rows));
    text.push('\n');
    match &d.body {
        DecisionBody::Verdict { inputs, verdict } => {
            let (inputs, verdict) = (inputs.clone(), verdict.clone());
            let e = EndpointExplanation { endpoint: inputs.endpoint.clone(), inputs, verdict, since: None };
            text.push_str(&endpoint(&e, look));
        }
        DecisionBody::Action { decision: d, .. } => text.push_str(&decision(d, look)),
    }
    text
}
