//! Records that would kill each leader in turn: spoilt past any reading, under the keys that leaders and followers read. Nobody
//! ends; each is named; all else goes on, through a takeover too; and a person gets rid of it.

use crate::cluster::Cluster;
use crate::distributed::moved;
use crate::leadership::{Further, agents, at, leader, leadership, status};
use crate::world::{World, is_well};
use drover_model::api::{RunSummary, StatusView};
use drover_model::journal::RunState;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Of these drover can do without: it says so, and fails over as ever.
const DONE_WITHOUT: [&str; 14] = [
    "coordinators/http:--nobody:1",
    "traffic/a-service-of-nobody",
    "fixed/a-record-of-nobody",
    "blocks/catalog/recovery",
    "standing/checkout@eu-west",
    "ended/000000000099",
    "runs/000000000098/journal/000000",
    "decisions/000000000001",
    "decisions/of-a-stranger",
    "outbox/0123",
    "write-rights/orders",
    "published-from/a-service-of-nobody",
    "plans/plan-1",
    "audit-head",
];

/// Of these it can't: what they forbade nobody knows.
const WITHHOLDING: [&str; 3] = ["freeze", "holds/run-77", "open/000000000077"];

fn spoilt(number: usize) -> Vec<u8> {
    match number % 6 {
        0 => vec![0xff, 0, b'{', 0xfe],
        1 => b"{\"service\":\"checkout\",\"gen".to_vec(),
        2 => ["{\"a\":".repeat(100_000), "}".repeat(100_000)].concat().into_bytes(),
        3 => format!("\"{}\"", "\u{e9}x".repeat(340_000)).into_bytes(),
        4 => b"{\"kind\":\"of-next-year\",\"generation\":18446744073709551615}".to_vec(),
        _ => vec![1, 0xff, 0xff, 0xff, 0xff, 7],
    }
}

/// Writes any bytes under a key, past whatever drover would write.
fn put(cluster: &Cluster, key: &str, value: &[u8]) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &cluster.endpoint(0), "put", "--"]);
    command.arg(format!("/drover/records/{key}"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Where the command line has no value it is read from there.
    child.stdin.take().unwrap().write_all(value).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{key}: {}", String::from_utf8_lossy(&ended.stderr));
}

fn told(view: &StatusView) -> BTreeSet<&str> {
    view.coordinator.unreadable_records.iter().map(|record| record.key.as_str()).collect()
}

/// Waits until a coordinator names the record, and gives what it shows.
fn names(w: &World, url: &str, key: &str) -> StatusView {
    w.wait_for(&format!("{url} names {key}"), |w| {
        let is_told = |view: &StatusView| view.attention.iter().any(|a| a.subject == *key);
        status(w, url).filter(|view| told(view).contains(key) && is_told(view))
    })
}

/// Removes all that can't be read, and nothing else.
fn got_rid_of(w: &World, cluster: &Cluster) {
    let endpoints = cluster.endpoints().join(",");
    let remove = |key: &str, save: &str| {
        w.drover(&["store", "remove", key, "--etcd", &endpoints, "--save", save, "--yes"])
    };
    let refused = remove("traffic/checkout", "sound").expect_code(3);
    assert!(refused.stderr.contains("makes sense"), "{}", refused.stderr);
    let refused = remove("runs/000000000098/journal/000000", "journal").expect_code(3);
    assert!(refused.stderr.contains("open/000000000098"), "{}", refused.stderr);
    let found: Value =
        w.drover(&["store", "check", "--etcd", &endpoints, "-o", "json"]).expect_code(8).json();
    let keys: Vec<&str> =
        found["unreadable"].as_array().unwrap().iter().map(|found| found[0].as_str().unwrap()).collect();
    for key in ["holds/run-77", "decisions/of-a-stranger", "outbox/0123"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    for (number, key) in keys.iter().filter(|key| !key.starts_with("runs/")).enumerate() {
        remove(key, &format!("bad-{number}")).expect_code(0);
        assert!(w.path(&format!("bad-{number}")).is_file());
    }
}

#[test]
fn spoilt_records_end_nobody_are_named_and_are_got_rid_of_while_all_else_goes_on() {
    let cluster = Cluster::start(1, &[]);
    let w = World::up();
    moved(&w, &cluster);
    let first = format!("http://{}", w.config.settings.listen);
    let (b, c) = (Further::start(&w, "b"), Further::start(&w, "c"));
    let all = [first.as_str(), b.url.as_str(), c.url.as_str()];
    let _agents = agents(&w, &all[1..]);
    for url in &all[1..] {
        w.wait_for("a follower knows what the agents know", |w| status(w, url).filter(is_well));
    }
    DONE_WITHOUT.iter().enumerate().for_each(|(number, key)| put(&cluster, key, &spoilt(number)));
    for url in all {
        let view = names(&w, url, "traffic/a-service-of-nobody");
        assert_eq!(view.freeze, None, "these forbid nothing");
    }

    // A leader after the other: killed, each successor begins on these records, and drover still fails over by itself.
    w.coordinator().signal(Signal::SIGKILL);
    let next = w.wait_for("another one leads", |w| leader(w, &all[1..])).to_owned();
    w.wait_for("the first one is back and follows", |w| leadership(w, &first).filter(|l| !l.leads));
    names(&w, &next, "fixed/a-record-of-nobody");
    w.drover(&["break", "eu-west"]).expect_code(0);
    w.wait_for("the failover took place", |w| {
        let is_it = |r: &RunSummary| r.state == RunState::Succeeded && r.region.as_str() == "eu-west";
        status(w, &next).filter(|s| s.runs.iter().any(is_it))
    });
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);

    // What may forbid something keeps drover from acting by itself, and no person.
    WITHHOLDING.iter().enumerate().for_each(|(number, key)| put(&cluster, key, &spoilt(number)));
    let (mut old, other) = if next == b.url { (b, c) } else { (c, b) };
    old.signal(Signal::SIGKILL);
    old.ended();
    let rest = [first.as_str(), other.url.as_str()];
    let heir = w.wait_for("another one leads", |w| leader(w, &rest)).to_owned();
    for key in WITHHOLDING {
        let freeze =
            names(&w, &heir, key).freeze.unwrap_or_else(|| panic!("{key}: nothing is done by itself"));
        assert!(freeze.reason.contains("can't be read"), "{}", freeze.reason);
    }
    at(&w, &heir, &["freeze", "--for", "1h", "--reason", "until the records are mended"]).expect_code(0);
    let log = at(&w, &heir, &["log", "--limit", "200"]).expect_code(0).stdout;
    assert!(log.contains("record unreadable"), "{log}");

    got_rid_of(&w, &cluster);
    w.wait_for("they are forgotten everywhere", |w| {
        let left = rest.iter().map(|url| status(w, url).map(|view| view.coordinator.unreadable_records));
        left.collect::<Option<Vec<_>>>()?.iter().flatten().all(|r| r.key.starts_with("runs/")).then_some(())
    });
    at(&w, &heir, &["unfreeze", "--reason", "mended"]).expect_code(0);
    w.wait_for("nothing holds it back", |w| status(w, &heir).filter(|view| view.freeze.is_none()));
    at(&w, &heir, &["audit", "verify"]).expect_code(0);
}
