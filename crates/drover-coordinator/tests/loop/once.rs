//! A command is done once, also when the coordinator is killed after doing it and before answering.

use crate::world::World;
use drover_model::journal::RunState;
use drover_store::{ChangeKind, EmbeddedStore, Options, Revision, Store, Txn, Watch, WatchItem};
use serde_json::{Value, json};

fn person() -> Value {
    json!({"kind": "person", "name": "ann", "host": "here"})
}

async fn planned_drain(w: &World) -> String {
    let request = json!({
        "by": person(),
        "intent": {
            "purpose": "drain", "services": ["catalog"], "region": "us-east", "to": null, "automatic": false,
            "hold_for": null, "reason": "test",
        },
    });
    let (code, view) = w.post("/v1/plans", request).await;
    assert_eq!(code, 200, "{view}");
    view["planned"]["plan"]["id"].as_str().unwrap().to_owned()
}

async fn watch(w: &World) -> Watch {
    let store = &w.coordinator().store;
    let now: Revision = store.revision().await.unwrap();
    store.watch("", now).await.unwrap()
}

/// The first transaction that writes an answer: its other keys, and the answer as a crash right after would leave it.
async fn first_trace(watch: &mut Watch) -> (Vec<String>, String, Vec<u8>) {
    loop {
        let Some(WatchItem::Changed(changes)) = watch.next().await else { panic!("the watch ended") };
        let keys: Vec<String> = changes.changes.iter().map(|c| c.key.clone()).collect();
        for change in &changes.changes {
            if let (true, ChangeKind::Put(value)) = (change.key.starts_with("answers/"), &change.kind) {
                return (keys, change.key.clone(), value.value.clone());
            }
        }
    }
}

/// Ends the coordinator as if it had been killed right after it wrote `bytes`, and starts its successor.
async fn killed_before_the_answer(w: &mut World, key: &str, bytes: Vec<u8>) {
    w.stop_coordinator().await;
    let (store, _) = EmbeddedStore::open(w.dir.path().join("state/drover.redb"), Options::default()).unwrap();
    store.txn(Txn::new().put(key, bytes)).await.unwrap();
    store.close();
    w.start_coordinator().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_answer_was_never_written_is_found_by_the_repeat() {
    let mut w = World::start(|_| {}).await;
    let id = planned_drain(&w).await;
    let (path, body) = (format!("/v1/plans/{id}/apply"), json!({"by": person(), "reason": "work"}));
    let mut watch = watch(&w).await;
    let (code, first) = w.post_as("k", &path, &body).await;
    assert_eq!((code, first["id"].as_str()), (200, Some("run-1")), "{first}");
    let (keys, key, bytes) = first_trace(&mut watch).await;
    assert!(
        keys.iter().any(|k| k.starts_with("runs/")),
        "written with the run, in one transaction: {keys:?}"
    );
    drop(watch);

    killed_before_the_answer(&mut w, &key, bytes).await;
    let (code, again) = w.post_as("k", &path, &body).await;
    assert_eq!((code, again["id"].as_str()), (200, Some("run-1")), "{again}");
    assert_eq!(w.status().await.runs.len(), 1, "one run, although it was asked for twice");
    w.until_run("run-1", RunState::Succeeded).await;
    let (_, kept) = w.post_as("k", &path, &body).await;
    assert_eq!(kept, again, "and from then on the answer is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_to_a_run_is_not_given_twice_by_its_repeat() {
    let mut w = World::start(|_| {}).await;
    let id = planned_drain(&w).await;
    let body = json!({"by": person(), "reason": "wait"});
    assert_eq!(w.post(&format!("/v1/plans/{id}/apply"), body.clone()).await.0, 200);
    let mut watch = watch(&w).await;
    let (code, first) = w.post_as("k", "/v1/runs/run-1/pause", &body).await;
    assert_eq!(code, 200, "{first}");
    w.until_run("run-1", RunState::Paused).await;
    let (_, key, bytes) = first_trace(&mut watch).await;
    drop(watch);

    killed_before_the_answer(&mut w, &key, bytes).await;
    assert_eq!(w.post_as("k", "/v1/runs/run-1/pause", &body).await, (200, first));
    let view = w.run_view("run-1").await;
    let paused = view.timeline.iter().filter(|t| t.sentence.starts_with("paused by ann")).count();
    assert_eq!(paused, 1, "{:?}", view.timeline);
    assert_eq!(w.post_as("other", "/v1/runs/run-1/pause", &body).await.0, 409, "another command is another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_for_one_route() {
    let w = World::start(|_| {}).await;
    let body = json!({"by": person(), "reason": "same words"});
    assert_eq!(w.post_as("k", "/v1/unfreeze", &body).await.0, 200);
    let (code, problem) = w.post_as("k", "/v1/config/reload", &body).await;
    assert_eq!((code, problem["code"].as_str()), (422, Some("idempotency_key_reused")), "{problem}");
}
