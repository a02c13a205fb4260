//! The diff is the operator's contract: what changes, what does not (as a count), what the guards said, what will be
//! done, and how long it takes, on one screen at three in the morning.
//!
//! [`changes`] is the data, for whoever renders it otherwise; [`render`] is plain text. Lines are cut to the width,
//! lists to a length that is told, so that a plan of a thousand services still fits.

use crate::plan::point_of_no_return;
use crate::predicates;
use drover_model::decision::GuardResult;
use drover_model::plan::{Acceptance, LoadRow, Plan, Planned, Step, StepKind, TrafficChange};
use drover_model::reason::Reason;
use drover_model::runbook::{OnFailure, Purpose};
use drover_model::units::RequestsPerSecond;
use drover_model::{Percent, RegionId, ServiceId, Weight, Weights};
use std::fmt::Write as _;

#[cfg(test)]
mod tests;

/// Lines that each list may take, so that all fit on 40 lines: 8 of traffic, 8 of guards, 12 of steps, and 11 of
/// headings, counts of what was left out, the line of no return and estimates.
const ROWS_MAX: usize = 8;
const GUARD_LINES_MAX: usize = 8;
const STEPS_MAX: usize = 12;

/// Columns that a row's mark, numbers and gaps take; names are cut to what is left, never the numbers.
const NUMBERS_WIDTH: usize = 54;

/// Narrower than this, the columns no longer fit.
const WIDTH_MIN: usize = 70;

/// One endpoint whose traffic changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRow {
    /// The service.
    pub service: ServiceId,
    /// The region.
    pub region: RegionId,
    /// Old and new weight.
    pub weight: (Weight, Weight),
    /// Old and new load, where it is known.
    pub load: Option<(RequestsPerSecond, RequestsPerSecond)>,
    /// What it may carry.
    pub usable: RequestsPerSecond,
    /// The new load as part of what it may carry; capped at 100 %, see `fits`.
    pub used: Option<Percent>,
    /// The new load is not above what it may carry; unknown load does not fit.
    pub fits: bool,
}

/// What a plan changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanDiff {
    /// Endpoints whose weight changes, in the order of the plan.
    pub changed: Vec<DiffRow>,
    /// Endpoints that keep their weight.
    pub unchanged: usize,
}

/// What `planned` changes, and how much it leaves alone.
#[must_use]
pub fn changes(planned: &Planned) -> PlanDiff {
    let (changed, kept): (Vec<_>, Vec<_>) =
        planned.rows.iter().partition(|r| r.weight_before != r.weight_after);
    PlanDiff { changed: changed.into_iter().map(diff_row).collect(), unchanged: kept.len() }
}

fn diff_row(row: &LoadRow) -> DiffRow {
    DiffRow {
        service: row.service.clone(),
        region: row.region.clone(),
        weight: (row.weight_before, row.weight_after),
        load: row.load_before.zip(row.load_after),
        usable: row.usable,
        used: row.load_after.map(|load| Percent::of(load.0, row.usable.0)),
        fits: row.load_after.is_some_and(|load| load <= row.usable),
    }
}

/// The plan, or why there is none, as plain text of at most `width` columns (but at least 70) and 40 lines.
#[must_use]
pub fn render(planned: &Planned, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let mut lines = vec![];
    lines.push(planned.plan.as_ref().map_or_else(|| "no plan: refused".to_owned(), headline));
    traffic(planned, width, &mut lines);
    guards(planned, width, &mut lines);
    if let Some(plan) = &planned.plan {
        steps(plan, &mut lines);
        estimates(plan, planned, &mut lines);
    }
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", cut(line.trim_end(), width));
        text
    })
}

fn headline(plan: &Plan) -> String {
    let intent = &plan.intent;
    let to = intent.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
    let services = match plan.services.as_slice() {
        [one] => one.to_string(),
        many => count(many.len(), "service"),
    };
    format!("{}: {} {}{to}, {services} (runbook {})", plan.id, intent.purpose, intent.region, plan.runbook)
}

fn traffic(planned: &Planned, width: usize, lines: &mut Vec<String>) {
    let diff = changes(planned);
    if diff.changed.is_empty() && diff.unchanged == 0 {
        return;
    }
    let widest =
        |name: fn(&DiffRow) -> usize| diff.changed.iter().take(ROWS_MAX).map(name).max().unwrap_or(0);
    let room = width - NUMBERS_WIDTH;
    let services = widest(|r| r.service.as_str().len()).min(room * 4 / 7);
    let regions = widest(|r| r.region.as_str().len()).min(room - services);
    lines.push(format!(
        "  {:services$}  {:regions$}  {:>10}  {:>20}  usable (used)",
        "", "", "weight", "load"
    ));
    let mut last: Option<&ServiceId> = None;
    for row in diff.changed.iter().take(ROWS_MAX) {
        let service =
            if last == Some(&row.service) { String::new() } else { cut(row.service.as_str(), services) };
        last = Some(&row.service);
        let weight = format!("{} -> {}", row.weight.0, row.weight.1);
        let load = row.load.map_or_else(|| "unknown".to_owned(), |(old, new)| format!("{old} -> {new}"));
        let region = cut(row.region.as_str(), regions);
        let usable = of_usable(row);
        lines.push(format!("* {service:services$}  {region:regions$}  {weight:>10}  {load:>20}  {usable}"));
    }
    let more = diff.changed.len().saturating_sub(ROWS_MAX);
    let more = if more > 0 { format!("{more} more changed, ") } else { String::new() };
    lines.push(format!("  {more}{} unchanged", diff.unchanged));
}

fn of_usable(row: &DiffRow) -> String {
    match row.used {
        None => format!("{}", row.usable),
        Some(_) if !row.fits => format!("{} (too much)", row.usable),
        Some(used) => format!("{} ({}%)", row.usable, used.basis_points() / 100),
    }
}

/// What refuses first, then what is left behind or taken on by name, then what merely passed, as a list of names.
fn guards(planned: &Planned, width: usize, lines: &mut Vec<String>) {
    let refuses = |g: &GuardResult| !g.passed && planned.refusals.contains(&g.reason);
    let rank = |g: &&GuardResult| match (g.passed, refuses(g)) {
        (false, true) => 0,
        (false, false) => 1,
        (true, _) => 2,
    };
    let taken_on = |g: &GuardResult| {
        matches!(g.reason, Reason::CapacityInsufficient { .. })
            && planned.plan.as_ref().is_some_and(|p| p.intent.accepts(Acceptance::Capacity))
    };
    let told = |g: &&GuardResult| g.reason != Reason::Passed;
    let mut telling: Vec<&GuardResult> = planned.guards.iter().filter(told).collect();
    telling.sort_by_key(rank);
    lines.push("guards".to_owned());
    let (mut room, mut shown) = (GUARD_LINES_MAX, 0);
    for guard in &telling {
        let mark = match rank(guard) {
            0 => "NO  ",
            1 if taken_on(guard) => "OVER",
            1 => "LEFT",
            _ => "ok  ",
        };
        let mut told = wrapped(&format!("{}: {}", guard.guard, guard.reason), width - 7);
        told.extend(
            guard.reason.next_command().filter(|_| rank(guard) == 0).map(|next| format!("next: {next}")),
        );
        if told.len() > room {
            break;
        }
        room -= told.len();
        shown += 1;
        let marks = std::iter::once(mark).chain(std::iter::repeat("    "));
        lines.extend(marks.zip(told).map(|(mark, line)| format!("  {mark} {line}")));
    }
    if telling.len() > shown {
        lines.push(format!("       {} more", telling.len() - shown));
    }
    let mut passed: Vec<&str> =
        planned.guards.iter().filter(|g| g.passed && !told(g)).map(|g| g.guard.as_str()).collect();
    passed.dedup();
    if !passed.is_empty() {
        lines.push(format!("  ok   {}", passed.join(", ")));
    }
}

fn steps(plan: &Plan, lines: &mut Vec<String>) {
    lines.push("steps".to_owned());
    let no_return = point_of_no_return(plan).map(|s| &s.id);
    let shown = || plan.steps.iter().take(STEPS_MAX);
    let names = shown().map(|s| s.id.to_string().len()).max().unwrap_or_default();
    let endings = shown().map(|s| otherwise(s).len()).max().unwrap_or_default();
    for step in shown() {
        if no_return == Some(&step.id) {
            lines.push("  ---- point of no return: from here drover goes forward or asks ----".to_owned());
        }
        lines.push(format!("  {:names$} {:endings$} {}", step.id, otherwise(step), does(plan, step)));
    }
    if plan.steps.len() > STEPS_MAX {
        lines.push(format!("  {} more steps", plan.steps.len() - STEPS_MAX));
    }
}

/// What happens when a step fails.
fn otherwise(step: &Step) -> &'static str {
    match step.on_failure {
        OnFailure::Abort => "or abort",
        OnFailure::RollBack => "or roll back",
        OnFailure::Pause => "or pause",
        OnFailure::Continue => "or go on",
    }
}

/// What a step does, in a few words.
fn does(plan: &Plan, step: &Step) -> String {
    match &step.kind {
        StepKind::Preflight { predicates } => match predicates.as_slice() {
            [one] => predicates::describe(one),
            many => format!("{} live facts must hold", many.len()),
        },
        StepKind::VerifyApp { targets } => count(targets.len(), "scripted request"),
        StepKind::ShiftTraffic { changes } => shifted(changes),
        StepKind::VerifyDns { .. } => {
            let services = plan.expected_by(&step.kind).map_or(0, <[TrafficChange]>::len);
            format!("every DNS server answers so for {}", count(services, "service"))
        }
        StepKind::Wait { span, why } => format!("{span}: {why}"),
        StepKind::Validate { targets } => {
            let window = targets.iter().map(|t| t.window).max().unwrap_or_default();
            format!("{} judged over {window}", count(targets.len(), "service"))
        }
        StepKind::Drained { targets, quiet } => {
            let measured = targets.iter().filter(|t| t.source.is_some()).count();
            format!("old side of {}, {measured} measured, {quiet} after DNS", count(targets.len(), "service"))
        }
        StepKind::Approve { message, expires, approvals: ..=1 } => format!("asks for {expires}: {message}"),
        StepKind::Approve { message, expires, approvals } => {
            format!("asks {approvals} people for {expires}: {message}")
        }
        StepKind::Notify { message } => message.clone(),
        StepKind::Run { command, repeatability, .. } => {
            let line = [std::slice::from_ref(&command.path), command.arguments.as_slice()].concat().join(" ");
            format!("{line} ({})", repeatability.word())
        }
    }
}

fn shifted(changes: &[TrafficChange]) -> String {
    let [change] = changes else { return format!("{} get new weights", count(changes.len(), "service")) };
    let list = |weights: &Weights| weights.values().map(ToString::to_string).collect::<Vec<_>>().join("/");
    format!("{} {} -> {}", change.service, list(&change.weights_before), list(&change.weights_after))
}

/// The objective is one of recovery: what leaves or comes back in its own time is not measured by it.
fn estimates(plan: &Plan, planned: &Planned, lines: &mut Vec<String>) {
    let e = &planned.estimates;
    if plan.intent.purpose != Purpose::Failover {
        lines.push(format!(
            "estimate: old answers gone after {}, validated after {}",
            e.drained_after, e.done_after
        ));
        return;
    }
    let verdict = if e.done_after <= e.rto { "within" } else { "OVER" };
    lines.push(format!(
        "estimate: old answers gone after {}, validated after {},",
        e.drained_after, e.done_after
    ));
    lines.push(format!("          {verdict} the objective of {}", e.rto));
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The text in lines of at most `width`, broken between words: numbers of a guard must not be cut off.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The line, or as much of it as fits with a mark that there was more.
fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}
