//! The embedded store against the conformance suite, formats, and a disk without room.

use super::migrate::{Formats, Migration};
use super::totals::Totals;
use super::verify::{META, META_FORMAT, META_TOTALS, RECORDS, encode_format};
use super::*;
use crate::types::{Expect, Txn, VALUE_BYTES_MAX};
use redb::{Database, ReadableTable, WriteTransaction};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data").join("store.redb");
    (directory, path)
}

fn small() -> Options {
    Options { reserve_bytes: 1 << 20, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let (_directory, path) = directory();
    let (store, report) = EmbeddedStore::open(&path, small()).unwrap();
    assert!(report.created);
    let store: Arc<dyn Store> = Arc::new(store);
    crate::conformance::run_all(|| async { Arc::clone(&store) }).await;
    let revision = store.revision().await.unwrap();
    drop(store);
    let (store, report) = EmbeddedStore::open(&path, small()).unwrap();
    assert_eq!((report.revision, report.was_closed_cleanly), (revision, true));
    assert_eq!(store.stats().unwrap().records, report.records);
}

fn open_formats(
    path: &Path,
    options: Options,
    formats: &Formats,
) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    EmbeddedStore::open_with(path, options, formats, Arc::new(Statvfs))
}

/// Format 0, which never was: bare values, no totals.
fn make_format_0(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut records = write.open_table(RECORDS).unwrap();
        for n in 0..100 {
            let key = format!("k/{n}");
            records.insert(key.as_bytes(), format!("value {n}").as_bytes()).unwrap();
        }
        let mut meta = write.open_table(META).unwrap();
        meta.insert(META_FORMAT, encode_format(0).as_slice()).unwrap();
    }
    write.commit().unwrap();
}

fn from_0_to_1(write: &WriteTransaction) -> Result<(), Failure> {
    let mut totals = Totals { revision: Revision(1), ..Totals::default() };
    let mut records = write.open_table(RECORDS).map_err(Failure::of)?;
    let bare: Vec<(Vec<u8>, Vec<u8>)> = records
        .iter()
        .map_err(Failure::of)?
        .map(|record| record.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        .collect::<Result<_, _>>()
        .map_err(Failure::of)?;
    for (key, value) in bare {
        let (bytes, digest) = envelope::encode(&key, &value, Revision(1), Revision(1));
        totals.add(digest);
        records.insert(key.as_slice(), bytes.as_slice()).map_err(Failure::of)?;
    }
    let mut meta = write.open_table(META).map_err(Failure::of)?;
    meta.insert(META_TOTALS, totals.encode().as_slice()).map_err(Failure::of)?;
    Ok(())
}

fn failing(_: &WriteTransaction) -> Result<(), Failure> {
    Err(Failure::Corrupt("record 7 makes no sense".to_owned()))
}

#[tokio::test]
async fn an_older_format_is_copied_aside_and_brought_forward() {
    let formats = Formats { current: 1, migrations: &[Migration { from: 0, apply: from_0_to_1 }] };
    let (_directory, path) = directory();
    make_format_0(&path);
    let before = std::fs::read(&path).unwrap();
    let (store, report) = open_formats(&path, small(), &formats).unwrap();
    let migrated = report.migrated.unwrap();
    assert_eq!((migrated.from, migrated.to, report.records), (0, 1, 100));
    assert!(std::fs::read(&migrated.copy).unwrap() == before, "the copy is the file as it was");
    let record = store.get("k/42").await.unwrap().unwrap();
    assert_eq!((record.value.as_slice(), record.mod_revision), (&b"value 42"[..], Revision(1)));
    assert_eq!(store.txn(Txn::new().put("k/100", "new")).await.unwrap().revision, Revision(3));
    drop(store);
    let (_store, report) = EmbeddedStore::open(&path, small()).unwrap();
    assert_eq!((report.migrated, report.records), (None, 101), "once is enough");
}

#[test]
fn a_migration_that_fails_leaves_the_old_format_and_names_the_copy() {
    let formats = Formats { current: 1, migrations: &[Migration { from: 0, apply: failing }] };
    let (_directory, path) = directory();
    make_format_0(&path);
    let error = open_formats(&path, small(), &formats).unwrap_err();
    let OpenError::Migration { copy, .. } = &error else { panic!("{error}") };
    assert!(copy.exists());
    assert!(error.to_string().contains("record 7 makes no sense"), "{error}");
    let formats = Formats { current: 1, migrations: &[Migration { from: 0, apply: from_0_to_1 }] };
    let (_store, report) = open_formats(&path, small(), &formats).unwrap();
    assert_ne!(&report.migrated.unwrap().copy, copy, "no copy is overwritten");
}

#[test]
fn formats_that_are_not_known_are_refused_with_both_versions() {
    let (_directory, path) = directory();
    make_format_0(&path);
    let error = EmbeddedStore::open(&path, small()).unwrap_err();
    assert!(matches!(error, OpenError::OlderFormat { found: 0, supported: 1, .. }), "{error}");

    let (_directory, path) = directory();
    let newer = Formats { current: 7, migrations: &[] };
    drop(open_formats(&path, small(), &newer).unwrap());
    let before = std::fs::read(&path).unwrap();
    let error = EmbeddedStore::open(&path, small()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 7, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "left as it was");
}

/// A disk that has as much room as a test says.
#[derive(Debug)]
struct Disk(AtomicU64);

impl FreeSpace for Disk {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_full_disk_refuses_ordinary_work_and_the_reserve_ends_the_run() {
    let (_directory, path) = directory();
    let disk = Arc::new(Disk(AtomicU64::new(1 << 30)));
    let (store, report) = EmbeddedStore::open_with(&path, small(), &FORMATS, disk.clone()).unwrap();
    assert!(report.reserve_held);
    let reserve = path.with_file_name("store.redb.reserve");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1 << 20);
    store.txn(Txn::new().put("runs/1", "begun")).await.unwrap();

    // Room for the journal beside the reserve: only ordinary work is refused.
    disk.0.store(3 << 20, Ordering::SeqCst);
    let error = store.txn(Txn::new().put("other", "x")).await.unwrap_err();
    assert!(matches!(&error, TxnError::OutOfSpace { free_bytes, .. } if *free_bytes == 3 << 20), "{error}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    store.txn(Txn::new().put("runs/1/journal/1", "step").for_journal()).await.unwrap();
    store.txn(Txn::new().delete("runs/1")).await.expect("deletes make room");
    assert!(reserve.exists(), "nobody needed it yet");
    assert_eq!(
        store.stats().unwrap().alarm,
        Some(Alarm::Full { free_bytes: 3 << 20 }),
        "and it is said already"
    );

    // No room at all: the reserve goes, and the journal is tried whatever the disk says.
    disk.0.store(0, Ordering::SeqCst);
    let journal = Txn::new().put("runs/1/journal/2", "step").for_journal();
    store.txn(journal).await.expect("redb finds room in its file, and the reserve's");
    assert!(!reserve.exists(), "the reserve was given up");
    assert_eq!(store.stats().unwrap().alarm, Some(Alarm::ReserveGone { reserve_bytes: 1 << 20 }));
    assert!(matches!(store.txn(Txn::new().put("other", "x")).await, Err(TxnError::OutOfSpace { .. })));
    assert!(store.get("runs/1/journal/2").await.unwrap().is_some(), "reading goes on");

    disk.0.store(1 << 30, Ordering::SeqCst);
    store.txn(Txn::new().put("other", "x")).await.unwrap();
    assert!(reserve.exists(), "made anew when there is room");
    assert_eq!(store.stats().unwrap().alarm, None);
}

/// A disk that somebody else fills: each time it is asked it has less.
#[derive(Debug)]
struct Sinking {
    free: AtomicU64,
    by: AtomicU64,
}

impl FreeSpace for Sinking {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let by = self.by.load(Ordering::SeqCst);
        Ok(self.free.fetch_sub(by, Ordering::SeqCst) - by)
    }
}

/// The room runs out between the question and the commit: redb fails in the middle, and is opened anew.
#[tokio::test]
async fn a_commit_that_meets_the_floor_leaves_nothing_and_the_store_goes_on() {
    let (_directory, path) = directory();
    let disk = Arc::new(Sinking { free: AtomicU64::new(1 << 30), by: AtomicU64::new(0) });
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let (store, _) = EmbeddedStore::open_with(&path, options, &FORMATS, disk.clone()).unwrap();
    store.txn(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch("", Revision(1)).await.unwrap();

    disk.free.store(600 << 10, Ordering::SeqCst);
    disk.by.store(30 << 10, Ordering::SeqCst);
    let journal = Txn::new().put("b", vec![0; 500_000]).for_journal();
    let error = store.txn(journal.clone()).await.unwrap_err();
    assert!(matches!(error, TxnError::OutOfSpace { .. }), "{error}");
    assert_eq!(store.get("b").await.unwrap(), None);
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1");
    disk.by.store(0, Ordering::SeqCst);
    let again = store.txn(journal.clone()).await.unwrap_err();
    assert!(matches!(again, TxnError::OutOfSpace { .. }), "not tried again without more room: {again}");
    store.txn(Txn::new().delete("a")).await.expect("deletes may go below the floor");

    disk.free.store(1 << 30, Ordering::SeqCst);
    assert_eq!(store.txn(journal).await.unwrap().revision, Revision(3));
    for revision in [2, 3] {
        let item = watch.next().await.unwrap();
        assert!(
            matches!(&item, crate::watch::WatchItem::Changed(c) if c.revision == Revision(revision)),
            "{item:?}"
        );
    }
    drop(store);
    let (_store, report) = EmbeddedStore::open(&path, small()).unwrap();
    assert_eq!((report.revision, report.was_closed_cleanly), (Revision(3), true));
}

#[tokio::test]
async fn the_size_alarm_tells_both_sizes() {
    let (_directory, path) = directory();
    let options = Options { size_alarm_bytes: 2 << 20, ..small() };
    let (store, _) = EmbeddedStore::open(&path, options).unwrap();
    assert_eq!(store.stats().unwrap().alarm, None);
    for n in 0..3 {
        store.txn(Txn::new().put(format!("k/{n}"), vec![n; VALUE_BYTES_MAX])).await.unwrap();
    }
    let stats = store.stats().unwrap();
    assert_eq!(stats.records, 3);
    assert!(stats.free_bytes.unwrap() > 0);
    assert_eq!(stats.alarm, Some(Alarm::Large { bytes: stats.bytes, size_alarm_bytes: 2 << 20 }));
}

#[tokio::test]
async fn a_closed_store_refuses_and_a_dropped_future_harms_nobody() {
    let (_directory, path) = directory();
    let (store, _) = EmbeddedStore::open(&path, small()).unwrap();
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    drop(store.txn(Txn::new().put("a", "never polled")));
    store.txn(Txn::new().expect("a", Expect::Absent).put("b", "1")).await.unwrap();
    store.close();
    assert!(watch.next().await.is_some(), "what was committed still arrives");
    assert_eq!(watch.next().await, None);
    assert_eq!(store.txn(Txn::new().put("a", "1")).await, Err(TxnError::Closed));
    assert_eq!(store.get("b").await, Err(ReadError::Closed));
    assert_eq!(store.revision().await, Err(ReadError::Closed));
    assert!(matches!(store.watch("", Revision(1)).await, Err(ReadError::Closed)));
}
