//! Reports come in: through the gate, into opinions, and from there at once into verdicts.

use crate::coordinator::Coordinator;
use crate::live::KnownVantage;
use drover_core::opinion::{Opinion, policy_of};
use drover_core::vantage::Placement;
use drover_model::probe::{ProbeOutcome, Report, ReportAck};
use drover_model::{AgentId, EndpointKey};
use std::collections::BTreeSet;

/// Kind of raw observations in the history.
pub const HISTORY_OBSERVATIONS: &str = "observations";

impl Coordinator {
    /// Takes a report in.
    pub(crate) fn ingest(&self, report: &Report) -> ReportAck {
        let now = self.clock.now();
        let loaded = self.loaded();
        let config = &loaded.config;
        let home = config.region_of_agent(&report.agent).cloned();
        let mut live = self.live();
        let live = &mut *live;
        let known = live.vantages.entry(report.agent.clone()).or_default();
        let stale_after = |e: &EndpointKey| {
            config
                .services
                .get(&e.service)
                .filter(|s| s.endpoints.contains_key(&e.region))
                .map(|s| s.stale_after())
        };
        let ingested = match known.gate.ingest(report, now, &config.settings.vantage, stale_after) {
            Ok(i) => i,
            Err(refused) => {
                tracing::warn!(agent = %report.agent, "{refused}");
                return known.refuse(report, &refused.to_string(), &loaded.version);
            }
        };
        known.note(report);
        let mut touched: BTreeSet<EndpointKey> = BTreeSet::new();
        if ingested.opinions_count {
            for o in &report.opinions {
                let Some(service) = config.services.get(&o.endpoint.service) else { continue };
                let policy = policy_of(service);
                opinion(&mut live.opinions, &o.endpoint, &report.agent).seed(o, now, &policy);
                touched.insert(o.endpoint.clone());
            }
        }
        for (o, placement) in report.observations.iter().zip(&ingested.placements) {
            let Placement::Current { began_at } = placement else { continue };
            let Some(service) = config.services.get(&o.endpoint.service) else { continue };
            let kind = match &o.outcome {
                ProbeOutcome::Good => None,
                ProbeOutcome::Failed { kind, .. } => Some(*kind),
            };
            let good = o.outcome.is_good();
            opinion(&mut live.opinions, &o.endpoint, &report.agent).observe(
                *began_at,
                good,
                kind,
                &policy_of(service),
            );
            if home.as_ref() != Some(&o.endpoint.region) {
                let tally = live.tallies.entry(o.endpoint.clone()).or_default();
                if good { tally.good += 1 } else { tally.failed += 1 }
            }
            touched.insert(o.endpoint.clone());
        }
        let changed = self.judge(live, config, touched.iter(), now);
        if changed {
            self.decide_wake.notify_one();
        }
        self.keep_history(report, now);
        ReportAck {
            accepted: ingested.accepted,
            history_only: ingested.history_only,
            replayed: ingested.replayed,
            acknowledged_sequence: ingested.acknowledged_sequence,
            config_version: loaded.version.clone(),
        }
    }

    fn keep_history(&self, report: &Report, now: drover_model::Timestamp) {
        if report.observations.is_empty() {
            return;
        }
        match serde_json::to_vec(&report.observations) {
            Ok(bytes) => {
                let at = u64::try_from(now.as_millis()).unwrap_or(0);
                if let Err(e) = self.history.append(HISTORY_OBSERVATIONS, at, report.agent.as_str(), &bytes) {
                    tracing::warn!(
                        error = &e as &dyn std::error::Error,
                        "can't keep observations in the history"
                    );
                }
            }
            Err(e) => tracing::warn!(error = %e, "can't encode observations for the history"),
        }
    }
}

impl KnownVantage {
    fn note(&mut self, report: &Report) {
        self.refused = None;
        self.heard_at = self.gate.heard_at();
        self.skew_millis = self.gate.skew_millis();
        self.config_version = Some(report.config_version.clone());
        self.dropped = report.dropped;
        self.replayed = self.refused_observations.saturating_add(self.gate.replayed());
        self.late = self.gate.late();
    }

    /// Nothing of the report counts. It is acknowledged all the same: sending it again would change nothing.
    fn refuse(&mut self, report: &Report, why: &str, config_version: &str) -> ReportAck {
        let n = u32::try_from(report.observations.len()).unwrap_or(u32::MAX);
        self.refused = Some(why.to_owned());
        self.refused_observations = self.refused_observations.saturating_add(u64::from(n));
        self.replayed = self.refused_observations.saturating_add(self.gate.replayed());
        ReportAck {
            accepted: 0,
            history_only: 0,
            replayed: n,
            acknowledged_sequence: report.observations.last().map_or(0, |o| o.sequence),
            config_version: config_version.to_owned(),
        }
    }
}

fn opinion<'a>(
    opinions: &'a mut std::collections::BTreeMap<EndpointKey, std::collections::BTreeMap<AgentId, Opinion>>,
    endpoint: &EndpointKey,
    agent: &AgentId,
) -> &'a mut Opinion {
    opinions.entry(endpoint.clone()).or_default().entry(agent.clone()).or_default()
}
