//! Plans and records to test with.

use drover_exec::{Approved, Consent, Execution};
use drover_model::approvals::Approvals;
use drover_model::journal::{CheckOutcome, Entry, JOURNAL_SCHEMA, Measurement, Record, Trigger};
use drover_model::plan::{Intent, Plan, Program, Repeatability, Reversal, Step, StepKind, ValidationTarget};
use drover_model::runbook::{OnFailure, Purpose};
use drover_model::traffic::Actor;
use drover_model::{Epoch, Percent, PlanId, RegionId, RunId, ServiceId, Span, Timestamp};

pub const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

pub fn person() -> Actor {
    Actor::Person { name: "mara".into(), host: "laptop".into() }
}

pub fn run() -> RunId {
    RunId::numbered(7)
}

pub fn step(kind: StepKind, on_failure: OnFailure, reversal: Reversal, attempts: u32) -> Step {
    let timeout = Span::from_secs(30);
    Step { id: String::new(), kind, timeout, attempts, backoff: Span::from_secs(2), on_failure, reversal }
}

pub fn shift(on_failure: OnFailure, attempts: u32) -> Step {
    let reversal = Reversal::RestoreWeights { changes: vec![] };
    step(StepKind::ShiftTraffic { changes: vec![] }, on_failure, reversal, attempts)
}

/// A stage of a ramp.
pub fn stage(on_failure: OnFailure, attempts: u32) -> Step {
    let reversal = Reversal::StepBack { changes: vec![], out: vec![] };
    step(StepKind::ShiftTraffic { changes: vec![] }, on_failure, reversal, attempts)
}

pub fn forward_only(on_failure: OnFailure) -> Step {
    step(StepKind::ShiftTraffic { changes: vec![] }, on_failure, Reversal::ForwardOnly, 1)
}

pub fn preflight(on_failure: OnFailure, attempts: u32) -> Step {
    step(StepKind::Preflight { predicates: vec![] }, on_failure, Reversal::Nothing, attempts)
}

pub fn notify() -> Step {
    step(StepKind::Notify { message: "hear".into() }, OnFailure::Continue, Reversal::Nothing, 2)
}

/// A program that can be neither observed nor repeated.
pub fn once(on_failure: OnFailure) -> Step {
    let command = Program { path: "/opt/once".into(), arguments: vec![], digest: "d1".into() };
    let kind = StepKind::Run { command, repeatability: Repeatability::AtMostOnce, observe: None };
    step(kind, on_failure, Reversal::AskOperator, 1)
}

pub fn wait(seconds: u64) -> Step {
    let kind = StepKind::Wait { span: Span::from_secs(seconds), why: "caches".into() };
    step(kind, OnFailure::Pause, Reversal::Nothing, 1)
}

/// Asks DNS.
pub fn verify_dns() -> Step {
    step(StepKind::VerifyDns { of: None, expected: vec![] }, OnFailure::Pause, Reversal::Nothing, 1)
}

/// Measures what is left.
pub fn drained() -> Step {
    let kind = StepKind::Drained { targets: vec![], quiet: Span::from_secs(45) };
    step(kind, OnFailure::Continue, Reversal::Nothing, 1)
}

pub fn approve(on_failure: OnFailure) -> Step {
    let kind = StepKind::Approve { message: "go on?".into(), expires: Span::from_mins(10), approvals: 1 };
    step(kind, on_failure, Reversal::Nothing, 1)
}

pub fn validate(on_failure: OnFailure, attempts: u32) -> Step {
    let target = ValidationTarget {
        service: ServiceId::new("checkout").unwrap(),
        regions: vec![],
        window: Span::from_mins(1),
        window_max: Span::ZERO,
        returning: false,
        min_samples: 10,
        max_error_rate: Percent::whole(1),
        max_latency_p95: Span::from_secs(1),
        min_availability: Percent::whole(99),
    };
    step(StepKind::Validate { targets: vec![target] }, on_failure, Reversal::Nothing, attempts)
}

pub fn measurement(outcome: CheckOutcome) -> Measurement {
    let value = Some("0.1%".to_owned());
    Measurement { name: "error_rate checkout".into(), value, bound: "1%".into(), samples: 100, outcome }
}

pub fn plan(mut steps: Vec<Step>) -> Plan {
    for (i, step) in steps.iter_mut().enumerate() {
        step.id = format!("{}-{}", i + 1, step.kind.word());
    }
    let intent = Intent {
        purpose: Purpose::Failover,
        services: vec![],
        region: RegionId::new("eu-west").unwrap(),
        to: None,
        automatic: false,
        hold_for: None,
        reason: "test".into(),
        accept: vec![],
    };
    Plan {
        schema: 1,
        id: PlanId::of_json(&format!("{steps:?}")).unwrap(),
        intent,
        services: vec![ServiceId::new("checkout").unwrap()],
        runbook: "failover".into(),
        base: Default::default(),
        steps,
    }
}

pub fn consent(plan: &Plan, ask: Option<Span>) -> Consent {
    match ask {
        None => Consent::Given(Approved::by_command(plan.clone(), &plan.id).unwrap()),
        Some(expires) => Consent::Ask { plan: plan.clone(), expires, approvals: Approvals::default() },
    }
}

/// A fresh run whose first record is on its way.
pub fn fresh(plan: &Plan, ask: Option<Span>) -> Execution {
    let rto = Span::from_mins(15);
    Execution::create(run(), consent(plan, ask), person(), Trigger::Command, rto, EPOCH, at(0)).0
}

pub fn created(plan: &Plan, ask: Option<Span>) -> Entry {
    let rto = Span::from_mins(15);
    Entry::Created {
        plan: plan.clone(),
        by: person(),
        trigger: Trigger::Command,
        ask,
        rto,
        approvals: Approvals::default(),
    }
}

pub fn record(sequence: u64, entry: Entry) -> Record {
    let at = at(i64::try_from(sequence).unwrap());
    Record { schema: JOURNAL_SCHEMA, run: run(), sequence, at, epoch: EPOCH, entry }
}

/// A journal of these entries, one a second.
pub fn journal(entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
    (0..).zip(entries).map(|(sequence, entry)| record(sequence, entry)).collect()
}
