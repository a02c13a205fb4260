//! Each kind of record, spoilt in each way, under a coordinator that starts on it and one that leads already.

use super::*;
use crate::testbed::{Bed, code_of, get, person};
use drover_model::api::{Page, StatusView};
use drover_model::audit::AuditItem;
use drover_model::traffic::TrafficState;
use drover_model::{EndpointKey, RegionId, ServiceId};
use drover_store::Txn;
use serde_json::json;
use std::net::SocketAddr;

/// A key of each kind, by the table of kinds, so that a new kind is spoilt here too.
fn key_of(prefix: &str) -> String {
    let checkout = ServiceId::new("checkout").unwrap();
    let run = RunId::numbered(7);
    match prefix {
        keys::HOLDS => keys::hold(&run),
        keys::BLOCKS => keys::block(&checkout, drover_model::decision::FailureClass::Region),
        keys::TRAFFIC | keys::MADE_FROM => format!("{prefix}{checkout}"),
        keys::STANDING => keys::standing(&EndpointKey::new(&checkout, &RegionId::new("eu-west").unwrap())),
        keys::RUNS => keys::journal(&run, 0),
        keys::OPEN => keys::open(&run),
        keys::ENDED
        | keys::DECISIONS
        | keys::WORLDS
        | keys::WORLD_BASES
        | keys::WORLD_USES
        | keys::MOVED
        | keys::AUDIT => keys::numbered(prefix, 7),
        prefix if prefix.ends_with('/') => format!("{prefix}some"),
        key => key.to_owned(),
    }
}

/// What a hand, a disk, a stranger or another version may leave.
fn spoilt() -> Vec<(&'static str, Vec<u8>)> {
    let nested =
        |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    vec![
        ("nothing", Vec::new()),
        ("garbage", vec![0xff, 0, 0xfe, b'{', 0x80]),
        ("cut short", b"{\"service\":\"checkout\",\"gener".to_vec()),
        ("another type", b"[[7,null,{\"a\":1e999}]]".to_vec()),
        (
            "an unknown variant",
            b"{\"kind\":\"of-next-year\",\"schema\":65535,\"body\":{\"kind\":\"x\"}}".to_vec(),
        ),
        ("numbers without bounds", b"{\"number\":18446744073709551615,\"generation\":1e400}".to_vec()),
        ("arrays in arrays", nested("[", "]")),
        ("objects in objects", nested("{\"a\":", "}")),
        ("a megabyte", format!("\"{}\"", "\u{7}é".repeat(340_000)).replace('\u{7}', "x").into_bytes()),
        ("a bomb", [&[1_u8][..], &u32::MAX.to_le_bytes(), &[0x1f; 64]].concat()),
        ("a packed nothing", vec![1]),
    ]
}

async fn put(c: &Coordinator, key: &str, value: Vec<u8>) {
    c.store.txn(Txn::new().put(key, value)).await.unwrap();
}

async fn status(api: SocketAddr) -> StatusView {
    let (code, _, body) = get(api, "/v1/status").await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Kinds in which nothing but being there counts, or that close the store or the API: of these below, and in `leading/tests.rs`.
fn is_no_matter(kind: &Kind) -> bool {
    let others = [
        keys::LEADER,
        keys::LEADER_BEAT,
        keys::WRITE_TEST,
        keys::RETIRED,
        keys::IMPORTING,
        keys::LEVEL,
        keys::TOKENS,
    ];
    others.contains(&kind.prefix)
}

#[tokio::test]
async fn no_record_of_any_kind_keeps_a_coordinator_from_starting_or_answering() {
    let mut bed = Bed::new().await;
    let freezes: BTreeSet<&str> = [keys::FREEZE, keys::HOLDS, keys::OUT_OF_SERVICE].into();
    for (name, value) in spoilt() {
        let value = value.get(..drover_store::VALUE_BYTES_MAX.min(value.len())).unwrap().to_vec();
        for kind in kinds::KINDS.iter().filter(|kind| !is_no_matter(kind)) {
            let key = key_of(kind.prefix);
            assert_eq!(kinds::kind_of(&key).unwrap().prefix, kind.prefix, "{key}");
            put(&bed.c, &key, value.clone()).await;
        }
        // All of them at once, for a start; a start alone reads what is gone by only then.
        bed = bed.reopened().await;
        bed.c.start().await.unwrap_or_else(|e| panic!("{name}: {}", drover_model::chain(&e)));
        bed.c
            .look_for_unreadable(&mut BTreeSet::new())
            .await
            .unwrap_or_else(|e| panic!("{name}: {}", drover_model::chain(&e)));
        bed.c
            .sweep(bed.c.clock.now())
            .await
            .unwrap_or_else(|e| panic!("{name}: {}", drover_model::chain(&e)));
        let api = bed.serve().await;
        let view = status(api).await;
        let told = &view.coordinator.unreadable_records;
        for kind in kinds::KINDS.iter().filter(|kind| kind.is_gone_by && !is_no_matter(kind)) {
            let key = key_of(kind.prefix);
            // What the start itself writes anew is sound by now, and any text is a digest that nothing has.
            let is_anew =
                [keys::RUNS_INDEXED, keys::AUDIT_HEAD, keys::REARMED, keys::DNS_SEEN].contains(&kind.prefix);
            let is_digest =
                name == "a megabyte" && [keys::MADE_FROM, keys::FIXED_MADE_FROM].contains(&kind.prefix);
            assert!(
                is_anew || is_digest || told.iter().any(|r| r.key == key),
                "{name}: {key} is not told in {told:?}"
            );
        }
        for record in told {
            assert!(record.why.len() < 700 && !record.meanwhile.is_empty(), "{name}: {record:?}");
            assert!(!record.why.chars().any(char::is_control), "{name}: {record:?}");
        }
        let line = view.attention.iter().find(|a| a.code == "record_unreadable").unwrap();
        assert!(line.next.as_ref().is_some_and(|next| next.starts_with("drover ")), "{line:?}");
        assert_eq!(
            view.freeze.as_ref().map(|f| &f.by),
            Some(&Actor::Automatic),
            "{name}: nothing is done by itself"
        );
        for path in
            ["/v1/runs", "/v1/decisions", "/v1/audit", "/v1/explain/eu-west", "/metrics", "/v1/datasets"]
        {
            let (code, _, body) = get(api, path).await;
            assert!(code == 200 || code == 404 && path == "/v1/datasets", "{name}: {path} {code} {body}");
        }
        for kind in kinds::KINDS.iter().filter(|kind| !is_no_matter(kind)) {
            bed.c.store.txn(Txn::new().delete(key_of(kind.prefix))).await.unwrap();
        }
    }
    assert!(freezes.iter().all(|prefix| kinds::kind_of(&key_of(prefix)).unwrap().withholds));
}

#[tokio::test]
async fn a_record_that_is_spoilt_under_a_leader_is_told_and_taken_up_again_once_it_is_gone() {
    let bed = Bed::new().await;
    let (checkout, api) = (ServiceId::new("checkout").unwrap(), bed.serve().await);
    bed.all_is_well();
    let mut told = BTreeSet::new();
    for (key, withholds) in [(keys::hold(&RunId::numbered(9)), true), (keys::traffic(&checkout), false)] {
        put(&bed.c, &key, b"{".to_vec()).await;
        bed.c.look_for_unreadable(&mut told).await.unwrap();
        let view = status(api).await;
        assert_eq!(view.coordinator.unreadable_records[0].key, key);
        assert_eq!(view.freeze.is_some(), withholds);
        let place = bed.dir.path().join("state");
        let next = &view.coordinator.unreadable_records[0].next;
        assert!(next.contains(&format!("drover store remove '{key}' --state")), "{next} {place:?}");
        let removed = kinds::removable(bed.c.store.clone(), &key).await.unwrap().unwrap();
        assert!(kinds::remove(&*bed.c.store, &removed).await.unwrap());
        bed.c.look_for_unreadable(&mut told).await.unwrap();
        let view = status(api).await;
        assert_eq!((view.coordinator.unreadable_records.len(), view.freeze), (0, None));
    }
    let target = bed.c.db.get_placed::<TrafficState>(&keys::traffic(&checkout)).await.unwrap().unwrap().0;
    assert_eq!(bed.c.live().traffic.get(&checkout), Some(&target), "it was made anew");
    let (_, _, body) = get(api, "/v1/audit").await;
    let audit: Page<AuditItem> = serde_json::from_str(&body).unwrap();
    let verbs: Vec<String> = audit
        .items
        .iter()
        .filter_map(|item| match item {
            AuditItem::Record(record) => Some(record.verb.clone()),
            AuditItem::Unreadable { .. } => None,
        })
        .filter(|verb| verb.starts_with("record "))
        .collect();
    assert_eq!(verbs, ["record readable", "record unreadable", "record readable", "record unreadable"]);
}

#[tokio::test]
async fn a_freeze_and_a_block_period_that_cannot_be_read_stand_until_they_are_ended_as_any_other() {
    let bed = Bed::new().await;
    let (service, api) = (ServiceId::new("checkout").unwrap(), bed.serve().await);
    let block = keys::block(&service, drover_model::decision::FailureClass::Region);
    put(&bed.c, keys::FREEZE, b"frozen?".to_vec()).await;
    put(&bed.c, &block, b"null".to_vec()).await;
    bed.c.look_for_unreadable(&mut BTreeSet::new()).await.unwrap();
    let view = status(api).await;
    assert!(view.freeze.is_some());
    assert!(view.blocks.iter().any(|b| b.service == service), "{:?}", view.blocks);
    let (by, reason) = (person(), "nobody knows".to_owned());
    let rearm = serde_json::from_value(json!({"by": by, "reason": reason, "service": "checkout"})).unwrap();
    bed.c.rearm(&rearm).await.unwrap();
    let unfreeze = serde_json::from_value(json!({"by": by, "reason": reason})).unwrap();
    assert_eq!(bed.c.unfreeze(&unfreeze).await.unwrap().sentence, "automatic action is allowed again");
    let view = status(api).await;
    assert!(
        view.freeze.is_none() && view.blocks.is_empty() && view.coordinator.unreadable_records.is_empty()
    );
    assert!(bed.c.store.get(&block).await.unwrap().is_none());
}

#[tokio::test]
async fn however_many_records_of_the_past_are_spoilt_one_that_may_forbid_something_is_not_passed_over() {
    let bed = Bed::new().await;
    let error = CoordinatorError::store("read", "spoilt");
    for number in 0..2 * NOTED_MAX as u64 {
        bed.c.db.unreadable().note(&keys::numbered(keys::DECISIONS, number), &error);
    }
    assert_eq!(bed.c.db.unreadable().keys().len(), NOTED_MAX);
    bed.c.db.unreadable().note(keys::FREEZE, &error);
    assert!(bed.c.status_view().freeze.is_some());
}

#[tokio::test]
async fn numbers_go_on_from_drovers_own_keys_whatever_lies_beside_them() {
    let bed = Bed::new().await;
    for number in [3, 12] {
        put(&bed.c, &keys::numbered(keys::DECISIONS, number), b"{}".to_vec()).await;
    }
    for stray in
        ["00000000001", "0000000000050", "000000000012x", "999999999999", "899999999999x", "zzz", "-1", ""]
    {
        put(&bed.c, &format!("{}{stray}", keys::DECISIONS), b"\xff".to_vec()).await;
        assert_eq!(bed.c.db.last_number(keys::DECISIONS).await.unwrap(), 12, "{stray:?}");
    }
    let found =
        bed.c.db.list_below_as_it_is::<serde_json::Value>(keys::DECISIONS, u64::MAX, 12, 50).await.unwrap();
    assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [12, 3]);
    put(&bed.c, &keys::numbered(keys::DECISIONS, 12), b"\xff".to_vec()).await;
    let sound = bed.c.db.list_below::<serde_json::Value>(keys::DECISIONS, u64::MAX, 12, 1).await.unwrap();
    assert_eq!(sound.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3], "it hides no other");
}

#[tokio::test]
async fn only_what_makes_no_sense_is_removed_and_a_run_is_given_up_by_one_record() {
    let bed = Bed::new().await;
    let checkout = keys::traffic(&ServiceId::new("checkout").unwrap());
    let look = async |key: &str| kinds::removable(bed.c.store.clone(), key).await.unwrap();
    assert!(matches!(look(&checkout).await, Err(kinds::NotRemoved::Sound { .. })));
    assert!(matches!(look("holds/none").await, Err(kinds::NotRemoved::Absent { .. })));
    put(&bed.c, "of-next-year/1", b"\xff".to_vec()).await;
    assert!(matches!(look("of-next-year/1").await, Err(kinds::NotRemoved::Unknown { .. })));
    // Of a run that refers to nothing.
    let run = RunId::numbered(5);
    put(&bed.c, &keys::open(&run), serde_json::to_vec(&run).unwrap()).await;
    put(&bed.c, &keys::journal(&run, 0), b"{\"schema\":1}".to_vec()).await;
    assert!(matches!(look(&keys::journal(&run, 0)).await, Err(kinds::NotRemoved::OfJournal { .. })));
    bed.c.start().await.unwrap();
    let api = bed.serve().await;
    assert_eq!(bed.c.runs.left_alone(), [run.clone()].into());
    assert!(status(api).await.freeze.is_some(), "nobody knows what it moved");
    let open = look(&keys::open(&run)).await.unwrap();
    // Somebody was faster.
    put(&bed.c, &keys::open(&run), b"\"run-5\"".to_vec()).await;
    assert!(!kinds::remove(&*bed.c.store, &open).await.unwrap());
    let open = look(&keys::open(&run)).await.unwrap();
    assert!(kinds::remove(&*bed.c.store, &open).await.unwrap());
    bed.c.look_for_unreadable(&mut [keys::journal(&run, 0)].into()).await.unwrap();
    bed.c.look_at_runs().await.unwrap();
    assert!(bed.c.runs.left_alone().is_empty());
    assert!(status(api).await.freeze.is_none(), "it was given up");
}

#[tokio::test]
async fn a_token_that_cannot_be_read_opens_nothing_and_closes_as_an_admins_would() {
    let bed = Bed::new().await;
    let api = bed.serve().await;
    assert_eq!(get(api, "/v1/status").await.0, 200);
    put(&bed.c, "tokens/ann", b"{\"name\":\"bob\"}".to_vec()).await;
    bed.c.recall_tokens().await.unwrap();
    assert_eq!(code_of(&get(api, "/v1/status").await, 401), "token_missing");
    bed.c.store.txn(Txn::new().delete("tokens/ann")).await.unwrap();
    bed.c.look_for_unreadable(&mut BTreeSet::new()).await.unwrap();
    assert_eq!(get(api, "/v1/status").await.0, 200);
}
