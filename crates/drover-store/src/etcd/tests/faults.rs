//! Members that die, one at a time and too many at once.

use super::*;
use crate::types::Versioned;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinSet;

const WRITERS: usize = 4;
/// Transactions before the death, while a member is dead, and after its return: enough for each writer to meet them.
const EACH_PHASE: u64 = 60;

fn count(versioned: &Versioned) -> u64 {
    std::str::from_utf8(&versioned.value).unwrap().parse().unwrap()
}

/// Adds one to a counter of its own, again and again. Returns how often it was told that it did.
async fn write(store: Arc<EtcdStore>, writer: usize, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let key = format!("counters/{writer}");
    let mut told = 0;
    let mut expect = Expect::Absent;
    while !stop.load(Ordering::Acquire) {
        let add = Txn::new().expect(&key, expect).put(&key, (told + 1).to_string());
        // Nobody else writes this key, so that a conflict would be an own transaction that was done twice, or done and
        // told as not done.
        let committed =
            store.txn(add).await.unwrap_or_else(|error| panic!("writer {writer} at {told}: {error}"));
        expect = Expect::ModRevision(committed.revision);
        told += 1;
        done.fetch_add(1, Ordering::AcqRel);
    }
    told
}

async fn reached(done: &AtomicU64, goal: u64) {
    while done.load(Ordering::Acquire) < goal {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills the member that the client talks to while transactions and a watch go on, and lets it come back.
async fn survives_the_death_of(victim_of: fn((usize, usize)) -> usize) {
    let mut cluster = Cluster::start(3, &[]);
    let store = Arc::new(opened(&cluster).await);
    let victim = victim_of(cluster.leader_and_follower());
    while store.inner.members.current() != victim {
        store.inner.members.leave(store.inner.members.current());
    }
    let after = store.revision().await.unwrap();
    let mut watch = store.watch("counters/", after).await.unwrap();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(&store), writer, Arc::clone(&done), Arc::clone(&stop)));
    }
    reached(&done, EACH_PHASE).await;
    cluster.kill(victim);
    let at_death = done.load(Ordering::Acquire);
    reached(&done, at_death + EACH_PHASE).await;
    tokio::task::block_in_place(|| cluster.restart(victim));
    let at_return = done.load(Ordering::Acquire);
    reached(&done, at_return + EACH_PHASE).await;
    stop.store(true, Ordering::Release);
    let mut told = 0;
    while let Some(writer) = writers.join_next().await {
        told += writer.unwrap();
    }
    let page = store.list("counters/", None, 0).await.unwrap();
    assert_eq!(page.items.iter().map(|entry| count(&entry.versioned)).sum::<u64>(), told, "each once");

    let end = store.txn(Txn::new().put("counters/end", "")).await.unwrap().revision;
    let (mut last, mut seen) = (after, 0);
    while last < end {
        match watch.next().await {
            Some(WatchItem::Changed(changes)) => {
                assert!(changes.revision > last, "in order");
                last = changes.revision;
                seen += changes.changes.len() as u64;
            }
            // It did not keep up, which it was told: not what is looked at here, but never a gap.
            other => panic!("the watch ended at {last}: {other:?}"),
        }
    }
    assert_eq!(seen, told + 1, "the watch saw each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_leader_dies_and_returns_and_nothing_is_lost_or_done_twice() {
    survives_the_death_of(|(leader, _)| leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_follower_dies_and_returns_and_nothing_is_lost_or_done_twice() {
    survives_the_death_of(|(_, follower)| follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_everything_is_refused_in_time_and_goes_on_afterwards() {
    let mut cluster = Cluster::start(3, &[]);
    let call_timeout = Duration::from_secs(3);
    let bounded = EtcdOptions { call_timeout, attempt_timeout: Duration::from_secs(1), ..options(&cluster) };
    let store = EtcdStore::open(bounded).await.unwrap().0;
    let at = store.txn(Txn::new().put("k", "1")).await.unwrap().revision;
    let mut watch = store.watch("", at).await.unwrap();
    cluster.kill(0);
    cluster.kill(1);

    // The last attempt may begin just before the time is over. What is measured is a bound of ours, not a speed.
    let longest = call_timeout + Duration::from_secs(1) + Duration::from_secs(10);
    let read = tokio::time::timeout(longest, store.get("k")).await.expect("a read ends");
    assert!(matches!(&read, Err(ReadError::Unreachable { .. })), "never an old value: {read:?}");
    let write =
        tokio::time::timeout(longest, store.txn(Txn::new().put("k", "2"))).await.expect("a write ends");
    let told = write.unwrap_err();
    assert!(matches!(told, TxnError::Uncertain { .. } | TxnError::Unreachable { .. }), "{told}");

    tokio::task::block_in_place(|| cluster.start_all());
    let mut attempts = 0;
    let done = loop {
        match store.txn(Txn::new().put("k", "3")).await {
            Ok(done) => break done,
            Err(error) if attempts > 20 => panic!("it does not go on: {error}"),
            Err(_) => attempts += 1,
        }
    };
    loop {
        let Some(WatchItem::Changed(changes)) = watch.next().await else { panic!("the watch ended") };
        if changes.revision == done.revision {
            return;
        }
    }
}
