//! The health checks that a zone should have: for each region one that its records follow, and below it one for each status page.

use drover_model::config::{Config, HealthChecks};
use drover_model::out_of_service::status_text;
use drover_model::{RegionId, Span};

/// A page that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPage {
    /// Who serves it, for people.
    pub agent: String,
    /// The page.
    pub url: String,
}

/// The checks of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRegion {
    /// The region.
    pub region: RegionId,
    /// What a page says that declares it out of service.
    pub text: String,
    /// The pages, which are served outside of it.
    pub pages: Vec<WantedPage>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedChecks {
    /// The regions that can be left because pages say so.
    pub regions: Vec<WantedRegion>,
    /// Between two requests of one checker.
    pub interval: Span,
    /// Answers of one kind in a row that change what a checker reports.
    pub failure_threshold: u32,
}

impl WantedChecks {
    /// What a configuration asks for. A region outside of which too few pages are served has no check.
    #[must_use]
    pub fn of(config: &Config, checks: &HealthChecks) -> Self {
        let wanted = |region: &RegionId| WantedRegion {
            region: region.clone(),
            text: status_text(region),
            pages: config
                .status_servers_outside(region)
                .map(|server| WantedPage { agent: server.agent.to_string(), url: server.page(region) })
                .collect(),
        };
        let serving = config.regions.keys().filter(|region| config.services_in(region).next().is_some());
        Self {
            regions: serving.filter(|region| config.leaves_by_health_check(region)).map(wanted).collect(),
            interval: checks.interval,
            failure_threshold: checks.failure_threshold,
        }
    }
}
