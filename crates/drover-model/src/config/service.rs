//! `kind: Service`: what is watched, how it is published, and when it may be moved.

use super::{Answering, TrafficSource, defaults};
use crate::ids::{RegionId, ServiceId};
use crate::time::Span;
use crate::units::{Percent, RequestsPerSecond};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// The record type under which endpoints are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// A name per region.
    Cname,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Cname => "CNAME",
        })
    }
}

/// A service in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The region.
    pub region: RegionId,
    /// What DNS answers: an IP address for A and AAAA, a host name for CNAME. With an alias the host name of its target,
    /// which is probed.
    pub address: String,
    /// In Route 53: DNS answers whatever the target does, in place of an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Route53Alias>,
    /// The port that is probed and that clients use.
    pub port: u16,
    /// Its configured share; absent means an equal share of what the others leave.
    pub weight: Option<u8>,
    /// Priority group: the lowest group with a usable endpoint carries the traffic.
    pub priority: u8,
    /// What it can serve.
    pub capacity: RequestsPerSecond,
}

/// What makes an endpoint's host name the target of an alias record of Route 53.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route53Alias {
    /// The hosted zone that the target belongs to, such as a load balancer's, which AWS has for each region.
    pub hosted_zone: String,
    /// Route 53 leaves the region out by itself while it finds the target unhealthy.
    pub evaluate_target_health: bool,
}

/// How long answers of an alias may be kept: it has no time of its own, and targets such as load balancers have this one
/// (<https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resource-record-sets-values-alias-common.html>).
pub const ALIAS_TTL: Span = Span::from_secs(60);

/// How a TLS probe checks whom it talks to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TlsOptions {
    /// Server name to ask for and to check; the host otherwise.
    pub sni: Option<String>,
    /// PEM bundle to trust instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain to present.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM key for it.
    pub client_key_file: Option<PathBuf>,
    /// Warn when the server's certificate ends sooner than this.
    pub expiry_warning: Span,
}

/// An HTTP or HTTPS health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpCheck {
    /// Use TLS.
    pub tls: bool,
    /// Request target, `/health` by default.
    pub path: String,
    /// Statuses that count as good.
    pub expect_status: Vec<u16>,
    /// Text that the first 64 KiB of the body must hold.
    pub expect_body: Option<String>,
    /// Slower than this is a failure of its own kind, too slow.
    pub max_latency: Option<Span>,
    /// `Host` header instead of the service's DNS name.
    pub host: Option<String>,
    /// TLS details.
    pub tls_options: TlsOptions,
    /// A header whose value is read from a file, so that the secret is not in the configuration: (name, file).
    pub secret_header: Option<(String, PathBuf)>,
}

/// A TCP health check: a connection that is accepted is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpCheck {
    /// Slower than this is too slow.
    pub max_latency: Option<Span>,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // One value a service: a box would cost more in reading than it saves in bytes.
pub enum HealthCheck {
    /// HTTP or HTTPS.
    Http(HttpCheck),
    /// TCP connect.
    Tcp(TcpCheck),
}

/// When a service may be moved, by whom, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverPolicy {
    /// May drover act by itself? Otherwise it asks.
    pub automatic: bool,
    /// Consecutive failures that make a vantage's opinion `Failing`.
    pub failure_threshold: u32,
    /// The failures must all lie inside this window (half-open: a failure exactly this old no longer counts).
    pub failure_window: Span,
    /// Failing share over the failure window that makes an opinion `Failing` without a streak (gray failure).
    pub gray_failure_share: Percent,
    /// Probes needed in the window before the gray share counts.
    pub gray_min_samples: u32,
    /// Consecutive successes that make a `Failing` opinion `Healthy` again.
    pub recovery_threshold: u32,
    /// Outside vantages that must agree; never below the rule of I6, which is used when absent.
    pub quorum: Option<u32>,
    /// Regions of this service that may be out at once by automatic action.
    pub max_unavailable_regions: u32,
    /// After an automatic failover of a failure class, no further one of that class for this long.
    pub block_period: Span,
    /// Shares of a returning region, in order, ending at 100 %.
    pub ramp: Vec<Percent>,
    /// Hold at each share of the ramp.
    pub soak: Span,
    /// Capacity that must stay free in every region that takes traffic.
    pub headroom: Percent,
    /// Where traffic may go; empty means anywhere.
    pub jurisdictions: Vec<String>,
    /// An unanswered question expires after this long, and never as consent.
    pub approval_expires: Span,
    /// So many different people must agree before a person's plan, or one that drover asks about, runs.
    #[serde(default = "approvals", skip_serializing_if = "is_one")]
    pub approvals: u32,
    /// When a region that was left may come back.
    #[serde(default)]
    pub failback: FailbackPolicy,
}

const fn approvals() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_one(approvals: &u32) -> bool {
    *approvals == 1
}

/// When a region that was left may come back, and who begins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailbackPolicy {
    /// May drover begin it by itself, where it was drover that left? Otherwise it offers it.
    pub automatic: bool,
    /// It must have been healthy, and its service's weights untouched, for this long.
    pub stable_hold: Span,
}

impl Default for FailbackPolicy {
    fn default() -> Self {
        Self { automatic: defaults::FAILBACK_AUTOMATIC, stable_hold: defaults::STABLE_HOLD }
    }
}

impl FailoverPolicy {
    /// The shortest window that can hold the streak of failures when probes come every `interval`. One interval more
    /// than lies between first and last, because schedules are jittered and the window is half-open.
    #[must_use]
    pub fn failure_window_min(&self, interval: Span) -> Span {
        interval.times(u64::from(self.failure_threshold))
    }

    /// The shortest window that can hold the samples that the gray share needs.
    #[must_use]
    pub fn gray_window_min(&self, interval: Span) -> Span {
        interval.times(u64::from(self.gray_min_samples))
    }
}

/// How the service's own numbers are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsSource {
    /// Path of the Prometheus text exposition on each endpoint's port.
    pub path: String,
    /// Counter of requests, by status in the label `status_label`.
    pub requests_metric: String,
    /// The label that holds the HTTP status; 5xx and 0 count as errors.
    pub status_label: String,
    /// Histogram of latency in seconds.
    pub latency_metric: String,
    /// How often to read it.
    pub interval: Span,
}

/// A scripted request with an expected answer, run against each target endpoint by `verify_app`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppCheck {
    /// Name for reports.
    pub name: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Request target.
    pub path: String,
    /// Body to send.
    pub body: Option<String>,
    /// Status that must come back.
    pub expect_status: u16,
    /// Text that the answer must hold.
    pub expect_body: Option<String>,
    /// Time for the whole exchange.
    pub timeout: Span,
}

/// What "recovered" means for this service (I10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationPolicy {
    /// How long to watch.
    pub window: Span,
    /// Fewer client requests or probes than this are inconclusive.
    pub min_samples: u64,
    /// Fails above this share of client requests.
    pub max_error_rate: Percent,
    /// Fails above this 95th percentile.
    pub max_latency_p95: Span,
    /// Fails below this share of good probes from outside.
    pub min_availability: Percent,
}

/// How DNS spreads a service's queries over the regions that have weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// In proportion to the weights.
    #[default]
    ByWeight,
    /// In equal shares: the servers of the zone know no weights, only who answers; or an answer has several values, of which
    /// clients take any.
    Equally,
}

impl Split {
    /// Do weights count?
    #[must_use]
    pub const fn is_by_weight(&self) -> bool {
        matches!(self, Self::ByWeight)
    }
}

/// What users call (`kind: Service`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: ServiceId,
    /// Moved first when low: 1 is the most important.
    pub priority: u32,
    /// Fully qualified DNS name without the final dot.
    pub dns_name: String,
    /// Record type.
    pub record_type: RecordType,
    /// TTL of its answers; whole seconds on the wire, rounded up.
    pub ttl: Span,
    /// With how many values it is answered, and whom with which.
    #[serde(default, skip_serializing_if = "Answering::is_usual")]
    pub answering: Answering,
    /// What becomes of its weights. Follows from the settings, and from how it is answered.
    #[serde(default, skip_serializing_if = "Split::is_by_weight")]
    pub split: Split,
    /// Where it runs.
    pub endpoints: BTreeMap<RegionId, Endpoint>,
    /// What is probed.
    pub check: HealthCheck,
    /// How often each vantage probes each endpoint.
    pub interval: Span,
    /// Time for the whole exchange of one probe.
    pub timeout: Span,
    /// When it moves.
    pub failover: FailoverPolicy,
    /// Its own numbers; without them validation is inconclusive and holds.
    pub metrics: Option<MetricsSource>,
    /// What still reaches a region that was left; without it a region counts as drained by the time that has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSource>,
    /// Declared peak load, used where no measured load is fresh.
    pub peak_load: Option<RequestsPerSecond>,
    /// Scripted requests for `verify_app`.
    pub app_checks: Vec<AppCheck>,
    /// What counts as recovered.
    pub validation: ValidationPolicy,
    /// Objective for the time to recover.
    pub rto: Span,
    /// Objective for the data that may be lost.
    pub rpo: Span,
}

impl Service {
    /// The endpoint's probe address as IP address, when it is one.
    #[must_use]
    pub fn ip(&self, region: &RegionId) -> Option<IpAddr> {
        self.endpoints.get(region).and_then(|e| e.address.parse().ok())
    }

    /// After this long without a probe, a vantage's opinion is `Unknown`: three intervals missed, and the time for one answer.
    #[must_use]
    pub fn stale_after(&self) -> Span {
        self.interval.times(3).plus(self.timeout)
    }
}
