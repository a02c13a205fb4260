//! What to do about each region: act, ask a person, or hold. Always with the reason, because an action not taken at
//! night must be as explicable as one that was.
//!
//! The intuition: a verdict says what is; this says whether drover may do something about it by itself. Every guard is
//! asked even when an earlier one has refused, so that `explain` shows them all; the first that refuses decides. A guard
//! that a person may overrule leads to a question, one that nobody should overrule to holding.
//!
//! The hard case is two regions that die seconds apart. The first verdict alone would move traffic into the second, so a
//! young verdict waits one probe interval while anything else is suspect ([`Reason::Settling`]); then either the
//! common-cause breaker sees both, or the second suspicion has proved to be nothing.

mod gate;
mod preempt;
mod repeat;
mod returning;
mod supersede;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_returning;
#[cfg(test)]
mod tests_supersede;
mod words;

pub use gate::is_open;
pub use preempt::Stop;
pub use words::sentence;

use crate::{quorum, sweep, verdict};
use drover_model::config::{RegionRole, Service};
use drover_model::decision::{ActionDecision, Conclusion, FailureClass, GuardResult, VerdictState};
use drover_model::plan::{Finding, Intent, Plan, Planned, StandingVerdict, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::TrafficState;
use drover_model::{EndpointKey, Percent, RegionId, ServiceId, Timestamp};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The planner, as the last guard; a parameter so that each of its refusals can be tested by itself.
pub(crate) type Planner<'a> = &'a dyn Fn(&World, &Intent, Timestamp) -> Planned;

/// The independent check, likewise.
pub(crate) type Checker<'a> = &'a dyn Fn(&Plan, &World) -> Vec<Finding>;

/// Decides about every serving region in which something is not healthy or carries less than its share, in the order of
/// their names. At most one decision that touches a service is [`Conclusion::Act`].
#[must_use]
pub fn decide(world: &World, now: Timestamp) -> Vec<ActionDecision> {
    decide_and_plan(world, now).0
}

/// The same, with the plans that were made of this world on the way, each once.
#[must_use]
pub fn decide_and_plan(world: &World, now: Timestamp) -> (Vec<ActionDecision>, Plans) {
    let plans = RefCell::new(Plans::default());
    let once = |of: &World, intent: &Intent, at: Timestamp| {
        // Whoever decides as if a run were over asks about another world.
        if !std::ptr::eq(of, world) || at != now {
            return crate::plan::plan(of, intent, at);
        }
        let known = plans.borrow().made_for(intent).cloned();
        known.unwrap_or_else(|| {
            let planned = crate::plan::plan(of, intent, at);
            plans.borrow_mut().0.push((intent.clone(), planned.clone()));
            planned
        })
    };
    let decisions = decide_with(world, now, &once, &crate::check::check);
    (decisions, plans.into_inner())
}

/// Plans that deciding has made, by what was asked.
#[derive(Debug, Default)]
pub struct Plans(Vec<(Intent, Planned)>);

impl Plans {
    /// The plan for this intent, of the same world at the same time. None: nobody has asked.
    #[must_use]
    pub fn made_for(&self, intent: &Intent) -> Option<&Planned> {
        self.0.iter().find(|(asked, _)| asked == intent).map(|(_, planned)| planned)
    }
}

pub(crate) fn decide_with(
    world: &World,
    now: Timestamp,
    planner: Planner<'_>,
    checker: Checker<'_>,
) -> Vec<ActionDecision> {
    let unwell = unwell(world);
    let serving = world.config.regions.values().filter(|r| r.role == RegionRole::Serving);
    let open = serving.filter(|r| unwell.contains(&r.name));
    let mut decisions: Vec<_> = open.map(|r| decide_region(world, &r.name, now, planner, checker)).collect();
    one_at_a_time(world, &mut decisions, now);
    decisions
}

/// Runs that must stop now: those that bring a region back (`preempt`), and failovers of drover's own that count on what
/// fails (`supersede`). The purpose of a run tells which rule it is under, so that none is stopped by both.
#[must_use]
pub fn must_stop(world: &World, decisions: &[ActionDecision]) -> Vec<Stop> {
    let mut all = preempt::must_stop(world, decisions);
    all.extend(supersede::must_stop(world, decisions));
    all
}

/// The services on which a decision about `region` depends: those that it serves, those that their other regions
/// serve, and so on. A world stored with the decision must keep them all, or the decision cannot be run again.
#[must_use]
pub fn concerned(world: &World, region: &RegionId) -> Vec<ServiceId> {
    let mut regions = BTreeSet::from([region]);
    let mut services = BTreeSet::new();
    loop {
        let before = (regions.len(), services.len());
        for service in world.config.services.values() {
            if service.endpoints.keys().any(|r| regions.contains(r)) {
                services.insert(service.name.clone());
                regions.extend(service.endpoints.keys());
            }
        }
        if before == (regions.len(), services.len()) {
            return services.into_iter().collect();
        }
    }
}

/// The intent by which a decision to act or to ask is planned: the one that the planner was asked about.
#[must_use]
pub fn intent_of(decision: &ActionDecision) -> Intent {
    let ActionDecision { purpose, region, services, class, reason, .. } = decision;
    Intent {
        purpose: *purpose,
        services: services.clone(),
        region: region.clone(),
        to: None,
        automatic: true,
        hold_for: None,
        reason: format!("{class} in {region}: {reason}"),
        accept: vec![],
    }
}

/// One endpoint of the region in question.
struct Seen<'a> {
    service: &'a Service,
    standing: Option<&'a StandingVerdict>,
    /// Its published weight is above zero.
    carries: bool,
}

impl Seen<'_> {
    fn state(&self) -> VerdictState {
        self.standing.map_or(VerdictState::Unknown, |s| s.verdict.state)
    }

    fn must_move(&self) -> bool {
        self.carries && self.state().moves_traffic()
    }

    fn is_beyond_quorum(&self) -> bool {
        self.carries && self.standing.is_some_and(|s| verdict::is_beyond_quorum(&s.verdict))
    }
}

/// A region for which something should be done, if the guards let it.
struct Case<'a> {
    world: &'a World,
    now: Timestamp,
    region: &'a RegionId,
    /// What would move, most important first.
    moving: Vec<&'a Seen<'a>>,
    class: FailureClass,
}

impl Case<'_> {
    fn services(&self) -> Vec<ServiceId> {
        self.moving.iter().map(|seen| seen.service.name.clone()).collect()
    }
}

/// Regions in which something is not healthy or carries less than its share. Where nothing is wrong, this sweep is all
/// that a look costs.
fn unwell(world: &World) -> BTreeSet<&RegionId> {
    let not_healthy = sweep::everything(world)
        .filter(|(_, _, s)| s.is_none_or(|s| s.verdict.state != VerdictState::Healthy))
        .map(|(_, region, _)| region);
    let out = world.traffic.iter().filter_map(|(name, t)| Some((world.config.services.get(name)?, t)));
    let full = |s: &Service, t: &TrafficState| {
        t.shares.keys().eq(s.endpoints.keys()) && t.shares.values().all(|s| s.share == Percent::FULL)
    };
    let out = out.filter(|(s, t)| !full(s, t));
    let out = out.flat_map(|(s, t)| s.endpoints.keys().filter(|region| !t.is_full(region)));
    not_healthy.chain(out).collect()
}

/// Decides about a region in which something is not well.
fn decide_region(
    world: &World,
    region: &RegionId,
    now: Timestamp,
    planner: Planner<'_>,
    checker: Checker<'_>,
) -> ActionDecision {
    let seen = look(world, region);
    let bad: Vec<&Seen<'_>> = seen.iter().filter(|s| s.must_move()).collect();
    let bad = if bad.is_empty() { seen.iter().filter(|s| s.is_beyond_quorum()).collect() } else { bad };
    if bad.is_empty() {
        let back = returning::decide(world, region, now, planner, checker);
        return back.unwrap_or_else(|| nothing_moves(world, region, &seen));
    }
    let class = class_of(&seen, &bad);
    let case = Case { world, now, region, moving: automatic_first(bad), class };
    supersede::decide_case(&case, planner, checker)
}

/// Every endpoint of `region`, the most important service first.
fn look<'a>(world: &'a World, region: &'a RegionId) -> Vec<Seen<'a>> {
    let mut seen: Vec<Seen<'a>> = world
        .config
        .services_in(region)
        .map(|service| Seen {
            service,
            standing: world.verdicts.get(&EndpointKey::new(&service.name, region)),
            carries: world.traffic.get(&service.name).is_some_and(|t| t.weight(region).0 > 0),
        })
        .collect();
    seen.sort_by_key(|s| s.service.priority);
    seen
}

/// A region failure is one of every service that the region carries, and of more than one unless it has no more.
fn class_of(seen: &[Seen<'_>], bad: &[&Seen<'_>]) -> FailureClass {
    let carried = seen.iter().filter(|s| s.carries).count();
    let all = bad.len() == carried && (carried > 1 || seen.len() == 1);
    if all { FailureClass::Region } else { FailureClass::Endpoint }
}

/// Where some services may move by themselves and others only by a person's word, the first do not wait for the second:
/// those are asked about once the others have moved.
fn automatic_first<'a>(bad: Vec<&'a Seen<'a>>) -> Vec<&'a Seen<'a>> {
    let automatic: Vec<_> = bad.iter().copied().filter(|s| s.service.failover.automatic).collect();
    if automatic.is_empty() { bad } else { automatic }
}

fn nothing_moves(world: &World, region: &RegionId, seen: &[Seen<'_>]) -> ActionDecision {
    let reason = most_telling(world, region, seen);
    let guard = GuardResult { guard: "quorum".into(), passed: false, reason: reason.clone() };
    ActionDecision {
        purpose: Purpose::Failover,
        region: region.clone(),
        services: vec![],
        class: FailureClass::Endpoint,
        conclusion: Conclusion::Hold,
        guards: vec![guard],
        reason,
        look_again_at: None,
    }
}

/// Why nothing moves: of the endpoints that are not well, first those that carry traffic, then those that come closest
/// to moving it.
fn most_telling(world: &World, region: &RegionId, seen: &[Seen<'_>]) -> Reason {
    let mut best: Option<((bool, u8, u32), Reason)> = None;
    for s in seen.iter().filter(|s| s.state() != VerdictState::Healthy) {
        let failing = s.standing.map_or(0, |standing| standing.verdict.failing);
        let (rank, reason) = telling(world, region, s);
        let key = (s.carries, rank, failing);
        if best.as_ref().is_none_or(|(other, _)| key > *other) {
            best = Some((key, reason));
        }
    }
    best.map_or(Reason::NothingToDo, |(_, reason)| reason)
}

fn telling(world: &World, region: &RegionId, seen: &Seen<'_>) -> (u8, Reason) {
    let Some(standing) = seen.standing else {
        let need = quorum::need_for(world, &seen.service.name, region);
        let configured = u32::try_from(world.config.outside_vantages(region).len()).unwrap_or(u32::MAX);
        return (1, Reason::TooLittleKnown { abstaining: configured, configured, need });
    };
    if standing.verdict.state.moves_traffic() {
        let (service, state) = (seen.service.name.clone(), standing.verdict.state);
        let share = world.traffic.get(&service).and_then(|t| t.shares.get(region));
        let run = share.and_then(|s| s.reason.run()).cloned();
        return (0, Reason::MovedAlready { service, region: region.clone(), state, run });
    }
    let reason = standing.verdict.reason.clone();
    let rank = match reason {
        Reason::QuorumNotReached { .. } => 3,
        Reason::InsideOnly { .. } => 2,
        _ => 1,
    };
    (rank, reason)
}

/// Of several decisions to move the same service, the first is taken, and of those that leave a region before any that
/// brings one back; the others are looked at again when its run has begun, against the world that it makes (I2).
fn one_at_a_time(world: &World, decisions: &mut [ActionDecision], now: Timestamp) {
    let mut taken: BTreeSet<ServiceId> = BTreeSet::new();
    let mut acting: Vec<&mut ActionDecision> =
        decisions.iter_mut().filter(|d| d.conclusion == Conclusion::Act).collect();
    acting.sort_by_key(|d| d.purpose == Purpose::Failback);
    for decision in acting {
        if !decision.services.iter().any(|s| taken.contains(s)) {
            taken.extend(decision.services.iter().cloned());
            continue;
        }
        cov_mark::hit!(i2_one_move_a_service);
        let interval =
            decision.services.iter().filter_map(|s| world.config.services.get(s)).map(|s| s.interval).min();
        let until = now + interval.unwrap_or_default();
        let reason = Reason::Settling { region: decision.region.clone(), until };
        hold_back(decision, "one_at_a_time", reason, Some(until));
    }
}

/// What would have been done or asked is not, for this reason.
fn hold_back(decision: &mut ActionDecision, guard: &str, reason: Reason, look_again_at: Option<Timestamp>) {
    decision.guards.push(GuardResult { guard: guard.into(), passed: false, reason: reason.clone() });
    decision.conclusion = Conclusion::Hold;
    decision.reason = reason;
    decision.look_again_at = look_again_at;
}
