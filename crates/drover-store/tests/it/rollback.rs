//! States that are sound in themselves, and not the last: found by the totals and by the anchor.

use crate::{dump, open, populate, runtime};
use drover_store::{AnchorCheck, OpenError, Revision, Store, Txn};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

fn store_of(count: usize) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    runtime().block_on(async {
        let (store, _) = open(&path).unwrap();
        populate(&store, count, &mut fastrand::Rng::with_seed(21)).await;
    });
    (directory, path)
}

/// Changes the records behind the store's back, with valid pages and checksums all through.
fn meddle(path: &Path, change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>)) {
    let database = Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    change(&mut write.open_table(RECORDS).unwrap());
    write.commit().unwrap();
    database.close().unwrap();
}

fn record(path: &Path, key: &str) -> Vec<u8> {
    let database = Database::open(path).unwrap();
    let read = database.begin_read().unwrap();
    let records = read.open_table(RECORDS).unwrap();
    records.get(key.as_bytes()).unwrap().unwrap().value().to_vec()
}

#[test]
fn a_missing_a_resurrected_and_a_swapped_record_are_found() {
    let (_directory, path) = store_of(60);
    let (first, second) = ("traffic/service-0", "traffic/service-3");
    let older = record(&path, first);
    runtime().block_on(async {
        let (store, _) = open(&path).unwrap();
        store.txn(Txn::new().put(first, "newer").delete(second)).await.unwrap();
    });
    let newer = record(&path, first);
    let anchor = fs::read(path.with_file_name("store.redb.anchor")).unwrap();
    // The totals alone must find these: an anchor may be missing.
    let refused = |what: &str| {
        fs::remove_file(path.with_file_name("store.redb.anchor")).unwrap();
        let before = fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error}");
        assert!(fs::read(&path).unwrap() == before, "{what}: left as it was");
        fs::write(path.with_file_name("store.redb.anchor"), &anchor).unwrap();
    };

    meddle(&path, |records| drop(records.remove(first.as_bytes()).unwrap()));
    refused("missing");
    meddle(&path, |records| drop(records.insert(first.as_bytes(), older.as_slice()).unwrap()));
    refused("an older value, whole and valid");
    meddle(&path, |records| drop(records.insert(first.as_bytes(), newer.as_slice()).unwrap()));
    meddle(&path, |records| drop(records.insert(second.as_bytes(), newer.as_slice()).unwrap()));
    refused("another key's value");
    meddle(&path, |records| drop(records.remove(second.as_bytes()).unwrap()));
    open(&path).expect("all as it should be again");
}

#[test]
fn an_older_copy_is_refused_until_its_anchor_is_removed() {
    let (_directory, path) = store_of(30);
    let anchor = path.with_file_name("store.redb.anchor");
    let copy = fs::read(&path).unwrap();
    runtime().block_on(async {
        let (store, _) = open(&path).unwrap();
        store.txn(Txn::new().put("later", "1")).await.unwrap();
    });
    fs::write(&path, &copy).unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::RolledBack { revision: Revision(30), anchor_revision: Revision(31), .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&anchor.display().to_string()), "{error}");
    assert!(fs::read(&path).unwrap() == copy, "left as it was");

    fs::remove_file(&anchor).unwrap();
    let (store, report) = open(&path).unwrap();
    assert_eq!((report.revision, report.anchor), (Revision(30), AnchorCheck::Missing));
    drop(store);
    let (_store, report) = open(&path).unwrap();
    assert_eq!(report.anchor, AnchorCheck::Matches, "it has a new one");
}

#[test]
fn a_missing_file_with_an_anchor_is_not_taken_for_a_new_store() {
    let (_directory, path) = store_of(10);
    fs::remove_file(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Missing { revision: Revision(10), .. }), "{error}");
    assert!(!path.exists());
    fs::remove_file(path.with_file_name("store.redb.anchor")).unwrap();
    let (store, report) = open(&path).unwrap();
    assert!(report.created);
    assert_eq!(runtime().block_on(dump(&store)), []);
}
