//! Questions to which nobody can say yes any more.
//!
//! Either what was read when the plan was made has another version now, or what was asked about is over: an endpoint that
//! was to be left is healthy again, and the preflight would end the run. One that is unknown or seen by some only may fail
//! again in a moment, and the question stands.

use super::stale;
use drover_model::decision::VerdictState;
use drover_model::plan::{Plan, Predicate, StepKind, World};

/// Why `plan` can't be agreed to any more, as a sentence; nothing when it can.
#[must_use]
pub fn overtaken(plan: &Plan, world: &World) -> Option<String> {
    let stale = stale(plan, world).into_iter().next();
    stale.map(|reason| reason.to_string()).or_else(|| well_again(plan, world))
}

fn well_again(plan: &Plan, world: &World) -> Option<String> {
    let conditions = plan.steps.iter().filter_map(|s| match &s.kind {
        StepKind::Preflight { predicates } => Some(predicates),
        _ => None,
    });
    conditions.flatten().find_map(|p| {
        let Predicate::EndpointStillBad { endpoint } = p else { return None };
        let standing = world.verdicts.get(endpoint)?;
        if standing.verdict.state != VerdictState::Healthy {
            return None;
        }
        cov_mark::hit!(a_question_ends_with_its_cause);
        Some(format!("{endpoint} is healthy since {}: {}", standing.since, standing.verdict.reason))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::planned;
    use crate::testworld::{intent, judge, world};
    use drover_model::plan::Intent;
    use drover_model::runbook::Purpose;

    #[test]
    fn a_question_about_what_is_healthy_again_is_over_and_one_about_what_is_unknown_is_not() {
        cov_mark::check_count!(a_question_ends_with_its_cause, 1);
        let mut world = world();
        judge(&mut world, "eu-west", VerdictState::Down);
        let automatic = Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") };
        let plan = planned(&world, &automatic);
        for stands in
            [VerdictState::Down, VerdictState::Unreachable, VerdictState::Partitioned, VerdictState::Unknown]
        {
            judge(&mut world, "eu-west", stands);
            assert_eq!(overtaken(&plan, &world), None, "{stands}");
        }
        judge(&mut world, "eu-west", VerdictState::Healthy);
        let why = overtaken(&plan, &world).unwrap();
        assert!(why.contains("@eu-west is healthy since"), "{why}");
    }
}
