//! The world that plans and decisions are made from: what is configured, what stands, and what is under way.

use crate::break_glass::HeldBy;
use crate::config::Config;
use crate::decision::{FailureClass, VantageState, Verdict};
use crate::ids::{AgentId, EndpointKey, RegionId, RunId, ServiceId};
use crate::journal::RunState;
use crate::runbook::{Purpose, Runbook};
use crate::shared::Shared;
use crate::time::Timestamp;
use crate::traffic::{Actor, Block, Freeze, Hold, Load, TrafficState};
use crate::units::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A verdict that stands, with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandingVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when this state holds.
    pub since: Timestamp,
    /// Changes of state that were remembered for damping, newest last.
    pub recent_changes: Vec<Timestamp>,
}

/// A run that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveRun {
    /// Which.
    pub run: RunId,
    /// What it touches (I2).
    pub services: Vec<ServiceId>,
    /// The region that it leaves or brings back.
    pub region: RegionId,
    /// What for; absent in worlds stored by builds that did not ask.
    #[serde(default)]
    pub purpose: Option<Purpose>,
    /// It is undoing already.
    #[serde(default)]
    pub rolling_back: bool,
    /// It moves by stages, and its way back ends at the last one that was good ([`crate::plan::Reversal::StepBack`]).
    #[serde(default)]
    pub by_stages: bool,
    /// Who began it; absent in worlds stored by builds that did not ask.
    #[serde(default)]
    pub by: Option<Actor>,
    /// The endpoints whose health its plan counts on: those that take its traffic, and those that it judges.
    #[serde(default)]
    pub counts_on: BTreeSet<EndpointKey>,
    /// A failover of drover's own that stands between two effects, in nobody's hands: drover itself may end it.
    #[serde(default)]
    pub gives_way: bool,
    /// Waiting for a person's answer, so that nothing is in flight yet.
    pub awaiting_approval: bool,
}

impl ActiveRun {
    /// Is it what a person wants others to agree to? That keeps drover from nothing that it may do by itself.
    #[must_use]
    pub const fn is_a_persons_question(&self) -> bool {
        self.awaiting_approval && matches!(self.by, Some(Actor::Person { .. }))
    }
}

/// A run of drover's own decision that is over and moved nothing for good: a question that got a no or no answer, or a
/// run that was stopped, or that its own policy ended. It is what automation must remember not to nag or fight (I8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndedRun {
    /// Which.
    pub run: RunId,
    /// The region that it was about.
    pub region: RegionId,
    /// The services.
    pub services: Vec<ServiceId>,
    /// What kind of failure it was about.
    pub class: FailureClass,
    /// How it ended.
    pub state: RunState,
    /// When.
    pub ended_at: Timestamp,
    /// A person ended it, and not its policy or the clock.
    pub by_person: bool,
}

/// A runbook with the digest of what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadedRunbook {
    /// The runbook.
    pub runbook: Runbook,
    /// Digest of its content, and of the programs that it runs.
    pub version: String,
    /// Digest of each program that its `run` steps name, by path. Whoever loads a runbook to plan by it reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, String>,
}

/// Everything that deciding, planning and checking may read. Built by the coordinator, stored with decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct World {
    /// The configuration in force; shared, because a world is built for every decision.
    pub config: Arc<Config>,
    /// What each endpoint is held to be.
    pub verdicts: Shared<BTreeMap<EndpointKey, StandingVerdict>>,
    /// Every configured vantage.
    pub vantages: BTreeMap<AgentId, VantageState>,
    /// Where traffic stands.
    pub traffic: Shared<BTreeMap<ServiceId, TrafficState>>,
    /// Load per service.
    pub loads: BTreeMap<ServiceId, Load>,
    /// Operators' drains.
    pub holds: Vec<Hold>,
    /// Services whose DNS somebody holds by break-glass, as DNS showed it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<ServiceId, HeldBy>,
    /// DNS obeys another store than the one that is commanded from here, and refuses this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_of_another_store: Option<Epoch>,
    /// Automatic action off.
    pub freeze: Option<Freeze>,
    /// Block periods.
    pub blocks: Vec<Block>,
    /// Runs that are not over.
    pub runs: Vec<ActiveRun>,
    /// Lately ended runs of drover's own that moved nothing for good, oldest first.
    #[serde(default)]
    pub ended: Vec<EndedRun>,
    /// When people ended block periods.
    #[serde(default)]
    pub rearmed: BTreeMap<ServiceId, Timestamp>,
    /// The runbook in force for each purpose.
    pub runbooks: Shared<BTreeMap<Purpose, LoadedRunbook>>,
    /// Vantages that have reported a probe begun after this coordinator started (quiet time after a takeover).
    pub heard_since_start: Vec<AgentId>,
    /// Digests of the services, made when the configuration was loaded; a world that was read from a record has none,
    /// and they are made when they are asked for.
    #[serde(skip)]
    pub service_versions: Arc<BTreeMap<ServiceId, String>>,
}

impl World {
    /// The digest of one service's configuration.
    #[must_use]
    pub fn service_version(&self, service: &ServiceId) -> Option<String> {
        let made = self.service_versions.get(service).cloned();
        made.or_else(|| self.config.service_version(service))
    }

    /// The part of the world that concerns `services` and the regions, for storing with a decision about them.
    /// Verdicts of every endpoint stay, because the common-cause breaker reads them all.
    #[must_use]
    pub fn narrowed(&self, services: &[ServiceId]) -> World {
        let wanted: BTreeSet<&ServiceId> = services.iter().collect();
        let mut world = self.clone();
        world.traffic.retain(|s, _| wanted.contains(s));
        world.loads.retain(|s, _| wanted.contains(s));
        world
    }
}
