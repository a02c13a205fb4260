//! A second failure while the first is being left.

use super::*;
use crate::fixture::{Fixture, NOW, endpoint, hold, region, service};
use drover_model::plan::ActiveRun;
use drover_model::traffic::{Actor, Freeze, RegionShare, ShareReason};
use drover_model::{Percent, RequestsPerSecond, RunId, Weight};

/// Five regions; eu-west was left by run-1, whose plan counts on us-east, which fails for the last minute.
fn second_failure() -> World {
    let mut fixture = Fixture::of(&["ap-south", "eu-north", "eu-west", "us-east", "us-west"], true);
    for name in ["checkout", "catalog"] {
        let service = fixture.service(name);
        service.failover.max_unavailable_regions = 2;
        service.endpoints.values_mut().for_each(|e| e.capacity = RequestsPerSecond(2_000));
    }
    let mut world = fixture.world();
    for (key, secs) in [
        ("checkout@eu-west", 600),
        ("catalog@eu-west", 600),
        ("checkout@us-east", 60),
        ("catalog@us-east", 60),
    ] {
        hold(&mut world, &endpoint(key), "fffff", "", secs);
    }
    for state in world.traffic.values_mut() {
        let reason = ShareReason::FailedOver { run: RunId::numbered(1), by_hand: false };
        state.weights.insert(region("eu-west"), Weight(0));
        state.shares.insert(region("eu-west"), RegionShare { share: Percent::ZERO, reason });
    }
    world.runs = vec![ActiveRun {
        run: RunId::numbered(1),
        services: vec![service("checkout"), service("catalog")],
        region: region("eu-west"),
        purpose: Some(Purpose::Failover),
        rolling_back: false,
        by_stages: false,
        by: Some(Actor::Automatic),
        counts_on: ["checkout@us-east", "catalog@us-east", "checkout@us-west"].map(endpoint).into(),
        gives_way: true,
        awaiting_approval: false,
    }];
    world
}

fn about_us_east(world: &World) -> ActionDecision {
    let all = decide(world, NOW);
    all.into_iter().find(|d| d.region == region("us-east")).expect("us-east is decided about")
}

fn ended(world: &World) -> Vec<String> {
    must_stop(world, &decide(world, NOW)).into_iter().map(|s| format!("{}: {}", s.run, s.why)).collect()
}

#[test]
fn a_run_that_counts_on_what_fails_now_is_ended_and_what_is_left_planned_anew() {
    cov_mark::check!(i2_a_second_failure_supersedes);
    let mut world = second_failure();
    let decision = about_us_east(&world);
    assert_eq!((decision.conclusion, decision.reason.code()), (Conclusion::Hold, "superseding".into()));
    assert_eq!(
        sentence(&decision),
        "not failing over us-east: run-1 counts on checkout in us-east and is ended first"
    );
    assert_eq!(
        ended(&world),
        [
            "run-1: superseded, what it moved stays: it counts on checkout in us-east, which is down: 5 of 5 outside \
          vantages agree, 3 needed"
        ]
    );
    world.runs.clear();
    let next = about_us_east(&world);
    assert_eq!(next.conclusion, Conclusion::Act, "{next:#?}");
    assert_eq!(ended(&world), Vec::<String>::new());
}

/// What would merely be asked about ends the run as well: it can't succeed any more, and a person is asked the better
/// question.
#[test]
fn a_question_supersedes_too() {
    let mut world = second_failure();
    let config = std::sync::Arc::make_mut(&mut world.config);
    config.services.values_mut().for_each(|s| s.failover.automatic = false);
    assert_eq!(about_us_east(&world).reason.code(), "superseding");
    world.runs.clear();
    assert_eq!(about_us_east(&world).conclusion, Conclusion::Ask);
}

#[test]
fn a_run_goes_on_where_ending_it_would_not_help_or_is_not_drovers_to_decide() {
    type Change = fn(&mut World);
    let table: [(&str, Change, &str); 6] = [
        ("a person's, or in the middle of an effect", |w| w.runs[0].gives_way = false, "run_in_progress"),
        ("planned without it", |w| w.runs[0].counts_on.clear(), "run_in_progress"),
        (
            "of another service there",
            |w| w.runs[0].counts_on.retain(|e| e.region == region("us-west")),
            "run_in_progress",
        ),
        (
            "frozen",
            |w| {
                let by = Actor::Automatic;
                w.freeze = Some(Freeze { by, reason: "x".into(), since: NOW, expires_at: None });
            },
            "frozen",
        ),
        (
            "nowhere else to go",
            |w| {
                for key in ["ap-south", "eu-north", "us-west"] {
                    for service in ["checkout", "catalog"] {
                        hold(w, &endpoint(&format!("{service}@{key}")), "uuuuu", "u", 60);
                    }
                }
            },
            "run_in_progress",
        ),
        (
            "another run is in the way as well",
            |w| {
                let other = ActiveRun { run: RunId::numbered(2), gives_way: false, ..w.runs[0].clone() };
                w.runs.push(other);
            },
            "run_in_progress",
        ),
    ];
    for (what, change, code) in table {
        let mut world = second_failure();
        change(&mut world);
        assert_eq!(about_us_east(&world).reason.code(), code, "{what}");
        assert_eq!(ended(&world), Vec::<String>::new(), "{what}");
    }
}

/// The run that follows was planned with us-east down, so that us-east does not end it, however long it fails.
#[test]
fn the_next_run_is_not_ended_by_the_failure_that_it_was_planned_with() {
    let mut world = second_failure();
    world.runs.clear();
    let decision = about_us_east(&world);
    let planned = crate::plan::plan(&world, &intent_of(&decision), NOW);
    let plan = planned.plan.unwrap();
    let judged = plan.steps.iter().filter_map(|s| match &s.kind {
        drover_model::plan::StepKind::Validate { targets } => Some(targets),
        _ => None,
    });
    assert!(judged.flatten().all(|t| !t.regions.contains(&region("us-east"))), "{plan:#?}");
}

/// A return is preempted, a failover superseded: first the one, then the other, and no look stops runs by both rules.
#[test]
fn a_return_in_the_way_as_well_stops_first() {
    let mut world = second_failure();
    let back = ActiveRun {
        run: RunId::numbered(2),
        services: vec![service("checkout")],
        region: region("eu-north"),
        purpose: Some(Purpose::Undrain),
        counts_on: [endpoint("checkout@us-east")].into(),
        gives_way: false,
        ..world.runs[0].clone()
    };
    world.runs[0].services = vec![service("catalog")];
    world.runs[0].counts_on = [endpoint("catalog@us-east")].into();
    world.runs.push(back);
    assert_eq!(about_us_east(&world).reason.code(), "preempting");
    assert_eq!(ended(&world), ["run-2: us-east fails, and a failover comes before a failback"]);
    world.runs.truncate(1);
    let decision = about_us_east(&world);
    assert_eq!(decision.reason.code(), "superseding");
    let stops = must_stop(&world, &decide(&world, NOW));
    assert_eq!(stops.iter().map(|s| (s.run.as_str(), s.roll_back)).collect::<Vec<_>>(), [("run-1", false)]);
    world.runs.clear();
    assert_eq!(about_us_east(&world).conclusion, Conclusion::Act);
}

#[test]
fn where_drover_would_only_ask_a_return_goes_on_and_so_does_the_failover_beside_it() {
    let mut world = second_failure();
    let config = std::sync::Arc::make_mut(&mut world.config);
    config.services.values_mut().for_each(|s| s.failover.automatic = false);
    let (run, purpose) = (RunId::numbered(2), Some(Purpose::Failback));
    world.runs.push(ActiveRun { run, purpose, gives_way: false, ..world.runs[0].clone() });
    assert_eq!(about_us_east(&world).reason.code(), "run_in_progress");
    assert!(ended(&world).iter().all(|s| !s.starts_with("run-1")), "{:?}", ended(&world));
}
