//! Regions that were left, and when they may come back.
//!
//! A region comes back slower than it went: it must have been healthy without a break for the policy's `stable_hold`. The
//! hold also begins anew when the service's weights move, so that a ramp that was rolled back a minute ago is not begun
//! again at once; an unrelated move of the same service costs a hold, too, which a person may overrule.
//!
//! Only what failed is offered. A drain is its operator's, who ends it by `undrain`. What a person left by `failover` is
//! offered like the rest, and never brought back unasked.

use drover_model::api::FailbackView;
use drover_model::config::Service;
use drover_model::decision::VerdictState;
use drover_model::plan::{Acceptance, ActiveRun, Plan, StandingVerdict, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{ShareReason, TrafficState};
use drover_model::{AgentId, EndpointKey, Percent, RegionId, ServiceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Was `region` left because it failed, and is it not wholly back?
#[must_use]
pub fn was_left(state: &TrafficState, region: &RegionId) -> bool {
    left_by_hand(state, region).is_some()
}

/// Was it left, and if so, was that a person's doing?
fn left_by_hand(state: &TrafficState, region: &RegionId) -> Option<bool> {
    let share = state.shares.get(region).filter(|s| s.share < Percent::FULL)?;
    match share.reason {
        ShareReason::FailedOver { by_hand, .. } | ShareReason::Returning { by_hand, .. } => Some(by_hand),
        ShareReason::Configured | ShareReason::Drained { .. } => None,
    }
}

/// May drover bring `service` back by itself: does its policy say so, and is what stands drover's own doing? Where a person
/// has left the region, or has brought it half-way back, drover offers the rest and does not undo or hurry his work (I8).
pub(crate) fn by_itself(world: &World, service: &Service, region: &RegionId) -> bool {
    let stands = world.traffic.get(&service.name).and_then(|t| left_by_hand(t, region));
    service.failover.failback.automatic && stands == Some(false)
}

/// Since when `service` is well in `region` with its weights untouched; nothing when it is not well.
#[must_use]
pub fn stable_since(world: &World, service: &ServiceId, region: &RegionId) -> Option<Timestamp> {
    let standing = standing(world, service, region).filter(|s| s.verdict.state == VerdictState::Healthy)?;
    let changed = world.traffic.get(service).map_or(standing.since, |t| t.changed_at);
    Some(standing.since.max(changed))
}

pub(crate) fn standing<'w>(
    world: &'w World,
    service: &ServiceId,
    region: &RegionId,
) -> Option<&'w StandingVerdict> {
    world.verdicts.get(&EndpointKey::new(service, region))
}

/// Why `service` should not come back to `region` yet: it was left because it failed, and is not stable for long enough.
#[must_use]
pub fn too_early(world: &World, service: &Service, region: &RegionId, now: Timestamp) -> Option<Reason> {
    let left = world.traffic.get(&service.name).is_some_and(|t| was_left(t, region));
    let since = stable_since(world, &service.name, region).filter(|_| left)?;
    let hold = service.failover.failback.stable_hold;
    let until = since + hold;
    (now < until).then(|| Reason::StableHold {
        service: service.name.clone(),
        region: region.clone(),
        stable_since: since,
        stable_for: now.since(since),
        hold,
        until,
    })
}

/// Why a plan that was made before must not begin now: what it brings back has failed since, and is not stable for long
/// enough again. A plan can lie about for hours between being shown and being applied.
#[must_use]
pub fn too_early_for(plan: &Plan, world: &World, now: Timestamp) -> Vec<Reason> {
    let intent = &plan.intent;
    if intent.purpose != Purpose::Failback || intent.accepts(Acceptance::StableHold) {
        return vec![];
    }
    let services = plan.services.iter().filter_map(|s| world.config.services.get(s));
    services.filter_map(|s| too_early(world, s, &intent.region, now)).collect()
}

/// The region's agents, when it has any and none of them may speak: what is well from outside alone is no recovery.
#[must_use]
pub fn silent(world: &World, region: &RegionId) -> Option<Reason> {
    let agents = world.config.regions.get(region).map(|r| r.agents.as_slice()).unwrap_or_default();
    let speaks = |a: &AgentId| world.vantages.get(a).is_some_and(|state| state.counts());
    if agents.is_empty() || agents.iter().any(|a| speaks(&a.name)) {
        return None;
    }
    let agents = agents.iter().map(|a| a.name.clone()).collect();
    Some(Reason::RegionSilent { region: region.clone(), agents })
}

/// The run that works on `service`, if one does.
pub(crate) fn busy(world: &World, service: &ServiceId) -> Option<Reason> {
    let mut runs = world.runs.iter().filter(|r| !r.awaiting_approval);
    let run = runs.find(|r| r.services.contains(service))?;
    Some(Reason::RunInProgress { service: service.clone(), run: run.run.clone(), by: run.by.clone() })
}

/// The run that waits for an answer about `service`, if one does. Whatever is answered, or comes of it without an answer,
/// is a failover that would stop a return at once, or changes what the return was planned from.
pub(crate) fn asked(world: &World, service: &ServiceId) -> Option<Reason> {
    let open = |r: &&ActiveRun| r.awaiting_approval && !r.is_a_persons_question();
    let run = world.runs.iter().filter(open).find(|r| r.services.contains(service))?;
    let (region, run) = (run.region.clone(), run.run.clone());
    Some(Reason::QuestionOpen { service: service.clone(), region, run })
}

/// Why `service`, which left `region`, may not come back now; nothing when it may.
pub(crate) fn hindrance(
    world: &World,
    service: &Service,
    region: &RegionId,
    now: Timestamp,
) -> Option<Reason> {
    let state = standing(world, &service.name, region).map_or(VerdictState::Unknown, |s| s.verdict.state);
    if state != VerdictState::Healthy {
        let (service, region) = (service.name.clone(), region.clone());
        return Some(Reason::TargetNotHealthy { service, region, state });
    }
    busy(world, &service.name)
        .or_else(|| silent(world, region))
        .or_else(|| too_early(world, service, region, now))
}

/// That these services may come back to `region` now.
pub(crate) fn offer(world: &World, services: &[&Service], region: &RegionId) -> Option<Reason> {
    let since = services.iter().filter_map(|s| stable_since(world, &s.name, region)).max()?;
    let hold = services.iter().map(|s| s.failover.failback.stable_hold).max()?;
    let offered: BTreeSet<&ServiceId> = services.iter().map(|s| &s.name).collect();
    let full = |s: &Service| world.traffic.get(&s.name).is_some_and(|t| t.is_full(region));
    let all = world.config.services_in(region).all(|s| offered.contains(&s.name) || full(s));
    let services = services.iter().map(|s| s.name.clone()).collect();
    Some(Reason::FailbackOffered { services, region: region.clone(), stable_since: since, hold, all })
}

/// Every region that was left: what may come back now, together, and what may not yet, one by one.
#[must_use]
pub fn views(world: &World, now: Timestamp) -> Vec<FailbackView> {
    let mut views = vec![];
    let mut all_left: BTreeMap<&RegionId, Vec<&Service>> = BTreeMap::new();
    for (name, state) in &world.traffic {
        let Some(service) = world.config.services.get(name) else { continue };
        for region in state.shares.keys().filter(|r| was_left(state, r) && service.endpoints.contains_key(r))
        {
            all_left.entry(region).or_default().push(service);
        }
    }
    for (region, left) in all_left {
        if !world.config.regions.contains_key(region) {
            continue;
        }
        let mut ready = vec![];
        for service in left {
            match hindrance(world, service, region, now) {
                None => ready.push(service),
                Some(reason) => views.push(FailbackView {
                    region: region.clone(),
                    services: vec![service.name.clone()],
                    offered: false,
                    reason,
                    next: None,
                }),
            }
        }
        if let Some(reason) = offer(world, &ready, region) {
            let next = reason.next_command();
            let services = ready.iter().map(|s| s.name.clone()).collect();
            views.push(FailbackView { region: region.clone(), services, offered: true, reason, next });
        }
    }
    views
}
