//! Failover before failback: a run that brings a region back gives way to one that leaves a region that fails.
//!
//! Two things stop such a run at once, in whatever step it is. The region that it brings back fails again: nothing stays
//! on a dead region, whatever automation may do otherwise. And a failover that drover would begin by itself needs the same
//! services. Where drover would only ask, the run goes on: more regions that carry are what is wanted then.
//!
//! The hard case is a run that does not climb by stages, such as the end of a drain, stopped because another region fails.
//! Undone, it would hand its traffic to the region that fails: that undo is refused, and the run would stand there and wait
//! for a person, with the failover behind it. So it ends where it is, and the failover reckons with what it finds.

use super::{Case, Checker, Planner, gate, hold_back};
use crate::failback;
use drover_model::RunId;
use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::plan::{ActiveRun, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;

/// Does this run bring a region back, and would it still go on by itself?
fn is_return(run: &ActiveRun) -> bool {
    let returns = matches!(run.purpose, Some(Purpose::Failback | Purpose::Undrain));
    returns && !run.awaiting_approval && !run.rolling_back
}

/// As [`gate::decide_case`]; where only a run that gives way stands against acting, it is told to.
pub(super) fn decide_case(case: &Case<'_>, planner: Planner<'_>, checker: Checker<'_>) -> ActionDecision {
    let services = case.services();
    let in_the_way = |r: &&ActiveRun| is_return(r) && r.services.iter().any(|s| services.contains(s));
    let Some(run) = case.world.runs.iter().find(in_the_way) else {
        return gate::decide_case(case, planner, checker);
    };
    let mut without = case.world.clone();
    without.runs.retain(|r| !in_the_way(&r));
    let moving = case.moving.clone();
    let as_if_over = Case { world: &without, moving, now: case.now, region: case.region, class: case.class };
    let mut decision = gate::decide_case(&as_if_over, planner, checker);
    let service = run.services.iter().find(|s| services.contains(s));
    let (Conclusion::Act, Some(service)) = (decision.conclusion, service) else {
        return gate::decide_case(case, planner, checker);
    };
    cov_mark::hit!(failover_preempts_failback);
    let reason = Reason::Preempting { service: service.clone(), run: run.run.clone() };
    hold_back(&mut decision, "preemption", reason, None);
    decision
}

/// A run that must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Which.
    pub run: RunId,
    /// Why, in words.
    pub why: String,
    /// It goes back to where it was good last; otherwise it ends where it is.
    pub roll_back: bool,
}

/// Runs that bring a region back and must stop now.
pub(super) fn must_stop(world: &World, decisions: &[ActionDecision]) -> Vec<Stop> {
    let stop = |run: &ActiveRun| {
        let stop = |why, roll_back| Stop { run: run.run.clone(), why, roll_back };
        let again = fails_again(world, run).map(|why| stop(why, true));
        again.or_else(|| preempted(run, decisions).map(|why| stop(why, run.by_stages)))
    };
    world.runs.iter().filter(|r| is_return(r)).filter_map(stop).collect()
}

fn fails_again(world: &World, run: &ActiveRun) -> Option<String> {
    run.services.iter().find_map(|service| {
        let verdict = &failback::standing(world, service, &run.region)?.verdict;
        if !verdict.state.moves_traffic() {
            return None;
        }
        cov_mark::hit!(a_region_that_fails_again_stops_its_return);
        Some(format!("{service} in {} is {} again: {}", run.region, verdict.state, verdict.reason))
    })
}

fn preempted(run: &ActiveRun, decisions: &[ActionDecision]) -> Option<String> {
    let stops =
        |d: &&ActionDecision| matches!(&d.reason, Reason::Preempting { run: named, .. } if *named == run.run);
    let decision = decisions.iter().find(stops)?;
    Some(format!("{} fails, and a failover comes before a failback", decision.region))
}
