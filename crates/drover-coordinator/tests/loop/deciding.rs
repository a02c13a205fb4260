//! When drover acts by itself, and when it does not.

use crate::world::{FACTOR, Sees, World};
use drover_model::api::ExplainView;
use drover_model::journal::RunState;
use std::time::Duration;

/// Several times what detection takes in the scaled world (three probes of 300 ms, and one to settle).
const LONG_ENOUGH: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_region_is_failed_over() {
    let w = World::start(|_| {}).await;
    assert_eq!(w.answered("checkout").await.len(), 3);
    w.kill_region("eu-west");
    w.until("a run", |s| !s.runs.is_empty()).await;
    let run = w.until_run("run-1", RunState::Succeeded).await;
    assert_eq!(run.plan.services.len(), 2, "both services move in one run");
    assert!(run.elapsed <= run.rto);
    let status = w.status().await;
    for s in &status.services {
        let weights: Vec<(&str, u8)> = s.endpoints.iter().map(|e| (e.region.as_str(), e.weight.0)).collect();
        assert_eq!(weights, [("ap-south", 50), ("eu-west", 0), ("us-east", 50)], "{}", s.name);
        assert_eq!(w.answered(s.name.as_str()).await, ["us-east", "ap-south"]);
    }
    assert_eq!(status.blocks.len(), 2, "no second automatic failover of the kind for a while");

    let explain: ExplainView = serde_json::from_value(w.get("/v1/explain/run-1").await).unwrap();
    assert!(
        explain.sentence.starts_with("run-1 (failover of ")
            && explain.sentence.contains(" from eu-west) is succeeded"),
        "{}",
        explain.sentence
    );
    assert_eq!(explain.endpoints.len(), 2, "what is seen of its services where they were");
    let began_by = &explain.history[0];
    assert!(began_by.sentence.ends_with("(run-1)"), "the decision that began it: {}", began_by.sentence);
    let explain: ExplainView =
        serde_json::from_value(w.get(&format!("/v1/explain/{}", began_by.id)).await).unwrap();
    assert_eq!(explain.sentence, began_by.sentence);
    assert_eq!(explain.decisions[0].region.as_str(), "eu-west");
    let stored = w.get("/v1/decisions").await;
    let of_endpoint = |d: &&serde_json::Value| d["subject"].as_str().unwrap().contains('@');
    let verdict = stored["items"].as_array().unwrap().iter().find(of_endpoint).unwrap();
    let path = format!("/v1/explain/{}", verdict["id"].as_str().unwrap());
    let explain: ExplainView = serde_json::from_value(w.get(&path).await).unwrap();
    assert_eq!(explain.endpoints.len(), 1, "a verdict, with what it was made from");
    assert_eq!(w.get("/v1/explain/run-99").await["status"], 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lying_vantage_moves_nothing_and_explain_says_why() {
    let w = World::start(|_| {}).await;
    w.sees("us-east-1", "eu-west", Sees::Bad);
    w.until("the liar is noticed", |s| {
        s.services[0].endpoints.iter().any(|e| e.verdict.to_string() == "partitioned")
    })
    .await;
    tokio::time::sleep(LONG_ENOUGH).await;
    let status = w.status().await;
    assert!(status.runs.is_empty());
    let explain: ExplainView = serde_json::from_value(w.get("/v1/explain/eu-west").await).unwrap();
    assert_eq!(explain.sentence, "not failing over eu-west: 1 of 3 outside vantages agree, 2 needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_regions_at_once_suspect_the_observer() {
    let w = World::start(|_| {}).await;
    for region in crate::world::REGIONS {
        for agent in ["eu-west-1", "us-east-1", "ap-south-1", "witness-1"] {
            w.sees(agent, region, Sees::Bad);
        }
    }
    w.until("everything is down", |s| {
        s.services.iter().all(|s| s.endpoints.iter().all(|e| e.verdict.moves_traffic()))
    })
    .await;
    tokio::time::sleep(LONG_ENOUGH).await;
    let status = w.status().await;
    assert!(status.runs.iter().all(|r| r.state == RunState::AwaitingApproval), "{:?}", status.runs);
    assert!(status.services.iter().all(|s| s.endpoints.iter().all(|e| e.weight.0 > 0)), "weights stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_in_the_future_and_a_blind_vantage_do_not_count() {
    let w = World::start(|_| {}).await;
    {
        let mut agents = w.agents.lock().unwrap();
        agents.clock_ahead_millis.insert("us-east-1".into(), 3_600_000);
        agents.blind.push("ap-south-1".into());
    }
    for agent in ["us-east-1", "ap-south-1"] {
        w.sees(agent, "eu-west", Sees::Bad);
    }
    let status = w
        .until("both abstain", |s| {
            let state =
                |a: &str| s.vantages.iter().find(|v| v.agent.as_str() == a).unwrap().state.to_string();
            state("us-east-1") == "clock skewed" && state("ap-south-1") == "blind"
        })
        .await;
    assert!(!status.regions.iter().find(|r| r.name.as_str() == "eu-west").unwrap().quorum.possible);
    tokio::time::sleep(LONG_ENOUGH).await;
    assert!(w.status().await.runs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_little_capacity_asks_with_the_arithmetic_and_runs_when_approved() {
    let w = World::start(|c| {
        for s in c.services.values_mut() {
            s.metrics.as_mut().unwrap().path = "/none".into();
            for e in s.endpoints.values_mut() {
                e.capacity = drover_model::RequestsPerSecond(120);
            }
        }
    })
    .await;
    w.kill_region("eu-west");
    let status =
        w.until("a question", |s| s.runs.iter().any(|r| r.state == RunState::AwaitingApproval)).await;
    let decision =
        status.regions.iter().find(|r| r.name.as_str() == "eu-west").unwrap().decision.clone().unwrap();
    let explain: ExplainView = serde_json::from_value(w.get("/v1/explain/eu-west").await).unwrap();
    let capacity =
        explain.history.iter().find(|h| h.code == "capacity_insufficient").expect("stored with its reason");
    assert!(
        capacity.sentence.contains("150rps") && capacity.sentence.contains("108rps"),
        "{}",
        capacity.sentence
    );
    assert!(decision.contains("eu-west"), "{decision}");
    let run = &status.runs[0];
    let body = serde_json::json!({
        "by": {"kind": "person", "name": "ann", "host": "here"}, "reason": "better slow than gone", "plan": run.plan,
    });
    let (code, answer) = w.post(&format!("/v1/runs/{}/approve", run.id), body).await;
    assert_eq!(code, 200, "{answer}");
    // The metrics were taken away, so validation is inconclusive, which holds: no data is never a pass.
    let view = w.until_run(run.id.as_str(), RunState::Paused).await;
    assert!(w.answered("checkout").await.iter().all(|r| r != "eu-west"), "{:?}", view.summary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_given_for_less_long_while_a_failover_seems_near() {
    let w = World::start(|config| {
        // A minute in the scaled world.
        let minutes = drover_model::Span::from_mins(FACTOR);
        let service = config.services.values_mut().find(|s| s.name.as_str() == "checkout").unwrap();
        service.ttl = minutes;
        service.failover.failure_threshold = 6;
        service.failover.automatic = false;
        config.settings.dns.as_mut().unwrap().embedded_mut().unwrap().ttl_floor = minutes.divided_by(3);
    })
    .await;
    assert_eq!(w.ttl_seconds("checkout").await, 60);
    w.sees("us-east-1", "eu-west", Sees::Bad);
    w.until("the failures are noticed", |s| {
        s.services[0].endpoints.iter().any(|e| e.verdict.to_string() != "healthy")
    })
    .await;
    assert_eq!(w.ttl_seconds("checkout").await, 60, "one vantage alone brings no failover nearer");
    for agent in ["ap-south-1", "witness-1"] {
        w.sees(agent, "eu-west", Sees::Bad);
    }
    w.until_ttl("checkout", |ttl| (20..60).contains(&ttl)).await;
    w.heal_region("eu-west");
    w.until_ttl("checkout", |ttl| ttl == 60).await;
    assert_eq!(w.status().await.runs.len(), 0);
}
