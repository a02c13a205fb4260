//! The history: order, pruning, bounds, and being set aside.

use super::*;
use std::io;
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data").join("history.redb");
    (directory, path)
}

fn open(path: &Path) -> (History, HistoryReport) {
    History::open(path, HistoryOptions::default()).unwrap()
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[tokio::test]
async fn entries_come_back_by_kind_and_time_and_survive_a_reopening() {
    let (_directory, path) = directory();
    let (history, report) = open(&path);
    assert_eq!(report.set_aside, None);
    for (time, key) in [(30, "c"), (10, "a"), (20, "b"), (20, "b2"), (40, "d")] {
        history.append("observation", time, key, b"ok").unwrap();
    }
    history.append("observation-raw", 20, "other", b"").unwrap();
    history.append("transition", 20, "x", b"down").unwrap();
    history.flush().await.unwrap();
    assert_eq!(keys(&history.range("observation", 10, 40, 0).unwrap()), ["a", "b", "b2", "c"]);
    assert_eq!(keys(&history.range("transition", 0, u64::MAX, 0).unwrap()), ["x"]);
    assert_eq!(history.range("observation", 40, 40, 0).unwrap(), []);
    assert_eq!(history.range("observation", 50, 40, 0).unwrap(), []);

    let first = history.range("observation", 0, 100, 2).unwrap();
    assert_eq!(keys(&first), ["a", "b"]);
    let rest = history.range_after("observation", first[1].id, 100, 0).unwrap();
    assert_eq!(keys(&rest), ["b2", "c", "d"], "pages part no two entries of one millisecond");

    let end = EntryId { timestamp_ms: 40, sequence: 0 };
    let newest = history.range_before("observation", 10, end, 2).unwrap();
    assert_eq!(keys(&newest), ["c", "b2"]);
    let older = history.range_before("observation", 11, newest[1].id, 0).unwrap();
    assert_eq!(keys(&older), ["b"], "backwards, too");
    assert_eq!(history.range_before("observation", 50, end, 0).unwrap(), []);
    drop(history);

    let (history, _) = open(&path);
    history.append("observation", 20, "b3", b"").unwrap();
    history.flush().await.unwrap();
    assert_eq!(keys(&history.range("observation", 20, 21, 0).unwrap()), ["b", "b2", "b3"]);
    assert_eq!(history.stats(), HistoryStats { written: 1, dropped: 0, set_aside: 0 });
}

#[tokio::test]
async fn pruning_takes_what_is_older_in_bounded_steps_and_nothing_else() {
    let (_directory, path) = directory();
    let (history, _) = open(&path);
    for time in 0..5000 {
        while let Err(HistoryError::Full { .. }) = history.append("observation", time, "k", b"v") {
            history.flush().await.unwrap();
        }
    }
    history.append("transition", 1, "k", b"v").unwrap();
    history.flush().await.unwrap();
    assert_eq!(history.prune("observation", 4500).await.unwrap(), 4500);
    assert_eq!(history.prune("observation", 4500).await.unwrap(), 0);
    let left = history.range("observation", 0, u64::MAX, 0).unwrap();
    assert_eq!((left.len(), left[0].id.timestamp_ms), (500, 4500));
    assert_eq!(history.range("transition", 0, u64::MAX, 0).unwrap().len(), 1);
}

#[tokio::test]
async fn limits_are_refused_and_told() {
    let (_directory, path) = directory();
    let (history, _) = open(&path);
    let error = history.append("observation", 1, "k", &[0; HISTORY_VALUE_BYTES_MAX]).unwrap_err();
    assert!(matches!(error, HistoryError::TooLarge { bytes: 16385, limit: 16384 }), "{error}");
    assert!(matches!(history.append("No", 1, "k", b""), Err(HistoryError::BadKind { .. })));
    assert!(matches!(history.range("", 1, 2, 0), Err(HistoryError::BadKind { .. })));
    let error = History::open(&path, HistoryOptions::default()).unwrap_err();
    assert!(matches!(error, HistoryError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_oldest_of_those_removed() {
    let (_directory, path) = directory();
    for round in 1..=6_usize {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let garbage = vec![round as u8; 5000];
        std::fs::write(&path, &garbage).unwrap();
        let (history, report) = open(&path);
        let aside = report.set_aside.expect("garbage is no history");
        assert_eq!(aside, path.with_file_name(format!("history.redb.corrupt-{}", round.min(4))));
        assert!(std::fs::read(aside).unwrap() == garbage);
        history.append("observation", 1, "k", b"").unwrap();
        history.flush().await.unwrap();
        assert_eq!(history.stats().set_aside, 1);
    }
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 5, "four set aside, and the current one");
}

#[tokio::test]
async fn damage_found_while_reading_sets_the_file_aside_too() {
    let (_directory, path) = directory();
    let (history, _) = open(&path);
    for time in 0..200 {
        history.append("observation", time, "region/service", &[0x5a; 100]).unwrap();
    }
    history.flush().await.unwrap();
    drop(history);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(50).rposition(|window| window == [0x5a; 50]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let (history, report) = open(&path);
    // redb verifies a page when it repairs, not when it reads; our checksum is what finds it.
    if report.set_aside.is_none() {
        let error = history.range("observation", 0, 1000, 0).unwrap_err();
        assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
    }
    history.flush().await.unwrap();
    assert_eq!(history.stats().set_aside, 1);
    assert!(path.with_file_name("history.redb.corrupt-1").exists());
    history.append("observation", 1, "k", b"new").unwrap();
    history.flush().await.unwrap();
    assert_eq!(history.range("observation", 0, 1000, 0).unwrap().len(), 1);
}

/// A disk with hardly any room.
#[derive(Debug)]
struct Full;

impl FreeSpace for Full {
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 20)
    }
}

#[tokio::test]
async fn on_a_nearly_full_disk_entries_are_dropped_and_counted() {
    let (_directory, path) = directory();
    let (history, _) = History::open_on(&path, HistoryOptions::default(), Arc::new(Full)).unwrap();
    history.append("observation", 1, "k", b"v").unwrap();
    let error = history.flush().await.unwrap_err();
    assert!(error.to_string().contains("history.redb"), "{error}");
    assert_eq!(history.stats(), HistoryStats { written: 0, dropped: 1, set_aside: 0 });
    assert_eq!(history.range("observation", 0, 9, 0).unwrap(), []);
}
