//! Coming back: when drover does it, when it offers it, and when it says why not yet; and what goes before it.

use super::*;
use crate::fixture::{Fixture, NOW, agent, endpoint, hold, region, service};
use drover_model::decision::{DECISION_SCHEMA, DecisionBody, StoredDecision, VantageState};
use drover_model::plan::ActiveRun;
use drover_model::traffic::{Actor, Block, Freeze, Load, RegionShare, ShareReason};
use drover_model::{DecisionId, Epoch, Percent, RequestsPerSecond, RunId, Span};

const HOLD: Span = Span::from_mins(15);

/// Both services have left eu-west two hours ago, which is stable for so many seconds; all else is well.
fn left(stable_secs: u64, automatic: bool) -> World {
    let mut fixture = Fixture::three_regions_and_witness();
    for name in ["checkout", "catalog"] {
        let service = fixture.service(name);
        service.failover.failback.stable_hold = HOLD;
        service.failover.failback.automatic = automatic;
        service.peak_load = Some(RequestsPerSecond(300));
    }
    let mut world = fixture.world();
    world.loads.clear();
    for name in ["checkout", "catalog"] {
        share(&mut world, name, Percent::ZERO);
        hold(&mut world, &endpoint(&format!("{name}@eu-west")), "hhh", "h", stable_secs);
    }
    world
}

/// Publishes `name` with this share in eu-west.
fn share(world: &mut World, name: &str, share: Percent) {
    let config = world.config.clone();
    let state = world.traffic.get_mut(&service(name)).unwrap();
    let run = RunId::numbered(1);
    let by_hand = false;
    let reason = if share == Percent::ZERO {
        ShareReason::FailedOver { run, by_hand }
    } else {
        ShareReason::Returning { run, by_hand }
    };
    state.shares.insert(region("eu-west"), RegionShare { share, reason });
    state.weights =
        crate::weights::published(&config.services[&service(name)], &crate::targets::percents(&state.shares))
            .unwrap();
    state.changed_at = NOW - Span::from_hours(2);
}

fn about(world: &World, place: &str) -> ActionDecision {
    decide(world, NOW).into_iter().find(|d| d.region == region(place)).unwrap()
}

#[test]
fn a_region_that_was_left_waits_for_its_hold_and_is_then_offered() {
    cov_mark::check!(failback_is_offered);
    let decision = about(&left(600, false), "eu-west");
    assert_eq!((decision.conclusion, decision.reason.code().as_str()), (Conclusion::Hold, "stable_hold"));
    assert_eq!(decision.look_again_at, Some(NOW + Span::from_mins(5)));
    assert_eq!(
        sentence(&decision),
        "not failing back eu-west yet: checkout in eu-west is stable since 2023-11-14T22:03:20.000Z (10m), 15m are \
         needed before it comes back: until 2023-11-14T22:18:20.000Z"
    );
    let decision = about(&left(900, false), "eu-west");
    assert_eq!(
        (decision.conclusion, decision.reason.code().as_str()),
        (Conclusion::Hold, "failback_offered")
    );
    assert_eq!(decision.reason.next_command().unwrap(), "drover failback --all --from eu-west --reason TEXT");
    assert!(sentence(&decision).starts_with("failback of eu-west is offered: checkout, catalog in eu-west"));
    assert!(decision.guards.iter().any(|g| g.guard == "stable_hold" && g.passed));
}

#[test]
fn it_comes_back_by_itself_only_where_the_service_says_so() {
    cov_mark::check!(failback_by_itself);
    let world = left(900, true);
    let decision = about(&world, "eu-west");
    assert_eq!(decision.conclusion, Conclusion::Act, "{decision:#?}");
    assert_eq!((decision.purpose, decision.class), (Purpose::Failback, FailureClass::Recovery));
    let plan = crate::plan::plan(&world, &intent_of(&decision), NOW).plan.unwrap();
    assert_eq!(plan.services, decision.services);
    assert_eq!(crate::check::check(&plan, &world), []);
    let mut forbidden = world.clone();
    let config = std::sync::Arc::make_mut(&mut forbidden.config);
    config.services.get_mut(&service("catalog")).unwrap().failover.failback.automatic = false;
    let found = crate::check::check(&plan, &forbidden);
    assert!(found.iter().any(|f| f.invariant == "I8"), "{found:?}");
    let alone = about(&forbidden, "eu-west");
    assert_eq!((alone.conclusion, alone.services), (Conclusion::Act, vec![service("checkout")]));
}

#[test]
fn what_a_person_left_is_offered_and_never_brought_back_unasked() {
    let mut world = left(900, true);
    let drovers = about(&world, "eu-west");
    let plan = crate::plan::plan(&world, &intent_of(&drovers), NOW).plan.unwrap();
    let by_person = |half_way: bool, run| match half_way {
        false => ShareReason::FailedOver { run, by_hand: true },
        true => ShareReason::Returning { run, by_hand: true },
    };
    for half_way in [false, true] {
        let state = world.traffic.get_mut(&service("checkout")).unwrap();
        state.shares.get_mut(&region("eu-west")).unwrap().reason = by_person(half_way, RunId::numbered(3));
        let decision = about(&world, "eu-west");
        assert_eq!((decision.conclusion, decision.services), (Conclusion::Act, vec![service("catalog")]));
        let found = crate::check::check(&plan, &world);
        assert!(found.iter().any(|f| f.invariant == "I8"), "{found:?}");
    }
    let state = world.traffic.get_mut(&service("catalog")).unwrap();
    state.shares.get_mut(&region("eu-west")).unwrap().reason = by_person(false, RunId::numbered(3));
    let decision = about(&world, "eu-west");
    assert_eq!(
        (decision.conclusion, decision.reason.code().as_str()),
        (Conclusion::Hold, "failback_offered")
    );
    assert!(crate::failback::views(&world, NOW)[0].offered);
}

#[test]
fn a_plan_from_before_the_region_failed_once_more_does_not_begin() {
    let world = left(900, false);
    let intent = |accept| Intent {
        purpose: Purpose::Failback,
        services: vec![],
        region: region("eu-west"),
        to: None,
        automatic: false,
        hold_for: None,
        reason: String::new(),
        accept,
    };
    let plan = crate::plan::plan(&world, &intent(vec![]), NOW).plan.unwrap();
    assert_eq!(crate::failback::too_early_for(&plan, &world, NOW), []);
    let again = left(60, false);
    let reasons = crate::failback::too_early_for(&plan, &again, NOW);
    assert_eq!(reasons.iter().map(Reason::code).collect::<Vec<_>>(), ["stable_hold", "stable_hold"]);
    let accepted = intent(vec![drover_model::plan::Acceptance::StableHold]);
    let plan = crate::plan::plan(&again, &accepted, NOW).plan.unwrap();
    assert_eq!(crate::failback::too_early_for(&plan, &again, NOW), []);
}

#[test]
fn of_a_failover_and_a_return_of_one_service_the_failover_is_first() {
    // eu-west comes before us-east in every order of names.
    let mut world = left(900, true);
    for name in ["checkout", "catalog"] {
        share(&mut world, name, Percent::whole(5));
    }
    dies(&mut world, "us-east");
    let decisions = decide(&world, NOW);
    let of = |place: &str| decisions.iter().find(|d| d.region == region(place)).unwrap();
    assert_eq!((of("us-east").conclusion, of("us-east").purpose), (Conclusion::Act, Purpose::Failover));
    assert_eq!(
        (of("eu-west").conclusion, of("eu-west").reason.code().as_str()),
        (Conclusion::Hold, "settling")
    );
}

type Change = (&'static str, &'static str, fn(&mut World));

#[test]
fn each_guard_holds_it_back() {
    cov_mark::check!(i8_frozen_brings_nothing_back);
    cov_mark::check!(i8_block_period_brings_nothing_back);
    cov_mark::check!(i8_flapping_brings_nothing_back);
    let changes: &[Change] = &[
        ("a freeze", "frozen", |w| {
            let (by, reason) = (Actor::Automatic, "x".into());
            w.freeze = Some(Freeze { by, reason, since: NOW, expires_at: None });
        }),
        ("a block period of whatever class", "blocked", |w| {
            let (service, run) = (service("catalog"), RunId::numbered(1));
            let until = NOW + Span::from_mins(1);
            w.blocks.push(Block { service, class: FailureClass::Region, run, until });
        }),
        ("another run", "run_in_progress", |w| w.runs.push(run(7, Purpose::Drain, "us-east"))),
        ("its own agents are silent", "region_silent", |w| {
            w.vantages.insert(agent("eu-west-1"), VantageState::Silent);
        }),
        ("flapping", "flap_damping", |w| {
            let key = endpoint("checkout@eu-west");
            w.verdicts.get_mut(&key).unwrap().recent_changes =
                [50, 40, 30].map(|m| NOW - Span::from_mins(m)).into();
        }),
        ("weights that moved a minute ago", "stable_hold", |w| {
            w.traffic.get_mut(&service("catalog")).unwrap().changed_at = NOW - Span::from_mins(1);
        }),
        ("the load that it would carry", "capacity_insufficient", |w| {
            w.loads.insert(service("checkout"), Load::Declared { rate: RequestsPerSecond(90_000) });
            w.loads.insert(service("catalog"), Load::Declared { rate: RequestsPerSecond(90_000) });
        }),
    ];
    for (what, code, change) in changes {
        let mut world = left(900, true);
        change(&mut world);
        let decision = about(&world, "eu-west");
        assert_eq!(decision.conclusion, Conclusion::Hold, "{what}: {decision:#?}");
        assert_eq!(decision.reason.code(), *code, "{what}");
        assert!(decision.guards.iter().any(|g| !g.passed && g.reason == decision.reason), "{what}");
    }
}

#[test]
fn nothing_begins_to_come_back_beside_an_open_question() {
    cov_mark::check!(nothing_returns_beside_a_question);
    let mut world = left(7_200, true);
    assert_eq!(about(&world, "eu-west").conclusion, Conclusion::Act);
    let question = ActiveRun { awaiting_approval: true, ..run(7, Purpose::Failover, "us-east") };
    let mut persons = question.clone();
    persons.by = Some(Actor::Person { name: "ann".into(), host: String::new() });
    world.runs.push(persons);
    assert_eq!(
        about(&world, "eu-west").conclusion,
        Conclusion::Act,
        "what a person asks others holds up nothing"
    );
    world.runs[0] = question;
    let decision = about(&world, "eu-west");
    assert_eq!(decision.conclusion, Conclusion::Hold);
    assert_eq!(
        sentence(&decision),
        "not failing back eu-west yet: run-7 is waiting for an answer about checkout in us-east, and nothing begins beside it"
    );
    assert_eq!(decision.reason.next_command(), Some("drover approve run-7 --reason TEXT".into()));
}

#[test]
fn a_small_world_in_which_all_of_too_few_see_it_well_brings_nothing_back() {
    cov_mark::check!(i6_too_few_see_it_healthy);
    let mut fixture = Fixture::of(&["eu-west", "us-east"], false);
    for name in ["checkout", "catalog"] {
        fixture.service(name).failover.failback.automatic = true;
    }
    let mut world = fixture.world();
    for name in ["checkout", "catalog"] {
        share(&mut world, name, Percent::ZERO);
        hold(&mut world, &endpoint(&format!("{name}@eu-west")), "h", "h", 7_200);
    }
    let decision = about(&world, "eu-west");
    assert_eq!(
        (decision.conclusion, decision.reason.code().as_str()),
        (Conclusion::Hold, "too_little_known")
    );
}

#[test]
fn a_drain_is_its_operators_and_a_sick_region_is_not_offered() {
    let mut world = left(7_200, true);
    for state in world.traffic.values_mut() {
        let reason = ShareReason::Drained { run: RunId::numbered(2) };
        state.shares.get_mut(&region("eu-west")).unwrap().reason = reason;
    }
    assert_eq!(about(&world, "eu-west").reason.code(), "nothing_to_do");
    assert_eq!(crate::failback::views(&world, NOW), []);
    let mut world = left(7_200, true);
    hold(&mut world, &endpoint("checkout@eu-west"), "fff", "", 7_200);
    let decision = about(&world, "eu-west");
    assert_eq!((decision.conclusion, decision.services), (Conclusion::Act, vec![service("catalog")]));
    let views = crate::failback::views(&world, NOW);
    assert_eq!((views.len(), views[0].offered, views[1].offered), (2, false, true));
    assert_eq!(views[0].reason.code(), "target_not_healthy");
    let next = views[1].next.as_ref().unwrap();
    assert_eq!(next, "drover failback catalog --from eu-west --reason TEXT");
}

fn run(n: u64, purpose: Purpose, place: &str) -> ActiveRun {
    ActiveRun {
        run: RunId::numbered(n),
        services: vec![service("checkout"), service("catalog")],
        region: region(place),
        purpose: Some(purpose),
        rolling_back: false,
        by_stages: purpose == Purpose::Failback,
        by: Some(Actor::Automatic),
        counts_on: BTreeSet::new(),
        gives_way: false,
        awaiting_approval: false,
    }
}

/// eu-west is on its way back with a twentieth of its share.
fn climbing() -> World {
    let mut world = left(7_200, false);
    for name in ["checkout", "catalog"] {
        share(&mut world, name, Percent::whole(5));
    }
    world.runs.push(run(2, Purpose::Failback, "eu-west"));
    world
}

/// The same world with eu-west well.
fn climbed(world: &World) -> World {
    let mut world = world.clone();
    for name in ["checkout", "catalog"] {
        hold(&mut world, &endpoint(&format!("{name}@eu-west")), "hhh", "h", 7_200);
    }
    world
}

fn dies(world: &mut World, place: &str) {
    for name in ["checkout", "catalog"] {
        hold(world, &endpoint(&format!("{name}@{place}")), "fff", "", 60);
    }
}

#[test]
fn a_failover_comes_before_a_failback() {
    cov_mark::check!(failover_preempts_failback);
    let mut world = climbing();
    assert_eq!(must_stop(&world, &decide(&world, NOW)), []);
    dies(&mut world, "us-east");
    let decisions = decide(&world, NOW);
    let decision = decisions.iter().find(|d| d.region == region("us-east")).unwrap();
    assert_eq!((decision.conclusion, decision.reason.code().as_str()), (Conclusion::Hold, "preempting"));
    let stops = must_stop(&world, &decisions);
    assert_eq!(stops.len(), 1);
    assert_eq!(
        (stops[0].run.as_str(), stops[0].why.as_str()),
        ("run-2", "us-east fails, and a failover comes before a failback")
    );
    assert!(stops[0].roll_back, "to its last good share");
    world.runs[0].purpose = Some(Purpose::Undrain);
    world.runs[0].by_stages = false;
    let stops = must_stop(&world, &decide(&world, NOW));
    assert!(!stops[0].roll_back, "undoing would hand its traffic to us-east, and wait for a person");
    dies(&mut world, "eu-west");
    assert!(must_stop(&world, &decide(&world, NOW))[0].roll_back, "nothing stays on a dead region");
    world.runs.clear();
    assert_eq!(about(&climbed(&world), "us-east").conclusion, Conclusion::Act, "once it is over");
}

#[test]
fn every_decision_about_a_return_can_be_run_again() {
    let mut preempting = climbing();
    dies(&mut preempting, "us-east");
    let worlds = [
        (left(600, true), "eu-west", "stable_hold"),
        (left(900, false), "eu-west", "failback_offered"),
        (left(900, true), "eu-west", "failback_offered"),
        (preempting, "us-east", "preempting"),
    ];
    for (number, (world, place, code)) in (1..).zip(worlds) {
        let decision = about(&world, place);
        assert_eq!(decision.reason.code(), code);
        let stored = StoredDecision {
            schema: DECISION_SCHEMA,
            id: DecisionId::numbered(number),
            at: NOW,
            epoch: Epoch::default(),
            body: DecisionBody::Action {
                world: Some(Box::new(world.narrowed(&concerned(&world, &region(place))))),
                region: region(place),
                decision,
                plan: None,
                run: None,
            },
        };
        // As it comes out of the store.
        let text = serde_json::to_string(&stored).unwrap();
        let replay = crate::replay::replay(&serde_json::from_str(&text).unwrap());
        assert!(replay.same, "{}\n{}", replay.stored, replay.now);
    }
}

#[test]
fn what_drover_would_only_ask_about_stops_no_failback() {
    let mut world = climbing();
    dies(&mut world, "us-east");
    for name in ["checkout", "catalog"] {
        let (run, until) = (RunId::numbered(1), NOW + Span::from_mins(30));
        world.blocks.push(Block { service: service(name), class: FailureClass::Region, run, until });
    }
    let decisions = decide(&world, NOW);
    assert_eq!(about(&world, "us-east").reason.code(), "run_in_progress");
    assert_eq!(must_stop(&world, &decisions), []);
}

#[test]
fn a_failover_a_question_and_a_way_back_are_not_stopped() {
    let changes: [fn(&mut ActiveRun); 3] =
        [|r| r.purpose = Some(Purpose::Failover), |r| r.awaiting_approval = true, |r| r.rolling_back = true];
    for change in changes {
        let mut world = climbing();
        change(&mut world.runs[0]);
        dies(&mut world, "us-east");
        dies(&mut world, "eu-west");
        assert_eq!(must_stop(&world, &decide(&world, NOW)), [], "{:?}", world.runs);
    }
}

#[test]
fn a_region_that_fails_again_on_its_way_back_stops_it_whatever_automation_may_do() {
    cov_mark::check!(a_region_that_fails_again_stops_its_return);
    let mut world = climbing();
    world.freeze = Some(Freeze { by: Actor::Automatic, reason: "x".into(), since: NOW, expires_at: None });
    hold(&mut world, &endpoint("catalog@eu-west"), "ffh", "h", 5);
    let stops = must_stop(&world, &decide(&world, NOW));
    assert_eq!(stops.len(), 1);
    assert_eq!(
        stops[0].why,
        "catalog in eu-west is unreachable again: 2 of 3 outside vantages agree, 2 needed"
    );
    hold(&mut world, &endpoint("catalog@eu-west"), "fhh", "h", 5);
    assert_eq!(must_stop(&world, &decide(&world, NOW)), [], "a doubt is not a failure (I6)");
}
