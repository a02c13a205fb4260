//! Coordinators that share a store, as one of them sees them.

use crate::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The header of an answer that shows the store as it was at this time, since it can't be read now.
pub const AS_OF_HEADER: &str = "drover-as-of";

/// Who leads among coordinators that share a store, as the one that answered knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeadershipView {
    /// Where the one that answered is reached.
    pub answered_by: Option<String>,
    /// Does it lead?
    pub leads: bool,
    /// Where the leader is reached.
    pub leader: Option<String>,
    /// Since when it leads.
    pub since: Option<Timestamp>,
    /// Time since a follower saw the leader's last sign of life.
    pub heard: Option<Span>,
    /// It has the leader's record and may not act: none of its signs of life reached the store for too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// Those that follow, as they said of themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followers: Vec<FollowerView>,
}

/// A coordinator that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowerView {
    /// Where it is reached.
    pub url: String,
    /// Version of its program.
    pub version: String,
    /// Configuration that it has.
    pub config_version: String,
    /// Of how many regions it hears as many vantages as an automatic failover needs.
    pub regions_judged: u32,
    /// Since when it has said nothing, when that is longer than it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Span>,
}

/// The store can't be read: what comes from it is shown as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreUnread {
    /// When it was read last.
    pub since: Timestamp,
    /// Why it can't be read now.
    pub reason: String,
}
