//! What was tried or asked before, and is not repeated at once.
//!
//! Automation that asks every second is nagging, and automation that starts again what a person stopped is fighting him.
//! The hard case is silence. It has two bad readings: as consent, which it never is (the question expires), and as a wish
//! to be paged about the same thing for ever. So the question comes back, each time after a pause twice as long, up to
//! the block period: 15 m, 30 m, 1 h, 1 h, … with the defaults. `rearm` ends every pause.

use drover_model::config::Service;
use drover_model::decision::{ActionDecision, Conclusion, FailureClass};
use drover_model::journal::RunState;
use drover_model::plan::{EndedRun, World};
use drover_model::reason::Reason;
use drover_model::{Span, Timestamp};

/// Why a move that would be made or asked about has to wait, and until when.
pub(super) fn too_soon(
    world: &World,
    decision: &ActionDecision,
    now: Timestamp,
) -> Option<(Reason, Timestamp)> {
    let past: Vec<&EndedRun> = world.ended.iter().filter(|r| is_same_move(world, r, decision)).collect();
    let asked =
        || answered_no(world, decision, &past, now).or_else(|| unanswered(world, decision, &past, now));
    let asked = if decision.conclusion == Conclusion::Ask { asked() } else { None };
    asked.or_else(|| ended_by_itself(world, decision, &past, now))
}

/// The same region and services in the same direction, and nobody has rearmed them since. A return that failed a minute
/// ago says nothing against leaving the region now.
fn is_same_move(world: &World, run: &EndedRun, decision: &ActionDecision) -> bool {
    let rearmed = |s| world.rearmed.get(s).is_some_and(|at| *at >= run.ended_at);
    let same_way = (run.class == FailureClass::Recovery) == (decision.class == FailureClass::Recovery);
    let same = run.region == decision.region && run.services == decision.services;
    same && same_way && !run.services.iter().any(rearmed)
}

/// A person said no to the same move: it is asked again after the block period.
fn answered_no(
    world: &World,
    decision: &ActionDecision,
    past: &[&EndedRun],
    now: Timestamp,
) -> Option<(Reason, Timestamp)> {
    let quiet = longest(world, decision, |s| s.failover.block_period);
    let run = past.iter().rev().find(|r| r.state == RunState::Rejected && r.by_person)?;
    let until = run.ended_at + quiet;
    let service = run.services.first().filter(|_| now < until)?.clone();
    cov_mark::hit!(a_no_is_not_asked_again_at_once);
    Some((Reason::Blocked { service, class: run.class, run: run.run.clone(), until }, until))
}

/// Nobody answered: it is asked again, each time after a longer pause.
fn unanswered(
    world: &World,
    decision: &ActionDecision,
    past: &[&EndedRun],
    now: Timestamp,
) -> Option<(Reason, Timestamp)> {
    let expires = longest(world, decision, |s| s.failover.approval_expires);
    let block = longest(world, decision, |s| s.failover.block_period);
    let expired = past.iter().filter(|r| r.state == RunState::ExpiredUnapproved);
    let last = expired.clone().next_back()?;
    let times: Vec<Timestamp> = expired.map(|r| r.ended_at).collect();
    let (asked, until) = ask_again_at(&times, expires, block)?;
    let service = last.services.first().filter(|_| now < until)?.clone();
    cov_mark::hit!(silence_is_asked_again_later);
    let (region, run) = (last.region.clone(), last.run.clone());
    Some((Reason::Unanswered { service, region, run, asked, until }, until))
}

/// The last run for this found something else than was planned and ended by its own policy. What it found may pass, so
/// the next attempt comes after one failure window: not at once, and not only after a block period.
fn ended_by_itself(
    world: &World,
    decision: &ActionDecision,
    past: &[&EndedRun],
    now: Timestamp,
) -> Option<(Reason, Timestamp)> {
    let quiet = longest(world, decision, |s| s.failover.failure_window);
    let by_policy =
        |r: &&&EndedRun| !r.by_person && matches!(r.state, RunState::Aborted | RunState::RolledBack);
    let run = past.iter().rev().find(by_policy)?;
    let until = run.ended_at + quiet;
    let service = run.services.first().filter(|_| now < until)?.clone();
    cov_mark::hit!(a_run_that_failed_is_not_repeated_at_once);
    Some((Reason::Blocked { service, class: run.class, run: run.run.clone(), until }, until))
}

fn longest(world: &World, decision: &ActionDecision, of: impl Fn(&Service) -> Span) -> Span {
    let services = decision.services.iter().filter_map(|s| world.config.services.get(s));
    services.map(of).max().unwrap_or(Span::ZERO)
}

/// How often the question has expired in a row, and when it is due again. `expired_at` holds when earlier ones expired,
/// oldest first; `expires` is how long each was open, `block` the longest pause. None when it was never asked.
///
/// Two belong to the same trouble when no longer lies between them than the longest pause and the next question's life
/// take, twice over: last month's silence must not slow down tonight's questions.
fn ask_again_at(expired_at: &[Timestamp], expires: Span, block: Span) -> Option<(u32, Timestamp)> {
    let last = *expired_at.last()?;
    let same_trouble = block.plus(expires).times(2);
    let in_a_row = expired_at.windows(2).rev().take_while(|w| w[1].since(w[0]) <= same_trouble).count() + 1;
    let asked = u32::try_from(in_a_row).unwrap_or(u32::MAX);
    let doubled = expires.times(1_u64.checked_shl(asked - 1).unwrap_or(u64::MAX));
    Some((asked, last + doubled.min(block.max(expires))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{decide, decide_with};
    use crate::fixture::{Fixture, NOW, endpoint, hold, region, service};
    use drover_model::RunId;
    use drover_model::plan::{Finding, Plan};
    use std::sync::Arc;

    /// eu-west is down, and drover asks before it moves anything.
    fn asking() -> World {
        let mut world = Fixture::three_regions_and_witness().world();
        for key in ["checkout@eu-west", "catalog@eu-west"] {
            hold(&mut world, &endpoint(key), "fff", "", 600);
        }
        let services = &mut Arc::make_mut(&mut world.config).services;
        for s in services.values_mut() {
            s.failover.automatic = false;
            s.failover.approval_expires = Span::from_mins(15);
        }
        world
    }

    fn acting() -> World {
        let mut world = asking();
        let services = &mut Arc::make_mut(&mut world.config).services;
        services.values_mut().for_each(|s| s.failover.automatic = true);
        world
    }

    fn ended(number: u64, state: RunState, by_person: bool, mins_ago: u64) -> EndedRun {
        EndedRun {
            run: RunId::numbered(number),
            region: region("eu-west"),
            services: vec![service("checkout"), service("catalog")],
            class: FailureClass::Region,
            state,
            ended_at: NOW - Span::from_mins(mins_ago),
            by_person,
        }
    }

    fn said(world: &World) -> (Conclusion, String) {
        let decision = decide(world, NOW).remove(0);
        (decision.conclusion, decision.reason.code())
    }

    #[test]
    fn a_no_holds_for_the_block_period_or_until_rearmed() {
        let mut world = asking();
        assert_eq!(said(&world).0, Conclusion::Ask);
        world.ended = vec![ended(1, RunState::Rejected, true, 59)];
        cov_mark::check_count!(a_no_is_not_asked_again_at_once, 1);
        assert_eq!(said(&world), (Conclusion::Hold, "blocked".into()));
        world.rearmed.insert(service("catalog"), NOW - Span::from_mins(1));
        assert_eq!(said(&world).0, Conclusion::Ask);
        world.rearmed.clear();
        world.ended[0].ended_at = NOW - Span::from_hours(1);
        assert_eq!(said(&world).0, Conclusion::Ask, "half-open: the period is over");
    }

    #[test]
    fn a_no_about_other_services_or_by_drover_itself_says_nothing() {
        let mut world = asking();
        let mut other = ended(1, RunState::Rejected, true, 1);
        other.services.pop();
        world.ended = vec![other, ended(2, RunState::Rejected, false, 1)];
        assert_eq!(said(&world).0, Conclusion::Ask);
    }

    #[test]
    fn silence_is_asked_again_after_a_while_and_looks_again_then() {
        let mut world = asking();
        world.ended = vec![ended(1, RunState::ExpiredUnapproved, false, 10)];
        cov_mark::check_count!(silence_is_asked_again_later, 1);
        let decision = decide(&world, NOW).remove(0);
        assert_eq!(
            decision.reason.to_string(),
            format!(
                "nobody answered run-1 about eu-west (1 time(s) in a row); asking again at {}",
                NOW + Span::from_mins(5)
            )
        );
        assert_eq!(decision.look_again_at, Some(NOW + Span::from_mins(5)));
        world.ended[0].ended_at = NOW - Span::from_mins(15);
        assert_eq!(said(&world).0, Conclusion::Ask);
    }

    #[test]
    fn an_attempt_that_failed_is_repeated_after_a_failure_window() {
        let mut world = acting();
        assert_eq!(said(&world).0, Conclusion::Act);
        world.ended = vec![ended(1, RunState::Aborted, false, 4)];
        cov_mark::check_count!(a_run_that_failed_is_not_repeated_at_once, 1);
        assert_eq!(said(&world), (Conclusion::Hold, "blocked".into()));
        world.ended[0].ended_at = NOW - Span::from_mins(5);
        assert_eq!(said(&world).0, Conclusion::Act);
    }

    #[test]
    fn a_return_that_failed_holds_back_no_failover() {
        let mut world = acting();
        world.ended =
            vec![EndedRun { class: FailureClass::Recovery, ..ended(1, RunState::RolledBack, false, 1) }];
        assert_eq!(said(&world).0, Conclusion::Act);
    }

    #[test]
    fn what_the_second_pair_of_eyes_rejects_is_neither_done_nor_asked() {
        let finds = |invariant: &'static str| {
            move |_: &Plan, _: &World| vec![Finding { invariant: invariant.into(), message: "odd".into() }]
        };
        let said = |world: &World, invariant| {
            let d = decide_with(world, NOW, &crate::plan::plan, &finds(invariant)).remove(0);
            (d.conclusion, d.reason.code())
        };
        cov_mark::check_count!(unsound_plan_holds, 3);
        assert_eq!(said(&acting(), "I4"), (Conclusion::Hold, "check_failed".into()));
        assert_eq!(said(&acting(), "I7"), (Conclusion::Hold, "check_failed".into()));
        assert_eq!(said(&asking(), "I4"), (Conclusion::Hold, "check_failed".into()));
        assert_eq!(said(&asking(), "I7").0, Conclusion::Ask, "a person may overrule that");
    }

    const EXPIRES: Span = Span::from_mins(15);
    const BLOCK: Span = Span::from_hours(1);

    fn minute(m: i64) -> Timestamp {
        Timestamp::from_millis(m * 60_000)
    }

    fn due(expired: &[i64]) -> Option<(u32, i64)> {
        let times: Vec<Timestamp> = expired.iter().map(|m| minute(*m)).collect();
        ask_again_at(&times, EXPIRES, BLOCK).map(|(n, at)| (n, at.as_millis() / 60_000))
    }

    #[test]
    fn each_pause_is_twice_the_last_up_to_the_block_period() {
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[15]), Some((1, 30)));
        assert_eq!(due(&[15, 45]), Some((2, 75)));
        assert_eq!(due(&[15, 45, 90]), Some((3, 150)));
        assert_eq!(due(&[15, 45, 90, 165]), Some((4, 225)), "no longer than the block period");
    }

    #[test]
    fn an_old_silence_does_not_slow_down_a_new_trouble() {
        assert_eq!(due(&[15, 45, 10_000]), Some((1, 10_015)));
    }

    #[test]
    fn a_hundred_silences_overflow_nothing() {
        let times: Vec<Timestamp> = (0..100).map(|n| minute(n * 75)).collect();
        assert_eq!(ask_again_at(&times, EXPIRES, BLOCK), Some((100, minute(99 * 75 + 60))));
    }
}
