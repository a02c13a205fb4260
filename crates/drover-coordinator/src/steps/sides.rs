//! What is written beside a moved target, in the same transaction: holds begun and ended, block periods, and the note of
//! what the run moved.

use super::store_failure;
use crate::coordinator::Coordinator;
use crate::db::keys;
use drover_exec::Order;
use drover_model::journal::{StepFailure, Trigger};
use drover_model::plan::{StepKind, TrafficChange, shares_with_run};
use drover_model::runbook::Purpose;
use drover_model::traffic::{Block, Hold, RegionShare, TrafficState};
use drover_model::units::Generation;
use drover_model::{RegionId, ServiceId};
use drover_store::Txn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one run has moved so far (store key `moved/NUMBER`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// The generation that the run gave each target last.
    pub(super) generations: BTreeMap<ServiceId, Generation>,
    /// Shares before its first move.
    before: BTreeMap<ServiceId, BTreeMap<RegionId, RegionShare>>,
    /// Holds that it ended or made smaller, as they were.
    ended: Vec<Hold>,
}

impl Moved {
    /// The run takes a target from `before` to `generation`.
    pub(super) fn note(&mut self, before: &TrafficState, generation: Generation) {
        self.before.entry(before.service.clone()).or_insert_with(|| before.shares.clone());
        self.generations.insert(before.service.clone(), generation);
    }

    /// Shares after undoing `change`: where a region comes back to the share that it had before the run, also for the
    /// reason that it had it, so that a drain stays its operator's.
    pub(super) fn shares_back(
        &self,
        change: &TrafficChange,
        now: &TrafficState,
        order: &Order,
    ) -> BTreeMap<RegionId, RegionShare> {
        let intent = &order.plan.intent;
        let mut shares = shares_with_run(&now.shares, &change.shares_after, &order.run, intent);
        for (region, before) in self.before.get(&change.service).into_iter().flatten() {
            if let Some(share) = shares.get_mut(region).filter(|s| s.share == before.share) {
                *share = before.clone();
            }
        }
        shares
    }
}

/// The services of one step that one transaction moves.
pub(super) struct Part<'a> {
    pub(super) services: Vec<&'a ServiceId>,
    /// The first that this attempt moves.
    pub(super) is_first: bool,
    /// Nothing of the step is left after it.
    pub(super) is_last: bool,
}

/// Adds what must exist if and only if the targets moved.
pub(super) async fn of_move(
    c: &Coordinator,
    order: &Order,
    txn: Txn,
    so_far: &mut Moved,
    part: &Part<'_>,
) -> Result<Txn, StepFailure> {
    match order.plan.intent.purpose {
        Purpose::Drain if part.is_first => begin_hold(c, order, txn).await,
        Purpose::Undrain | Purpose::Failback if part.is_last && is_last_shift(order) => {
            end_holds(c, order, txn, so_far).await
        }
        Purpose::Drain | Purpose::Undrain | Purpose::Failback => Ok(txn),
        Purpose::Failover => block(c, order, txn, part),
    }
}

/// Takes it back: the hold of a drain goes, holds that were ended stand again. Says whether there was any.
pub(super) async fn of_undo(
    c: &Coordinator,
    order: &Order,
    mut txn: Txn,
    so_far: &mut Moved,
) -> Result<(Txn, bool), StepFailure> {
    let mut any = false;
    if order.plan.intent.purpose == Purpose::Drain {
        let key = keys::hold(&order.run);
        if c.db.get::<Hold>(&key).await.map_err(store_failure)?.is_some() {
            txn = txn.delete(key);
            any = true;
        }
    }
    for hold in std::mem::take(&mut so_far.ended) {
        txn = c.db.put_op(txn, &keys::hold(&hold.run), &hold).map_err(store_failure)?;
        any = true;
    }
    Ok((txn, any))
}

/// A ramp brings a region back in stages; its drain is over with the last one.
fn is_last_shift(order: &Order) -> bool {
    let later = order.plan.steps.iter().skip(order.index as usize + 1);
    !later.into_iter().any(|s| matches!(s.kind, StepKind::ShiftTraffic { .. }))
}

/// An earlier attempt that moved a part has begun it already.
async fn begin_hold(c: &Coordinator, order: &Order, txn: Txn) -> Result<Txn, StepFailure> {
    if c.db.get::<Hold>(&keys::hold(&order.run)).await.map_err(store_failure)?.is_some() {
        return Ok(txn);
    }
    let (now, intent) = (c.clock.now(), &order.plan.intent);
    let hold = Hold {
        run: order.run.clone(),
        region: intent.region.clone(),
        services: order.plan.services.clone(),
        by: order.origin.by.clone(),
        reason: intent.reason.clone(),
        since: now,
        expires_at: intent.hold_for.map(|s| now + s),
    };
    c.db.put_op(txn, &keys::hold(&order.run), &hold).map_err(store_failure)
}

/// Takes out of the region's holds what comes back with this run, and what is not configured any more; a hold of which
/// nothing is left is gone.
async fn end_holds(
    c: &Coordinator,
    order: &Order,
    mut txn: Txn,
    so_far: &mut Moved,
) -> Result<Txn, StepFailure> {
    let loaded = c.loaded();
    let stays = |s: &ServiceId| !order.plan.services.contains(s) && loaded.config.services.contains_key(s);
    for (key, hold) in c.db.list_placed::<Hold>(keys::HOLDS).await.map_err(store_failure)? {
        let left: Vec<ServiceId> = hold.services.iter().filter(|s| stays(s)).cloned().collect();
        if hold.region != order.plan.intent.region || left.len() == hold.services.len() {
            continue;
        }
        txn = if left.is_empty() {
            txn.delete(key)
        } else {
            let smaller = Hold { services: left, ..hold.clone() };
            c.db.put_op(txn, &key, &smaller).map_err(store_failure)?
        };
        so_far.ended.push(hold);
    }
    Ok(txn)
}

/// After an automatic failover, none of its class for a while (I8).
fn block(c: &Coordinator, order: &Order, mut txn: Txn, part: &Part<'_>) -> Result<Txn, StepFailure> {
    let Trigger::Decision { class, .. } = &order.origin.trigger else { return Ok(txn) };
    let (now, loaded) = (c.clock.now(), c.loaded());
    for service in part.services.iter().copied() {
        let Some(config) = loaded.config.services.get(service) else { continue };
        let block = Block {
            service: service.clone(),
            class: *class,
            run: order.run.clone(),
            until: now + config.failover.block_period,
        };
        txn = c.db.put_op(txn, &keys::block(service, *class), &block).map_err(store_failure)?;
    }
    Ok(txn)
}
