//! What is true in this world, whoever knows it: which endpoints answer, which links carry, how much users ask for.

use drover_model::config::Config;
use drover_model::{EndpointKey, RegionId, RequestsPerSecond, ServiceId, Span};
use std::collections::{BTreeMap, BTreeSet};

/// How an endpoint is when nothing was done to it.
const USUAL_LATENCY: Span = Span::from_millis(20);

/// One endpoint's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Nothing listens.
    pub(crate) dead: bool,
    /// Its health check answers 500, while users are served.
    pub(crate) ill: bool,
    /// How long an answer takes.
    pub(crate) latency: Span,
    /// Of users' requests, in percent, fail although the health check is good.
    pub(crate) errors_percent: u64,
}

impl Default for Condition {
    fn default() -> Self {
        Self { dead: false, ill: false, latency: USUAL_LATENCY, errors_percent: 0 }
    }
}

/// Requests that users have made, in thousandths so that no rate is rounded away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) made: u64,
    pub(crate) failed: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    conditions: BTreeMap<EndpointKey, Condition>,
    /// Regions of which nothing is left, agents included.
    pub(crate) dead_regions: BTreeSet<RegionId>,
    /// Links that carry nothing, from the first to the second.
    links: BTreeSet<(RegionId, RegionId)>,
    /// What users ask of each service; what is declared, where nothing is said.
    pub(crate) loads: BTreeMap<ServiceId, RequestsPerSecond>,
    pub(crate) requests: BTreeMap<EndpointKey, Requests>,
    /// DNS takes no changes.
    pub(crate) dns_down: bool,
}

impl Truth {
    pub(crate) fn condition(&self, endpoint: &EndpointKey) -> Condition {
        let mut found = self.conditions.get(endpoint).copied().unwrap_or_default();
        found.dead |= self.dead_regions.contains(&endpoint.region);
        found
    }

    pub(crate) fn condition_mut(&mut self, endpoint: &EndpointKey) -> &mut Condition {
        self.conditions.entry(endpoint.clone()).or_default()
    }

    pub(crate) fn cut(&mut self, a: &RegionId, b: &RegionId) {
        self.links.insert((a.clone(), b.clone()));
        self.links.insert((b.clone(), a.clone()));
    }

    /// What `from` sends to `to` is lost; the other way goes on.
    pub(crate) fn cut_one_way(&mut self, from: &RegionId, to: &RegionId) {
        self.links.insert((from.clone(), to.clone()));
    }

    pub(crate) fn mend(&mut self, a: &RegionId, b: &RegionId) {
        self.links.remove(&(a.clone(), b.clone()));
        self.links.remove(&(b.clone(), a.clone()));
    }

    pub(crate) fn carries(&self, from: &RegionId, to: &RegionId) -> bool {
        !self.links.contains(&(from.clone(), to.clone()))
    }

    /// Everything is well again.
    pub(crate) fn heal(&mut self) {
        self.conditions.clear();
        self.dead_regions.clear();
        self.links.clear();
        self.dns_down = false;
    }

    /// One region, with its links, is well again.
    pub(crate) fn heal_region(&mut self, region: &RegionId) {
        self.conditions.retain(|e, _| e.region != *region);
        self.dead_regions.remove(region);
        self.links.retain(|(a, b)| a != region && b != region);
    }

    pub(crate) fn heal_endpoint(&mut self, endpoint: &EndpointKey) {
        self.conditions.remove(endpoint);
    }

    pub(crate) fn load(&self, config: &Config, service: &ServiceId) -> RequestsPerSecond {
        let declared = config.services.get(service).and_then(|s| s.peak_load);
        self.loads.get(service).copied().or(declared).unwrap_or_default()
    }

    /// Users ask by the weights that DNS answers for `span`.
    pub(crate) fn serve(&mut self, endpoint: &EndpointKey, rate: RequestsPerSecond, weight: u8, span: Span) {
        let made = rate.0 * u64::from(weight) * span.as_millis() / 100;
        let condition = self.condition(endpoint);
        let failed = if condition.dead { made } else { made * condition.errors_percent / 100 };
        let sum = self.requests.entry(endpoint.clone()).or_default();
        sum.made += made;
        sum.failed += failed;
    }
}
