//! What drover does by itself, at night.

use crate::world::{World, weights};
use drover_model::decision::FailureClass;
use drover_model::journal::RunState;
use drover_model::traffic::Actor;
use nix::sys::signal::Signal;
use serde_json::json;

fn thirds() -> Vec<(String, u8)> {
    vec![("ap-south".into(), 34), ("eu-west".into(), 33), ("us-east".into(), 33)]
}

fn without_eu_west() -> Vec<(String, u8)> {
    vec![("ap-south".into(), 50), ("eu-west".into(), 0), ("us-east".into(), 50)]
}

#[test]
fn a_dead_region_is_left() {
    let w = World::up();
    assert_eq!(w.answered("checkout"), ["ap-south", "eu-west", "us-east"]);
    w.drover(&["break", "eu-west"]).expect_code(0);
    let run = w.until_run(RunState::Succeeded);
    assert_eq!(run.summary.by, Actor::Automatic);
    assert_eq!(run.plan.services.len(), 2, "both services move in one run");
    assert!(run.elapsed <= run.rto, "{} of {}", run.elapsed, run.rto);
    let status = w.status();
    for service in ["checkout", "catalog"] {
        assert_eq!(weights(&status, service), without_eu_west());
        assert_eq!(w.answered(service), ["ap-south", "us-east"]);
    }
    assert!(status.blocks.iter().all(|b| b.class == FailureClass::Region), "{:?}", status.blocks);
    assert_eq!(status.blocks.len(), 2, "no second automatic failover of the kind for a while");
}

#[test]
fn a_dead_service_is_moved_alone() {
    let w = World::up();
    let before = weights(&w.status(), "catalog");
    w.service("checkout", "eu-west").signal(Signal::SIGKILL);
    let run = w.until_run(RunState::Succeeded);
    let moved: Vec<&str> = run.summary.services.iter().map(|s| s.as_str()).collect();
    assert_eq!(moved, ["checkout"]);
    let status = w.status();
    assert_eq!(weights(&status, "checkout"), without_eu_west());
    assert_eq!(weights(&status, "catalog"), before, "what is well stays");
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    assert_eq!(w.answered("catalog"), ["ap-south", "eu-west", "us-east"]);
    assert!(status.blocks.iter().all(|b| b.class == FailureClass::Endpoint), "{:?}", status.blocks);
}

#[test]
fn a_service_that_fails_by_share_is_moved() {
    let w = World::up();
    assert_eq!(w.answered("checkout").len(), thirds().len());
    // A streak that chance will not bring, so that only the share can tell.
    w.edit(|c| c.services.values_mut().for_each(|s| s.failover.failure_threshold = 9));
    w.fault(&w.service("checkout", "eu-west"), &json!({"errors": "75%"}));
    let gray = w.wait_for("two vantages see it fail by share", |w| {
        let view = w.explain("checkout@eu-west");
        let gray = view.endpoints.first()?.inputs.outside.iter().filter(|o| o.gray).count();
        (gray >= 2).then_some(view)
    });
    let inputs = &gray.endpoints[0].inputs;
    assert!(inputs.outside.iter().filter(|o| o.gray).all(|o| o.good > 0 && o.streak < 9), "{inputs:?}");
    let run = w.until_run(RunState::Succeeded);
    assert_eq!(run.summary.region.as_str(), "eu-west");
    assert_eq!(weights(&w.status(), "checkout"), without_eu_west());
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
}
