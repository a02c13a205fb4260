//! Scene 3: the other regions could not carry the traffic, so that drover asks.

use super::pages_of;
use super::recovery::{self, Moments, REGION, WITHIN};
use crate::demo::stage::{Stage, total_weight};
use crate::failure::Result;
use drover_model::api::{RunSummary, RunView, StatusView};
use drover_model::journal::{Entry, RunState};
use drover_model::{RegionId, RequestsPerSecond, ServiceId};
use std::time::Duration;

/// What an endpoint of checkout carries in this scene: less a tenth for headroom it is 108. A third of the service's
/// declared 300 requests a second fits, half of them does not.
const CAPACITY: RequestsPerSecond = RequestsPerSecond(120);
/// A question stands for so long before the demo's person answers it.
const STANDS: Duration = Duration::from_secs(3);
/// For the page to arrive.
const PAGED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn reduced() -> Option<(ServiceId, RequestsPerSecond)> {
    Some((ServiceId::new("checkout").ok()?, CAPACITY))
}

fn waits(run: &RunSummary) -> bool {
    run.state == RunState::AwaitingApproval
}

pub(super) async fn play(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    let before = stage.world.api.status().await?;
    stage.trouble("SIGKILL to eu-west: checkout, catalog and the agent");
    stage.world.kill_region(&region).await;
    let Some(asked) = stage.run_about(&region, WITHIN, waits).await else {
        let found = stage.world.api.explain(&region).await?.sentence;
        stage.report.expect("drover asks", false, found);
        return Ok(());
    };
    let view = stage.world.api.run(&asked.id).await?;
    stage.happens(&format!("drover asks: {}", view.plan.intent.reason));
    asks(stage, &region, &view).await?;
    paged(stage, &view).await;
    tokio::time::sleep(STANDS).await;
    let standing = stage.world.api.status().await?;
    unmoved(stage, &view, &before, &standing, &region);

    let expires = view.expires_at.map(|t| t.since(view.summary.started_at).to_string()).unwrap_or_default();
    let command = format!("drover approve {} --reason \"half of the users is better than none\"", asked.id);
    stage.happens(&format!("a person answers: {command}"));
    stage.report.figure("without an answer the question expires as expired_unapproved after", expires);
    stage.world.api.approve(&asked.id, &view.plan.id, "half of the users is better than none").await?;
    answered(stage, &region, &view).await
}

async fn asks(stage: &mut Stage, region: &RegionId, view: &RunView) -> Result<()> {
    let asked = view.summary.state == RunState::AwaitingApproval && recovery::asked(view);
    let found = format!("{} is {}", view.summary.id, view.summary.state);
    stage.report.expect("drover does not move the traffic, it asks", asked, found);
    let history = stage.world.api.explain(region).await?.history;
    let refused = history.iter().find(|d| d.code == "capacity_insufficient");
    let found = refused.map_or_else(|| "no such decision".to_owned(), |d| d.sentence.clone());
    stage.report.expect("the reason is capacity, with its arithmetic", refused.is_some(), found);
    Ok(())
}

async fn paged(stage: &mut Stage, view: &RunView) {
    let run = view.summary.id.as_str();
    let looking = async {
        loop {
            let pages = pages_of(stage);
            let about = pages
                .into_iter()
                .find(|p| p.key.contains(run) || p.subject == run || p.message.contains(run));
            match about {
                Some(page) => return page,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let page = tokio::time::timeout(PAGED_WITHIN, looking).await.ok();
    let found = page.as_ref().map_or_else(|| "no page came".to_owned(), |p| p.message.clone());
    stage.report.expect("a person is paged", page.is_some(), found);
}

/// What is asked about stays where it is. A service that fits moves meanwhile, by itself.
fn unmoved(stage: &mut Stage, asked: &RunView, before: &StatusView, now: &StatusView, region: &RegionId) {
    for service in &asked.summary.services {
        let weight = |s: &StatusView| {
            let view = s.services.iter().find(|v| v.name == *service)?;
            view.endpoints.iter().find(|e| e.region == *region).map(|e| e.weight.0)
        };
        let (was, is) = (weight(before).unwrap_or(0), weight(now).unwrap_or(0));
        let what = format!("while nobody answers, {service} stays: silence is not consent");
        stage.report.expect(what, was == is && is > 0, format!("weight {was} in {region}, then {is}"));
    }
}

async fn answered(stage: &mut Stage, region: &RegionId, asked: &RunView) -> Result<()> {
    let left = |s: &StatusView| (total_weight(s, region) == 0).then_some(());
    let moved = stage.watcher.until(WITHIN, left).await.is_some();
    stage.run_about(region, WITHIN, |r| r.id == asked.summary.id && r.state.is_final()).await;
    recovery::linger().await;
    let view = stage.world.api.run(&asked.summary.id).await?;
    recovery::tell(stage, region, &view).await?;
    let approved = view
        .timeline
        .iter()
        .any(|t| matches!(&t.entry, Entry::Approved { plan, .. } if *plan == asked.plan.id));
    let found = format!("{} is {}", view.summary.id, view.summary.state);
    stage.report.expect("approved, exactly the plan that was shown runs", approved && moved, found);
    recovery::in_time(stage, &view);
    recovery::clients_follow(stage, Moments::of(&view).published);
    Ok(())
}
