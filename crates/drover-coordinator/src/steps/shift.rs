//! `shift_traffic`: move the target in the store, publish it in DNS, and ask DNS whether it is so.
//!
//! The target moves by compare-and-swap from the generation that the plan read. Holds of a drain and the block period of
//! an automatic failover are written in the same transaction: they exist if and only if the target moved.

use super::{done, failed};
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::traffic::{record_key, record_set};
use drover_dns::provider::{ProviderError, RecordSets, Verification};
use drover_dns::publish::Batch;
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome, Trigger};
use drover_model::plan::{TrafficChange, shares_with_run};
use drover_model::runbook::Purpose;
use drover_model::traffic::{Block, Hold, TrafficState};
use drover_model::units::Generation;
use drover_store::{Expect, Txn};
use std::collections::BTreeMap;

pub(super) async fn act(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let moved = move_targets(c, order, changes).await?;
    publish(c, order, changes).await?;
    let summary = changes.iter().map(sentence).collect::<Vec<_>>().join("; ");
    Ok(done(moved, summary, Vec::new()))
}

/// Restores weights: the generations of a reversal are those that stand when it runs.
pub(super) async fn undo(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let world = c.world(c.clock.now());
    let mut back = Vec::new();
    for change in changes {
        let Some(standing) = world.traffic.get(&change.service) else { continue };
        if standing.weights == change.weights_after {
            continue;
        }
        for (region, weight) in &change.weights_after {
            let key = drover_model::EndpointKey::new(&change.service, region);
            let bad = world.verdicts.get(&key).is_some_and(|v| v.verdict.state.moves_traffic());
            if weight.0 > standing.weight(region).0 && bad {
                let message = format!("undoing would send traffic back to {key}, which is down");
                return Err(failed(FailureNature::Permanent, message));
            }
        }
        back.push(TrafficChange {
            from_generation: standing.generation,
            to_generation: standing.generation.next(),
            weights_before: standing.weights.clone(),
            ..change.clone()
        });
    }
    let moved = move_targets(c, order, &back).await?;
    publish(c, order, &back).await?;
    Ok(done(moved, format!("weights of {} service(s) restored", back.len()), Vec::new()))
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

fn target_of(
    order: &Order,
    change: &TrafficChange,
    standing: &TrafficState,
    c: &Coordinator,
) -> TrafficState {
    TrafficState {
        service: change.service.clone(),
        generation: change.to_generation,
        shares: shares_with_run(&standing.shares, &change.shares_after, &order.run),
        weights: change.weights_after.clone(),
        changed_at: c.clock.now(),
    }
}

/// Moves every target that is not there yet, in one transaction. Says whether anything moved.
async fn move_targets(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<bool, StepFailure> {
    let retry = |e: crate::error::CoordinatorError| match e {
        crate::error::CoordinatorError::Fenced { .. } => failed(FailureNature::Fenced, e.to_string()),
        e => failed(FailureNature::Retryable, crate::text::chain(&e)),
    };
    let mut txn = c.db.fenced();
    let mut moved = BTreeMap::new();
    for change in changes {
        let key = keys::traffic(&change.service);
        let Some((standing, revision)) = c.db.get::<TrafficState>(&key).await.map_err(retry)? else {
            return Err(failed(
                FailureNature::Permanent,
                format!("{} has no published target", change.service),
            ));
        };
        if standing.generation == change.to_generation && standing.weights == change.weights_after {
            continue;
        }
        if standing.generation != change.from_generation {
            let message = stale(change, standing.generation);
            return Err(failed(FailureNature::Permanent, message));
        }
        let target = target_of(order, change, &standing, c);
        txn = txn.expect(key.clone(), Expect::ModRevision(revision));
        txn = c.db.put_op(txn, &key, &target).map_err(retry)?;
        moved.insert(change.service.clone(), target);
    }
    if moved.is_empty() {
        return Ok(false);
    }
    let (txn, hold, blocks) = side_records(c, order, txn).map_err(retry)?;
    if c.db.commit("move traffic targets", txn.for_journal()).await.map_err(retry)?.is_none() {
        return Err(failed(FailureNature::Retryable, "a target changed at the same moment"));
    }
    let mut live = c.live();
    live.traffic.extend(moved);
    match order.plan.intent.purpose {
        Purpose::Drain => drop(hold.map(|h| live.holds.insert(h.run.clone(), h))),
        Purpose::Undrain | Purpose::Failback => {
            for run in ended_holds(&live.holds, order) {
                live.holds.remove(&run);
            }
        }
        Purpose::Failover => live.blocks.extend(blocks),
    }
    Ok(true)
}

fn stale(change: &TrafficChange, found: Generation) -> String {
    format!("{} is at generation {found}, the plan was made from {}", change.service, change.from_generation)
}

/// Holds that this run ends: those of its region whose services it all brings back.
fn ended_holds(holds: &BTreeMap<drover_model::RunId, Hold>, order: &Order) -> Vec<drover_model::RunId> {
    let intent = &order.plan.intent;
    holds
        .values()
        .filter(|h| h.region == intent.region && h.services.iter().all(|s| order.plan.services.contains(s)))
        .map(|h| h.run.clone())
        .collect()
}

type Side = (Txn, Option<Hold>, BTreeMap<String, Block>);

/// Adds what must exist if and only if the target moved: the hold of a drain, the blocks of an automatic failover.
fn side_records(
    c: &Coordinator,
    order: &Order,
    mut txn: Txn,
) -> Result<Side, crate::error::CoordinatorError> {
    let now = c.clock.now();
    let intent = &order.plan.intent;
    let mut hold = None;
    let mut blocks = BTreeMap::new();
    match intent.purpose {
        Purpose::Drain => {
            let h = Hold {
                run: order.run.clone(),
                region: intent.region.clone(),
                services: order.plan.services.clone(),
                by: order.origin.by.clone(),
                reason: intent.reason.clone(),
                since: now,
                expires_at: intent.hold_for.map(|s| now + s),
            };
            txn = c.db.put_op(txn, &keys::hold(&order.run), &h)?;
            hold = Some(h);
        }
        Purpose::Undrain | Purpose::Failback => {
            let ended = ended_holds(&c.live().holds, order);
            for run in ended {
                txn = txn.delete(keys::hold(&run));
            }
        }
        Purpose::Failover => {
            if let Trigger::Decision { class, .. } = &order.origin.trigger {
                let loaded = c.loaded();
                for service in &order.plan.services {
                    let Some(period) = loaded.config.services.get(service).map(|s| s.failover.block_period)
                    else {
                        continue;
                    };
                    let block = Block {
                        service: service.clone(),
                        class: *class,
                        run: order.run.clone(),
                        until: now + period,
                    };
                    let key = keys::block(service, *class);
                    txn = c.db.put_op(txn, &key, &block)?;
                    blocks.insert(key, block);
                }
            }
        }
    }
    Ok((txn, hold, blocks))
}

/// Publishes what stands in the store for these services and asks DNS whether it is so.
async fn publish(c: &Coordinator, order: &Order, changes: &[TrafficChange]) -> Result<(), StepFailure> {
    let Some(provider) = c.dns() else {
        return Err(failed(
            FailureNature::Permanent,
            "no DNS server is configured, so weights can't be published",
        ));
    };
    let loaded = c.loaded();
    let mut desired = Vec::new();
    for change in changes {
        let Some(service) = loaded.config.services.get(&change.service) else { continue };
        let standing = c.live().traffic.get(&change.service).cloned();
        if let Some(target) = standing {
            desired.push((record_key(service), record_set(service, &target, order.epoch)));
        }
    }
    let keys: Vec<_> = desired.iter().filter_map(|(k, _)| k.clone()).collect();
    let sets: Vec<_> = desired.iter().map(|(_, s)| s.clone()).collect();
    let observed = provider.observe(&keys).await.map_err(|e| provider_failure(&e))?;
    let diff = provider.diff(&sets, &observed);
    if let Some(blocked) = diff.blocked.first() {
        let message = format!("{} can't be published: {:?}", blocked.desired.name, blocked.reason);
        return Err(failed(FailureNature::Retryable, message));
    }
    if !diff.changes.is_empty() {
        let batch = Batch { epoch: order.epoch, idempotency_key: order.key.clone(), changes: diff.changes };
        provider.apply(&batch).await.map_err(|e| provider_failure(&e))?;
    }
    for (key, set) in &desired {
        if let Some(key) = key {
            verified(&*provider, key, set).await?;
        }
    }
    c.reconcile_wake.notify_one();
    Ok(())
}

/// Every server that could be asked answers as expected; at least one could.
pub(super) async fn verified(
    provider: &dyn RecordSets,
    key: &drover_dns::zone::RecordKey,
    set: &drover_dns::zone::RecordSet,
) -> Result<String, StepFailure> {
    match provider.verify(key, Some(set)).await {
        Ok(Verification::Verified { instances }) => {
            Ok(format!("{key}: {} answer generation {}", instances.join(", "), set.generation))
        }
        Ok(Verification::Partial { verified, missing }) => {
            let names: Vec<_> = missing.iter().map(|m| m.instance.as_str()).collect();
            Ok(format!(
                "{key}: {} answer generation {}, not reached: {}",
                verified.join(", "),
                set.generation,
                names.join(", ")
            ))
        }
        Ok(Verification::Mismatch { mismatches, .. }) => {
            let first =
                mismatches.first().map(|m| format!("{}: {}", m.instance, m.found)).unwrap_or_default();
            Err(failed(FailureNature::Retryable, format!("{key} is not answered as published: {first}")))
        }
        Err(e) => Err(provider_failure(&e)),
    }
}

pub(super) fn provider_failure(e: &ProviderError) -> StepFailure {
    let nature = match e {
        ProviderError::Fenced { .. } => FailureNature::Fenced,
        ProviderError::Refused { .. } => FailureNature::Permanent,
        ProviderError::Conflict { .. }
        | ProviderError::Unreachable { .. }
        | ProviderError::TimedOut { .. } => FailureNature::Retryable,
    };
    failed(nature, crate::text::chain(e))
}
