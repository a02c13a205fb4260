//! A dataset: state that moves with a service, and whose database writes in one place at a time.

use crate::ids::{AgentId, DatasetId, RegionId};
use crate::write_right::RightSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// An agent beside one of a dataset's databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetMember {
    /// Which.
    pub agent: AgentId,
    /// Where it answers the others when no coordinator does: its `peer_listen`, as they reach it.
    pub peer: SocketAddr,
}

/// A dataset (`kind: Dataset`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    /// Its name.
    pub name: DatasetId,
    /// Whose database writes first. Once somebody holds the right, only a transfer changes who does.
    pub holder: AgentId,
    /// All whose database could write.
    pub members: Vec<DatasetMember>,
    /// The intervals of its write right. They hold together, or the configuration would not have been loaded.
    pub write_right: RightSettings,
}

impl Dataset {
    /// All of them.
    #[must_use]
    pub fn agents(&self) -> BTreeSet<AgentId> {
        self.members.iter().map(|member| member.agent.clone()).collect()
    }
}

impl super::Config {
    /// The members of a dataset that are in `region`, or are that agent: a person names either.
    #[must_use]
    pub fn members_at(&self, dataset: &Dataset, place: &str) -> Vec<AgentId> {
        let is_there = |agent: &AgentId| {
            agent.as_str() == place || self.region_of_agent(agent).map(RegionId::as_str) == Some(place)
        };
        dataset.agents().into_iter().filter(is_there).collect()
    }
}
