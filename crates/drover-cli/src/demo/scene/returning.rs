//! Scene 5: the region that was left comes back, step by step.
//!
//! Its three waits are shorter than the factor of the demo says, by one further printed factor: the shipped ones would take
//! two minutes of the viewer's time even so. What is counted and compared stays as shipped.

use super::recovery::{self, REGION, WITHIN};
use crate::demo::crowd::Group;
use crate::demo::report::RampStage;
use crate::demo::screen::seconds;
use crate::demo::stage::{Stage, total_weight};
use crate::failure::Result;
use crate::output::paint::Tone;
use drover_model::api::{FailbackView, RunView, ShareView, StatusView};
use drover_model::decision::VerdictState;
use drover_model::journal::{CheckOutcome, Entry, RunState};
use drover_model::plan::{Intent, Reversal, Step, StepKind};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::{Percent, PlanId, RegionId, RunId, Span, Timestamp};
use std::time::Duration;

/// The hold and the soak are divided by so much more, the window by half of it: 30 × 8 make 15 minutes 3.8 seconds and 5
/// minutes 1.3, which is more than the TTL of one; 30 × 4 make 2 minutes one second.
const FASTER: u64 = 8;
/// Clients that come, so that the first step is not slow for want of users: with the 520 they send each service 415 requests a
/// second, of which 1 % give the 20 samples that are asked for in 5 s. A stage is watched for ten windows, 10 s, at most.
const MORE: usize = 480;
/// Between two looks at the run.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between the answer of the DNS server and the client's note of the time; it covers a busy machine.
const NOTED_WITHIN: Span = Span::from_millis(300);
/// Standard deviations within which the clients' share must lie of the wanted one: one in a million runs lies outside.
const DEVIATIONS: f64 = 5.0;
/// A client asks DNS once for about two requests, so that every second one is no draw of its own.
const REQUESTS_A_DRAW: f64 = 2.0;
/// What caches and retries may add to that, as a share of all requests.
const SLACK: f64 = 0.01;

pub(super) async fn play(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    let standing = stage.world.api.status().await?;
    if total_weight(&standing, &region) > 0 {
        stage.trouble("SIGKILL to eu-west: checkout, catalog and the agent");
        stage.world.kill_region(&region).await;
        let left = stage.moved_off(&region, WITHIN).await;
        stage.report.expect("eu-west is left first", left, "a failover as in scene 1");
    }
    let waits = hasten(stage)?;
    stage.screen.say(&waits);
    stage.crowd.turn_over(MORE);
    stage.begin(Tone::Good, "eu-west's processes are started again");
    stage.world.heal(Some(&region)).await?;
    let Some(well) = stage.watcher.until(WITHIN, |s| well_since(s, &region)).await else {
        stage.report.expect("eu-west is held for healthy again", false, "it is not");
        return Ok(());
    };
    stage.moment("eu-west is held for healthy by a quorum", well);
    too_early(stage, &region).await?;
    if !offered(stage, &region).await {
        return Ok(());
    }
    let view = stage.world.api.plan(wish(&region), "demo-failback").await?;
    let Some(plan) = view.planned.plan else {
        let refusals: Vec<String> = view.planned.refusals.iter().map(ToString::to_string).collect();
        stage.report.expect("the offer can be taken", false, refusals.join("; "));
        return Ok(());
    };
    climb(stage, &region, &plan.id).await
}

/// Shortens the waits, and says by how much.
fn hasten(stage: &mut Stage) -> Result<String> {
    let of = |stage: &Stage| {
        let service = stage.world.config.services.values().next();
        service.map(|s| [s.failover.failback.stable_hold, s.failover.soak, s.validation.window])
    };
    stage.world.hasten(FASTER)?;
    let [hold, soak, window] = of(stage).unwrap_or_default().map(seconds);
    Ok(format!(
        "The waits of a failback are shorter still here: a stable hold of {hold} and a soak of {soak} at each step (divided \
         by {FASTER} once more), a validation window of {window} that is watched on until there are enough samples (by {}). \
         The clients that never look at DNS go, and {MORE} more come that do.",
        FASTER / 2
    ))
}

/// Since when every endpoint of the region is healthy, when all are.
fn well_since(status: &StatusView, region: &RegionId) -> Option<Timestamp> {
    let endpoints = || status.services.iter().flat_map(|s| &s.endpoints).filter(|e| e.region == *region);
    let well = endpoints().all(|e| e.verdict == VerdictState::Healthy);
    endpoints().filter_map(|e| e.since).max().filter(|_| well)
}

fn wish(region: &RegionId) -> Intent {
    Intent {
        purpose: Purpose::Failback,
        services: Vec::new(),
        region: region.clone(),
        to: None,
        automatic: false,
        hold_for: None,
        reason: "it is back".into(),
        accept: Vec::new(),
    }
}

/// A person in a hurry is told what is missing.
async fn too_early(stage: &mut Stage, region: &RegionId) -> Result<()> {
    let view = stage.world.api.plan(wish(region), "demo-too-early").await?;
    let refusal = view.planned.refusals.first();
    let told = refusal.map_or_else(|| "it was not refused".to_owned(), ToString::to_string);
    stage.happens(&format!("drover failback --all --from eu-west: refused, {told}"));
    let early = view.planned.plan.is_none() && matches!(refusal, Some(Reason::StableHold { .. }));
    stage.report.expect("a failback before the hold is over is refused, with its numbers", early, told);
    Ok(())
}

async fn offered(stage: &mut Stage, region: &RegionId) -> bool {
    // Each service has a hold of its own; the scene brings them back together.
    let all = stage.services().len();
    let offer = |s: &StatusView| {
        let whole = |f: &&FailbackView| f.region == *region && f.offered && f.services.len() == all;
        let view = s.failbacks.iter().find(whole)?;
        Some((view.clone(), s.at, total_weight(s, region)))
    };
    let found = stage.watcher.until(WITHIN, offer).await;
    let what = "drover offers it once the hold is over, with the command";
    let Some((
        FailbackView { reason: Reason::FailbackOffered { stable_since, hold, .. }, next, .. },
        at,
        weight,
    )) = found
    else {
        stage.report.expect(what, false, "nothing was offered");
        return false;
    };
    let next = next.unwrap_or_default();
    stage.happens(&format!("drover offers: {next}"));
    let stable = at.since(stable_since);
    let found = format!("stable for {} of {}: {next}", seconds(stable), seconds(hold));
    let command = format!("drover failback --all --from {region} --reason TEXT");
    stage.report.expect(what, stable >= hold && next == command, found);
    let unmoved = "it is offered, not done: nothing comes back by itself";
    stage.report.expect(unmoved, weight == 0, format!("weight {weight} in {region}"));
    true
}

async fn climb(stage: &mut Stage, region: &RegionId, plan: &PlanId) -> Result<()> {
    let run = stage.world.api.apply(plan, "it is back").await?.id;
    let began = crate::output::now();
    let Ok(view) = tokio::time::timeout(WITHIN * 2, follow(stage, &run)).await else {
        stage.report.expect("the failback ends", false, "it goes on");
        return Ok(());
    };
    let view = view?;
    recovery::linger().await;
    let ended = format!("{}: {}", view.summary.state, view.summary.summary);
    let state = view.summary.state;
    stage.report.expect(format!("{run} ends succeeded"), state == RunState::Succeeded, ended);
    stages(stage, region, &view);
    let requests = stage.crowd.ledger.between(Group::Follower, began, crate::output::now());
    let found = format!("{} of {} failed", requests.failed, requests.total());
    stage.report.expect(
        "no request fails on the way back",
        requests.failed == 0 && requests.total() > 0,
        found,
    );
    let full = stage.watcher.last().is_some_and(|s| {
        let mut own = s.services.iter().flat_map(|s| &s.endpoints).filter(|e| e.region == *region);
        own.all(|e| e.weight == e.configured_weight && e.weight.0 > 0)
    });
    stage.report.expect(
        "eu-west carries its full share again",
        full,
        if full { "it does" } else { "it does not" },
    );
    Ok(())
}

/// Tells each stage as it is published, until the run is over.
async fn follow(stage: &mut Stage, run: &RunId) -> Result<RunView> {
    let mut told = 0;
    loop {
        let view = stage.world.api.run(run).await?;
        let done = view.steps.iter().filter(|s| !s.shares.is_empty() && s.state == "done");
        let sentences: Vec<String> = done.flat_map(|s| sentences(&s.shares)).collect();
        for sentence in sentences.iter().skip(told) {
            stage.happens(sentence);
        }
        told = sentences.len();
        if view.summary.state.is_final() || view.summary.state == RunState::Paused {
            return Ok(view);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is known of one stage so far.
fn sentences(shares: &[ShareView]) -> Vec<String> {
    let Some(s) = shares.first() else { return Vec::new() };
    let wanted = format!("{} of its share: weight {}, {} of all requests wanted", s.ramp, s.weight, s.wanted);
    let measured =
        together(shares).map(|m| format!("{} of its share: {} wanted, {m} measured", s.ramp, s.wanted));
    std::iter::once(wanted).chain(measured).collect()
}

/// What a stage measured in the region, of all requests of all services; nothing until each of them was.
fn together(shares: &[ShareView]) -> Option<Percent> {
    let (mut own, mut all) = (0, 0);
    for share in shares {
        own += u64::from(share.measured?.basis_points()) * share.requests;
        all += u64::from(Percent::FULL.basis_points()) * share.requests;
    }
    (all > 0).then(|| Percent::of(own, all))
}

/// Wanted share beside measured share, for each stage.
fn stages(stage: &mut Stage, region: &RegionId, view: &RunView) {
    let is_stage = |s: &Step| matches!(s.reversal, Reversal::StepBack { .. });
    let shifts: Vec<usize> = (0..view.plan.steps.len()).filter(|i| is_stage(&view.plan.steps[*i])).collect();
    for (number, at) in shifts.iter().enumerate() {
        let until = shifts.get(number + 1).copied();
        let Some(found) = measure(stage, region, view, *at, until) else {
            stage.report.expect(format!("stage {} is published", number + 1), false, "it was not");
            continue;
        };
        let (wanted, sent) = (found.wanted.as_fraction(), found.sent.as_fraction());
        #[allow(clippy::cast_precision_loss)] // Some thousands.
        let draws = (found.requests as f64 / REQUESTS_A_DRAW).max(1.0);
        let tolerance = DEVIATIONS * (wanted * (1.0 - wanted) / draws).sqrt() + SLACK;
        let met = found.requests > 0 && sent > 0.0 && (sent - wanted).abs() <= tolerance;
        let what = format!("{} of its share: clients send what was wanted", found.of_its_share);
        let told = format!("{} wanted, {} of {} requests sent", found.wanted, found.sent, found.requests);
        stage.report.expect(what, met, told);
        let judged = !found.own_samples.is_empty() && found.own_samples.iter().all(|n| *n > 0);
        let samples: Vec<String> = found.own_samples.iter().map(ToString::to_string).collect();
        let what = format!("{} of its share: judged by eu-west's own requests", found.of_its_share);
        stage.report.expect(what, judged, format!("{} samples", samples.join(" and ")));
        stage.report.ramp.push(found);
    }
}

/// One stage: from when caches had followed until the next one was published.
fn measure(
    stage: &Stage,
    region: &RegionId,
    view: &RunView,
    at: usize,
    until: Option<usize>,
) -> Option<RampStage> {
    let done = |index: usize| {
        let entry = view
            .timeline
            .iter()
            .find(|t| matches!(t.entry, Entry::StepDone { step, .. } if step as usize == index));
        entry.map(|t| t.at)
    };
    let begun = |index: usize| {
        let entry = view
            .timeline
            .iter()
            .find(|t| matches!(t.entry, Entry::StepStarted { step, .. } if step as usize == index));
        entry.map(|t| t.at)
    };
    let from = done(at)? + stage.ttl() + NOTED_WITHIN;
    let to = match until {
        Some(next) => begun(next)?,
        None => view.summary.ended_at?,
    };
    let by_region = stage.crowd.ledger.by_region_between(Group::Follower, from, to);
    let requests = by_region.values().map(|c| c.total()).sum();
    let own = by_region.get(region).copied().unwrap_or_default().total();
    let shares = &view.steps.get(at)?.shares;
    let first = shares.first()?;
    let validated =
        view.plan.steps.iter().zip(&view.steps).skip(at).take(until.unwrap_or(usize::MAX).saturating_sub(at));
    let own_samples = validated
        .filter(|(step, _)| matches!(step.kind, StepKind::Validate { .. }))
        .flat_map(|(_, step)| &step.measurements)
        .filter(|m| m.name.starts_with("error_rate") && m.name.ends_with(&format!("@{region}")))
        .filter(|m| m.outcome == CheckOutcome::Pass)
        .map(|m| m.samples)
        .collect();
    Some(RampStage {
        step: view.steps.get(at)?.id.clone(),
        of_its_share: first.ramp,
        weight: first.weight.0,
        wanted: first.wanted,
        sent: Percent::of(own, requests),
        requests,
        measured: together(shares),
        own_samples,
        failed: by_region.values().map(|c| c.failed).sum(),
    })
}
