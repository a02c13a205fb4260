//! Watches: order, wholeness, and no gap that is not told.

use crate::store::Store;
use crate::types::{Change, ChangeKind, Changes, Expect, Revision, Txn};
use crate::watch::{WATCH_BUFFER, Watch, WatchItem};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

async fn changed(watch: &mut Watch) -> Arc<Changes> {
    match watch.next().await {
        Some(WatchItem::Changed(changes)) => changes,
        other => panic!("expected a change, got {other:?}"),
    }
}

fn keys(changes: &Changes) -> Vec<&str> {
    changes.changes.iter().map(|change| change.key.as_str()).collect()
}

pub(super) async fn changes_come_whole_and_in_order(store: Arc<dyn Store>) {
    let after = store.revision().await.unwrap();
    let mut watch = store.watch("conf/watch/a/", after).await.unwrap();
    let first = Txn::new().put("conf/watch/a/2", "x").put("conf/watch/b", "no").put("conf/watch/a/1", "y");
    let first = store.txn(first).await.unwrap().revision;
    store.txn(Txn::new().put("conf/watch/b", "not under the prefix")).await.unwrap();
    let refused = Txn::new().expect("conf/watch/a/1", Expect::Absent).put("conf/watch/a/1", "no");
    assert!(store.txn(refused).await.is_err());
    let second = store.txn(Txn::new().delete("conf/watch/a/1")).await.unwrap().revision;

    let changes = changed(&mut watch).await;
    assert_eq!((changes.revision, keys(&changes)), (first, vec!["conf/watch/a/2", "conf/watch/a/1"]));
    let ChangeKind::Put(put) = &changes.changes[1].kind else { panic!("{changes:?}") };
    assert_eq!((put.value.as_slice(), put.mod_revision, put.create_revision), (&b"y"[..], first, first));
    let changes = changed(&mut watch).await;
    let deleted = Change { key: "conf/watch/a/1".to_owned(), kind: ChangeKind::Deleted };
    assert_eq!((changes.revision, &changes.changes), (second, &vec![deleted]));
}

/// What a cache does: list, watch from there, apply. It ends up with what a fresh list shows.
pub(super) async fn list_then_watch_leaves_no_gap(store: Arc<dyn Store>) {
    const WRITERS: usize = 20;
    const WRITES: usize = 20;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for write in 0..WRITES {
                let key = format!("conf/cache/{}", (writer + write) % 7);
                let txn = if write % 5 == 4 {
                    Txn::new().delete(key)
                } else {
                    Txn::new().put(key, format!("{writer}-{write}"))
                };
                store.txn(txn).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    // While they write.
    let page = store.list("conf/cache/", None, 0).await.unwrap();
    let mut cache: BTreeMap<String, Vec<u8>> =
        page.items.into_iter().map(|entry| (entry.key, entry.versioned.value)).collect();
    let mut watch = store.watch("conf/cache/", page.revision).await.unwrap();
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
    let end = store.txn(Txn::new().put("conf/cache/end", "")).await.unwrap().revision;
    let mut last = page.revision;
    while last < end {
        let changes = changed(&mut watch).await;
        assert!(changes.revision > last, "revisions only grow");
        last = changes.revision;
        for change in &changes.changes {
            match &change.kind {
                ChangeKind::Put(put) => cache.insert(change.key.clone(), put.value.clone()),
                ChangeKind::Deleted => cache.remove(&change.key),
            };
        }
    }
    let page = store.list("conf/cache/", None, 0).await.unwrap();
    let fresh: BTreeMap<String, Vec<u8>> =
        page.items.into_iter().map(|entry| (entry.key, entry.versioned.value)).collect();
    assert_eq!(cache, fresh);
}

pub(super) async fn a_watch_resumes_from_its_last_revision(store: Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(store.txn(Txn::new().put("conf/resume/k", n.to_string())).await.unwrap().revision);
    }
    let mut watch = store.watch("conf/resume/", revisions[3]).await.unwrap();
    for revision in &revisions[4..] {
        assert_eq!(changed(&mut watch).await.revision, *revision, "later than the given one, each once");
    }
    let mut future = store.watch("conf/resume/", Revision(revisions[9].0 + 1_000_000)).await.unwrap();
    assert_eq!(future.next().await, Some(WatchItem::Lagged), "a revision that was never given out");
    assert_eq!(future.next().await, None);
}

pub(super) async fn a_slow_watcher_misses_nothing_unknowingly(store: Arc<dyn Store>) {
    let writes = WATCH_BUFFER + WATCH_BUFFER / 2;
    let after = store.revision().await.unwrap();
    let mut watch = store.watch("conf/slow/", after).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..writes {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store.txn(Txn::new().put(format!("conf/slow/{n}"), "x")).await.unwrap().revision
        });
    }
    let mut revisions = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        revisions.push(joined.unwrap());
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), writes, "each transaction has a revision of its own");
    for revision in revisions {
        match watch.next().await {
            Some(WatchItem::Changed(changes)) => assert_eq!(changes.revision, revision, "no gap"),
            Some(WatchItem::Lagged) => {
                assert_eq!(watch.next().await, None, "nothing follows");
                return;
            }
            None => panic!("a watch ended without being told why"),
        }
    }
}
