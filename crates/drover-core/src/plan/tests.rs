//! What plans say: weights, steps, names and bases.

use super::*;
use crate::check::check;
use crate::testworld::{self, NOW, config, intent, judge, key, region, service_id, world};
use drover_model::decision::VerdictState;
use drover_model::plan::{PlannedShareReason, Predicate, Reversal, StepKind, TrafficChange};
use drover_model::runbook::{Purpose, RunbookStepKind};
use drover_model::time::Span;
use drover_model::{Percent, Weight};
use proptest::prelude::*;

pub(super) fn planned(world: &World, intent: &Intent) -> Plan {
    let planned = plan(world, intent, NOW);
    let refusals: Vec<String> = planned.refusals.iter().map(ToString::to_string).collect();
    let plan = planned.plan.unwrap_or_else(|| panic!("refused: {refusals:?}"));
    assert_eq!(check(&plan, world), vec![], "the checker found something");
    plan
}

pub(super) fn words(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|s| s.kind.word()).collect()
}

pub(super) fn shifts(plan: &Plan) -> Vec<&TrafficChange> {
    let changes = |s: &'_ Step| matches!(&s.kind, StepKind::ShiftTraffic { .. });
    plan.steps
        .iter()
        .filter(|s| changes(s))
        .flat_map(
            |s| if let StepKind::ShiftTraffic { changes } = &s.kind { changes.iter() } else { [].iter() },
        )
        .collect()
}

pub(super) fn weights(change: &TrafficChange) -> Vec<u8> {
    change.weights_after.values().map(|w| w.0).collect()
}

/// The world after the plan's changes were published.
pub(super) fn after(world: &World, plan: &Plan, run: &str) -> World {
    let mut world = world.clone();
    let run = drover_model::RunId::new(run).unwrap();
    for change in shifts(plan) {
        let state = world.traffic.get_mut(&change.service).unwrap();
        state.generation = change.to_generation;
        state.weights = change.weights_after.clone();
        state.shares =
            drover_model::plan::shares_with_run(&state.shares, &change.shares_after, &run, &plan.intent);
    }
    world
}

#[test]
fn a_drain_takes_the_most_important_service_first_and_can_be_undone() {
    let world = world();
    let plan = planned(&world, &intent(Purpose::Drain, "eu-west"));
    assert_eq!(plan.services, [service_id("checkout"), service_id("catalog")]);
    let expected = ["preflight", "verify_app", "shift_traffic", "verify_dns", "wait", "validate", "notify"];
    assert_eq!(words(&plan), expected);
    assert_eq!(plan.steps[2].id, "3-shift_traffic");
    let change = shifts(&plan)[0];
    assert_eq!(weights(change), [50, 0, 50]);
    assert_eq!((change.from_generation.0, change.to_generation.0, change.ttl_seconds), (1, 2, 30));
    assert_eq!(change.shares_after[&region("eu-west")].reason, PlannedShareReason::Drained);
    assert_eq!(change.shares_after.len(), 1, "the others keep their shares");
    let StepKind::ShiftTraffic { changes } = &plan.steps[2].kind else { panic!("no shift") };
    assert_eq!(plan.expected_by(&plan.steps[3].kind), Some(changes.as_slice()));
    let Reversal::RestoreWeights { changes } = &plan.steps[2].reversal else { panic!("not reversible") };
    assert_eq!(changes[0].weights_after, change.weights_before);
    assert_eq!(changes[0].shares_after[&region("eu-west")].share, Percent::FULL);
    assert!(point_of_no_return(&plan).is_none());
    // 30 s of TTL and half of it; the timeout comes on top.
    let StepKind::Wait { span, .. } = &plan.steps[4].kind else { panic!("no wait") };
    assert_eq!((*span, plan.steps[4].timeout), (Span::from_secs(45), Span::from_secs(75)));
}

#[test]
fn a_failover_of_a_dead_region_is_never_rolled_back_into_it() {
    let mut world = world();
    judge(&mut world, "eu-west", VerdictState::Down);
    let automatic = Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") };
    let plan = planned(&world, &automatic);
    assert_eq!(point_of_no_return(&plan).unwrap().id, "3-shift_traffic");
    let StepKind::Preflight { predicates } = &plan.steps[0].kind else { panic!("no preflight") };
    let still_bad = Predicate::EndpointStillBad { endpoint: key("checkout", "eu-west") };
    assert!(predicates.contains(&still_bad), "an automatic failover asks again whether it is still needed");
    assert!(plan.base.contains_key("freeze"));
}

#[test]
fn a_failback_climbs_the_ramp_by_chained_generations() {
    let world = world();
    let out = planned(&world, &intent(Purpose::Failover, "eu-west"));
    let world = after(&world, &out, "run-1");
    let plan = planned(&world, &intent(Purpose::Failback, "eu-west"));
    let checkout: Vec<_> =
        shifts(&plan).into_iter().filter(|c| c.service == service_id("checkout")).collect();
    let steps: Vec<_> = checkout.iter().map(|c| weights(c)).collect();
    // Shares of 1, 10, 50 and 100 % of 33: a share of 1 % is still a weight of 1.
    assert_eq!(steps, [[50, 1, 49], [48, 5, 47], [40, 20, 40], [34, 33, 33]]);
    let generations: Vec<_> = checkout.iter().map(|c| (c.from_generation.0, c.to_generation.0)).collect();
    assert_eq!(generations, [(2, 3), (3, 4), (4, 5), (5, 6)]);
    let reasons: Vec<_> = checkout.iter().map(|c| c.shares_after[&region("eu-west")].reason).collect();
    assert_eq!(reasons[0], PlannedShareReason::Returning);
    assert_eq!(reasons[3], PlannedShareReason::Configured);
    assert_eq!(
        words(&plan).iter().filter(|w| **w == "validate").count(),
        5,
        "each share is judged, and the end"
    );
    let full = after(&world, &plan, "run-2");
    assert_eq!(full.traffic[&service_id("checkout")].weights, checkout[3].weights_after);
}

#[test]
fn each_stage_of_a_ramp_is_proved_by_its_own_region_and_steps_back_to_the_one_before() {
    let before = world();
    let world = after(&before, &planned(&before, &intent(Purpose::Failover, "eu-west")), "run-1");
    let plan = planned(&world, &intent(Purpose::Failback, "eu-west"));
    let mut last_good = world.traffic[&service_id("checkout")].weights.clone();
    let mut stages = 0;
    for (index, step) in plan.steps.iter().enumerate() {
        let Reversal::StepBack { changes, out } = &step.reversal else { continue };
        let StepKind::ShiftTraffic { changes: forth } = &step.kind else { panic!("no shift") };
        assert_eq!((changes[0].weights_after.clone(), weights(&out[0])), (last_good, vec![50, 0, 50]));
        assert_eq!(out[0].shares_after[&region("eu-west")].reason, PlannedShareReason::FailedOver);
        last_good = forth[0].weights_after.clone();
        let validate = plan.steps[index..].iter().find(|s| s.kind.word() == "validate").unwrap();
        let StepKind::Validate { targets } = &validate.kind else { panic!("no validation") };
        let own: Vec<_> = targets.iter().filter(|t| t.returning).collect();
        assert_eq!(own.len(), 2, "one a service");
        assert!(own.iter().all(|t| t.regions == [region("eu-west")]));
        let others = targets.len() - own.len();
        assert_eq!(others, if stages == 3 { 2 } else { 0 }, "the others are judged at the end");
        assert!(validate.timeout > own[0].longest(), "watching on has its time");
        stages += 1;
    }
    assert_eq!(stages, 4);
}

#[test]
fn a_service_that_would_go_dark_has_no_way_out_but_the_step_back() {
    let mut world = testworld::of(vec![testworld::service("pay", 1, &["a", "b"])]);
    let out = drover_model::traffic::RegionShare {
        share: Percent::ZERO,
        reason: drover_model::traffic::ShareReason::FailedOver {
            run: drover_model::RunId::numbered(1),
            by_hand: false,
        },
    };
    let state = world.traffic.get_mut(&service_id("pay")).unwrap();
    state.shares = [(region("a"), out.clone()), (region("b"), out)].into();
    let plan = planned(&world, &intent(Purpose::Failback, "a"));
    for step in &plan.steps {
        if let Reversal::StepBack { out, .. } = &step.reversal {
            assert_eq!(*out, vec![], "DNS is never empty (I4)");
        }
    }
}

#[test]
fn an_undrain_restores_the_configured_weights_at_once() {
    let before = world();
    let world = after(&before, &planned(&before, &intent(Purpose::Drain, "us-east")), "run-1");
    let plan = planned(&world, &intent(Purpose::Undrain, "us-east"));
    assert_eq!(weights(shifts(&plan)[0]), [34, 33, 33]);
    let Reversal::RestoreWeights { changes } = &plan.steps[2].reversal else { panic!("not reversible") };
    assert_eq!(changes[0].shares_after[&region("us-east")].reason, PlannedShareReason::Drained);
}

#[test]
fn ramps_of_different_length_go_together() {
    let mut before = world();
    config(&mut before).services.get_mut(&service_id("catalog")).unwrap().failover.ramp =
        vec![Percent::whole(20)];
    let world = after(&before, &planned(&before, &intent(Purpose::Drain, "us-east")), "run-1");
    let plan = planned(&world, &intent(Purpose::Failback, "us-east"));
    let rounds: Vec<usize> = plan
        .steps
        .iter()
        .filter_map(
            |s| if let StepKind::ShiftTraffic { changes } = &s.kind { Some(changes.len()) } else { None },
        )
        .collect();
    assert_eq!(rounds, [2, 2, 1, 1], "catalog is full after 20 % and 100 %");
}

#[test]
fn a_named_target_takes_all_of_it_and_nobody_else_moves() {
    let world = world();
    let to = Intent { to: Some(region("us-east")), ..intent(Purpose::Drain, "eu-west") };
    assert_eq!(
        weights(shifts(&planned(&world, &Intent { services: vec![service_id("catalog")], ..to }))[0]),
        [34, 0, 66]
    );
}

#[test]
fn with_two_regions_down_leaving_the_first_does_not_need_the_second() {
    let mut world = testworld::of(vec![testworld::service("pay", 1, &["a", "b", "c", "d"])]);
    judge(&mut world, "a", VerdictState::Down);
    judge(&mut world, "b", VerdictState::Down);
    let plan = planned(&world, &intent(Purpose::Failover, "a"));
    assert_eq!(weights(shifts(&plan)[0]), [0, 25, 38, 37], "b keeps what it has, c and d take the rest");
    let StepKind::Validate { targets } = &plan.steps[4].kind else { panic!("no validation") };
    assert_eq!(targets[0].regions, [region("c"), region("d")], "b is not this plan's to prove");
    let world = after(&world, &plan, "run-1");
    let second = planned(&world, &intent(Purpose::Failover, "b"));
    assert_eq!(weights(shifts(&second)[0]), [0, 0, 50, 50]);
}

#[test]
fn a_standby_is_drained_so_that_nothing_spills_to_it() {
    let mut service = testworld::service("pay", 1, &["main", "spare"]);
    service.endpoints.get_mut(&region("spare")).unwrap().priority = 2;
    let world = testworld::of(vec![service]);
    assert_eq!(world.traffic[&service_id("pay")].weight(&region("spare")), Weight(0));
    let plan = planned(&world, &intent(Purpose::Drain, "spare"));
    assert_eq!(weights(shifts(&plan)[0]), [100, 0]);
    assert_eq!(shifts(&plan)[0].shares_after[&region("spare")].share, Percent::ZERO);
}

#[test]
fn a_step_with_nothing_to_do_is_left_out() {
    let mut world = world();
    for service in config(&mut world).services.values_mut() {
        service.app_checks.clear();
    }
    assert!(!words(&planned(&world, &intent(Purpose::Drain, "eu-west"))).contains(&"verify_app"));
}

#[test]
fn a_question_stays_open_as_long_as_the_policy_says() {
    let mut world = world();
    let runbook = &mut world.runbooks.get_mut(&Purpose::Drain).unwrap().runbook;
    runbook.steps.insert(0, testworld::step(RunbookStepKind::Approve("sure?".into())));
    let plan = planned(&world, &intent(Purpose::Drain, "eu-west"));
    let StepKind::Approve { expires, .. } = &plan.steps[0].kind else { panic!("no question") };
    assert_eq!(*expires, Span::from_hours(1));
    assert_eq!(plan.steps[0].timeout, Span::from_hours(1).plus(Span::from_secs(30)));
}

#[test]
fn estimates_stand_beside_the_objective() {
    let drain = plan(&world(), &intent(Purpose::Drain, "eu-west"), NOW);
    assert_eq!(drain.estimates.drained_after, Span::from_secs(45));
    assert_eq!(drain.estimates.done_after, Span::from_secs(165));
    assert_eq!(drain.estimates.rto, Span::from_mins(10));
}

#[test]
fn a_plan_is_stale_when_what_it_read_moved() {
    cov_mark::check_count!(i9_stale_plan, 4);
    let world = world();
    let automatic = Intent { automatic: true, ..intent(Purpose::Drain, "eu-west") };
    let plan = planned(&world, &automatic);
    assert_eq!(stale(&plan, &world), vec![]);
    let mut moved = after(&world, &plan, "run-1");
    config(&mut moved).services.get_mut(&service_id("catalog")).unwrap().ttl = Span::from_secs(60);
    moved.runbooks.get_mut(&Purpose::Drain).unwrap().version = "v2".into();
    moved.loads.clear();
    let objects: Vec<String> = stale(&plan, &moved)
        .into_iter()
        .filter_map(|r| if let Reason::StalePlan { object, .. } = r { Some(object) } else { None })
        .collect();
    assert_eq!(objects, ["config/service/catalog", "runbook/drain", "traffic/catalog", "traffic/checkout"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same plan made twice has the same name, whatever else changed and whenever it was made; a plan made from
    /// another version of what it read has another.
    #[test]
    fn a_plan_is_named_by_what_it_says_and_read(place in 0usize..3, at in 0i64..1_000_000, rate in 1u64..500, ttl in 31u64..90) {
        let world = world();
        let wanted = Intent { services: vec![service_id("checkout")], ..intent(Purpose::Drain, testworld::REGIONS[place]) };
        let first = planned(&world, &wanted);
        let mut unrelated = world.clone();
        config(&mut unrelated).services.get_mut(&service_id("catalog")).unwrap().ttl = Span::from_secs(ttl);
        unrelated.traffic.get_mut(&service_id("catalog")).unwrap().generation.0 += ttl;
        unrelated.loads.insert(service_id("checkout"), drover_model::traffic::Load::Measured {
            rate: drover_model::RequestsPerSecond(rate),
            at: NOW,
        });
        let again = plan(&unrelated, &wanted, Timestamp::from_millis(at)).plan.unwrap();
        prop_assert_eq!(&again.id, &first.id);
        prop_assert_eq!(stale(&first, &unrelated), vec![]);
        let mut related = world.clone();
        config(&mut related).services.get_mut(&service_id("checkout")).unwrap().rto = Span::from_secs(ttl);
        let other = plan(&related, &wanted, NOW).plan.unwrap();
        prop_assert_ne!(&other.id, &first.id);
    }
}
