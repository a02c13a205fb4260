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
    pub approved: Option<Timestamp>,
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
        let first =
            |wanted: fn(&Entry) -> bool| view.timeline.iter().find(|t| wanted(&t.entry)).map(|t| t.at);
        Self {
            decided: first(|e| matches!(e, Entry::Created { .. })),
            approved: first(|e| matches!(e, Entry::Approved { .. })),
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
    tell(stage, region, view).await?;
    started_by_itself(stage, view);
    for view in &runs {
        let state = view.summary.state;
        let what = format!("{} ends succeeded, which it may only when validated", view.summary.id);
        stage.report.expect(what, state == RunState::Succeeded, format!("{state}: {}", view.summary.summary));
        in_time(stage, view);
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

/// The objective holds from the first failure to the end, a person's thinking included.
pub(super) fn in_time(stage: &mut Stage, view: &RunView) {
    let (rta, rto) = (view.elapsed, view.rto);
    let achieved = format!("RTA {} of RTO {}", seconds(rta), seconds(rto));
    let what = format!("{} takes less than the objective", view.summary.id);
    stage.report.expect(what, rta < rto, achieved.clone());
    stage.report.figure(&format!("{} from first failure to validated", view.summary.id), achieved);
}

fn started_by_itself(stage: &mut Stage, view: &RunView) {
    let by_itself = view.summary.by == Actor::Automatic
        && matches!(view.trigger, Trigger::Decision { .. })
        && !asked(view);
    let found = format!("{} by {}: {}", view.summary.id, view.summary.by, view.plan.intent.reason);
    stage.report.expect("drover starts the failover by itself", by_itself, found);
}

/// When a quorum first agreed that something in the region fails, from the verdicts that were stored.
async fn detected(stage: &Stage, region: &RegionId) -> Result<Option<Timestamp>> {
    let (decisions, within) = (stage.world.api.decisions().await?, format!("@{region}"));
    let agreed = decisions.iter().filter(|d| d.code == "quorum_reached" && d.subject.ends_with(&within));
    Ok(agreed.map(|d| d.at).filter(|at| *at >= stage.zero()).min())
}

/// Timeline and phases of the run that recovers from the end of `region`.
pub(super) async fn tell(stage: &mut Stage, region: &RegionId, view: &RunView) -> Result<()> {
    let detected = detected(stage, region).await?;
    let (zero, m) = (stage.zero(), Moments::of(view));
    if let Trigger::Decision { first_failure_at, .. } = view.trigger {
        stage.moment("first failed probe", first_failure_at);
    }
    let moments = [
        ("detection: a quorum of outside vantages sees it fail".to_owned(), detected),
        (decision(view), m.decided),
        ("approval: a person takes it on".to_owned(), m.approved),
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
    let begins = [
        ("detection", Some(zero)),
        ("decision", detected),
        ("approval", m.approved.and(m.decided)),
        ("publication", m.approved.or(m.decided)),
        ("drain", m.published),
        ("validation", m.drained),
        ("after", m.validated),
    ];
    let begins: Vec<_> = begins.into_iter().filter_map(|(name, from)| Some((name, from?))).collect();
    let now = crate::output::now();
    let ends = begins.iter().skip(1).map(|(_, from)| *from).chain([now]);
    for ((name, from), to) in begins.iter().zip(ends) {
        stage.report.phase(name, &stage.crowd.ledger, zero, *from, to);
    }
    Ok(())
}

/// Did it begin as a question?
pub(super) fn asked(view: &RunView) -> bool {
    view.timeline.iter().any(|t| matches!(t.entry, Entry::Created { ask: Some(_), .. }))
}

/// What was decided: to move by itself, or to ask.
fn decision(view: &RunView) -> String {
    match asked(view) {
        true => format!("decision: a guard holds it back, {} asks a person", view.summary.id),
        false => format!("decision: every guard has passed, {} begins", view.summary.id),
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
