//! History that goes: by drover's own compaction and by etcd's.

use super::*;
use crate::types::Revision;

#[tokio::test]
async fn a_compaction_ends_only_watches_that_need_what_is_gone() {
    let cluster = Cluster::start(1, &[]);
    let store = opened(&cluster).await;
    let first = store.txn(Txn::new().put("a", "1")).await.unwrap().revision;
    let mut live = store.watch("a", first).await.unwrap();
    for n in 0..10 {
        store.txn(Txn::new().put("a", n.to_string())).await.unwrap();
    }
    let last = store.txn(Txn::new().put("a", "last")).await.unwrap().revision;
    let compacted = cluster.ctl(0, &["compaction", &last.0.to_string()]);
    assert!(compacted.status.success(), "{}", String::from_utf8_lossy(&compacted.stderr));

    let mut late = store.watch("a", first).await.unwrap();
    assert_eq!(late.next().await, Some(WatchItem::Lagged));
    assert_eq!(late.next().await, None);
    let mut seen = first;
    while seen < last {
        let Some(WatchItem::Changed(changes)) = live.next().await else { panic!("the live watch ended") };
        seen = changes.revision;
    }
    let after = store.txn(Txn::new().put("a", "after")).await.unwrap().revision;
    let Some(WatchItem::Changed(changes)) = live.next().await else { panic!("the live watch ended") };
    assert_eq!(changes.revision, after);
    assert_eq!(store.list("a", None, 0).await.unwrap().items.len(), 1, "records stay");
}

#[tokio::test]
async fn history_is_kept_as_long_as_asked_and_then_goes_with_the_marks_of_the_dead() {
    let cluster = Cluster::start(1, &[]);
    let day = Duration::from_secs(86_400);
    let dead = opened(&cluster).await;
    let first = dead.txn(Txn::new().put("a", "1")).await.unwrap().revision;
    drop(dead);
    let store = opened(&cluster).await;
    store.txn(Txn::new().put("a", "2")).await.unwrap();
    assert_eq!(store.compact(day).await.unwrap(), Compacted::default(), "writes down where it stands");
    let noted = store.revision().await.unwrap();
    assert_eq!(store.compact(day).await.unwrap(), Compacted::default(), "not old enough");
    let done = store.compact(Duration::ZERO).await.unwrap();
    let to = done.to.expect("old enough for no wait at all");
    assert!(to > first && to < noted, "{done:?}");
    assert_eq!(done.marks_swept, 2, "also that of a process that still lives");
    let mut late = store.watch("a", Revision(first.0 - 1)).await.unwrap();
    assert_eq!(late.next().await, Some(WatchItem::Lagged));
    let at = store.txn(Txn::new().put("a", "3")).await.expect("the swept mark is begun anew").revision;
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, at);
}
