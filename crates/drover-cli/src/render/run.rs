//! Runs: the list, one in full, and the line that follows it.

use super::tones;
use crate::output::paint::{Tone, paint};
use crate::output::words::{ago, clock, list as names, span, whole};
use crate::output::{Look, table};
use drover_model::Timestamp;
use drover_model::api::{RunSummary, RunView, ShareView, StepView, TimelineEntry};
use drover_model::journal::{Measurement, Trigger};
use drover_model::plan::StepKind;
use drover_model::runbook::Purpose;

/// Runs in one line each.
pub fn list(runs: &[RunSummary], look: &Look) -> String {
    let row = |r: &RunSummary| {
        let when = r.ended_at.map_or_else(|| ago(look, r.started_at), |t| format!("ended {}", ago(look, t)));
        let what = format!("{} of {}, {}: {}", r.purpose, names(&r.services), r.region, r.summary);
        vec![r.id.to_string(), tones::run(r.state), when, what]
    };
    table::table(look, &["run", "state", "when", "what"], runs.iter().map(row).collect())
}

/// One run in full.
pub fn show(view: &RunView, look: &Look) -> String {
    let s = &view.summary;
    let mut text = table::paragraph(
        look,
        &format!("{}: {} of {}, {}", paint(Tone::Strong, &s.id), s.purpose, names(&s.services), s.region),
    );
    text.push_str(&table::hanging(look, facts(view, look)));
    text.push('\n');
    text.push_str(&steps(view, look));
    text.push_str(&shares(view, look));
    let measured: Vec<Vec<String>> =
        view.steps.iter().flat_map(|s| s.measurements.iter().map(|m| measurement(&s.id, m))).collect();
    if !measured.is_empty() {
        text.push('\n');
        text.push_str(&table::table(
            look,
            &["measured by", "what", "value", "bound", "samples", ""],
            measured,
        ));
    }
    if !view.timeline.is_empty() {
        let row =
            |e: &TimelineEntry| vec![clock(look, e.at), format!("+{}", span(e.after)), e.sentence.clone()];
        text.push('\n');
        text.push_str(&table::table(
            look,
            &["time", "after", "what happened"],
            view.timeline.iter().map(row).collect(),
        ));
    }
    text
}

fn facts(view: &RunView, look: &Look) -> Vec<Vec<String>> {
    let s = &view.summary;
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        fact("state", format!("{}: {}", tones::run(s.state), s.summary)),
        fact(
            "begun",
            format!(
                "{} ({}) by {}, {}",
                clock(look, s.started_at),
                ago(look, s.started_at),
                s.by,
                trigger(&view.trigger)
            ),
        ),
        fact("time", time_taken(view)),
    ];
    rows.extend(
        view.declared_at.map(|at| fact("declared", since_begun(view, look, at, "live in DNS and verified"))),
    );
    let how = if view.drained_is_assumed { "assumed: nothing measures the traffic" } else { "measured" };
    rows.extend(view.drained_at.map(|at| fact("drained", since_begun(view, look, at, how))));
    if let Some(late) = late(view) {
        rows.push(fact("budget", paint(Tone::Bad, late)));
    }
    rows.push(fact("plan", format!("{} (runbook {})", s.plan, view.plan.runbook)));
    if !view.plan.intent.reason.is_empty() {
        rows.push(fact("reason", view.plan.intent.reason.clone()));
    }
    if let Some(t) = view.expires_at {
        rows.push(fact(
            "asks until",
            format!("{} ({}); no answer is no consent", clock(look, t), ago(look, t)),
        ));
    }
    if view.approvals.asks_several() {
        let so_far = if view.expires_at.is_some() { "so far " } else { "" };
        let (names, needed) = (view.approvals.names(), view.approvals.needed);
        rows.push(fact("approved by", format!("{so_far}{names}, of {needed} people who must agree")));
    }
    if !s.state.is_final() && !view.next_decision.is_empty() {
        rows.push(fact("next", view.next_decision.clone()));
    }
    for exception in &view.exceptions {
        rows.push(fact("exception", paint(Tone::Doubtful, exception)));
    }
    for step in view.steps.iter().filter(|step| !step.published_partial.is_empty()) {
        let missing = names(&step.published_partial);
        rows.push(fact(
            "published_partial",
            paint(Tone::Doubtful, format!("{}: {missing} not reached", step.id)),
        ));
    }
    rows
}

/// A moment of the run, with the time from its first failure (or the command) to then.
fn since_begun(view: &RunView, look: &Look, at: Timestamp, what: &str) -> String {
    let began = match &view.trigger {
        Trigger::Command => view.summary.started_at,
        Trigger::Decision { first_failure_at, .. } => *first_failure_at,
    };
    format!("{} (+{}), {what}", clock(look, at), span(whole(at.since(began))))
}

/// What made it begin, in words.
pub fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Command => "on command".to_owned(),
        Trigger::Decision { decision, class, .. } => format!("for {class} ({decision})"),
    }
}

/// Elapsed time, against the objective where there is one: it is of recovery, and nothing but a failover recovers.
pub fn time_taken(view: &RunView) -> String {
    let (mut elapsed, rto) = (span(whole(view.elapsed)), span(view.rto));
    if view.summary.purpose == Purpose::Failover && view.declared_at.is_some() && !validates(view) {
        elapsed.push_str(" to declared (nothing validates)");
    }
    match (view.summary.purpose, view.elapsed <= view.rto) {
        (Purpose::Failover, true) => format!("{elapsed} within the objective of {rto}"),
        (Purpose::Failover, false) => format!("{elapsed} OVER the objective of {rto}"),
        (Purpose::Failback | Purpose::Drain | Purpose::Undrain, _) => elapsed,
    }
}

fn validates(view: &RunView) -> bool {
    view.plan.steps.iter().any(|s| matches!(s.kind, StepKind::Validate { .. }))
}

/// A ramp: what each stage asked the region to carry, beside what it carried while it was judged.
fn shares(view: &RunView, look: &Look) -> String {
    let row = |step: &StepView, s: &ShareView| {
        let measured = s.measured.map_or_else(|| "not yet".to_owned(), |m| m.to_string());
        vec![
            step.id.clone(),
            s.endpoint.to_string(),
            s.ramp.to_string(),
            s.weight.to_string(),
            s.wanted.to_string(),
            measured,
            s.requests.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> =
        view.steps.iter().flat_map(|step| step.shares.iter().map(move |s| row(step, s))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["stage", "endpoint", "of its share", "weight", "wanted", "measured", "of requests"];
    format!("\n{}", table::table(look, &header, rows))
}

/// That the objective can't be met any more, as soon as it can be known.
pub fn late(view: &RunView) -> Option<String> {
    let late = view.late_by()?;
    let (left, to_go) = (view.rto.minus(view.elapsed), view.remaining.unwrap_or_default());
    Some(format!(
        "LATE by {}: the steps ahead take {}, {} left",
        span(whole(late)),
        span(whole(to_go)),
        span(whole(left))
    ))
}

fn steps(view: &RunView, look: &Look) -> String {
    let row = |s: &StepView| {
        let attempts =
            if s.attempts > 1 { format!("{} of {}", s.attempts, s.attempts_max) } else { String::new() };
        vec![s.id.clone(), tones::step(&s.state), step_time(s, look.now), attempts, s.summary.clone()]
    };
    let header = ["step", "state", "took (usually)", "tries", ""];
    table::table(look, &header, view.steps.iter().map(row).collect())
}

/// How long a step took or has taken, against what it usually takes.
fn step_time(step: &StepView, now: Timestamp) -> String {
    let took = step.started_at.map(|t| step.ended_at.unwrap_or(now).since(t));
    match (took, step.usual) {
        (Some(took), Some(usual)) => format!("{} ({})", span(whole(took)), span(whole(usual))),
        (Some(took), None) => span(whole(took)),
        (None, Some(usual)) => format!("({})", span(whole(usual))),
        (None, None) => String::new(),
    }
}

fn measurement(step: &str, m: &Measurement) -> Vec<String> {
    vec![
        step.to_owned(),
        m.name.clone(),
        m.value.clone().unwrap_or_else(|| "no data".to_owned()),
        m.bound.clone(),
        m.samples.to_string(),
        tones::outcome(m.outcome),
    ]
}

/// One line of a timeline, as it happens.
pub fn happened(entry: &TimelineEntry, look: &Look) -> String {
    let cells = vec![clock(look, entry.at), format!("+{}", span(entry.after)), entry.sentence.clone()];
    table::hanging(look, vec![cells])
}

/// The two lines that follow a run: time against the objective and the current step against its usual time, then what
/// will be decided next.
pub fn progress(view: &RunView, look: &Look) -> String {
    let done = view.steps.iter().filter(|s| matches!(s.state.as_str(), "done" | "skipped")).count();
    let current = view.steps.iter().find(|s| s.state == "running");
    let step = current.map(|s| {
        let took = s.started_at.map(|t| span(whole(look.now.since(t)))).unwrap_or_default();
        let usual = s.usual.map(|u| format!(" (usually {})", span(whole(u)))).unwrap_or_default();
        format!(" | {} {took}{usual}", s.id)
    });
    let objective = match view.summary.purpose {
        Purpose::Failover => format!(" of RTO {}", span(view.rto)),
        Purpose::Failback | Purpose::Drain | Purpose::Undrain => String::new(),
    };
    let late = late(view).map(|l| format!(" {l}")).unwrap_or_default();
    let now = format!(
        "{} {} | {}{objective}{late} | {done}/{}{}",
        view.summary.id,
        view.summary.state,
        span(whole(view.elapsed)),
        view.steps.len(),
        step.unwrap_or_default()
    );
    let next = if view.next_decision.is_empty() { String::new() } else { next(view, look) };
    format!("{}{next}", table::paragraph(look, &now))
}

/// What drover will decide next.
pub fn next(view: &RunView, look: &Look) -> String {
    table::paragraph(look, &format!("next: {}", view.next_decision))
}

/// The last words of whoever followed a run.
pub fn ended(view: &RunView, look: &Look) -> String {
    let s = &view.summary;
    let mut text = table::paragraph(
        look,
        &format!("{} {}: {}; {}", s.id, tones::run(s.state), s.summary, time_taken(view)),
    );
    for exception in &view.exceptions {
        text.push_str(&table::hanging(
            look,
            vec![vec![paint(Tone::Doubtful, "exception"), exception.clone()]],
        ));
    }
    if !s.state.is_final() {
        let next = match s.state {
            drover_model::journal::RunState::AwaitingApproval if view.approvals.asks_several() => {
                format!("somebody else: drover approve {} --reason TEXT", s.id)
            }
            drover_model::journal::RunState::AwaitingApproval => {
                format!("drover approve {} --reason TEXT", s.id)
            }
            _ => format!("drover run show {0}; then drover run resume|skip|abort {0} --reason TEXT", s.id),
        };
        text.push_str(&table::paragraph(look, &next));
    }
    text
}
