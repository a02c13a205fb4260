//! Every way in which a plan is refused, told apart from what is merely left behind. One test a mark.

use super::tests::{after, planned};
use super::*;
use crate::testworld::{self, NOW, config, intent, judge, region, service_id, world};
use drover_model::RequestsPerSecond;
use drover_model::decision::VerdictState;
use drover_model::plan::{Acceptance, ActiveRun};
use drover_model::runbook::Purpose;
use drover_model::traffic::Load;

fn codes(planned: &Planned) -> Vec<String> {
    planned.refusals.iter().map(Reason::code).collect()
}

/// What comes of `intent` when drover itself wants it: (codes of refusals, is there a plan?).
fn automatic(world: &World, intent: &Intent) -> (Vec<String>, bool) {
    let planned = plan(world, &Intent { automatic: true, ..intent.clone() }, NOW);
    (codes(&planned), planned.plan.is_some())
}

fn person(world: &World, intent: &Intent) -> Vec<String> {
    let planned = plan(world, intent, NOW);
    assert_eq!(planned.plan.is_some(), planned.refusals.is_empty(), "a refused person gets no plan");
    codes(&planned)
}

fn only(service: &str, wanted: Intent) -> Intent {
    Intent { services: vec![service_id(service)], ..wanted }
}

#[test]
fn unknown_names_are_told_with_the_known_ones() {
    let world = world();
    let unknown = plan(&world, &intent(Purpose::Drain, "mars"), NOW);
    let [Reason::NotFound { what, known }] = unknown.refusals.as_slice() else { panic!("{unknown:?}") };
    assert_eq!((what.as_str(), known.len()), ("region `mars`", 3));
    cov_mark::check!(scope_unknown_region);
    assert_eq!(person(&world, &intent(Purpose::Drain, "tower")), ["not_found"], "a witness serves nothing");
}

#[test]
fn an_unknown_service_is_told() {
    cov_mark::check!(scope_unknown_service);
    assert_eq!(person(&world(), &only("nothing", intent(Purpose::Drain, "eu-west"))), ["not_found"]);
}

#[test]
fn a_service_that_is_not_in_the_region_is_told() {
    let mut world = world();
    config(&mut world).services.get_mut(&service_id("catalog")).unwrap().endpoints.remove(&region("eu-west"));
    cov_mark::check!(scope_not_in_region);
    assert_eq!(person(&world, &only("catalog", intent(Purpose::Drain, "eu-west"))), ["not_found"]);
}

#[test]
fn a_region_without_services_is_told() {
    let mut world = world();
    let mut bare = world.config.regions[&region("eu-west")].clone();
    bare.name = region("bare");
    config(&mut world).regions.insert(region("bare"), bare);
    cov_mark::check!(scope_region_is_empty);
    assert_eq!(person(&world, &intent(Purpose::Drain, "bare")), ["not_found"]);
}

#[test]
fn a_service_whose_traffic_is_not_known_is_not_moved() {
    let mut world = world();
    world.traffic.remove(&service_id("catalog"));
    cov_mark::check!(scope_no_traffic_state);
    assert_eq!(person(&world, &only("catalog", intent(Purpose::Drain, "eu-west"))), ["not_found"]);
}

#[test]
fn without_dns_nothing_could_be_published() {
    let mut world = world();
    config(&mut world).settings.dns = None;
    cov_mark::check!(dns_not_configured);
    assert_eq!(
        automatic(&world, &intent(Purpose::Drain, "eu-west")),
        (vec!["dns_not_configured".into()], false)
    );
}

#[test]
fn without_a_runbook_there_is_no_plan() {
    let mut world = world();
    world.runbooks.remove(&Purpose::Drain);
    cov_mark::check!(no_runbook);
    assert_eq!(person(&world, &intent(Purpose::Drain, "eu-west")), ["no_runbook"]);
}

#[test]
fn a_runbook_that_moves_nothing_makes_no_plan() {
    let mut world = world();
    world.runbooks.get_mut(&Purpose::Drain).unwrap().runbook.steps.truncate(1);
    let planned = plan(&world, &intent(Purpose::Drain, "eu-west"), NOW);
    assert_eq!((codes(&planned), planned.plan), (vec!["no_runbook".to_owned()], None));
}

#[test]
fn one_run_at_a_time_touches_a_service() {
    let mut world = world();
    world.runs.push(ActiveRun {
        run: drover_model::RunId::numbered(7),
        services: vec![service_id("catalog")],
        region: region("us-east"),
        purpose: None,
        rolling_back: false,
        by_stages: false,
        by: None,
        counts_on: std::collections::BTreeSet::new(),
        gives_way: false,
        awaiting_approval: false,
    });
    let wanted = intent(Purpose::Drain, "eu-west");
    cov_mark::check_count!(i2_one_run, 2);
    assert_eq!(person(&world, &wanted), ["run_in_progress"]);
    let moved = plan(&world, &Intent { automatic: true, ..wanted.clone() }, NOW).plan.unwrap();
    assert_eq!(moved.services, [service_id("checkout")], "drover moves what is free");
    world.runs[0].awaiting_approval = true;
    assert_eq!(person(&world, &wanted), Vec::<String>::new(), "an open question does not bar a person");
}

#[test]
fn what_somebody_holds_by_break_glass_is_left_to_him_and_the_rest_goes_on() {
    let mut world = world();
    world.held.insert(service_id("catalog"), drover_model::break_glass::HeldBy::new("ada", 1));
    let wanted = intent(Purpose::Drain, "eu-west");
    cov_mark::check_count!(held_by_break_glass, 4);
    let (refused, _) = automatic(&world, &only("catalog", wanted.clone()));
    assert_eq!(refused, ["held_by_break_glass"]);
    assert_eq!(person(&world, &only("catalog", wanted.clone())), ["held_by_break_glass"]);
    for automatic in [false, true] {
        let moved = plan(&world, &Intent { automatic, ..wanted.clone() }, NOW).plan.unwrap();
        assert_eq!(moved.services, [service_id("checkout")]);
    }
}

#[test]
fn what_is_out_already_is_left_alone() {
    let before = world();
    let world =
        after(&before, &planned(&before, &only("catalog", intent(Purpose::Drain, "eu-west"))), "run-1");
    cov_mark::check_count!(already_out, 2);
    assert_eq!(person(&world, &only("catalog", intent(Purpose::Drain, "eu-west"))), ["already_out"]);
    assert_eq!(planned(&world, &intent(Purpose::Drain, "eu-west")).services, [service_id("checkout")]);
}

#[test]
fn what_is_full_already_is_left_alone() {
    cov_mark::check_count!(already_full, 2);
    assert_eq!(person(&world(), &intent(Purpose::Undrain, "eu-west")), ["already_full", "already_full"]);
}

#[test]
fn the_last_healthy_region_is_not_left() {
    let mut world = world();
    judge(&mut world, "us-east", VerdictState::Unknown);
    judge(&mut world, "ap-south", VerdictState::Down);
    let wanted = only("checkout", intent(Purpose::Failover, "eu-west"));
    cov_mark::check!(last_healthy_region);
    let expected = ["last_healthy_region", "target_not_healthy", "target_not_healthy"];
    assert_eq!(person(&world, &wanted), expected);
}

#[test]
fn a_service_with_nowhere_to_go_does_not_keep_the_others() {
    let mut world = testworld::of(vec![
        testworld::service("solo", 1, &["eu-west"]),
        testworld::service("wide", 2, &["eu-west", "us-east"]),
    ]);
    judge(&mut world, "eu-west", VerdictState::Down);
    let planned = plan(&world, &intent(Purpose::Failover, "eu-west"), NOW);
    assert_eq!(planned.plan.as_ref().unwrap().services, [service_id("wide")]);
    let left = planned.guards.iter().find(|g| !g.passed).unwrap();
    assert_eq!((left.guard.as_str(), left.reason.code().as_str()), ("target", "last_healthy_region"));
    assert_eq!(person(&world, &only("solo", intent(Purpose::Failover, "eu-west"))), ["last_healthy_region"]);
}

#[test]
fn unknown_is_not_healthy_enough_to_take_traffic() {
    let mut world = world();
    judge(&mut world, "us-east", VerdictState::Unknown);
    let to = Intent { to: Some(region("us-east")), ..intent(Purpose::Failover, "eu-west") };
    cov_mark::check!(i6_target_not_healthy);
    assert_eq!(person(&world, &only("checkout", to)), ["target_not_healthy"]);
}

#[test]
fn a_region_that_is_not_healthy_does_not_come_back() {
    let before = world();
    let mut world = after(&before, &planned(&before, &intent(Purpose::Failover, "eu-west")), "run-1");
    judge(&mut world, "eu-west", VerdictState::Degraded);
    assert_eq!(
        person(&world, &only("checkout", intent(Purpose::Failback, "eu-west"))),
        ["target_not_healthy"]
    );
}

#[test]
fn a_target_without_endpoint_is_told() {
    let to = Intent { to: Some(region("tower")), ..intent(Purpose::Drain, "eu-west") };
    cov_mark::check!(target_not_found);
    assert_eq!(person(&world(), &only("checkout", to)), ["not_found"]);
}

#[test]
fn a_target_that_is_drained_takes_nothing() {
    let before = world();
    let world = after(&before, &planned(&before, &intent(Purpose::Drain, "us-east")), "run-1");
    let to = Intent { to: Some(region("us-east")), ..intent(Purpose::Drain, "eu-west") };
    cov_mark::check!(target_is_out);
    assert_eq!(person(&world, &only("checkout", to)), ["already_out"]);
}

#[test]
fn traffic_stays_where_the_policy_lets_it_go() {
    let mut world = world();
    let checkout = config(&mut world).services.get_mut(&service_id("checkout")).unwrap();
    checkout.failover.jurisdictions = vec!["EU".into(), "US".into()];
    let wanted = only("checkout", intent(Purpose::Drain, "eu-west"));
    cov_mark::check_count!(i7_locality, 2);
    let plan = planned(&world, &wanted);
    assert_eq!(super::tests::weights(super::tests::shifts(&plan)[0]), [34, 0, 66], "Asia takes nothing more");
    assert_eq!(plan.base["config/region/us-east/jurisdiction"], "US");
    let to = Intent { to: Some(region("ap-south")), ..wanted };
    assert_eq!(person(&world, &to), ["locality_forbids"]);
}

#[test]
fn an_overload_is_refused_or_asked_about() {
    let mut world = world();
    world.loads.insert(service_id("checkout"), Load::Measured { rate: RequestsPerSecond(1_400), at: NOW });
    let wanted = only("checkout", intent(Purpose::Failover, "eu-west"));
    cov_mark::check_count!(i7_capacity, 3);
    // 50 % of 1,400 is 700; 800 less 20 % is 640. Both of the others would be over.
    assert_eq!(person(&world, &wanted), ["capacity_insufficient", "capacity_insufficient"]);
    assert_eq!(automatic(&world, &wanted), (vec!["capacity_insufficient".into(); 2], true));
    let planned = plan(&world, &Intent { automatic: true, ..wanted }, NOW);
    let findings = crate::check::check(&planned.plan.unwrap(), &world);
    assert!(findings.len() == 2 && findings.iter().all(crate::check::a_person_may_overrule), "{findings:?}");
}

#[test]
fn a_person_may_take_on_an_overload_by_name_and_drover_may_not() {
    let mut world = world();
    world.loads.insert(service_id("checkout"), Load::Measured { rate: RequestsPerSecond(1_400), at: NOW });
    let wanted = only("checkout", intent(Purpose::Failover, "eu-west"));
    let accepted = Intent { accept: vec![Acceptance::Capacity], ..wanted.clone() };
    cov_mark::check!(i7_taken_on_by_name);
    let planned = plan(&world, &accepted, NOW);
    assert_eq!(planned.refusals, vec![]);
    let told = planned.guards.iter().filter(|g| g.reason.code() == "capacity_insufficient");
    assert!(told.clone().count() == 2 && told.clone().all(|g| !g.passed), "what was accepted stays told");
    let made = planned.plan.unwrap();
    assert_eq!(crate::check::check(&made, &world), vec![]);
    let automatic = Intent { automatic: true, ..accepted };
    assert_eq!(plan(&world, &automatic, NOW).refusals.len(), 2, "drover accepts nothing for anybody");
    let mut asked = plan(&world, &Intent { automatic: true, ..wanted }, NOW).plan.unwrap();
    asked.intent.accept = vec![Acceptance::Capacity];
    let findings = crate::check::check(&asked, &world);
    assert!(findings.iter().any(|f| f.invariant == "acceptance"), "{findings:?}");
}

#[test]
fn a_return_that_does_not_fit_is_let_through_and_says_why() {
    let before = world();
    let mut world = after(&before, &planned(&before, &intent(Purpose::Drain, "eu-west")), "run-1");
    world.loads.insert(service_id("checkout"), Load::Measured { rate: RequestsPerSecond(2_100), at: NOW });
    let returning = plan(&world, &only("checkout", intent(Purpose::Undrain, "eu-west")), NOW);
    assert!(returning.refusals.is_empty() && returning.plan.is_some());
    let told: Vec<_> = returning.guards.iter().filter(|g| g.guard == "capacity").collect();
    assert!(told.len() == 1 && told[0].passed, "{told:?}");
    // 33 % of 2,100 is 693; 800 less 20 % is 640.
    assert!(
        told[0].reason.to_string().ends_with(
            "693rps on eu-west, which may carry 640rps; let through, because its return relieves the others"
        ),
        "{}",
        told[0].reason
    );
}

#[test]
fn what_a_failover_left_is_not_brought_back_by_an_undrain() {
    let before = world();
    let out = planned(&before, &only("checkout", intent(Purpose::Failover, "eu-west")));
    let world = after(&before, &out, "run-1");
    let wanted = only("checkout", intent(Purpose::Undrain, "eu-west"));
    cov_mark::check_count!(undrain_is_no_failback, 2);
    let refused = plan(&world, &wanted, NOW);
    assert_eq!(
        refused.refusals[0].to_string(),
        "checkout left eu-west by a failover (run-1), not by a drain: it comes back by failback, share by share"
    );
    assert_eq!(refused.refusals[0].next_command().unwrap(), "drover failback checkout --from eu-west --plan");
    // A drain of the rest ends by itself, and leaves what failed where it is.
    let rest = after(&world, &planned(&world, &intent(Purpose::Drain, "eu-west")), "run-2");
    let lapsed = plan(&rest, &intent(Purpose::Undrain, "eu-west"), NOW);
    assert_eq!(lapsed.plan.unwrap().services, [service_id("catalog")]);
    let failback = planned(&world, &only("checkout", intent(Purpose::Failback, "eu-west")));
    assert!(shifts_of(&failback) > 1, "by a ramp");
}

fn shifts_of(plan: &drover_model::plan::Plan) -> usize {
    plan.steps.iter().filter(|s| s.kind.word() == "shift_traffic").count()
}

#[test]
fn drover_moves_what_fits_and_asks_about_the_rest_by_itself() {
    let mut world = world();
    world.loads.insert(service_id("checkout"), Load::Measured { rate: RequestsPerSecond(1_400), at: NOW });
    judge(&mut world, "eu-west", VerdictState::Down);
    cov_mark::check!(i7_moves_what_fits);
    let planned = plan(&world, &Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") }, NOW);
    assert_eq!(planned.refusals, vec![]);
    assert_eq!(planned.plan.unwrap().services, [service_id("catalog")]);
    assert!(planned.guards.iter().any(|g| !g.passed && g.guard == "capacity"));
}

#[test]
fn an_unknown_load_is_asked_about_and_told_to_a_person() {
    let mut world = world();
    config(&mut world).services.get_mut(&service_id("catalog")).unwrap().peak_load = None;
    let wanted = only("catalog", intent(Purpose::Drain, "eu-west"));
    cov_mark::check_count!(i7_load_unknown, 2);
    assert_eq!(automatic(&world, &wanted), (vec!["load_unknown".into()], true));
    let planned = plan(&world, &wanted, NOW);
    assert!(planned.plan.is_some());
    assert!(planned.guards.iter().any(|g| g.passed && g.reason.code() == "load_unknown"));
}

#[test]
fn drover_takes_out_no_more_regions_than_it_may() {
    let before = world();
    let world = after(&before, &planned(&before, &intent(Purpose::Drain, "us-east")), "run-1");
    let wanted = only("catalog", intent(Purpose::Failover, "eu-west"));
    cov_mark::check_count!(i8_max_unavailable, 2);
    assert_eq!(automatic(&world, &wanted), (vec!["max_unavailable".into()], true));
    assert_eq!(person(&world, &wanted), Vec::<String>::new(), "a person is told the number");
}

#[test]
fn a_region_that_is_not_stable_yet_comes_back_only_by_a_word_that_names_it() {
    cov_mark::check_count!(stable_hold_refuses, 3);
    let mut before = world();
    for service in config(&mut before).services.values_mut() {
        service.failover.failback.stable_hold = drover_model::Span::from_mins(15);
    }
    let world = after(&before, &planned(&before, &intent(Purpose::Failover, "eu-west")), "run-1");
    let wanted = only("catalog", intent(Purpose::Failback, "eu-west"));
    assert_eq!(person(&world, &wanted), ["stable_hold"]);
    let refused = plan(&world, &wanted, NOW);
    let guard = refused.guards.iter().find(|g| !g.passed).unwrap();
    assert_eq!(guard.guard, "stable_hold");
    let by_name = Intent { accept: vec![Acceptance::StableHold], ..wanted.clone() };
    let accepted = plan(&world, &by_name, NOW);
    assert!(
        accepted.refusals.is_empty() && accepted.guards.iter().any(|g| g.guard == "stable_hold" && !g.passed)
    );
    assert_eq!(crate::check::check(&accepted.plan.unwrap(), &world), vec![]);
    let later = NOW + drover_model::Span::from_mins(15);
    assert!(plan(&world, &wanted, later).refusals.is_empty(), "the hold is over");
    let drained = after(&before, &planned(&before, &intent(Purpose::Drain, "eu-west")), "run-1");
    assert_eq!(person(&drained, &wanted), Vec::<String>::new(), "a drain was no failure");
}

#[test]
fn drover_brings_back_by_itself_only_what_says_so() {
    let before = world();
    let left = Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") };
    let mut world = after(&before, &planned(&before, &left), "run-1");
    let wanted = Intent { automatic: true, ..intent(Purpose::Failback, "eu-west") };
    cov_mark::check_count!(i8_not_brought_back_by_itself, 3);
    assert_eq!(plan(&world, &wanted, NOW).refusals.len(), 2);
    config(&mut world).services.get_mut(&service_id("checkout")).unwrap().failover.failback.automatic = true;
    assert_eq!(plan(&world, &wanted, NOW).plan.unwrap().services, [service_id("checkout")]);
}
