//! What the coordinator's HTTP API says and is told (`/v1`). The same types are printed by `-o json|yaml`, so every
//! change here is a change for scripts: fields are added, never renamed.

mod coordinators;
mod dataset;
mod health_checks;
mod observation;
mod problem;
mod records;
mod short;
mod zone;

pub use coordinators::{AS_OF_HEADER, FollowerView, LeadershipView, StoreUnread};
pub use dataset::{DatasetView, MoveBegun, MoveRequest, RightStanding};
pub use health_checks::{
    CheckFound, CheckState, HealthChecksView, RegionChecks, RegionStanding, StatusPageView,
};
pub use observation::{ObservationPlace, ObservationView};
pub use problem::Problem;
pub use records::UnreadableRecord;
pub use short::Short;
pub use zone::{
    AdoptRequest, ContradictionView, DNS_COMMAND_TAKEN_BY, DnsCommandView, DnsView, PublicationView,
    RecordState, RecordVersion, RecordView, TakeCommandRequest, ValueView, ZoneView,
};

use crate::approvals::Approvals;
use crate::break_glass::HeldView;
use crate::config::diagnostic::Diagnostic;
use crate::decision::{ActionDecision, StoredDecision, VantageState, Verdict, VerdictInputs, VerdictState};
use crate::ids::{AgentId, DecisionId, EndpointKey, PlanId, RegionId, RunId, ServiceId};
use crate::journal::{Entry, Measurement, RunState, Trigger};
use crate::machine::CertificateEnding;
use crate::plan::{Intent, Plan, Planned};
use crate::reason::Reason;
use crate::runbook::{OnFailure, Purpose};
use crate::time::{Span, Timestamp};
use crate::traffic::{Actor, Block, Freeze, Hold, Load, ShareReason};
use crate::units::{Epoch, Generation, Percent, RequestsPerSecond, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the output schema that this build writes.
pub const API_SCHEMA: u16 = 1;

/// How bad a line of `status` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will matter.
    Warning,
    /// Matters now.
    Critical,
}

/// Something that is not normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attention {
    /// How bad.
    pub severity: Severity,
    /// What it is about: a region, service, endpoint, vantage, run.
    pub subject: String,
    /// One sentence.
    pub sentence: String,
    /// Stable code.
    pub code: String,
    /// The command that goes on from here.
    pub next: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// The coordinator that answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoordinatorView {
    /// Version of the program.
    pub version: String,
    /// Who commands.
    pub epoch: Epoch,
    /// Running since.
    pub started_at: Timestamp,
    /// Configuration in force.
    pub config_version: String,
    /// Why a newer configuration was refused, while the old one stays.
    pub config_refused: Vec<Diagnostic>,
    /// What of the configuration in force only counts from the next start, in words.
    #[serde(default)]
    pub restart_needed: Vec<String>,
    /// Bytes in the store and in the history of observations.
    pub store_bytes: u64,
    /// Are they past their alarm size?
    pub store_alarm: bool,
    /// Why the store takes no writes, or the journal's alone, when that is so.
    #[serde(default)]
    pub store_failing: Option<String>,
    /// The store stopped itself after a failure of its disk. Space does not help: it goes on only after a restart.
    #[serde(default)]
    pub store_stopped: bool,
    /// Channels to people that are configured; without one, pages are only logged.
    #[serde(default)]
    pub page_channels: u32,
    /// Pages not delivered yet.
    pub pages_undelivered: u64,
    /// Connections refused since the start, of machines that had as many as one may have.
    #[serde(default)]
    pub connections_refused: u64,
    /// Certificates that end soon: of machines that ask this coordinator, and its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates_ending: Vec<CertificateEnding>,
    /// Age of the oldest of them.
    pub pages_oldest: Option<Span>,
    /// Who leads, where several coordinators share a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leadership: Option<LeadershipView>,
    /// Records of the store that make no sense to this coordinator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_records: Vec<UnreadableRecord>,
    /// A follower can't read the store: targets, runs and holds are shown as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_unread: Option<StoreUnread>,
}

/// Whether a region could be failed over automatically, said beforehand (I6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuorumView {
    /// Outside vantages configured.
    pub configured: u32,
    /// How many must agree.
    pub need: u32,
    /// How many can speak now.
    pub able: u32,
    /// Those that cannot.
    pub abstaining: Vec<AgentId>,
    /// Enough can speak.
    pub possible: bool,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointView {
    /// The region.
    pub region: RegionId,
    /// Address and port.
    pub address: String,
    /// What it is held to be.
    pub verdict: VerdictState,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Published weight.
    pub weight: Weight,
    /// Configured weight.
    pub configured_weight: Weight,
    /// Share of the configured weight.
    #[serde(default = "short::full_share")]
    pub share: Percent,
    /// Why not all of it.
    #[serde(default = "short::configured_share")]
    pub share_reason: ShareReason,
    /// What it may carry, headroom taken off.
    pub usable: RequestsPerSecond,
    /// Load by weight, when the service's load is known.
    pub load: Option<RequestsPerSecond>,
    /// When the first of the certificates ends that probes were shown there.
    #[serde(default)]
    pub certificate_expires_at: Option<Timestamp>,
    /// That is sooner than the check's `expiry_warning`.
    #[serde(default)]
    pub certificate_expiring: bool,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceId,
    /// DNS name.
    pub dns_name: String,
    /// Published generation.
    pub generation: Generation,
    /// Its load.
    pub load: Load,
    /// Acts by itself?
    pub automatic: bool,
    /// The run that works on it.
    pub run: Option<RunId>,
    /// Where it runs.
    pub endpoints: Vec<EndpointView>,
}

/// One region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionView {
    /// Its name.
    pub name: RegionId,
    /// Where.
    pub city: String,
    /// Serves nothing.
    pub witness: bool,
    /// The worst verdict of its endpoints.
    pub worst: VerdictState,
    /// Could it be failed over automatically?
    pub quorum: QuorumView,
    /// What was decided last, in one sentence.
    pub decision: Option<String>,
}

/// One vantage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VantageView {
    /// The agent.
    pub agent: AgentId,
    /// Its region.
    pub region: RegionId,
    /// May it speak?
    pub state: VantageState,
    /// Last report.
    pub heard_at: Option<Timestamp>,
    /// Its clock minus the coordinator's, in milliseconds.
    pub skew_millis: Option<i64>,
    /// Configuration that it works by.
    pub config_version: Option<String>,
    /// Observations that it dropped.
    pub dropped: u64,
    /// Observations refused because they were replayed.
    pub replayed: u64,
    /// Observations that came too late and went to history.
    pub late: u64,
    /// Why its last report was refused, when it was.
    #[serde(default)]
    pub refused: Option<String>,
}

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// Which.
    pub id: RunId,
    /// What for.
    pub purpose: Purpose,
    /// The region.
    pub region: RegionId,
    /// The services.
    pub services: Vec<ServiceId>,
    /// Where it stands.
    pub state: RunState,
    /// The plan.
    pub plan: PlanId,
    /// Who began it.
    pub by: Actor,
    /// When.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// One line: the current step, or how it ended.
    pub summary: String,
}

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// [`API_SCHEMA`].
    pub schema: u16,
    /// When this was true.
    pub at: Timestamp,
    /// Who answered.
    pub coordinator: CoordinatorView,
    /// What is not normal, worst first. Empty means that all is well.
    pub attention: Vec<Attention>,
    /// Regions by name.
    pub regions: Vec<RegionView>,
    /// Services by priority.
    pub services: Vec<ServiceView>,
    /// Vantages by name.
    pub vantages: Vec<VantageView>,
    /// DNS servers.
    pub dns: Vec<DnsView>,
    /// By what Route 53 leaves regions out without a change of a record; absent where the zone has no health checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<HealthChecksView>,
    /// Who may write which dataset; absent where none is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetView>,
    /// Automatic action off.
    pub freeze: Option<Freeze>,
    /// Operators' drains.
    pub holds: Vec<Hold>,
    /// Services whose DNS somebody holds by break-glass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldView>,
    /// DNS servers that obey another store, and refuse this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_of_another_store: Vec<DnsCommandView>,
    /// Regions that were left and may come back, or why not yet.
    #[serde(default)]
    pub failbacks: Vec<FailbackView>,
    /// Block periods.
    pub blocks: Vec<Block>,
    /// Runs that are not over, and the last few that are.
    pub runs: Vec<RunSummary>,
}

/// A region that was left by some services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailbackView {
    /// The region.
    pub region: RegionId,
    /// What was left; what is ready, where some are.
    pub services: Vec<ServiceId>,
    /// It may come back now.
    pub offered: bool,
    /// Why, or why not yet, with numbers.
    pub reason: Reason,
    /// The command that brings it back, when it is offered.
    pub next: Option<String>,
}

/// What one stage of a ramp asks a region to carry, beside what it carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShareView {
    /// Of which service in which region.
    pub endpoint: EndpointKey,
    /// The ramp's share, of what the configuration gives the region.
    pub ramp: Percent,
    /// Published weight.
    pub weight: Weight,
    /// What that weight is of the service's traffic.
    pub wanted: Percent,
    /// What it carried of the service's requests while it was judged; absent before.
    pub measured: Option<Percent>,
    /// Requests of the service behind that.
    pub requests: u64,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Number and word.
    pub id: String,
    /// `pending`, `running`, `done`, `failed`, `skipped`, `undone`.
    pub state: String,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts allowed.
    pub attempts_max: u32,
    /// First attempt begun.
    pub started_at: Option<Timestamp>,
    /// Ended.
    pub ended_at: Option<Timestamp>,
    /// Time that this kind of step took in earlier runs (median), when there were any.
    pub usual: Option<Span>,
    /// What came of it, or what it is waiting for.
    pub summary: String,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// Numbers that were looked at.
    pub measurements: Vec<Measurement>,
    /// For a step that moves a part of a region: wanted share beside measured share.
    #[serde(default)]
    pub shares: Vec<ShareView>,
    /// The DNS servers that what the step published did not reach.
    #[serde(default)]
    pub published_partial: Vec<String>,
}

/// One line of a run's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// Since the run's clock began.
    pub after: Span,
    /// What, in words.
    pub sentence: String,
    /// The record.
    pub entry: Entry,
}

/// A run in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// [`API_SCHEMA`].
    pub schema: u16,
    /// The line.
    pub summary: RunSummary,
    /// What made it begin.
    pub trigger: Trigger,
    /// What it does.
    pub plan: Plan,
    /// Step by step.
    pub steps: Vec<StepView>,
    /// What happened.
    pub timeline: Vec<TimelineEntry>,
    /// Objective.
    pub rto: Span,
    /// Achieved so far, from the first failure seen (or the command) to now or to the end; of a failover to `recovered_at`, once that is known.
    pub elapsed: Span,
    /// When what it moved was live in DNS, and verified everywhere.
    #[serde(default)]
    pub declared_at: Option<Timestamp>,
    /// When the services were proven to work where they are now. The objective counts to here: the caches of clients, for which
    /// `drained_at` stands, are not drover's.
    #[serde(default)]
    pub recovered_at: Option<Timestamp>,
    /// When the traffic had left the region.
    #[serde(default)]
    pub drained_at: Option<Timestamp>,
    /// Nothing measured that: it is when caches had to ask anew.
    #[serde(default)]
    pub drained_is_assumed: bool,
    /// What the steps ahead take, by design and as they usually do, when every one succeeds at once; absent when it is over
    /// or goes back.
    #[serde(default)]
    pub remaining: Option<Span>,
    /// What will be decided next, in words.
    pub next_decision: String,
    /// Steps skipped or failed that the policy let pass.
    pub exceptions: Vec<String>,
    /// The question that waits, when one does, and when it expires.
    pub expires_at: Option<Timestamp>,
    /// How many people the question asks for, and who agreed. After it, those of the last one.
    #[serde(default, skip_serializing_if = "Approvals::is_default")]
    pub approvals: Approvals,
}

impl RunView {
    /// By how much a failover will miss its objective although nothing goes wrong any more; nothing while it can be met.
    #[must_use]
    pub fn late_by(&self) -> Option<Span> {
        let Self { elapsed, remaining, rto, summary, .. } = self;
        let end = elapsed.plus(remaining.filter(|_| summary.purpose == Purpose::Failover)?);
        (end > *rto).then(|| end.minus(*rto))
    }
}

/// Why X is as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// [`API_SCHEMA`].
    pub schema: u16,
    /// What was asked about.
    pub subject: String,
    /// One plain sentence.
    pub sentence: String,
    /// What is not normal about it: drains, freezes, block periods, runs, overload.
    #[serde(default)]
    pub standing: Vec<Attention>,
    /// Live verdicts with their inputs.
    pub endpoints: Vec<EndpointExplanation>,
    /// What was decided about each region concerned.
    pub decisions: Vec<ActionDecision>,
    /// Stored decisions about it, newest first.
    pub history: Vec<DecisionSummary>,
}

/// One endpoint's verdict and what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointExplanation {
    /// Which.
    pub endpoint: EndpointKey,
    /// From what.
    pub inputs: VerdictInputs,
    /// To what.
    pub verdict: Verdict,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A stored decision in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionSummary {
    /// Which.
    pub id: DecisionId,
    /// When.
    pub at: Timestamp,
    /// About what.
    pub subject: String,
    /// In one sentence.
    pub sentence: String,
    /// The reason's code.
    pub code: String,
}

/// A stored decision, run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayView {
    /// [`API_SCHEMA`].
    pub schema: u16,
    /// What was stored.
    pub decision: StoredDecision,
    /// The same came out again.
    pub same: bool,
    /// What was stored, in words.
    pub stored: String,
    /// What comes out now, in words.
    pub now: String,
}

/// A plan, made and kept for `apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// [`API_SCHEMA`].
    pub schema: u16,
    /// What was wanted.
    pub intent: Intent,
    /// What came of it.
    pub planned: Planned,
    /// When it was made.
    pub made_at: Timestamp,
}

/// Who sends a command and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// For `approve`: the plan that was shown.
    #[serde(default)]
    pub plan: Option<PlanId>,
    /// For `abort`: undo what was done.
    #[serde(default)]
    pub roll_back: bool,
    /// For `approve`: an admin answers for everybody, where more than one must agree and nobody else is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// Asks for a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanRequest {
    /// Who.
    pub by: Actor,
    /// What is wanted.
    pub intent: Intent,
}

/// Asks that automatic action stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FreezeRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// For how long; absent only with `--no-expiry`.
    pub expires_after: Option<Span>,
}

/// Ends block periods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RearmRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Of this service only.
    pub service: Option<ServiceId>,
}

/// Says what was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// In one sentence.
    pub sentence: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Pass as `cursor` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// Its digest.
    pub version: String,
    /// In the written form.
    pub yaml: String,
    /// Since when.
    pub loaded_at: Timestamp,
    /// Why a newer one was refused.
    pub refused: Vec<Diagnostic>,
}
