//! `shift_traffic`: move the target in the store, publish it in DNS, and ask DNS whether it is so.
//!
//! The target moves by compare-and-swap from the generation that the plan read. Holds and the block period of an
//! automatic failover are written in the same transaction: they exist if and only if the target moved. So is a note of
//! what the run moved, and an undo touches just that.
//!
//! An attempt may be dropped at any await. What it has begun in the store goes on by itself to its end, with what is
//! known in memory brought up after it, and the next attempt or the undo waits for that.

use super::publish::{gone, publish};
use super::sides::{self, Moved};
use super::{done, failed, store_failure};
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::fault;
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome};
use drover_model::plan::{TrafficChange, shares_with_run};
use drover_model::traffic::{Block, Hold, RegionShare, TrafficState};
use drover_model::units::Generation;
use drover_model::{EndpointKey, RegionId, Weight};
use drover_store::{Expect, Revision, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn act(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let loaded = c.loaded();
    if let Some(change) = changes.iter().find(|x| !loaded.config.services.contains_key(&x.service)) {
        return Err(gone(&change.service));
    }
    let (me, mine, planned) = (c.clone(), order.clone(), changes.to_vec());
    let moved = to_the_end(c, async move { move_targets(&me, &mine, &planned).await }).await?;
    fault::point(|| fault::within("after-move", order));
    publish(c, order, changes).await?;
    let summary = changes.iter().map(sentence).collect::<Vec<_>>().join("; ");
    Ok(done(moved, summary, Vec::new()))
}

/// Restores weights: the generations of a reversal are those that stand when it runs.
pub(super) async fn undo(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let (me, mine, planned) = (c.clone(), order.clone(), changes.to_vec());
    let moved = to_the_end(c, async move { move_back(&me, &mine, &planned).await }).await?;
    fault::point(|| fault::within("after-move", order));
    // All of them, also what an earlier attempt moved back: that attempt may have ended before DNS had it.
    publish(c, order, changes).await?;
    Ok(done(moved, format!("weights of {} service(s) restored", changes.len()), Vec::new()))
}

/// One at a time, and to the end although the attempt is dropped.
pub(super) async fn to_the_end(
    c: &Coordinator,
    work: impl Future<Output = Result<bool, StepFailure>> + Send + 'static,
) -> Result<bool, StepFailure> {
    let alone = c.shifting.clone().lock_owned().await;
    let task = c.tasks.spawn(async move {
        let _alone = alone;
        work.await
    });
    task.await
        .unwrap_or_else(|e| Err(failed(FailureNature::Retryable, format!("the move was cut short: {e}"))))
}

fn sentence(change: &TrafficChange) -> String {
    let moved: Vec<String> = change
        .weights_after
        .iter()
        .filter(|(r, w)| change.weights_before.get(*r) != Some(*w))
        .map(|(r, w)| format!("{r} {} -> {w}", change.weights_before.get(r).copied().unwrap_or_default()))
        .collect();
    format!(
        "{}: {}",
        change.service,
        if moved.is_empty() { "unchanged".to_owned() } else { moved.join(", ") }
    )
}

pub(super) async fn standing(
    c: &Coordinator,
    change: &TrafficChange,
) -> Result<(TrafficState, Revision), StepFailure> {
    let found = c.db.get::<TrafficState>(&keys::traffic(&change.service)).await.map_err(store_failure)?;
    let absent = || format!("{} has no published target", change.service);
    found.ok_or_else(|| failed(FailureNature::Permanent, absent()))
}

pub(super) async fn moved_so_far(c: &Coordinator, order: &Order) -> Result<Moved, StepFailure> {
    let found = c.db.get::<Moved>(&keys::moved(&order.run)).await.map_err(store_failure)?;
    Ok(found.map(|(m, _)| m).unwrap_or_default())
}

/// Moves every target that is not there yet, in one transaction. Says whether anything moved.
async fn move_targets(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<bool, StepFailure> {
    let mut so_far = moved_so_far(c, order).await?;
    let mut txn = c.db.fenced();
    let (mut targets, mut moved) = (Vec::new(), false);
    for change in changes {
        let (now, revision) = standing(c, change).await?;
        let shares = shares_with_run(&now.shares, &change.shares_after, &order.run, &order.plan.intent);
        let there = now.generation == change.to_generation
            && now.weights == change.weights_after
            && now.shares == shares;
        if there {
            targets.push(now);
            continue;
        }
        if now.generation != change.from_generation {
            return Err(failed(FailureNature::Permanent, stale(change, now.generation)));
        }
        so_far.note(&now, change.to_generation);
        let target = target_of(c, change, change.to_generation, shares);
        txn = put_target(c, txn, &target, revision)?;
        targets.push(target);
        moved = true;
    }
    if moved {
        let txn = sides::of_move(c, order, txn, &mut so_far).await?;
        commit(c, order, txn, &so_far).await?;
    }
    refresh(c, targets).await?;
    Ok(moved)
}

/// Puts back what this run moved, and only that: a target that somebody else has moved since is theirs.
async fn move_back(c: &Coordinator, order: &Order, changes: &[TrafficChange]) -> Result<bool, StepFailure> {
    let so_far = moved_so_far(c, order).await?;
    for change in changes.iter().filter(|x| so_far.generations.contains_key(&x.service)) {
        refuse_a_bad_region(c, change, &standing(c, change).await?.0)?;
    }
    move_targets_back(c, order, changes).await
}

/// As [`move_back`], for changes that were chosen by what fails.
pub(super) async fn move_targets_back(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<bool, StepFailure> {
    let mut so_far = moved_so_far(c, order).await?;
    let mut txn = c.db.fenced();
    let (mut targets, mut moved) = (Vec::new(), false);
    for change in changes {
        let Some(ours) = so_far.generations.get(&change.service).copied() else { continue };
        let (now, revision) = standing(c, change).await?;
        if now.generation != ours {
            let message = format!(
                "{} is at generation {}, this run left it at {ours}: it was moved since, and is not moved back",
                change.service, now.generation
            );
            return Err(failed(FailureNature::Permanent, message));
        }
        let shares = so_far.shares_back(change, &now, order);
        if now.weights == change.weights_after && now.shares == shares {
            targets.push(now);
            continue;
        }
        let target = target_of(c, change, now.generation.next(), shares);
        so_far.note(&now, target.generation);
        txn = put_target(c, txn, &target, revision)?;
        targets.push(target);
        moved = true;
    }
    let (txn, sides) = sides::of_undo(c, order, txn, &mut so_far).await?;
    if moved || sides {
        commit(c, order, txn, &so_far).await?;
    }
    refresh(c, targets).await?;
    Ok(moved)
}

/// Never send traffic back to a region that is down.
fn refuse_a_bad_region(
    c: &Coordinator,
    change: &TrafficChange,
    standing: &TrafficState,
) -> Result<(), StepFailure> {
    match gains_though_down(c, change, standing) {
        None => Ok(()),
        Some(key) => {
            let message = format!("undoing would send traffic back to {key}, which is down");
            Err(failed(FailureNature::Permanent, message))
        }
    }
}

/// An endpoint that `change` would give more to, although it is held for down.
pub(super) fn gains_though_down(
    c: &Coordinator,
    change: &TrafficChange,
    standing: &TrafficState,
) -> Option<EndpointKey> {
    let gains = |(region, weight): &(&RegionId, &Weight)| weight.0 > standing.weight(region).0;
    let gaining = change.weights_after.iter().filter(gains);
    gaining.map(|(region, _)| EndpointKey::new(&change.service, region)).find(|key| is_down(c, key))
}

/// Is it held for down, so that nothing may stay there? Where nothing is held of it, it is not.
pub(super) fn is_down(c: &Coordinator, key: &EndpointKey) -> bool {
    c.live().standing.get(key).is_some_and(|s| s.verdict.state.moves_traffic())
}

fn target_of(
    c: &Coordinator,
    change: &TrafficChange,
    generation: Generation,
    shares: BTreeMap<RegionId, RegionShare>,
) -> TrafficState {
    TrafficState {
        service: change.service.clone(),
        generation,
        shares,
        weights: change.weights_after.clone(),
        changed_at: c.clock.now(),
    }
}

fn put_target(
    c: &Coordinator,
    txn: Txn,
    target: &TrafficState,
    revision: Revision,
) -> Result<Txn, StepFailure> {
    let key = keys::traffic(&target.service);
    let txn = txn.expect(key.clone(), Expect::ModRevision(revision));
    c.db.put_op(txn, &key, target).map_err(store_failure)
}

async fn commit(c: &Coordinator, order: &Order, txn: Txn, so_far: &Moved) -> Result<(), StepFailure> {
    let txn = c.db.put_op(txn, &keys::moved(&order.run), so_far).map_err(store_failure)?;
    match c.db.commit("move traffic targets", txn.for_journal()).await.map_err(store_failure)? {
        Some(_) => Ok(()),
        None => Err(failed(FailureNature::Retryable, "a target changed at the same moment")),
    }
}

/// Brings what is known in memory up to the store, also after an attempt whose answer was lost.
async fn refresh(c: &Coordinator, targets: Vec<TrafficState>) -> Result<(), StepFailure> {
    let holds = c.db.list::<Hold>(keys::HOLDS).await.map_err(store_failure)?;
    let blocks = c.db.list::<Block>(keys::BLOCKS).await.map_err(store_failure)?;
    let mut live = c.live();
    for target in targets {
        let newer = live.traffic.get(&target.service).is_none_or(|t| t.generation <= target.generation);
        if newer {
            live.traffic.insert(target.service.clone(), target);
        }
    }
    live.holds = holds.into_iter().map(|(_, h)| (h.run.clone(), h)).collect();
    live.blocks = blocks.into_iter().collect();
    Ok(())
}

fn stale(change: &TrafficChange, found: Generation) -> String {
    format!("{} is at generation {found}, the plan was made from {}", change.service, change.from_generation)
}
