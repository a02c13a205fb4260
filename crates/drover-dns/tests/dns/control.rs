//! The control listener: compare-and-swap, the fence, idempotency, and what it refuses.

use drover_dns::Epoch;
use drover_dns::publish::{Batch, Change};
use drover_dns::server::{Limits, StartError, run};
use drover_dns::zone::{RecordSet, RecordType};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::common::{Served, app, batch, config, epoch, http, http_as, put, serve, serve_with, set};

async fn send(served: &Served, batch: &Batch) -> (u16, Value) {
    let body = serde_json::to_string(batch).unwrap();
    let (status, reply) = http(served.running.control, "PUT", "/v1/recordsets", &body).await;
    (status, serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{status} {reply}")))
}

async fn get(served: &Served, path: &str) -> (u16, Value) {
    let (status, reply) = http(served.running.control, "GET", path, "").await;
    (status, serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{status} {reply}")))
}

fn drained(generation: u64) -> RecordSet {
    let mut set = app(generation);
    set.members[0].weight = 0;
    set
}

#[tokio::test]
async fn a_change_needs_the_generation_that_is_live() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let (status, reply) = send(&served, &batch(1, vec![put(None, app(5))])).await;
    assert_eq!((status, &reply), (200, &json!({"outcome": "changed", "generation": 2})));
    let (status, reply) = get(&served, "/v1/recordsets/APP.example.test./a").await;
    assert_eq!((status, &reply["record_set"]["generation"]), (200, &json!(5)));
    assert_eq!(get(&served, "/v1/recordsets/app.example.test/AAAA").await.0, 404);

    // Somebody who believes that there is nothing, or something older, is shown what there is.
    for expected in [None, Some(4), Some(6)] {
        let (status, reply) = send(&served, &batch(1, vec![put(expected, drained(7))])).await;
        assert_eq!((status, &reply["code"]), (409, &json!("conflict")), "{reply}");
        assert_eq!(reply["conflicts"][0]["current"]["generation"], 5);
    }
    let (status, reply) = send(&served, &batch(1, vec![put(Some(5), drained(5))])).await;
    assert_eq!((status, &reply["code"]), (422, &json!("generation_not_raised")), "{reply}");
    assert_eq!(send(&served, &batch(1, vec![put(Some(5), drained(6))])).await.0, 200);
    let (_, reply) = get(&served, "/v1/changes").await;
    let steps: Vec<(&Value, &Value)> = (0..2)
        .map(|at| &reply["applied"][at]["changes"][0])
        .map(|change| (&change["from_generation"], &change["to_generation"]))
        .collect();
    assert_eq!(steps, [(&json!(null), &json!(5)), (&json!(5), &json!(6))], "{reply}");
    served.end().await;
}

#[tokio::test]
async fn a_batch_happens_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let other = || set("other.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.7", 1)]);
    assert_eq!(send(&served, &batch(1, vec![put(None, app(1))])).await.0, 200);
    let (status, reply) = send(&served, &batch(1, vec![put(None, other()), put(Some(9), drained(10))])).await;
    assert_eq!((status, reply["conflicts"].as_array().unwrap().len()), (409, 1), "{reply}");
    assert_eq!(get(&served, "/v1/recordsets/other.example.test/A").await.0, 404);
    let (status, _) = send(&served, &batch(1, vec![put(None, other()), put(Some(1), drained(2))])).await;
    assert_eq!(status, 200);
    let (_, reply) = get(&served, "/v1/recordsets").await;
    assert_eq!((&reply["generation"], reply["record_sets"].as_array().unwrap().len()), (&json!(3), 2));
    served.end().await;
}

#[tokio::test]
async fn repeating_a_write_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let first = batch(1, vec![put(None, app(1))]);
    assert_eq!(send(&served, &first).await.1["outcome"], "changed");
    // Also under a successor's epoch, which becomes the one in command.
    for repeated in [first.clone(), Batch { epoch: epoch(2), ..first.clone() }] {
        let (status, reply) = send(&served, &repeated).await;
        assert_eq!((status, &reply), (200, &json!({"outcome": "unchanged", "generation": 2})));
    }
    assert_eq!(get(&served, "/v1/fence").await.1["highest_epoch"]["counter"], 2);
    // A late duplicate of a write that was overtaken does not undo what came after.
    let second = batch(2, vec![put(Some(1), drained(2))]);
    assert_eq!(send(&served, &second).await.0, 200);
    let late = Batch { epoch: epoch(2), ..first };
    assert_eq!(send(&served, &late).await.1["code"], "conflict");
    assert_eq!(get(&served, "/v1/changes").await.1["applied"].as_array().unwrap().len(), 2);
    served.end().await;
}

#[tokio::test]
async fn a_deposed_leader_is_fenced() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    assert_eq!(send(&served, &batch(7, vec![put(None, app(1))])).await.0, 200);
    let foreign = Epoch { incarnation: 1, counter: 99 };
    for (given, reason) in [(epoch(6), "older"), (foreign, "other_incarnation")] {
        let late = Batch { epoch: given, ..batch(0, vec![put(Some(1), drained(2))]) };
        let (status, reply) = send(&served, &late).await;
        assert_eq!((status, &reply["code"], &reply["fence_reason"]), (409, &json!("fenced"), &json!(reason)));
        assert_eq!(reply["highest"]["counter"], 7, "{reply}");
    }
    // Another incarnation commands once it was adopted, by somebody who knows what it replaces.
    let adopt = async |from: Epoch, to: Epoch| {
        let body = json!({"from": from, "to": to}).to_string();
        http(served.running.control, "POST", "/v1/fence", &body).await.0
    };
    assert_eq!(adopt(epoch(6), foreign).await, 409);
    assert_eq!(adopt(epoch(7), epoch(6)).await, 409, "never back within an incarnation");
    assert_eq!(adopt(epoch(7), foreign).await, 200);
    let new = Batch { epoch: foreign, ..batch(0, vec![put(Some(1), drained(2))]) };
    assert_eq!(send(&served, &new).await.0, 200);
    assert_eq!(send(&served, &batch(8, vec![put(Some(2), app(3))])).await.1["code"], "fenced");
    served.end().await;
}

#[tokio::test]
async fn what_may_not_be_published_is_refused_with_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(vec![
        app(1),
        set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]),
    ]);
    let a = |name: &str, members: &[(&str, &str, u16)]| put(None, set(name, RecordType::A, 1, members));
    let one: &[(&str, &str, u16)] = &[("eu-west", "192.0.2.1", 1)];
    let cname = |name: &str| put(None, set(name, RecordType::Cname, 1, &[("eu-west", "lb.example.org", 1)]));
    let cases = vec![
        ("empty", vec![a("x.example.test", &[])]),
        (
            "all weights zero",
            vec![a("x.example.test", &[("eu-west", "192.0.2.1", 0), ("us-east", "192.0.2.2", 0)])],
        ),
        ("weight above 255", vec![a("x.example.test", &[("eu-west", "192.0.2.1", 256)])]),
        ("wrong type", vec![a("x.example.test", &[("eu-west", "2001:db8::1", 1)])]),
        (
            "region twice",
            vec![a("x.example.test", &[("eu-west", "192.0.2.1", 1), ("eu-west", "192.0.2.2", 1)])],
        ),
        (
            "value twice",
            vec![a("x.example.test", &[("eu-west", "192.0.2.1", 1), ("us-east", "192.0.2.1", 0)])],
        ),
        ("out of zone", vec![a("x.example.org", one)]),
        ("reserved", vec![a("_generation.x.example.test", one)]),
        ("name server", vec![a("ns1.example.test", one)]),
        ("CNAME at apex", vec![cname("example.test")]),
        ("CNAME beside A", vec![cname("app.example.test")]),
        ("A beside CNAME", vec![a("www.example.test", one)]),
        ("wildcard", vec![a("*.example.test", one)]),
    ];
    for (what, changes) in cases {
        let (status, reply) = send(&served, &batch(1, changes)).await;
        assert_eq!((status, &reply["code"]), (422, &json!("invalid")), "{what}: {reply}");
    }
    for (what, changes) in
        [("no change", vec![]), ("one set twice", vec![a("x.example.test", one), a("X.example.test", one)])]
    {
        let (status, reply) = send(&served, &batch(1, changes)).await;
        assert_eq!((status, &reply["code"]), (400, &json!("malformed")), "{what}: {reply}");
    }
    let mut stolen = drained(2);
    stolen.owner = "somebody else".into();
    let (status, reply) = send(&served, &batch(1, vec![put(Some(1), stolen.clone())])).await;
    assert_eq!((status, &reply["code"]), (409, &json!("owned_by_other")), "{reply}");
    let taken = Change::Put { expected_generation: Some(1), record_set: stolen, take_over: true };
    assert_eq!(send(&served, &batch(1, vec![taken])).await.0, 200);
    let gone =
        Change::Delete { expected_generation: 1, name: "www.example.test".into(), rtype: RecordType::Cname };
    assert_eq!(send(&served, &batch(1, vec![gone])).await.0, 200);
    assert_eq!(get(&served, "/v1/recordsets/www.example.test/CNAME").await.0, 404);
    served.end().await;
}

#[tokio::test]
async fn only_local_clients_with_sane_requests_are_heard() {
    let directory = tempfile::tempdir().unwrap();
    let mut open = config(directory.path(), Limits::default());
    open.control = "0.0.0.0:0".parse().unwrap();
    let refused = run(open, CancellationToken::new()).await;
    assert!(matches!(refused, Err(StartError::ControlNotLoopback { .. })), "{refused:?}");

    let limits = Limits { control_body_bytes_max: 1000, ..Limits::default() };
    let served = serve_with(directory.path(), limits).await;
    let control = served.running.control;
    assert_eq!(http(control, "GET", "/livez", "").await, (200, "ok\n".to_owned()));
    assert_eq!(http(control, "GET", "/nothing", "").await.0, 404);
    assert_eq!(http(control, "PUT", "/v1/recordsets", "{").await.0, 400);
    assert_eq!(http(control, "PUT", "/v1/recordsets", &" ".repeat(1001)).await.0, 413);
    assert_eq!(http_as(control, "attacker.example:80", "GET", "/v1/recordsets", "").await.0, 403);
    assert_eq!(http_as(control, "localhost", "GET", "/v1/recordsets", "").await.0, 200);
    served.end().await;
}
