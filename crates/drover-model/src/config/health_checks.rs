//! `health_checks` of a hosted zone of Route 53: by what its servers leave a region out without a change of a record.

use super::Config;
use crate::ids::{AgentId, RegionId};
use crate::out_of_service::status_path;
use crate::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// So many status servers outside of a region must declare it out of service before Route 53 leaves it out: one that lies, or was taken
/// over, takes nothing out. It is two however many there are, since a server that is dead declares nothing, and in the disaster that
/// this is for some may be.
pub const DECLARING_MIN: usize = 2;

/// An agent that serves status pages where Route 53's checkers reach them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusServer {
    /// The agent. Its region is where the server stands.
    pub agent: AgentId,
    /// Scheme, host and port, as the checkers reach it.
    pub url: String,
}

impl StatusServer {
    /// A region's page.
    #[must_use]
    pub fn page(&self, region: &RegionId) -> String {
        format!("{}{}", self.url.trim_end_matches('/'), status_path(region))
    }
}

/// The health checks of a hosted zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthChecks {
    /// Who serves status pages. A region is judged by those outside of it.
    pub status_servers: Vec<StatusServer>,
    /// Between two requests of one checker: 10 s or 30 s, which Route 53 has.
    pub interval: Span,
    /// Answers of one kind in a row that change what a checker reports.
    pub failure_threshold: u32,
}

impl HealthChecks {
    /// How long Route 53's checkers may take to follow a declaration, or the end of one: each asks once an interval, and reports after so
    /// many answers.
    #[must_use]
    pub fn follows_within(&self) -> Span {
        self.interval.times(u64::from(self.failure_threshold) + 1)
    }
}

impl Config {
    /// The health checks, where the zone has any.
    #[must_use]
    pub fn health_checks(&self) -> Option<&HealthChecks> {
        self.settings.dns.as_ref()?.route53()?.health_checks.as_ref()
    }

    /// The status servers outside of `region`, by which it is judged.
    pub fn status_servers_outside<'a>(
        &'a self,
        region: &'a RegionId,
    ) -> impl Iterator<Item = &'a StatusServer> {
        let servers = self.health_checks().map_or(&[][..], |checks| &checks.status_servers);
        servers.iter().filter(move |s| self.region_of_agent(&s.agent).is_some_and(|at| at != region))
    }

    /// Can Route 53 leave `region` out because status servers say so?
    #[must_use]
    pub fn leaves_by_health_check(&self, region: &RegionId) -> bool {
        self.status_servers_outside(region).count() >= DECLARING_MIN
    }
}
