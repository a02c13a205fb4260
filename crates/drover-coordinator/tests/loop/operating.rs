//! What people do, and what a restart does.

use crate::world::World;
use drover_model::api::StatusView;
use drover_model::journal::RunState;
use serde_json::{Value, json};

fn person() -> Value {
    json!({"kind": "person", "name": "ann", "host": "here"})
}

fn plan_request(purpose: &str, services: &[&str], region: &str) -> Value {
    json!({
        "by": person(),
        "intent": {
            "purpose": purpose, "services": services, "region": region, "to": null, "automatic": false,
            "hold_for": null, "reason": "test",
        },
    })
}

async fn plan(w: &World, purpose: &str, region: &str) -> String {
    let (code, view) = w.post("/v1/plans", plan_request(purpose, &[], region)).await;
    assert_eq!(code, 200, "{view}");
    view["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("no plan: {view}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_and_undrain() {
    let w = World::start(|_| {}).await;
    let id = plan(&w, "drain", "us-east").await;
    assert_eq!(plan(&w, "drain", "us-east").await, id, "the same plan has the same name");
    let (code, run) =
        w.post(&format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "work"})).await;
    assert_eq!(code, 200, "{run}");
    w.until_run("run-1", RunState::Succeeded).await;
    assert_eq!(w.answered("catalog").await, ["eu-west", "ap-south"]);
    let status = w.status().await;
    assert_eq!(status.holds.len(), 1);
    assert!(status.attention.iter().any(|a| a.code == "drained"), "who and why stay visible");
    let short = w.get("/v1/status?form=short").await;
    assert_eq!(short["services"][0]["endpoints"][0].get("share"), None, "as usual, and left out");
    let shares = |status: &StatusView| -> Vec<_> {
        let endpoints = status.services.iter().flat_map(|s| &s.endpoints);
        endpoints.map(|e| (e.region.clone(), e.share, e.share_reason.clone())).collect()
    };
    assert_eq!(shares(&serde_json::from_value(short).unwrap()), shares(&status), "nothing is lost");
    assert_eq!(w.get("/v1/status?form=long").await["code"], "bad_query");
    let store = &w.coordinator().store;
    let kept = store.get("ended/000000000001").await.unwrap().unwrap();
    let kept: drover_model::api::RunSummary = serde_json::from_slice(&kept.value).unwrap();
    assert_eq!(kept, w.run_view("run-1").await.summary, "noted with its last record");
    assert_eq!(store.get("open/000000000001").await.unwrap(), None);

    let (code, again) =
        w.post(&format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "again"})).await;
    assert_eq!((code, again["code"].as_str().unwrap()), (409, "stale_plan"), "{again}");

    let id = plan(&w, "undrain", "us-east").await;
    w.post(&format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "done"})).await;
    w.until_run("run-2", RunState::Succeeded).await;
    assert_eq!(w.answered("catalog").await.len(), 3);
    assert!(w.status().await.holds.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_is_finished_by_the_successor() {
    let mut w = World::start(|_| {}).await;
    w.kill_region("eu-west");
    w.until("it is validating", |s| s.runs.iter().any(|r| r.state == RunState::Validating)).await;
    w.restart_coordinator().await;
    let view = w.until_run("run-1", RunState::Succeeded).await;
    assert!(
        view.timeline.iter().any(|t| t.sentence == "a new leader goes on with the run"),
        "{:?}",
        view.timeline
    );
    assert_eq!(w.answered("checkout").await, ["us-east", "ap-south"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_idempotent_and_bad_ones_are_problems() {
    let w = World::start(|_| {}).await;
    let freeze = json!({"by": person(), "reason": "release night", "expires_after": "1h"});
    let send = async |key: &str, body: &Value| {
        let request = w.http.post(format!("http://{}/v1/freeze", w.api)).header("idempotency-key", key);
        let answer = request.json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let first = send("k1", &freeze).await;
    assert_eq!(first.0, 200);
    assert_eq!(send("k1", &freeze).await, first, "sent twice, answered alike");
    let other = json!({"by": person(), "reason": "something else", "expires_after": null});
    assert_eq!(send("k1", &other).await.0, 422);
    let audit = w.get("/v1/audit").await;
    let told = |outcome: &str| {
        let freezes = audit["items"].as_array().unwrap().iter().filter(|a| a["verb"] == "freeze");
        freezes.filter(|a| a["outcome"].as_str().unwrap().starts_with(outcome)).count()
    };
    assert_eq!((told("frozen"), told("refused: ")), (1, 1), "done once, and once refused");

    let answer = w.http.post(format!("http://{}/v1/freeze", w.api)).json(&freeze).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let garbage =
        w.http.post(format!("http://{}/v1/plans", w.api)).header("idempotency-key", "g").body("{").send();
    assert!(garbage.await.unwrap().status().is_client_error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_change_is_taken_and_a_bad_one_refused_visibly() {
    let w = World::start(|_| {}).await;
    let before = w.status().await;
    w.rewrite(|c| {
        for s in c.services.values_mut() {
            s.endpoints.values_mut().enumerate().for_each(|(i, e)| e.weight = Some([60, 30, 10][i]));
        }
    });
    let status = w
        .until("new weights", |s| {
            s.services.iter().all(|s| s.endpoints.iter().map(|e| e.weight.0).eq([60, 30, 10]))
        })
        .await;
    assert_ne!(status.coordinator.config_version, before.coordinator.config_version);

    std::fs::write(w.dir.path().join("config/bad.yaml"), "kind: Service\nname: broken\nendpionts: []\n")
        .unwrap();
    let bad = w.until("the refusal shows", |s| !s.coordinator.config_refused.is_empty()).await;
    assert_eq!(bad.coordinator.config_version, status.coordinator.config_version, "the old one stays");
    assert!(bad.attention.iter().any(|a| a.code == "config_refused"));
    std::fs::remove_file(w.dir.path().join("config/bad.yaml")).unwrap();
    w.until("the refusal is gone", |s| s.coordinator.config_refused.is_empty()).await;
}

/// Pages as they came: signature, timestamp, body.
type Got = std::sync::Arc<std::sync::Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A receiver of pages.
async fn receiver() -> (String, Got) {
    let got = Got::default();
    let kept = got.clone();
    let take = move |headers: axum::http::HeaderMap, body: axum::body::Bytes| {
        let header = |n: &str| headers[n].to_str().unwrap().to_owned();
        kept.lock().unwrap().push((header("drover-signature"), header("drover-timestamp"), body.to_vec()));
        async { "" }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/page", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/page", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, got)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_pages_once_by_command_and_by_signed_webhook() {
    let scratch = tempfile::tempdir().unwrap();
    let (pages, secret) = (scratch.path().join("pages"), scratch.path().join("secret"));
    std::fs::write(&secret, "s3cret\n").unwrap();
    let (url, got) = receiver().await;
    let w = World::start(|c| {
        let command = format!("cat >> {}; echo >> {}", pages.display(), pages.display());
        c.settings.paging.on_page = Some(["sh", "-c", &command].map(str::to_owned).to_vec());
        c.settings.paging.webhook =
            Some(drover_model::config::WebhookTarget { url, secret_file: secret.clone() });
    })
    .await;
    w.kill_region("eu-west");
    w.until("a run", |s| !s.runs.is_empty()).await;
    w.until_run("run-1", RunState::Succeeded).await;
    w.until("all pages are out", |s| s.coordinator.pages_undelivered == 0).await;

    let lines = std::fs::read_to_string(&pages).unwrap();
    let keys: Vec<String> = lines
        .lines()
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["key"].as_str().unwrap().to_owned())
        .collect();
    let down = keys.iter().filter(|k| k.starts_with("endpoint_down/checkout@eu-west/")).count();
    assert_eq!(down, 1, "the same trouble pages once: {keys:?}");
    assert!(keys.contains(&"run-1/2-notify".to_owned()), "{keys:?}");

    let got = got.lock().unwrap();
    assert!(!got.is_empty());
    for (signature, timestamp, body) in got.iter() {
        assert_eq!(*signature, drover_coordinator::outbox::signature(b"s3cret", timestamp, body).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_question_is_not_asked_again_and_a_lapsed_drain_ends() {
    let w = World::start(|c| c.services.values_mut().for_each(|s| s.failover.automatic = false)).await;
    let mut request = plan_request("drain", &["catalog"], "us-east");
    request["intent"]["hold_for"] = json!("1s");
    let (_, view) = w.post("/v1/plans", request).await;
    let id = view["planned"]["plan"]["id"].as_str().unwrap().to_owned();
    w.post(&format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "work"})).await;
    w.until_run("run-1", RunState::Succeeded).await;
    let undrained = w.until("the drain is over", |s| s.holds.is_empty() && s.runs.len() == 2).await;
    assert_eq!(undrained.runs[0].by, drover_model::traffic::Actor::Automatic);
    w.until_run("run-2", RunState::Succeeded).await;

    w.kill_region("eu-west");
    w.until("a question", |s| s.runs.iter().any(|r| r.state == RunState::AwaitingApproval)).await;
    let (code, answer) =
        w.post("/v1/runs/run-3/reject", json!({"by": person(), "reason": "it is a planned outage"})).await;
    assert_eq!(code, 200, "{answer}");
    w.until_run("run-3", RunState::Rejected).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(w.status().await.runs.iter().filter(|r| !r.state.is_final()).count(), 0, "nobody is nagged");
}
