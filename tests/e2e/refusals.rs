//! Guards that refuse, each with its code and its numbers.

use crate::world::{World, all_serve, weights};
use drover_model::RequestsPerSecond;
use drover_model::api::PlanView;
use drover_model::decision::Conclusion;
use drover_model::journal::RunState;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// The sentence stored with a reason.
#[track_caller]
fn stored(w: &World, region: &str, code: &str) -> String {
    // What is decided is written down a moment after it can be explained.
    w.wait_for(&format!("{code} is stored for {region}"), |w| {
        let history = w.explain(region).history;
        history.into_iter().find(|h| h.code == code && h.subject == region).map(|h| h.sentence)
    })
}

#[test]
fn the_rest_could_not_carry_it() {
    let w = World::up();
    w.edit(|c| {
        let endpoints = c.services.values_mut().flat_map(|s| s.endpoints.values_mut());
        endpoints.for_each(|e| e.capacity = RequestsPerSecond(10));
    });
    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until_run(RunState::AwaitingApproval);
    let sentence = stored(&w, "eu-west", "capacity_insufficient");
    assert!(sentence.contains("may carry 9rps (10rps less 10% headroom)"), "{sentence}");
    w.stays("nothing moves unasked", all_serve);
}

#[test]
fn the_last_healthy_region_is_not_drained() {
    let w = World::up();
    w.edit(|c| {
        let endpoints = c.services.values_mut().flat_map(|s| s.endpoints.values_mut());
        endpoints.for_each(|e| e.capacity = RequestsPerSecond(2_000));
    });
    for region in ["us-east", "ap-south"] {
        let plan = w.plan(&["drain", region, "--for", "1h", "--reason", "work"]);
        w.apply(&plan).expect_code(0);
    }
    let refused = w
        .drover(&["drain", "eu-west", "--for", "1h", "--reason", "work", "-o", "json", "--plan"])
        .expect_code(3);
    let view: PlanView = refused.json();
    let codes: Vec<String> = view.planned.refusals.iter().map(drover_model::reason::Reason::code).collect();
    assert!(codes.contains(&"last_healthy_region".to_owned()), "{codes:?}");
    assert!(refused.stderr.contains("eu-west is the last region that serves"), "{}", refused.stderr);
    assert_eq!(w.answered("checkout"), ["eu-west"]);
}

#[test]
fn a_freeze_holds_until_it_is_ended() {
    let w = World::up();
    w.drover(&["freeze", "--for", "1h", "--reason", "release night"]).expect_code(0);
    w.drover(&["break", "eu-west"]).expect_code(0);
    let view = w.until_explained("eu-west", "frozen");
    let decision = view.decisions.iter().find(|d| d.reason.code() == "frozen").expect("it holds now");
    assert_eq!(decision.conclusion, Conclusion::Hold);
    assert!(view.sentence.contains("release night"), "{}", view.sentence);
    w.stays("frozen means frozen", |s| s.runs.is_empty() && all_serve(s) && s.freeze.is_some());
    w.drover(&["unfreeze", "--reason", "the night is over"]).expect_code(0);
    w.until_run(RunState::Succeeded);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
}

#[test]
fn with_too_few_vantages_drover_asks_and_says_so_beforehand() {
    let w = World::up();
    w.edit(|c| {
        c.regions.retain(|name, _| name.as_str() != "witness");
        c.regions.values_mut().filter(|r| r.name.as_str() == "ap-south").for_each(|r| r.agents.clear());
    });
    let quorum = |s: &drover_model::api::StatusView| {
        s.regions
            .iter()
            .find(|r| r.name.as_str() == "eu-west")
            .map(|r| (r.quorum.configured, r.quorum.possible))
    };
    w.until("it is said beforehand", |s| quorum(s) == Some((1, false)));
    w.drover(&["break", "eu-west"]).expect_code(0);
    // Said live: with so few vantages the other regions may be unknown too, and then there is no plan to ask about.
    // Once it is asked, the first sentence is about the question, and the reason is in what was stored.
    let view = w.until_explained("eu-west", "too_few_vantages");
    let live = view.decisions.iter().map(|d| d.reason.to_string());
    let told: Vec<String> = live.chain(view.history.iter().map(|h| h.sentence.clone())).collect();
    let wanted = "1 of 1 outside vantages can speak, 2 needed";
    assert!(told.iter().any(|sentence| sentence.contains(wanted)), "{told:?}");
    w.stays("nothing moves unasked", |s| {
        all_serve(s) && s.runs.iter().all(|r| r.state == RunState::AwaitingApproval)
    });
}

#[test]
fn a_second_failover_of_the_kind_is_asked_for_until_rearmed() {
    let w = World::up();
    w.service("checkout", "eu-west").signal(Signal::SIGKILL);
    let failed = Instant::now();
    w.until_run(RunState::Succeeded);
    // Two failures inside one window would be doubted for another reason: the observer would be suspected.
    let window = w.config.settings.vantage.common_cause_window.to_duration() + Duration::from_secs(5);
    std::thread::sleep(window.saturating_sub(failed.elapsed()));
    w.service("checkout", "us-east").signal(Signal::SIGKILL);
    let sentence = stored(&w, "us-east", "blocked");
    assert!(sentence.contains("run-1 was about endpoint failure of checkout"), "{sentence}");
    w.until_run(RunState::AwaitingApproval);
    assert!(weights(&w.status(), "checkout").contains(&("us-east".into(), 50)), "asked, not done");

    w.drover(&["rearm", "checkout", "--reason", "found and mended"]).expect_code(0);
    assert!(w.status().blocks.is_empty());
    let view = w.explain("us-east");
    let guard = view.decisions.iter().flat_map(|d| &d.guards).find(|g| g.guard == "block_period");
    assert!(guard.is_some_and(|g| g.passed), "{:?}", view.decisions);
}
