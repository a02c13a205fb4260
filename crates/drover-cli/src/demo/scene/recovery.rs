//! What an automatic failover must have been, whatever happened to it on the way: told from the run's journal and from
//! what the clients got.

use crate::demo::crowd::Group;
use crate::demo::screen::seconds;
use crate::demo::stage::{Stage, total_weight};
use crate::failure::Result;
use drover_model::api::RunView;
use drover_model::journal::{Entry, RunState, Trigger};
use drover_model::plan::StepKind;
use drover_model::traffic::Actor;
use drover_model::{RegionId, Span, Timestamp};
use std::time::Duration;

/// The region that dies.
pub(super) const REGION: &str = "eu-west";
/// For a failover from its beginning to its end: three times what it takes.
pub(super) const WITHIN: Duration = Duration::from_secs(45);
/// Shown after the end.
const AFTER: Duration = Duration::from_millis(1_200);
/// Between the answer of the DNS server and the client's note of the time; it covers a busy machine.
const NOTED_WITHIN: Span = Span::from_millis(300);

/// Shows that it stays well.
pub(super) async fn linger() {
    tokio::time::sleep(AFTER).await;
}

/// The moments of a run that divide it into phases.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    pub decided: Option<Timestamp>,
    pub published: Option<Timestamp>,
    pub drained: Option<Timestamp>,
    pub validated: Option<Timestamp>,
}

impl Moments {
    pub(super) fn of(view: &RunView) -> Self {
        let done = |wanted: fn(&StepKind) -> bool| {
            view.timeline.iter().rev().find_map(|t| match &t.entry {
                Entry::StepDone { step, .. } => {
                    let step = view.plan.steps.get(*step as usize)?;
                    wanted(&step.kind).then_some(t.at)
                }
                _ => None,
            })
        };
        Self {
            decided: view.timeline.iter().find(|t| matches!(t.entry, Entry::Created { .. })).map(|t| t.at),
            published: done(|k| matches!(k, StepKind::ShiftTraffic { .. })),
            drained: done(|k| matches!(k, StepKind::Wait { .. })),
            validated: done(|k| matches!(k, StepKind::Validate { .. })),
        }
    }
}

/// Judges the recovery from `region`.
pub(super) async fn judge(stage: &mut Stage, region: &RegionId, moved: bool) -> Result<()> {
    let runs = stage.runs_about(region).await?;
    let Some(view) = runs.first() else {
        let found = stage
            .watcher
            .last()
            .and_then(|s| s.regions.iter().find(|r| r.name == *region).and_then(|r| r.decision.clone()));
        stage.report.expect(
            "drover starts a failover by itself",
            false,
            found.unwrap_or_else(|| "no run".to_owned()),
        );
        return Ok(());
    };
    tell(stage, view);
    started_by_itself(stage, view);
    for view in &runs {
        let state = view.summary.state;
        let what = format!("{} ends succeeded, which it may only when validated", view.summary.id);
        stage.report.expect(what, state == RunState::Succeeded, format!("{state}: {}", view.summary.summary));
        let (rta, rto) = (view.elapsed, view.rto);
        let achieved = format!("RTA {} of RTO {}", seconds(rta), seconds(rto));
        stage.report.expect(
            format!("{} takes less than the objective", view.summary.id),
            rta < rto,
            achieved.clone(),
        );
        stage.report.figure(&format!("{} from first failure to validated", view.summary.id), achieved);
    }
    let weight = stage.watcher.last().map_or(u64::MAX, |s| total_weight(&s, region));
    stage.report.expect(
        format!("{region} carries nothing any more"),
        moved && weight == 0,
        format!("weight {weight}"),
    );
    let published = runs.iter().filter_map(|v| Moments::of(v).published).max();
    clients_follow(stage, published);
    Ok(())
}

fn started_by_itself(stage: &mut Stage, view: &RunView) {
    let by_itself = view.summary.by == Actor::Automatic
        && matches!(view.trigger, Trigger::Decision { .. })
        && !view.timeline.iter().any(|t| matches!(t.entry, Entry::Created { ask: Some(_), .. }));
    let found = format!("{} by {}: {}", view.summary.id, view.summary.by, view.plan.intent.reason);
    stage.report.expect("drover starts the failover by itself", by_itself, found);
}

/// Timeline and phases of the run.
pub(super) fn tell(stage: &mut Stage, view: &RunView) {
    let (zero, m) = (stage.zero(), Moments::of(view));
    if let Trigger::Decision { first_failure_at, .. } = view.trigger {
        stage.moment("first failed probe", first_failure_at);
    }
    let moments = [
        (format!("detection: decided, {} begins", view.summary.id), m.decided),
        ("publication: new weights are live and verified".to_owned(), m.published),
        ("drain: answers with the old weights have left the caches".to_owned(), m.drained),
        ("validation: error rate, latency and availability are within their bounds".to_owned(), m.validated),
        (format!("{} is over: {}", view.summary.id, view.summary.state), view.summary.ended_at),
    ];
    for (event, at) in moments {
        if let Some(at) = at {
            stage.moment(&event, at);
        }
    }
    let bounds = [
        ("detection", Some(zero)),
        ("publication", m.decided),
        ("drain", m.published),
        ("validation", m.drained),
        ("after", m.validated),
    ];
    let end = crate::output::now();
    for (index, (name, from)) in bounds.iter().enumerate() {
        let Some(from) = from else { continue };
        let to = bounds.get(index + 1).map_or(Some(end), |(_, to)| *to).unwrap_or(end);
        stage.report.phase(name, &stage.crowd.ledger, zero, *from, to);
    }
}

/// After publication no client is sent to the dead region for longer than the TTL.
pub(super) fn clients_follow(stage: &mut Stage, published: Option<Timestamp>) {
    let ttl = stage.ttl();
    let ledger = &stage.crowd.ledger;
    let controls = ledger.between(Group::Control, stage.zero(), crate::output::now());
    let what = format!("once published, no request fails past the TTL of {}", seconds(ttl));
    let Some(published) = published else {
        stage.report.expect(what, false, "nothing was published");
        return;
    };
    let quiet = published + ttl + NOTED_WITHIN;
    let after = ledger.between(Group::Follower, quiet, crate::output::now());
    let before = ledger.between(Group::Follower, stage.zero(), quiet);
    let found = format!(
        "{} of {} failed after it, {} of {} before",
        after.failed,
        after.total(),
        before.failed,
        before.total()
    );
    let stale = ledger.count(|s| s.stale);
    stage.report.expect(what, after.failed == 0 && after.total() > 0, found);
    let nobody = format!("{} of {} requests failed", controls.failed, controls.total());
    stage.report.figure("the same time with nobody acting (control group)", nobody);
    stage.report.figure("requests sent past their TTL because DNS did not answer", stale.to_string());
}
