//! The world that tests of deciding judge: the tests' small world with an agent in every region, all of them reporting.

use crate::testworld;
use drover_model::config::{AgentConfig, Config, RegionRole, Service};
use drover_model::decision::{OpinionState, VantageOpinion, VantageState, VerdictInputs};
use drover_model::plan::{StandingVerdict, World};
use drover_model::{AgentId, EndpointKey, RegionId, ServiceId, Span};
use std::sync::Arc;

pub(crate) use crate::testworld::NOW;

pub(crate) fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

pub(crate) fn service(name: &str) -> ServiceId {
    name.parse().unwrap()
}

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(crate) fn endpoint(text: &str) -> EndpointKey {
    text.parse().unwrap()
}

/// `f`ailing, `h`ealthy, `u`nknown; in capitals the vantage does not count: silent, blind, never heard.
pub(crate) fn opinion(vantage: &str, from: &str, letter: char) -> VantageOpinion {
    let (state, vantage_state) = match letter {
        'f' => (OpinionState::Failing, VantageState::Reporting),
        'h' => (OpinionState::Healthy, VantageState::Reporting),
        'F' => (OpinionState::Failing, VantageState::Silent),
        'H' => (OpinionState::Healthy, VantageState::Blind),
        'U' => (OpinionState::Unknown, VantageState::NeverHeard),
        _ => (OpinionState::Unknown, VantageState::Reporting),
    };
    VantageOpinion {
        vantage: agent(vantage),
        region: region(from),
        vantage_state,
        state,
        streak: 3,
        good: 0,
        failed: 0,
        gray: false,
        last_probe_age: Some(Span::from_secs(5)),
        last_failure: None,
        last_probe_failed: state == OpinionState::Failing,
    }
}

/// Inputs for a verdict on `checkout@eu-west`, one letter a vantage as in [`opinion`].
pub(crate) fn inputs(outside: &str, inside: &str) -> VerdictInputs {
    let all = |letters: &str, from: &str| {
        letters.chars().enumerate().map(|(n, c)| opinion(&format!("{from}-{n}"), from, c)).collect()
    };
    let n = u32::try_from(outside.len()).unwrap();
    VerdictInputs {
        endpoint: endpoint("checkout@eu-west"),
        at: NOW,
        need: crate::quorum::need(n),
        outside: all(outside, "us-east"),
        inside: all(inside, "eu-west"),
        led_since: None,
    }
}

/// A world to be changed before it is judged.
pub(crate) struct Fixture {
    world: World,
}

impl Fixture {
    pub(crate) fn three_regions_and_witness() -> Self {
        Self::of(&["eu-west", "us-east", "ap-south"], true)
    }

    /// `checkout` and `catalog` in each of the serving regions, and perhaps an agent in the witness region `tower`.
    pub(crate) fn of(serving: &[&str], witness: bool) -> Self {
        let services = [("checkout", 1), ("catalog", 2)];
        let mut world =
            testworld::of(services.map(|(name, rank)| testworld::service(name, rank, serving)).into());
        let config = Arc::make_mut(&mut world.config);
        config.settings.vantage.silent_after = Span::from_secs(60);
        config.settings.vantage.max_clock_skew = Span::from_secs(10);
        config.settings.vantage.common_cause_window = Span::from_mins(10);
        for region in config.regions.values_mut().filter(|r| witness || r.role == RegionRole::Serving) {
            region.agents =
                vec![AgentConfig { name: agent(&format!("{}-1", region.name)), source_address: None }];
        }
        for service in config.services.values_mut() {
            service.failover.recovery_threshold = 10;
        }
        Self { world }
    }

    pub(crate) fn config(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.world.config)
    }

    pub(crate) fn service(&mut self, name: &str) -> &mut Service {
        self.config().services.get_mut(&service(name)).unwrap()
    }

    /// Everything well: all vantages report, all endpoints are healthy for an hour.
    pub(crate) fn world(self) -> World {
        let mut world = self.world;
        let agents = world.config.agents();
        world.vantages = agents.keys().map(|a| (a.clone(), VantageState::Reporting)).collect();
        world.heard_since_start = agents.into_keys().collect();
        for key in world.verdicts.keys().cloned().collect::<Vec<_>>() {
            let n = world.config.outside_vantages(&key.region).len();
            hold(&mut world, &key, &"h".repeat(n), "h", 3_600);
        }
        world
    }
}

/// Makes the verdict on `key` what these vantages see, since `secs` ago.
pub(crate) fn hold(world: &mut World, key: &EndpointKey, outside: &str, inside: &str, secs: u64) {
    let need = crate::quorum::need_for(world, &key.service, &key.region);
    let verdict = crate::verdict::conclude(&VerdictInputs { need, ..inputs(outside, inside) });
    let since = NOW - Span::from_secs(secs);
    let recent_changes = if verdict.state.moves_traffic() { vec![since] } else { vec![] };
    world.verdicts.insert(key.clone(), StandingVerdict { verdict, since, recent_changes });
}
