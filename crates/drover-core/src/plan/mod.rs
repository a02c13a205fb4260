//! The planner: from the world as it is held to be, and what somebody wants, to exact steps.
//!
//! Value in, value out: the same world and intent make the same plan under the same name. [`plan`] is the spine; the
//! order of its passes is the policy. Each pass either narrows the moves or adds what it found to the report.
//!
//! The hard case is a region that fails with many services in it. One that cannot move (no other healthy region)
//! must not keep the others from moving, so what cannot be moved is left behind, visibly, as long as anything can be.
//! A person who named a service is told instead.
//!
//! Two kinds of refusal are kept apart. Some leave nothing that could run: no plan. Others a person may overrule
//! (capacity, unknown load, too many regions out): an automatic intent then gets its plan *and* the refusals, which
//! mean "ask"; a person's intent gets the refusals alone, unless he takes one on by name
//! ([`drover_model::plan::Acceptance`]). A non-empty `refusals` never means "go".

mod base;
mod figures;
mod guards;
mod moves;
mod overtaken;
mod proof;
mod report;
mod scope;
mod steps;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_equal;
#[cfg(test)]
mod tests_guards;

pub use base::stale;
pub use figures::{by_design, drain_span, estimates, ttl_seconds, whole_seconds};
pub use overtaken::overtaken;

use drover_model::config::Service;
use drover_model::ids::PlanId;
use drover_model::plan::{Intent, PLAN_SCHEMA, Plan, Planned, Step, World};
use drover_model::reason::Reason;
use drover_model::{ServiceId, Timestamp};
use moves::Move;
use report::Report;

/// Plans what `intent` wants in `world`: always a report of reasons, perhaps a plan.
///
/// A plan does not depend on `now`, or it would never have the same name twice; only whether it may be made does.
pub fn plan(world: &World, intent: &Intent, now: Timestamp) -> Planned {
    let mut report = Report::default();
    guards::standing(world, intent, &mut report);
    let services = scope::services(world, intent, &mut report);
    let moves = moves::all(world, intent, &services, &mut report);
    guards::other_shares(world, &moves, &mut report);
    let moves = guards::ask(world, intent, moves, now, &mut report);
    let rows = figures::rows(world, &moves);
    let plan = if may_exist(intent, &report) { assemble(world, intent, &moves, &mut report) } else { None };
    let estimates = plan.as_ref().map(|p| estimates(p, world)).unwrap_or_default();
    Planned { plan, guards: report.guards, refusals: report.refusals, rows, estimates }
}

/// How many people must agree to what moves these services: as many as the strictest of them asks for.
pub fn approvals<'a>(services: impl Iterator<Item = &'a Service>) -> u32 {
    services.map(|s| s.failover.approvals).max().unwrap_or(1)
}

/// A person's refused intent has no plan, lest somebody run it; an automatic one may still be put to a person.
fn may_exist(intent: &Intent, report: &Report) -> bool {
    !report.impossible && (intent.automatic || report.refusals.is_empty())
}

fn assemble(world: &World, intent: &Intent, moves: &[Move<'_>], report: &mut Report) -> Option<Plan> {
    let Some(loaded) = world.runbooks.get(&intent.purpose).filter(|_| !moves.is_empty()) else {
        return None; // Both were reported by the passes before.
    };
    let steps = steps::expand(world, intent, loaded, moves);
    if !steps.iter().any(|s| s.kind.word() == "shift_traffic") {
        report.refuse(
            "runbook",
            Reason::NoRunbook { purpose: format!("{} that shifts traffic", intent.purpose) },
        );
        return None;
    }
    Some(named(Plan {
        schema: PLAN_SCHEMA,
        id: PlanId::from_text(""),
        intent: intent.clone(),
        services: moves.iter().map(|m| m.service.name.clone()).collect::<Vec<ServiceId>>(),
        runbook: loaded.runbook.name.clone(),
        base: base::of(world, intent, loaded, moves),
        steps,
    }))
}

/// Gives a plan its name: the digest of its JSON with an empty name and without the reason, which is a word to people
/// and executes nothing: a plan that was shown is the same plan when somebody says why.
fn named(mut plan: Plan) -> Plan {
    let reason = std::mem::take(&mut plan.intent.reason);
    plan.id = PlanId::from_text("");
    // These types always serialise: every map key is text and no number is outside JSON.
    plan.id = PlanId::of_json(&plan).unwrap_or(plan.id);
    plan.intent.reason = reason;
    plan
}

/// The first step after which the way is forward only. A failover that moves traffic alone has one too: its weights
/// are not given back by drover, because they would lead to the region that failed; a failback brings them back.
#[must_use]
pub fn point_of_no_return(plan: &Plan) -> Option<&Step> {
    plan.steps.iter().find(|s| matches!(s.reversal, drover_model::plan::Reversal::ForwardOnly))
}
