//! A second failure while the first is being left: the run that counts on what fails now is ended, and what is left is
//! planned anew from where traffic stands.
//!
//! One run a service (I2) alone would keep the second failure waiting for the first run, which cannot succeed any more:
//! it judges, or sends traffic to, just what has failed, and would stand there until a person came. So a run of drover's
//! own gives way: what it moved stays, because the region that it left is no better for it, and the next look plans with
//! the regions and the capacity that remain, under all guards.
//!
//! The hard case is a loop: the next run must not be ended in its turn by the failure that it was planned with. Therefore
//! a run is ended only for an endpoint that its plan counts on, which was healthy then.
//!
//! A run that brings a region back is not this module's: it is preempted ([`preempt`]). Where both are in the way, the return
//! stops first, and the failover with the next look; no decision stops runs by both rules.

use super::{Case, Checker, Planner, Stop, gate, hold_back, preempt};
use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::plan::{ActiveRun, World};
use drover_model::reason::Reason;
use drover_model::{EndpointKey, RegionId, ServiceId};

/// As [`preempt::decide_case`]; where only failovers that count on what fails keep drover from acting or asking, the first
/// is named as what is ended before.
pub(super) fn decide_case(case: &Case<'_>, planner: Planner<'_>, checker: Checker<'_>) -> ActionDecision {
    let services = case.services();
    let given_up = |r: &ActiveRun| counted_on(r, case.region, &services);
    let first = case.world.runs.iter().find_map(|r| Some((given_up(r)?, r.run.clone())));
    let Some((service, run)) = first else {
        return preempt::decide_case(case, planner, checker);
    };
    let mut without = case.world.clone();
    without.runs.retain(|r| given_up(r).is_none());
    let moving = case.moving.clone();
    let as_if_over = Case { world: &without, now: case.now, region: case.region, moving, class: case.class };
    let mut decision = preempt::decide_case(&as_if_over, planner, checker);
    if matches!(decision.reason, Reason::Preempting { .. }) {
        return decision;
    }
    if decision.conclusion == Conclusion::Hold {
        // Nothing better could be done, so the run goes on.
        return gate::decide_case(case, planner, checker);
    }
    cov_mark::hit!(i2_a_second_failure_supersedes);
    decision.services = services;
    let reason = Reason::Superseding { service, region: case.region.clone(), run };
    hold_back(&mut decision, "superseding", reason, None);
    decision
}

/// Which of these services' endpoints in `region` the run works on and counts on, if drover may end it.
fn counted_on(run: &ActiveRun, region: &RegionId, services: &[ServiceId]) -> Option<ServiceId> {
    let works = |s: &&ServiceId| run.services.contains(s);
    let counts_on = |s: &&ServiceId| run.counts_on.contains(&EndpointKey::new(s, region));
    let may_end = run.gives_way && !run.awaiting_approval;
    services.iter().filter(|_| may_end).filter(works).find(counts_on).cloned()
}

/// The runs that these decisions end; what they moved stays.
pub(super) fn must_stop(world: &World, decisions: &[ActionDecision]) -> Vec<Stop> {
    let mut all: Vec<Stop> = vec![];
    for decision in decisions.iter().filter(|d| matches!(d.reason, Reason::Superseding { .. })) {
        let region = &decision.region;
        for run in &world.runs {
            let Some(service) = counted_on(run, region, &decision.services) else { continue };
            if all.iter().any(|s| s.run == run.run) {
                continue;
            }
            let is = world
                .verdicts
                .get(&EndpointKey::new(&service, region))
                .map_or_else(|| "lost".to_owned(), |s| format!("{}: {}", s.verdict.state, s.verdict.reason));
            let why =
                format!("superseded, what it moved stays: it counts on {service} in {region}, which is {is}");
            all.push(Stop { run: run.run.clone(), why, roll_back: false });
        }
    }
    all
}
