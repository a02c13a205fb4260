//! The store in etcd against real members: the conformance suite, and what happens to a cluster.

mod answers;
pub(super) mod cluster;
mod faults;
mod history;
mod limits;
mod restored;

use super::*;
use crate::types::{Expect, Txn};
use crate::watch::WatchItem;
use cluster::Cluster;

/// Waits that suit members on one machine: an election takes 1 to 2 s there, too.
fn options(cluster: &Cluster) -> EtcdOptions {
    EtcdOptions {
        attempt_timeout: Duration::from_millis(1500),
        call_timeout: Duration::from_secs(30),
        ..EtcdOptions::new(cluster.endpoints(), "/drover")
    }
}

async fn opened(cluster: &Cluster) -> EtcdStore {
    EtcdStore::open(options(cluster)).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let cluster = Cluster::start(3, &[]);
    let (store, report) = EtcdStore::open(options(&cluster)).await.unwrap();
    assert!(report.created);
    let store: Arc<dyn Store> = Arc::new(store);
    crate::conformance::run_all(|| async { Arc::clone(&store) }).await;
    let revision = store.revision().await.unwrap();
    drop(store);
    let (store, report) = EtcdStore::open(options(&cluster)).await.unwrap();
    assert_eq!((report.created, report.revision), (false, revision));
    store.close();
    assert_eq!(store.get("a").await, Err(ReadError::Closed));
    assert_eq!(store.txn(Txn::new().put("a", "")).await, Err(TxnError::Closed));
}

#[tokio::test]
async fn installations_share_a_cluster_and_see_nothing_of_each_other() {
    let cluster = Cluster::start(1, &[]);
    let one = opened(&cluster).await;
    let other = EtcdOptions { prefix: "/drover-2".to_owned(), ..options(&cluster) };
    let (other, report) = EtcdStore::open(other).await.unwrap();
    assert!(report.created);
    let after = one.revision().await.unwrap();
    let mut watch = one.watch("", after).await.unwrap();
    other.txn(Txn::new().put("k", "theirs")).await.unwrap();
    assert_eq!(one.get("k").await.unwrap(), None);
    let revision = one.txn(Txn::new().expect("k", Expect::Absent).put("k", "ours")).await.unwrap().revision;
    let Some(WatchItem::Changed(changes)) = watch.next().await else { panic!("a watch ended") };
    assert_eq!((changes.revision, changes.changes.len()), (revision, 1), "the other's change is not seen");
    assert_eq!(other.list("", None, 0).await.unwrap().items[0].versioned.value, b"theirs");

    let put = cluster.ctl(0, &["put", "/others/x", "1"]);
    assert!(put.status.success());
    let foreign = EtcdOptions { prefix: "/others".to_owned(), ..options(&cluster) };
    let error = EtcdStore::open(foreign).await.unwrap_err();
    assert_eq!(error, OpenEtcdError::Foreign { prefix: "/others".to_owned(), keys: 1 });
}
