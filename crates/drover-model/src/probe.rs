//! What an agent is asked to probe, and what it reports.

use crate::config::HealthCheck;
use crate::decision::OpinionState;
use crate::ids::{AgentId, EndpointKey, RegionId};
use crate::out_of_service::{HeldDeclaration, OutOfService};
use crate::time::{Span, Timestamp};
use crate::units::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Observations in one report, at most: a body of about 256 KiB.
pub const REPORT_OBSERVATIONS_MAX: usize = 1_000;

/// Version of the report format that this build writes.
pub const REPORT_SCHEMA: u16 = 1;

/// The numbers by which a vantage forms its opinion of one endpoint. `drover-core` explains the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpinionPolicy {
    /// Consecutive failures for `Failing`.
    pub failure_threshold: u32,
    /// They must all be younger than this.
    pub failure_window: Span,
    /// Failing share over the window for `Failing` without a streak.
    pub gray_failure_share: Percent,
    /// Probes needed before that share counts.
    pub gray_min_samples: u32,
    /// Consecutive successes that end `Failing`.
    pub recovery_threshold: u32,
    /// Older than this, the last probe says nothing.
    pub stale_after: Span,
}

/// One endpoint to probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeTarget {
    /// Which one.
    pub endpoint: EndpointKey,
    /// IP address, or a host name that is resolved anew for every probe.
    pub address: String,
    /// Port.
    pub port: u16,
    /// `Host` header and TLS name unless the check overrides them: the service's DNS name.
    pub host: String,
    /// What to do.
    pub check: HealthCheck,
    /// How often.
    pub interval: Span,
    /// Time for the whole exchange.
    pub timeout: Span,
    /// How to form an opinion.
    pub policy: OpinionPolicy,
}

/// Everything that one agent has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeList {
    /// The configuration that it was made from.
    pub config_version: String,
    /// For whom.
    pub agent: AgentId,
    /// Where that agent is.
    pub region: RegionId,
    /// The address that probes leave from.
    pub source_address: Option<IpAddr>,
    /// The endpoints.
    pub targets: Vec<ProbeTarget>,
    /// Independent addresses for the self-check.
    pub references: Vec<SocketAddr>,
    /// How often the self-check runs.
    pub reference_interval: Span,
    /// How often to report, at most.
    pub report_interval: Span,
}

/// Why a probe failed. Kept apart, because the cure differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name did not resolve.
    Resolve,
    /// Nobody listens.
    Refused,
    /// No route, network or host unreachable.
    Unreachable,
    /// No whole answer inside the timeout.
    TimedOut,
    /// The connection broke.
    Reset,
    /// The TLS handshake or certificate failed.
    Tls,
    /// Not an HTTP answer, or one past the limits.
    Protocol,
    /// Another status than expected.
    Status,
    /// The expected text was missing.
    Body,
    /// Good, but slower than `max_latency`.
    TooSlow,
    /// The probe could not be made for a reason on the agent's own side (no file, no descriptor): says nothing of the endpoint.
    Local,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FailureKind::Resolve => "not resolved",
            FailureKind::Refused => "refused",
            FailureKind::Unreachable => "no route",
            FailureKind::TimedOut => "timed out",
            FailureKind::Reset => "reset",
            FailureKind::Tls => "TLS",
            FailureKind::Protocol => "protocol",
            FailureKind::Status => "status",
            FailureKind::Body => "body",
            FailureKind::TooSlow => "too slow",
            FailureKind::Local => "agent's own fault",
        })
    }
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// As expected.
    Good,
    /// Not.
    Failed {
        /// Why.
        kind: FailureKind,
        /// Details for people, at most 200 bytes.
        detail: String,
    },
}

impl ProbeOutcome {
    /// As expected?
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, ProbeOutcome::Good)
    }
}

/// One probe's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// Counts every observation of this agent's boot, from 1, without gaps except for those dropped.
    pub sequence: u64,
    /// Of what.
    pub endpoint: EndpointKey,
    /// When the probe began, by the agent's wall clock: for people only.
    pub began_at: Timestamp,
    /// How long before the report was sent the probe began, by the agent's monotonic clock: this is what counts.
    pub age: Span,
    /// Time of the whole exchange, in microseconds.
    pub latency_micros: u64,
    /// The result.
    pub outcome: ProbeOutcome,
    /// HTTP status, when one came.
    pub status: Option<u16>,
    /// End of the server certificate's life, when there is one.
    pub certificate_expires_at: Option<Timestamp>,
    /// The agent was blind when it ended ([`SelfCheck::blind`]), however long after that it is sent. Agents of earlier
    /// builds don't say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
}

/// What the agent itself concludes, so that a coordinator that just started need not begin from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentOpinion {
    /// Of what.
    pub endpoint: EndpointKey,
    /// The opinion.
    pub state: OpinionState,
    /// Consecutive results of the kind that the last one had.
    pub streak: u32,
    /// How long the opinion has stood.
    pub held_for: Span,
    /// Age of the last probe.
    pub last_probe_age: Span,
    /// Held failing, while its last probes were good: `streak` counts successes. Agents of earlier builds don't say.
    #[serde(default)]
    pub recovering: bool,
}

/// The agent's check of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SelfCheck {
    /// References that answered in the last round.
    pub references_reached: u32,
    /// References configured.
    pub references: u32,
    /// Nothing at all answers, neither a reference nor any endpoint outside its region: blind, not a witness.
    pub blind: bool,
}

/// A batch from one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Format version, [`REPORT_SCHEMA`].
    pub schema: u16,
    /// Who.
    pub agent: AgentId,
    /// Random name of the agent's start; a new one begins sequence numbers anew.
    pub boot: String,
    /// When that boot began, counted by a number on the agent's disk: a report from an earlier boot is a replay.
    pub boot_number: u64,
    /// The agent's wall clock at sending: compared for skew, never used in a window.
    pub sent_at: Timestamp,
    /// Configuration that the agent works by.
    pub config_version: String,
    /// Results, oldest first, at most [`REPORT_OBSERVATIONS_MAX`].
    pub observations: Vec<Observation>,
    /// Its opinions.
    pub opinions: Vec<AgentOpinion>,
    /// Its self-check.
    pub self_check: SelfCheck,
    /// Results dropped since boot because the buffer was full.
    pub dropped: u64,
    /// Which declaration of regions out of service its status pages show; absent where it serves none, or has heard none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_service: Option<HeldDeclaration>,
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAck {
    /// Entered the current window.
    pub accepted: u32,
    /// Too old or out of order: kept in history only.
    pub history_only: u32,
    /// Seen before: ignored.
    pub replayed: u32,
    /// The agent may forget everything up to here.
    pub acknowledged_sequence: u64,
    /// The configuration to pull when it differs from the agent's.
    pub config_version: String,
    /// Which regions are declared out of service, for those who serve status pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_service: Option<OutOfService>,
}
