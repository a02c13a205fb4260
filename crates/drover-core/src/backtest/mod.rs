//! What a policy would have done about a history of probes: when it would have failed over, and whether it was right.
//!
//! Nothing is decided here. Each row passes the gate that a report passes, forms the opinion that it would have formed, and
//! what follows from it is judged, damped, decided and planned by the functions that the coordinator calls, in its order.
//! Only what a history can't tell is assumed, and always in the same way:
//!
//! - A plan is carried out at once and succeeds: the traffic that a failover moves is gone at the moment of the decision.
//! - Nobody answers questions. They expire and are asked again as they would be.
//! - What is offered for failback is brought back at once, by a person and without a ramp.
//! - A service without a declared `peak_load` has none, so that capacity keeps nothing from moving.
//!
//! Rows are taken one by one and not kept: a year of them needs no more memory than an hour.

mod deciding;
mod findings;
mod judging;
#[cfg(test)]
mod tests;
mod truth;

pub use findings::{Delays, Event, EventKind, Findings, KEPT_MAX, Outage, OutageEnd, Rightness, Totals};

use crate::agenda::Agenda;
use crate::damping::Damping;
use crate::opinion::policy_of;
use crate::panel::{Opinions, Panel};
use crate::targets::initial_traffic;
use crate::vantage::Vantage;
use deciding::{Left, Question};
use drover_model::config::{Config, HealthCheck, Service};
use drover_model::decision::VantageState;
use drover_model::plan::{LoadedRunbook, World};
use drover_model::probe::{
    FailureKind, Observation, OpinionPolicy, ProbeOutcome, REPORT_SCHEMA, Report, SelfCheck,
};
use drover_model::runbook::Purpose;
use drover_model::traffic::Load;
use drover_model::{AgentId, EndpointKey, RequestsPerSecond, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use truth::Truth;

/// What was true of an endpoint, whatever a vantage saw of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// It served.
    Fine,
    /// It did not.
    Outage,
}

/// One probe of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When its result was known where decisions are made.
    pub at: Timestamp,
    /// How long before that the probe began.
    pub age: Span,
    /// Who probed.
    pub vantage: AgentId,
    /// What.
    pub endpoint: EndpointKey,
    /// How it failed; nothing when it was good.
    pub failure: Option<FailureKind>,
    /// Time of the whole exchange, where it is known.
    pub latency: Option<Span>,
    /// The vantage reached nothing at all, by its own self-check.
    pub blind: bool,
    /// What was true, where somebody wrote it down.
    pub label: Option<Label>,
}

/// A vantage as it is heard, with the report that its next row comes in.
struct Heard {
    gate: Vantage,
    report: Report,
    /// What the panel holds of it.
    state: VantageState,
    /// It has probed since the beginning.
    has_probed: bool,
}

/// The numbers of one service's policy, worked out once.
struct Policy {
    opinion: OpinionPolicy,
    damping: Damping,
    latency_max: Option<Span>,
}

/// A policy at work on a history.
pub struct Backtest {
    config: Arc<Config>,
    policies: BTreeMap<ServiceId, Policy>,
    heard: BTreeMap<AgentId, Heard>,
    panel: Panel,
    opinions: BTreeMap<EndpointKey, Opinions>,
    agenda: Agenda,
    /// No vantage falls silent before; none: nobody was heard.
    vantages_at: Option<Timestamp>,
    look_at: Option<Timestamp>,
    world: World,
    questions: Vec<Question>,
    left: Vec<Left>,
    runs: u64,
    truth: Truth,
    began_at: Option<Timestamp>,
    now: Timestamp,
    findings: Findings,
}

impl Backtest {
    /// Nothing was seen yet; everything is as configured.
    #[must_use]
    pub fn new(config: Config, runbooks: BTreeMap<Purpose, LoadedRunbook>) -> Self {
        let config = Arc::new(config);
        let policies = config.services.values().map(|s| (s.name.clone(), Policy::of(s))).collect();
        let heard = config.agents().into_keys().map(|a| (a.clone(), Heard::new(a))).collect();
        let world = World {
            verdicts: BTreeMap::new().into(),
            vantages: config.agents().into_keys().map(|a| (a, VantageState::NeverHeard)).collect(),
            traffic: BTreeMap::new().into(),
            loads: BTreeMap::new(),
            holds: vec![],
            held: BTreeMap::new(),
            dns_of_another_store: None,
            freeze: None,
            blocks: vec![],
            runs: vec![],
            ended: vec![],
            rearmed: BTreeMap::new(),
            runbooks: runbooks.into(),
            heard_since_start: vec![],
            service_versions: Arc::new(config.service_versions()),
            config: config.clone(),
        };
        Self {
            policies,
            heard,
            panel: Panel::of(&config, |_| VantageState::NeverHeard),
            opinions: BTreeMap::new(),
            agenda: Agenda::default(),
            vantages_at: None,
            look_at: None,
            world,
            questions: vec![],
            left: vec![],
            runs: 0,
            truth: Truth::default(),
            began_at: None,
            now: Timestamp::default(),
            findings: Findings::default(),
            config,
        }
    }

    /// Takes the next row. One that is older than the last counts as having come with it; one of a vantage or an endpoint
    /// that is not configured counts for nothing, and is told.
    pub fn take(&mut self, row: &Row) {
        let service = self.config.services.get(&row.endpoint.service);
        let is_known = service.is_some_and(|s| s.endpoints.contains_key(&row.endpoint.region))
            && self.heard.contains_key(&row.vantage);
        if !is_known {
            cov_mark::hit!(backtest_row_of_nobody);
            self.findings.ignored += 1;
            return;
        }
        self.findings.rows += 1;
        if self.began_at.is_none() {
            self.begin(row.at);
        }
        self.pass_to(row.at);
        if let Some(label) = row.label {
            self.findings.labelled = true;
            let carries = self.carries(&row.endpoint);
            self.truth.label(&row.endpoint, label, self.now, carries, &mut self.findings);
        }
        if self.hear(row) {
            self.look();
        }
    }

    /// What came of it, when the history is over.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        let Self { now, began_at, .. } = self;
        self.truth.end(now, &mut self.findings);
        self.findings.from = began_at;
        self.findings.to = began_at.map(|_| now);
        self.findings.unseen = self.endpoints();
        self.findings.unseen.retain(|endpoint| !self.opinions.contains_key(endpoint));
        self.findings
    }

    fn begin(&mut self, at: Timestamp) {
        self.began_at = Some(at);
        self.now = at;
        let services = self.config.services.values();
        self.world.traffic = services.clone().map(|s| (s.name.clone(), initial_traffic(s, at))).collect();
        let load = |s: &Service| match s.peak_load {
            Some(rate) => Load::Declared { rate },
            None => Load::Measured { rate: RequestsPerSecond(0), at },
        };
        self.world.loads = services.map(|s| (s.name.clone(), load(s))).collect();
    }

    /// Lets time pass, and does what is due on the way.
    fn pass_to(&mut self, at: Timestamp) {
        while let Some(due) = self.next_due().filter(|due| *due < at) {
            self.now = self.now.max(due);
            let mut changed = false;
            if self.vantages_at.is_some_and(|at| at <= self.now) {
                changed |= self.look_at_vantages();
            }
            let due = self.agenda.take_due(self.now);
            changed |= self.judge(due.iter());
            if changed || self.look_at.is_some_and(|at| at <= self.now) {
                self.look();
            }
        }
        self.now = self.now.max(at);
    }

    fn next_due(&self) -> Option<Timestamp> {
        [self.agenda.next_at(), self.vantages_at, self.look_at].into_iter().flatten().min()
    }

    fn carries(&self, endpoint: &EndpointKey) -> bool {
        self.world.traffic.get(&endpoint.service).is_some_and(|t| t.weight(&endpoint.region).0 > 0)
    }
}

impl Policy {
    fn of(service: &Service) -> Self {
        let latency_max = match &service.check {
            HealthCheck::Http(check) => check.max_latency,
            HealthCheck::Tcp(check) => check.max_latency,
        };
        Self { opinion: policy_of(service), damping: Damping::of(service), latency_max }
    }

    /// What the agent would have called it under this policy. An answer that was good but for its time is judged by its time,
    /// where that is known, whatever the policy of the day said of it.
    fn failure_of(&self, row: &Row) -> Option<FailureKind> {
        match (row.failure, row.latency) {
            (None | Some(FailureKind::TooSlow), Some(took)) => {
                let slow = self.latency_max.is_some_and(|max| took > max);
                slow.then_some(FailureKind::TooSlow)
            }
            (failure, _) => failure,
        }
    }
}

impl Heard {
    fn new(agent: AgentId) -> Self {
        let report = Report {
            schema: REPORT_SCHEMA,
            agent,
            boot: String::new(),
            boot_number: 1,
            sent_at: Timestamp::default(),
            config_version: String::new(),
            observations: Vec::with_capacity(1),
            opinions: vec![],
            self_check: SelfCheck::default(),
            dropped: 0,
            out_of_service: None,
        };
        Self { gate: Vantage::new(), report, state: VantageState::NeverHeard, has_probed: false }
    }

    /// The report that `row` would have come in at `now`, under the next number.
    fn report_of(&mut self, row: &Row, failure: Option<FailureKind>, now: Timestamp) -> &Report {
        let sequence = self.report.observations.first().map_or(0, |o| o.sequence) + 1;
        let outcome =
            failure.map_or(ProbeOutcome::Good, |kind| ProbeOutcome::Failed { kind, detail: String::new() });
        let observation = Observation {
            sequence,
            endpoint: row.endpoint.clone(),
            began_at: row.at - row.age,
            age: row.age,
            latency_micros: row.latency.map_or(0, |took| took.as_millis().saturating_mul(1_000)),
            outcome,
            status: None,
            certificate_expires_at: None,
            blind: row.blind,
        };
        self.report.observations.clear();
        self.report.observations.push(observation);
        self.report.sent_at = now;
        self.report.self_check.blind = row.blind;
        &self.report
    }
}
