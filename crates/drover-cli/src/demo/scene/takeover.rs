//! Scene 4: the coordinator dies in the middle of a failover, and its successor finishes.

use super::recovery::{self, REGION, WITHIN};
use crate::demo::stage::Stage;
use crate::failure::Result;
use drover_model::RunId;
use drover_model::journal::Entry;
use drover_model::plan::StepKind;
use std::time::Duration;

/// Between two looks at the run: publication and its verification take milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn play(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    stage.trouble("SIGKILL to eu-west: checkout, catalog and the agent");
    stage.world.kill_region(&region).await;
    if let Some(run) = stage.run_about(&region, WITHIN, |_| true).await {
        let shifted = tokio::time::timeout(WITHIN, shifted(stage, &run.id)).await.is_ok();
        let first = stage.world.supervisor()?.pid();
        stage.world.supervisor()?.kill().await;
        let pid = first.map_or_else(|| "?".to_owned(), |p| p.to_string());
        stage.happens(&format!(
            "SIGKILL to the coordinator (process {pid}), which has just moved the traffic"
        ));
        stage.report.expect(
            "new weights are out when the coordinator dies",
            shifted,
            format!("{} had published", run.id),
        );
    }
    let moved = stage.moved_off(&region, WITHIN).await;
    recovery::linger().await;
    recovery::judge(stage, &region, moved).await?;
    taken_over(stage).await?;
    published_once(stage).await
}

/// Returns when the step that moves traffic is in the run's journal.
async fn shifted(stage: &Stage, run: &RunId) {
    loop {
        if let Ok(view) = stage.world.api.run(run).await {
            let is_shift = |n: u32| {
                view.plan
                    .steps
                    .get(n as usize)
                    .is_some_and(|s| matches!(s.kind, StepKind::ShiftTraffic { .. }))
            };
            if view.timeline.iter().any(|t| matches!(t.entry, Entry::StepDone { step, .. } if is_shift(step)))
            {
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn taken_over(stage: &mut Stage) -> Result<()> {
    let region = stage.world.region(REGION)?;
    let runs = stage.runs_about(&region).await?;
    let takeover =
        runs.iter().flat_map(|v| &v.timeline).find(|t| matches!(t.entry, Entry::TakenOver)).map(|t| t.at);
    let starts = stage.world.supervisor()?.starts();
    let found = format!(
        "{starts} coordinators, takeover {}in the journal",
        if takeover.is_some() { "" } else { "not " }
    );
    stage.report.expect("a successor takes the run over", takeover.is_some() && starts == 2, found);
    if let Some(at) = takeover {
        stage.moment("the successor goes on with the run", at);
    }
    let stale = stage.crowd.ledger.count(|s| s.stale && s.at >= stage.zero());
    let found = format!("{stale} requests were sent past their TTL for want of an answer");
    stage.report.expect("DNS answers all the time, coordinator or not", stale == 0, found);
    Ok(())
}

/// The DNS instance's own log: each generation of each record set was applied once.
async fn published_once(stage: &mut Stage) -> Result<()> {
    let applied = stage.world.dns_changes().await?;
    let twice: Vec<String> =
        applied.iter().filter(|(_, n)| **n > 1).map(|(what, n)| format!("{what} {n} times")).collect();
    let found =
        if twice.is_empty() { format!("{} changes, none twice", applied.len()) } else { twice.join(", ") };
    stage.report.expect(
        "each generation was applied once in DNS",
        twice.is_empty() && !applied.is_empty(),
        found,
    );
    Ok(())
}
