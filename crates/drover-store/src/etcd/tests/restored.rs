//! Another cluster behind the same endpoints: one that was put back, and one that is new.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_put_back_to_a_snapshot_is_refused_by_whoever_saw_more() {
    let mut cluster = Cluster::start(3, &[]);
    let store = opened(&cluster).await;
    store.txn(Txn::new().put("k", "old")).await.unwrap();
    let snapshot = cluster.snapshot(0);
    for n in 0..20 {
        store.txn(Txn::new().put("k", n.to_string())).await.unwrap();
    }
    // The same token gives the restored cluster the same id: only the revision tells.
    tokio::task::block_in_place(|| cluster.restore(&snapshot, "drover-test"));
    let read = store.get("k").await.unwrap_err();
    assert!(matches!(&read, ReadError::Refused { reason, .. } if reason.contains("earlier state")), "{read}");
    let write = store.txn(Txn::new().put("k", "new")).await.unwrap_err();
    assert!(matches!(&write, TxnError::Refused { .. }), "{write}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_in_another_cluster_is_not_opened() {
    let mut cluster = Cluster::start(1, &[]);
    let store = opened(&cluster).await;
    store.txn(Txn::new().put("k", "old")).await.unwrap();
    let snapshot = cluster.snapshot(0);
    tokio::task::block_in_place(|| cluster.restore(&snapshot, "another-token"));
    let read = store.get("k").await.unwrap_err();
    assert!(matches!(&read, ReadError::Refused { .. }), "{read}");
    drop(store);
    let error = EtcdStore::open(options(&cluster)).await.unwrap_err();
    assert!(matches!(error, OpenEtcdError::OtherCluster { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_records_were_wiped_takes_nothing_more() {
    let cluster = Cluster::start(1, &[]);
    let store = opened(&cluster).await;
    store.txn(Txn::new().put("k", "1")).await.unwrap();
    let wiped = cluster.ctl(0, &["del", "--prefix", "/drover/"]);
    assert!(wiped.status.success());
    let write = store.txn(Txn::new().put("k", "2")).await.unwrap_err();
    assert!(matches!(&write, TxnError::Refused { reason, .. } if reason.contains("is gone")), "{write}");
    assert!(matches!(store.get("k").await, Err(ReadError::Refused { .. })));
}
