//! `kind: Settings`: what holds for the whole installation.

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
    /// The zone's name servers with their addresses (glue).
    pub nameservers: Vec<(String, IpAddr)>,
    /// The servers.
    pub instances: Vec<DnsInstance>,
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

/// What holds for all (`kind: Settings`, at most one in a directory).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Where the coordinator's API listens; loopback only. A change takes effect at the next start.
    pub listen: SocketAddr,
    /// DNS; without it weights are decided but nobody answers, and `validate` says so.
    pub dns: Option<DnsSettings>,
    /// Vantage points.
    pub vantage: VantageSettings,
    /// Pages.
    pub paging: PagingSettings,
    /// Retention.
    pub retention: Retention,
}
