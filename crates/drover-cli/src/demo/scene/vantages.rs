//! Scene 2: two vantages are cut off from a healthy region, and nothing happens.

use super::recovery::REGION;
use crate::demo::crowd::Group;
use crate::demo::screen::seconds;
use crate::demo::stage::Stage;
use crate::failure::Result;
use drover_model::decision::VantageState;
use drover_model::reason::Reason;
use std::time::Duration;

/// The region whose vantage loses everything.
const BLIND: &str = "us-east";
/// The region whose vantage loses one link.
const CUT: &str = "ap-south";
/// So many times the longest detection is waited.
const DETECTIONS: u64 = 2;
/// For the cut vantages to be seen as what they are.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn play(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    let (blind, cut) = (stage.world.region(BLIND)?, stage.world.region(CUT)?);
    let before = stage.world.api.status().await?;
    stage.trouble("packets are dropped: us-east's agent sees nothing, ap-south's agent not eu-west");
    stage.world.blind(&blind).await?;
    stage.world.cut_view(&cut, &region).await?;
    let zero = stage.zero();
    let wait = stage.detection().times(DETECTIONS);

    let noticed = stage
        .watcher
        .until(NOTICED_WITHIN, |s| {
            let blind = s.vantages.iter().find(|v| v.region == blind && v.state == VantageState::Blind);
            blind.map(|v| v.agent.clone())
        })
        .await;
    tokio::time::sleep((zero + wait).since(crate::output::now()).to_duration()).await;

    let explained = stage.world.api.explain(&region).await?;
    stage.happens(&format!("drover explain eu-west: {}", explained.sentence));
    let after = stage.world.api.status().await?;
    stage.curtain();

    let known = noticed.as_ref().map_or_else(|| "nobody is".to_owned(), |agent| format!("{agent} is"));
    stage.report.expect("the vantage that sees nothing is known to be blind", noticed.is_some(), known);
    let disagree = explained
        .decisions
        .iter()
        .any(|d| matches!(d.reason, Reason::QuorumNotReached { failing: 1, configured: 3, need: 2 }));
    stage.report.expect("drover says why it does nothing", disagree, explained.sentence.clone());
    let what = format!("nothing is done for {DETECTIONS} times the longest detection ({})", seconds(wait));
    stage.report.expect(what, after.runs.is_empty(), format!("{} runs", after.runs.len()));
    let generations = |s: &drover_model::api::StatusView| {
        s.services.iter().map(|v| (v.name.clone(), v.generation)).collect::<Vec<_>>()
    };
    let same = generations(&before) == generations(&after);
    stage.report.expect("weights are untouched", same, if same { "same generations" } else { "they moved" });
    let requests = stage.crowd.ledger.between(Group::Follower, zero, crate::output::now());
    let found = format!("{} of {} failed", requests.failed, requests.total());
    stage.report.expect("no request fails", requests.failed == 0 && requests.total() > 0, found);
    Ok(())
}
