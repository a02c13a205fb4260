//! From a row to verdicts, by the gate, the opinions, the panel and the damping that the coordinator has.

use super::{Backtest, Row};
use crate::damping;
use crate::panel::{Panel, is_as_it_stands};
use crate::vantage::Placement;
use drover_model::decision::{VantageState, Verdict};
use drover_model::reason::Reason;
use drover_model::{AgentId, EndpointKey, Span, Timestamp};

impl Backtest {
    /// Takes the row in as the report that it came in, and judges what it touched. Says whether anything changed that a
    /// decision may depend on.
    pub(super) fn hear(&mut self, row: &Row) -> bool {
        let now = self.now;
        let (Some(heard), Some(policy)) =
            (self.heard.get_mut(&row.vantage), self.policies.get(&row.endpoint.service))
        else {
            return false;
        };
        let failure = policy.failure_of(row);
        let config = self.config.clone();
        let bound = |e: &EndpointKey| config.services.get(&e.service).map(|s| s.stale_after());
        heard.report_of(row, failure, now);
        let settings = &config.settings.vantage;
        let Ok(ingested) = heard.gate.ingest(&heard.report, now, settings, bound) else { return false };
        for placement in ingested.placements {
            let Placement::Current { began_at } = placement else { continue };
            let of_endpoint = match self.opinions.get_mut(&row.endpoint) {
                Some(opinions) => opinions,
                None => self.opinions.entry(row.endpoint.clone()).or_default(),
            };
            let opinion = match of_endpoint.get_mut(&row.vantage) {
                Some(opinion) => opinion,
                None => of_endpoint.entry(row.vantage.clone()).or_default(),
            };
            opinion.observe(began_at, failure.is_none(), failure, &policy.opinion);
        }
        let before_all = self.began_at.map(|began| began - Span::from_millis(1));
        if !heard.has_probed && before_all.is_some_and(|began| heard.gate.probed_since(began)) {
            heard.has_probed = true;
            self.world.heard_since_start.push(row.vantage.clone());
        }
        if self.vantages_at.is_none() {
            self.vantages_at = heard.gate.next_change_at(now, settings);
        }
        let speaks_otherwise = heard.gate.state(now, settings) != heard.state;
        let changed = speaks_otherwise && self.look_at_vantages();
        self.judge(std::iter::once(&row.endpoint)) || changed
    }

    /// Finds who may speak now; where that is another set than before, all is judged anew.
    pub(super) fn look_at_vantages(&mut self) -> bool {
        let (now, config) = (self.now, self.config.clone());
        let settings = &config.settings.vantage;
        let mut changed = false;
        for (agent, heard) in &mut self.heard {
            let state = heard.gate.state(now, settings);
            if state != heard.state {
                heard.state = state;
                changed = true;
                self.world.vantages.insert(agent.clone(), state);
            }
        }
        self.vantages_at = self.heard.values().filter_map(|h| h.gate.next_change_at(now, settings)).min();
        if !changed {
            return false;
        }
        let state = |a: &AgentId| self.heard.get(a).map_or(VantageState::NeverHeard, |h| h.state);
        self.panel = Panel::of(&config, state);
        let all: Vec<EndpointKey> = self.endpoints();
        self.judge(all.iter());
        true
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointKey> {
        let services = self.config.services.values();
        services.flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r))).collect()
    }

    /// Concludes these verdicts anew. Says whether any state or suspicion changed.
    pub(super) fn judge<'a>(&mut self, endpoints: impl Iterator<Item = &'a EndpointKey>) -> bool {
        let now = self.now;
        let mut changed = false;
        for endpoint in endpoints {
            let (Some(service), Some(policy)) =
                (self.config.services.get(&endpoint.service), self.policies.get(&endpoint.service))
            else {
                continue;
            };
            let opinions = self.opinions.get(endpoint);
            let (concluded, until) = self.panel.conclude(opinions, service, &endpoint.region, now);
            let before = self.world.verdicts.get(endpoint);
            if before.is_some_and(|s| is_as_it_stands(s, &concluded)) {
                self.agenda.set(endpoint, until);
                continue;
            }
            let was = before.map(|s| (s.verdict.state, s.verdict.suspect));
            let standing = damping::apply(before, concluded, now, &policy.damping);
            changed |= was != Some((standing.verdict.state, standing.verdict.suspect));
            let until = until.into_iter().chain(damped_until(&standing.verdict)).min();
            self.agenda.set(endpoint, until);
            self.world.verdicts.insert(endpoint.clone(), standing);
        }
        changed
    }
}

/// When damping alone would say otherwise, though nothing arrives.
fn damped_until(verdict: &Verdict) -> Option<Timestamp> {
    match verdict.reason {
        Reason::FlapDamping { until, .. } => Some(until),
        _ => None,
    }
}
