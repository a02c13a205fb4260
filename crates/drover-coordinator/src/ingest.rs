//! Reports come in: through the gate, into opinions, and from there at once into verdicts.

use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::live::{KnownVantage, Live, Seen};
use crate::observations;
use drover_core::opinion::{Opinion, policy_of};
use drover_core::vantage::{Ingested, Late, Placement, Receipt};
use drover_model::api::ObservationPlace;
use drover_model::config::{Config, Service};
use drover_model::out_of_service::OutOfService;
use drover_model::probe::{FailureKind, ProbeOutcome, Report, ReportAck};
use drover_model::{AgentId, EndpointKey, ServiceId, Timestamp};
use std::cell::Cell;

impl Coordinator {
    /// Takes a report in. Whatever became of it, it goes to the history, with what became of it.
    pub fn ingest(&self, report: &Report) -> ReportAck {
        let now = self.clock.now();
        let (ack, places) = self.take_in(report, Receipt { at: now, wall: Clock::wall() });
        self.keep_history(report, &places, now);
        ack
    }

    /// What is declared out of service, which the leader alone says.
    fn declared(&self, live: &Live, config: &Config) -> Option<OutOfService> {
        if self.db.is_leader() { live.out_of_service.said(self.db.epoch(), config) } else { None }
    }

    /// Also says where each observation went; a refused report went nowhere.
    fn take_in(&self, report: &Report, receipt: Receipt) -> (ReportAck, Vec<ObservationPlace>) {
        let now = receipt.at;
        let mut live = self.live();
        let live = &mut *live;
        // After the lock: what was in force before it was had may be no longer.
        let loaded = self.loaded();
        let config = &loaded.config;
        let known = live.vantages.entry(report.agent.clone()).or_default();
        let nearby = Nearby::of(config);
        let stale_after = |e: &EndpointKey| {
            let service = nearby.service(&e.service)?;
            service.endpoints.contains_key(&e.region).then(|| service.stale_after())
        };
        let spoke = known.gate.state(now, &config.settings.vantage).counts();
        let ingested = match known.gate.ingest(report, receipt, &config.settings.vantage, stale_after) {
            Ok(i) => i,
            Err(refused) => {
                tracing::warn!(agent = %report.agent, "{refused}");
                let mut ack = known.refuse(report, &refused.to_string(), &loaded.version);
                ack.out_of_service = self.declared(live, config);
                return (ack, vec![ObservationPlace::Refused; report.observations.len()]);
            }
        };
        known.note(report);
        live.out_of_service.heard(report, self.db.epoch(), now);
        // A vantage that may speak again, or no longer, changes what everything it sees is concluded from.
        let now_speaks = known.gate.state(now, &config.settings.vantage).counts();
        let mut touched = Vec::new();
        if ingested.opinions_count {
            touched.extend(seed_opinions(live, report, config, now));
        }
        touched.extend(observe(live, report, &ingested, config, now, spoke != now_speaks));
        let changed = self.judge(live, config, touched.iter(), now);
        if changed {
            self.decide_wake.notify_one();
        }
        let ack = ReportAck {
            accepted: ingested.accepted,
            history_only: ingested.history_only,
            replayed: ingested.replayed,
            acknowledged_sequence: ingested.acknowledged_sequence,
            config_version: loaded.version.clone(),
            out_of_service: self.declared(live, config),
        };
        (ack, ingested.placements.iter().map(observations::place_of).collect())
    }
}

/// The configuration as a report asks for it: service by service, so that most questions are about the last one again.
struct Nearby<'a> {
    config: &'a Config,
    last: Cell<Option<&'a Service>>,
}

impl<'a> Nearby<'a> {
    fn of(config: &'a Config) -> Self {
        Self { config, last: Cell::new(None) }
    }

    fn service(&self, name: &ServiceId) -> Option<&'a Service> {
        let again = self.last.get().filter(|s| s.name == *name);
        let found = again.or_else(|| self.config.services.get(name));
        self.last.set(found);
        found
    }
}

/// Takes the current observations in; says for which endpoints something may be concluded anew. What changes no vote
/// changes no verdict, unless `all` of what the vantage says counts otherwise than before.
fn observe(
    live: &mut Live,
    report: &Report,
    ingested: &Ingested,
    config: &Config,
    now: Timestamp,
    all: bool,
) -> Vec<EndpointKey> {
    let home = config.region_of_agent(&report.agent);
    let nearby = Nearby::of(config);
    let mut touched = Vec::new();
    for (o, placement) in report.observations.iter().zip(&ingested.placements) {
        let Placement::Current { began_at } = placement else {
            // It forms no opinion, but the one that was held may count no longer.
            if all && *placement == Placement::HistoryOnly(Late::Blind) {
                touched.push(o.endpoint.clone());
            }
            continue;
        };
        let Some(service) = nearby.service(&o.endpoint.service) else { continue };
        let kind = match &o.outcome {
            ProbeOutcome::Good => None,
            ProbeOutcome::Failed { kind, .. } => Some(*kind),
        };
        let good = o.outcome.is_good();
        let policy = policy_of(service);
        let seen = seen(live, &o.endpoint);
        let held = opinion(seen, &report.agent);
        let before = held.vote_at(now, policy.stale_after);
        held.observe(*began_at, good, kind, &policy);
        if all || held.vote_at(now, policy.stale_after) != before {
            touched.push(o.endpoint.clone());
        }
        // A blind or skewed vantage abstains here too, and what failed on its own side says nothing of the endpoint.
        let counts = ingested.opinions_count && kind != Some(FailureKind::Local);
        if counts && home != Some(&o.endpoint.region) {
            if good { seen.tally.good += 1 } else { seen.tally.failed += 1 }
        }
        if let Some(ends) = o.certificate_expires_at {
            let shown = live.certificates.entry(o.endpoint.clone()).or_default();
            shown.insert(report.agent.clone(), ends);
        }
    }
    touched
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
        opinion(seen(live, &o.endpoint), &report.agent).seed(o, now, &policy);
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
            out_of_service: None,
        }
    }
}

fn seen<'a>(live: &'a mut Live, endpoint: &EndpointKey) -> &'a mut Seen {
    live.seen.entry(endpoint.clone()).or_default()
}

fn opinion<'a>(seen: &'a mut Seen, agent: &AgentId) -> &'a mut Opinion {
    seen.opinions.entry(agent.clone()).or_default()
}
