//! The write right as coordinators keep it in the store, and as they hand it to agents.

use super::{Renew, Renewed, RightSettings, RightState, Seal, WriteRight};
use crate::ids::{AgentId, DatasetId, PlanId, RegionId};
use crate::time::Timestamp;
use crate::traffic::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The stored record of one dataset: its write right, and by which intervals it is kept.
///
/// The intervals stay what they were when the right was granted first. Whoever waits for a right to be over, and whoever uses
/// it, must mean the same length of time, and they don't read a changed configuration at the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// The right.
    pub right: WriteRight,
    /// Its intervals.
    pub intervals: RightSettings,
    /// When it was granted or renewed last, by the clock of the coordinator that wrote it: for people alone.
    pub renewed_at: Timestamp,
    /// Since when its holder says that it renews and nothing runs behind its gate, by the same clocks and for people alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_writing_since: Option<Timestamp>,
}

/// What a member is told of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RightForAgent {
    /// Which.
    pub dataset: DatasetId,
    /// The right as it stands.
    pub right: WriteRight,
    /// Its intervals.
    pub intervals: RightSettings,
    /// Where the other members answer when no coordinator does.
    pub peers: BTreeMap<AgentId, SocketAddr>,
    /// In which regions they are: their certificates must say the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<AgentId, RegionId>,
}

/// A renewal as it is sent, with what does not decide about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenewRequest {
    /// What decides.
    #[serde(flatten)]
    pub renew: Renew,
    /// The gate said that the database runs. An agent that does not say counts as one that writes.
    #[serde(default = "unsaid")]
    pub writing: bool,
}

fn unsaid() -> bool {
    true
}

/// A coordinator's answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum RenewAnswer {
    /// It is durable.
    Renewed {
        /// What counts.
        renewed: Renewed,
    },
    /// Nothing was renewed; the record says why.
    Refused {
        /// As it stands.
        right: WriteRight,
    },
}

/// A transfer of a right that a person asked for: written before it begins, and again when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveRecord {
    /// Names it, also in the record while it is closing.
    pub plan: PlanId,
    /// Who held the right.
    pub from: AgentId,
    /// Who gets it.
    pub to: AgentId,
    /// Who asked for it.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub began_at: Timestamp,
    /// How it ended; nothing while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<MoveEnd>,
}

/// How a move ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveEnd {
    /// When.
    pub at: Timestamp,
    /// Does the target hold the right?
    pub granted: bool,
    /// In words.
    pub sentence: String,
}

impl WriteRight {
    /// The seal that this record orders of an agent (step 10): while the right is closing, of the target, and of the holder as
    /// its fence. It is read off the record and needs no message of the leader's own.
    #[must_use]
    pub fn seal_for(&self, agent: &AgentId) -> Option<Seal> {
        let RightState::Closing { target, .. } = &self.state else { return None };
        let is_meant = agent == target || *agent == self.holder;
        is_meant.then(|| Seal { incarnation: self.incarnation, generation: self.generation.next() })
    }
}
