//! How many outside vantages must agree (I6), and whether that many could.
//!
//! The denominator is the number of vantages *configured* outside the region. A silent one abstains and stays in it:
//! otherwise a partition that hides most vantages would let the few on one side decide alone.

use drover_model::api::QuorumView;
use drover_model::config::Config;
use drover_model::decision::VantageState;
use drover_model::plan::World;
use drover_model::{AgentId, RegionId, ServiceId};

/// No number of vantages is small enough for one alone to move traffic.
pub const NEED_MIN: u32 = 2;

/// `max(2, ⌊n/2⌋ + 1)` of `n` configured outside vantages.
#[must_use]
pub const fn need(n: u32) -> u32 {
    let majority = n / 2 + 1;
    if majority > NEED_MIN { majority } else { NEED_MIN }
}

/// The need under a policy's own `quorum`, which may raise it and never lower it.
#[must_use]
pub fn need_under(n: u32, policy_quorum: Option<u32>) -> u32 {
    let rule = need(n);
    match policy_quorum {
        Some(quorum) if quorum > rule => {
            cov_mark::hit!(policy_raises_quorum);
            quorum
        }
        Some(quorum) if quorum < rule => {
            cov_mark::hit!(i6_policy_cannot_lower_quorum);
            rule
        }
        Some(_) | None => rule,
    }
}

/// The need for `service` in `region`: what a coordinator writes into [`drover_model::decision::VerdictInputs`].
#[must_use]
pub fn need_for(world: &World, service: &ServiceId, region: &RegionId) -> u32 {
    need_of(&world.config, region, std::slice::from_ref(service))
}

/// The need for all of `services` in `region`: that of whichever needs the most agreement.
#[must_use]
pub fn need_of(config: &Config, region: &RegionId, services: &[ServiceId]) -> u32 {
    let raised = services.iter().filter_map(|s| config.services.get(s)?.failover.quorum).max();
    need_under(count(config.outside_vantages(region).len()), raised)
}

/// Whether each of `regions` could be failed over automatically, for whichever of its services needs the most agreement.
pub fn automatic_possible<'w>(
    world: &'w World,
    regions: impl Iterator<Item = &'w RegionId>,
) -> impl Iterator<Item = QuorumView> {
    // Few services ask for more than a majority: they are looked for once.
    let raised: Vec<_> =
        world.config.services.values().filter_map(|s| Some((&s.endpoints, s.failover.quorum?))).collect();
    regions.map(move |region| {
        let of_region = raised.iter().filter(|(endpoints, _)| endpoints.contains_key(region));
        possible_under(world, region, of_region.map(|(_, quorum)| *quorum).max())
    })
}

/// Whether `services` could be moved out of `region` automatically: enough outside vantages are configured, and enough
/// of those can speak now.
#[must_use]
pub fn possible_for(world: &World, region: &RegionId, services: &[ServiceId]) -> QuorumView {
    let services = services.iter().filter_map(|s| world.config.services.get(s));
    possible_under(world, region, services.filter_map(|s| s.failover.quorum).max())
}

fn possible_under(world: &World, region: &RegionId, raised: Option<u32>) -> QuorumView {
    let outside = world.config.outside_vantages(region);
    let configured = count(outside.len());
    let need = need_under(configured, raised);
    let abstaining: Vec<AgentId> = outside.into_iter().filter(|a| !speaks(world, a)).collect();
    let able = configured.saturating_sub(count(abstaining.len()));
    cov_mark::hit!(i6_quorum_counts_configured);
    QuorumView { configured, need, able, abstaining, possible: able >= need }
}

/// A configured vantage that the world knows nothing of was never heard.
fn speaks(world: &World, agent: &AgentId) -> bool {
    world.vantages.get(agent).copied().unwrap_or(VantageState::NeverHeard).counts()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, agent, region, service};
    use proptest::prelude::*;

    fn possible_in(world: &World, place: &str) -> QuorumView {
        automatic_possible(world, std::iter::once(&region(place))).next().unwrap()
    }

    #[test]
    fn need_by_table() {
        for (n, expected) in [(0, 2), (1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (100, 51)] {
            assert_eq!(need(n), expected, "of {n}");
        }
    }

    #[test]
    fn a_policy_may_only_raise_it() {
        cov_mark::check!(policy_raises_quorum);
        cov_mark::check!(i6_policy_cannot_lower_quorum);
        assert_eq!(need_under(3, Some(3)), 3);
        assert_eq!(need_under(3, Some(1)), 2);
        assert_eq!(need_under(3, Some(2)), 2);
        assert_eq!(need_under(3, None), 2);
    }

    #[test]
    fn silent_vantages_stay_in_the_denominator() {
        cov_mark::check!(i6_quorum_counts_configured);
        let mut world = Fixture::three_regions_and_witness().world();
        world.vantages.insert(agent("us-east-1"), VantageState::Silent);
        world.vantages.remove(&agent("tower-1"));
        let view = possible_in(&world, "eu-west");
        assert_eq!((view.configured, view.need, view.able, view.possible), (3, 2, 1, false));
        assert_eq!(view.abstaining, [agent("tower-1"), agent("us-east-1")]);
    }

    #[test]
    fn the_service_that_needs_most_decides_for_the_region() {
        let mut fixture = Fixture::three_regions_and_witness();
        fixture.service("catalog").failover.quorum = Some(3);
        let world = fixture.world();
        assert_eq!(possible_in(&world, "eu-west").need, 3);
        assert_eq!(possible_for(&world, &region("eu-west"), &[service("checkout")]).need, 2);
    }

    proptest! {
        #[test]
        fn need_is_a_majority_and_never_one(n in 0u32..1_000_000, quorum in prop::option::of(0u32..100)) {
            let need = need_under(n, quorum);
            prop_assert!(need >= 2 && need * 2 > n);
        }
    }
}
