//! A second pair of eyes on every plan, also on one read back from the store.
//!
//! It re-derives the invariants from the finished plan and the world, and shares no code with the planner: no weights,
//! capacity or read-set function of this crate is called here, even where that repeats some arithmetic. A mistake made
//! once must not vouch for itself.
//!
//! A finding of I7 or I8 in an automatic plan means that a person must be asked; every other finding means that the
//! plan must not run ([`a_person_may_overrule`]).

use drover_model::beside;
use drover_model::config::{Service, Split};
use drover_model::decision::VerdictState;
use drover_model::ids::{EndpointKey, PlanId};
use drover_model::plan::{
    Finding, Intent, Plan, Predicate, ReadSet, Repeatability, Reversal, Step, StepKind, TrafficChange,
    ValidationTarget, World,
};
use drover_model::runbook::Purpose;
use drover_model::time::Span;
use drover_model::traffic::{RegionShare, ShareReason};
use drover_model::{RegionId, ServiceId, Weight, Weights};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// Steps in a plan, at most: what the journal's record limit is reckoned from.
pub const STEPS_MAX: usize = 64;

/// Attempts at one step, at most: as above. With doubling pauses from one second the twentieth is days away.
pub const ATTEMPTS_MAX: u32 = 20;

/// The longest that one attempt may take. The longest honest steps are questions and soaks of a day or two; what waits
/// longer than a week is a schedule and not a step.
pub const STEP_TIME_MAX: Span = Span::from_hours(7 * 24);

/// May a person, asked about it, let a plan with this finding run?
#[must_use]
pub fn a_person_may_overrule(finding: &Finding) -> bool {
    matches!(finding.invariant.as_str(), "I7" | "I8")
}

/// Everything that is wrong with `plan` in `world`. Empty means that nothing was found.
#[must_use]
pub fn check(plan: &Plan, world: &World) -> Vec<Finding> {
    let mut eyes = Eyes { plan, world, gaining: vec![], findings: vec![] };
    eyes.identity();
    eyes.lineage();
    eyes.ownership();
    eyes.bounds();
    eyes.walk();
    eyes.order();
    eyes.reversals();
    eyes.programs();
    eyes.findings
}

/// A plan's content with an empty name and no reason, as its digest sees it.
#[derive(Serialize)]
struct Unnamed<'a> {
    schema: u16,
    id: &'static str,
    intent: &'a Intent,
    services: &'a [ServiceId],
    runbook: &'a str,
    base: &'a ReadSet,
    steps: &'a [Step],
}

struct Eyes<'a> {
    plan: &'a Plan,
    world: &'a World,
    /// Regions that some change gives more than they carry now: seen on the walk.
    gaining: Vec<(&'a ServiceId, &'a RegionId)>,
    findings: Vec<Finding>,
}

/// Where the walk through the steps has got to, for one service.
struct Standing<'a> {
    generation: u64,
    weights: &'a Weights,
    out: BTreeSet<&'a RegionId>,
    changed: bool,
    /// The share of the plan's region, in basis points, when it was last said.
    share: Option<u32>,
}

impl<'a> Eyes<'a> {
    fn find(&mut self, invariant: &str, message: impl Into<String>) {
        self.findings.push(Finding { invariant: invariant.to_owned(), message: message.into() });
    }

    fn service(&self, name: &ServiceId) -> Option<&'a Service> {
        self.world.config.services.get(name)
    }

    fn leaving(&self) -> bool {
        matches!(self.plan.intent.purpose, Purpose::Failover | Purpose::Drain)
    }

    /// I9: the name is the content's.
    fn identity(&mut self) {
        let Plan { schema, intent, services, runbook, base, steps, id } = self.plan;
        let intent = &Intent { reason: String::new(), ..intent.clone() };
        let content = Unnamed { schema: *schema, id: "", intent, services, runbook, base, steps };
        let name = PlanId::of_json(&content);
        if name.as_ref().ok() != Some(id) {
            self.find("I9", format!("the plan calls itself {id}, which is not the name of what it says"));
        }
    }

    /// I9: the base is exactly what the plan touches, at the versions of now.
    fn lineage(&mut self) {
        let expected = self.expected_base();
        for ((object, version), (_, read)) in expected.iter().zip(beside(expected.keys(), &self.plan.base)) {
            match read {
                None => self.find("I9", format!("the plan depends on {object}, which is not in its base")),
                Some(read) if read != version => {
                    self.find("I9", format!("the plan read {object} at {read}, which is at {version}"));
                }
                Some(_) => {}
            }
        }
        let known = beside(self.plan.base.keys(), &expected);
        for (object, _) in known.filter(|(_, version)| version.is_none()) {
            self.find("I9", format!("the base holds {object}, on which the plan does not depend"));
        }
    }

    fn expected_base(&self) -> BTreeMap<String, String> {
        let absent = || "absent".to_owned();
        // Gathered and then sorted: most of it ascends already.
        let mut expected = vec![];
        let runbook = self.world.runbooks.get(&self.plan.intent.purpose);
        let runbook = runbook.filter(|r| r.runbook.name == self.plan.runbook).map(|r| r.version.clone());
        expected.push((format!("runbook/{}", self.plan.runbook), runbook.unwrap_or_else(absent)));
        if self.plan.intent.automatic {
            let freeze = self.world.freeze.as_ref().map(|f| format!("by {} since {}", f.by, f.since));
            expected.push(("freeze".to_owned(), freeze.unwrap_or_else(absent)));
        }
        for name in &self.plan.services {
            let config = self.world.service_version(name).unwrap_or_else(absent);
            expected.push((format!("config/service/{name}"), config));
        }
        for name in &self.plan.services {
            let generation = self.world.traffic.get(name).map(|t| t.generation.to_string());
            expected.push((format!("traffic/{name}"), generation.unwrap_or_else(absent)));
        }
        let bound = |change: &&TrafficChange| {
            self.service(&change.service).is_some_and(|s| !s.failover.jurisdictions.is_empty())
        };
        for change in self.shifts().flat_map(|(_, changes)| changes).filter(bound) {
            for (region, _) in gaining_by(self.world, change) {
                let place = self.world.config.regions.get(region).map(|r| r.location.jurisdiction.clone());
                expected.push((format!("config/region/{region}/jurisdiction"), place.unwrap_or_else(absent)));
            }
        }
        expected.into_iter().collect()
    }

    fn shifts(&self) -> impl Iterator<Item = (usize, &'a [TrafficChange])> + use<'a> {
        self.plan.steps.iter().enumerate().filter_map(|(index, step)| match &step.kind {
            StepKind::ShiftTraffic { changes } => Some((index, changes.as_slice())),
            _ => None,
        })
    }

    /// I2: each service once, and nobody else at work on it.
    fn ownership(&mut self) {
        let own: BTreeSet<&ServiceId> = self.plan.services.iter().collect();
        if own.len() != self.plan.services.len() {
            self.find("I2", "the plan names a service twice");
        }
        if self.plan.intent.automatic && !self.plan.intent.accept.is_empty() {
            self.find("acceptance", "drover itself takes on a refusal, which only a person may");
        }
        for run in self.world.runs.iter().filter(|r| !r.awaiting_approval) {
            for service in run.services.iter().filter(|s| own.contains(s)) {
                self.find("I2", format!("{} is working on {service}", run.run));
            }
        }
        for (service, held_by) in self.world.held.iter().filter(|(service, _)| own.contains(service)) {
            self.find("I2", format!("{held_by} holds DNS of {service} by break-glass"));
        }
        let obeyed = self.world.dns_of_another_store.map(|epoch| format!("DNS obeys another store, {epoch}"));
        obeyed.into_iter().for_each(|found| self.find("I3", found));
        for change in self.shifts().flat_map(|(_, changes)| changes) {
            if !own.contains(&change.service) {
                self.find("I2", format!("{} is changed but not among the plan's services", change.service));
            }
        }
    }

    /// Everything has a limit.
    fn bounds(&mut self) {
        if self.plan.steps.len() > STEPS_MAX {
            self.find("limits", format!("{} steps, {STEPS_MAX} allowed", self.plan.steps.len()));
        }
        for step in &self.plan.steps {
            let id = &step.id;
            if step.attempts == 0 || step.attempts > ATTEMPTS_MAX {
                self.find("limits", format!("{id}: {} attempts, 1 to {ATTEMPTS_MAX} allowed", step.attempts));
            }
            if step.timeout == Span::ZERO || step.timeout > STEP_TIME_MAX {
                self.find("limits", format!("{id}: timeout {}, up to {STEP_TIME_MAX} allowed", step.timeout));
            }
            let by_design = match &step.kind {
                StepKind::Wait { span, .. } => *span,
                StepKind::Validate { targets } => {
                    targets.iter().map(ValidationTarget::longest).max().unwrap_or_default()
                }
                StepKind::Drained { targets, quiet } => {
                    let holds = targets.iter().filter_map(|t| Some(t.source.as_ref()?.hold));
                    quiet.plus(holds.max().unwrap_or_default())
                }
                _ => Span::ZERO,
            };
            if step.timeout < by_design {
                self.find(
                    "limits",
                    format!("{id}: takes {by_design} by design, its timeout is {}", step.timeout),
                );
            }
        }
        let ids: BTreeSet<&String> = self.plan.steps.iter().map(|s| &s.id).collect();
        if ids.len() != self.plan.steps.len() {
            self.find("limits", "two steps have the same id");
        }
    }

    /// Follows every service's weights through the steps, from what is published now to where the plan leaves them.
    fn walk(&mut self) {
        let mut standings: BTreeMap<&ServiceId, Standing<'a>> = BTreeMap::new();
        for name in &self.plan.services {
            match self.world.traffic.get(name) {
                Some(state) => {
                    let out = state.shares.iter().filter(|(_, s)| s.share.basis_points() == 0);
                    let out = out.map(|(r, _)| r).collect();
                    let (generation, weights) = (state.generation.0, &state.weights);
                    standings
                        .insert(name, Standing { generation, weights, out, changed: false, share: None });
                }
                None => self.find("I9", format!("{name} has no traffic state")),
            }
        }
        for change in self.shifts().flat_map(|(_, changes)| changes) {
            let gaining: Vec<(&RegionId, Weight)> = gaining_by(self.world, change).collect();
            let asked_about = gaining.iter().map(|(region, _)| *region);
            let asked_about: Vec<_> = asked_about.filter(|r| !self.unavoidable(change, r)).collect();
            self.gaining.extend(asked_about.into_iter().map(|region| (&change.service, region)));
            if let Some(standing) = standings.get_mut(&change.service) {
                self.chained(change, standing);
                self.sound(change);
                self.destinations(change, &gaining);
                standing.advance(change, &self.plan.intent.region);
            }
        }
        for (name, standing) in &standings {
            self.arrived(name, standing);
        }
    }

    /// I9: each change replaces exactly what the one before made.
    fn chained(&mut self, change: &TrafficChange, standing: &Standing<'_>) {
        let (service, from, to) = (&change.service, change.from_generation.0, change.to_generation.0);
        if from != standing.generation {
            let is = standing.generation;
            self.find("I9", format!("{service}: the change replaces generation {from}, which will be {is}"));
        }
        if to != from.wrapping_add(1) {
            self.find(
                "I9",
                format!("{service}: generation {from} must be followed by the next, not by {to}"),
            );
        }
        if change.weights_before != *standing.weights {
            self.find("I9", format!("{service}: the weights before are not those that are published"));
        }
    }

    /// I4: never dark, exact, with an address for all that is answered; and as the configuration says.
    fn sound(&mut self, change: &TrafficChange) {
        let name = &change.service;
        let sum: u32 = change.weights_after.values().map(|w| u32::from(w.0)).sum();
        if sum == 0 {
            self.find("I4", format!("{name}: every weight would be zero"));
        } else if sum != 100 {
            self.find("I4", format!("{name}: the weights sum to {sum}, not to 100"));
        }
        let Some(service) = self.service(name) else {
            self.find("I9", format!("{name} is not configured"));
            return;
        };
        if service.split == Split::Equally {
            let parts = || change.weights_after.values().map(|w| w.0).filter(|w| *w > 0);
            if parts().max().unwrap_or(0) > parts().min().unwrap_or(0).saturating_add(1) {
                self.find("I9", format!("{name}: its answers know no weights, and the parts are not equal"));
            }
        }
        let configured = beside(change.weights_after.keys(), &service.endpoints);
        let repeats = !change.addresses.is_empty(); // As plans of earlier builds do.
        for ((region, weight), (_, endpoint)) in
            change.weights_after.iter().zip(configured).filter(|((_, w), _)| w.0 > 0)
        {
            let address = endpoint.map(|e| &e.address).filter(|a| !a.is_empty());
            if address.is_none() || (repeats && change.addresses.get(region) != address) {
                let what = format!("{name}: {region} has weight {weight} but not its endpoint's address");
                self.find("I4", what);
            }
        }
        let ttl = service.ttl.as_millis().div_ceil(1_000).max(1);
        if u64::from(change.ttl_seconds) != ttl {
            self.find("dns", format!("{name}: TTL {}s, configured {ttl}s", change.ttl_seconds));
        }
        if change.dns_name != service.dns_name || change.record_type != service.record_type {
            self.find("dns", format!("{name}: {} {} is not its record", change.dns_name, change.record_type));
        }
    }

    /// I6, I7: whoever is given more is known to be healthy, may have it, and can carry it.
    fn destinations(&mut self, change: &TrafficChange, gaining: &[(&RegionId, Weight)]) {
        let Some(service) = self.service(&change.service) else { return };
        let intent = &self.plan.intent;
        for (region, weight) in gaining.iter().copied() {
            let key = EndpointKey::new(&change.service, region);
            let state = self.state(&key);
            if self.unavoidable(change, region) {
                cov_mark::hit!(i6_unavoidable);
            } else if state != VerdictState::Healthy {
                self.find("I6", format!("{key} would take traffic and is {state}"));
            }
            if self.leaving() && intent.to.as_ref().is_some_and(|to| to != region) {
                self.find("I9", format!("{key} would take traffic, which only another region was meant to"));
            }
            if !self.may_have(service, region) && !self.unavoidable(change, region) {
                self.find("locality", format!("{key} would take traffic, which may not go there"));
            }
            let is_lost = self.unavoidable(change, region) && state.moves_traffic();
            if intent.automatic && !is_lost {
                self.fits(service, region, weight);
            }
        }
    }

    fn state(&self, key: &EndpointKey) -> VerdictState {
        self.world.verdicts.get(key).map_or(VerdictState::Unknown, |v| v.verdict.state)
    }

    /// Where DNS splits equally, who answers already takes its part of what is left, fit for it or not. Of those who answer
    /// no larger part is unfit than before.
    fn unavoidable(&self, change: &TrafficChange, region: &RegionId) -> bool {
        let Some(service) = self.service(&change.service) else { return false };
        let answers = self.world.traffic.get(&change.service).is_some_and(|t| t.weight(region).0 > 0);
        let healthy = self.state(&EndpointKey::new(&change.service, region)) == VerdictState::Healthy;
        let fit = healthy && self.may_have(service, region);
        service.split == Split::Equally && self.leaving() && answers && !fit
    }

    fn may_have(&self, service: &Service, region: &RegionId) -> bool {
        let places = &service.failover.jurisdictions;
        let place = self.world.config.regions.get(region).map(|r| &r.location.jurisdiction);
        places.is_empty() || place.is_some_and(|p| places.contains(p))
    }

    fn fits(&mut self, service: &Service, region: &RegionId, weight: Weight) {
        let measured = self.world.loads.get(&service.name).and_then(|l| l.rate());
        let Some(load) = measured.or(service.peak_load) else {
            self.find("I7", format!("the load of {} is not known", service.name));
            return;
        };
        let capacity = service.endpoints.get(region).map_or(0, |e| u128::from(e.capacity.0));
        let kept = 10_000 - u128::from(service.failover.headroom.basis_points());
        // load × weight / 100 <= capacity × kept / 10,000, both sides times 10,000.
        let asked = u128::from(load.0) * u128::from(weight.0);
        if asked * 100 > capacity * kept {
            let (name, rate) = (&service.name, asked.div_ceil(100));
            let usable = capacity * kept / 10_000;
            self.find("I7", format!("{name} would put {rate}rps on {region}, which may carry {usable}rps"));
        }
    }

    /// The plan ends where it was meant to, and not with more regions out than drover may take out (I8).
    fn arrived(&mut self, name: &ServiceId, standing: &Standing<'_>) {
        let region = &self.plan.intent.region;
        let weight = standing.weights.of(region);
        if !standing.changed {
            self.find("goal", format!("{name} is among the services but is not changed"));
        }
        if self.leaving() && (weight != Weight(0) || standing.share != Some(0)) {
            self.find("goal", format!("{name} would still carry weight {weight} in {region}"));
        }
        if !self.leaving() && standing.share != Some(10_000) {
            self.find("goal", format!("{name} would not carry its full share in {region}"));
        }
        let Some(service) = self.service(name) else { return };
        let by_itself = self.plan.intent.automatic && self.plan.intent.purpose == Purpose::Failback;
        if by_itself && !service.failover.failback.automatic {
            self.find("I8", format!("{name} would be brought back by itself, which its policy does not say"));
        }
        let share = self.world.traffic.get(name).and_then(|t| t.shares.get(region));
        let by_person = |s: &RegionShare| match s.reason {
            ShareReason::FailedOver { by_hand, .. } | ShareReason::Returning { by_hand, .. } => by_hand,
            ShareReason::Drained { .. } => true,
            ShareReason::Configured => false,
        };
        if by_itself && share.is_some_and(by_person) {
            self.find(
                "I8",
                format!("{name} would be brought back by itself, although a person left {region}"),
            );
        }
        let (out, max) = (standing.out.len(), service.failover.max_unavailable_regions as usize);
        if self.plan.intent.automatic && self.leaving() && out > max {
            self.find("I8", format!("{out} region(s) of {name} would be out, {max} allowed"));
        }
    }

    /// Facts are looked at before anything moves, DNS after each move, and proof comes last (I9, I10).
    fn order(&mut self) {
        let steps = &self.plan.steps;
        let shifts: Vec<(usize, &[TrafficChange])> = self.shifts().collect();
        let Some(((first, _), (last, _))) = shifts.first().zip(shifts.last()) else {
            self.find("goal", "the plan moves nothing");
            return;
        };
        self.looked_first(&steps[..*first]);
        for (number, (index, changes)) in shifts.iter().enumerate() {
            let until = shifts.get(number + 1).map_or(steps.len(), |(next, _)| *next);
            let shift = &steps[*index].id;
            let verified = steps[*index..until].iter().any(|s| match &s.kind {
                StepKind::VerifyDns { of: Some(of), expected } => of == shift && expected.is_empty(),
                StepKind::VerifyDns { of: None, expected } => expected.as_slice() == *changes,
                _ => false,
            });
            if !verified {
                self.find(
                    "I10",
                    format!("nobody looks whether DNS answers what {} published", steps[*index].id),
                );
            }
        }
        let judged: BTreeSet<&ServiceId> = steps[*last..]
            .iter()
            .filter_map(|s| if let StepKind::Validate { targets } = &s.kind { Some(targets) } else { None })
            .flatten()
            .filter(|t| !t.regions.is_empty())
            .map(|t| &t.service)
            .collect();
        let unjudged: Vec<&ServiceId> = self.plan.services.iter().filter(|s| !judged.contains(s)).collect();
        for service in unjudged {
            self.find("I10", format!("{service} is not validated after the last change"));
        }
    }

    fn looked_first(&mut self, before: &[Step]) {
        let asked: Vec<&Predicate> = before
            .iter()
            .filter_map(|s| {
                if let StepKind::Preflight { predicates } = &s.kind { Some(predicates) } else { None }
            })
            .flatten()
            .collect();
        let mut healthy: Vec<(&ServiceId, &RegionId)> = asked
            .iter()
            .filter_map(
                |p| if let Predicate::EndpointHealthy { endpoint } = p { Some(endpoint) } else { None },
            )
            .map(|e| (&e.service, &e.region))
            .collect();
        healthy.sort_unstable();
        let mut gaining = std::mem::take(&mut self.gaining);
        gaining.sort_unstable();
        gaining.dedup();
        let looked = beside(gaining.iter(), healthy.iter().map(|endpoint| (endpoint, ())));
        for ((service, region), _) in looked.filter(|(_, looked)| looked.is_none()) {
            let what =
                format!("whether {service}@{region} is healthy is not asked before traffic moves there");
            self.find("I9", what);
        }
        if !self.plan.intent.automatic || self.plan.intent.purpose != Purpose::Failover {
            return;
        }
        let bad: BTreeSet<&ServiceId> = asked
            .iter()
            .filter_map(|p| {
                if let Predicate::EndpointStillBad { endpoint } = p { Some(&endpoint.service) } else { None }
            })
            .collect();
        for service in self.plan.services.iter().filter(|s| !bad.contains(s)) {
            self.find("I9", format!("whether {service} still fails is not asked before it is moved"));
        }
    }

    /// Undoing restores what was there, and never leads back to a region that failed.
    fn reversals(&mut self) {
        for step in &self.plan.steps {
            let changes = match &step.kind {
                StepKind::ShiftTraffic { changes } => changes.as_slice(),
                _ => &[],
            };
            let (back, out) = match &step.reversal {
                Reversal::RestoreWeights { changes } => (changes.as_slice(), [].as_slice()),
                Reversal::StepBack { changes, out } => (changes.as_slice(), out.as_slice()),
                _ => continue,
            };
            self.taken_out(step, changes, out);
            if self.plan.intent.purpose == Purpose::Failover {
                self.find(
                    "reversal",
                    format!("{}: undoing would send traffic back to the failed region", step.id),
                );
            }
            let undoes = |(forth, back): (&TrafficChange, &TrafficChange)| {
                forth.service == back.service
                    && forth.weights_before == back.weights_after
                    && forth.weights_after == back.weights_before
            };
            if back.len() != changes.len() || !changes.iter().zip(back).all(undoes) {
                self.find("reversal", format!("{}: undoing does not restore the weights before", step.id));
            }
        }
    }
}

impl Eyes<'_> {
    /// I9: what was approved is what runs, to the last byte. I1: what can be neither observed nor repeated is begun once.
    fn programs(&mut self) {
        for step in &self.plan.steps {
            let StepKind::Run { command, repeatability, observe } = &step.kind else { continue };
            let id = &step.id;
            for program in std::iter::once(command).chain(observe).filter(|p| p.digest.is_empty()) {
                self.find("I9", format!("{id}: nobody read {}, so that it could be anything", program.path));
            }
            if *repeatability == Repeatability::AtMostOnce && step.attempts != 1 {
                self.find("I1", format!("{id} is at_most_once and has {} attempts", step.attempts));
            }
            if (*repeatability == Repeatability::Observable) != observe.is_some() {
                self.find("I1", format!("{id} is {} and the plan does not observe so", repeatability.word()));
            }
        }
    }

    /// I4: what takes a region out after its return failed leaves nothing there, and the others everything.
    fn taken_out(&mut self, step: &Step, forth: &[TrafficChange], out: &[TrafficChange]) {
        let region = &self.plan.intent.region;
        for change in out {
            let left: u32 = change.weights_after.values().map(|w| u32::from(w.0)).sum();
            let stays = change.weights_after.get(region).is_some_and(|w| w.0 > 0)
                || change.shares_after.get(region).is_none_or(|s| s.share.basis_points() > 0);
            // A service whose own ramp has ended is not moved by this stage, and goes out with the others.
            let moved = forth.iter().find(|f| f.service == change.service);
            let undoes = moved.is_none_or(|f| f.weights_after == change.weights_before);
            let ours = self.plan.services.contains(&change.service);
            if left != 100 || stays || !undoes || !ours {
                let (id, service) = (&step.id, &change.service);
                let message =
                    format!("{id}: taking {region} out of {service} would not leave all to the others");
                self.find("I4", message);
            }
        }
    }
}

/// Regions that the change gives more than they carry now, with their weights after it.
fn gaining_by<'a>(
    world: &'a World,
    change: &'a TrafficChange,
) -> impl Iterator<Item = (&'a RegionId, Weight)> + use<'a> {
    let equally = world.config.services.get(&change.service).is_some_and(|s| s.split == Split::Equally);
    let now = world.traffic.get(&change.service).map(|t| &t.weights);
    let among = |weights: &Weights| weights.values().filter(|w| w.0 > 0).count();
    let among_fewer = now.is_some_and(|now| among(&change.weights_after) < among(now));
    let more = move |now: Weight, after: Weight| match equally {
        // Of equal parts none is larger by its rounding.
        true => after.0 > 0 && (among_fewer || now.0 == 0),
        false => after > now,
    };
    let now = beside(change.weights_after.keys(), now.into_iter().flatten());
    let after = change.weights_after.values();
    now.zip(after).filter_map(move |((region, now), after)| {
        more(now.copied().unwrap_or_default(), *after).then_some((region, *after))
    })
}

impl<'a> Standing<'a> {
    fn advance(&mut self, change: &'a TrafficChange, region: &RegionId) {
        self.generation = change.to_generation.0;
        self.weights = &change.weights_after;
        self.changed = true;
        self.share = change.shares_after.get(region).map(|s| s.share.basis_points());
        for (region, planned) in &change.shares_after {
            if planned.share.basis_points() == 0 {
                self.out.insert(region);
            } else {
                self.out.remove(region);
            }
        }
    }
}
