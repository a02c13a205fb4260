//! A second failure while the first is being left (item 16): one run a service, never two, never a queue.
//!
//! The first run counts on the second region: it sends traffic there and judges by it. So it can't succeed any more, and
//! is ended where it stands, with what it moved in place; what is left is planned anew with the capacity that remains.
//!
//! In the second region a service dies and its agent lives. With two of four vantages dead nobody could say of the third
//! region that it is healthy, and unknown is not healthy (I6).

use crate::world::{World, weights};
use drover_model::api::{RunSummary, RunView, StatusView};
use drover_model::config::Config;
use drover_model::journal::RunState;
use drover_model::traffic::Actor;
use drover_model::{Percent, RequestsPerSecond};
use nix::sys::signal::Signal;

/// One region alone can carry it all, so that capacity is not what holds anything back.
fn world(change: impl FnOnce(&mut Config)) -> World {
    let w = World::up();
    w.edit(|c| {
        let endpoints = c.services.values_mut().flat_map(|s| s.endpoints.values_mut());
        endpoints.for_each(|e| e.capacity = RequestsPerSecond(2_000));
        change(c);
    });
    w
}

fn has(status: &StatusView, service: &str, region: &str, weight: u8) -> bool {
    weights(status, service).contains(&(region.to_owned(), weight))
}

/// Kills a service in a second region while the run that leaves the first stands between its cut-over and its proof.
fn a_second_failure(w: &World) -> RunView {
    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until("eu-west is left", |s| has(s, "checkout", "eu-west", 0) && has(s, "catalog", "eu-west", 0));
    w.service("checkout", "us-east").signal(Signal::SIGKILL);
    let status = w.until("the first run is over", |s| {
        s.runs.iter().any(|r| r.region.as_str() == "eu-west" && r.state.is_final())
    });
    let first = status.runs.iter().find(|r| r.region.as_str() == "eu-west").unwrap();
    assert_eq!(first.state, RunState::Aborted, "it was not proved: {}", first.summary);
    let why = "superseded, what it moved stays: it counts on checkout in us-east, which is";
    assert!(first.summary.starts_with(why), "{}", first.summary);
    assert!(has(&status, "checkout", "eu-west", 0) && has(&status, "catalog", "eu-west", 0), "it stays");
    w.run(&first.id)
}

/// Waits until all of checkout goes to the only region that is left, in DNS as well, and all else is as it was.
fn all_in_ap_south(w: &World) -> StatusView {
    let status = w.until("all weight lies there", |s| has(s, "checkout", "ap-south", 100));
    w.wait_for("DNS answers so", |w| (w.answered("checkout") == ["ap-south"]).then_some(()));
    assert!(
        has(&status, "catalog", "ap-south", 50) && has(&status, "catalog", "us-east", 50),
        "what is well"
    );
    status
}

/// As shipped: at most one region is left without a person, so the person is asked about a plan that was made for what
/// remains, and needs to clear nothing away first.
#[test]
fn a_second_failure_is_asked_about_with_a_new_plan() {
    let w = world(|_| ());
    let first = a_second_failure(&w);
    let second = w.wait_for("the second failure is asked about", |w| {
        let asks = |r: &RunSummary| r.region.as_str() == "us-east" && r.state == RunState::AwaitingApproval;
        w.status_now()?.runs.into_iter().find(asks)
    });
    let second = w.run(&second.id);
    assert_ne!(second.plan.id, first.plan.id);
    assert!(has(&w.status(), "checkout", "us-east", 50), "asked, not done");
    let words = ["approve", second.summary.id.as_str(), "--reason", "go on", "--yes", "--plan"];
    w.drover(&[&words[..], &[second.plan.id.as_str()]].concat()).expect_code(0);
    all_in_ap_south(&w);
}

/// Where the policy lets drover go on by itself, it does: the same guards, asked again about the world of now.
#[test]
fn a_second_failure_is_moved_at_once_when_the_policy_lets_it() {
    let w = world(|c| {
        c.settings.vantage.common_cause_share = Percent::whole(70);
        c.services.values_mut().for_each(|s| s.failover.max_unavailable_regions = 2);
    });
    a_second_failure(&w);
    let status = all_in_ap_south(&w);
    let regions: Vec<&str> = status.runs.iter().map(|r| r.region.as_str()).collect();
    assert_eq!(regions, ["us-east", "eu-west"], "one run a failure, newest first");
    assert!(status.runs.iter().all(|r| r.by == Actor::Automatic));
}
