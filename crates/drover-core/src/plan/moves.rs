//! The moves: for each service, where its traffic goes, in how many stages, and who may take it.
//!
//! Leaving a region is one stage. Coming back has one stage for each share of the service's ramp above what the region
//! carries now; a runbook without a ramp goes to the last one at once.
//!
//! Who may take more: regions that are known to be healthy and where the policy lets the traffic go. When all the
//! others may, the weights follow from the shares. When some may not, these keep what they have and the rest is handed
//! to those that may: with two regions down, leaving the first must not need the second.

use super::report::Report;
use crate::sweep::of_service;
use crate::targets::percents;
use crate::weights::{self, NeverDark};
use drover_model::config::{Service, Split};
use drover_model::decision::VerdictState;
use drover_model::plan::{ActiveRun, Intent, PlannedShare, PlannedShareReason, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{ShareReason, TrafficState};
use drover_model::{Percent, RegionId, RunId, ServiceId, Weight, Weights, beside};
use std::collections::BTreeMap;

/// One service's weights after one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    /// The part of the region that is left or brought back.
    pub(super) share: PlannedShare,
    pub(super) weights: Weights,
}

/// What happens to one service.
#[derive(Debug)]
pub(super) struct Move<'w> {
    pub(super) service: &'w Service,
    pub(super) state: &'w TrafficState,
    /// At least one; the last is where the move ends.
    pub(super) stages: Vec<Stage>,
    /// Regions that would take more, if they might.
    pub(super) held_back: Vec<(RegionId, Reason)>,
    pub(super) health: Health<'w>,
    takers: Vec<&'w RegionId>,
}

impl<'w> Move<'w> {
    fn new(
        service: &'w Service,
        state: &'w TrafficState,
        stages: Vec<Stage>,
        held_back: Vec<(RegionId, Reason)>,
        health: Health<'w>,
    ) -> Self {
        let mut takers: Vec<&RegionId> = Vec::new();
        for stage in &stages {
            takers.extend(gaining(service, state, &stage.weights));
        }
        takers.sort_unstable();
        takers.dedup();
        Self { service, state, stages, held_back, health, takers }
    }

    pub(super) fn last(&self) -> &Stage {
        &self.stages[self.stages.len() - 1]
    }

    /// The stage with this number, or the last: a shorter ramp has ended while a longer one goes on.
    pub(super) fn stage(&self, number: usize) -> &Stage {
        &self.stages[number.min(self.stages.len() - 1)]
    }

    /// Regions that carry more after some stage than they do now.
    pub(super) fn takers(&self) -> &[&'w RegionId] {
        &self.takers
    }

    /// Those of them that may, and must be fit for it. The others answer already, in a zone that knows no weights: nobody
    /// can keep them from their part of what is left.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &'w RegionId> {
        self.takers.iter().copied().filter(|taker| !self.held_back.iter().any(|(held, _)| held == *taker))
    }

    /// Those that must carry what they get. One that is down carries nothing, with or without more to carry.
    pub(super) fn carrying(&self) -> impl Iterator<Item = &'w RegionId> {
        let is_lost = |taker: &RegionId| {
            self.health.state(taker).moves_traffic() && self.held_back.iter().any(|(held, _)| held == taker)
        };
        self.takers.iter().copied().filter(move |taker| !is_lost(taker))
    }
}

/// What a service's endpoints are held to be. Read in one sweep: a look-up for each endpoint would dominate the time
/// that it takes to plan thousands of services.
#[derive(Debug)]
pub(super) struct Health<'w>(Vec<(&'w RegionId, VerdictState)>);

impl<'w> Health<'w> {
    fn of(world: &'w World, service: &'w Service) -> Self {
        let own = of_service(&world.verdicts, service);
        Self(own.filter_map(|(region, standing)| Some((region, standing?.verdict.state))).collect())
    }

    /// `Unknown` when nothing is held.
    pub(super) fn state(&self, region: &RegionId) -> VerdictState {
        let found = self.0.binary_search_by(|(known, _)| (*known).cmp(region));
        found.map_or(VerdictState::Unknown, |at| self.0[at].1)
    }

    /// Each of these regions, which must ascend, with its state.
    pub(super) fn beside<'a>(
        &'a self,
        regions: impl Iterator<Item = &'a RegionId>,
    ) -> impl Iterator<Item = (&'a RegionId, VerdictState)> {
        let states = self.0.iter().map(|(region, state)| (*region, *state));
        beside(regions, states).map(|(region, state)| (region, state.unwrap_or(VerdictState::Unknown)))
    }
}

/// Does this purpose take traffic off its region?
pub(super) fn leaves(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Failover | Purpose::Drain)
}

/// Why one service is not moved.
enum Excluded {
    /// It is where it is wanted.
    AlreadyThere(Reason),
    /// Something else works on it.
    Busy(Reason),
    /// Nobody may take its traffic, or nothing is known about it.
    Unmovable(&'static str, Vec<Reason>),
}

/// The moves of all services that can be moved; the others are reported.
pub(super) fn all<'w>(
    world: &'w World,
    intent: &Intent,
    services: &[&'w Service],
    report: &mut Report,
) -> Vec<Move<'w>> {
    let busy = busy_services(&world.runs);
    let mut moves = vec![];
    let mut left = vec![];
    for service in services {
        match one(world, intent, service, &busy) {
            Ok(found) => moves.push(found),
            Err(excluded) => left.push(excluded),
        }
    }
    for excluded in left {
        exclude(intent, excluded, moves.is_empty(), report);
    }
    moves
}

fn busy_services(runs: &[ActiveRun]) -> BTreeMap<&ServiceId, &ActiveRun> {
    runs.iter()
        .filter(|r| !r.awaiting_approval)
        .flat_map(|r| r.services.iter().map(move |s| (s, r)))
        .collect()
}

fn exclude(intent: &Intent, excluded: Excluded, nothing_moves: bool, report: &mut Report) {
    match excluded {
        Excluded::AlreadyThere(reason) if nothing_moves => report.refuse("scope", reason),
        Excluded::AlreadyThere(reason) => report.pass("scope", reason),
        // A person who named or meant this service waits for the other run; drover moves what is free.
        Excluded::Busy(reason) if nothing_moves || !intent.automatic => report.refuse("one_run", reason),
        Excluded::Busy(reason) => report.tell("one_run", reason),
        Excluded::Unmovable(guard, reasons) => {
            let told = !intent.automatic && !intent.services.is_empty();
            for reason in reasons {
                if nothing_moves || told {
                    report.refuse(guard, reason);
                } else {
                    report.tell(guard, reason);
                }
            }
        }
    }
}

fn one<'w>(
    world: &'w World,
    intent: &Intent,
    service: &'w Service,
    busy: &BTreeMap<&ServiceId, &ActiveRun>,
) -> Result<Move<'w>, Excluded> {
    if let Some(other) = busy.get(&service.name) {
        cov_mark::hit!(i2_one_run);
        return Err(Excluded::Busy(Reason::RunInProgress {
            service: service.name.clone(),
            run: other.run.clone(),
            by: other.by.clone(),
        }));
    }
    if let Some(held_by) = world.held.get(&service.name) {
        cov_mark::hit!(held_by_break_glass);
        let (service, held_by) = (service.name.clone(), held_by.clone());
        return Err(Excluded::Unmovable("break_glass", vec![Reason::HeldByBreakGlass { service, held_by }]));
    }
    if let Some(commanded_by) = world.dns_of_another_store {
        cov_mark::hit!(dns_of_another_store);
        return Err(Excluded::Unmovable("dns", vec![Reason::DnsOfAnotherStore { commanded_by }]));
    }
    let Some(state) = world.traffic.get(&service.name) else {
        cov_mark::hit!(scope_no_traffic_state);
        let what = format!("traffic state of `{}`", service.name);
        return Err(Excluded::Unmovable("scope", vec![Reason::NotFound { what, known: vec![] }]));
    };
    if leaves(intent.purpose) {
        leave(world, intent, service, state)
    } else {
        come_back(world, intent, service, state)
    }
}

fn leave<'w>(
    world: &'w World,
    intent: &Intent,
    service: &'w Service,
    state: &'w TrafficState,
) -> Result<Move<'w>, Excluded> {
    let (from, health) = (&intent.region, Health::of(world, service));
    let out = state.shares.get(from).is_some_and(|s| s.share == Percent::ZERO);
    // A region that stands by (weight 0) can be drained so that nothing spills to it; there is nothing to fail over.
    if out || (state.weight(from) == Weight(0) && intent.purpose == Purpose::Failover) {
        cov_mark::hit!(already_out);
        let (service, region) = (service.name.clone(), from.clone());
        return Err(Excluded::AlreadyThere(Reason::AlreadyOut { service, region }));
    }
    // Few may not take anything: what else is asked is asked of these.
    let held_back: Vec<(RegionId, Reason)> = health
        .beside(service.endpoints.keys())
        .filter_map(|(r, held)| may_take(world, service, held, r).err().map(|why| (r.clone(), why)))
        .filter(|(r, _)| r != from && state.shares.get(r).is_some_and(|s| s.share > Percent::ZERO))
        .filter(|(r, _)| intent.to.as_ref().is_none_or(|to| to == r))
        .collect();
    let unmovable = |_| {
        cov_mark::hit!(last_healthy_region);
        let last = Reason::LastHealthyRegion { service: service.name.clone(), region: from.clone() };
        let others = held_back.iter().map(|(_, why)| why.clone());
        Excluded::Unmovable("target", std::iter::once(last).chain(others).collect())
    };
    let weights = match &intent.to {
        Some(to) => only_to(service, state, from, to, &held_back)?,
        None => spread(service, state, from, &held_back).map_err(unmovable)?,
    };
    let reason = match intent.purpose {
        Purpose::Failover => PlannedShareReason::FailedOver,
        _ => PlannedShareReason::Drained,
    };
    let stages = vec![Stage { share: PlannedShare { share: Percent::ZERO, reason }, weights }];
    Ok(Move::new(service, state, stages, held_back, health))
}

/// Everything that `from` carries goes to `to`, which must be there and may take it.
fn only_to(
    service: &Service,
    state: &TrafficState,
    from: &RegionId,
    to: &RegionId,
    held_back: &[(RegionId, Reason)],
) -> Result<Weights, Excluded> {
    if !service.endpoints.contains_key(to) || to == from {
        cov_mark::hit!(target_not_found);
        let what = format!("other endpoint of `{}` in `{to}`", service.name);
        let known = service.endpoints.keys().filter(|r| *r != from).map(ToString::to_string).collect();
        return Err(Excluded::Unmovable("target", vec![Reason::NotFound { what, known }]));
    }
    if let Some((_, why)) = held_back.first() {
        return Err(Excluded::Unmovable("target", vec![why.clone()]));
    }
    if state.shares.get(to).is_none_or(|s| s.share == Percent::ZERO) {
        cov_mark::hit!(target_is_out);
        let reason = Reason::AlreadyOut { service: service.name.clone(), region: to.clone() };
        return Err(Excluded::Unmovable("target", vec![reason]));
    }
    let taker = Weights::from_iter([(to.clone(), Weight(1))]);
    let after = weights::moved(service, &state.weights, from, &taker).map_err(|_| {
        Excluded::Unmovable("target", vec![Reason::NoEligibleTarget { service: service.name.clone() }])
    })?;
    let others: Vec<RegionId> =
        gaining(service, state, &after).into_iter().filter(|region| *region != to).cloned().collect();
    if others.is_empty() {
        return Ok(after);
    }
    cov_mark::hit!(no_weights_to_send_it_to_one);
    let (service, region) = (service.name.clone(), to.clone());
    Err(Excluded::Unmovable("target", vec![Reason::NoWeights { service, region, others }]))
}

/// The regions that carry more with these weights than they do now.
fn gaining<'w>(service: &'w Service, state: &'w TrafficState, weights: &Weights) -> Vec<&'w RegionId> {
    let now = beside(service.endpoints.keys(), &state.weights);
    let then = beside(service.endpoints.keys(), weights);
    // Equal shares of a hundred differ by their rounding; what counts is among how many it is split.
    let answering = |weights: &Weights| weights.values().filter(|w| w.0 > 0).count();
    let among_fewer = answering(weights) < answering(&state.weights);
    let gains = |now: Option<&Weight>, then: Option<&Weight>| match service.split {
        Split::ByWeight => then > now,
        Split::Equally => then.is_some_and(|w| w.0 > 0) && (among_fewer || now.is_none_or(|w| w.0 == 0)),
    };
    now.zip(then).filter(|((_, now), (_, then))| gains(*now, *then)).map(|((region, _), _)| region).collect()
}

fn spread(
    service: &Service,
    state: &TrafficState,
    from: &RegionId,
    held_back: &[(RegionId, Reason)],
) -> Result<Weights, NeverDark> {
    let stays = |region: &RegionId| region != from && !held_back.iter().any(|(r, _)| r == region);
    let shares = beside(service.endpoints.keys(), &state.shares)
        .map(|(region, share)| share.map(|s| s.share).filter(|_| stays(region)));
    let takers = weights::published_of(service, shares)?;
    if held_back.is_empty() {
        return Ok(takers);
    }
    weights::moved(service, &state.weights, from, &takers)
}

fn come_back<'w>(
    world: &'w World,
    intent: &Intent,
    service: &'w Service,
    state: &'w TrafficState,
) -> Result<Move<'w>, Excluded> {
    let (region, health) = (&intent.region, Health::of(world, service));
    let name = &service.name;
    let now = state.shares.get(region).map_or(Percent::ZERO, |s| s.share);
    if now == Percent::FULL {
        cov_mark::hit!(already_full);
        let (service, region) = (name.clone(), region.clone());
        return Err(Excluded::AlreadyThere(Reason::AlreadyFull { service, region }));
    }
    if let Some(run) = left_by_failover(state, region).filter(|_| intent.purpose == Purpose::Undrain) {
        cov_mark::hit!(undrain_is_no_failback);
        let (service, region) = (name.clone(), region.clone());
        let reason = Reason::LeftByFailover { service, region, run: run.clone() };
        return Err(Excluded::Unmovable("drained", vec![reason]));
    }
    may_take(world, service, health.state(region), region)
        .map_err(|why| Excluded::Unmovable("target", vec![why]))?;
    let mut shares = percents(&state.shares);
    let mut stages = vec![];
    for share in ramp_above(service, now) {
        shares.insert(region.clone(), share);
        let weights = weights::published(service, &shares).map_err(|_| {
            Excluded::Unmovable("target", vec![Reason::NoEligibleTarget { service: name.clone() }])
        })?;
        let full = share == Percent::FULL;
        let reason = if full { PlannedShareReason::Configured } else { PlannedShareReason::Returning };
        stages.push(Stage { share: PlannedShare { share, reason }, weights });
    }
    let found = Move::new(service, state, stages, vec![], health);
    // The others give; where one would gain instead (an earlier move was narrowed), it must be fit for it as well.
    let unfit: Vec<Reason> = found
        .takers()
        .iter()
        .filter_map(|r| may_take(world, service, found.health.state(r), r).err())
        .collect();
    if unfit.is_empty() { Ok(found) } else { Err(Excluded::Unmovable("target", unfit)) }
}

/// The failover that left `region`, or the failback that has brought only a part of it back.
fn left_by_failover<'s>(state: &'s TrafficState, region: &RegionId) -> Option<&'s RunId> {
    let reason = &state.shares.get(region)?.reason;
    reason.run().filter(|_| !matches!(reason, ShareReason::Drained { .. }))
}

/// The ramp's shares above `now`, rising, always ending at 100 %. Where DNS splits equally the first is as much as the
/// last, and nothing but the last would be true.
fn ramp_above(service: &Service, now: Percent) -> Vec<Percent> {
    if service.split == Split::Equally {
        return vec![Percent::FULL];
    }
    let mut shares: Vec<Percent> = vec![];
    for share in service.failover.ramp.iter().chain([&Percent::FULL]) {
        if *share > shares.last().copied().unwrap_or(now) {
            shares.push(*share);
        }
    }
    shares
}

/// May `region` be given more of the service's traffic? Unknown is not healthy (I6).
fn may_take(world: &World, service: &Service, state: VerdictState, region: &RegionId) -> Result<(), Reason> {
    let allowed = &service.failover.jurisdictions;
    if !allowed.is_empty() {
        let jurisdiction = world.config.regions.get(region).map_or("", |r| r.location.jurisdiction.as_str());
        if !allowed.iter().any(|a| a == jurisdiction) {
            cov_mark::hit!(i7_locality);
            let (service, region) = (service.name.clone(), region.clone());
            return Err(Reason::LocalityForbids { service, region, jurisdiction: jurisdiction.to_owned() });
        }
    }
    if state == VerdictState::Healthy {
        return Ok(());
    }
    cov_mark::hit!(i6_target_not_healthy);
    Err(Reason::TargetNotHealthy { service: service.name.clone(), region: region.clone(), state })
}
