//! A region that was left comes back: offered, climbed step by step, and given up again the moment that it fails.

use crate::world::{FACTOR, World};
use drover_model::api::{FailbackView, RunView, StatusView};
use drover_model::config::Config;
use drover_model::journal::{CheckOutcome, Entry, RunState};
use drover_model::reason::Reason;
use drover_model::traffic::{Actor, ShareReason};
use drover_model::units::Generation;
use drover_model::{Percent, RequestsPerSecond, ServiceId, Span};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Nothing here waits so long: a soak that is never waited out.
const FOR_EVER: Span = Span::from_hours(24);

/// A hold of a second, stages that differ, and a soak (as scaled).
fn policy(soak: Span, automatic: bool) -> impl FnOnce(&mut Config) {
    move |config| {
        for service in config.services.values_mut() {
            let policy = &mut service.failover;
            policy.ramp = [10, 50, 100].map(Percent::whole).to_vec();
            policy.soak = soak.times(FACTOR);
            policy.failback.automatic = automatic;
            policy.failback.stable_hold = Span::from_secs(FACTOR);
            policy.block_period = Span::from_secs(FACTOR);
        }
    }
}

/// eu-west fails, is left, and is well again.
async fn left_and_well(edit: impl FnOnce(&mut Config)) -> World {
    let w = World::start(edit).await;
    w.kill_region("eu-west");
    w.until("eu-west is left", |s| !s.runs.is_empty() && share(s, "eu-west") == Percent::ZERO).await;
    w.until_run("run-1", RunState::Succeeded).await;
    w.heal_region("eu-west");
    w
}

fn share(s: &StatusView, region: &str) -> Percent {
    let endpoints = s.services.iter().flat_map(|s| &s.endpoints).filter(|e| e.region.as_str() == region);
    endpoints.map(|e| e.share).max().unwrap()
}

fn generations(s: &StatusView) -> BTreeMap<ServiceId, Generation> {
    s.services.iter().map(|s| (s.name.clone(), s.generation)).collect()
}

fn person() -> Value {
    json!({"kind": "person", "name": "ann", "host": "here"})
}

async fn plan(w: &World, purpose: &str) -> Value {
    let intent = json!({
        "purpose": purpose, "services": [], "region": "eu-west", "to": null, "automatic": false,
        "hold_for": null, "reason": "test",
    });
    w.post("/v1/plans", json!({"by": person(), "intent": intent})).await.1
}

/// Waits for the offer and takes it; gives the run's name.
async fn begin(w: &World) -> String {
    w.until("it is offered", |s| s.failbacks.iter().any(|f| f.offered && f.services.len() == 2)).await;
    let view = plan(w, "failback").await;
    let id = view["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("no plan: {view}"));
    let apply = json!({"by": person(), "reason": "it is back"});
    let (code, run) = w.post(&format!("/v1/plans/{id}/apply"), apply).await;
    assert_eq!(code, 200, "{run}");
    run["id"].as_str().unwrap().to_owned()
}

fn words(view: &RunView) -> Vec<String> {
    view.timeline.iter().map(|t| t.sentence.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_offered_after_its_hold_and_climbs_by_its_own_samples() {
    let w = left_and_well(policy(Span::from_millis(200), false)).await;
    w.until("it is well", |s| s.failbacks.iter().any(|f| f.reason.code() == "stable_hold" || f.offered))
        .await;
    let early = plan(&w, "failback").await;
    let told = w.get("/v1/explain/eu-west").await["sentence"].as_str().unwrap().to_owned();
    if early["planned"]["plan"].is_null() {
        assert_eq!(early["planned"]["refusals"][0]["code"], "stable_hold", "{early}");
    }
    assert!(told.starts_with("not failing back eu-west yet:") || told.contains("is offered"), "{told}");
    let status = w.until("it is offered", |s| s.failbacks.iter().any(|f| f.offered)).await;
    let offer = status.attention.iter().find(|a| a.code == "failback_offered").unwrap();
    assert_eq!(offer.next.as_deref(), Some("drover failback --all --from eu-west --reason TEXT"));
    assert_eq!(status.runs.len(), 1, "offered, not done");

    let run = begin(&w).await;
    let view = w.until_run(&run, RunState::Succeeded).await;
    let stages: Vec<_> = view.steps.iter().filter(|s| !s.shares.is_empty()).collect();
    assert_eq!(stages.len(), 3);
    for (stage, ramp) in stages.iter().zip([10, 50, 100]) {
        assert_eq!(stage.shares.len(), 2, "one a service");
        for s in &stage.shares {
            assert_eq!((s.ramp, s.endpoint.region.as_str()), (Percent::whole(ramp), "eu-west"));
            let measured = s.measured.unwrap_or_else(|| panic!("{} was not measured", stage.id));
            let apart = measured.basis_points().abs_diff(s.wanted.basis_points());
            assert!(apart < 2_000 && s.requests > 0, "{}: {measured} of {} wanted", stage.id, s.wanted);
        }
    }
    let own =
        view.steps.iter().flat_map(|s| &s.measurements).filter(|m| m.name == "error_rate checkout@eu-west");
    let own: Vec<_> = own.collect();
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|m| m.outcome == CheckOutcome::Pass && m.samples >= 20), "{own:#?}");
    assert_eq!(w.answered("checkout").await.len(), 3);
    assert!(w.status().await.failbacks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_returning_region_alone_send_it_back_to_its_last_good_share() {
    let w = left_and_well(policy(Span::from_millis(300), false)).await;
    let run = begin(&w).await;
    w.until("it has half of its share", |s| share(s, "eu-west") == Percent::whole(50)).await;
    w.broken.lock().unwrap().insert("eu-west".into());
    let view = w.until_run(&run, RunState::RolledBack).await;
    let status = w.status().await;
    assert_eq!(share(&status, "eu-west"), Percent::whole(10), "{:#?}", words(&view));
    for service in &status.services {
        let e = service.endpoints.iter().find(|e| e.region.as_str() == "eu-west").unwrap();
        assert!(matches!(&e.share_reason, ShareReason::Returning { run: by, .. } if by.as_str() == run));
        assert!(e.weight.0 > 0);
    }
    let summary = &view.summary.summary;
    assert!(
        summary.starts_with("rolled back to the last good share (checkout has 10% of its share"),
        "{summary}"
    );
    assert!(summary.contains("error_rate checkout@eu-west"), "{summary}");
    assert!(status.attention.iter().any(|a| a.code == "ramp_left"), "what stands half-way stays visible");
    assert_eq!(w.answered("checkout").await.len(), 3, "DNS answers as the target says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_dies_in_its_soak_is_taken_out_at_once() {
    let w = left_and_well(policy(FOR_EVER.divided_by(FACTOR), false)).await;
    let run = begin(&w).await;
    let soaking = |s: &StatusView| {
        s.runs.iter().any(|r| r.summary.contains("soak")) && share(s, "eu-west") > Percent::ZERO
    };
    w.until("it soaks", soaking).await;
    w.kill_region("eu-west");
    let view = w.until_run(&run, RunState::RolledBack).await;
    assert_eq!(share(&w.status().await, "eu-west"), Percent::ZERO, "nothing stays on a dead region");
    assert!(view.summary.summary.contains("checkout is out of eu-west"), "{}", view.summary.summary);
    assert!(view.timeline.iter().any(|t| matches!(
        &t.entry,
        Entry::AbortRequested { by: Actor::Automatic, reason, .. } if reason.contains(" again: ")
    )));
    assert_eq!(w.answered("checkout").await, ["us-east", "ap-south"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_another_region_does_not_wait_for_a_failback() {
    let w = left_and_well(|c: &mut Config| {
        policy(FOR_EVER.divided_by(FACTOR), false)(c);
        // One region and a tenth of another carry it all meanwhile.
        let endpoints = c.services.values_mut().flat_map(|s| s.endpoints.values_mut());
        endpoints.for_each(|e| e.capacity = RequestsPerSecond(10_000));
    })
    .await;
    let run = begin(&w).await;
    w.until("it soaks", |s| s.runs.iter().any(|r| r.summary.contains("soak"))).await;
    w.until("no block period stands", |s| s.blocks.is_empty()).await;
    w.kill_region("us-east");
    w.until_run(&run, RunState::RolledBack).await;
    w.until("us-east is left", |s| s.runs.len() == 3 && share(s, "us-east") == Percent::ZERO).await;
    let failover = w.until_run("run-3", RunState::Succeeded).await;
    assert_eq!(failover.summary.by, Actor::Automatic);
    assert!(!w.answered("checkout").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_service_says_so_it_comes_back_by_itself() {
    let w = left_and_well(policy(Span::from_millis(200), true)).await;
    let status = w.until("it comes back", |s| s.runs.len() == 2).await;
    assert_eq!(status.runs[0].by, Actor::Automatic);
    let view = w.until_run("run-2", RunState::Succeeded).await;
    assert_eq!(view.plan.services.len(), 2);
    assert_eq!(share(&w.status().await, "eu-west"), Percent::FULL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_left_is_offered_even_where_drover_may_bring_things_back() {
    let w = World::start(|c: &mut Config| {
        policy(Span::from_millis(200), true)(c);
        c.services.values_mut().for_each(|s| s.failover.failback.stable_hold = Span::ZERO);
    })
    .await;
    let id = plan(&w, "failover").await["planned"]["plan"]["id"].as_str().unwrap().to_owned();
    let apply = json!({"by": person(), "reason": "a hunch"});
    assert_eq!(w.post(&format!("/v1/plans/{id}/apply"), apply).await.0, 200);
    w.until_run("run-1", RunState::Succeeded).await;
    let offered = |s: &StatusView| s.failbacks.iter().any(|f| f.offered && f.services.len() == 2);
    w.until("it is offered", offered).await;
    let told =
        |v: &Value| v["sentence"].as_str().is_some_and(|t| t.starts_with("failback of eu-west is offered"));
    while !told(&w.get("/v1/explain/eu-west").await) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(w.status().await.runs.len(), 1, "decided about, and not done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_no_hold_shorter() {
    let mut w = left_and_well(|c: &mut Config| {
        policy(Span::from_millis(200), true)(c);
        c.services.values_mut().for_each(|s| s.failover.failback.stable_hold = FOR_EVER);
    })
    .await;
    let since = |s: &StatusView| {
        let of = |f: &FailbackView| match f.reason {
            Reason::StableHold { stable_since, .. } => Some(stable_since),
            _ => None,
        };
        s.failbacks.iter().filter_map(of).min().filter(|_| s.failbacks.len() == 2)
    };
    let before = w.until("its hold has begun", |s| since(s).is_some()).await.at;
    w.restart_coordinator().await;
    let after = w.until("its hold begins anew", |s| since(s).is_some()).await;
    assert!(since(&after).unwrap() >= before, "what happened meanwhile, nobody saw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_that_failed_is_not_tried_again_by_itself() {
    let w = left_and_well(|c: &mut Config| {
        policy(Span::from_millis(200), true)(c);
        c.services.values_mut().for_each(|s| s.failover.block_period = FOR_EVER);
        c.services.values_mut().for_each(|s| s.failover.failback.stable_hold = Span::ZERO);
    })
    .await;
    // The failover's own block period would hold it back as well; a person ends that one.
    w.post("/v1/rearm", json!({"by": person(), "reason": "seen", "service": null})).await;
    w.until("it climbs by itself", |s| s.runs.len() == 2 && share(s, "eu-west") > Percent::ZERO).await;
    w.broken.lock().unwrap().insert("eu-west".into());
    w.until_run("run-2", RunState::RolledBack).await;
    let held = w.until("it says why not again", |s| s.blocks.iter().any(|b| b.run.as_str() == "run-2")).await;
    assert_eq!(held.runs.len(), 2);
    let told = w.get("/v1/explain/eu-west").await["sentence"].as_str().unwrap().to_owned();
    assert!(told.contains("run-2 could not bring"), "{told}");
    let service = ServiceId::new("checkout").unwrap();
    assert!(held.blocks.iter().any(|b| b.service == service));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_goes_on_with_the_climb() {
    let mut w = left_and_well(policy(Span::from_secs(1), false)).await;
    let left = w.status().await;
    let run = begin(&w).await;
    w.until("it has half of its share", |s| share(s, "eu-west") == Percent::whole(50)).await;
    w.restart_coordinator().await;
    let view = w.until_run(&run, RunState::Succeeded).await;
    assert!(words(&view).iter().any(|t| t == "a new leader goes on with the run"));
    let status = w.status().await;
    // A move whose record died with the first leader is found done by the second: it is the generation that counts moves.
    for (service, before) in generations(&left) {
        let after = generations(&status)[&service];
        assert_eq!(after.0, before.0 + 3, "each share of {service} is published once");
    }
    assert_eq!(share(&status, "eu-west"), Percent::FULL);
}
