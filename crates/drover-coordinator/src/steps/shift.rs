//! `shift_traffic`: move the target in the store, publish it in DNS, and ask DNS whether it is so.
//!
//! The target moves by compare-and-swap from the generation that the plan read. The block period of an automatic failover
//! is written in the same transaction: it exists if and only if the target moved. So is a note of what the run moved,
//! and an undo touches just that.
//!
//! More services than a transaction takes are moved in several. All targets are looked at before the first moves, so
//! that a stale plan moves nothing. A crash between two leaves some moved, and the next attempt moves the others: the
//! step's intent is in the journal before the first. A hold begins with the first and ends with the last, so that it
//! stands while any service is still away.
//!
//! An attempt may be dropped at any await: see [`to_the_end`].

use super::publish::{Published, gone, not_published, publish};
use super::sides::{self, Moved, Part};
use super::to_the_end::{Wanted, to_the_end};
use super::{done, failed, reaching_all_but, store_failure};
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::fault;
use crate::out_of_service::{Carried, Ended};
use crate::traffic::blocked_sentence;
use drover_dns::provider::Blocked;
use drover_exec::Order;
use drover_model::config::Split;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome};
use drover_model::plan::{TrafficChange, shares_with_run};
use drover_model::traffic::{RegionShare, TargetOrigin, TrafficState};
use drover_model::units::Generation;
use drover_model::{EndpointKey, RegionId, ServiceId, Span, Weight};
use drover_store::{Expect, Revision, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Services that one transaction moves: each with its block period, beside the run's note and holds that it ends.
const TARGETS_PER_TXN: usize = 48;
/// Between two looks whether health checks may still leave out all that a target would have.
const LOOK_EVERY: Span = Span::from_millis(500);

pub(super) async fn act(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let loaded = c.loaded();
    if let Some(change) = changes.iter().find(|x| !loaded.config.services.contains_key(&x.service)) {
        return Err(gone(&change.service));
    }
    until_some_is_left(c, order, changes).await?;
    let moved = move_forth(c, order, changes).await?;
    fault::point(|| fault::within("after-move", order));
    // First what needs no API: where all of a region is to be left, its status pages say so from now on.
    if let Err(error) = c.look_out_of_service().await {
        if matches!(error, CoordinatorError::Fenced { .. }) {
            return Err(store_failure(error));
        }
        // The records can be written all the same.
        tracing::warn!(error = &error as &dyn std::error::Error, "can't declare what is left out of service");
    }
    let published = c.or_carried(changes, order.deadline, publish(c, order, changes)).await?;
    let Published { left_alone, missing } = match published {
        Ended::Published(published) => published,
        Ended::Carried(Carried { sentence, .. }) => {
            c.reconcile_wake.notify_one();
            return Ok(done(moved, sentence, Vec::new()));
        }
    };
    if let Some(failure) = not_published(&left_alone) {
        return Err(failure);
    }
    let summary = changes.iter().map(sentence).collect::<Vec<_>>().join("; ");
    Ok(reaching_all_but(missing, done(moved, summary, Vec::new())))
}

/// Restores weights: the generations of a reversal are those that stand when it runs.
pub(super) async fn undo(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    until_some_is_left(c, order, changes).await?;
    let moved = move_back(c, order, changes).await?;
    fault::point(|| fault::within("after-move", order));
    // All of them, also what an earlier attempt moved back: that attempt may have ended before DNS had it.
    let Published { left_alone, missing } = publish(c, order, changes).await?;
    Ok(reaching_all_but(missing, done(moved, restored(changes.len(), &left_alone), Vec::new())))
}

/// What somebody else has changed was never published by this run, or not left as it was: there is nothing to put back,
/// and DNS shows it as drift.
fn restored(services: usize, left_alone: &[Blocked]) -> String {
    let restored = services.saturating_sub(left_alone.len());
    let sentences: Vec<String> = left_alone.iter().map(blocked_sentence).collect();
    let more =
        if sentences.is_empty() { String::new() } else { format!("; left alone: {}", sentences.join(", ")) };
    format!("weights of {restored} service(s) restored{more}")
}

/// Moves what the plan moves. Says whether anything moved.
async fn move_forth(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<bool, StepFailure> {
    let (me, mine, planned) = (c.clone(), order.clone(), changes.to_vec());
    to_the_end(c, changes, |wanted| async move { move_targets(&me, &mine, &planned, &wanted).await }).await
}

/// Puts back what this run moved, and only that: a target that somebody else has moved since is theirs.
async fn move_back(
    c: &Arc<Coordinator>,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<bool, StepFailure> {
    let (me, mine, planned) = (c.clone(), order.clone(), changes.to_vec());
    to_the_end(c, changes, |wanted| async move {
        let so_far = moved_so_far(&me, &mine).await?;
        for change in planned.iter().filter(|x| so_far.generations.contains_key(&x.service)) {
            refuse_a_bad_region(&me, change, &standing(&me, change).await?.0)?;
        }
        move_targets_back(&me, &mine, &planned, &wanted).await
    })
    .await
}

fn sentence(change: &TrafficChange) -> String {
    let moved: Vec<String> = change
        .weights_after
        .iter()
        .filter(|(r, w)| change.weights_before.get(r) != Some(*w))
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
    let found =
        c.db.get_placed::<TrafficState>(&keys::traffic(&change.service)).await.map_err(store_failure)?;
    let absent = || format!("{} has no published target", change.service);
    found.ok_or_else(|| failed(FailureNature::Permanent, absent()))
}

pub(super) async fn moved_so_far(c: &Coordinator, order: &Order) -> Result<Moved, StepFailure> {
    let found = c.db.get::<Moved>(&keys::moved(&order.run)).await.map_err(store_failure)?;
    Ok(found.map(|(m, _)| m).unwrap_or_default())
}

/// A target that is to change, as it was looked at.
struct Pending {
    now: TrafficState,
    revision: Revision,
    target: TrafficState,
}

/// Moves every target that is not there yet. Says whether anything moved.
async fn move_targets(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
    wanted: &Wanted,
) -> Result<bool, StepFailure> {
    let mut so_far = moved_so_far(c, order).await?;
    let mut pending = Vec::new();
    for change in changes {
        let (now, revision) = standing(c, change).await?;
        let shares = shares_with_run(&now.shares, &change.shares_after, &order.run, &order.plan.intent);
        let is_there = now.generation == change.to_generation
            && now.weights == change.weights_after
            && now.shares == shares;
        if is_there {
            continue;
        }
        if now.generation != change.from_generation {
            return Err(failed(FailureNature::Permanent, stale(change, now.generation)));
        }
        let target = target_of(c, order, change, change.to_generation, shares);
        pending.push(Pending { now, revision, target });
    }
    refuse_to_reserve(c, &pending)?;
    let moved = !pending.is_empty();
    let last = pending.len().div_ceil(TARGETS_PER_TXN).saturating_sub(1);
    for (number, some) in pending.chunks(TARGETS_PER_TXN).enumerate() {
        wanted.check()?;
        let services: Vec<&ServiceId> = some.iter().map(|p| &p.target.service).collect();
        let part = Part { services, is_first: number == 0, is_last: number == last };
        let txn = put_targets(c, some, &mut so_far)?;
        let txn = sides::of_move(c, order, txn, &mut so_far, &part).await?;
        commit(c, order, txn, &so_far).await?;
    }
    Ok(moved)
}

/// As [`move_back`], for changes that were chosen by what fails.
pub(super) async fn move_targets_back(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
    wanted: &Wanted,
) -> Result<bool, StepFailure> {
    let mut so_far = moved_so_far(c, order).await?;
    let mut pending = Vec::new();
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
            continue;
        }
        let target = target_of(c, order, change, now.generation.next(), shares);
        pending.push(Pending { now, revision, target });
    }
    refuse_to_reserve(c, &pending)?;
    let moved = !pending.is_empty();
    // What stands beside the targets goes with the last of them: until then it still describes some.
    let last_from = pending.len().saturating_sub(1) / TARGETS_PER_TXN * TARGETS_PER_TXN;
    let (before_last, last) = pending.split_at(last_from);
    for some in before_last.chunks(TARGETS_PER_TXN) {
        wanted.check()?;
        let txn = put_targets(c, some, &mut so_far)?;
        commit(c, order, txn, &so_far).await?;
    }
    wanted.check()?;
    let txn = put_targets(c, last, &mut so_far)?;
    let (txn, sides) = sides::of_undo(c, order, txn, &mut so_far).await?;
    if moved || sides {
        commit(c, order, txn, &so_far).await?;
    }
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

/// An endpoint that `change` would give more to, although it is held for down. Where DNS splits equally, one that answers
/// already takes its part of whatever another leaves: nobody chooses it.
pub(super) fn gains_though_down(
    c: &Coordinator,
    change: &TrafficChange,
    standing: &TrafficState,
) -> Option<EndpointKey> {
    let loaded = c.loaded();
    let equally = loaded.config.services.get(&change.service).is_some_and(|s| s.split == Split::Equally);
    let gains = |(region, weight): &(&RegionId, &Weight)| {
        let now = standing.weight(region).0;
        weight.0 > now && !(equally && now > 0)
    };
    let gaining = change.weights_after.iter().filter(gains);
    gaining.map(|(region, _)| EndpointKey::new(&change.service, region)).find(|key| is_down(c, key))
}

/// Is it held for down, so that nothing may stay there? Where nothing is held of it, it is not.
pub(super) fn is_down(c: &Coordinator, key: &EndpointKey) -> bool {
    c.live().standing.get(key).is_some_and(|s| s.verdict.state.moves_traffic())
}

/// Waits while these changes would leave nobody surely answered, for as long as the attempt has.
pub(crate) async fn until_some_is_left(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<(), StepFailure> {
    loop {
        let moves = |change: &&TrafficChange| {
            let live = c.live();
            live.traffic.get(&change.service).is_some_and(|now| now.weights != change.weights_after)
        };
        let leaves_none = |change: &TrafficChange| c.out_by_checks(&change.service, &change.weights_after);
        let Some(why) = changes.iter().filter(moves).find_map(leaves_none) else { return Ok(()) };
        if order.deadline.since(c.clock.now()) <= LOOK_EVERY.times(2) {
            return Err(failed(FailureNature::Retryable, why));
        }
        tokio::time::sleep(LOOK_EVERY.to_duration()).await;
    }
}

/// The same once nothing else moves or is declared.
fn refuse_to_reserve(c: &Coordinator, pending: &[Pending]) -> Result<(), StepFailure> {
    let why = pending.iter().find_map(|p| c.out_by_checks(&p.target.service, &p.target.weights));
    why.map_or(Ok(()), |why| Err(failed(FailureNature::Retryable, why)))
}

fn target_of(
    c: &Coordinator,
    order: &Order,
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
        origin: TargetOrigin::Run { run: order.run.clone() },
        decided: generation,
    }
}

/// A transaction that moves these targets, each from just where it was looked at.
fn put_targets(c: &Coordinator, some: &[Pending], so_far: &mut Moved) -> Result<Txn, StepFailure> {
    some.iter().try_fold(c.db.fenced(), |txn, Pending { now, revision, target }| {
        so_far.note(now, target.generation);
        let key = keys::traffic(&target.service);
        let txn = txn.expect(key.clone(), Expect::ModRevision(*revision));
        c.db.put_op(txn, &key, target).map_err(store_failure)
    })
}

async fn commit(c: &Coordinator, order: &Order, txn: Txn, so_far: &Moved) -> Result<(), StepFailure> {
    let txn = c.db.put_op(txn, &keys::moved(&order.run), so_far).map_err(store_failure)?;
    match c.db.commit("move traffic targets", txn.for_journal()).await.map_err(store_failure)? {
        Some(_) => Ok(()),
        None => Err(failed(FailureNature::Retryable, "a target changed at the same moment")),
    }
}

fn stale(change: &TrafficChange, found: Generation) -> String {
    format!("{} is at generation {found}, the plan was made from {}", change.service, change.from_generation)
}

#[cfg(test)]
mod tests;
