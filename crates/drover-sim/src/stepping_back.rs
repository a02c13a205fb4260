//! The undo of a ramp's stage, as in production: for each service by itself out where its region is down, kept where it
//! was validated or where going back would load another dead region, and back to the stage before otherwise.

use crate::publishing::{self, standing};
use crate::state::{Shared, State};
use drover_core::decide;
use drover_exec::Order;
use drover_model::config::Service;
use drover_model::journal::{StepFailure, StepOutcome};
use drover_model::plan::TrafficChange;
use drover_model::{EndpointKey, Percent, RegionId, ServiceId, Span};
use std::time::Duration;

/// Pause between two looks at what is suspect.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn undo(
    shared: &Shared,
    order: &Order,
    back: &[TrafficChange],
    out: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let first = step(&mut shared.lock(), order, back, out)?;
    if !settle(shared, order, back).await {
        return Ok(first);
    }
    if shared.lock().leader_died {
        std::future::pending::<()>().await;
    }
    let second = step(&mut shared.lock(), order, back, out)?;
    Ok(StepOutcome { changed: first.changed || second.changed, ..second })
}

/// One probe round at most for what is suspect to show itself. Says whether anything was.
async fn settle(shared: &Shared, order: &Order, back: &[TrafficChange]) -> bool {
    let region = &order.plan.intent.region;
    let (mut round, began) = (Span::ZERO, shared.lock().now());
    let mut waited = false;
    loop {
        {
            let state = shared.lock();
            let services = || back.iter().filter_map(|c| state.loaded.config.services.get(&c.service));
            round = services().map(|s| s.interval.plus(s.timeout)).max().unwrap_or(round);
            let held = |s: &Service| state.leader.standing.get(&EndpointKey::new(&s.name, region));
            let suspect = services().filter_map(held).any(|standing| decide::is_open(Some(standing)));
            if !suspect || state.now() >= began + round {
                return waited;
            }
        }
        waited = true;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn step(
    state: &mut State,
    order: &Order,
    back: &[TrafficChange],
    out: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let mut chosen = vec![];
    for change in back {
        let out = out.iter().find(|o| o.service == change.service);
        chosen.extend(choose(state, order, change, out)?);
    }
    let ended = out.iter().filter(|o| !back.iter().any(|b| b.service == o.service));
    let dead = |o: &&TrafficChange| is_down(state, &o.service, &order.plan.intent.region);
    chosen.extend(ended.filter(dead).cloned());
    let moved = !chosen.is_empty();
    let outcome = publishing::move_back(state, order, &chosen)?;
    let region = &order.plan.intent.region;
    let told = back.iter().map(|change| {
        let share =
            state.store.traffic.get(&change.service).and_then(|t| t.shares.get(region)).map(|s| s.share);
        format!("{} has {} of its share in {region}", change.service, share.unwrap_or(Percent::ZERO))
    });
    let summary = told.collect::<Vec<_>>().join(", ");
    Ok(StepOutcome { changed: moved && outcome.changed, summary, ..outcome })
}

fn choose(
    state: &State,
    order: &Order,
    back: &TrafficChange,
    out: Option<&TrafficChange>,
) -> Result<Option<TrafficChange>, StepFailure> {
    let region = &order.plan.intent.region;
    let now = standing(state, &back.service)?;
    if is_down(state, &back.service, region) {
        return Ok(Some(out.unwrap_or(back).clone()));
    }
    let ours = state.store.moved.get(&(order.run.clone(), back.service.clone())) == Some(&now.generation);
    let taken_out = now.shares.get(region).is_some_and(|s| s.share == Percent::ZERO);
    let mut gaining = back.weights_after.iter().filter(|(r, w)| w.0 > now.weight(r).0);
    let loads_the_dead = gaining.any(|(r, _)| is_down(state, &back.service, r));
    let stays = order.keeps || (ours && taken_out) || loads_the_dead;
    Ok((!stays).then(|| back.clone()))
}

fn is_down(state: &State, service: &ServiceId, region: &RegionId) -> bool {
    let standing = state.leader.standing.get(&EndpointKey::new(service, region));
    standing.is_some_and(|s| s.verdict.state.moves_traffic())
}
