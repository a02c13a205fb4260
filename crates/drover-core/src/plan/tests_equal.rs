//! Plans for a zone whose servers know no weights: what is shown before anyone approves is what will be answered.

use super::tests::{after, planned, shifts, weights};
use super::*;
use crate::check::check;
use crate::testworld::{self, NOW, config, intent, judge, region, service_id};
use drover_model::config::{
    Answering, Answers, DnsServers, Draws, Rfc2136Dns, Split, TsigAlgorithm, TsigKey,
};
use drover_model::decision::{GuardResult, VerdictState};
use drover_model::plan::{Acceptance, Predicate, StepKind};
use drover_model::runbook::Purpose;
use drover_model::{RequestsPerSecond, Span, Weight};

/// One service in these regions, in such a zone.
fn equal(places: &[&str]) -> World {
    let mut service = testworld::service("pay", 1, places);
    service.split = Split::Equally;
    let mut world = testworld::of(vec![service]);
    let key = TsigKey {
        name: "drover".into(),
        algorithm: TsigAlgorithm::HmacSha256,
        secret_file: "/etc/drover/tsig.secret".into(),
    };
    let primary = ([192, 0, 2, 53], 53).into();
    let servers = Rfc2136Dns { primary, servers: vec![], key, timeout: Span::from_secs(5), weights: None };
    config(&mut world).settings.dns.as_mut().unwrap().servers = DnsServers::Rfc2136(servers);
    world
}

fn guards<'p>(planned: &'p Planned, name: &str) -> Vec<&'p GuardResult> {
    planned.guards.iter().filter(|g| g.guard == name).collect()
}

#[test]
fn a_plan_says_that_shares_become_equal_before_anyone_approves() {
    let mut world = equal(&["a", "b", "c"]);
    for (name, weight) in [("a", 80), ("b", 15), ("c", 5)] {
        let pay = config(&mut world).services.get_mut(&service_id("pay")).unwrap();
        pay.endpoints.get_mut(&region(name)).unwrap().weight = Some(weight);
    }
    let service = world.config.services[&service_id("pay")].clone();
    world.traffic.insert(service_id("pay"), crate::targets::initial_traffic(&service, NOW));
    let wanted = intent(Purpose::Drain, "a");
    assert_eq!(weights(shifts(&planned(&world, &wanted))[0]), [0, 50, 50], "whatever was configured");
    let told = plan(&world, &wanted, NOW);
    assert_eq!(guards(&told, "dns")[0].reason, Reason::SharesBecomeEqual);
    assert!(Reason::SharesBecomeEqual.to_string().starts_with("shares become equal"));
}

#[test]
fn capacity_is_judged_by_what_is_answered_and_not_by_what_was_wished() {
    let mut world = equal(&["a", "b", "c"]);
    let pay = config(&mut world).services.get_mut(&service_id("pay")).unwrap();
    // By weight it would take 10 of 600 rps; answered equally it gets 300.
    for (name, weight, capacity) in [("a", 33, 800), ("b", 65, 800), ("c", 2, 100)] {
        let endpoint = pay.endpoints.get_mut(&region(name)).unwrap();
        (endpoint.weight, endpoint.capacity) = (Some(weight), RequestsPerSecond(capacity));
    }
    judge(&mut world, "a", VerdictState::Down);
    let wanted = Intent { automatic: true, ..intent(Purpose::Failover, "a") };
    let codes = |p: &Planned| p.refusals.iter().map(Reason::code).collect::<Vec<_>>();
    assert_eq!(codes(&plan(&world, &wanted, NOW)), ["capacity_insufficient"]);
    let by_hand = Intent { accept: vec![Acceptance::Capacity], ..intent(Purpose::Failover, "a") };
    assert_eq!(weights(shifts(&planned(&world, &by_hand))[0]), [0, 50, 50]);
}

#[test]
fn who_answers_already_takes_its_part_also_when_it_is_unfit() {
    cov_mark::check!(i6_unavoidable);
    cov_mark::check!(takes_part_unfit);
    let mut world = equal(&["a", "b", "c", "d"]);
    judge(&mut world, "a", VerdictState::Down);
    judge(&mut world, "b", VerdictState::Down);
    // It could not carry its part, and being down it carries none: that must not keep anybody from leaving `a`.
    let pay = config(&mut world).services.get_mut(&service_id("pay")).unwrap();
    pay.endpoints.get_mut(&region("b")).unwrap().capacity = RequestsPerSecond(10);
    let wanted = Intent { automatic: true, ..intent(Purpose::Failover, "a") };
    let made = plan(&world, &wanted, NOW);
    assert_eq!(made.refusals, vec![]);
    assert_eq!(guards(&made, "takes_part").len(), 1, "{:?}", made.guards);
    let first = planned(&world, &wanted);
    assert_eq!(weights(shifts(&first)[0]), [0, 34, 33, 33]);
    let StepKind::Preflight { predicates } = &first.steps[0].kind else { panic!("no preflight") };
    let asked: Vec<&str> = predicates
        .iter()
        .filter_map(|p| {
            if let Predicate::EndpointHealthy { endpoint } = p {
                Some(endpoint.region.as_str())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(asked, ["c", "d"], "of b it is known already");
    let world = after(&world, &first, "run-1");
    let second = planned(&world, &intent(Purpose::Failover, "b"));
    assert_eq!(weights(shifts(&second)[0]), [0, 0, 50, 50]);
}

#[test]
fn one_region_alone_can_not_be_given_more() {
    let to = Intent { to: Some(region("b")), ..intent(Purpose::Drain, "a") };
    cov_mark::check!(no_weights_to_send_it_to_one);
    let refused = plan(&equal(&["a", "b", "c"]), &to, NOW);
    let (service, others) = (service_id("pay"), vec![region("c")]);
    assert_eq!(refused.refusals, [Reason::NoWeights { service, region: region("b"), others }]);
    assert_eq!(weights(shifts(&planned(&equal(&["a", "b"]), &to))[0]), [0, 100], "there is nobody else");
    // A standby that takes the place of who leaves leaves everybody else what they have, whatever the rounding.
    let mut world = equal(&["a", "b", "c", "d"]);
    let pay = config(&mut world).services.get_mut(&service_id("pay")).unwrap();
    pay.endpoints.get_mut(&region("d")).unwrap().priority = 2;
    let pay = pay.clone();
    world.traffic.insert(service_id("pay"), crate::targets::initial_traffic(&pay, NOW));
    let to = Intent { to: Some(region("d")), ..intent(Purpose::Drain, "a") };
    assert_eq!(weights(shifts(&planned(&world, &to))[0]), [0, 34, 33, 33]);
}

#[test]
fn a_return_is_one_step() {
    let world = equal(&["a", "b", "c"]);
    let out = planned(&world, &intent(Purpose::Failover, "a"));
    let world = after(&world, &out, "run-1");
    let back =
        planned(&world, &Intent { accept: vec![Acceptance::StableHold], ..intent(Purpose::Failback, "a") });
    let changes = shifts(&back);
    assert_eq!(changes.len(), 1, "one percent would be a third already");
    assert_eq!(weights(changes[0]), [34, 33, 33]);
}

#[test]
fn the_checker_finds_parts_that_are_not_equal() {
    let world = equal(&["a", "b", "c"]);
    let mut plan = planned(&world, &intent(Purpose::Drain, "a"));
    for step in &mut plan.steps {
        if let StepKind::ShiftTraffic { changes } = &mut step.kind {
            changes[0].weights_after.insert(region("b"), Weight(70));
            changes[0].weights_after.insert(region("c"), Weight(30));
        }
    }
    let found = check(&plan, &world);
    assert!(found.iter().any(|f| f.message.contains("know no weights")), "{found:?}");
}

#[test]
fn of_several_values_in_one_answer_clients_take_any_and_the_plan_says_so() {
    let answering = Answering { answers: Answers::All, draws: Draws::Anew };
    let mut several = testworld::service("pay", 1, &["a", "b", "c"]);
    (several.answering, several.split) = (answering, Split::Equally);
    let world = testworld::of(vec![several, testworld::service("web", 2, &["a", "b", "c"])]);
    let told = plan(&world, &intent(Purpose::Drain, "a"), NOW);
    let said: Vec<&Reason> = guards(&told, "dns").into_iter().map(|g| &g.reason).collect();
    let services = vec![service_id("pay")];
    assert_eq!(said, [&Reason::Passed, &Reason::SharesBecomeEqualOf { services }]);
    assert!(said[1].to_string().starts_with("shares become equal: pay answers with several values"));
    let planned = planned(&world, &intent(Purpose::Drain, "a"));
    assert_eq!(weights(shifts(&planned)[0]), [0, 50, 50]);
    assert_eq!(check(&planned, &world), vec![]);
}

#[test]
fn a_plan_says_whose_weights_are_not_all_clients() {
    let mut near = testworld::service("pay", 1, &["a", "b", "c"]);
    near.answering = Answering { answers: Answers::One, draws: Draws::Nearest };
    let world = testworld::of(vec![near]);
    let told = plan(&world, &intent(Purpose::Drain, "a"), NOW);
    let said: Vec<&Reason> = guards(&told, "dns").into_iter().map(|g| &g.reason).collect();
    let services = vec![service_id("pay")];
    assert_eq!(said, [&Reason::Passed, &Reason::NearestFirst { services }]);
    assert!(said[1].to_string().starts_with("weights of pay are of clients that `geography` has nothing of"));
}
