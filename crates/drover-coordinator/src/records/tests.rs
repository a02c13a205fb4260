//! Which store a coordinator begins on, and on which it does not.

#[allow(dead_code, reason = "its other half is for the tests of the store itself")]
#[path = "../../../drover-store/src/etcd/tests/cluster.rs"]
mod cluster;

use super::*;
use cluster::Cluster;
use drover_store::Txn;

fn told(result: Result<Records, CoordinatorError>) -> String {
    result.err().map(|e| drover_model::chain(&e)).unwrap_or_default()
}

#[tokio::test]
async fn a_store_of_the_other_kind_is_never_begun_beside_the_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdSettings {
        endpoints: vec!["http://127.0.0.1:1".into()],
        prefix: "/drover".into(),
        keep_history: drover_model::Span::from_hours(24),
        leader_lost_after: drover_model::Span::from_secs(3),
    };
    std::fs::write(dir.path().join(STORE_FILE), "").unwrap();
    let error = told(Records::open(dir.path(), Some(&StoreSettings { etcd })).await);
    assert!(error.contains("drover.redb") && error.contains("mv "), "{error}");
    std::fs::remove_file(dir.path().join(STORE_FILE)).unwrap();

    let elsewhere = r#"{"store":"etcd /drover at http://a:2379","cluster_id":"07","revision":9}"#;
    std::fs::write(dir.path().join(ELSEWHERE_FILE), elsewhere).unwrap();
    let error = told(Records::open(dir.path(), None).await);
    assert!(error.contains("etcd /drover at http://a:2379") && error.contains(ELSEWHERE_FILE), "{error}");
    assert!(!dir.path().join(STORE_FILE).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_put_back_or_emptied_meanwhile_is_not_taken_for_what_it_was() {
    let mut cluster = Cluster::start(1, &[]);
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdSettings {
        endpoints: cluster.endpoints(),
        prefix: "/drover".into(),
        keep_history: drover_model::Span::from_hours(24),
        leader_lost_after: drover_model::Span::from_secs(3),
    };
    let settings = StoreSettings { etcd };
    let records = Records::open(dir.path(), Some(&settings)).await.unwrap();
    let snapshot = cluster.snapshot(0);
    for n in 0..10 {
        records.store().txn(Txn::new().put("k", n.to_string())).await.unwrap();
    }
    records.note(dir.path()).unwrap();
    drop(records);
    drop(Records::open(dir.path(), Some(&settings)).await.unwrap());

    // With the same token and addresses the cluster keeps its id.
    tokio::task::block_in_place(|| cluster.restore(&snapshot, "drover-test"));
    let error = told(Records::open(dir.path(), Some(&settings)).await);
    assert!(error.contains("was seen before") && error.contains("drover store export"), "{error}");
    tokio::task::block_in_place(|| cluster.restore(&snapshot, "another-token"));
    let error = told(Records::open(dir.path(), Some(&settings)).await);
    assert!(error.contains("restored from a snapshot"), "{error}");
    assert!(cluster.ctl(0, &["del", "--prefix", "/drover/"]).status.success());
    let error = told(Records::open(dir.path(), Some(&settings)).await);
    assert!(error.contains("there is no store in etcd /drover"), "{error}");
}
