//! Datasets as people see them, and what they ask of one.

use crate::ids::{AgentId, DatasetId, PlanId, RegionId};
use crate::time::{Span, Timestamp};
use crate::traffic::Actor;
use crate::write_right::{MoveRecord, RightSettings, WriteGeneration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a dataset's right to write is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RightStanding {
    /// Renewed lately, so that its holder may write.
    Held,
    /// Not renewed for longer than a right lasts. Its holder may still write, vouched for by the others.
    Lapsed,
    /// Being taken from its holder.
    Closing,
    /// Nobody has had it yet.
    Ungranted,
    /// Renewed, and nothing has run behind the holder's gate for longer than a right lasts.
    NotWriting,
    /// The store was not read for so long that nobody knows. Its holder may write, vouched for by the others.
    Unread,
    /// Its record makes no sense to this coordinator.
    Unreadable,
}

/// One dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetView {
    /// Its name.
    pub dataset: DatasetId,
    /// How its right stands.
    pub standing: RightStanding,
    /// Who has it, or is to have it first.
    pub holder: AgentId,
    /// Where that is.
    pub region: Option<RegionId>,
    /// The right that is held.
    pub generation: Option<WriteGeneration>,
    /// When it was granted or renewed last.
    pub renewed_at: Option<Timestamp>,
    /// How long ago that was when this was written.
    pub renewed_ago: Option<Span>,
    /// Who gets it, while it is closing.
    pub target: Option<AgentId>,
    /// By which plan.
    pub plan: Option<PlanId>,
    /// Who could take over at once: members that the holder knows of.
    pub ready: BTreeSet<AgentId>,
    /// Members that the holder has not heard of yet.
    pub waiting: BTreeSet<AgentId>,
    /// By which intervals the right is kept.
    pub intervals: Option<RightSettings>,
    /// The configuration says other intervals, which do not count any more.
    pub intervals_differ: bool,
    /// The last move.
    pub last_move: Option<MoveRecord>,
    /// Since when the holder says that nothing runs behind its gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_writing_since: Option<Timestamp>,
    /// Why its record can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// It was taken out of the configuration while its right moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfigured: bool,
}

/// A move that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MoveBegun {
    /// In one sentence.
    pub sentence: String,
    /// By which the dataset's last move is known to be this one, together with when it began.
    pub plan: PlanId,
    /// When.
    pub began_at: Timestamp,
}

/// Asks that another member write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MoveRequest {
    /// Who asks.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The region or the agent to move to.
    pub to: String,
}
