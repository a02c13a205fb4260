//! `shift_traffic` and its undo: the target moves by compare-and-swap, then DNS gets it. Looks first and does only
//! what is missing, so that doing it again is harmless.

use crate::hands::failed;
use crate::planted::Planted;
use crate::state::{Answers, State};
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome, Trigger};
use drover_model::plan::{StepKind, TrafficChange, shares_with_run};
use drover_model::runbook::Purpose;
use drover_model::traffic::{Block, Hold, TargetOrigin, TrafficState};
use drover_model::{EndpointKey, Epoch, Generation, ServiceId};

pub(crate) fn shift(
    state: &mut State,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let mut targets = vec![];
    for change in changes {
        let now = standing(state, &change.service)?;
        let shares = shares_with_run(&now.shares, &change.shares_after, &order.run, &order.plan.intent);
        if now.generation == change.to_generation && now.weights == change.weights_after {
            continue;
        }
        if now.generation != change.from_generation && !state.lacks(Planted::StalePlanCheck) {
            let (found, from) = (now.generation, change.from_generation);
            let message =
                format!("{} is at generation {found}, the plan was made from {from}", change.service);
            return Err(failed(FailureNature::Permanent, message));
        }
        state.check_planned(order, change, now.generation);
        state.check_capacity(order, &change.service, &now.weights, &change.weights_after);
        targets.push(TrafficState {
            service: change.service.clone(),
            generation: change.to_generation,
            shares,
            weights: change.weights_after.clone(),
            changed_at: state.now(),
            origin: TargetOrigin::Run { run: order.run.clone() },
            decided: change.to_generation,
        });
    }
    let moved = !targets.is_empty();
    for target in targets {
        state.store.moved.insert((order.run.clone(), target.service.clone()), target.generation);
        state.store.traffic.insert(target.service.clone(), target);
    }
    if moved {
        sides(state, order);
        state.note_moved(order);
    }
    publish(state, order.epoch, changes)?;
    Ok(StepOutcome::done(moved, format!("{} service(s) moved", changes.len())))
}

/// Puts back what this run moved, and only that; never into a region that is down.
pub(crate) fn undo(
    state: &mut State,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    for change in changes.iter().filter(|c| ours(state, order, c).is_some()) {
        let now = standing(state, &change.service)?;
        let back = change.weights_after.iter().find(|(region, weight)| {
            let standing = state.leader.standing.get(&EndpointKey::new(&change.service, region));
            weight.0 > now.weight(region).0 && standing.is_some_and(|s| s.verdict.state.moves_traffic())
        });
        if let Some((region, _)) = back {
            let message =
                format!("undoing would send traffic back to {}@{region}, which is down", change.service);
            return Err(failed(FailureNature::Permanent, message));
        }
    }
    move_back(state, order, changes)
}

/// The generation that this run gave the target of `change` last.
fn ours(state: &State, order: &Order, change: &TrafficChange) -> Option<Generation> {
    state.store.moved.get(&(order.run.clone(), change.service.clone())).copied()
}

/// Puts back what was chosen.
pub(crate) fn move_back(
    state: &mut State,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    for change in changes {
        let key = (order.run.clone(), change.service.clone());
        let Some(ours) = ours(state, order, change) else { continue };
        let now = standing(state, &change.service)?;
        if now.generation != ours {
            let message = format!("{} was moved since, and is not moved back", change.service);
            return Err(failed(FailureNature::Permanent, message));
        }
        if now.weights == change.weights_after {
            continue;
        }
        state.check_capacity(order, &change.service, &now.weights, &change.weights_after);
        let target = TrafficState {
            service: change.service.clone(),
            generation: now.generation.next(),
            shares: shares_with_run(&now.shares, &change.shares_after, &order.run, &order.plan.intent),
            weights: change.weights_after.clone(),
            changed_at: state.now(),
            origin: TargetOrigin::Run { run: order.run.clone() },
            decided: now.generation.next(),
        };
        state.store.moved.insert(key, target.generation);
        state.store.traffic.insert(target.service.clone(), target);
    }
    if order.plan.intent.purpose == Purpose::Drain {
        state.store.holds.remove(&order.run);
    }
    let again = state.store.ended_holds.remove(&order.run).unwrap_or_default();
    state.store.holds.extend(again.into_iter().map(|hold| (hold.run.clone(), hold)));
    publish(state, order.epoch, changes)?;
    Ok(StepOutcome::done(true, format!("weights of {} service(s) restored", changes.len())))
}

pub(crate) fn standing(state: &State, service: &ServiceId) -> Result<TrafficState, StepFailure> {
    let absent = || failed(FailureNature::Permanent, format!("{service} has no published target"));
    state.store.traffic.get(service).cloned().ok_or_else(absent)
}

/// What exists if and only if the targets moved: holds begun and ended, block periods.
fn sides(state: &mut State, order: &Order) {
    let (now, intent) = (state.now(), &order.plan.intent);
    match intent.purpose {
        Purpose::Drain => {
            let hold = Hold {
                run: order.run.clone(),
                region: intent.region.clone(),
                services: order.plan.services.clone(),
                by: order.origin.by.clone(),
                reason: intent.reason.clone(),
                since: now,
                expires_at: intent.hold_for.map(|span| now + span),
            };
            state.store.holds.insert(order.run.clone(), hold);
        }
        Purpose::Undrain | Purpose::Failback => {
            let later = order.plan.steps.iter().skip(order.index as usize + 1);
            if later.into_iter().any(|s| matches!(s.kind, StepKind::ShiftTraffic { .. })) {
                return;
            }
            let ends = |h: &&Hold| {
                h.region == intent.region && h.services.iter().any(|s| order.plan.services.contains(s))
            };
            let ended: Vec<Hold> = state.store.holds.values().filter(ends).cloned().collect();
            state.store.ended_holds.entry(order.run.clone()).or_default().extend(ended);
            for hold in state.store.holds.values_mut().filter(|h| h.region == intent.region) {
                hold.services.retain(|s| !order.plan.services.contains(s));
            }
            state.store.holds.retain(|_, hold| !hold.services.is_empty());
        }
        Purpose::Failover => {
            let Trigger::Decision { class, .. } = &order.origin.trigger else { return };
            for service in &order.plan.services {
                let Some(config) = state.loaded.config.services.get(service) else { continue };
                let until = now + config.failover.block_period;
                let block = Block { service: service.clone(), class: *class, run: order.run.clone(), until };
                state.store.blocks.insert((service.clone(), *class), block);
            }
        }
    }
}

fn publish(state: &mut State, epoch: Epoch, changes: &[TrafficChange]) -> Result<(), StepFailure> {
    for change in changes {
        if state.truth.dns_down {
            return Err(failed(FailureNature::Retryable, "the DNS server takes no changes"));
        }
        if epoch < state.dns.epoch && !state.lacks(Planted::EpochCheck) {
            let newer = state.dns.epoch.counter;
            return Err(failed(FailureNature::Fenced, format!("DNS has heard epoch {newer}")));
        }
        state.bring_up(&change.service, epoch);
    }
    Ok(())
}

pub(crate) fn verify(state: &State, expected: &[TrafficChange]) -> Result<StepOutcome, StepFailure> {
    let wrong = expected.iter().find(|change| {
        let answers = state.dns.answers.get(&change.service);
        answers.is_none_or(|a| a.generation != change.to_generation || a.weights != change.weights_after)
    });
    match wrong {
        Some(change) => Err(failed(
            FailureNature::Retryable,
            format!("DNS does not answer {} as planned", change.service),
        )),
        None => Ok(StepOutcome::done(false, format!("{} name(s) answer as planned", expected.len()))),
    }
}

impl State {
    /// Makes DNS answer what the store says of one service.
    fn bring_up(&mut self, service: &ServiceId, epoch: Epoch) {
        if let Some(target) = self.store.traffic.get(service).cloned() {
            self.answer(target, epoch);
        }
    }

    /// DNS takes one service's target from whoever leads under this epoch.
    pub(crate) fn answer(&mut self, target: TrafficState, epoch: Epoch) {
        let service = &target.service;
        let answers = Answers { weights: target.weights, generation: target.generation };
        self.dns.epoch = self.dns.epoch.max(epoch);
        let before = self.dns.answers.insert(service.clone(), answers.clone());
        if before.as_ref() == Some(&answers) {
            return;
        }
        if before.as_ref().is_some_and(|b| b.weights != answers.weights) {
            let words: Vec<String> = answers.weights.iter().map(|(r, w)| format!("{r} {}", w.0)).collect();
            self.tell(format!("{service} answers {}", words.join(", ")));
        }
        self.check_published(service, before.as_ref());
    }

    /// What stands is brought up for ever, whatever a run does (the reconciler).
    pub(crate) fn reconcile(&mut self) {
        if self.truth.dns_down || self.store.epoch < self.dns.epoch {
            return;
        }
        let answered = |target: &TrafficState| {
            let answers = self.dns.answers.get(&target.service);
            answers.is_some_and(|a| a.generation == target.generation && a.weights == target.weights)
        };
        if self.dns.epoch == self.store.epoch && self.store.traffic.values().all(answered) {
            return;
        }
        let services: Vec<ServiceId> = self.store.traffic.keys().cloned().collect();
        for service in services {
            self.bring_up(&service, self.store.epoch);
        }
    }
}
