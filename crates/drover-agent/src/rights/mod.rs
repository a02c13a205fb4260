//! The write rights of the datasets that this agent is beside: a [`Keeper`](drover_exec::write_right::Keeper) for each, which says
//! when its database may write, and what makes it true (I5).
//!
//! `keeping` feeds the keeper and does what it wants; `gate_line` talks to the gate, `coordinators` to whichever coordinator answers,
//! `peers` to the other members when none does. [Write rights](../../../docs/write-rights.md) has the protocol.

mod coordinators;
mod gate_line;
mod keeping;
mod known;
mod peers;

use crate::error::AgentError;
use crate::identity::Identity;
use crate::state::StateDir;
pub(crate) use coordinators::ANSWER_WITHIN;
use coordinators::Coordinators;
use drover_model::DatasetId;
use drover_model::write_right::{RightForAgent, RightSettings, Seal};
use gate_line::GateLine;
use keeping::{Inbox, Keeping};
use known::Known;
pub use known::{PeerAt, Peers};
pub use peers::Refusals;
pub(crate) use peers::Said;
use peers::{Door, Doors, PeerClient, PeerListener};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often coordinators are asked how a right stands, before anything else is known: as often as it is renewed then.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// What waits for a keeper, at most.
const INBOX_MAX: usize = 64;

/// A dataset of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetHere {
    /// Its name, as the configuration has it.
    pub name: DatasetId,
    /// The socket of the gate before its database.
    pub gate: PathBuf,
}

/// What must survive a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRight {
    /// Never write below it again.
    pub seal: Seal,
    /// By which intervals the right is kept.
    pub intervals: RightSettings,
}

/// Every dataset of this agent, ready to be kept.
pub struct Rights {
    keeping: Vec<Keeping>,
    doors: BTreeMap<DatasetId, Door>,
    coordinators: Arc<Coordinators>,
    listener: Option<PeerListener>,
    state: Arc<StateDir>,
    refusals: Arc<Refusals>,
}

impl Rights {
    /// Reads what is on disk, and takes the address at which other members ask. Nothing where the identity file names no dataset.
    ///
    /// # Errors
    /// When a seal can't be read, an address can't be had, or certificates can't be used.
    pub async fn open(
        identity: &Identity,
        state: &Arc<StateDir>,
        session: u64,
    ) -> Result<Option<Self>, AgentError> {
        if identity.datasets.is_empty() {
            return Ok(None);
        }
        let coordinators = Arc::new(Coordinators::new(identity)?);
        let refusals = Arc::<Refusals>::default();
        let peers = Arc::new(PeerClient::new(identity, Arc::clone(&refusals))?);
        let listener = match identity.peer_listen {
            Some(address) => Some(PeerListener::bind(address, identity, state, Arc::clone(&refusals)).await?),
            None => None,
        };
        let (mut keeping, mut doors) = (Vec::new(), BTreeMap::new());
        for dataset in &identity.datasets {
            let kept = state.load_right(&dataset.name)?;
            let (tell, inbox) = mpsc::channel(INBOX_MAX);
            let known = Known::new(state.load_peers(&dataset.name));
            doors.insert(dataset.name.clone(), Door { inbox: tell.clone(), known: known.clone() });
            keeping.push(Keeping {
                me: identity.agent.clone(),
                dataset: dataset.name.clone(),
                session,
                state: Arc::clone(state),
                kept,
                known,
                gate: GateLine::new(dataset.gate.clone(), dataset.name.clone(), tell.clone()),
                coordinators: Arc::clone(&coordinators),
                peers: Arc::clone(&peers),
                tell,
                inbox,
            });
        }
        let state = Arc::clone(state);
        Ok(Some(Self { keeping, doors, coordinators, listener, state, refusals }))
    }

    /// How often members did not come together.
    #[must_use]
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    /// Keeps them until told to stop. A database that runs then goes on for as long as its gate allows.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let doors = Arc::new(self.doors);
        for (dataset, door) in doors.iter() {
            let known = door.known.clone();
            tasks.spawn(known.write(dataset.clone(), Arc::clone(&self.state), shutdown.clone()));
        }
        for keeping in self.keeping {
            tasks.spawn(keeping.run(shutdown.clone()));
        }
        if let Some(listener) = self.listener {
            tasks.spawn(listener.serve(Arc::clone(&doors), shutdown.clone()));
        }
        tasks.spawn(look(self.coordinators, doors, shutdown));
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                // What looks alive and keeps nothing would be worse than an agent that is started anew.
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    }
}

/// Reads how every right stands, over and over: so a member learns that it holds one, or is to seal itself.
async fn look(coordinators: Arc<Coordinators>, doors: Doors, shutdown: CancellationToken) {
    let mut unnamed = BTreeSet::new();
    let mut tick = tokio::time::interval(ASKED_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(read) = shutdown.run_until_cancelled(coordinators.rights()).await else { return };
        match read {
            Ok(rights) => rights.into_iter().for_each(|right| hand_over(&doors, right, &mut unnamed)),
            Err(e) => {
                tracing::debug!(error = %drover_model::chain(&e), "no coordinator says how rights to write stand")
            }
        }
    }
}

fn hand_over(doors: &BTreeMap<DatasetId, Door>, right: RightForAgent, unnamed: &mut BTreeSet<DatasetId>) {
    match doors.get(&right.dataset) {
        Some(door) => {
            door.known.learn(known::peers_in(&right));
            // What finds no room is read again.
            drop(door.inbox.try_send(Inbox::Right(Box::new(right))));
        }
        None if unnamed.insert(right.dataset.clone()) => tracing::warn!(
            dataset = %right.dataset,
            "this agent is a member of a dataset that its identity file does not name: add it to `datasets`, with its gate"
        ),
        None => {}
    }
}

/// A question of a peer, and where its answer goes.
pub(crate) type Asked =
    (drover_model::write_right::Ask, oneshot::Sender<drover_model::write_right::PeerAnswer>);
