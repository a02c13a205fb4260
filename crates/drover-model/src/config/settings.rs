//! `kind: Settings`: what holds for the whole installation.

use super::health_checks::HealthChecks;
use super::{Answering, Answers, FixedRecord, Geography, Outside, Split, defaults};
use crate::time::Span;
use crate::units::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// One running DNS server of drover's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsInstance {
    /// Its name in reports.
    pub name: String,
    /// Where changes are sent (loopback only).
    pub control: SocketAddr,
    /// Where it answers queries.
    pub query: SocketAddr,
}

/// The zone and the servers that answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsSettings {
    /// Zone apex, without the final dot.
    pub zone: String,
    /// The servers, and how they are told.
    #[serde(flatten)]
    pub servers: DnsServers,
    /// Records that no traffic moves; drover's own servers alone have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<FixedRecord>,
    /// Where clients are; drover's own servers alone look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geography: Option<Geography>,
    /// How much of what is live changes when nobody was asked.
    #[serde(default, skip_serializing_if = "DnsVelocity::is_default")]
    pub velocity: DnsVelocity,
    /// What becomes of a record set that a hand changed.
    #[serde(default, skip_serializing_if = "DriftPolicy::is_report")]
    pub drift: DriftPolicy,
    /// How long it must have stood unchanged before it is put back.
    #[serde(default = "drift_hold", skip_serializing_if = "is_drift_hold")]
    pub drift_hold: Span,
}

const fn drift_hold() -> Span {
    defaults::DNS_DRIFT_HOLD
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_drift_hold(span: &Span) -> bool {
    *span == drift_hold()
}

/// What becomes of a record set that a hand changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftPolicy {
    /// It is shown, and stays as it is until somebody adopts it.
    #[default]
    Report,
    /// It is put back.
    Repair,
}

impl DriftPolicy {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Report, Self::Repair];

    /// As it is configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Repair => "repair",
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_report(&self) -> bool {
        *self == Self::Report
    }
}

/// How many record sets that are live may be changed because the configuration changed. A run changes what its plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsVelocity {
    /// Of those that are live.
    pub share: Percent,
    /// So many in any case.
    pub at_least: u32,
    /// Within this time.
    pub window: Span,
}

impl Default for DnsVelocity {
    fn default() -> Self {
        Self {
            share: defaults::DNS_VELOCITY_SHARE,
            at_least: u32::try_from(defaults::DNS_VELOCITY_AT_LEAST).unwrap_or(u32::MAX),
            window: defaults::DNS_VELOCITY_WINDOW,
        }
    }
}

impl DnsVelocity {
    /// How many of so many.
    #[must_use]
    pub fn most(&self, live: usize) -> usize {
        let share =
            live as u128 * u128::from(self.share.basis_points()) / u128::from(Percent::FULL.basis_points());
        usize::try_from(share.max(self.at_least.into())).unwrap_or(usize::MAX)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who answers for the zone, and how changes get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DnsServers {
    /// Drover's own servers.
    Embedded(EmbeddedDns),
    /// Others, whose primary takes dynamic updates (RFC 2136): BIND, Knot, PowerDNS.
    Rfc2136(Rfc2136Dns),
    /// A hosted zone of Amazon Route 53.
    Route53(Route53Dns),
}

/// Drover's own servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddedDns {
    /// The zone's name servers with their addresses (glue).
    pub nameservers: Vec<(String, IpAddr)>,
    /// The servers.
    pub instances: Vec<DnsInstance>,
    /// What the time to live of answers shrinks to while a failover seems near.
    #[serde(default = "ttl_floor_default")]
    pub ttl_floor: Span,
    /// File with the key that signs what is published, so that servers can hand it to each other; without, it is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_file: Option<PathBuf>,
}

/// What a stored configuration without one means.
const fn ttl_floor_default() -> Span {
    defaults::TTL_FLOOR
}

/// A zone whose primary takes dynamic updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rfc2136Dns {
    /// The server that takes updates, over TCP.
    pub primary: SocketAddr,
    /// All servers that answer for the zone: each must show a change before it counts.
    pub servers: Vec<ZoneServer>,
    /// Signs the updates.
    pub key: TsigKey,
    /// For one exchange with one server.
    pub timeout: Span,
    /// How weights reach the answers; without, whoever has any is answered in equal shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightRecords>,
}

/// Records by which a server that takes dynamic updates answers by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightRecords {
    /// `LUA` records of PowerDNS, which are programs.
    Lua,
}

impl WeightRecords {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Lua];

    /// As the configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lua => "lua",
        }
    }
}

/// A hosted zone of Amazon Route 53.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route53Dns {
    /// The zone's id, such as `Z0123456789ABCDEFGHIJ`.
    pub hosted_zone: String,
    /// The name servers of the zone's delegation set: each must show a change before it counts.
    pub servers: Vec<ZoneServer>,
    /// File with an access key, as AWS's own tools have it; without, their usual chain is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Another place of the API than AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Requests that the API takes from drover in any second.
    pub requests_per_second: u32,
    /// For one exchange, with the API or a name server.
    pub timeout: Span,
    /// Until a change has reached all name servers, as Route 53 itself says.
    pub in_sync_within: Span,
    /// By what a whole region is left out without a change of a record; nothing: every move is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<HealthChecks>,
}

/// A server that answers for a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ZoneServer {
    /// Its name in reports.
    pub name: String,
    /// Where it answers queries.
    pub query: SocketAddr,
}

/// A key for signatures of DNS messages (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TsigKey {
    /// Its name, as the server knows it.
    pub name: String,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// File with the secret in base64, as it stands in the server's configuration.
    pub secret_file: PathBuf,
}

/// The algorithms of signatures that are still thought safe (RFC 8945, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// Its name in the IANA registry of TSIG algorithms.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl DnsSettings {
    /// Each server that answers for the zone: its name, and where it is asked.
    pub fn answering(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let (own, others) = match &self.servers {
            DnsServers::Embedded(dns) => (dns.instances.as_slice(), &[][..]),
            DnsServers::Rfc2136(Rfc2136Dns { servers, .. })
            | DnsServers::Route53(Route53Dns { servers, .. }) => (&[][..], servers.as_slice()),
        };
        let own = own.iter().map(|i| (i.name.as_str(), i.query));
        own.chain(others.iter().map(|s| (s.name.as_str(), s.query)))
    }

    /// The same as a list, for whoever is to ask them.
    #[must_use]
    pub fn zone_servers(&self) -> Vec<ZoneServer> {
        self.answering().map(|(name, query)| ZoneServer { name: name.to_owned(), query }).collect()
    }

    /// Are clients refused whom no region may answer?
    #[must_use]
    pub fn refuses_clients(&self) -> bool {
        self.geography.as_ref().is_some_and(|geography| geography.outside == Outside::Refuse)
    }

    /// Drover's own servers, if it has any.
    #[must_use]
    pub const fn embedded(&self) -> Option<&EmbeddedDns> {
        match &self.servers {
            DnsServers::Embedded(dns) => Some(dns),
            DnsServers::Rfc2136(_) | DnsServers::Route53(_) => None,
        }
    }

    /// The same, to be changed.
    #[must_use]
    pub const fn embedded_mut(&mut self) -> Option<&mut EmbeddedDns> {
        match &mut self.servers {
            DnsServers::Embedded(dns) => Some(dns),
            DnsServers::Rfc2136(_) | DnsServers::Route53(_) => None,
        }
    }

    /// The hosted zone of Route 53, if it is one.
    #[must_use]
    pub const fn route53(&self) -> Option<&Route53Dns> {
        match &self.servers {
            DnsServers::Route53(cloud) => Some(cloud),
            DnsServers::Embedded(_) | DnsServers::Rfc2136(_) => None,
        }
    }

    /// What the servers can do with weights.
    #[must_use]
    pub const fn split(&self) -> Split {
        match &self.servers {
            DnsServers::Rfc2136(Rfc2136Dns { weights: None, .. }) => Split::Equally,
            DnsServers::Embedded(_) | DnsServers::Rfc2136(_) | DnsServers::Route53(_) => Split::ByWeight,
        }
    }

    /// What becomes of the weights of a service that is answered like this. Of several values in one answer clients take any, so
    /// that their shares are equal whoever stands first (decision 0022).
    #[must_use]
    pub const fn split_of(&self, answering: Answering) -> Split {
        match answering.answers {
            Answers::One => self.split(),
            Answers::Several(_) | Answers::All => Split::Equally,
        }
    }
}

/// What an agent and the coordinator expect of a vantage point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VantageSettings {
    /// Independent TCP addresses by which an agent checks that it sees anything at all.
    pub references: Vec<SocketAddr>,
    /// How often the references are tried.
    pub reference_interval: Span,
    /// How often an agent reports, at most.
    pub report_interval: Span,
    /// No report for this long: the vantage is silent.
    pub silent_after: Span,
    /// Clocks further apart than this: the vantage's observations go to history only.
    pub max_clock_skew: Span,
    /// Share of serving regions failing inside `common_cause_window` above which the observer is suspected (I6).
    pub common_cause_share: Percent,
    /// Window for the common-cause breaker.
    pub common_cause_window: Span,
}

impl VantageSettings {
    /// The shortest `silent_after` that does not call a vantage silent between two of its reports.
    #[must_use]
    pub fn silent_after_min(&self) -> Span {
        self.report_interval.times(2)
    }
}

/// A webhook that receives signed pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookTarget {
    /// Where pages are posted.
    pub url: String,
    /// File with the key for the HMAC-SHA-256 signature.
    pub secret_file: PathBuf,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PagingSettings {
    /// A program and its arguments; the page is its standard input, as JSON.
    pub on_page: Option<Vec<String>>,
    /// A webhook.
    pub webhook: Option<WebhookTarget>,
}

impl PagingSettings {
    /// Channels to people.
    #[must_use]
    pub fn channels(&self) -> u32 {
        u32::from(self.on_page.is_some()) + u32::from(self.webhook.is_some())
    }
}

/// How long things are kept. Executions and the audit are kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retention {
    /// Raw observations.
    pub observations: Span,
    /// Changes of opinion and verdict.
    pub transitions: Span,
    /// Size of the store and the history together from which an alarm is raised, in bytes.
    pub store_alarm_bytes: u64,
}

/// Where the records are kept when not in a file of the coordinator's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSettings {
    /// A cluster of etcd.
    pub etcd: EtcdSettings,
}

/// Records in an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EtcdSettings {
    /// Client URLs of its members.
    pub endpoints: Vec<String>,
    /// What stands before every key of this installation.
    pub prefix: String,
    /// How long the cluster's history is kept.
    pub keep_history: Span,
    /// A leader that was not heard for this long is lost: another coordinator takes over.
    #[serde(default = "leader_lost_after")]
    pub leader_lost_after: Span,
}

fn leader_lost_after() -> Span {
    super::defaults::LEADER_LOST_AFTER
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessSettings {
    /// Whoever comes over TCP shows a token, though no admin has one yet. It takes effect at once; the Unix socket is not meant.
    pub require_tokens: bool,
    /// Connections to the API that one machine's certificate may have at once; counts from the next one on.
    #[serde(default = "connections_per_machine")]
    pub connections_per_machine: u32,
}

fn connections_per_machine() -> u32 {
    u32::try_from(defaults::CONNECTIONS_PER_MACHINE).unwrap_or(u32::MAX)
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { require_tokens: false, connections_per_machine: connections_per_machine() }
    }
}

impl AccessSettings {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What holds for all (`kind: Settings`, at most one in a directory).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Where the coordinator's API listens; loopback only. A change takes effect at the next start.
    pub listen: SocketAddr,
    /// DNS; without it weights are decided but nobody answers, and `validate` says so.
    pub dns: Option<DnsSettings>,
    /// Where records are kept; without it in a file of the state directory. A change takes effect at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSettings>,
    /// Who may come in.
    #[serde(default, skip_serializing_if = "AccessSettings::is_default")]
    pub access: AccessSettings,
    /// Vantage points.
    pub vantage: VantageSettings,
    /// Pages.
    pub paging: PagingSettings,
    /// Retention.
    pub retention: Retention,
}
