//! Lists: pages, order, prefixes.

use crate::store::Store;
use crate::types::{Entry, LIST_LIMIT_MAX, PAGE_BYTES_MAX, TXN_OPS_MAX, Txn, VALUE_BYTES_MAX};
use std::sync::Arc;

async fn fill(store: &Arc<dyn Store>, keys: &[String]) {
    for chunk in keys.chunks(TXN_OPS_MAX) {
        store.txn(chunk.iter().fold(Txn::new(), |txn, key| txn.put(key, key.as_bytes()))).await.unwrap();
    }
}

/// All pages; their sizes too.
async fn all_pages(store: &Arc<dyn Store>, prefix: &str, limit: usize) -> (Vec<Entry>, Vec<usize>) {
    let (mut items, mut sizes) = (Vec::new(), Vec::new());
    let mut after: Option<String> = None;
    loop {
        let page = store.list(prefix, after.as_deref(), limit).await.unwrap();
        sizes.push(page.items.len());
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return (items, sizes);
        }
    }
}

pub(super) async fn pages_are_complete_and_ordered(store: Arc<dyn Store>) {
    let mut keys: Vec<String> = (0..250).map(|n| format!("conf/pages/{n}")).collect();
    fill(&store, &keys).await;
    keys.sort();
    for (limit, sizes) in
        [(100, vec![100, 100, 50]), (125, vec![125, 125]), (0, vec![250]), (usize::MAX, vec![250])]
    {
        let (items, got) = all_pages(&store, "conf/pages/", limit).await;
        assert_eq!(got, sizes, "limit {limit}");
        let listed: Vec<&str> = items.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(listed, keys, "limit {limit}");
        assert!(items.iter().all(|entry| entry.versioned.value == entry.key.as_bytes()));
    }
    let page = store.list("conf/pages/", Some("conf/pages/99"), 10).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None), "nothing after the last");
    let page = store.list("conf/pages/", Some("conf/pages/24x"), 1).await.unwrap();
    assert_eq!(page.items[0].key, "conf/pages/25", "after a key that is not there");

    let many: Vec<String> = (0..LIST_LIMIT_MAX + 5).map(|n| format!("conf/many/{n:05}")).collect();
    fill(&store, &many).await;
    let (items, sizes) = all_pages(&store, "conf/many/", usize::MAX).await;
    assert_eq!((items.len(), sizes), (many.len(), vec![LIST_LIMIT_MAX, 5]), "the limit is capped");
}

pub(super) async fn prefixes_are_exact(store: Arc<dyn Store>) {
    let keys =
        ["conf/pre/a", "conf/pre/a/1", "conf/pre/a/2", "conf/pre/a0", "conf/pre/b", "conf/pre/\u{10ffff}"];
    fill(&store, &keys.map(str::to_owned)).await;
    let cases: [(&str, &[&str]); 5] = [
        ("conf/pre/a/", &["conf/pre/a/1", "conf/pre/a/2"]),
        ("conf/pre/a", &["conf/pre/a", "conf/pre/a/1", "conf/pre/a/2", "conf/pre/a0"]),
        ("conf/pre/b", &["conf/pre/b"]),
        ("conf/pre/\u{10ffff}", &["conf/pre/\u{10ffff}"]),
        ("conf/pre/c", &[]),
    ];
    for (prefix, expected) in cases {
        let page = store.list(prefix, None, 0).await.unwrap();
        let listed: Vec<&str> = page.items.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(listed, expected, "{prefix}");
    }
    let everything = store.list("", None, 1).await.unwrap();
    assert_eq!(everything.items.len(), 1, "the empty prefix is all keys");
    let before = store.list("conf/pre/a/", Some("a"), 1).await.unwrap();
    assert_eq!(before.items[0].key, "conf/pre/a/1", "after a key before the prefix");
}

pub(super) async fn a_page_of_large_values_ends_early(store: Arc<dyn Store>) {
    let count = PAGE_BYTES_MAX / VALUE_BYTES_MAX + 2;
    for n in 0..count {
        store.txn(Txn::new().put(format!("conf/large/{n:02}"), vec![1; VALUE_BYTES_MAX])).await.unwrap();
    }
    let (items, sizes) = all_pages(&store, "conf/large/", 0).await;
    assert_eq!(items.len(), count);
    assert_eq!(sizes, [PAGE_BYTES_MAX / VALUE_BYTES_MAX, 2]);
}
