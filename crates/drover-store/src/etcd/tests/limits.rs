//! What etcd itself refuses, where its own limits are narrower than drover's.

use super::*;

#[tokio::test]
async fn a_request_over_etcds_own_limit_is_refused_with_what_etcd_says() {
    let cluster = Cluster::start(1, &["--max-request-bytes", "65536", "--max-txn-ops", "8"]);
    let store = opened(&cluster).await;
    let large = store.txn(Txn::new().put("k", vec![0; 100 << 10])).await.unwrap_err();
    assert!(matches!(&large, TxnError::Refused { reason, .. } if reason.contains("too large")), "{large}");
    let many = (0..9).fold(Txn::new(), |txn, n| txn.put(format!("k/{n}"), "x"));
    let many = store.txn(many).await.unwrap_err();
    assert!(
        matches!(&many, TxnError::Refused { reason, .. } if reason.contains("too many operations")),
        "{many}"
    );
    assert_eq!(store.list("", None, 0).await.unwrap().items.len(), 0);
    store.txn(Txn::new().put("k", "small")).await.expect("what fits is taken");
}

#[tokio::test]
async fn a_database_at_its_quota_refuses_writes_by_name_and_still_reads_and_deletes() {
    let cluster = Cluster::start(1, &["--quota-backend-bytes", "16777216"]);
    let store = opened(&cluster).await;
    let mut written = 0;
    let full = loop {
        match store.txn(Txn::new().put(format!("k/{written:03}"), vec![1; 1 << 20])).await {
            Ok(_) if written > 64 => panic!("no quota is reached"),
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, TxnError::QuotaReached { .. }), "{full}");
    assert!(full.to_string().contains("etcdctl alarm disarm"), "{full}");
    assert_eq!(store.get("k/000").await.unwrap().unwrap().value.len(), 1 << 20, "reading goes on");
    store.txn(Txn::new().delete("k/000")).await.expect("deleting goes on");
    assert_eq!(store.get("k/000").await.unwrap(), None);
}
