//! The undo of a ramp's stage: back to the last good share, or out altogether where the region is down.
//!
//! For each service by itself, by what is held of its endpoint now:
//!
//! | the region that returns is | then |
//! | --- | --- |
//! | down or unreachable | it is taken out, also where its own ramp has ended: nothing stays on a dead region |
//! | else, and this stage was validated | it stays where it is |
//! | else, and going back would give more to another region that is down | it stays where it is |
//! | else | back to the stage before, which was validated |
//!
//! The hard case is a successor that has heard nobody yet: it holds nothing for down. Going back is less than what stands,
//! so that it errs to the safe side; but what its predecessor has taken out stays out, because that one knew.
//!
//! A region dies one verdict after the other. So there are two looks: the first steps back at once, and where something is
//! suspect by then, the second takes out what has turned out to be down one probe round later.

use super::publish::{Published, not_published, publish};
use super::shift::{gains_though_down, is_down, move_targets_back, moved_so_far, standing};
use super::to_the_end::to_the_end;
use super::{done, reaching_all_but};
use crate::coordinator::Coordinator;
use crate::fault;
use drover_core::decide;
use drover_exec::Order;
use drover_model::config::Service;
use drover_model::journal::{StepFailure, StepOutcome};
use drover_model::plan::TrafficChange;
use drover_model::{EndpointKey, Percent};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks at what is suspect.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn undo(
    c: &Arc<Coordinator>,
    order: &Order,
    back: &[TrafficChange],
    out: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let all: Vec<TrafficChange> = back.iter().chain(ended(back, out)).cloned().collect();
    let (mut moved, mut missing) = step(c, order, back, out, &all).await?;
    if settle(c, order, &all).await {
        let more;
        (more, missing) = step(c, order, back, out, &all).await?;
        moved |= more;
    }
    let told: Vec<String> = all.iter().map(|change| told(c, order, change)).collect();
    Ok(reaching_all_but(missing, done(moved, told.join(", "), Vec::new())))
}

/// Services whose own ramp has ended are not moved by this stage: all they may need is to be taken out.
fn ended<'a>(back: &'a [TrafficChange], out: &'a [TrafficChange]) -> impl Iterator<Item = &'a TrafficChange> {
    out.iter().filter(|o| !back.iter().any(|b| b.service == o.service))
}

/// Moves each service to where it belongs by what is held of it now. Says whether anything moved, and which
/// DNS servers were not reached.
async fn step(
    c: &Arc<Coordinator>,
    order: &Order,
    back: &[TrafficChange],
    out: &[TrafficChange],
    all: &[TrafficChange],
) -> Result<(bool, BTreeSet<String>), StepFailure> {
    let (me, mine, all_back, all_out) = (c.clone(), order.clone(), back.to_vec(), out.to_vec());
    let moved = to_the_end(c, all, |wanted| async move {
        let mut chosen = Vec::new();
        for change in &all_back {
            let out = all_out.iter().find(|o| o.service == change.service);
            chosen.extend(choose(&me, &mine, change, out).await?);
        }
        let region = &mine.plan.intent.region;
        let dead = |o: &&TrafficChange| is_down(&me, &EndpointKey::new(&o.service, region));
        chosen.extend(ended(&all_back, &all_out).filter(dead).cloned());
        if chosen.is_empty() { Ok(false) } else { move_targets_back(&me, &mine, &chosen, &wanted).await }
    })
    .await?;
    fault::point(|| fault::within("after-move", order));
    // All of them, also what an earlier attempt moved: that attempt may have ended before DNS had it.
    let Published { left_alone, missing } = publish(c, order, all).await?;
    not_published(&left_alone).map_or(Ok((moved, missing)), Err)
}

/// A region dies one verdict after the other: what is suspect gets one probe round to show itself. Says whether anything was.
async fn settle(c: &Coordinator, order: &Order, all: &[TrafficChange]) -> bool {
    let loaded = c.loaded();
    let services = || all.iter().filter_map(|x| loaded.config.services.get(&x.service));
    let round = services().map(|s| s.interval.plus(s.timeout)).max().unwrap_or_default();
    let began = c.clock.now();
    // Half of the attempt's time is left for what follows.
    let until = (began + round).min(began + order.deadline.since(began).divided_by(2));
    let is_suspect = || {
        let live = c.live();
        let held = |s: &Service| live.standing.get(&EndpointKey::new(&s.name, &order.plan.intent.region));
        services().filter_map(held).any(|s| decide::is_open(Some(s)))
    };
    let mut waited = false;
    while is_suspect() && c.clock.now() < until {
        waited = true;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    waited
}

/// Where this service goes; nothing when it stays.
async fn choose(
    c: &Coordinator,
    order: &Order,
    back: &TrafficChange,
    out: Option<&TrafficChange>,
) -> Result<Option<TrafficChange>, StepFailure> {
    let region = &order.plan.intent.region;
    let (now, _) = standing(c, back).await?;
    if is_down(c, &EndpointKey::new(&back.service, region)) {
        if out.is_none() {
            tracing::error!(service = %back.service, "{region} is down and no other region is left: going back only (I4)");
        }
        return Ok(Some(out.unwrap_or(back).clone()));
    }
    let ours = moved_so_far(c, order).await?.generations.get(&back.service) == Some(&now.generation);
    let taken_out = now.shares.get(region).is_some_and(|s| s.share == Percent::ZERO);
    if order.keeps || (ours && taken_out) {
        return Ok(None);
    }
    if let Some(other) = gains_though_down(c, back, &now) {
        tracing::warn!(service = %back.service, "{region} keeps what it has: {other} is down and would be given more");
        return Ok(None);
    }
    Ok(Some(back.clone()))
}

/// Where the service stands now, in words.
fn told(c: &Coordinator, order: &Order, change: &TrafficChange) -> String {
    let region = &order.plan.intent.region;
    let live = c.live();
    let state = live.traffic.get(&change.service);
    let share = state.and_then(|t| t.shares.get(region)).map_or(Percent::ZERO, |s| s.share);
    let weight = state.map(|t| t.weight(region)).unwrap_or_default();
    if share == Percent::ZERO {
        format!("{} is out of {region}", change.service)
    } else {
        format!("{} has {share} of its share in {region}, weight {weight}", change.service)
    }
}
