//! Where the other members of a dataset are, as a coordinator said last: kept on disk for the day when none answers.
//!
//! It is no part of the keeper. Addresses decide nothing, and a disk that is slow must not hold up a right: they are written by a
//! task of their own, and what is known counts before it is written.

use crate::state::StateDir;
use drover_model::write_right::RightForAgent;
use drover_model::{AgentId, DatasetId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before what the disk did not take is written again.
const DISK_AGAIN: Duration = Duration::from_secs(1);

/// Another member of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAt {
    /// Where it answers.
    pub address: SocketAddr,
    /// The region that its certificate must name; nothing while no coordinator has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// The other members of a dataset.
pub type Peers = BTreeMap<AgentId, PeerAt>;

/// The other members as a coordinator has them.
pub(super) fn peers_in(right: &RightForAgent) -> Peers {
    let at = |(agent, address): (&AgentId, &SocketAddr)| {
        let region = right.regions.get(agent).cloned();
        (agent.clone(), PeerAt { address: *address, region })
    };
    right.peers.iter().map(at).collect()
}

/// What is known of a dataset's other members, for whoever asks them and whoever is asked.
#[derive(Debug, Clone)]
pub(super) struct Known(watch::Sender<Arc<Peers>>);

impl Known {
    pub(super) fn new(peers: Peers) -> Self {
        Self(watch::Sender::new(Arc::new(peers)))
    }

    pub(super) fn now(&self) -> Arc<Peers> {
        Arc::clone(&self.0.borrow())
    }

    /// Takes what a coordinator says.
    pub(super) fn learn(&self, peers: Peers) {
        self.0.send_if_modified(|known| {
            let is_new = **known != peers;
            if is_new {
                *known = Arc::new(peers);
            }
            is_new
        });
    }

    /// Writes down what changes until told to stop.
    pub(super) async fn write(self, dataset: DatasetId, state: Arc<StateDir>, shutdown: CancellationToken) {
        let mut changes = self.0.subscribe();
        // What was learned before this task had its first turn.
        changes.mark_changed();
        while let Some(Ok(())) = shutdown.run_until_cancelled(changes.changed()).await {
            let peers = Arc::clone(&changes.borrow_and_update());
            let (state, id) = (Arc::clone(&state), dataset.clone());
            let written = tokio::task::spawn_blocking(move || state.save_peers(&id, &peers)).await;
            let error = match written {
                Ok(Ok(())) => continue,
                Ok(Err(e)) => drover_model::chain(&e),
                Err(e) => e.to_string(),
            };
            tracing::error!(%dataset, error, "where the other members are can't be written down");
            changes.mark_changed();
            if shutdown.run_until_cancelled(tokio::time::sleep(DISK_AGAIN)).await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peers {
        let region = Some(RegionId::new("us-east").unwrap());
        let at = PeerAt { address: ([10, 0, 0, 5], port).into(), region };
        BTreeMap::from([(AgentId::new("us-east-1").unwrap(), at)])
    }

    #[tokio::test]
    async fn what_is_learned_counts_at_once_and_is_on_disk_before_long() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let (orders, shutdown) = (DatasetId::new("orders").unwrap(), CancellationToken::new());
        assert_eq!(state.load_peers(&orders), Peers::new());
        let known = Known::new(Peers::new());
        let writing = tokio::spawn(known.clone().write(orders.clone(), Arc::clone(&state), shutdown.clone()));
        for port in [1, 2] {
            known.learn(peer(port));
            assert_eq!(*known.now(), peer(port));
            while state.load_peers(&orders) != peer(port) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        shutdown.cancel();
        writing.await.unwrap();
    }
}
