//! Reports come in: through the gate, into opinions, and from there at once into verdicts.

use crate::coordinator::Coordinator;
use crate::live::{KnownVantage, Live};
use drover_core::opinion::{Opinion, policy_of};
use drover_core::vantage::Placement;
use drover_model::config::Config;
use drover_model::probe::{FailureKind, Observation, ProbeOutcome, Report, ReportAck};
use drover_model::{AgentId, EndpointKey, Timestamp};
use drover_store::HISTORY_VALUE_BYTES_MAX;
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
            touched.extend(seed_opinions(live, report, config, now));
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
            if let Some(ends) = o.certificate_expires_at {
                let seen = live.certificates.entry(o.endpoint.clone()).or_default();
                seen.insert(report.agent.clone(), ends);
            }
            // A blind or skewed vantage abstains here too, and what failed on its own side says nothing of the endpoint.
            let counts = ingested.opinions_count && kind != Some(FailureKind::Local);
            if counts && home.as_ref() != Some(&o.endpoint.region) {
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

    fn keep_history(&self, report: &Report, now: Timestamp) {
        let at = u64::try_from(now.as_millis()).unwrap_or(0);
        let agent = report.agent.as_str();
        let room = HISTORY_VALUE_BYTES_MAX.saturating_sub(agent.len());
        let (chunks, left_out) = chunks(&report.observations, room);
        if left_out > 0 {
            tracing::warn!(agent, left_out, "observations too large for the history");
        }
        for chunk in chunks {
            if let Err(e) = self.history.append(HISTORY_OBSERVATIONS, at, agent, &chunk) {
                tracing::warn!(
                    error = &e as &dyn std::error::Error,
                    "can't keep observations in the history"
                );
            }
        }
    }
}

/// JSON arrays of the observations in their order, none longer than `room` bytes, and how many observations fit in no
/// array. A report after a long cut is far larger than one entry of the history may be.
fn chunks(observations: &[Observation], room: usize) -> (Vec<Vec<u8>>, usize) {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut left_out = 0;
    for one in observations {
        let Some(text) = serde_json::to_vec(one).ok().filter(|t| t.len() + 2 <= room) else {
            left_out += 1;
            continue;
        };
        match all.last_mut().filter(|chunk| chunk.len() + 1 + text.len() <= room) {
            Some(chunk) => {
                // Over the closing bracket of what is there.
                chunk.pop();
                chunk.push(b',');
                chunk.extend_from_slice(&text);
            }
            None => all.push([b"[".as_slice(), &text].concat()),
        }
        if let Some(chunk) = all.last_mut() {
            chunk.push(b']');
        }
    }
    (all, left_out)
}

/// Takes over what an agent concluded by itself; says about which endpoints.
fn seed_opinions(live: &mut Live, report: &Report, config: &Config, now: Timestamp) -> Vec<EndpointKey> {
    let mut touched = Vec::new();
    for o in &report.opinions {
        let service = config.services.get(&o.endpoint.service);
        // An agent that has not read the newest configuration yet may still hold an opinion of what is gone.
        let Some(service) = service.filter(|s| s.endpoints.contains_key(&o.endpoint.region)) else {
            continue;
        };
        let policy = policy_of(service);
        opinion(&mut live.opinions, &o.endpoint, &report.agent).seed(o, now, &policy);
        touched.push(o.endpoint.clone());
    }
    touched
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_report_is_kept_in_entries_that_the_history_takes() {
        let observation = |sequence: u64| -> Observation {
            serde_json::from_value(json!({
                "sequence": sequence, "endpoint": "pay@eu-west", "began_at": drover_model::Timestamp::from_millis(0),
                "age": "5ms", "latency_micros": 900, "outcome": {"result": "good"}, "status": null,
                "certificate_expires_at": null,
            }))
            .unwrap()
        };
        let all: Vec<Observation> = (1..=500).map(observation).collect();
        let (chunks, left_out) = super::chunks(&all, HISTORY_VALUE_BYTES_MAX - 9);
        assert!(chunks.len() > 1 && chunks.iter().all(|c| c.len() <= HISTORY_VALUE_BYTES_MAX - 9));
        let kept: Vec<Observation> =
            chunks.iter().flat_map(|c| serde_json::from_slice::<Vec<Observation>>(c).unwrap()).collect();
        assert_eq!((kept, left_out), (all.clone(), 0));
        assert_eq!(super::chunks(&all, 10), (Vec::new(), all.len()));
    }
}
