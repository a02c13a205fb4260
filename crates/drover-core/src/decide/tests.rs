use super::*;
use crate::fixture::{Fixture, NOW, endpoint, hold, region, service};
use drover_model::plan::{ActiveRun, Estimates};
use drover_model::traffic::{Actor, Block, Freeze};
use drover_model::{Percent, RequestsPerSecond, RunId, Span, Weight};
use proptest::prelude::*;
use std::sync::Arc;

/// eu-west fails for the last ten minutes in both services; nothing else is wrong.
fn eu_west_down() -> World {
    let mut world = Fixture::three_regions_and_witness().world();
    for key in ["checkout@eu-west", "catalog@eu-west"] {
        hold(&mut world, &endpoint(key), "fff", "", 600);
    }
    world
}

fn only(world: &World) -> ActionDecision {
    let mut decisions = decide(world, NOW);
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    decisions.remove(0)
}

/// Where the decision ended, its reason's code and its guard.
fn short(decision: &ActionDecision) -> (Conclusion, String) {
    (decision.conclusion, decision.reason.code())
}

fn after(secs: u64) -> Timestamp {
    NOW + Span::from_secs(secs)
}

#[test]
fn nothing_is_said_of_regions_that_are_well() {
    assert_eq!(decide(&Fixture::three_regions_and_witness().world(), NOW), []);
}

#[test]
fn a_dead_region_is_failed_over() {
    let decision = only(&eu_west_down());
    assert_eq!(short(&decision), (Conclusion::Act, "quorum_reached".into()), "{decision:#?}");
    assert_eq!(decision.class, FailureClass::Region);
    assert_eq!(
        sentence(&decision),
        "failing over eu-west (checkout, catalog): 3 of 3 outside vantages agree, 2 needed"
    );
    assert!(decision.guards.iter().all(|g| g.passed));
    let planned = crate::plan::plan(&eu_west_down(), &intent_of(&decision), NOW);
    assert_eq!(planned.plan.unwrap().services, decision.services);
    for guard in ["freeze", "run_in_progress", "automatic", "quorum", "common_cause", "settling", "capacity"]
    {
        assert!(decision.guards.iter().any(|g| g.guard == guard), "{guard} was not asked");
    }
}

#[test]
fn a_dead_service_is_an_endpoint_failure() {
    let mut world = Fixture::three_regions_and_witness().world();
    hold(&mut world, &endpoint("catalog@eu-west"), "ffh", "h", 600);
    let decision = only(&world);
    assert_eq!((decision.class, decision.conclusion), (FailureClass::Endpoint, Conclusion::Act));
    assert_eq!(decision.services, [service("catalog")]);
}

#[test]
fn a_regions_only_service_is_the_whole_region() {
    let mut fixture = Fixture::three_regions_and_witness();
    fixture.config().services.remove(&service("catalog"));
    let mut world = fixture.world();
    world.verdicts.retain(|key, _| key.service == service("checkout"));
    hold(&mut world, &endpoint("checkout@eu-west"), "fff", "", 600);
    assert_eq!(only(&world).class, FailureClass::Region);
}

#[test]
fn what_does_not_move_traffic_holds_with_the_most_telling_reason() {
    let table = [
        ("fhh", "h", "not failing over eu-west: 1 of 3 outside vantages agree, 2 needed"),
        (
            "hhh",
            "f",
            "not failing over eu-west: 1 inside vantage(s) see it failing, 3 outside see it healthy",
        ),
        ("UUU", "", "not failing over eu-west: 3 of 3 outside vantages say nothing, 2 must agree"),
        ("FFF", "U", "not failing over eu-west: 3 of 3 outside vantages say nothing, 2 must agree"),
    ];
    for (outside, inside, expected) in table {
        let mut world = Fixture::three_regions_and_witness().world();
        hold(&mut world, &endpoint("checkout@eu-west"), "hUU", "h", 60); // The duller one.
        hold(&mut world, &endpoint("catalog@eu-west"), outside, inside, 60);
        if outside == "UUU" || outside == "FFF" {
            hold(&mut world, &endpoint("checkout@eu-west"), "hhh", "h", 60);
        }
        let decision = only(&world);
        assert_eq!(sentence(&decision), expected);
        assert_eq!(decision.conclusion, Conclusion::Hold);
    }
}

#[test]
fn an_endpoint_without_a_verdict_is_unknown() {
    let mut world = Fixture::three_regions_and_witness().world();
    world.verdicts.remove(&endpoint("checkout@eu-west"));
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "too_little_known".into()));
}

fn set_weight(world: &mut World, key: &str, weight: u8) {
    let key = endpoint(key);
    let traffic = world.traffic.get_mut(&key.service).unwrap();
    traffic.weights.insert(key.region.clone(), Weight(weight));
    if weight == 0 {
        traffic.shares.get_mut(&key.region).unwrap().share = Percent::ZERO;
    }
}

#[test]
fn a_region_that_is_out_already_is_left_alone() {
    let mut world = eu_west_down();
    set_weight(&mut world, "checkout@eu-west", 0);
    set_weight(&mut world, "catalog@eu-west", 0);
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "moved_already".into()));
    for key in ["checkout@eu-west", "catalog@eu-west"] {
        hold(&mut world, &endpoint(key), "hhh", "h", 600);
    }
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "nothing_to_do".into()));
}

#[test]
fn a_freeze_holds_while_it_lasts() {
    cov_mark::check!(i8_frozen_holds);
    let mut world = eu_west_down();
    let by = Actor::Person { name: "ann".into(), host: "h".into() };
    let since = NOW - Span::from_secs(9);
    world.freeze = Some(Freeze { by, reason: "deploy".into(), since, expires_at: Some(after(60)) });
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Hold, "frozen".into()));
    assert_eq!(decision.look_again_at, Some(after(60)));
    let later = decide(&world, after(60)).remove(0);
    assert_eq!(later.conclusion, Conclusion::Act);
}

fn run(n: u64, services: &[&str], place: &str, awaiting_approval: bool) -> ActiveRun {
    let services = services.iter().map(|s| service(s)).collect();
    let (run, region) = (RunId::numbered(n), region(place));
    ActiveRun {
        run,
        services,
        region,
        purpose: Some(Purpose::Failover),
        rolling_back: false,
        by_stages: false,
        by: Some(Actor::Automatic),
        counts_on: BTreeSet::new(),
        gives_way: false,
        awaiting_approval,
    }
}

#[test]
fn a_run_on_the_same_service_holds() {
    cov_mark::check!(i2_run_in_progress_holds);
    let mut world = eu_west_down();
    world.runs = vec![run(7, &["catalog"], "us-east", false)];
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Hold, "run_in_progress".into()));
    assert_eq!(decision.reason.to_string(), "run-7, begun by drover, is working on catalog");
}

#[test]
fn an_open_question_is_not_asked_again() {
    cov_mark::check!(already_asked_holds);
    let mut world = eu_west_down();
    world.runs = vec![run(7, &["checkout"], "eu-west", true)];
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "already_asked".into()));
    world.runs = vec![run(7, &["checkout"], "us-east", true), run(8, &["search"], "eu-west", false)];
    assert_eq!(
        only(&world).conclusion,
        Conclusion::Act,
        "neither a question elsewhere nor another service's run"
    );
}

#[test]
fn what_a_person_asks_others_keeps_drover_from_nothing() {
    let mut world = eu_west_down();
    let mut asked = run(7, &["checkout"], "eu-west", true);
    asked.by = Some(Actor::Person { name: "ann".into(), host: "here".into() });
    world.runs = vec![asked];
    assert_eq!(
        only(&world).conclusion,
        Conclusion::Act,
        "it waits for a second person, and users would with it"
    );
}

#[test]
fn a_policy_that_says_ask_asks() {
    cov_mark::check!(not_automatic_asks);
    let mut world = eu_west_down();
    let config = Arc::make_mut(&mut world.config);
    for s in config.services.values_mut() {
        s.failover.automatic = false;
    }
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Ask, "not_automatic".into()));
    assert!(sentence(&decision).starts_with("asking before failing over eu-west: "));
}

#[test]
fn services_that_may_move_do_not_wait_for_those_that_may_not() {
    let mut world = eu_west_down();
    Arc::make_mut(&mut world.config).services.get_mut(&service("catalog")).unwrap().failover.automatic =
        false;
    let decision = only(&world);
    assert_eq!((decision.conclusion, decision.class), (Conclusion::Act, FailureClass::Region));
    assert_eq!(decision.services, [service("checkout")]);
    set_weight(&mut world, "checkout@eu-west", 0);
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Ask, "not_automatic".into()));
    assert_eq!(decision.services, [service("catalog")]);
}

#[test]
fn with_too_few_vantages_it_asks() {
    cov_mark::check!(i6_too_few_vantages_asks);
    let mut world = Fixture::of(&["eu-west", "us-east"], false).world();
    for key in ["checkout@eu-west", "catalog@eu-west"] {
        hold(&mut world, &endpoint(key), "f", "U", 600);
    }
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Ask, "too_few_vantages".into()));
    hold(&mut world, &endpoint("catalog@eu-west"), "U", "U", 600);
    hold(&mut world, &endpoint("checkout@eu-west"), "f", "h", 600);
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "quorum_not_reached".into()), "the inside disagrees");
}

#[test]
fn after_a_takeover_it_waits_for_fresh_probes() {
    cov_mark::check!(i6_quiet_after_takeover);
    let mut world = eu_west_down();
    world.heard_since_start.retain(|a| a.as_str() != "ap-south-1" && a.as_str() != "tower-1");
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Hold, "quiet_after_takeover".into()));
    assert_eq!(
        decision.reason,
        Reason::QuietAfterTakeover { heard: 1, need: 2 },
        "eu-west itself does not count"
    );
    world.heard_since_start.push("tower-1".parse().unwrap());
    assert_eq!(only(&world).conclusion, Conclusion::Act);
}

#[test]
fn after_a_takeover_only_those_agree_who_have_looked_since() {
    let mut world = eu_west_down();
    let key = endpoint("checkout@eu-west");
    let mut inputs = crate::fixture::inputs("ffh", "");
    // The third, which sees it well, has looked since the takeover like the first; the second has not.
    inputs.led_since = Some(NOW - Span::from_secs(10));
    inputs.outside[1].last_probe_age = Some(Span::from_secs(12));
    let verdict = crate::verdict::conclude(&inputs);
    assert_eq!((verdict.state, verdict.failing, verdict.unconfirmed), (VerdictState::Down, 2, 1));
    world.verdicts.get_mut(&key).unwrap().verdict = verdict;
    let decision = only(&world);
    assert_eq!(decision.reason, Reason::QuietAfterTakeover { heard: 1, need: 2 });
    inputs.outside[1].last_probe_age = Some(Span::from_secs(9));
    world.verdicts.get_mut(&key).unwrap().verdict = crate::verdict::conclude(&inputs);
    assert_eq!(only(&world).conclusion, Conclusion::Act);
}

#[test]
fn after_a_takeover_each_service_is_measured_by_its_own_need() {
    let mut fixture = Fixture::three_regions_and_witness();
    fixture.service("catalog").failover.quorum = Some(3);
    let mut world = fixture.world();
    hold(&mut world, &endpoint("catalog@eu-west"), "fff", "", 600);
    hold(&mut world, &endpoint("checkout@eu-west"), "ffh", "", 600);
    assert_eq!(only(&world).conclusion, Conclusion::Act, "two are enough for checkout");
    world.verdicts.get_mut(&endpoint("catalog@eu-west")).unwrap().verdict.unconfirmed = 1;
    assert_eq!(only(&world).reason, Reason::QuietAfterTakeover { heard: 2, need: 3 });
}

#[test]
fn more_than_half_of_the_regions_at_once_are_suspected_of_a_common_cause() {
    cov_mark::check!(i6_common_cause_asks);
    let mut world = eu_west_down();
    hold(&mut world, &endpoint("checkout@us-east"), "fff", "h", 1);
    let asked = vec![(Conclusion::Ask, "common_cause".into()); 2];
    for hours in [0, 1, 24] {
        let decisions = decide(&world, after(3_600 * hours));
        assert_eq!(decisions.iter().map(short).collect::<Vec<_>>(), asked, "the doubt lasts while both fail");
    }
    hold(&mut world, &endpoint("catalog@eu-west"), "hhh", "h", 600);
    hold(&mut world, &endpoint("checkout@eu-west"), "hhh", "h", 600);
    assert_eq!(only(&world).conclusion, Conclusion::Act, "one of three");
}

#[test]
fn exactly_half_is_no_common_cause_and_failures_a_window_apart_have_none() {
    let mut world = Fixture::of(&["eu-west", "us-east"], true).world();
    hold(&mut world, &endpoint("checkout@eu-west"), "ff", "", 300);
    assert_eq!(only(&world).conclusion, Conclusion::Act);
    for (secs, expected) in [(1_199, true), (1_200, false), (1_201, false)] {
        let mut world = eu_west_down(); // Ten minutes ago; the window is ten minutes long and half-open.
        hold(&mut world, &endpoint("checkout@us-east"), "fff", "", secs);
        let eu = decide(&world, NOW).into_iter().find(|d| d.region == region("eu-west")).unwrap();
        assert_eq!(eu.reason.code() == "common_cause", expected, "us-east failed {secs} s ago");
    }
}

#[test]
fn a_young_verdict_waits_one_round_while_something_else_is_suspect() {
    cov_mark::check!(settling_waits_one_round);
    let mut world = Fixture::three_regions_and_witness().world();
    hold(&mut world, &endpoint("checkout@eu-west"), "fff", "", 10);
    assert_eq!(only(&world).conclusion, Conclusion::Act, "nothing else is suspect");
    world.verdicts.get_mut(&endpoint("checkout@us-east")).unwrap().verdict.suspect = true;
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Hold, "settling".into()));
    assert_eq!(
        decision.look_again_at,
        Some(after(25)),
        "one interval of 30 s and a timeout of 5 s after the verdict"
    );
    assert_eq!(decide(&world, after(25)).remove(0).conclusion, Conclusion::Act);
    hold(&mut world, &endpoint("checkout@us-east"), "hhh", "h", 10);
    world.verdicts.remove(&endpoint("catalog@eu-west"));
    assert_eq!(
        short(&only(&world)),
        (Conclusion::Hold, "settling".into()),
        "not concluded about is open too"
    );
}

#[test]
fn unreachable_that_became_down_does_not_settle_anew() {
    let mut world = Fixture::three_regions_and_witness().world();
    hold(&mut world, &endpoint("checkout@eu-west"), "fff", "", 1);
    let standing = world.verdicts.get_mut(&endpoint("checkout@eu-west")).unwrap();
    standing.recent_changes = vec![NOW - Span::from_secs(60)];
    world.verdicts.get_mut(&endpoint("checkout@us-east")).unwrap().verdict.suspect = true;
    assert_eq!(only(&world).conclusion, Conclusion::Act);
}

#[test]
fn a_block_of_the_same_class_asks() {
    cov_mark::check!(i8_block_period_asks);
    let mut world = eu_west_down();
    let block = |class, until| Block { service: service("checkout"), class, run: RunId::numbered(3), until };
    world.blocks = vec![block(FailureClass::Endpoint, after(900)), block(FailureClass::Region, NOW)];
    assert_eq!(only(&world).conclusion, Conclusion::Act, "another class, and one that is over");
    world.blocks = vec![block(FailureClass::Region, after(900))];
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Ask, "blocked".into()));
    assert_eq!(decision.reason.next_command().unwrap(), "drover rearm checkout");
}

#[test]
fn a_flapping_endpoint_asks() {
    cov_mark::check!(i8_flapping_asks);
    let mut world = eu_west_down();
    let standing = world.verdicts.get_mut(&endpoint("checkout@eu-west")).unwrap();
    standing.recent_changes = [3_000, 1_800, 600].map(|secs| NOW - Span::from_secs(secs)).into();
    let decision = only(&world);
    assert_eq!(decision.reason, Reason::FlapDamping { changes: 3, until: after(600) });
    assert_eq!(decision.conclusion, Conclusion::Ask);
}

#[test]
fn what_the_planner_objects_to_is_asked_about() {
    cov_mark::check!(i7_planner_objection_asks);
    let mut world = eu_west_down();
    for s in Arc::make_mut(&mut world.config).services.values_mut() {
        for e in s.endpoints.values_mut() {
            e.capacity = RequestsPerSecond(300);
        }
    }
    let decision = only(&world);
    assert_eq!(short(&decision), (Conclusion::Ask, "capacity_insufficient".into()), "{decision:#?}");
}

#[test]
fn where_no_plan_exists_it_holds() {
    cov_mark::check!(i4_no_plan_holds);
    let mut world = eu_west_down();
    Arc::make_mut(&mut world.config).settings.dns = None;
    assert_eq!(short(&only(&world)), (Conclusion::Hold, "dns_not_configured".into()));
    let mut world = Fixture::of(&["eu-west", "us-east"], true).world();
    set_weight(&mut world, "checkout@us-east", 0);
    hold(&mut world, &endpoint("checkout@us-east"), "ff", "", 3_000);
    hold(&mut world, &endpoint("checkout@eu-west"), "ff", "", 600);
    let eu = decide(&world, NOW).into_iter().find(|d| d.region == region("eu-west")).unwrap();
    assert_eq!(eu.conclusion, Conclusion::Hold, "the last region is never left: {}", eu.reason);
}

#[test]
fn a_planner_that_says_nothing_is_never_followed() {
    let silent = |_: &World, _: &Intent, _: Timestamp| Planned {
        plan: None,
        guards: vec![],
        refusals: vec![],
        rows: vec![],
        estimates: Estimates::default(),
    };
    let decision = decide_with(&eu_west_down(), NOW, &silent, &crate::check::check).remove(0);
    assert_eq!(short(&decision), (Conclusion::Hold, "check_failed".into()));
}

#[test]
fn the_first_refusal_decides_and_all_are_listed() {
    let mut world = eu_west_down();
    world.heard_since_start.clear();
    world.runs = vec![run(7, &["catalog"], "us-east", false)];
    let decision = only(&world);
    assert_eq!(decision.reason.code(), "run_in_progress");
    let refused: Vec<_> = decision.guards.iter().filter(|g| !g.passed).map(|g| g.guard.as_str()).collect();
    assert_eq!(
        refused[..2],
        ["run_in_progress", "quiet_after_takeover"],
        "and what the planner says of it: {refused:?}"
    );
}

/// Five serving regions and a tower, two of which fail: fewer than half, so each alone would be acted on.
#[test]
fn two_regions_at_once_are_left_one_after_the_other() {
    cov_mark::check!(i2_one_move_a_service);
    let places = ["ap-south", "eu-north", "eu-west", "us-east", "us-west"];
    let mut world = Fixture::of(&places, true).world();
    hold(&mut world, &endpoint("checkout@eu-west"), "fffff", "", 600);
    hold(&mut world, &endpoint("checkout@us-east"), "fffff", "", 600);
    let decisions = decide(&world, NOW);
    assert_eq!(
        decisions.iter().map(short).collect::<Vec<_>>(),
        [(Conclusion::Act, "quorum_reached".into()), (Conclusion::Hold, "settling".into())]
    );
    hold(&mut world, &endpoint("checkout@us-east"), "hhhhh", "h", 600);
    hold(&mut world, &endpoint("catalog@us-east"), "fffff", "", 600);
    let both = decide(&world, NOW).iter().filter(|d| d.conclusion == Conclusion::Act).count();
    assert_eq!(both, 2, "different services do not touch each other");
}

/// A world in which anything may stand anywhere.
fn any_world() -> impl Strategy<Value = World> {
    let seen = prop::collection::vec(("[fhuUFH]{3}", "[fhuUFH]?", 0u64..2_000, any::<bool>()), 6);
    (seen, any::<bool>(), any::<bool>(), any::<bool>(), 0usize..5).prop_map(
        |(seen, frozen, catalog_automatic, running, heard)| {
            let mut fixture = Fixture::three_regions_and_witness();
            fixture.service("catalog").failover.automatic = catalog_automatic;
            let mut world = fixture.world();
            let keys: Vec<_> = world.verdicts.keys().map(ToString::to_string).collect();
            for (key, (outside, inside, secs, out)) in keys.iter().zip(seen) {
                hold(&mut world, &endpoint(key), &outside, &inside, secs);
                if out && secs > 1_500 {
                    set_weight(&mut world, key, 0);
                }
            }
            world.heard_since_start.truncate(heard);
            let freeze = Freeze { by: Actor::Automatic, reason: "r".into(), since: NOW, expires_at: None };
            world.freeze = frozen.then_some(freeze);
            world.runs = if running { vec![run(1, &["catalog"], "us-east", false)] } else { vec![] };
            world
        },
    )
}

proptest! {
    /// What no combination may break: each line is one invariant.
    #[test]
    fn it_never_acts_against_a_guard(world in any_world()) {
        let decisions = decide(&world, NOW);
        let mut moved = BTreeSet::new();
        for d in &decisions {
            prop_assert!(d.guards.iter().any(|g| !g.passed) || d.conclusion == Conclusion::Act);
            if d.conclusion != Conclusion::Act {
                continue;
            }
            prop_assert!(world.freeze.is_none(), "acted while frozen");
            let ours: Vec<_> = d.services.iter().map(|s| world.verdicts[&EndpointKey::new(s, &d.region)].since).collect();
            let together = world.verdicts.iter().filter(|(key, s)| {
                key.region != d.region && s.verdict.state.moves_traffic()
                    && ours.iter().any(|t| t.as_millis().abs_diff(s.since.as_millis()) < 600_000)
            });
            prop_assert_eq!(together.count(), 0, "acted while another of three regions failed with it");
            prop_assert!(!d.services.is_empty());
            for s in &d.services {
                let verdict = &world.verdicts[&EndpointKey::new(s, &d.region)].verdict;
                prop_assert!(verdict.state.moves_traffic() && verdict.failing >= 2, "acted without a quorum");
                prop_assert!(world.config.services[s].failover.automatic, "acted against the policy");
                prop_assert!(!world.runs.iter().any(|r| r.services.contains(s)), "acted beside a run");
                prop_assert!(moved.insert(s.clone()), "two moves of one service");
            }
        }
    }

    /// A decision can be run again from the world that is stored with it, and says the same.
    #[test]
    fn the_stored_world_is_enough(world in any_world()) {
        for decision in decide(&world, NOW) {
            let stored = world.narrowed(&concerned(&world, &decision.region));
            let again = decide(&stored, NOW).into_iter().find(|d| d.region == decision.region);
            prop_assert_eq!(again, Some(decision));
        }
    }

    /// A plan that was made on the way is the plan that would be made of the decision, and changes no decision.
    #[test]
    fn a_plan_is_made_once_and_is_the_same(world in any_world()) {
        let (decisions, plans) = decide_and_plan(&world, NOW);
        prop_assert_eq!(&decisions, &decide_with(&world, NOW, &crate::plan::plan, &crate::check::check));
        for decision in decisions.iter().filter(|d| d.conclusion != Conclusion::Hold) {
            let intent = intent_of(decision);
            prop_assert_eq!(plans.made_for(&intent), Some(&crate::plan::plan(&world, &intent, NOW)));
            prop_assert_eq!(plans.0.iter().filter(|(asked, _)| *asked == intent).count(), 1);
        }
    }

    /// With every outside vantage silent, blind or never heard, nothing is done and nobody is asked to do it (I6).
    #[test]
    fn silence_never_acts(letters in prop::collection::vec("[uUFH]{3}", 6)) {
        let mut world = Fixture::three_regions_and_witness().world();
        let keys: Vec<_> = world.verdicts.keys().cloned().collect();
        for (key, outside) in keys.iter().zip(letters) {
            hold(&mut world, key, &outside, "", 600);
        }
        prop_assert!(decide(&world, NOW).iter().all(|d| d.conclusion == Conclusion::Hold));
    }
}
