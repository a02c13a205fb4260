//! Transactions: compare, swap, all or nothing.

use crate::error::{KeyProblem, Limited, TxnError};
use crate::store::Store;
use crate::types::{Expect, KEY_BYTES_MAX, Revision, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, VALUE_BYTES_MAX};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Tasks that race for one key.
const RACERS: usize = 100;

pub(super) async fn values_and_revisions(store: Arc<dyn Store>) {
    let binary: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 3] = [&binary, b"", "ünïcode ✓".as_bytes()];
    let mut last = store.revision().await.unwrap();
    for value in values {
        let committed = store.txn(Txn::new().put("conf/values/k-é", value)).await.unwrap();
        assert!(committed.revision > last, "every transaction has a later revision");
        last = committed.revision;
        let stored = store.get("conf/values/k-é").await.unwrap().expect("what was committed is read");
        assert_eq!(stored.value, value);
        assert_eq!(stored.mod_revision, committed.revision);
        assert!(store.revision().await.unwrap() >= committed.revision);
    }
    assert_eq!(store.get("conf/values/none").await.unwrap(), None);
}

pub(super) async fn delete_and_recreate(store: Arc<dyn Store>) {
    let key = "conf/recreate/k";
    let created = store.txn(Txn::new().put(key, "1")).await.unwrap().revision;
    let updated = store.txn(Txn::new().put(key, "2")).await.unwrap().revision;
    let stored = store.get(key).await.unwrap().unwrap();
    assert_eq!((stored.create_revision, stored.mod_revision), (created, updated));

    let deleted = store.txn(Txn::new().delete(key)).await.unwrap().revision;
    assert!(deleted > updated, "a delete has a revision");
    assert_eq!(store.get(key).await.unwrap(), None);

    let again = store.txn(Txn::new().put(key, "2")).await.unwrap().revision;
    let stored = store.get(key).await.unwrap().unwrap();
    assert_eq!((stored.create_revision, stored.mod_revision), (again, again), "a new life of the key");
    let stale = Txn::new().expect(key, Expect::ModRevision(updated)).put(key, "3");
    assert!(matches!(store.txn(stale).await, Err(TxnError::Conflict { .. })), "the same value, another life");
}

pub(super) async fn no_lost_update_in_a_race(store: Arc<dyn Store>) {
    const KEY: &str = "conf/race/counter";
    store.txn(Txn::new().put(KEY, "0")).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..RACERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut seen = store.get(KEY).await.unwrap().unwrap();
            loop {
                let count: usize = String::from_utf8(seen.value).unwrap().parse().unwrap();
                let swap = Txn::new()
                    .expect(KEY, Expect::ModRevision(seen.mod_revision))
                    .put(KEY, (count + 1).to_string());
                match store.txn(swap).await {
                    Ok(_) => break,
                    // The conflict carries what to try from next: no read in between.
                    Err(TxnError::Conflict { current, .. }) => seen = current.expect("it is never deleted"),
                    Err(error) => panic!("unexpected: {error}"),
                }
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
    let count = store.get(KEY).await.unwrap().unwrap().value;
    assert_eq!(count, RACERS.to_string().as_bytes(), "every increment counted once");
}

pub(super) async fn one_creator_wins_a_race(store: Arc<dyn Store>) {
    const KEY: &str = "conf/create-race/lock";
    store.txn(Txn::new().delete(KEY)).await.unwrap();
    let mut tasks = JoinSet::new();
    for racer in 0..RACERS {
        let store = Arc::clone(&store);
        let create = Txn::new().expect(KEY, Expect::Absent).put(KEY, racer.to_string());
        tasks.spawn(async move { store.txn(create).await.is_ok().then_some(racer) });
    }
    let mut winners = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        winners.extend(joined.unwrap());
    }
    assert_eq!(winners.len(), 1, "one creator: {winners:?}");
    let holder = store.get(KEY).await.unwrap().unwrap().value;
    assert_eq!(holder, winners[0].to_string().as_bytes());
}

pub(super) async fn all_or_nothing(store: Arc<dyn Store>) {
    store.txn(Txn::new().put("conf/all/a", "1").put("conf/all/b", "1").delete("conf/all/c")).await.unwrap();
    let before = store.revision().await.unwrap();
    let failing = Txn::new()
        .expect("conf/all/a", Expect::Exists)
        .expect("conf/all/c", Expect::Exists)
        .put("conf/all/a", "2")
        .delete("conf/all/b")
        .put("conf/all/c", "2");
    assert!(matches!(store.txn(failing).await, Err(TxnError::Conflict { key, .. }) if key == "conf/all/c"));
    for (key, value) in [("conf/all/a", Some("1")), ("conf/all/b", Some("1")), ("conf/all/c", None)] {
        let stored = store.get(key).await.unwrap();
        assert_eq!(stored.map(|stored| stored.value), value.map(|value| value.as_bytes().to_vec()), "{key}");
    }

    let passing = Txn::new().put("conf/all/a", "2").delete("conf/all/b").put("conf/all/c", "2");
    let revision = store.txn(passing).await.unwrap().revision;
    assert!(revision > before);
    for key in ["conf/all/a", "conf/all/c"] {
        assert_eq!(
            store.get(key).await.unwrap().unwrap().mod_revision,
            revision,
            "one revision for all: {key}"
        );
    }
    assert_eq!(store.get("conf/all/b").await.unwrap(), None);
}

/// Money moves between accounts in transactions; a reader never sees some of it in the air.
pub(super) async fn sums_stay_whole_under_concurrency(store: Arc<dyn Store>) {
    const ACCOUNTS: usize = 5;
    const EACH: i64 = 100;
    let key = |account: usize| format!("conf/sums/{account}");
    let open = (0..ACCOUNTS).fold(Txn::new(), |txn, account| txn.put(key(account), EACH.to_string()));
    store.txn(open).await.unwrap();
    let mut tasks = JoinSet::new();
    for worker in 0..20_usize {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let (from, to) = (key(worker % ACCOUNTS), key((worker + 1 + worker / ACCOUNTS) % ACCOUNTS));
            let mut moved = 0;
            while moved < 5 && from != to {
                let a = store.get(&from).await.unwrap().unwrap();
                let b = store.get(&to).await.unwrap().unwrap();
                let amount = |bytes: &[u8]| -> i64 { std::str::from_utf8(bytes).unwrap().parse().unwrap() };
                let transfer = Txn::new()
                    .expect(&from, Expect::ModRevision(a.mod_revision))
                    .expect(&to, Expect::ModRevision(b.mod_revision))
                    .put(&from, (amount(&a.value) - 7).to_string())
                    .put(&to, (amount(&b.value) + 7).to_string());
                moved += usize::from(store.txn(transfer).await.is_ok());
                let page = store.list("conf/sums/", None, 0).await.unwrap();
                let sum: i64 = page.items.iter().map(|entry| amount(&entry.versioned.value)).sum();
                assert_eq!(sum, EACH * ACCOUNTS as i64, "at revision {}", page.revision);
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
}

pub(super) async fn conflicts_tell_what_is_there(store: Arc<dyn Store>) {
    let key = "conf/conflict/k";
    let revision = store.txn(Txn::new().put(key, "there")).await.unwrap().revision;
    let error = store.txn(Txn::new().expect(key, Expect::Absent).put(key, "mine")).await.unwrap_err();
    assert_eq!(error.conflict_revision(), Some(revision));
    let TxnError::Conflict { key: told, current: Some(current) } = error else { panic!("{error}") };
    assert_eq!(
        (told.as_str(), current.value.as_slice(), current.mod_revision),
        (key, &b"there"[..], revision)
    );

    store.txn(Txn::new().delete(key)).await.unwrap();
    let swap = Txn::new().expect(key, Expect::ModRevision(revision)).put(key, "mine");
    let error = store.txn(swap).await.unwrap_err();
    assert!(matches!(error, TxnError::Conflict { current: None, .. }), "{error}");
}

pub(super) async fn every_kind_of_compare(store: Arc<dyn Store>) {
    let (there, gone) = ("conf/compare/there", "conf/compare/gone");
    let at = store.txn(Txn::new().put(there, "1").delete(gone)).await.unwrap().revision;
    let other = Revision(at.0 + 1000);
    let cases = [
        (there, Expect::Exists, true),
        (there, Expect::Absent, false),
        (there, Expect::ModRevision(at), true),
        (there, Expect::ModRevision(other), false),
        (gone, Expect::Exists, false),
        (gone, Expect::Absent, true),
        (gone, Expect::ModRevision(at), false),
    ];
    for (key, expect, holds) in cases {
        let result = store.txn(Txn::new().expect(key, expect).put("conf/compare/other", "x")).await;
        assert_eq!(result.is_ok(), holds, "{key} {expect:?}");
    }
}

pub(super) async fn limits_are_refused_and_told(store: Arc<dyn Store>) {
    let largest = Txn::new().put("conf/limits/v", vec![7; VALUE_BYTES_MAX]);
    store.txn(largest).await.expect("the largest value fits");
    assert_eq!(store.get("conf/limits/v").await.unwrap().unwrap().value.len(), VALUE_BYTES_MAX);

    let many = |count: usize| (0..count).fold(Txn::new(), |txn, n| txn.put(format!("conf/limits/{n}"), "x"));
    store.txn(many(TXN_OPS_MAX)).await.expect("the most operations fit");
    let compares = (0..=TXN_OPS_MAX).fold(Txn::new(), |txn, _| txn.expect("conf/limits/v", Expect::Exists));
    let heavy = (0..2).fold(Txn::new(), |txn, n| txn.put(format!("conf/limits/{n}"), vec![0; 700 << 10]));
    let refused = [
        (Txn::new().put("conf/limits/w", vec![0; VALUE_BYTES_MAX + 1]), VALUE_BYTES_MAX),
        (many(TXN_OPS_MAX + 1), TXN_OPS_MAX),
        (compares, TXN_OPS_MAX),
        (heavy, TXN_BYTES_MAX),
    ];
    for (txn, expected) in refused {
        match store.txn(txn).await {
            Err(TxnError::TooLarge { actual, limit, what }) => {
                assert_eq!(limit, expected, "{what}");
                assert!(actual > limit, "{what}");
                let named = matches!(&what, Limited::Value { key } if key == "conf/limits/w");
                assert!(named || !matches!(what, Limited::Value { .. }), "a value's key is named");
            }
            other => panic!("expected a refusal with limit {expected}, got {other:?}"),
        }
    }
    assert_eq!(store.get("conf/limits/w").await.unwrap(), None);

    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let bad = [
        (Txn::new().put("", "x"), KeyProblem::Empty),
        (Txn::new().put("a\u{0}b", "x"), KeyProblem::ControlCharacter),
        (Txn::new().expect(&long, Expect::Exists), KeyProblem::TooLong { bytes: long.len() }),
        (Txn::new().put("conf/limits/v", "x").delete("conf/limits/v"), KeyProblem::ChangedTwice),
    ];
    for (txn, expected) in bad {
        let error = store.txn(txn).await.unwrap_err();
        assert!(matches!(&error, TxnError::BadKey { problem, .. } if *problem == expected), "{error}");
    }
}

pub(super) async fn what_changes_nothing_commits(store: Arc<dyn Store>) {
    let key = "conf/nothing/k";
    let at = store.txn(Txn::new().put(key, "1")).await.unwrap().revision;
    let checked = store.txn(Txn::new().expect(key, Expect::ModRevision(at))).await.unwrap();
    assert!(checked.revision >= at, "only compares");
    store.txn(Txn::new().delete("conf/nothing/never-there")).await.expect("deleting what is not there");
    assert_eq!(store.get(key).await.unwrap().unwrap().mod_revision, at);
}
