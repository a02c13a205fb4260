//! Answers that do not come. A link between the store and one member, which loses what the member says, stands for
//! every way in which an answer is lost: the member has done what it was asked, and nobody hears of it.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything to `to`, and back as long as `deaf` is not set.
async fn link(to: String, deaf: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(pass(from_client, to_server, Arc::new(AtomicBool::new(false))));
            tokio::spawn(pass(from_server, to_client, Arc::clone(&deaf)));
        }
    });
    endpoint
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Arc<AtomicBool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !lost.load(Ordering::Acquire) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A store that reaches its cluster over a link alone, or over the link first and a good way second.
async fn linked(cluster: &Cluster, and_directly: bool, deaf: &Arc<AtomicBool>) -> EtcdStore {
    let to = cluster.endpoint(0).trim_start_matches("http://").to_owned();
    let mut endpoints = vec![link(to, Arc::clone(deaf)).await];
    if and_directly {
        endpoints.push(cluster.endpoint(0));
    }
    let options = EtcdOptions {
        attempt_timeout: Duration::from_millis(400),
        call_timeout: if and_directly { Duration::from_secs(30) } else { Duration::from_secs(2) },
        // The link must not be left because it is silent, but because of what is asked over it.
        keep_alive: Duration::from_secs(60),
        ..EtcdOptions::new(endpoints, "/drover")
    };
    EtcdStore::open(options).await.unwrap().0
}

/// The next call goes to the first endpoint, whatever was before.
fn ask_first(store: &EtcdStore) {
    while store.inner.members.current() != 0 {
        store.inner.members.leave(store.inner.members.current());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_answer_is_lost_happens_once_and_is_told_as_done() {
    let cluster = Cluster::start(1, &[]);
    let deaf = Arc::new(AtomicBool::new(false));
    let store = linked(&cluster, true, &deaf).await;
    let at = store.txn(Txn::new().put("count", "0")).await.unwrap().revision;
    ask_first(&store);
    deaf.store(true, Ordering::Release);
    // Without a mark the second attempt would be told "somebody else was first".
    let swap = Txn::new().expect("count", Expect::ModRevision(at)).put("count", "1");
    let done = store.txn(swap).await.unwrap();
    let now = store.get("count").await.unwrap().unwrap();
    assert_eq!((now.value.as_slice(), now.mod_revision), (&b"1"[..], done.revision));
    assert_eq!(now.create_revision, at);

    // A blind put, which a retry without a mark would do twice: its watcher would see two.
    let mut watch = store.watch("blind", done.revision).await.unwrap();
    ask_first(&store);
    let done = store.txn(Txn::new().put("blind", "x")).await.unwrap();
    let end = store.txn(Txn::new().put("blind/end", "")).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&end.revision) {
        let Some(WatchItem::Changed(changes)) = watch.next().await else { panic!("a watch ended") };
        seen.push(changes.revision);
    }
    assert_eq!(seen, [done.revision, end.revision]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_stays_unknown_is_told_as_such_and_harms_nothing_later() {
    let cluster = Cluster::start(1, &[]);
    let deaf = Arc::new(AtomicBool::new(false));
    let store = linked(&cluster, false, &deaf).await;
    deaf.store(true, Ordering::Release);
    let error = store.txn(Txn::new().put("k", "lost")).await.unwrap_err();
    assert!(matches!(error, TxnError::Uncertain { .. }), "{error}");
    assert!(matches!(store.get("k").await, Err(ReadError::Unreachable { .. })), "and reads are refused");
    // New connections hear again; the old one has lost what it lost.
    deaf.store(false, Ordering::Release);
    let other = opened(&cluster).await;
    assert_eq!(other.get("k").await.unwrap().unwrap().value, b"lost", "it had happened");
}

/// The one case that the mark alone does not decide: an attempt under way, and a later one refused by a compare.
#[tokio::test]
async fn a_refusal_is_final_even_with_an_attempt_still_under_way() {
    let cluster = Cluster::start(1, &[]);
    let store = opened(&cluster).await;
    let inner = &store.inner;
    store.txn(Txn::new().put("lock", "theirs")).await.unwrap();
    let create = Txn::new().expect("lock", Expect::Absent).put("lock", "mine");
    let mut turn = inner.marks.take(&inner.layout).await.unwrap();
    let value = turn.mark.fresh_value();
    let under_way = inner.request(&create, Some((&turn.mark, &value)));

    let refusal = TxnError::Conflict { key: "lock".to_owned(), current: None };
    let mut attempts = Attempts::new(&inner.options);
    let told = inner.stop(&mut turn.mark, &value, refusal.clone(), &mut attempts).await;
    assert_eq!(told, Err(refusal.clone()));
    // The lock is free now, and the attempt arrives at last: too late.
    store.txn(Txn::new().delete("lock")).await.unwrap();
    let late: TxnResponse = inner.once(TXN, under_way).await.unwrap();
    assert!(!late.succeeded);
    assert_eq!(store.get("lock").await.unwrap(), None);

    // Had it arrived before, it would have been told as done.
    let value = turn.mark.fresh_value();
    let under_way = inner.request(&create, Some((&turn.mark, &value)));
    let arrived: TxnResponse = inner.once(TXN, under_way).await.unwrap();
    assert!(arrived.succeeded);
    let told = inner.stop(&mut turn.mark, &value, refusal, &mut attempts).await.unwrap();
    assert_eq!(store.get("lock").await.unwrap().unwrap().mod_revision, told.revision);
}
