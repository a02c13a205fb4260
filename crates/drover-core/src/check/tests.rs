//! A good plan is changed in one way at a time, and each way must be seen.

use super::*;
use crate::testworld::{NOW, config, intent, judge, region, service_id, standing, world};
use drover_model::plan::ActiveRun;
use drover_model::runbook::Purpose;
use drover_model::traffic::Load;
use drover_model::{Percent, RequestsPerSecond, RunId};

/// An automatic failover off eu-west: 1 preflight, 2 verify_app, 3 shift_traffic, 4 verify_dns, 5 wait, 6 validate, …
fn good() -> (Plan, World) {
    let mut world = world();
    judge(&mut world, "eu-west", VerdictState::Down);
    let wanted = Intent { automatic: true, ..intent(Purpose::Failover, "eu-west") };
    let plan = crate::plan::plan(&world, &wanted, NOW).plan.unwrap();
    assert_eq!(check(&plan, &world), vec![]);
    (plan, world)
}

/// Gives a changed plan the name of what it says now, so that only the change itself can be found.
fn renamed(mut plan: Plan) -> Plan {
    let reason = std::mem::take(&mut plan.intent.reason);
    plan.id = PlanId::from_text("");
    plan.id = PlanId::of_json(&plan).unwrap();
    plan.intent.reason = reason;
    plan
}

fn found(plan: &Plan, world: &World) -> Vec<String> {
    let mut invariants: Vec<String> = check(plan, world).into_iter().map(|f| f.invariant).collect();
    invariants.dedup();
    invariants
}

fn shift(plan: &mut Plan) -> &mut TrafficChange {
    let StepKind::ShiftTraffic { changes } = &mut plan.steps[2].kind else { panic!("no shift") };
    &mut changes[0]
}

/// Has DNS asked as earlier builds planned it: with all of what is published said again.
fn said_again(plan: &mut Plan) {
    let StepKind::ShiftTraffic { changes } = plan.steps[2].kind.clone() else { panic!("no shift") };
    plan.steps[3].kind = StepKind::VerifyDns { of: None, expected: changes };
}

#[test]
fn a_plan_of_an_earlier_build_says_again_what_it_publishes() {
    let (mut plan, world) = good();
    said_again(&mut plan);
    let plan = renamed(plan);
    assert_eq!(found(&plan, &world), [""; 0]);
    assert_eq!(plan.expected_by(&plan.steps[3].kind).map(<[TrafficChange]>::len), Some(2));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "and is read as it was written");
}

#[test]
fn a_name_that_is_not_the_contents_is_found() {
    let (mut plan, world) = good();
    plan.intent.reason = "another".into();
    assert_eq!(check(&plan, &world), vec![], "why is a word to people, and no part of what is done");
    plan.steps[0].backoff = Span::from_secs(7);
    assert_eq!(found(&plan, &world), ["I9"]);
}

/// Has each address said again, as earlier builds planned it.
fn with_addresses(plan: &mut Plan, world: &World) {
    let StepKind::ShiftTraffic { changes } = &mut plan.steps[2].kind else { panic!("no shift") };
    for change in changes {
        let endpoints = &world.config.services[&change.service].endpoints;
        change.addresses = endpoints.iter().map(|(r, e)| (r.clone(), e.address.clone())).collect();
    }
}

#[test]
fn a_plan_of_an_earlier_build_says_again_what_is_answered() {
    let (mut plan, world) = good();
    with_addresses(&mut plan, &world);
    let plan = renamed(plan);
    assert_eq!(found(&plan, &world), [""; 0]);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "and is read as it was written");
    let wrong: [fn(&mut TrafficChange); 3] = [
        |c| drop(c.addresses.remove(&region("us-east"))),
        |c| drop(c.addresses.insert(region("us-east"), String::new())),
        |c| drop(c.addresses.insert(region("us-east"), "198.51.100.9".into())),
    ];
    for wrong in wrong {
        let mut plan = plan.clone();
        wrong(shift(&mut plan));
        assert_eq!(found(&renamed(plan), &world), ["I4"]);
    }
}

#[test]
fn an_endpoint_that_moved_since_the_plan_was_made_is_found() {
    let (plan, mut world) = good();
    let checkout = config(&mut world).services.get_mut(&service_id("checkout")).unwrap();
    checkout.endpoints.get_mut(&region("us-east")).unwrap().address = "198.51.100.9".into();
    assert_eq!(found(&plan, &world), ["I9"], "it is not the configuration that the plan read");
}

type Mutation = (&'static str, &'static str, fn(&mut Plan));

/// (what is done, the invariant that must be named first, how)
const MUTATIONS: &[Mutation] = &[
    ("all weights zero", "I4", |p| shift(p).weights_after.values_mut().for_each(|w| w.0 = 0)),
    ("weights that sum to 99", "I4", |p| {
        let after = &mut shift(p).weights_after;
        after.insert(region("us-east"), Weight(after.of(&region("us-east")).0 - 1));
    }),
    ("a weight without address", "I4", |p| {
        let after = &mut shift(p).weights_after;
        after.insert(region("nowhere"), after.of(&region("us-east")));
        after.insert(region("us-east"), Weight(0));
    }),
    ("another address", "I4", |p| drop(shift(p).addresses.insert(region("us-east"), "198.51.100.9".into()))),
    ("another TTL", "dns", |p| shift(p).ttl_seconds = 31),
    ("another name", "dns", |p| shift(p).dns_name = "other.example.test".into()),
    ("a generation that is not the world's", "I9", |p| shift(p).from_generation.0 = 7),
    ("a generation that skips", "I9", |p| shift(p).to_generation.0 += 1),
    ("weights before that are not published", "I9", |p| shift(p).weights_before = Weights::default()),
    ("a region that is left half", "goal", |p| {
        let after = &mut shift(p).weights_after;
        after.insert(region("eu-west"), Weight(10));
        after.insert(region("us-east"), Weight(40));
    }),
    ("a share that is kept", "goal", |p| {
        shift(p).shares_after.entry(region("eu-west")).and_modify(|s| s.share = Percent::FULL);
    }),
    ("a service that is not the plan's", "I2", |p| shift(p).service = service_id("other")),
];

#[test]
fn each_wrong_change_is_found() {
    for (what, invariant, mutate) in MUTATIONS {
        let (mut plan, world) = good();
        mutate(&mut plan);
        let found = found(&renamed(plan), &world);
        assert!(found.contains(&(*invariant).to_owned()), "{what}: {found:?}");
    }
}

#[test]
fn each_wrong_order_or_bound_is_found() {
    let mutations: &[Mutation] = &[
        ("no validation after the shift", "I10", |p| drop(p.steps.remove(5))),
        ("validation before the shift", "I10", |p| {
            let validate = p.steps.remove(5);
            p.steps.insert(1, validate);
        }),
        ("nobody asks DNS", "I10", |p| drop(p.steps.remove(3))),
        ("DNS is asked for something else", "I10", |p| {
            p.steps[3].kind = StepKind::VerifyDns { of: None, expected: vec![] };
        }),
        ("DNS is asked for what another step did", "I10", |p| {
            p.steps[3].kind = StepKind::VerifyDns { of: Some(p.steps[0].id.clone()), expected: vec![] };
        }),
        ("DNS is asked for two things", "I10", |p| {
            said_again(p);
            let StepKind::VerifyDns { of, .. } = &mut p.steps[3].kind else { panic!("no verify_dns") };
            *of = Some("3-shift_traffic".into());
        }),
        ("no preflight", "I9", |p| drop(p.steps.remove(0))),
        ("an empty preflight", "I9", |p| p.steps[0].kind = StepKind::Preflight { predicates: vec![] }),
        ("nothing is moved", "goal", |p| drop(p.steps.remove(2))),
        ("no time", "limits", |p| p.steps[0].timeout = Span::ZERO),
        ("a month", "limits", |p| p.steps[0].timeout = Span::from_hours(30 * 24)),
        ("less time than the wait takes", "limits", |p| p.steps[4].timeout = Span::from_secs(1)),
        ("no attempt", "limits", |p| p.steps[0].attempts = 0),
        ("a hundred attempts", "limits", |p| p.steps[0].attempts = 100),
        ("the same step id twice", "limits", |p| p.steps[0].id = p.steps[1].id.clone()),
        ("more steps than a journal holds", "limits", |p| {
            let last = p.steps.last().unwrap().clone();
            p.steps.extend((0..60).map(|n| Step { id: format!("{}-notify", 100 + n), ..last.clone() }));
        }),
        ("traffic sent back to the dead", "reversal", |p| {
            p.steps[2].reversal = Reversal::RestoreWeights { changes: vec![] };
        }),
        ("a service named twice", "I2", |p| p.services.push(service_id("catalog"))),
        ("a service that nothing changes", "goal", |p| {
            let StepKind::ShiftTraffic { changes } = &mut p.steps[2].kind else { panic!("no shift") };
            changes.truncate(1);
        }),
        ("a service that nobody knows", "I9", |p| p.services.push(service_id("other"))),
        ("a base without what is touched", "I9", |p| drop(p.base.remove("traffic/checkout"))),
        ("a base with more", "I9", |p| drop(p.base.insert("traffic/other".into(), "1".into()))),
        ("an older base", "I9", |p| drop(p.base.insert("runbook/failover".into(), "v0".into()))),
    ];
    for (what, invariant, mutate) in mutations {
        let (mut plan, world) = good();
        mutate(&mut plan);
        let found = found(&renamed(plan), &world);
        assert!(found.contains(&(*invariant).to_owned()), "{what}: {found:?}");
    }
}

type Change = (&'static str, &'static [&'static str], fn(&mut World));

#[test]
fn a_world_that_moved_is_found() {
    let changes: &[Change] = &[
        ("a target fails", &["I6"], |w| {
            w.verdicts.insert(crate::testworld::key("checkout", "us-east"), standing(VerdictState::Unknown));
        }),
        ("the load grew", &["I7"], |w| {
            let rate = RequestsPerSecond(1_400);
            w.loads.insert(service_id("checkout"), Load::Measured { rate, at: NOW });
        }),
        ("another run began", &["I2"], |w| {
            let (run, region) = (RunId::numbered(7), region("us-east"));
            w.runs.push(ActiveRun {
                run,
                services: vec![service_id("checkout")],
                region,
                purpose: None,
                rolling_back: false,
                by_stages: false,
                by: None,
                counts_on: std::collections::BTreeSet::new(),
                gives_way: false,
                awaiting_approval: false,
            });
        }),
        ("somebody broke the glass", &["I2"], |w| {
            w.held.insert(service_id("checkout"), drover_model::break_glass::HeldBy::new("ada", 1));
        }),
        ("the configuration changed", &["I9"], |w| {
            config(w).services.get_mut(&service_id("checkout")).unwrap().rto = Span::from_secs(1);
        }),
        ("traffic moved", &["I9"], |w| w.traffic.get_mut(&service_id("checkout")).unwrap().generation.0 += 1),
        ("traffic is unknown", &["I9"], |w| drop(w.traffic.remove(&service_id("checkout")))),
        ("drover was frozen", &["I9"], |w| {
            let by = drover_model::traffic::Actor::Automatic;
            w.freeze =
                Some(drover_model::traffic::Freeze { by, reason: "x".into(), since: NOW, expires_at: None });
        }),
        ("the policy forbids the target", &["I9", "locality"], |w| {
            let checkout = config(w).services.get_mut(&service_id("checkout")).unwrap();
            checkout.failover.jurisdictions = vec!["AP".into()];
        }),
        ("fewer regions may be out", &["I9", "I8"], |w| {
            config(w).services.get_mut(&service_id("checkout")).unwrap().failover.max_unavailable_regions = 0;
        }),
        ("the load is unknown", &["I9", "I7"], |w| {
            w.loads.clear();
            config(w).services.get_mut(&service_id("checkout")).unwrap().peak_load = None;
        }),
    ];
    for (what, expected, change) in changes {
        let (plan, mut world) = good();
        change(&mut world);
        let found = found(&plan, &world);
        for invariant in *expected {
            assert!(found.contains(&(*invariant).to_owned()), "{what}: {found:?}");
        }
        assert!(found.iter().all(|f| expected.contains(&f.as_str())), "{what}: {found:?}");
    }
}

#[test]
fn a_target_that_was_not_meant_is_found() {
    let world = world();
    let wanted = Intent { to: Some(region("us-east")), ..intent(Purpose::Drain, "eu-west") };
    let wanted = Intent { services: vec![service_id("catalog")], ..wanted };
    let mut plan = crate::plan::plan(&world, &wanted, NOW).plan.unwrap();
    assert_eq!(check(&plan, &world), vec![]);
    plan.intent.to = Some(region("ap-south"));
    assert_eq!(found(&renamed(plan), &world), ["I9"]);
}

#[test]
fn an_undo_that_restores_something_else_is_found() {
    let world = world();
    let mut plan = crate::plan::plan(&world, &intent(Purpose::Drain, "eu-west"), NOW).plan.unwrap();
    let Reversal::RestoreWeights { changes } = &mut plan.steps[2].reversal else { panic!("not reversible") };
    changes[0].weights_after = Weights::default();
    assert_eq!(found(&renamed(plan), &world), ["reversal"]);
}

#[test]
fn a_way_out_that_leaves_something_on_the_dead_region_is_found() {
    type Mutation = fn(&mut TrafficChange);
    let mutations: [(&str, Mutation); 3] = [
        ("a weight that stays", |out| {
            out.weights_after.insert(region("eu-west"), Weight(10));
            out.weights_after.insert(region("us-east"), Weight(40));
        }),
        ("all dark", |out| out.weights_after.values_mut().for_each(|w| w.0 = 0)),
        ("another stage's", |out| out.weights_before = Weights::default()),
    ];
    for (what, mutate) in mutations {
        let mut world = world();
        for state in world.traffic.values_mut() {
            let share = state.shares.get_mut(&region("eu-west")).unwrap();
            share.share = Percent::ZERO;
        }
        let mut plan = crate::plan::plan(&world, &intent(Purpose::Failback, "eu-west"), NOW).plan.unwrap();
        let stage = plan.steps.iter_mut().find_map(|s| match &mut s.reversal {
            Reversal::StepBack { out, .. } => Some(out),
            _ => None,
        });
        mutate(&mut stage.unwrap()[0]);
        let found = found(&renamed(plan), &world);
        assert!(found.contains(&"I4".to_owned()), "{what}: {found:?}");
    }
}

#[test]
fn only_capacity_and_the_number_of_regions_are_a_persons_to_overrule() {
    let finding = |invariant: &str| Finding { invariant: invariant.into(), message: String::new() };
    for (invariant, may) in
        [("I7", true), ("I8", true), ("I4", false), ("I6", false), ("I9", false), ("dns", false)]
    {
        assert_eq!(a_person_may_overrule(&finding(invariant)), may, "{invariant}");
    }
}

mod random {
    use super::*;
    use crate::testworld;
    use drover_model::traffic::{RegionShare, ShareReason};
    use proptest::prelude::*;

    const PURPOSES: [Purpose; 4] = [Purpose::Failover, Purpose::Drain, Purpose::Failback, Purpose::Undrain];
    const STATES: [VerdictState; 4] =
        [VerdictState::Healthy, VerdictState::Healthy, VerdictState::Down, VerdictState::Unknown];

    /// Three services of four regions each, with some verdicts, shares, loads and priorities.
    fn any_world() -> impl Strategy<Value = World> {
        let endpoint = (0usize..4, prop_oneof![4 => Just(10_000u32), 1 => Just(0), 1 => Just(500)], 1u8..3);
        (prop::collection::vec(endpoint, 12), prop::collection::vec(1u64..2_000, 3)).prop_map(
            |(endpoints, loads)| {
                let mut services = vec![];
                for (number, own) in endpoints.chunks(4).enumerate() {
                    let mut service = testworld::service(&format!("s{number}"), 1, &["a", "b", "c", "d"]);
                    for (endpoint, (_, _, priority)) in service.endpoints.values_mut().zip(own) {
                        endpoint.priority = *priority;
                    }
                    service.peak_load = Some(RequestsPerSecond(loads[number]));
                    services.push(service);
                }
                let mut world = testworld::of(services);
                for (held, (state, _, _)) in world.verdicts.values_mut().zip(&endpoints) {
                    *held = standing(STATES[*state]);
                }
                for (state, own) in world.traffic.values_mut().zip(endpoints.chunks(4)) {
                    for (share, (_, points, _)) in state.shares.values_mut().zip(own) {
                        let reason = ShareReason::Drained { run: RunId::numbered(1) };
                        *share = RegionShare { share: Percent::from_basis_points(*points), reason };
                    }
                    let service = &world.config.services[&state.service];
                    let shares = crate::targets::percents(&state.shares);
                    state.weights =
                        crate::weights::published(service, &shares).unwrap_or(state.weights.clone());
                }
                world
            },
        )
    }

    proptest! {
        /// Two who share no code agree: the checker finds nothing in what the planner lets go, and in what it wants
        /// asked about only what a person may overrule.
        #[test]
        fn planner_and_checker_agree(
            world in any_world(),
            purpose in 0usize..4,
            automatic: bool,
            to in prop::option::of(0usize..4),
        ) {
            let regions = ["a", "b", "c", "d"];
            let to = to.filter(|_| purpose < 2).map(|t| region(regions[t]));
            let wanted = Intent { automatic, to, ..intent(PURPOSES[purpose], "a") };
            let planned = crate::plan::plan(&world, &wanted, NOW);
            prop_assert!(planned.plan.is_some() || !planned.refusals.is_empty(), "no plan and no reason");
            if let Some(plan) = &planned.plan {
                let findings = check(plan, &world);
                if planned.refusals.is_empty() {
                    prop_assert_eq!(findings, vec![]);
                } else {
                    prop_assert!(automatic && findings.iter().all(a_person_may_overrule), "{:?}", findings);
                }
                prop_assert_eq!(crate::plan::stale(plan, &world), vec![]);
            }
        }
    }
}
