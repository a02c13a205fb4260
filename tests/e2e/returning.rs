//! The way back: offered and not hurried, climbed by steps, and given up the moment that the region fails again.

use crate::world::{World, weights};
use drover_model::Span;
use drover_model::api::RunSummary;
use drover_model::journal::RunState;
use drover_model::runbook::Purpose;

fn weight(status: &drover_model::api::StatusView, service: &str) -> u8 {
    weights(status, service).into_iter().find(|(region, _)| region == "eu-west").unwrap().1
}

#[test]
fn a_region_is_brought_back_when_it_is_stable_and_left_again_when_it_dies_half_way() {
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.failover.failback.stable_hold = Span::from_secs(10);
            service.failover.soak = Span::from_secs(2);
            service.validation.window = Span::from_secs(1);
        }
    });
    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until_run(RunState::Succeeded);
    w.drover(&["heal"]).expect_code(0);
    w.until("its hold has begun", |s| s.failbacks.iter().any(|f| f.reason.code() == "stable_hold"));
    let early = w.drover(&["failback", "--all", "--from", "eu-west", "--plan"]).expect_code(3);
    assert!(early.stderr.contains("needed before it comes back"), "{}", early.stderr);
    assert!(early.stderr.contains("--accept stable_hold"), "{}", early.stderr);
    let by_name = ["failback", "--all", "--from", "eu-west", "--accept", "stable_hold", "--plan"];
    w.drover(&by_name).expect_code(8);

    let offered =
        w.until("it is offered", |s| s.failbacks.iter().any(|f| f.offered && f.services.len() == 2));
    let line = offered.attention.iter().find(|a| a.code == "failback_offered").unwrap();
    assert_eq!(line.next.as_deref(), Some("drover failback --all --from eu-west --reason TEXT"));
    assert_eq!(offered.runs.len(), 1, "it is offered, not done");

    let plan = w.plan(&["failback", "--all", "--from", "eu-west"]);
    w.drover(&["apply", &plan, "--reason", "it is back", "--yes", "--no-wait"]).expect_code(0);
    // Past the first two stages: so much is published only after two validations.
    w.until("a quarter of its share is back", |s| weight(s, "checkout") >= 10);
    w.drover(&["break", "eu-west"]).expect_code(0);
    let is_return = |r: &RunSummary| r.purpose == Purpose::Failback && r.state.is_final();
    let ended = w.until("the return has ended", |s| s.runs.iter().any(is_return));
    let view = w.run(&ended.runs.into_iter().find(|r| is_return(r)).unwrap().id);
    assert_eq!(view.summary.state, RunState::RolledBack);
    assert!(view.summary.summary.contains(" is out of eu-west"), "{}", view.summary.summary);
    // A service whose verdict came after that is taken off by a failover of its own.
    w.until("nothing stays on a dead region", |s| {
        ["checkout", "catalog"].into_iter().all(|service| weight(s, service) == 0)
    });
    for service in ["checkout", "catalog"] {
        w.until(&format!("DNS has {service} elsewhere"), |_| w.answered(service) == ["ap-south", "us-east"]);
    }
    let judged: Vec<_> = view.steps.iter().flat_map(|s| &s.shares).filter(|s| s.measured.is_some()).collect();
    assert!(judged.len() >= 4, "two stages of two services were judged: {judged:?}");
    let shown = w.drover(&["run", "show", view.summary.id.as_str()]).expect_code(0);
    assert!(shown.stdout.contains("wanted") && shown.stdout.contains("measured"), "{}", shown.stdout);
}
