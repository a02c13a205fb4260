//! Who may speak, and what all of them together say of an endpoint: from opinions to a verdict, in the one way in which the
//! coordinator, the simulation and the backtest do it.

use crate::opinion::{Opinion, policy_of};
use crate::quorum;
use crate::short_ttl;
use crate::verdict::{self, Vote, Votes};
use drover_model::config::{Config, Service};
use drover_model::decision::{
    OpinionState, VantageOpinion, VantageState, Verdict, VerdictInputs, VerdictState,
};
use drover_model::plan::StandingVerdict;
use drover_model::{AgentId, EndpointKey, RegionId, Timestamp};
use std::collections::BTreeMap;

/// What each vantage holds of one endpoint.
pub type Opinions = BTreeMap<AgentId, Opinion>;

/// Every configured vantage with what it may say at one moment, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    members: Vec<(AgentId, RegionId, VantageState)>,
    led_since: Option<Timestamp>,
}

impl Panel {
    /// The configured vantages, each as `state` says.
    #[must_use]
    pub fn of(config: &Config, state: impl Fn(&AgentId) -> VantageState) -> Self {
        let members = config.agents().into_iter().map(|(agent, region)| {
            let state = state(&agent);
            (agent, region, state)
        });
        Self { members: members.collect(), led_since: None }
    }

    /// The same before a coordinator that began to lead then: what was probed earlier is told apart.
    #[must_use]
    pub fn led_since(self, start: Timestamp) -> Self {
        Self { led_since: Some(start), ..self }
    }

    /// Each vantage with its opinion. Both are in the order of their names, so that they are walked side by side.
    fn with<'a>(
        &'a self,
        opinions: Option<&'a Opinions>,
    ) -> impl Iterator<Item = (&'a (AgentId, RegionId, VantageState), Option<&'a Opinion>)> {
        let mut held = opinions.into_iter().flatten().peekable();
        self.members.iter().map(move |member| {
            while held.next_if(|(agent, _)| **agent < member.0).is_some() {}
            (member, held.next_if(|(agent, _)| **agent == member.0).map(|(_, opinion)| opinion))
        })
    }

    /// The verdict on `service` in `region`, and until when it stands at most unless something arrives. Only votes are
    /// counted; what the verdict is made from in full is [`Panel::inputs`].
    #[must_use]
    pub fn conclude(
        &self,
        opinions: Option<&Opinions>,
        service: &Service,
        region: &RegionId,
        now: Timestamp,
    ) -> (Verdict, Option<Timestamp>) {
        let stale_after = service.stale_after();
        let (mut outside, mut inside) = (Votes::default(), Votes::default());
        let (mut n, mut until) = (0, None);
        for ((_, home, vantage), opinion) in self.with(opinions) {
            let (state, last_probe_failed) =
                opinion.map_or((OpinionState::Unknown, false), |o| o.vote_at(now, stale_after));
            let changes = opinion.and_then(|o| o.next_change_at(now, stale_after));
            until = until.into_iter().chain(changes).min();
            let confirmed = self.led_since.is_none_or(|start| opinion.is_some_and(|o| o.probed_since(start)));
            let vote = Vote { counts: vantage.counts(), state, last_probe_failed, confirmed };
            if home == region {
                inside.cast(vote);
            } else {
                outside.cast(vote);
                n += 1;
            }
        }
        let need = quorum::need_under(n, service.failover.quorum);
        (verdict::conclude_votes(outside, inside, need), until)
    }

    /// Consecutive failures, up to the service's threshold, that each of a quorum of outside vantages has seen: how near the endpoint is to
    /// being found down.
    #[must_use]
    pub fn failures_of_a_quorum(
        &self,
        opinions: Option<&Opinions>,
        service: &Service,
        region: &RegionId,
        now: Timestamp,
    ) -> u32 {
        let (stale_after, threshold) = (service.stale_after(), service.failover.failure_threshold);
        let outside = self.with(opinions).filter(|((_, home, _), _)| home != region);
        let seen = outside.map(|((_, _, vantage), opinion)| match opinion {
            Some(opinion) if vantage.counts() => opinion.failures_at(now, stale_after, threshold),
            _ => 0,
        });
        let seen: Vec<u32> = seen.collect();
        let n = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        short_ttl::shared_by_a_quorum(seen, quorum::need_under(n, service.failover.quorum))
    }

    /// What a verdict is made from, in full.
    #[must_use]
    pub fn inputs(
        &self,
        opinions: Option<&Opinions>,
        service: &Service,
        endpoint: &EndpointKey,
        now: Timestamp,
    ) -> VerdictInputs {
        let nothing = Opinion::new();
        let policy = policy_of(service);
        let mut outside: Vec<VantageOpinion> = Vec::new();
        let mut inside: Vec<VantageOpinion> = Vec::new();
        for ((agent, region, state), opinion) in self.with(opinions) {
            let told = opinion.unwrap_or(&nothing).at(now, &policy).told_by(agent, region, *state);
            if *region == endpoint.region { inside.push(told) } else { outside.push(told) }
        }
        let n = u32::try_from(outside.len()).unwrap_or(u32::MAX);
        let need = quorum::need_under(n, service.failover.quorum);
        VerdictInputs {
            endpoint: endpoint.clone(),
            at: now,
            need,
            outside,
            inside,
            led_since: self.led_since,
        }
    }
}

/// Would the same stand? Damping has nothing to add where there was never any trouble, and what was recalled was taken
/// up by the first settled conclusion.
#[must_use]
pub fn is_as_it_stands(standing: &StandingVerdict, concluded: &Verdict) -> bool {
    standing.recent_changes.is_empty() && standing.verdict == *concluded
}

/// Something is concluded. While reports trickle in after a start nothing is, and an endpoint that was down before the
/// start and is down after it has been in one trouble and not in two: not a flap, and not a trouble that began now,
/// which the common-cause breaker would count with any other region's.
#[must_use]
pub fn is_settled(state: VerdictState) -> bool {
    match state {
        VerdictState::Healthy | VerdictState::Degraded | VerdictState::Unreachable | VerdictState::Down => {
            true
        }
        VerdictState::Partitioned | VerdictState::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, NOW, agent, endpoint};
    use proptest::prelude::*;

    proptest! {
        /// What is counted in passing is what the stored inputs conclude, or a decision could not be run again.
        #[test]
        fn votes_and_inputs_conclude_the_same(
            probes in proptest::collection::vec((0usize..4, any::<bool>(), 0u64..40), 0..60),
            speaks in proptest::collection::vec(any::<bool>(), 4),
            led_for in proptest::option::of(0u64..600),
        ) {
            let world = Fixture::three_regions_and_witness().world();
            let names = ["ap-south-1", "eu-west-1", "us-east-1", "tower-1"].map(agent);
            let key = endpoint("checkout@eu-west");
            let service = &world.config.services[&key.service];
            let state = |a: &AgentId| {
                let at = names.iter().position(|name| name == a).unwrap();
                if speaks[at] { VantageState::Reporting } else { VantageState::Silent }
            };
            let mut panel = Panel::of(&world.config, state);
            if let Some(secs) = led_for {
                panel = panel.led_since(NOW + drover_model::Span::from_secs(secs));
            }
            let (mut opinions, mut now) = (Opinions::new(), NOW);
            for (who, good, secs) in probes {
                now = now + drover_model::Span::from_secs(secs);
                let opinion = opinions.entry(names[who].clone()).or_default();
                opinion.observe(now, good, None, &policy_of(service));
            }
            let (verdict, _) = panel.conclude(Some(&opinions), service, &key.region, now);
            prop_assert_eq!(verdict, verdict::conclude(&panel.inputs(Some(&opinions), service, &key, now)));
        }
    }
}
