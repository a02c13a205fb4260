//! Opinions, verdicts and what was decided, as they are stored. Every decision keeps its inputs, so that the pure
//! function can be run on them again (`drover explain --replay`).

use crate::ids::{AgentId, DecisionId, EndpointKey, PlanId, RegionId, RunId, ServiceId};
use crate::probe::FailureKind;
use crate::reason::Reason;
use crate::runbook::Purpose;
use crate::time::{Span, Timestamp};
use crate::units::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the stored decision format that this build writes.
pub const DECISION_SCHEMA: u16 = 1;

/// What one vantage holds of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpinionState {
    /// It answers as it should.
    Healthy,
    /// It failed often enough.
    Failing,
    /// Not enough is known. Unknown is not down (I6).
    Unknown,
}

impl fmt::Display for OpinionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OpinionState::Healthy => "healthy",
            OpinionState::Failing => "failing",
            OpinionState::Unknown => "unknown",
        })
    }
}

/// Why a vantage abstains, when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VantageState {
    /// Reports in time and sees its references.
    Reporting,
    /// Configured, but never heard since the coordinator started.
    NeverHeard,
    /// No report for `silent_after`.
    Silent,
    /// Sees nothing at all: not a witness.
    Blind,
    /// Its clock is too far from the coordinator's.
    Skewed,
}

impl VantageState {
    /// Do its opinions count?
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, VantageState::Reporting)
    }
}

impl fmt::Display for VantageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VantageState::Reporting => "reporting",
            VantageState::NeverHeard => "never heard",
            VantageState::Silent => "silent",
            VantageState::Blind => "blind",
            VantageState::Skewed => "clock skewed",
        })
    }
}

/// One vantage's opinion of one endpoint, with the numbers behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VantageOpinion {
    /// Who.
    pub vantage: AgentId,
    /// From which region.
    pub region: RegionId,
    /// May it speak?
    pub vantage_state: VantageState,
    /// What it holds.
    pub state: OpinionState,
    /// Consecutive results of the kind of the last one.
    pub streak: u32,
    /// Good probes in the window.
    pub good: u32,
    /// Failed probes in the window.
    pub failed: u32,
    /// Failing by share rather than by streak.
    pub gray: bool,
    /// Age of the last probe, when there is one.
    pub last_probe_age: Option<Span>,
    /// How the last failed probe failed.
    pub last_failure: Option<FailureKind>,
    /// The last probe failed: by itself no opinion, but a suspicion.
    #[serde(default)]
    pub last_probe_failed: bool,
}

/// What a quorum concludes of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// Enough outside vantages see it well.
    Healthy,
    /// The inside sees it failing, the outside sees it well.
    Degraded,
    /// A quorum outside sees it failing, the inside sees it well: users cannot reach it. Traffic moves.
    Unreachable,
    /// The vantages disagree, too few for a quorum.
    Partitioned,
    /// A quorum outside sees it failing, and nobody inside says otherwise.
    Down,
    /// Too little is known.
    Unknown,
}

impl VerdictState {
    /// Does this verdict move traffic?
    #[must_use]
    pub fn moves_traffic(self) -> bool {
        matches!(self, VerdictState::Down | VerdictState::Unreachable)
    }
}

impl fmt::Display for VerdictState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VerdictState::Healthy => "healthy",
            VerdictState::Degraded => "degraded",
            VerdictState::Unreachable => "unreachable",
            VerdictState::Partitioned => "partitioned",
            VerdictState::Down => "down",
            VerdictState::Unknown => "unknown",
        })
    }
}

/// Everything that a verdict is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictInputs {
    /// Of what.
    pub endpoint: EndpointKey,
    /// The coordinator's time.
    pub at: Timestamp,
    /// Outside vantages that must agree (I6).
    pub need: u32,
    /// Every configured outside vantage; a silent one stays in the denominator.
    pub outside: Vec<VantageOpinion>,
    /// Vantages in the endpoint's own region.
    pub inside: Vec<VantageOpinion>,
    /// When the coordinator that concludes began to lead. Nothing where nobody leads: in what is concluded from a history,
    /// or was stored by an older build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_since: Option<Timestamp>,
}

/// A verdict and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The conclusion.
    pub state: VerdictState,
    /// Outside vantages that see it failing.
    pub failing: u32,
    /// Of those, the ones that have not probed it since this coordinator leads: their word makes a verdict, and begins
    /// nothing by itself (I6).
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub unconfirmed: u32,
    /// Outside vantages that see it well.
    pub healthy: u32,
    /// Outside vantages that abstain.
    pub abstaining: u32,
    /// Outside vantages configured.
    pub configured: u32,
    /// How many had to agree.
    pub need: u32,
    /// A counting vantage has seen a failure lately: the endpoint is suspect, whatever the verdict.
    pub suspect: bool,
    /// Why, with numbers.
    pub reason: Reason,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_of_them(vantages: &u32) -> bool {
    *vantages == 0
}

/// The kinds of trouble for which automatic action is blocked separately (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// One service in one region.
    Endpoint,
    /// Every service of a region.
    Region,
    /// No failure: a region that was left is well again.
    Recovery,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FailureClass::Endpoint => "endpoint failure",
            FailureClass::Region => "region failure",
            FailureClass::Recovery => "recovery",
        })
    }
}

/// One rule that was asked before acting, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuardResult {
    /// Its name, such as `capacity`.
    pub guard: String,
    /// Did it let the action pass?
    pub passed: bool,
    /// With numbers.
    pub reason: Reason,
}

/// What drover concluded about one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// A run is started.
    Act,
    /// A person is asked.
    Ask,
    /// Nothing is done, for the reasons given.
    Hold,
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Conclusion::Act => "act",
            Conclusion::Ask => "ask",
            Conclusion::Hold => "hold",
        })
    }
}

/// What the decision function said about one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionDecision {
    /// Leaving the region, or bringing it back.
    #[serde(default = "failover")]
    pub purpose: Purpose,
    /// The region in question.
    pub region: RegionId,
    /// Services that would move.
    pub services: Vec<ServiceId>,
    /// Endpoint or region failure.
    pub class: FailureClass,
    /// Act, ask or hold.
    pub conclusion: Conclusion,
    /// Every guard that was asked.
    pub guards: Vec<GuardResult>,
    /// The reason that decided, printed first.
    pub reason: Reason,
    /// When to look again although nothing new arrived.
    pub look_again_at: Option<Timestamp>,
}

/// What decisions were about before any brought a region back.
fn failover() -> Purpose {
    Purpose::Failover
}

/// The content of a stored decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)]
pub enum DecisionBody {
    /// A verdict changed.
    Verdict {
        /// From what.
        inputs: VerdictInputs,
        /// To what.
        verdict: Verdict,
    },
    /// An action was considered.
    Action {
        /// The world that was judged, narrowed to the services concerned. Kept in a record of its own and put in when the
        /// decision is asked for; builds before kept it here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        world: Option<Box<crate::plan::World>>,
        /// For which region.
        region: RegionId,
        /// What was decided.
        decision: ActionDecision,
        /// The plan that came of it.
        plan: Option<PlanId>,
        /// The run that came of it.
        run: Option<RunId>,
    },
}

/// A decision as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredDecision {
    /// Format version, [`DECISION_SCHEMA`].
    pub schema: u16,
    /// Its name.
    pub id: DecisionId,
    /// When.
    pub at: Timestamp,
    /// Under which leader.
    pub epoch: Epoch,
    /// What.
    pub body: DecisionBody,
}
