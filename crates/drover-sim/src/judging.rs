//! Reports in, verdicts out: the order in which the leader puts the core's functions.

use crate::agent::Sent;
use crate::planted::Planted;
use crate::state::{Judges, State};
use drover_core::damping::{self, Damping};
use drover_core::opinion::{Opinion, policy_of};
use drover_core::panel::{Panel, is_as_it_stands, is_settled};
use drover_core::vantage::{Ingested, Placement, ReportRefused};
use drover_model::decision::{VantageState, VerdictInputs, VerdictState};
use drover_model::probe::{FailureKind, ProbeOutcome};
use drover_model::{AgentId, EndpointKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

impl State {
    /// Takes a report in; says what became of its observations.
    pub(crate) fn ingest(&mut self, sent: &Sent) -> Result<Ingested, ReportRefused> {
        let (now, report) = (self.now(), &sent.report);
        let config = self.loaded.config.clone();
        let gate = self.leader.gates.entry(report.agent.clone()).or_default();
        let oldest = |e: &EndpointKey| {
            let service = config.services.get(&e.service)?;
            service.endpoints.contains_key(&e.region).then(|| service.stale_after())
        };
        let ingested = gate.ingest(report, now, &config.settings.vantage, oldest)?;
        self.watch.heard(sent, now, ingested.opinions_count);
        if ingested.opinions_count {
            for told in &report.opinions {
                let Some(service) = config.services.get(&told.endpoint.service) else { continue };
                self.opinion(&told.endpoint, &report.agent).seed(told, now, &policy_of(service));
            }
        }
        let home = config.region_of_agent(&report.agent);
        for (o, placement) in report.observations.iter().zip(&ingested.placements) {
            let Placement::Current { began_at } = *placement else { continue };
            let Some(service) = config.services.get(&o.endpoint.service) else { continue };
            let (good, kind) = match &o.outcome {
                ProbeOutcome::Good => (true, None),
                ProbeOutcome::Failed { kind, .. } => (false, Some(*kind)),
            };
            self.opinion(&o.endpoint, &report.agent).observe(began_at, good, kind, &policy_of(service));
            self.watch.evidence(&report.agent, &o.endpoint, began_at, good);
            let counts = ingested.opinions_count && kind != Some(FailureKind::Local);
            if counts && home != Some(&o.endpoint.region) {
                let tally = self.leader.tallies.entry(o.endpoint.clone()).or_default();
                if good { tally.good += 1 } else { tally.failed += 1 }
            }
        }
        Ok(ingested)
    }

    /// Who judges at `now`; whoever takes them gives them back.
    fn judges(&mut self, now: Timestamp) -> Judges {
        let (config, states) = (self.loaded.config.clone(), self.vantage_states(now));
        let known = self.leader.judges.take();
        let same = |j: &Judges| Arc::ptr_eq(&j.config, &config) && j.states == states;
        known.filter(same).unwrap_or_else(|| Judges { panel: self.panel(now), config, states })
    }

    fn opinion(&mut self, endpoint: &EndpointKey, agent: &AgentId) -> &mut Opinion {
        let of_endpoint = self.leader.opinions.entry(endpoint.clone()).or_default();
        of_endpoint.entry(agent.clone()).or_default()
    }

    /// What each configured vantage may say now.
    pub(crate) fn vantage_states(&self, now: Timestamp) -> BTreeMap<AgentId, VantageState> {
        let settings = &self.loaded.config.settings.vantage;
        let state = |a: &AgentId| {
            self.leader.gates.get(a).map_or(VantageState::NeverHeard, |gate| gate.state(now, settings))
        };
        self.loaded.agents.iter().map(|a| (a.clone(), state(a))).collect()
    }

    fn panel(&self, now: Timestamp) -> Panel {
        let states = self.vantage_states(now);
        let state = |a: &AgentId| states.get(a).copied().unwrap_or(VantageState::NeverHeard);
        let panel = Panel::of(&self.loaded.config, state);
        if self.lacks(Planted::QuietAtBoot) { panel } else { panel.led_since(self.leader.started_at) }
    }

    /// What the verdict on `endpoint` is made from.
    pub(crate) fn inputs(&self, endpoint: &EndpointKey) -> Option<VerdictInputs> {
        let (now, config) = (self.now(), self.loaded.config.clone());
        let panel = self.panel(now);
        let service = config.services.get(&endpoint.service)?;
        Some(panel.inputs(self.leader.opinions.get(endpoint), service, endpoint, now))
    }

    /// Concludes every verdict anew, and tells what changed.
    pub(crate) fn judge(&mut self) {
        let now = self.now();
        let config = self.loaded.config.clone();
        let judges = self.judges(now);
        let endpoints = self.loaded.endpoints.clone();
        for endpoint in endpoints.iter() {
            let Some(service) = config.services.get(&endpoint.service) else { continue };
            let opinions = self.leader.opinions.get(endpoint);
            let (concluded, _) = judges.panel.conclude(opinions, service, &endpoint.region, now);
            let concluded = self.without_quorum(concluded);
            let before = self.leader.standing.get(endpoint);
            if before.is_some_and(|s| is_as_it_stands(s, &concluded)) {
                continue;
            }
            let settled = is_settled(concluded.state);
            let recalled = settled.then(|| self.leader.recalled.remove(endpoint)).flatten();
            let recalled = recalled.map(|stored| damping::recalled(stored, now));
            let before = self.leader.standing.get(endpoint);
            let was = before.map_or(VerdictState::Unknown, |s| s.verdict.state);
            let standing =
                damping::apply(recalled.as_ref().or(before), concluded, now, &Damping::of(service));
            let is = standing.verdict.state;
            if was != is {
                self.tell(format!("{endpoint} is {is}: {}", standing.verdict.reason));
            }
            if is_settled(is) {
                self.store.standing.insert(endpoint.clone(), standing.clone());
            }
            self.leader.standing.insert(endpoint.clone(), standing);
        }
        self.leader.judges = Some(judges);
    }
}
