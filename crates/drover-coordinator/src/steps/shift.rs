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
//! An attempt may be dropped at any await. What it has begun in the store goes on by itself to its end, with what is
//! known in memory brought up after it, and the next attempt or the undo waits for that.

use super::publish::{gone, publish};
use super::sides::{self, Moved, Part};
use super::{done, failed, store_failure};
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::fault;
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome};
use drover_model::plan::{TrafficChange, shares_with_run};
use drover_model::traffic::{Block, Hold, RegionShare, TrafficState};
use drover_model::units::Generation;
use drover_model::{EndpointKey, RegionId, ServiceId, Weight};
use drover_store::{Expect, Revision, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Services that one transaction moves: each with its block period, beside the run's note and holds that it ends.
const TARGETS_PER_TXN: usize = 48;

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
) -> Result<bool, StepFailure> {
    let mut so_far = moved_so_far(c, order).await?;
    let (mut there, mut pending) = (Vec::new(), Vec::new());
    for change in changes {
        let (now, revision) = standing(c, change).await?;
        let shares = shares_with_run(&now.shares, &change.shares_after, &order.run, &order.plan.intent);
        let is_there = now.generation == change.to_generation
            && now.weights == change.weights_after
            && now.shares == shares;
        if is_there {
            there.push(now);
            continue;
        }
        if now.generation != change.from_generation {
            return Err(failed(FailureNature::Permanent, stale(change, now.generation)));
        }
        let target = target_of(c, change, change.to_generation, shares);
        pending.push(Pending { now, revision, target });
    }
    let moved = !pending.is_empty();
    let last = pending.len().div_ceil(TARGETS_PER_TXN).saturating_sub(1);
    for (number, some) in pending.chunks(TARGETS_PER_TXN).enumerate() {
        let services: Vec<&ServiceId> = some.iter().map(|p| &p.target.service).collect();
        let part = Part { services, is_first: number == 0, is_last: number == last };
        let txn = put_targets(c, some, &mut so_far)?;
        let txn = sides::of_move(c, order, txn, &mut so_far, &part).await?;
        commit(c, order, txn, &so_far).await?;
    }
    refresh(c, there.into_iter().chain(pending.into_iter().map(|p| p.target))).await?;
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
    let (mut there, mut pending) = (Vec::new(), Vec::new());
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
            there.push(now);
            continue;
        }
        let target = target_of(c, change, now.generation.next(), shares);
        pending.push(Pending { now, revision, target });
    }
    let moved = !pending.is_empty();
    // What stands beside the targets goes with the last of them: until then it still describes some.
    let last_from = pending.len().saturating_sub(1) / TARGETS_PER_TXN * TARGETS_PER_TXN;
    let (before_last, last) = pending.split_at(last_from);
    for some in before_last.chunks(TARGETS_PER_TXN) {
        let txn = put_targets(c, some, &mut so_far)?;
        commit(c, order, txn, &so_far).await?;
    }
    let txn = put_targets(c, last, &mut so_far)?;
    let (txn, sides) = sides::of_undo(c, order, txn, &mut so_far).await?;
    if moved || sides {
        commit(c, order, txn, &so_far).await?;
    }
    refresh(c, there.into_iter().chain(pending.into_iter().map(|p| p.target))).await?;
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

/// Brings what is known in memory up to the store, also after an attempt whose answer was lost.
async fn refresh(c: &Coordinator, targets: impl Iterator<Item = TrafficState>) -> Result<(), StepFailure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, GUARD, person};
    use drover_exec::{Approved, Origin};
    use drover_model::journal::Trigger;
    use drover_model::plan::StepKind;
    use drover_model::runbook::Purpose;
    use drover_model::{RunId, Span};

    /// More than two transactions move.
    const SERVICES: usize = 2 * TARGETS_PER_TXN + 10;

    async fn many() -> Bed {
        Bed::with(|config| {
            let one = config.services.values().next().unwrap().clone();
            for n in config.services.len()..SERVICES {
                let name = ServiceId::new(format!("service-{n:03}")).unwrap();
                let dns_name = format!("{name}.{}", config.settings.dns.as_ref().unwrap().zone);
                config
                    .services
                    .insert(name.clone(), drover_model::config::Service { name, dns_name, ..one.clone() });
            }
        })
        .await
    }

    async fn order(bed: &Bed) -> Order {
        let plan = bed.plan().await;
        let id = plan.id.clone();
        let index = plan.steps.iter().position(|s| matches!(s.kind, StepKind::ShiftTraffic { .. })).unwrap();
        let run = RunId::numbered(1);
        let origin = Origin {
            run: run.clone(),
            by: person(),
            trigger: Trigger::Command,
            ask: None,
            rto: Span::from_mins(30),
        };
        Order {
            run,
            epoch: bed.c.db.epoch(),
            plan: Approved::by_command(plan, &id).unwrap(),
            origin: Arc::new(origin),
            index: u32::try_from(index).unwrap(),
            attempt: 1,
            keeps: false,
            key: "run-1/shift".into(),
            deadline: bed.c.clock.now() + Span::from_millis(u64::try_from(GUARD.as_millis()).unwrap()),
        }
    }

    fn changes(order: &Order) -> (Vec<TrafficChange>, Vec<TrafficChange>) {
        let StepKind::ShiftTraffic { changes } = &order.step().kind else { panic!("no shift") };
        let drover_model::plan::Reversal::RestoreWeights { changes: back } = &order.step().reversal else {
            panic!("not reversible")
        };
        (changes.clone(), back.clone())
    }

    async fn moved(c: &Coordinator, changes: &[TrafficChange]) -> usize {
        let mut there = 0;
        for change in changes {
            there += usize::from(standing(c, change).await.unwrap().0.weights == change.weights_after);
        }
        there
    }

    #[tokio::test]
    async fn a_plan_for_many_services_is_kept_packed_and_read_again() {
        let bed = many().await;
        let plan = bed.plan().await;
        let key = keys::plan(&plan.id);
        let stored = drover_store::Store::get(&*bed.c.store, &key).await.unwrap().unwrap();
        let json = serde_json::to_vec(&plan).unwrap();
        assert!(stored.value[0] != b'{' && stored.value.len() < json.len(), "{}", stored.value.len());
        let (kept, _) = bed.c.db.get::<drover_model::api::PlanView>(&key).await.unwrap().unwrap();
        assert_eq!(kept.planned.plan, Some(plan));
    }

    #[tokio::test]
    async fn more_targets_than_a_transaction_takes_are_moved_and_moved_back() {
        let bed = many().await;
        let order = order(&bed).await;
        assert_eq!(order.plan.intent.purpose, Purpose::Drain);
        let (forth, back) = changes(&order);
        assert_eq!(forth.len(), SERVICES);
        assert!(move_targets(&bed.c, &order, &forth).await.unwrap());
        assert_eq!(moved(&bed.c, &forth).await, SERVICES);
        assert_eq!(bed.c.live().holds.len(), 1);
        assert!(!move_targets(&bed.c, &order, &forth).await.unwrap(), "doing it again does nothing");
        assert!(move_back(&bed.c, &order, &back).await.unwrap());
        assert_eq!(moved(&bed.c, &back).await, SERVICES);
        assert!(bed.c.live().holds.is_empty(), "the drain is over with the last");
    }

    #[tokio::test]
    async fn what_an_attempt_left_is_moved_by_the_next_and_keeps_the_hold_as_it_began() {
        let bed = many().await;
        let order = order(&bed).await;
        let (forth, back) = changes(&order);
        let some = &forth[..TARGETS_PER_TXN + 1];
        assert!(move_targets(&bed.c, &order, some).await.unwrap());
        let begun = bed.c.live().holds.clone();
        assert_eq!((begun.len(), moved(&bed.c, &forth).await), (1, some.len()));
        assert!(move_targets(&bed.c, &order, &forth).await.unwrap());
        assert_eq!(moved(&bed.c, &forth).await, SERVICES);
        assert_eq!(bed.c.live().holds, begun);
        assert!(move_back(&bed.c, &order, &back).await.unwrap());
        assert_eq!((moved(&bed.c, &back).await, bed.c.live().holds.len()), (SERVICES, 0));
    }

    #[tokio::test]
    async fn a_stale_plan_moves_none_of_its_targets() {
        let bed = many().await;
        let order = order(&bed).await;
        let (mut forth, _) = changes(&order);
        forth.last_mut().unwrap().from_generation = Generation(7);
        let refused = move_targets(&bed.c, &order, &forth).await.unwrap_err();
        assert_eq!(refused.kind, FailureNature::Permanent, "{}", refused.message);
        assert_eq!(moved(&bed.c, &forth).await, 0);
        assert!(bed.c.live().holds.is_empty());
    }
}
