//! What must not be lost or left behind when something goes another way than planned.

use crate::world::World;
use drover_model::journal::RunState;
use drover_model::traffic::Actor;
use drover_model::{ServiceId, Span};
use serde_json::{Value, json};

fn person() -> Value {
    json!({"kind": "person", "name": "ann", "host": "here"})
}

async fn apply(w: &World, purpose: &str, services: &[&str], region: &str) {
    let request = json!({
        "by": person(),
        "intent": {
            "purpose": purpose, "services": services, "region": region, "to": null, "automatic": false,
            "hold_for": null, "reason": "test",
        },
    });
    let (code, view) = w.post("/v1/plans", request).await;
    assert_eq!(code, 200, "{view}");
    let id = view["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("no plan: {view}")).to_owned();
    let (code, run) =
        w.post(&format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "work"})).await;
    assert_eq!(code, 200, "{run}");
}

async fn roll_back(w: &World, run: &str) {
    let body = json!({"by": person(), "reason": "not now", "roll_back": true});
    let (code, answer) = w.post(&format!("/v1/runs/{run}/abort"), body).await;
    assert_eq!(code, 200, "{answer}");
    w.until_run(run, RunState::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_done_once_although_the_client_hangs_up() {
    let w = World::start(|_| {}).await;
    let request = json!({
        "by": person(),
        "intent": {
            "purpose": "drain", "services": ["catalog"], "region": "us-east", "to": null, "automatic": false,
            "hold_for": null, "reason": "test",
        },
    });
    let (_, view) = w.post("/v1/plans", request).await;
    let id = view["planned"]["plan"]["id"].as_str().unwrap();
    let body = json!({"by": person(), "reason": "work"}).to_string();
    let head = format!(
        "POST /v1/plans/{id}/apply HTTP/1.1\r\nhost: drover\r\nidempotency-key: gone\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = tokio::net::TcpStream::connect(w.api).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection, head.as_bytes()).await.unwrap();
    drop(connection);
    // Whether the coordinator had begun with it or not: the same command sent again is done once in all, and answered.
    let again =
        w.http.post(format!("http://{}/v1/plans/{id}/apply", w.api)).header("idempotency-key", "gone");
    let answer = again.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(w.status().await.runs.len(), 1);
    w.until_run("run-1", RunState::Succeeded).await;
    apply(&w, "undrain", &["catalog"], "us-east").await;
    w.until_run("run-2", RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rolled_back_leaves_no_hold_and_loses_none() {
    let w = World::start(|_| {}).await;
    apply(&w, "drain", &["catalog"], "us-east").await;
    w.until("the drain is in force", |s| s.holds.len() == 1).await;
    roll_back(&w, "run-1").await;
    assert!(w.status().await.holds.is_empty(), "traffic is back, so nothing is held");
    assert_eq!(w.answered("catalog").await.len(), 3);

    apply(&w, "drain", &["catalog"], "us-east").await;
    let before = w.until_run("run-2", RunState::Succeeded).await;
    let held = w.status().await.holds;
    apply(&w, "undrain", &["catalog"], "us-east").await;
    w.until("it comes back", |s| s.holds.is_empty()).await;
    roll_back(&w, "run-3").await;
    assert_eq!(w.status().await.holds, held, "the operator's drain stands again");
    assert_eq!(held[0].run, before.summary.id);
    assert_eq!(w.answered("catalog").await, ["eu-west", "ap-south"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_shrinks_by_what_comes_back() {
    let w = World::start(|_| {}).await;
    apply(&w, "drain", &[], "us-east").await;
    w.until_run("run-1", RunState::Succeeded).await;
    apply(&w, "undrain", &["catalog"], "us-east").await;
    w.until_run("run-2", RunState::Succeeded).await;
    let holds = w.status().await.holds;
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].services, [ServiceId::new("checkout").unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_comes_again_when_the_no_has_aged() {
    let w = World::start(|c| {
        for s in c.services.values_mut() {
            s.failover.automatic = false;
            s.failover.block_period = Span::from_secs(300);
        }
    })
    .await;
    w.kill_region("eu-west");
    w.until("a question", |s| s.runs.iter().any(|r| r.state == RunState::AwaitingApproval)).await;
    w.post("/v1/runs/run-1/reject", json!({"by": person(), "reason": "a planned outage"})).await;
    w.until_run("run-1", RunState::Rejected).await;
    let status = w
        .until("it asks again", |s| {
            s.runs.iter().filter(|r| r.state == RunState::AwaitingApproval).count() == 1
        })
        .await;
    assert_eq!(status.runs.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_the_world_has_overtaken_is_withdrawn() {
    let w = World::start(|c| c.services.values_mut().for_each(|s| s.failover.automatic = false)).await;
    w.kill_region("eu-west");
    let asked = w.until("a question", |s| s.runs.iter().any(|r| r.state == RunState::AwaitingApproval)).await;
    assert_eq!(asked.runs[0].by, Actor::Automatic);
    let freeze = json!({"by": person(), "reason": "hands off", "expires_after": "1h"});
    assert_eq!(w.post("/v1/freeze", freeze).await.0, 200);
    let view = w.until_run("run-1", RunState::Rejected).await;
    assert!(view.timeline.iter().any(|t| t.sentence.contains("overtaken")), "{:?}", view.timeline);
    // Withdrawn by drover itself, it is no person's no: the same question may be asked as soon as it may be at all.
    assert_eq!(w.post("/v1/unfreeze", json!({"by": person(), "reason": "go on"})).await.0, 200);
    w.until("it asks again", |s| s.runs.iter().any(|r| r.state == RunState::AwaitingApproval)).await;
}
