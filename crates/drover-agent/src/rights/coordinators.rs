//! Whichever coordinator answers: any of them renews a right.

use crate::client::CoordinatorClient;
use crate::error::AgentError;
use crate::identity::Identity;
use drover_model::DatasetId;
use drover_model::write_right::{RenewAnswer, RenewRequest, RightForAgent, Sealed};
use futures::stream::{FuturesUnordered, StreamExt as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// For one coordinator to answer. One that hangs must not use up the time in which another one could.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// All coordinators of the identity file, and which of them answered last.
#[derive(Debug)]
pub(super) struct Coordinators {
    clients: Vec<CoordinatorClient>,
    preferred: AtomicUsize,
}

impl Coordinators {
    pub(super) fn new(identity: &Identity) -> Result<Self, AgentError> {
        let clients: Result<Vec<_>, _> =
            identity.coordinators.iter().map(|url| CoordinatorClient::new(url, identity)).collect();
        Ok(Self { clients: clients?, preferred: AtomicUsize::new(0) })
    }

    pub(super) async fn rights(&self) -> Result<Vec<RightForAgent>, AgentError> {
        let mut last = nobody();
        for at in self.in_turn() {
            match self.clients[at].rights().await {
                Ok(rights) => return Ok(self.answered(at, rights)),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    pub(super) async fn renew(
        &self,
        dataset: &DatasetId,
        renew: &RenewRequest,
    ) -> Result<RenewAnswer, AgentError> {
        let mut last = nobody();
        for at in self.in_turn() {
            match self.clients[at].renew(dataset, renew).await {
                Ok(answer) => return Ok(self.answered(at, answer)),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Says it to all of them: the one that leads waits for it, and which one that is the others need not know.
    pub(super) async fn sealed(&self, dataset: &DatasetId, sealed: &Sealed) {
        let mut all = FuturesUnordered::new();
        for client in &self.clients {
            all.push(client.sealed(dataset, sealed));
        }
        while let Some(told) = all.next().await {
            if let Err(e) = told {
                tracing::debug!(error = %drover_model::chain(&e), "a coordinator was not told of a seal");
            }
        }
    }

    /// The one that answered last, then the others.
    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, first) = (self.clients.len(), self.preferred.load(Ordering::Relaxed));
        (0..count).map(move |n| (first + n) % count)
    }

    fn answered<T>(&self, at: usize, answer: T) -> T {
        self.preferred.store(at, Ordering::Relaxed);
        answer
    }
}

/// There is one at least, as the identity file was checked.
fn nobody() -> AgentError {
    AgentError::Broken("there is no coordinator to ask".to_owned())
}
