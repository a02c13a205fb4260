//! What the looking verbs print: short, so that a script shows what matters and nothing that changes for other reasons.

use crate::state::{BEGINNING, State, number_of};
use drover_core::damping;
use drover_core::decide;
use drover_core::diff;
use drover_core::failback;
use drover_core::quorum;
use drover_model::decision::{OpinionState, VantageOpinion, VerdictState};
use drover_model::plan::Planned;
use drover_model::reason::Reason;
use drover_model::{EndpointKey, Timestamp};

/// Time since the world began, as `HH:MM:SS`.
pub(crate) fn clock(at: Timestamp) -> String {
    let seconds = at.since(BEGINNING).as_millis() / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Instants as in [`clock`], and plans without their names, which change with every field of the configuration.
pub(crate) fn plain(state: &State, mut line: String) -> String {
    let day = BEGINNING.to_string();
    if let Some((date, _)) = day.split_once('T') {
        line = line.replace(&format!("{date}T"), "").replace(".000Z", "");
    }
    let plans = state.executions().map(|e| e.plan().id.clone());
    for plan in plans.chain(state.shown.as_ref().map(|p| p.id.clone())) {
        line = line.replace(plan.as_str(), "PLAN");
    }
    line
}

/// What is not normal, and where each service's traffic goes.
pub(crate) fn status(state: &State) -> Vec<String> {
    let now = state.now();
    let mut lines = vec![];
    for (agent, is) in state.vantage_states(now) {
        if !is.counts() {
            lines.push(format!("{agent} is {is}"));
        }
    }
    let world = state.world();
    let regions = state.regions();
    let serving = || regions.iter().filter(|r| world.config.services_in(r).next().is_some());
    for (region, view) in serving().zip(quorum::automatic_possible(&world, serving())) {
        if !view.possible {
            lines.push(format!(
                "{region}: {} of {} vantages can speak, {} needed",
                view.able, view.configured, view.need
            ));
        }
    }
    for (service, answers) in &state.dns.answers {
        let words = answers.weights.iter().map(|(region, weight)| {
            let standing = state.leader.standing.get(&EndpointKey::new(service, region));
            let verdict = standing.map_or(VerdictState::Unknown, |s| s.verdict.state);
            let verdict =
                if verdict == VerdictState::Healthy { String::new() } else { format!(" {verdict}") };
            format!("{region} {}{verdict}", weight.0)
        });
        lines.push(format!("{service}: {}", words.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(world.freeze.iter().filter(|f| f.holds_at(now)).map(|f| {
        let until = f.expires_at.map_or_else(String::new, |t| format!(" until {}", clock(t)));
        format!("frozen by {}{until}", f.by)
    }));
    for hold in &world.holds {
        let until = hold.expires_at.map_or_else(String::new, |t| format!(" until {}", clock(t)));
        lines.push(format!("{} is drained by {}{until}", hold.region, hold.by));
    }
    for block in world.blocks.iter().filter(|b| now < b.until) {
        lines.push(format!(
            "{} is blocked for a {} until {}",
            block.service,
            block.class,
            clock(block.until)
        ));
    }
    for back in failback::views(&world, now) {
        let (services, region) = (back.services, back.region);
        let services = services.iter().map(drover_model::ServiceId::as_str).collect::<Vec<_>>().join(", ");
        match (back.reason, back.next) {
            (_, Some(next)) => lines.push(format!("failback of {services} to {region} is offered: {next}")),
            (reason @ Reason::StableHold { .. }, None) => {
                lines.push(format!("no failback of {services} to {region} yet: {reason}"));
            }
            _ => {}
        }
    }
    let open = state.executions().filter(|e| !e.is_over());
    lines.extend(open.map(|e| format!("{} is {}", e.run(), e.state())));
    lines
}

/// What DNS answers, with the generation.
pub(crate) fn dns(state: &State) -> Vec<String> {
    let line = |(service, answers): (&drover_model::ServiceId, &crate::state::Answers)| {
        let words: Vec<String> = answers.weights.iter().map(|(r, w)| format!("{r} {}", w.0)).collect();
        format!("{service} generation {}: {}", answers.generation.0, words.join(", "))
    };
    state.dns.answers.iter().map(line).collect()
}

/// Why a region or endpoint is as it is: the decision with its guards, and each verdict with who said what.
pub(crate) fn explain(state: &State, subject: &str) -> Result<Vec<String>, String> {
    let mut lines = vec![];
    let about = |e: &EndpointKey| e.to_string() == subject || e.region.as_str() == subject;
    let endpoints: Vec<EndpointKey> = state.endpoints().into_iter().filter(about).collect();
    if endpoints.is_empty() {
        return Err(format!("no region or endpoint {subject}"));
    }
    if let Some((_, decision)) = state.leader.decisions.iter().find(|(region, _)| region.as_str() == subject)
    {
        lines.push(decide::sentence(decision));
        let refused = decision.guards.iter().filter(|g| !g.passed);
        lines.extend(refused.map(|g| format!("  {}: {}", g.guard, g.reason)));
    }
    for endpoint in endpoints {
        let Some(standing) = state.leader.standing.get(&endpoint) else { continue };
        let Some(inputs) = state.inputs(&endpoint) else { continue };
        let verdict = &standing.verdict;
        let suspect = if verdict.suspect { ", suspect" } else { "" };
        let flaps = standing.recent_changes.len();
        let began = damping::troubled_since(standing);
        let began = began.map_or_else(String::new, |at| format!(", in trouble since {}", clock(at)));
        lines.push(format!("{endpoint} is {}{suspect}: {}{began}", verdict.state, verdict.reason));
        if flaps > 1 {
            lines.push(format!("  in trouble {flaps} times lately"));
        }
        lines.extend(inputs.outside.iter().map(|o| format!("  {}", opinion("outside", o))));
        lines.extend(inputs.inside.iter().map(|o| format!("  {}", opinion("inside", o))));
    }
    Ok(lines)
}

fn opinion(view: &str, o: &VantageOpinion) -> String {
    let why = match (o.state, o.last_failure) {
        (OpinionState::Failing, Some(kind)) => format!(" ({kind})"),
        _ => String::new(),
    };
    let speaks = if o.vantage_state.counts() { String::new() } else { format!(", {}", o.vantage_state) };
    format!("{} {view}: {}{why}{speaks}", o.vantage, o.state)
}

/// A plan, or why there is none.
pub(crate) fn planned(planned: &Planned) -> Vec<String> {
    let mut lines = vec![];
    for row in diff::changes(planned).changed {
        let load = row.load.map_or_else(|| "load unknown".to_owned(), |(_, after)| format!("{after}"));
        let (before, after) = row.weight;
        lines.push(format!(
            "{}@{} {} -> {}, {load} of {}",
            row.service, row.region, before.0, after.0, row.usable
        ));
    }
    lines.extend(planned.refusals.iter().map(|r| format!("refused: {r}")));
    if let Some(plan) = &planned.plan {
        let steps: Vec<&str> = plan.steps.iter().map(|s| s.kind.word()).collect();
        lines.push(format!("steps: {}", steps.join(", ")));
        let estimate = &planned.estimates;
        lines.push(format!("done after {}, objective {}", estimate.done_after, estimate.rto));
    }
    lines
}

pub(crate) fn run_list(state: &State) -> Vec<String> {
    let line = |e: &drover_exec::Execution| {
        let intent = &e.plan().intent;
        let services: Vec<_> = e.plan().services.iter().map(ToString::to_string).collect();
        format!("{} {} {} of {}: {}", e.run(), intent.purpose, intent.region, services.join(", "), e.state())
    };
    state.executions().map(|e| line(&e)).collect()
}

/// Step by step, with how often each was tried.
pub(crate) fn run_show(state: &State, run: &str) -> Result<Vec<String>, String> {
    let found = state.executions().find(|e| e.run().as_str() == run);
    let execution = found.ok_or_else(|| format!("no run {run}"))?;
    let mut lines = vec![format!("{run} is {}: {}", execution.state(), execution.note())];
    for step in execution.step_views() {
        let tries = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
        lines.push(format!("  {} {}{tries}", step.id, step.state));
    }
    let number = number_of(execution.run());
    let records =
        state.store.journals.iter().find(|(r, _)| number_of(r) == number).map_or(0, |(_, j)| j.len());
    lines.push(format!("  {records} records"));
    let elapsed = execution.ended_at().unwrap_or(state.now()).since(execution.clock_began());
    lines.push(format!("  RTA {elapsed} of {}", execution.origin().rto));
    Ok(lines)
}
