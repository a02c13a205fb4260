//! What an attempt does in the store is never left half known: it ends between two transactions, and whatever of it the
//! store has is known in memory before anything else moves or the run ends.
//!
//! An attempt may be dropped at any await: by an abort, a pause, its own deadline, the end of this process. Its work is
//! a task of its own, so that a transaction under way comes to its end all the same; then the work sees that nobody wants
//! it any more, and goes no further. The next attempt, the undo, the run's last record and whatever else changes targets
//! wait for that (`Coordinator::shifting`).

use super::{failed, store_failure};
use crate::coordinator::Coordinator;
use crate::db::keys;
use drover_model::ServiceId;
use drover_model::journal::{FailureNature, StepFailure};
use drover_model::plan::TrafficChange;
use drover_model::traffic::{Block, Hold, TrafficState};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Whether anybody waits for the work. Asked between two transactions, never within one.
#[derive(Clone)]
pub(super) struct Wanted(CancellationToken);

impl Wanted {
    /// A failure where the attempt was dropped.
    pub(super) fn check(&self) -> Result<(), StepFailure> {
        if self.0.is_cancelled() {
            return Err(failed(
                FailureNature::Retryable,
                "the attempt was given up between two transactions",
            ));
        }
        Ok(())
    }
}

/// Does `work` on these targets, alone. Whatever comes of it, what the store says is known in memory afterwards.
pub(super) async fn to_the_end<W>(
    c: &Arc<Coordinator>,
    changes: &[TrafficChange],
    work: impl FnOnce(Wanted) -> W,
) -> Result<bool, StepFailure>
where
    W: Future<Output = Result<bool, StepFailure>> + Send + 'static,
{
    let alone = c.shifting.clone().lock_owned().await;
    let given_up = CancellationToken::new();
    let _while_wanted = given_up.clone().drop_guard();
    let services: Vec<ServiceId> = changes.iter().map(|x| x.service.clone()).collect();
    let (me, work) = (c.clone(), work(Wanted(given_up.clone())));
    let task = c.tasks.spawn(async move {
        let _alone = alone;
        let moved = work.await;
        let known = bring_up(&me, &services).await;
        if let Err(failure) = &known {
            tracing::error!("what was moved can't be read again: {}", failure.message);
        }
        // Where no publication follows, the reconciler takes what has moved to DNS.
        if moved.is_err() || given_up.is_cancelled() {
            me.reconcile_wake.notify_one();
            me.decide_wake.notify_one();
        }
        moved.and_then(|moved| known.map(|()| moved))
    });
    task.await
        .unwrap_or_else(|e| Err(failed(FailureNature::Retryable, format!("the move was cut short: {e}"))))
}

/// Brings what is known in memory up to the store. The store is read again, because an error does not say whether the
/// transaction landed.
async fn bring_up(c: &Coordinator, services: &[ServiceId]) -> Result<(), StepFailure> {
    let mut targets = Vec::with_capacity(services.len());
    for service in services {
        let found = c.db.get_placed::<TrafficState>(&keys::traffic(service)).await.map_err(store_failure)?;
        targets.extend(found.map(|(target, _)| target));
    }
    let holds = c.db.list_placed::<Hold>(keys::HOLDS).await.map_err(store_failure)?;
    let blocks = c.db.list_placed::<Block>(keys::BLOCKS).await.map_err(store_failure)?;
    let mut live = c.live();
    live.traffic.extend(targets.into_iter().map(|target| (target.service.clone(), target)));
    live.holds = holds.into_iter().map(|(_, hold)| (hold.run.clone(), hold)).collect();
    live.blocks = blocks.into_iter().collect();
    Ok(())
}
