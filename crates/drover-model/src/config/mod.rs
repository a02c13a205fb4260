//! The configuration: what a directory of YAML documents says, after it was read and checked.
//!
//! [`load`](decode::load) turns texts into a [`Config`] or into every [`Diagnostic`](diagnostic::Diagnostic) of the
//! directory at once. The types here are the working form: complete, with every default filled in.

pub mod answering;
mod dataset;
pub mod decode;
pub mod defaults;
pub mod diagnostic;
pub mod diff;
pub mod encode;
pub mod fixed;
pub mod geography;
mod health_checks;
pub mod lint;
mod scale;
pub mod schema;
pub mod service;
pub mod settings;
mod shapes;
mod traffic;

pub use answering::{ANSWERS_MAX, Answering, Answers, Draws};
pub use dataset::{Dataset, DatasetMember};
pub use fixed::{FIXED_VALUE_BYTES_MAX, FixedRecord, FixedType, FixedValue};
pub use geography::{ClientNetwork, Geography, Outside, Steering};
pub use health_checks::{DECLARING_MIN, HealthChecks, StatusServer};
pub use scale::scale;
pub use shapes::dataset::{DATASETS_MAX, DATASETS_PER_AGENT_MAX};

pub use service::{
    ALIAS_TTL, AppCheck, Endpoint, FailbackPolicy, FailoverPolicy, HealthCheck, HttpCheck, MetricsSource,
    RecordType, Route53Alias, Service, Split, TcpCheck, TlsOptions, ValidationPolicy,
};
pub use traffic::{TrafficFrom, TrafficSource};

pub use settings::{
    AccessSettings, DnsInstance, DnsServers, DnsSettings, DnsVelocity, DriftPolicy, EmbeddedDns,
    EtcdSettings, PagingSettings, Retention, Rfc2136Dns, Route53Dns, Settings, StoreSettings, TsigAlgorithm,
    TsigKey, VantageSettings, WebhookTarget, WeightRecords, ZoneServer,
};

use crate::ids::{AgentId, DatasetId, RegionId, ServiceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a region is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionRole {
    /// Serves users.
    Serving,
    /// Holds only a vantage point: it serves nothing and watches the others.
    Witness,
}

/// Where a region is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Nearest city, for people.
    pub city: String,
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// The legal area whose rules apply to data held there, such as `EU`.
    pub jurisdiction: String,
}

/// An agent that is expected to report from a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentConfig {
    /// Its name, unique in the directory.
    pub name: AgentId,
    /// The address that its probes leave from; the system chooses when absent.
    pub source_address: Option<std::net::IpAddr>,
}

/// A failure domain (`kind: Region`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Region {
    /// Its name.
    pub name: RegionId,
    /// Serving or witness.
    pub role: RegionRole,
    /// Where it is.
    pub location: Location,
    /// The agents that watch from it.
    pub agents: Vec<AgentConfig>,
}

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// Every region by name.
    pub regions: BTreeMap<RegionId, Region>,
    /// Every service by name.
    pub services: BTreeMap<ServiceId, Service>,
    /// Every dataset by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datasets: BTreeMap<DatasetId, Dataset>,
    /// What holds for all.
    pub settings: Settings,
}

impl Config {
    /// The region in which `agent` is configured, if it is.
    #[must_use]
    pub fn region_of_agent(&self, agent: &AgentId) -> Option<&RegionId> {
        self.regions.values().find(|r| r.agents.iter().any(|a| a.name == *agent)).map(|r| &r.name)
    }

    /// Every configured agent with its region, by name.
    #[must_use]
    pub fn agents(&self) -> BTreeMap<AgentId, RegionId> {
        self.regions
            .values()
            .flat_map(|r| r.agents.iter().map(|a| (a.name.clone(), r.name.clone())))
            .collect()
    }

    /// The configured vantage points outside `region`: the n of the quorum rule (I6).
    #[must_use]
    pub fn outside_vantages(&self, region: &RegionId) -> Vec<AgentId> {
        self.agents().into_iter().filter(|(_, r)| r != region).map(|(a, _)| a).collect()
    }

    /// The services that have an endpoint in `region`.
    pub fn services_in<'a>(&'a self, region: &'a RegionId) -> impl Iterator<Item = &'a Service> {
        self.services.values().filter(move |s| s.endpoints.contains_key(region))
    }

    /// A digest of one service's configuration, by which a plan names the version that it read.
    #[must_use]
    pub fn service_version(&self, service: &ServiceId) -> Option<String> {
        self.services.get(service).map(version_of)
    }

    /// The digests of all services.
    #[must_use]
    pub fn service_versions(&self) -> BTreeMap<ServiceId, String> {
        self.services.iter().map(|(name, service)| (name.clone(), version_of(service))).collect()
    }

    /// A digest of the whole configuration.
    #[must_use]
    pub fn version(&self) -> String {
        version_of(self)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of a value's JSON: enough to tell two versions apart.
#[must_use]
pub fn version_of<T: Serialize>(value: &T) -> String {
    use sha2::{Digest, Sha256};
    let json = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(&Sha256::digest(json)[..8])
}
