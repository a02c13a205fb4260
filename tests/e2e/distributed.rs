//! A coordinator whose records are in an etcd cluster: how it gets there, and what the death of a member means to it.

use crate::cluster::Cluster;
use crate::world::{World, is_well};
use drover_model::config::{EtcdSettings, StoreSettings};
use drover_model::journal::RunState;
use drover_model::{RunId, Span};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Moves a world's records into a cluster, and waits until it leads there and all is well.
pub fn moved(w: &World, cluster: &Cluster) {
    let endpoints = cluster.endpoints().join(",");
    let state = w.coordinator().option("--state").unwrap().to_owned();
    // Something to find again.
    w.drover(&["freeze", "--for", "1h", "--reason", "moving the store"]).expect_code(0);
    let before = w.status().coordinator.epoch;

    let etcd = EtcdSettings {
        endpoints: cluster.endpoints(),
        prefix: "/drover".into(),
        keep_history: Span::from_hours(24),
        leader_lost_after: Span::from_secs(3),
    };
    w.edit(|c| c.settings.store = Some(StoreSettings { etcd }));
    let needed = w.status().coordinator.restart_needed;
    assert!(needed.iter().any(|n| n.contains("`store` takes effect at the next start")), "{needed:?}");

    // From its death on it is started again and again, and refuses: its records are still here.
    w.coordinator().signal(Signal::SIGKILL);
    w.wait_for("nobody has the store any more", |w| {
        let export = ["store", "export", "--state", &state, "--retire", "--to", "drover.jsonl", "-o", "json"];
        let said = w.drover(&export);
        (said.code == 0).then(|| {
            let value: Value = said.json();
            assert_eq!(value["retired"], true);
        })
    });
    let import = ["store", "import", "--etcd", &endpoints, "drover.jsonl", "-o", "json"];
    let said: Value = w.drover(&import).expect_code(0).json();
    assert_eq!(said["keeps_incarnation"], true);
    w.drover(&import).expect_code(3);
    let file = format!("{state}/drover.redb");
    std::fs::rename(&file, format!("{file}.old")).unwrap();

    let status = w.until("it leads on the cluster", |s| s.coordinator.epoch.counter > before.counter);
    assert_eq!(status.coordinator.epoch.incarnation, before.incarnation, "DNS obeys it as before");
    assert!(status.freeze.is_some(), "what was known is known");
    w.drover(&["unfreeze", "--reason", "moved"]).expect_code(0);
    w.until("all vantages report again", is_well);
}

#[test]
fn records_move_from_the_machine_into_a_cluster_that_outlives_its_members() {
    let mut cluster = Cluster::start(3, &[]);
    let w = World::up();
    moved(&w, &cluster);
    let endpoints = cluster.endpoints().join(",");

    let plan = w.plan(&["drain", "us-east", "--for", "1h", "--reason", "kernel update"]);
    let begun: Value = w
        .drover(&["apply", &plan, "--reason", "as agreed", "--yes", "--no-wait", "-o", "json"])
        .expect_code(0)
        .json();
    let run: RunId = begun["id"].as_str().unwrap().parse().unwrap();
    let (leader, _) = cluster.leader_and_follower();
    cluster.kill(leader);
    w.drover(&["run", "follow", run.as_str()]).expect_code(0);
    assert_eq!(w.run(&run).summary.state, RunState::Succeeded);
    assert_eq!(w.answered("checkout"), ["ap-south", "eu-west"]);
    cluster.restart(leader);
    let check = ["store", "check", "--etcd", &endpoints, "-o", "json"];
    let said: Value = w.drover(&check).expect_code(0).json();
    assert_eq!(said["sound"], true);
}
