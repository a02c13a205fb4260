//! Automation and people, and people and people, at the same services (item 17).

use crate::world::{World, weights};
use drover_model::api::RunView;
use drover_model::journal::RunState;
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use drover_model::{RunId, Span};
use nix::sys::signal::Signal;
use std::sync::Barrier;

/// What drover works on is refused, with who and which run and how to watch it; what is free is drained beside it. The
/// objective of the failover can't be met, and that is told while it runs (item 40).
#[test]
fn a_drain_during_an_automatic_failover() {
    let w = World::up();
    w.edit(|c| c.services.values_mut().for_each(|s| s.rto = Span::from_secs(2)));
    w.service("checkout", "eu-west").signal(Signal::SIGKILL);
    w.until("checkout leaves eu-west", |s| weights(s, "checkout").contains(&("eu-west".into(), 0)));
    let run = RunId::numbered(1);

    let drain = |service| {
        let words = ["drain", "us-east", "--service", service, "--for", "1h", "--reason", "kernel"];
        [&words[..], &["--plan"]].concat()
    };
    let refused = w.drover(&drain("checkout"));
    let beside = w.drover(&[&drain("catalog")[..], &["-o", "json"]].concat());
    let (view, shown) = (w.run(&run), w.drover(&["run", "show", "run-1"]));

    assert_eq!(refused.code, 3, "{}", refused.stderr);
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("run-1, begun by drover, is working on checkout"), "{said}");
    assert!(said.contains("drover run follow run-1"), "how to watch it: {said}");
    assert!(view.late_by().is_some() && shown.stdout.contains("LATE by "), "{}", shown.stdout);

    let plan: serde_json::Value = beside.expect_code(8).json();
    let plan = plan["planned"]["plan"]["id"].as_str().unwrap().to_owned();
    w.apply(&plan).expect_code(0);
    let status = w.until("the failover is over as well", |s| s.runs.iter().all(|r| r.state.is_final()));
    let ended: Vec<_> = status.runs.iter().map(|r| (r.purpose, r.state)).collect();
    assert_eq!(
        ended,
        [(Purpose::Drain, RunState::Succeeded), (Purpose::Failover, RunState::Succeeded)],
        "neither disturbed the other"
    );
    assert_eq!(w.answered("catalog"), ["ap-south", "eu-west"]);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
}

/// Both have a plan that was good when it was shown, and run it at the same moment.
#[test]
fn two_operators_at_once() {
    let w = World::up();
    let planned = |region| w.plan(&["drain", region, "--service", "catalog", "--for", "1h"]);
    let plans = [("ann", planned("us-east")), ("bob", planned("ap-south"))];
    let start = Barrier::new(plans.len());
    let said = std::thread::scope(|scope| {
        let both: Vec<_> = plans
            .iter()
            .map(|(name, plan)| {
                let (w, start) = (&w, &start);
                scope.spawn(move || {
                    start.wait();
                    w.drover_by(name, &["apply", plan.as_str(), "--reason", "kernel", "--yes", "--no-wait"])
                })
            })
            .collect();
        both.into_iter().map(|b| b.join().unwrap()).collect::<Vec<_>>()
    });
    let mut codes: Vec<i32> = said.iter().map(|s| s.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 3], "one is taken and one refused: {said:#?}");
    let (first, second) = if said[0].code == 0 { (0, 1) } else { (1, 0) };

    let runs = w.status().runs;
    assert_eq!(runs.len(), 1, "{runs:#?}");
    let begun: RunView = w.run(&runs[0].id);
    assert_eq!(begun.plan.id.as_str(), plans[first].1);
    let Actor::Person { name, .. } = &begun.summary.by else { panic!("{:?}", begun.summary.by) };
    if nix::unistd::getuid().is_root() {
        assert_eq!(name, plans[first].0);
    }
    let told = &said[second].stderr;
    let sentence = format!("{}, begun by {name}, is working on catalog", begun.summary.id);
    assert!(told.contains(&sentence), "the second hears of the first: {told}");
    assert!(told.contains(&format!("drover run follow {}", begun.summary.id)), "{told}");
}
