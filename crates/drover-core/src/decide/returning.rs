//! Bringing a region back by drover itself, where its services say so; otherwise saying that a person may, or why not yet.
//!
//! Nothing is ever asked here: an offer stands in `status` for as long as it holds, so that a question would add nothing but
//! a page. And nothing is hurried: while a block period is in force drover could not leave the region again by itself, so
//! it does not go back there by itself either. That bounds the circle of going and coming to one a block period (I8).

use super::{Checker, Planner, gate};
use crate::damping::{self, Damping};
use crate::failback;
use crate::quorum;
use drover_model::config::Service;
use drover_model::decision::{ActionDecision, Conclusion, FailureClass, GuardResult, VerdictState};
use drover_model::plan::{Intent, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::{RegionId, ServiceId, Timestamp};
use std::collections::BTreeSet;

/// Services that were left in `region` and are well there again.
struct Return<'a> {
    world: &'a World,
    region: &'a RegionId,
    now: Timestamp,
    services: Vec<&'a Service>,
}

/// What a guard said: its refusal, and when that ends by itself.
type Refusal = Option<(Reason, Option<Timestamp>)>;

/// Decides about a region in which nothing fails; nothing when there is nothing that could come back.
pub(super) fn decide(
    world: &World,
    region: &RegionId,
    now: Timestamp,
    planner: Planner<'_>,
    checker: Checker<'_>,
) -> Option<ActionDecision> {
    let well = |s: &&Service| {
        failback::standing(world, &s.name, region).is_some_and(|v| v.verdict.state == VerdictState::Healthy)
    };
    let left = |s: &&Service| world.traffic.get(&s.name).is_some_and(|t| failback::was_left(t, region));
    let mut services: Vec<&Service> = world.config.services_in(region).filter(left).filter(well).collect();
    // Those that come back by themselves do not wait for those that a person must bring back.
    if services.iter().any(|s| failback::by_itself(world, s, region)) {
        services.retain(|s| failback::by_itself(world, s, region));
    }
    services.sort_by_key(|s| s.priority);
    if services.is_empty() {
        return None;
    }
    let decision = Return { world, region, now, services }.conclude(planner);
    Some(gate::unless_unsound(world, now, decision, planner, checker))
}

impl Return<'_> {
    fn conclude(&self, planner: Planner<'_>) -> ActionDecision {
        let asked = [
            ("run_in_progress", self.first(|s| Some((failback::busy(self.world, &s.name)?, None)))),
            ("reporting", failback::silent(self.world, self.region).map(|r| (r, None))),
            ("quorum", self.first(|s| self.too_few_see_it(s))),
            ("stable_hold", self.hold()),
            ("automatic", self.offered()),
            ("freeze", self.frozen()),
            ("block_period", self.blocked()),
            ("flap_damping", self.first(|s| self.flaps(s))),
            ("question_open", self.first(|s| self.asked(s))),
        ];
        let mut guards: Vec<GuardResult> = asked
            .iter()
            .map(|(guard, refusal)| GuardResult {
                guard: (*guard).into(),
                passed: refusal.is_none(),
                reason: refusal.as_ref().map_or(Reason::Passed, |(reason, _)| reason.clone()),
            })
            .collect();
        let refusal = asked.into_iter().find_map(|(_, refusal)| refusal);
        let refusal = refusal.or_else(|| self.unplannable(planner, &mut guards));
        let (conclusion, (reason, look_again_at)) = match refusal {
            Some(refusal) => (Conclusion::Hold, refusal),
            None => {
                cov_mark::hit!(failback_by_itself);
                (Conclusion::Act, (self.offer(), None))
            }
        };
        ActionDecision {
            purpose: Purpose::Failback,
            region: self.region.clone(),
            services: self.names(),
            class: FailureClass::Recovery,
            conclusion,
            guards,
            reason,
            look_again_at,
        }
    }

    fn names(&self) -> Vec<ServiceId> {
        self.services.iter().map(|s| s.name.clone()).collect()
    }

    fn first(&self, refuses: impl Fn(&Service) -> Refusal) -> Refusal {
        self.services.iter().find_map(|s| refuses(s))
    }

    fn offer(&self) -> Reason {
        failback::offer(self.world, &self.services, self.region).unwrap_or(Reason::NothingToDo)
    }

    /// Being held healthy takes fewer voices in a small world than moving traffic by itself does.
    fn too_few_see_it(&self, service: &Service) -> Refusal {
        let verdict = &failback::standing(self.world, &service.name, self.region)?.verdict;
        let need = quorum::need_for(self.world, &service.name, self.region);
        if verdict.healthy >= need {
            return None;
        }
        cov_mark::hit!(i6_too_few_see_it_healthy);
        let (abstaining, configured) = (verdict.abstaining, verdict.configured);
        Some((Reason::TooLittleKnown { abstaining, configured, need }, None))
    }

    /// All of them come back together, so that the last one's hold counts; of equals, the most important service's.
    fn hold(&self) -> Refusal {
        let early = self.services.iter().rev().filter_map(|s| {
            let reason = failback::too_early(self.world, s, self.region, self.now)?;
            let Reason::StableHold { until, .. } = reason else { return None };
            Some((reason, Some(until)))
        });
        early.max_by_key(|(_, until)| *until)
    }

    fn offered(&self) -> Refusal {
        if self.services.iter().all(|s| failback::by_itself(self.world, s, self.region)) {
            return None;
        }
        cov_mark::hit!(failback_is_offered);
        Some((self.offer(), None))
    }

    fn frozen(&self) -> Refusal {
        let freeze = self.world.freeze.as_ref().filter(|f| f.holds_at(self.now))?;
        cov_mark::hit!(i8_frozen_brings_nothing_back);
        let (by, why, until) = (freeze.by.to_string(), freeze.reason.clone(), freeze.expires_at);
        Some((Reason::Frozen { by, why, until }, until))
    }

    /// Of any class: whichever it is, drover could not leave the region again for it.
    fn blocked(&self) -> Refusal {
        let names: BTreeSet<&ServiceId> = self.services.iter().map(|s| &s.name).collect();
        let blocks = self.world.blocks.iter().filter(|b| names.contains(&b.service) && self.now < b.until);
        let b = blocks.max_by_key(|b| b.until)?;
        cov_mark::hit!(i8_block_period_brings_nothing_back);
        let (service, run) = (b.service.clone(), b.run.clone());
        Some((Reason::Blocked { service, class: b.class, run, until: b.until }, Some(b.until)))
    }

    fn flaps(&self, service: &Service) -> Refusal {
        let standing = failback::standing(self.world, &service.name, self.region)?;
        let damping = Damping::of(service);
        let until = damping::damped_until(standing, self.now, &damping)?;
        cov_mark::hit!(i8_flapping_brings_nothing_back);
        let changes = u32::try_from(damping::troubles(standing, self.now, &damping)).unwrap_or(u32::MAX);
        Some((Reason::FlapDamping { changes, until }, Some(until)))
    }

    /// What would begin here would be stopped by the failover that is asked about: a question whose cause ends, such as a
    /// block period, is followed by the failover itself.
    fn asked(&self, service: &Service) -> Refusal {
        let reason = failback::asked(self.world, &service.name)?;
        cov_mark::hit!(nothing_returns_beside_a_question);
        Some((reason, None))
    }

    /// Whatever the planner objects to stays for a person, who is offered it all the same.
    fn unplannable(&self, planner: Planner<'_>, guards: &mut Vec<GuardResult>) -> Refusal {
        let intent = Intent {
            purpose: Purpose::Failback,
            services: self.names(),
            region: self.region.clone(),
            to: None,
            automatic: true,
            hold_for: None,
            reason: String::new(),
            accept: vec![],
        };
        let planned = planner(self.world, &intent, self.now);
        guards.extend(planned.guards);
        let moves_all = planned.plan.is_some_and(|p| {
            let moved: BTreeSet<&ServiceId> = p.services.iter().collect();
            self.services.iter().all(|s| moved.contains(&s.name))
        });
        let objection = planned.refusals.into_iter().next();
        if moves_all && objection.is_none() {
            return None;
        }
        let left_behind = || guards.iter().rev().find(|g| !g.passed).map(|g| g.reason.clone());
        let reason = objection.or_else(left_behind).unwrap_or(Reason::NothingToDo);
        Some((reason, None))
    }
}
