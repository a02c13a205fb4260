//! The health checks of a hosted zone of Route 53 (`GET /v1/dns/checks`): what they read, and what they were read to say.

use super::API_SCHEMA;
use crate::ids::{AgentId, RegionId};
use crate::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All health checks of the zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthChecksView {
    /// Version of this document's form.
    pub schema: u16,
    /// So many status servers outside of a region must declare it out of service.
    pub needed: u32,
    /// How long Route 53 may take to follow a declaration.
    pub follows_within: Span,
    /// The regions that serve, by name.
    pub regions: Vec<RegionChecks>,
    /// The checks as they were read last; empty before the first reading.
    pub checks: Vec<CheckFound>,
    /// When that was.
    pub read_at: Option<Timestamp>,
    /// Why they could not be read or made since.
    pub trouble: Option<String>,
}

impl HealthChecksView {
    /// Nothing of it is known yet.
    #[must_use]
    pub const fn new(needed: u32, follows_within: Span) -> Self {
        Self {
            schema: API_SCHEMA,
            needed,
            follows_within,
            regions: Vec::new(),
            checks: Vec::new(),
            read_at: None,
            trouble: None,
        }
    }

    /// Do the records of a region follow a check that reads these pages?
    #[must_use]
    pub fn is_followed(&self, region: &RegionId) -> bool {
        let of_region = |check: &&CheckFound| check.region == region.as_str();
        let mut of_region = self.checks.iter().filter(of_region).peekable();
        of_region.peek().is_some() && of_region.all(|check| check.state == CheckState::InLine)
    }
}

/// How a region stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionStanding {
    /// The records alone decide.
    InService,
    /// Status pages declare it out of service: the records do not say so yet.
    Declared,
    /// They were told that this is over, and some that were not heard since may still say so.
    Withdrawing,
}

/// A region, and who says what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionChecks {
    /// Which.
    pub region: RegionId,
    /// How it stands.
    pub standing: RegionStanding,
    /// Since when, where it is not simply in service.
    pub since: Option<Timestamp>,
    /// What it waits for, where it waits.
    pub waits_for: Option<String>,
    /// The status servers outside of it.
    pub pages: Vec<StatusPageView>,
}

/// What one status server says of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusPageView {
    /// The agent that serves it.
    pub agent: AgentId,
    /// Where it stands.
    pub at: RegionId,
    /// The page.
    pub url: String,
    /// Is the newest word there, as the agent itself reports?
    pub has_newest: bool,
    /// Since when it reports that it holds another, where it does: it may have refused the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
}

/// A health check as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckFound {
    /// The region that it is about.
    pub region: String,
    /// The page that it reads; absent of the one that the region's records follow, which counts the others.
    pub page: Option<String>,
    /// Route 53's name of it; absent where there is none.
    pub id: Option<String>,
    /// How it compares with what it should be.
    pub state: CheckState,
    /// In words, where it is not as it should be.
    pub sentence: Option<String>,
}

/// How a health check compares with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It is as it should be.
    InLine,
    /// It is there, and Route 53's checkers have not all reported yet, or records do not follow it yet.
    Waiting,
    /// A hand has changed it.
    ChangedByHand,
    /// It can't be made.
    Refused,
}
