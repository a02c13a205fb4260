use super::*;
use crate::testbed::{Bed, Meddling, person};
use drover_model::audit::{AuditItem, Break, Verified, Verifier};
use drover_store::TxnError;
use futures::FutureExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

async fn verified(c: &Coordinator) -> Result<Verified, Break> {
    let (head, _) = c.db.get::<AuditHead>(keys::AUDIT_HEAD).await.unwrap().unwrap();
    let mut verifier = Verifier::with_heads(vec![head]);
    for (key, record) in c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap() {
        assert_eq!(number_of_key(&key), record.number);
        verifier.record(&record)?;
    }
    verifier.end()
}

async fn say(c: &Coordinator, word: &str) -> Result<(), CoordinatorError> {
    c.audit(&person(), word, "something", "a test", "done").await
}

async fn words(c: &Coordinator) -> Vec<String> {
    c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap().into_iter().map(|(_, r)| r.verb).collect()
}

#[tokio::test]
async fn many_at_once_make_one_chain_that_a_successor_goes_on_with() {
    let bed = Bed::new().await;
    let all = futures::future::join_all((0..20).map(|n| {
        let c = bed.c.clone();
        async move { say(&c, &format!("verb {n}")).await }
    }));
    all.await.into_iter().collect::<Result<(), _>>().unwrap();
    let deposed = bed.c.db.clone();
    let store = bed.c.store.clone();
    let taken = Db::take_over(store, bed.c.clock.now(), 1).await.unwrap();

    // Whoever was deposed writes nothing, and knows it.
    let refused = say(&bed.c, "late").await.unwrap_err();
    assert!(matches!(refused, CoordinatorError::Fenced { .. }), "{refused}");
    drop((deposed, taken));
    let bed = bed.reopened().await;
    say(&bed.c, "successor").await.unwrap();
    let found = verified(&bed.c).await.unwrap();
    assert_eq!((found.unchained, found.begins, found.head.unwrap().number), (0, Some(1), 21));
    assert_eq!(bed.c.counters.audit.last(), 21);
}

#[tokio::test]
async fn an_answer_that_is_lost_or_a_write_that_fails_leaves_neither_fork_nor_gap() {
    let mut bed = Bed::new().await;
    let turn = Arc::new(AtomicU32::new(0));
    bed.meddle(move |txn| {
        let is_audit = txn.ops.iter().any(|op| op.key() == keys::AUDIT_HEAD);
        let meddling = match is_audit.then(|| turn.fetch_add(1, Ordering::Relaxed)) {
            Some(1) => Meddling::Lose(TxnError::Uncertain { reason: "cut off".into() }),
            Some(3) => {
                Meddling::Refuse(TxnError::OutOfSpace { path: "s".into(), needed_bytes: 1, free_bytes: 0 })
            }
            Some(4) => Meddling::Refuse(TxnError::Uncertain { reason: "cut off".into() }),
            _ => Meddling::None,
        };
        futures::future::ready(meddling).boxed()
    });
    for (word, lands) in
        [("first", true), ("lost", true), ("third", true), ("full", false), ("unsure", false), ("last", true)]
    {
        assert_eq!(say(&bed.c, word).await.is_ok(), lands, "{word}");
    }
    assert_eq!(
        words(&bed.c).await,
        ["first", "lost", "third", "last"],
        "what landed is not said to have failed"
    );
    assert_eq!(verified(&bed.c).await.unwrap().head.unwrap().number, 4);
}

#[tokio::test]
async fn what_landed_unknown_to_whoever_wrote_it_is_found_before_the_next_record() {
    let bed = Bed::new().await;
    say(&bed.c, "first").await.unwrap();
    // As an attempt does whose caller went away: the memory of it is lost, the record is there.
    let forgotten = AuditChain::default();
    let record = bed.c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap().remove(0).1;
    let record = AuditRecord { verb: "forgotten".into(), ..record };
    forgotten.append(&bed.c.db, record, bed.c.db.fenced()).await.unwrap();
    say(&bed.c, "third").await.unwrap();
    assert_eq!(words(&bed.c).await, ["first", "forgotten", "third"]);
    verified(&bed.c).await.unwrap();
}

#[tokio::test]
async fn a_record_and_what_it_tells_of_are_there_together_or_not_at_all() {
    let bed = Bed::new().await;
    let made = |n: u32| {
        let txn = bed.c.db.fenced().expect("thing", Expect::Absent);
        bed.c.db.put_op(txn, "thing", &n).unwrap()
    };
    let said = ["make", "thing", "", "made"];
    assert_eq!(bed.c.audit_with(made(1), &person(), said).await.unwrap(), Appended::Together);
    assert_eq!(bed.c.audit_with(made(2), &person(), said).await.unwrap(), Appended::Otherwise);
    assert_eq!(bed.c.db.get::<u32>("thing").await.unwrap().unwrap().0, 1);
    say(&bed.c, "after").await.unwrap();
    assert_eq!(words(&bed.c).await, ["make", "after"]);
    verified(&bed.c).await.unwrap();
}

#[tokio::test]
async fn the_chain_begins_after_the_records_from_before_there_was_one() {
    let bed = Bed::new().await;
    // As an earlier build wrote them, with a gap where a write failed.
    for number in [1, 2, 4] {
        let record = serde_json::json!({
            "number": number, "at": bed.c.clock.now(), "epoch": bed.c.db.epoch(), "by": person(), "verb": "old",
            "subject": "s", "reason": "r", "outcome": "o",
        });
        bed.c.db.put(&keys::numbered(keys::AUDIT, number), &record).await.unwrap();
    }
    let bed = bed.reopened().await;
    say(&bed.c, "new").await.unwrap();
    let bed = bed.reopened().await;
    say(&bed.c, "newer").await.unwrap();
    let found = verified(&bed.c).await.unwrap();
    assert_eq!((found.unchained, found.begins, found.head.unwrap().number), (3, Some(5), 6));

    // An older build led in between: what it wrote is in no chain, and that stays to be seen.
    let old = AuditRecord { chain: None, ..bed.c.db.list(keys::AUDIT).await.unwrap().remove(0).1 };
    bed.c.db.put(&keys::numbered(keys::AUDIT, 7), &AuditRecord { number: 7, ..old }).await.unwrap();
    let bed = bed.reopened().await;
    say(&bed.c, "after").await.unwrap();
    assert_eq!(words(&bed.c).await.len(), 7, "and the next record is written all the same");
    assert_eq!(verified(&bed.c).await.unwrap_err().number, 7);
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_told_beside_those_that_can() {
    let bed = Bed::new().await;
    for word in ["first", "second", "third"] {
        say(&bed.c, word).await.unwrap();
    }
    let damaged = keys::numbered(keys::AUDIT, 2);
    bed.c.db.put(&damaged, &"no record").await.unwrap();
    let api = bed.serve().await;
    let (status, _, text) = crate::testbed::get(api, "/v1/audit?after=0").await;
    let page: drover_model::api::Page<AuditItem> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, page.items.len()), (200, 3), "{text}");
    assert!(matches!(&page.items[0], AuditItem::Record(record) if record.verb == "first"), "{text}");
    let AuditItem::Unreadable { number: 2, unreadable } = &page.items[1] else { panic!("{text}") };
    assert!(unreadable.contains("audit/000000000002"), "{unreadable}");
    // Newest first, as a person looks.
    let (status, _, text) = crate::testbed::get(api, "/v1/audit?limit=2").await;
    let page: drover_model::api::Page<AuditItem> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, page.next_cursor.as_deref()), (200, Some("2")), "{text}");
    assert!(matches!(&page.items[0], AuditItem::Record(record) if record.verb == "third"), "{text}");
    assert!(matches!(&page.items[1], AuditItem::Unreadable { number: 2, .. }), "{text}");
}
