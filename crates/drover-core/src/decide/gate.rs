//! The guards between a verdict and an action, in the order in which they decide.

use super::{Case, Checker, Planner, Seen, hold_back, repeat};
use crate::damping::{self, Damping};
use crate::{quorum, sweep};
use drover_model::config::RegionRole;
use drover_model::decision::{ActionDecision, Conclusion, FailureClass, GuardResult, VerdictState};
use drover_model::plan::{ActiveRun, Finding, Intent, StandingVerdict, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::{RegionId, ServiceId, Span, Timestamp};
use std::collections::BTreeSet;

/// What one guard said, and what follows when it refused.
struct Gate {
    guard: &'static str,
    refusal: Option<Refused>,
    /// Told when it passed.
    passed: Reason,
}

struct Refused {
    reason: Reason,
    conclusion: Conclusion,
    look_again_at: Option<Timestamp>,
}

impl Gate {
    fn new(guard: &'static str, refusal: Option<Refused>) -> Self {
        Self { guard, refusal, passed: Reason::Passed }
    }

    fn result(&self) -> GuardResult {
        let reason = self.refusal.as_ref().map_or(&self.passed, |r| &r.reason).clone();
        GuardResult { guard: self.guard.into(), passed: self.refusal.is_none(), reason }
    }
}

fn refuse(conclusion: Conclusion, reason: Reason, look_again_at: Option<Timestamp>) -> Option<Refused> {
    Some(Refused { reason, conclusion, look_again_at })
}

/// What the guards make of the case. What is left to do or to ask is planned and checked here and now, so that what is
/// stored, explained and run again later is all there was to the decision.
pub(super) fn decide_case(case: &Case<'_>, planner: Planner<'_>, checker: Checker<'_>) -> ActionDecision {
    unless_unsound(case.world, case.now, guarded(case, planner), planner, checker)
}

/// What would be repeated too soon, or has no plan that passes the second pair of eyes, is neither done nor asked.
pub(super) fn unless_unsound(
    world: &World,
    now: Timestamp,
    mut decision: ActionDecision,
    planner: Planner<'_>,
    checker: Checker<'_>,
) -> ActionDecision {
    if decision.conclusion != Conclusion::Hold
        && let Some((reason, until)) = repeat::too_soon(world, &decision, now)
    {
        hold_back(&mut decision, "repeat", reason, Some(until));
    }
    if decision.conclusion != Conclusion::Hold
        && let Some((guard, reason)) = no_sound_plan(world, now, &decision, planner, checker)
    {
        let asked_because =
            (guard == "plan" && decision.conclusion == Conclusion::Ask).then(|| decision.reason.clone());
        hold_back(&mut decision, guard, reason, None);
        // Where there is nothing to agree to, why drover would have asked still tells more than that: everything fails
        // at once, say, and so there is no target either.
        decision.reason = asked_because.unwrap_or(decision.reason);
    }
    decision
}

/// Why there is nothing to do or to ask after all: no plan, or one that the second pair of eyes rejects. What a person
/// is asked to overrule, the checker finds too; anything else that it finds stops the question as well.
fn no_sound_plan(
    world: &World,
    now: Timestamp,
    decision: &ActionDecision,
    planner: Planner<'_>,
    checker: Checker<'_>,
) -> Option<(&'static str, Reason)> {
    let planned = planner(world, &super::intent_of(decision), now);
    let Some(plan) = planned.plan else {
        return Some(("plan", planned.refusals.into_iter().next().unwrap_or(Reason::NothingToDo)));
    };
    let asked = decision.conclusion == Conclusion::Ask;
    let stops = |f: &Finding| !(asked && crate::check::a_person_may_overrule(f));
    let found = checker(&plan, world).into_iter().find(stops)?;
    cov_mark::hit!(unsound_plan_holds);
    Some(("check", Reason::CheckFailed { finding: format!("{}: {}", found.invariant, found.message) }))
}

fn guarded(case: &Case<'_>, planner: Planner<'_>) -> ActionDecision {
    let gates = [
        Gate::new("freeze", freeze(case)),
        Gate::new("run_in_progress", run_in_progress(case)),
        // Before any gate that asks: a person should be asked once, about the whole of it.
        Gate::new("settling", settling(case)),
        Gate::new("automatic", automatic(case)),
        Gate { passed: agreement(case), ..Gate::new("quorum", too_few_vantages(case)) },
        Gate::new("quiet_after_takeover", quiet_after_takeover(case)),
        Gate::new("common_cause", common_cause(case)),
        Gate::new("block_period", block_period(case)),
        Gate::new("flap_damping", flap_damping(case)),
    ];
    let mut guards: Vec<GuardResult> = gates.iter().map(Gate::result).collect();
    let planned = ask_planner(case, planner, &mut guards);
    let deciding = gates.into_iter().find_map(|gate| gate.refusal).or(planned.refusal);
    let mut services = case.services();
    let (conclusion, reason, look_again_at) = match deciding {
        Some(refused) => (refused.conclusion, refused.reason, refused.look_again_at),
        None => {
            services.retain(|s| planned.moves.contains(s));
            (Conclusion::Act, agreement(case), None)
        }
    };
    ActionDecision {
        purpose: Purpose::Failover,
        region: case.region.clone(),
        services,
        class: case.class,
        conclusion,
        guards,
        reason,
        look_again_at,
    }
}

/// The agreement behind the move: of several services, that with the fewest vantages behind it.
fn agreement(case: &Case<'_>) -> Reason {
    let verdicts = case.moving.iter().filter_map(|s| s.standing).map(|s| &s.verdict);
    verdicts.min_by_key(|v| v.failing).map_or(Reason::NothingToDo, |v| v.reason.clone())
}

fn freeze(case: &Case<'_>) -> Option<Refused> {
    let freeze = case.world.freeze.as_ref().filter(|f| f.holds_at(case.now))?;
    cov_mark::hit!(i8_frozen_holds);
    let until = freeze.expires_at;
    let reason = Reason::Frozen { by: freeze.by.to_string(), why: freeze.reason.clone(), until };
    refuse(Conclusion::Hold, reason, until)
}

/// A question about another region stops nothing: nothing of it is in flight.
fn run_in_progress(case: &Case<'_>) -> Option<Refused> {
    let services = case.services();
    let touching = |run: &&ActiveRun| run.services.iter().any(|s| services.contains(s));
    if let Some(run) = case.world.runs.iter().filter(|r| !r.awaiting_approval).find(touching) {
        cov_mark::hit!(i2_run_in_progress_holds);
        let service = run.services.iter().find(|s| services.contains(s))?.clone();
        let (run, by) = (run.run.clone(), run.by.clone());
        return refuse(Conclusion::Hold, Reason::RunInProgress { service, run, by }, None);
    }
    // What a person wants others to agree to must not keep drover from what it may do by itself.
    let same_question =
        |run: &&ActiveRun| run.region == *case.region && touching(run) && !run.is_a_persons_question();
    let run = case.world.runs.iter().find(same_question)?;
    cov_mark::hit!(already_asked_holds);
    refuse(Conclusion::Hold, Reason::AlreadyAsked { run: run.run.clone() }, None)
}

fn automatic(case: &Case<'_>) -> Option<Refused> {
    let manual = case.moving.iter().find(|s| !s.service.failover.automatic)?;
    cov_mark::hit!(not_automatic_asks);
    refuse(Conclusion::Ask, Reason::NotAutomatic { service: manual.service.name.clone() }, None)
}

fn too_few_vantages(case: &Case<'_>) -> Option<Refused> {
    let view = quorum::possible_for(case.world, case.region, &case.services());
    if view.configured >= view.need {
        return None;
    }
    cov_mark::hit!(i6_too_few_vantages_asks);
    let reason = Reason::TooFewVantages {
        region: case.region.clone(),
        configured: view.configured,
        need: view.need,
        abstaining: view.abstaining,
    };
    refuse(Conclusion::Ask, reason, None)
}

/// Who has not probed since the takeover abstains: those that have must be a quorum among themselves, and it is not enough
/// that others, who see it well, have looked meanwhile. No time ends this: an opinion formed before the takeover is stale
/// after three intervals, so that a vantage which has not been heard with a fresh probe by then abstains anyway.
fn quiet_after_takeover(case: &Case<'_>) -> Option<Refused> {
    let view = quorum::possible_for(case.world, case.region, &case.services());
    let outside = case.world.config.outside_vantages(case.region);
    let heard = outside.iter().filter(|a| case.world.heard_since_start.contains(a)).count();
    let heard = u32::try_from(heard).unwrap_or(u32::MAX);
    // Where fewer are configured than needed, all of them are waited for.
    let wanted = |need: u32| need.min(view.configured);
    // Each service by its own need: how much another one's policy asks for says nothing of this one.
    let verdicts = case.moving.iter().filter_map(|s| s.standing).map(|s| &s.verdict);
    let anew = verdicts.map(|v| (v.failing.saturating_sub(v.unconfirmed).min(heard), wanted(v.need)));
    let short = |(heard, need): &(u32, u32)| heard < need;
    let (heard, need) = match case.moving.iter().any(|s| s.standing.is_some()) {
        true => anew.filter(short).min_by_key(|(heard, need)| i64::from(*heard) - i64::from(*need))?,
        false => Some((heard, wanted(view.need))).filter(short)?,
    };
    cov_mark::hit!(i6_quiet_after_takeover);
    refuse(Conclusion::Hold, Reason::QuietAfterTakeover { heard, need }, None)
}

/// The breaker: more than the configured share of the serving regions got into trouble inside one window (I6). Windows
/// are taken around this trouble's beginning and not around the present: a breaker that lapsed with time, while
/// everything still fails, would act in the end on just what it was built to doubt.
fn common_cause(case: &Case<'_>) -> Option<Refused> {
    let settings = &case.world.config.settings.vantage;
    let failed = failed_with_it(case, settings.common_cause_window);
    let serving = case.world.config.regions.values().filter(|r| r.role == RegionRole::Serving);
    let (mut regions, mut failing) = (0u32, 0u32);
    for region in serving.filter(|r| case.world.config.services_in(&r.name).next().is_some()) {
        regions += 1;
        if region.name == *case.region || failed.contains(&region.name) {
            failing += 1;
        }
    }
    if u64::from(failing) * 10_000
        <= u64::from(regions) * u64::from(settings.common_cause_share.basis_points())
    {
        return None;
    }
    cov_mark::hit!(i6_common_cause_asks);
    let (share, window) = (settings.common_cause_share, settings.common_cause_window);
    refuse(Conclusion::Ask, Reason::CommonCause { failing, regions, share, window }, None)
}

/// Regions in which something still fails whose trouble began less than `window` from that of something that would move.
fn failed_with_it<'a>(case: &Case<'a>, window: Span) -> BTreeSet<&'a RegionId> {
    let ours: Vec<Timestamp> =
        case.moving.iter().filter_map(|s| s.standing.and_then(damping::troubled_since)).collect();
    let together =
        |theirs: Timestamp| ours.iter().any(|t| t.since(theirs) < window && theirs.since(*t) < window);
    sweep::everything(case.world)
        .filter(|(_, _, standing)| standing.and_then(damping::troubled_since).is_some_and(together))
        .map(|(_, region, _)| region)
        .collect()
}

/// While the verdict is younger than one probe round and something else is suspect, the whole of it is not seen yet.
fn settling(case: &Case<'_>) -> Option<Refused> {
    let settled_at = |s: &&Seen<'_>| {
        let since = s.standing.map(|standing| damping::troubled_since(standing).unwrap_or(standing.since))?;
        Some(since + s.service.interval.plus(s.service.timeout))
    };
    let until = case.moving.iter().filter_map(settled_at).max()?;
    if case.now >= until || !something_else_is_open(case) {
        return None;
    }
    cov_mark::hit!(settling_waits_one_round);
    refuse(Conclusion::Hold, Reason::Settling { region: case.region.clone(), until }, Some(until))
}

/// Is any other endpoint suspect, or not concluded about?
fn something_else_is_open(case: &Case<'_>) -> bool {
    let moving: BTreeSet<&ServiceId> = case.moving.iter().map(|seen| &seen.service.name).collect();
    sweep::everything(case.world)
        .filter(|(_, _, standing)| is_open(*standing))
        .any(|(service, region, _)| region != case.region || !moving.contains(&service.name))
}

/// Suspect, or not concluded about?
#[must_use]
pub fn is_open(standing: Option<&StandingVerdict>) -> bool {
    standing.is_none_or(|s| match s.verdict.state {
        VerdictState::Partitioned | VerdictState::Unknown => true,
        VerdictState::Healthy | VerdictState::Degraded => s.verdict.suspect,
        VerdictState::Down | VerdictState::Unreachable => false,
    })
}

/// Automatic action must not repeat itself (I8); a person may, so it is a question.
fn block_period(case: &Case<'_>) -> Option<Refused> {
    let services = case.services();
    let applies = |class: FailureClass, until: Timestamp| class == case.class && case.now < until;
    let mut blocks = case.world.blocks.iter();
    let block = blocks.find(|b| services.contains(&b.service) && applies(b.class, b.until))?;
    cov_mark::hit!(i8_block_period_asks);
    let (service, class, run, until) = (block.service.clone(), block.class, block.run.clone(), block.until);
    refuse(Conclusion::Ask, Reason::Blocked { service, class, run, until }, Some(until))
}

fn flap_damping(case: &Case<'_>) -> Option<Refused> {
    let damped = |s: &&Seen<'_>| {
        let (standing, damping) = (s.standing?, Damping::of(s.service));
        let until = damping::damped_until(standing, case.now, &damping)?;
        Some((until, damping::troubles(standing, case.now, &damping)))
    };
    let (until, changes) = case.moving.iter().filter_map(damped).max()?;
    cov_mark::hit!(i8_flapping_asks);
    let changes = u32::try_from(changes).unwrap_or(u32::MAX);
    refuse(Conclusion::Ask, Reason::FlapDamping { changes, until }, Some(until))
}

/// What drover itself would want for this case.
fn intent(case: &Case<'_>) -> Intent {
    Intent {
        purpose: Purpose::Failover,
        services: case.services(),
        region: case.region.clone(),
        to: None,
        automatic: true,
        hold_for: None,
        reason: format!("{} in {}: {}", case.class, case.region, agreement(case)),
        accept: vec![],
    }
}

/// What the planner said.
struct Planned {
    refusal: Option<Refused>,
    /// What its plan moves: services that nothing else can take are left behind, and decided about by themselves.
    moves: Vec<ServiceId>,
}

/// Asks the planner and adds its guards. A plan with objections is one that a person may overrule, so it is a question;
/// without any plan there is nothing that a person could agree to.
fn ask_planner(case: &Case<'_>, planner: Planner<'_>, guards: &mut Vec<GuardResult>) -> Planned {
    let planned = planner(case.world, &intent(case), case.now);
    guards.extend(planned.guards);
    let moves = planned.plan.as_ref().map(|p| p.services.clone()).unwrap_or_default();
    let unexplained =
        || Reason::CheckFailed { finding: "the planner made no plan and gave no reason".into() };
    let (conclusion, reason) = match (&planned.plan, planned.refusals.first()) {
        (Some(_), None) => return Planned { refusal: None, moves },
        (Some(_), Some(objection)) => {
            cov_mark::hit!(i7_planner_objection_asks);
            (Conclusion::Ask, objection.clone())
        }
        (None, refusal) => {
            cov_mark::hit!(i4_no_plan_holds);
            let hopeless = planned.refusals.iter().find(|r| !a_person_may_overrule(r)).or(refusal);
            (Conclusion::Hold, hopeless.cloned().unwrap_or_else(unexplained))
        }
    };
    if !guards.iter().any(|g| !g.passed && g.reason == reason) {
        guards.push(GuardResult { guard: "plan".into(), passed: false, reason: reason.clone() });
    }
    Planned { refusal: refuse(conclusion, reason, None), moves }
}

/// Numbers that a person may know better, or accept: not what makes a plan impossible.
fn a_person_may_overrule(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::CapacityInsufficient { .. } | Reason::LoadUnknown { .. } | Reason::MaxUnavailable { .. }
    )
}
