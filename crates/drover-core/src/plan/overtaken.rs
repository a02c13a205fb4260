//! Questions to which nobody can say yes any more.
//!
//! Either what was read when the plan was made has another version now, or what was asked about is over: all endpoints that
//! were to be left are healthy again, and the preflight would end the run. Only when all are, and for a failure window: a
//! question holds drover back from acting on the rest of what it asked about, and one that went with every good probe would
//! come back, and page, with every bad one.

use super::stale;
use drover_model::EndpointKey;
use drover_model::Timestamp;
use drover_model::decision::VerdictState;
use drover_model::plan::{Plan, Predicate, StandingVerdict, StepKind, World};

/// Why `plan` can't be agreed to any more at `now`, as a sentence; nothing when it can.
#[must_use]
pub fn overtaken(plan: &Plan, world: &World, now: Timestamp) -> Option<String> {
    let stale = stale(plan, world).into_iter().next();
    stale.map(|reason| reason.to_string()).or_else(|| well_again(plan, world, now))
}

fn well_again(plan: &Plan, world: &World, now: Timestamp) -> Option<String> {
    let conditions = plan.steps.iter().filter_map(|s| match &s.kind {
        StepKind::Preflight { predicates } => Some(predicates),
        _ => None,
    });
    let left = conditions.flatten().filter_map(|p| match p {
        Predicate::EndpointStillBad { endpoint } => Some(endpoint),
        _ => None,
    });
    let well: Vec<_> =
        left.map(|endpoint| lasting(endpoint, world, now).map(|s| (endpoint, s))).collect::<Option<_>>()?;
    let (endpoint, standing) = well.first()?;
    cov_mark::hit!(a_question_ends_with_its_cause);
    let others = match well.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    Some(format!("{endpoint}{others} is healthy since {}: {}", standing.since, standing.verdict.reason))
}

/// The verdict of an endpoint that has been healthy for a failure window.
fn lasting<'a>(endpoint: &EndpointKey, world: &'a World, now: Timestamp) -> Option<&'a StandingVerdict> {
    let window = world.config.services.get(&endpoint.service)?.failover.failure_window;
    let standing = world.verdicts.get(endpoint)?;
    let is_well = standing.verdict.state == VerdictState::Healthy && now.since(standing.since) >= window;
    is_well.then_some(standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::planned;
    use crate::testworld::{NOW, intent, judge, key, world};
    use drover_model::Span;
    use drover_model::plan::Intent;
    use drover_model::runbook::Purpose;

    #[test]
    fn a_question_ends_when_all_that_it_asked_about_has_been_well_for_a_window() {
        cov_mark::check_count!(a_question_ends_with_its_cause, 1);
        let mut world = world();
        judge(&mut world, "eu-west", VerdictState::Down);
        let automatic = Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") };
        let plan = planned(&world, &automatic);
        let long_after = NOW + Span::from_hours(1);
        for stands in
            [VerdictState::Down, VerdictState::Unreachable, VerdictState::Partitioned, VerdictState::Unknown]
        {
            judge(&mut world, "eu-west", stands);
            assert_eq!(overtaken(&plan, &world, long_after), None, "{stands}");
        }
        judge(&mut world, "eu-west", VerdictState::Healthy);
        let since = world.verdicts[&key("checkout", "eu-west")].since;
        let window = world.config.services.values().map(|s| s.failover.failure_window).max().unwrap();
        assert_eq!(overtaken(&plan, &world, since), None, "a good moment is no end");
        let why = overtaken(&plan, &world, since + window).unwrap();
        assert!(why.contains("@eu-west (and 1 more) is healthy since"), "{why}");
        let bad = world.verdicts.get_mut(&key("catalog", "eu-west")).unwrap();
        bad.verdict.state = VerdictState::Down;
        assert_eq!(overtaken(&plan, &world, long_after), None, "it holds drover back from the rest");
    }
}
