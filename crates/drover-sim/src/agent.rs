//! An agent: it probes by a schedule, forms opinions with the same code as the real one, and reports when it can.

use crate::state::BEGINNING;
use crate::truth::Truth;
use drover_core::opinion::{Opinion, policy_of};
use drover_model::config::{Config, HealthCheck, Service};
use drover_model::probe::{FailureKind, Observation, ProbeOutcome, REPORT_SCHEMA, Report, SelfCheck};
use drover_model::{AgentId, EndpointKey, RegionId, Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Results that an agent keeps while it can't report.
const UNSENT_MAX: usize = 10_000;
/// Results in one report.
const REPORT_MAX: usize = 500;
/// Results of one endpoint that are remembered for whoever asks what was really seen: a day of them at the default
/// interval is more than any window holds.
const SAW_MAX: usize = 3_000;
/// Between the first probes of two neighbours on the list: probes are spread, as the real schedule spreads them.
const PHASE: Span = Span::from_millis(3_700);

const MILLION: i64 = 1_000_000;

/// What fate does to one agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    /// Its process is stopped: it does nothing, and knows nothing of it.
    pub(crate) stopped: bool,
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
    /// How fast its clocks run beyond the truth, in parts of a million; slow ones are below zero.
    pub(crate) drift_millionths: i64,
    /// What the network does with its reports.
    pub(crate) way: Way,
}

/// The way of an agent's reports to the leader.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// Every report takes so long.
    pub(crate) delay: Span,
    /// Every report arrives a second time, later.
    pub(crate) twice: bool,
    /// Every other report is overtaken by those after it.
    pub(crate) swapped: bool,
}

/// How much later the copy of a report arrives, or one that is overtaken: behind several others at one report a second.
const LATER: Span = Span::from_secs(4);

impl Way {
    /// Does the network do nothing to it?
    pub(crate) fn is_plain(self) -> bool {
        self.delay == Span::ZERO && !self.twice && !self.swapped
    }

    /// When the report that is the `number`th of its agent arrives, each time it does, after being sent.
    pub(crate) fn arrivals(self, number: u64) -> Vec<Span> {
        let overtaken = self.swapped && number.is_multiple_of(2);
        let first = if overtaken { self.delay.plus(LATER) } else { self.delay };
        let copy = self.twice.then(|| first.plus(LATER));
        std::iter::once(first).chain(copy).collect()
    }
}

/// A report as its agent sent it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Its place among the reports that this agent sent in all its boots.
    pub(crate) number: u64,
    /// When, by the true time.
    pub(crate) at: Timestamp,
    pub(crate) report: Report,
}

/// A result from which an agent formed its opinion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saw {
    pub(crate) began_at: Timestamp,
    pub(crate) good: bool,
    /// The first of its reports whose opinions rest on it.
    pub(crate) told_in: u64,
}

#[derive(Debug, Clone)]
struct Probed {
    sequence: u64,
    endpoint: EndpointKey,
    began_at: Timestamp,
    ready_at: Timestamp,
    failure: Option<FailureKind>,
    blind: bool,
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
    /// By which configuration it probes, and when the first probe is due.
    schedule: Option<(Arc<Config>, Timestamp)>,
    /// Begun, and not reported yet.
    unsent: VecDeque<Probed>,
    /// Begun, and not ended when its agent looked last.
    undecided: Vec<Probed>,
    dropped: u64,
    /// What it has really seen, for the invariants: it reports by its opinions and results alone.
    pub(crate) saw: BTreeMap<EndpointKey, VecDeque<Saw>>,
    pub(crate) last_report: Option<Arc<Sent>>,
    /// Reports that it has sent in all its boots.
    pub(crate) sent: u64,
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
            schedule: None,
            unsent: VecDeque::new(),
            undecided: vec![],
            dropped: 0,
            saw: BTreeMap::new(),
            last_report: None,
            sent: 0,
        }
    }

    /// A fresh process on the same machine: numbers begin anew under the next boot, and what was not told is forgotten.
    pub(crate) fn restart(&mut self) {
        let fate = Fate { stopped: false, ..std::mem::take(&mut self.fate) };
        let (boot, sent) = (self.boot + 1, self.sent);
        let mut saw = std::mem::take(&mut self.saw);
        saw.values_mut().for_each(|of_one| of_one.retain(|s| s.told_in <= sent));
        *self = Self { boot, fate, sent, saw, ..Self::new(self.name.clone(), self.region.clone()) };
    }

    /// Which life of its process.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// Probes whatever is due at `now`.
    pub(crate) fn probe_due(&mut self, config: &Arc<Config>, truth: &Truth, place: u64, now: Timestamp) {
        if self.fate.by_hand || self.fate.stopped || truth.dead_regions.contains(&self.region) {
            return;
        }
        if self.schedule.as_ref().is_some_and(|(by, due)| Arc::ptr_eq(by, config) && now < *due) {
            return;
        }
        let (mut slot, mut first): (u64, Option<Timestamp>) = (place, None);
        for service in config.services.values() {
            for region in service.endpoints.keys() {
                let endpoint = EndpointKey::new(&service.name, region);
                let phase = Span::from_millis(PHASE.times(slot).as_millis() % service.interval.as_millis());
                slot += 1;
                let due = *self.next_probe.entry(endpoint.clone()).or_insert(now + phase);
                let next = if now < due { due } else { due + service.interval };
                first = first.into_iter().chain([next]).min();
                if now < due {
                    continue;
                }
                self.next_probe.insert(endpoint.clone(), next);
                let (failure, took) = self.look(service, &endpoint, truth);
                self.note(endpoint, now, failure, took);
            }
        }
        self.schedule = first.map(|due| (config.clone(), due));
    }

    /// A probe that a script dictates.
    pub(crate) fn probed(&mut self, endpoint: EndpointKey, good: bool, now: Timestamp) {
        let failure = (!good).then_some(FailureKind::Refused);
        self.note(endpoint, now, failure, Span::ZERO);
    }

    fn note(&mut self, endpoint: EndpointKey, now: Timestamp, failure: Option<FailureKind>, took: Span) {
        self.sequence += 1;
        let (sequence, ready_at) = (self.sequence, now + took);
        let probed = Probed { sequence, endpoint, began_at: now, ready_at, failure, blind: self.fate.blind };
        self.undecided.push(probed.clone());
        self.unsent.push_back(probed);
        if self.unsent.len() > UNSENT_MAX {
            self.unsent.pop_front();
            self.dropped += 1;
        }
    }

    /// An opinion is formed when a probe ends, which for one that timed out is its time-out later, and never blindly.
    fn conclude(&mut self, config: &Config, now: Timestamp) {
        for probed in self.undecided.extract_if(.., |p| p.ready_at <= now).filter(|p| !p.blind) {
            let Some(service) = config.services.get(&probed.endpoint.service) else { continue };
            let (good, policy) = (probed.failure.is_none(), policy_of(service));
            let saw = self.saw.entry(probed.endpoint.clone()).or_default();
            saw.push_back(Saw { began_at: probed.began_at, good, told_in: self.sent + 1 });
            if saw.len() > SAW_MAX {
                saw.pop_front();
            }
            let opinion = self.opinions.entry(probed.endpoint).or_default();
            opinion.observe(probed.began_at, good, probed.failure, &policy);
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
    pub(crate) fn report(&mut self, config: &Config, truth: &Truth, now: Timestamp) -> Option<Arc<Sent>> {
        if self.fate.stopped {
            return None;
        }
        self.conclude(config, now);
        if self.fate.silent || truth.dead_regions.contains(&self.region) {
            return None;
        }
        let mut ready = Vec::new();
        while ready.len() < REPORT_MAX && self.unsent.front().is_some_and(|p| p.ready_at <= now) {
            ready.extend(self.unsent.pop_front());
        }
        let opinions = self.opinions.iter().filter_map(|(endpoint, opinion)| {
            let service = config.services.get(&endpoint.service)?;
            opinion.to_report(endpoint, now, service.stale_after())
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
        self.sent += 1;
        let sent = Arc::new(Sent { number: self.sent, at: now, report });
        self.last_report = Some(sent.clone());
        Some(sent)
    }

    fn wall(&self, at: Timestamp) -> Timestamp {
        let run = i64::try_from(at.since(BEGINNING).as_millis()).unwrap_or(i64::MAX);
        let drifted = run.saturating_mul(self.fate.drift_millionths) / MILLION;
        Timestamp::from_millis(at.as_millis() + self.fate.skew_millis + drifted)
    }

    /// So much time by its own clock.
    fn measured(&self, span: Span) -> Span {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let drifted = millis.saturating_mul(self.fate.drift_millionths) / MILLION;
        Span::from_millis(u64::try_from(millis.saturating_add(drifted)).unwrap_or_default())
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
            age: self.measured(now.since(probed.began_at)),
            latency_micros: probed.ready_at.since(probed.began_at).as_millis() * 1_000,
            outcome,
            status: None,
            certificate_expires_at: None,
            blind: probed.blind,
        }
    }
}
