//! Plans: what would be done, exactly.
//!
//! A plan leaves nothing to decide: a step names the record set, its weights before and after, and the generation
//! that it replaces. Its id is the digest of all that executes and of the versions that were read (I9); estimates and
//! the epoch stay outside, so that the same plan made twice has the same name.

pub use crate::acceptance::Acceptance;
use crate::config::{AppCheck, RecordType, TrafficSource};
use crate::ids::{EndpointKey, PlanId, RegionId, RunId, ServiceId};
use crate::reason::Reason;
use crate::runbook::{OnFailure, Purpose};
use crate::time::Span;
use crate::traffic::RegionShare;
use crate::units::{Generation, Percent, RequestsPerSecond, Weight};
use crate::weights::Weights;
pub use crate::world::{ActiveRun, EndedRun, LoadedRunbook, StandingVerdict, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the stored plan format that this build writes.
pub const PLAN_SCHEMA: u16 = 1;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Intent {
    /// Failover, failback, drain or undrain.
    pub purpose: Purpose,
    /// The services; empty means all that have an endpoint in the region.
    pub services: Vec<ServiceId>,
    /// The region to leave or to bring back.
    pub region: RegionId,
    /// Only this region takes the traffic, when named.
    pub to: Option<RegionId>,
    /// Asked by drover itself: guards that a person may overrule are then refusals.
    pub automatic: bool,
    /// For drains: when the hold ends (its length, so that the plan's name does not depend on the clock).
    pub hold_for: Option<Span>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Refusals that the person takes on. Part of the plan's name, so that nobody accepts what he did not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<Acceptance>,
}

impl Intent {
    /// Did a person take this on? Drover itself never does.
    #[must_use]
    pub fn accepts(&self, what: Acceptance) -> bool {
        !self.automatic && self.accept.contains(&what)
    }
}

/// Change of one service's published weights: exact, with what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficChange {
    /// The service.
    pub service: ServiceId,
    /// DNS name.
    pub dns_name: String,
    /// Record type.
    pub record_type: RecordType,
    /// TTL on the wire, in seconds.
    pub ttl_seconds: u32,
    /// What each region's member answers, as earlier builds planned it. It is what the configuration says whose version
    /// the plan read: named there, and not repeated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<RegionId, String>,
    /// The generation that this change replaces.
    pub from_generation: Generation,
    /// The generation that it makes.
    pub to_generation: Generation,
    /// Weights before.
    pub weights_before: Weights,
    /// Weights after.
    pub weights_after: Weights,
    /// Shares of the regions whose share changes, without the run's id, which a plan does not know.
    pub shares_after: BTreeMap<RegionId, PlannedShare>,
}

/// A region's part in a service after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedShare {
    /// Of its configured weight.
    pub share: Percent,
    /// Why.
    pub reason: PlannedShareReason,
}

/// Why a region will carry less than its configured share. The executor adds the run's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannedShareReason {
    /// As it stands in the traffic state that the plan read. Earlier builds said so of every other region.
    Unchanged,
    /// The whole configured share.
    Configured,
    /// Drained by this run.
    Drained,
    /// Left by this run.
    FailedOver,
    /// Coming back by this run.
    Returning,
}

/// A fact that must hold when a step starts; live, so it is evaluated then and not when planned (I9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "predicate", rename_all = "snake_case")]
pub enum Predicate {
    /// The endpoint's verdict is `healthy`.
    EndpointHealthy {
        /// Which.
        endpoint: EndpointKey,
    },
    /// The endpoint still is what an automatic failover was started for.
    EndpointStillBad {
        /// Which.
        endpoint: EndpointKey,
    },
    /// The projected load fits.
    Fits {
        /// The service.
        service: ServiceId,
        /// The region that takes traffic.
        region: RegionId,
        /// Its share of the service's traffic after the change.
        share: Percent,
        /// What it may carry, headroom taken off.
        usable: RequestsPerSecond,
    },
    /// The published generation is still this one.
    TrafficAt {
        /// The service.
        service: ServiceId,
        /// The generation.
        generation: Generation,
    },
}

/// What must be true of a service before its recovery counts (I10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationTarget {
    /// The service.
    pub service: ServiceId,
    /// The regions that carry its traffic and are judged.
    pub regions: Vec<RegionId>,
    /// How long to watch.
    pub window: Span,
    /// Watched on while there are too few samples, this long in all at most; `window` alone when that is longer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub window_max: Span,
    /// A stage of a ramp: its only region comes back, and what it carries stands beside what it was asked to carry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// Fewer samples are inconclusive.
    pub min_samples: u64,
    /// Fails above.
    pub max_error_rate: Percent,
    /// Fails above.
    pub max_latency_p95: Span,
    /// Fails below.
    pub min_availability: Percent,
}

impl ValidationTarget {
    /// The longest that watching may take.
    #[must_use]
    pub fn longest(&self) -> Span {
        self.window.max(self.window_max)
    }
}

/// A field that is left out of a plan's text, so that plans without it keep their names.
fn is_zero(span: &Span) -> bool {
    *span == Span::ZERO
}

/// One scripted request against one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppCheckTarget {
    /// Which endpoint.
    pub endpoint: EndpointKey,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// TLS?
    pub tls: bool,
    /// `Host` header.
    pub host: String,
    /// The request and its expected answer.
    pub check: AppCheck,
}

/// What is left of one service's traffic in the region that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainTarget {
    /// Which endpoint was left.
    pub endpoint: EndpointKey,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// How what still reaches it is measured; without, it counts as drained by the time that has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<TrafficSource>,
}

/// How a step kind may be repeated after a crash (I1). There is no fourth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeatability {
    /// Its effect can be looked at: observe, compare, do what is missing.
    Observable,
    /// The receiver honours an idempotency key.
    Keyed,
    /// Neither: an uncertain outcome needs a person.
    AtMostOnce,
}

impl Repeatability {
    /// The word used in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Repeatability::Observable => "observable",
            Repeatability::Keyed => "keyed",
            Repeatability::AtMostOnce => "at_most_once",
        }
    }

    /// The kind of this word, if it is one of the three.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Repeatability::Observable, Repeatability::Keyed, Repeatability::AtMostOnce]
            .into_iter()
            .find(|r| r.word() == word)
    }
}

/// A program with its arguments, and what was in its file when the plan was made: what was approved is what runs (I9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// Its file, with the whole path.
    pub path: String,
    /// What it is given, word by word; no shell looks at it.
    pub arguments: Vec<String>,
    /// Digest of the file.
    pub digest: String,
}

/// What a step does, with every detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepKind {
    /// Evaluate predicates on live facts.
    Preflight {
        /// All must hold.
        predicates: Vec<Predicate>,
    },
    /// Scripted requests with expected answers (`test_agent_functionality`).
    VerifyApp {
        /// Each must pass.
        targets: Vec<AppCheckTarget>,
    },
    /// Publish new weights.
    ShiftTraffic {
        /// One change a service.
        changes: Vec<TrafficChange>,
    },
    /// Ask every DNS instance what it answers.
    VerifyDns {
        /// What this step published. Named and not repeated: it is the larger part of a plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// What it must answer, in full, as earlier builds planned it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        expected: Vec<TrafficChange>,
    },
    /// Let time pass.
    Wait {
        /// How long.
        span: Span,
        /// What for, in words.
        why: String,
    },
    /// Judge the recovered service by its numbers (`validate_performance_metrics`).
    Validate {
        /// Each must pass.
        targets: Vec<ValidationTarget>,
    },
    /// Wait out what caches keep, and measure what still reaches the region that was left. What is gained has been proven before.
    Drained {
        /// Each must be drained.
        targets: Vec<DrainTarget>,
        /// What caches have from the time that DNS was verified everywhere: the longest TTL moved and half as much again.
        quiet: Span,
    },
    /// Ask a person.
    Approve {
        /// What to say.
        message: String,
        /// An unanswered question expires after this, never as consent.
        expires: Span,
        /// So many different people must agree.
        #[serde(default = "one_person", skip_serializing_if = "is_one_person")]
        approvals: u32,
    },
    /// Page people.
    Notify {
        /// What to say.
        message: String,
    },
    /// Run a program.
    Run {
        /// Which.
        command: Program,
        /// What its author says about doing it again.
        repeatability: Repeatability,
        /// Tells by its exit code whether it is done: there for what is `observable`.
        observe: Option<Program>,
    },
}

const fn one_person() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_one_person(approvals: &u32) -> bool {
    *approvals == 1
}

impl StepKind {
    /// The word used in files and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            StepKind::Preflight { .. } => "preflight",
            StepKind::VerifyApp { .. } => "verify_app",
            StepKind::ShiftTraffic { .. } => "shift_traffic",
            StepKind::VerifyDns { .. } => "verify_dns",
            StepKind::Wait { .. } => "wait",
            StepKind::Validate { .. } => "validate",
            StepKind::Drained { .. } => "drained",
            StepKind::Approve { .. } => "approve",
            StepKind::Notify { .. } => "notify",
            StepKind::Run { .. } => "run",
        }
    }

    /// How it may be repeated after a crash. Reading steps are observable: reading twice is normal.
    #[must_use]
    pub fn repeatability(&self) -> Repeatability {
        match self {
            StepKind::Notify { .. } => Repeatability::Keyed,
            StepKind::Run { repeatability, .. } => *repeatability,
            StepKind::Preflight { .. }
            | StepKind::VerifyApp { .. }
            | StepKind::ShiftTraffic { .. }
            | StepKind::VerifyDns { .. }
            | StepKind::Wait { .. }
            | StepKind::Validate { .. }
            | StepKind::Drained { .. }
            | StepKind::Approve { .. } => Repeatability::Observable,
        }
    }
}

/// How a step is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reversal", rename_all = "snake_case")]
pub enum Reversal {
    /// It changed nothing.
    Nothing,
    /// By publishing these weights again, unless that would send traffic to a region that is down.
    RestoreWeights {
        /// The changes back; their generations are filled in when they run.
        changes: Vec<TrafficChange>,
    },
    /// One stage of a ramp: back to the stage before, which was validated, and no further; the stages below stay. Where
    /// the region that returns is down by then, it is taken out altogether: nothing stays on a dead region.
    StepBack {
        /// The changes back; their generations are filled in when they run.
        changes: Vec<TrafficChange>,
        /// For each service that the plan has brought back so far, the change that takes the region out; one that would go
        /// dark has none.
        out: Vec<TrafficChange>,
    },
    /// Not at all: from here the way is forward. The first such step is the point of no return.
    ForwardOnly,
    /// Only a person can say.
    AskOperator,
}

/// One effect of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Number and word, such as `3-shift_traffic`.
    pub id: String,
    /// What.
    pub kind: StepKind,
    /// Time for one attempt.
    pub timeout: Span,
    /// Attempts in all.
    pub attempts: u32,
    /// Pause before the second attempt, doubled each time.
    pub backoff: Span,
    /// What follows when the last attempt failed.
    pub on_failure: OnFailure,
    /// How it is undone.
    pub reversal: Reversal,
}

/// Versions of the objects that a plan read, by store key or configuration path.
pub type ReadSet = BTreeMap<String, String>;

/// A complete, immutable plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Format version, [`PLAN_SCHEMA`].
    pub schema: u16,
    /// Digest of everything below.
    pub id: PlanId,
    /// What it is for.
    pub intent: Intent,
    /// The services that it touches.
    pub services: Vec<ServiceId>,
    /// The runbook that gave the order of steps.
    pub runbook: String,
    /// What it read.
    pub base: ReadSet,
    /// What it does.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Does it move by stages, so that its way back ends at the last one that was good?
    #[must_use]
    pub fn is_by_stages(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.reversal, Reversal::StepBack { .. }))
    }

    /// What a `verify_dns` step looks for: what the step that it names publishes. Nothing when it is no such step, or
    /// names none that publishes: then there is nothing to be seen, which is no success (I10).
    #[must_use]
    pub fn expected_by<'a>(&'a self, kind: &'a StepKind) -> Option<&'a [TrafficChange]> {
        let StepKind::VerifyDns { of, expected } = kind else { return None };
        match of {
            None => Some(expected),
            Some(_) if !expected.is_empty() => None,
            Some(of) => self.steps.iter().find(|s| s.id == *of).and_then(|s| match &s.kind {
                StepKind::ShiftTraffic { changes } => Some(changes.as_slice()),
                _ => None,
            }),
        }
    }
}

/// Load on one region before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadRow {
    /// The service.
    pub service: ServiceId,
    /// The region.
    pub region: RegionId,
    /// Weight before.
    pub weight_before: Weight,
    /// Weight after.
    pub weight_after: Weight,
    /// Load before, when known.
    pub load_before: Option<RequestsPerSecond>,
    /// Load after, when known.
    pub load_after: Option<RequestsPerSecond>,
    /// What the region may carry.
    pub usable: RequestsPerSecond,
}

/// Figures beside a plan that do not belong to its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Estimates {
    /// Until the last answer with old weights has left the caches.
    pub drained_after: Span,
    /// Until validation is over.
    pub done_after: Span,
    /// The objective, the smallest of the services moved.
    pub rto: Span,
}

/// Always a report, perhaps a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[must_use = "an unread report is not actionable"]
pub struct Planned {
    /// The plan, when one can be made.
    pub plan: Option<Plan>,
    /// Every guard that was asked.
    pub guards: Vec<crate::decision::GuardResult>,
    /// Why there is no plan, or why an automatic one must ask.
    pub refusals: Vec<Reason>,
    /// Traffic and load per region, old and new.
    pub rows: Vec<LoadRow>,
    /// Estimates.
    pub estimates: Estimates,
}

/// What the independent checker found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The invariant that would be broken, such as `I4`.
    pub invariant: String,
    /// How.
    pub message: String,
}

/// The shares of a traffic state as a change of `run`, which does what `intent` wants, would leave them.
#[must_use]
pub fn shares_with_run(
    before: &BTreeMap<RegionId, RegionShare>,
    planned: &BTreeMap<RegionId, PlannedShare>,
    run: &RunId,
    intent: &Intent,
) -> BTreeMap<RegionId, RegionShare> {
    use crate::traffic::ShareReason;
    let by_hand = !intent.automatic;
    let mut after = before.clone();
    for (region, p) in planned {
        let run = run.clone();
        let reason = match p.reason {
            PlannedShareReason::Unchanged => continue,
            PlannedShareReason::Configured => ShareReason::Configured,
            PlannedShareReason::Drained => ShareReason::Drained { run },
            PlannedShareReason::FailedOver => ShareReason::FailedOver { run, by_hand },
            PlannedShareReason::Returning => ShareReason::Returning { run, by_hand },
        };
        after.insert(region.clone(), RegionShare { share: p.share, reason });
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_an_earlier_version_is_read_and_keeps_its_text() {
        let earlier = r#"{"service":"pay","regions":["eu"],"window":"2m","min_samples":100,"max_error_rate":"5%","max_latency_p95":"2s","min_availability":"99%"}"#;
        let target: ValidationTarget = serde_json::from_str(earlier).unwrap();
        assert_eq!((target.longest(), target.returning), (Span::from_mins(2), false));
        assert_eq!(serde_json::to_string(&target).unwrap(), earlier);
    }
}
