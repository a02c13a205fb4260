//! An agent: it probes by a schedule, forms opinions with the same code as the real one, and reports when it can.

use crate::truth::Truth;
use drover_core::opinion::{Opinion, policy_of};
use drover_model::config::{Config, HealthCheck, Service};
use drover_model::probe::{FailureKind, Observation, ProbeOutcome, REPORT_SCHEMA, Report, SelfCheck};
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// Results that an agent keeps while it can't report.
const UNSENT_MAX: usize = 10_000;
/// Results in one report.
const REPORT_MAX: usize = 500;
/// Between the first probes of two neighbours on the list: probes are spread, as the real schedule spreads them.
const PHASE: Span = Span::from_millis(3_700);

/// What fate does to one agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    /// Its reports don't arrive; it goes on probing.
    pub(crate) silent: bool,
    /// It reaches nothing but the coordinator.
    pub(crate) blind: bool,
    /// Its wall clock, in milliseconds ahead of the truth.
    pub(crate) skew_millis: i64,
    /// It says that this endpoint fails, or answers, whatever is so.
    pub(crate) lies: BTreeMap<EndpointKey, bool>,
    /// Only what a script says is probed.
    pub(crate) by_hand: bool,
}

#[derive(Debug, Clone)]
struct Probed {
    sequence: u64,
    endpoint: EndpointKey,
    began_at: Timestamp,
    ready_at: Timestamp,
    failure: Option<FailureKind>,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) name: AgentId,
    pub(crate) region: RegionId,
    pub(crate) fate: Fate,
    boot: u64,
    sequence: u64,
    opinions: BTreeMap<EndpointKey, Opinion>,
    next_probe: BTreeMap<EndpointKey, Timestamp>,
    /// Begun, and not reported yet.
    unsent: VecDeque<Probed>,
    dropped: u64,
    pub(crate) last_report: Option<Report>,
}

impl Agent {
    pub(crate) fn new(name: AgentId, region: RegionId) -> Self {
        Self {
            name,
            region,
            fate: Fate::default(),
            boot: 1,
            sequence: 0,
            opinions: BTreeMap::new(),
            next_probe: BTreeMap::new(),
            unsent: VecDeque::new(),
            dropped: 0,
            last_report: None,
        }
    }

    /// A fresh process on the same machine: numbers begin anew under the next boot.
    pub(crate) fn restart(&mut self) {
        let (boot, fate) = (self.boot + 1, std::mem::take(&mut self.fate));
        *self = Self { boot, fate, ..Self::new(self.name.clone(), self.region.clone()) };
    }

    /// Probes whatever is due at `now`.
    pub(crate) fn probe_due(&mut self, config: &Config, truth: &Truth, place: u64, now: Timestamp) {
        if self.fate.by_hand || truth.dead_regions.contains(&self.region) {
            return;
        }
        let mut slot = place;
        for service in config.services.values() {
            for region in service.endpoints.keys() {
                let endpoint = EndpointKey::new(&service.name, region);
                let phase = Span::from_millis(PHASE.times(slot).as_millis() % service.interval.as_millis());
                slot += 1;
                let due = *self.next_probe.entry(endpoint.clone()).or_insert(now + phase);
                if now < due {
                    continue;
                }
                self.next_probe.insert(endpoint.clone(), due + service.interval);
                let (failure, took) = self.look(service, &endpoint, truth);
                self.note(service, endpoint, now, failure, took);
            }
        }
    }

    /// A probe that a script dictates.
    pub(crate) fn probed(&mut self, service: &Service, endpoint: EndpointKey, good: bool, now: Timestamp) {
        let failure = (!good).then_some(FailureKind::Refused);
        self.note(service, endpoint, now, failure, Span::ZERO);
    }

    fn note(
        &mut self,
        service: &Service,
        endpoint: EndpointKey,
        now: Timestamp,
        failure: Option<FailureKind>,
        took: Span,
    ) {
        let opinion = self.opinions.entry(endpoint.clone()).or_default();
        opinion.observe(now, failure.is_none(), failure, &policy_of(service));
        self.sequence += 1;
        let (sequence, ready_at) = (self.sequence, now + took);
        self.unsent.push_back(Probed { sequence, endpoint, began_at: now, ready_at, failure });
        if self.unsent.len() > UNSENT_MAX {
            self.unsent.pop_front();
            self.dropped += 1;
        }
    }

    /// What a probe sees, and how long it takes.
    fn look(&self, service: &Service, endpoint: &EndpointKey, truth: &Truth) -> (Option<FailureKind>, Span) {
        if let Some(good) = self.fate.lies.get(endpoint) {
            return ((!good).then_some(FailureKind::Refused), Span::ZERO);
        }
        let condition = truth.condition(endpoint);
        if self.fate.blind {
            return (Some(FailureKind::Unreachable), Span::ZERO);
        }
        if !truth.carries(&self.region, &endpoint.region) || condition.latency >= service.timeout {
            return (Some(FailureKind::TimedOut), service.timeout);
        }
        if condition.dead {
            return (Some(FailureKind::Refused), Span::ZERO);
        }
        let latency_max = match &service.check {
            HealthCheck::Http(check) => check.max_latency,
            HealthCheck::Tcp(_) => None,
        };
        let failure = if condition.ill {
            Some(FailureKind::Status)
        } else if latency_max.is_some_and(|max| condition.latency > max) {
            Some(FailureKind::TooSlow)
        } else {
            None
        };
        (failure, condition.latency)
    }

    /// What it has to say at `now`, unless nothing of it arrives.
    pub(crate) fn report(&mut self, config: &Config, truth: &Truth, now: Timestamp) -> Option<Report> {
        if self.fate.silent || truth.dead_regions.contains(&self.region) {
            return None;
        }
        let mut ready = Vec::new();
        while ready.len() < REPORT_MAX && self.unsent.front().is_some_and(|p| p.ready_at <= now) {
            ready.extend(self.unsent.pop_front());
        }
        let opinions = self.opinions.iter().filter_map(|(endpoint, opinion)| {
            let service = config.services.get(&endpoint.service)?;
            opinion.at(now, &policy_of(service)).to_report(endpoint, now)
        });
        let report = Report {
            schema: REPORT_SCHEMA,
            agent: self.name.clone(),
            boot: format!("boot-{}", self.boot),
            boot_number: self.boot,
            sent_at: self.wall(now),
            config_version: String::new(),
            observations: ready.iter().map(|p| self.observation(p, now)).collect(),
            opinions: opinions.collect(),
            self_check: SelfCheck {
                references_reached: if self.fate.blind { 0 } else { 2 },
                references: 2,
                blind: self.fate.blind,
            },
            dropped: self.dropped,
            out_of_service: None,
        };
        self.last_report = Some(report.clone());
        Some(report)
    }

    fn wall(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis() + self.fate.skew_millis)
    }

    fn observation(&self, probed: &Probed, now: Timestamp) -> Observation {
        let outcome = match probed.failure {
            None => ProbeOutcome::Good,
            Some(kind) => ProbeOutcome::Failed { kind, detail: String::new() },
        };
        Observation {
            sequence: probed.sequence,
            endpoint: probed.endpoint.clone(),
            began_at: self.wall(probed.began_at),
            age: now.since(probed.began_at),
            latency_micros: probed.ready_at.since(probed.began_at).as_millis() * 1_000,
            outcome,
            status: None,
            certificate_expires_at: None,
        }
    }
}
