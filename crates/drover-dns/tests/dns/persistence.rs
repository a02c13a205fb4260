//! What was published survives; what can't be trusted is not served.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use drover_dns::publish::{
    CHANGES_BYTES_MAX, Change, Fence, OpenError, Publisher, STATE_FILE_NAME, StateFileError,
};
use drover_dns::zone::{RecordType, ZoneConfig};

use crate::common::{app, batch, epoch, key, put, record_sets, serve, set, zone};
use crate::fixed::fixed;

fn open(directory: &tempfile::TempDir, zone: ZoneConfig) -> Result<Publisher, OpenError> {
    Publisher::open(directory.path(), zone)
}

#[tokio::test]
async fn a_restart_serves_what_was_served_and_still_knows_its_leader() {
    cov_mark::check!(i3_dns_refuses_an_older_epoch);
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(record_sets());
    served.running.publisher().publish(&batch(3, vec![put(Some(1), app(2))])).unwrap();
    let before = served.running.publisher().snapshot();
    served.end().await;

    let served = serve(directory.path()).await;
    let publisher = served.running.publisher();
    let after = publisher.snapshot();
    assert_eq!((after.generation(), after.record_sets()), (before.generation(), before.record_sets()));
    assert_eq!(after.get(&key("app.example.test", RecordType::A)).unwrap().document().generation, 2);
    assert_eq!(publisher.fence().highest_epoch, Some(epoch(3)));
    assert_eq!(publisher.applied().len(), 2);
    let late = publisher.publish(&batch(2, vec![put(Some(2), app(3))]));
    assert!(late.unwrap_err().to_string().contains("a later leader has written"));
    served.end().await;
}

#[test]
fn a_directory_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory, zone()).unwrap();
    assert!(matches!(open(&directory, zone()), Err(OpenError::InUse { .. })));
    drop(first);
    open(&directory, zone()).unwrap();
}

#[test]
fn another_zone_is_refused_and_a_changed_one_gets_a_new_generation() {
    cov_mark::check!(i12_dns_answers_from_its_own_copy);
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory, zone()).unwrap();
    first.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    let generation = first.snapshot().generation();
    drop(first);
    let mut changed = zone();
    changed.ttl_seconds = 60;
    let second = open(&directory, changed.clone()).unwrap();
    assert_eq!(second.snapshot().generation(), generation + 1);
    drop(second);
    assert_eq!(open(&directory, changed).unwrap().snapshot().generation(), generation + 1);

    let servers = zone().name_servers.into_iter().map(|mut server| {
        server.addresses.clear();
        server
    });
    let other = ZoneConfig::new(crate::common::name("example.org"), servers.collect()).unwrap();
    assert!(matches!(open(&directory, other), Err(OpenError::OtherZone { .. })));
}

/// Something stands where the whole would be written first.
fn block(directory: &tempfile::TempDir) -> PathBuf {
    let partial = directory.path().join(format!("{STATE_FILE_NAME}.partial"));
    fs::create_dir(&partial).unwrap();
    partial
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    drop(publisher);
    // What a start has read is written as a whole before anything is acknowledged.
    let publisher = open(&directory, zone()).unwrap();
    let partial = block(&directory);
    let asked_again = publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap_err();
    assert!(asked_again.to_string().contains("it is live"), "{asked_again}");
    let error = publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap_err();
    assert!(error.to_string().contains("nothing changed"), "{error}");
    assert_eq!(publisher.snapshot().generation(), 2);
    assert_eq!(publisher.fence().highest_epoch, Some(epoch(1)));
    fs::remove_dir(&partial).unwrap();
    publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap();
    assert_eq!(publisher.snapshot().generation(), 3);
}

/// A state with three changes behind it; the file's bytes, and where its lines end.
fn three_changes(directory: &tempfile::TempDir) -> (Vec<u8>, Vec<usize>) {
    let publisher = open(directory, zone()).unwrap();
    publisher.publish(&batch(1, record_sets().into_iter().map(|set| put(None, set)).collect())).unwrap();
    publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap();
    let gone = Change::Delete {
        expected_generation: 1,
        name: "dangling.example.test".into(),
        rtype: RecordType::Cname,
    };
    publisher.publish(&batch(2, vec![put(Some(2), app(3)), gone])).unwrap();
    let bytes = fs::read(directory.path().join(STATE_FILE_NAME)).unwrap();
    let ends: Vec<usize> = (1..=bytes.len()).filter(|end| bytes[end - 1] == b'\n').collect();
    assert_eq!(ends.len(), 5, "header, state and three changes");
    (bytes, ends)
}

/// What is served from these bytes: the snapshot's generation, and the generation of `app`.
fn served_from(bytes: &[u8]) -> Result<(u64, u64), OpenError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(STATE_FILE_NAME), bytes).unwrap();
    let snapshot = open(&directory, zone())?.snapshot();
    let app = snapshot.get(&key("app.example.test", RecordType::A));
    Ok((snapshot.generation(), app.map_or(0, |set| set.document().generation)))
}

fn is_refused(bytes: &[u8]) -> bool {
    matches!(served_from(bytes), Err(OpenError::State(StateFileError::Corrupt { .. })))
}

#[test]
fn changes_survive_beside_the_state_that_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, _) = three_changes(&directory);
    let publisher = open(&directory, zone()).unwrap();
    assert_eq!(served_from(&bytes).unwrap(), (4, 3));
    assert!(publisher.snapshot().get(&key("dangling.example.test", RecordType::Cname)).is_none());
    assert_eq!(publisher.fence(), Fence { highest_epoch: Some(epoch(2)), generation: 4 });
    let applied = publisher.applied();
    assert_eq!(applied.iter().map(|batch| batch.generation).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(applied[2].changes[1].to_generation, None);
    // An epoch is a change as well.
    publisher.publish(&batch(3, vec![put(Some(3), app(3))])).unwrap();
    publisher.adopt(Some(epoch(3)), epoch(7)).unwrap();
    drop(publisher);
    let fence = open(&directory, zone()).unwrap().fence();
    assert_eq!(fence, Fence { highest_epoch: Some(epoch(7)), generation: 4 });
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let (good, ends) = three_changes(&directory);
    let (header, last) = (ends[0], ends[3]);
    // All of the header and of the last change, and 200 places between; every bit of where the last change begins and
    // ends, by which it is told from one that a crash cut short.
    let between = (header..last).step_by((last - header) / 200);
    let places = (0..header).chain(between).chain(last..good.len());
    for place in places {
        let is_edge = (last..last + 20).contains(&place) || place + 4 > good.len();
        for bit in if is_edge { 0..8 } else { place % 8..place % 8 + 1 } {
            let mut bad = good.clone();
            bad[place] ^= 1 << bit;
            match served_from(&bad) {
                Err(OpenError::State(error)) => {
                    assert!(error.to_string().contains(STATE_FILE_NAME), "{error}");
                }
                Err(error) => panic!("byte {place}: {error}"),
                Ok(served) => assert_eq!(served, (4, 3), "byte {place}"),
            }
        }
    }
    for length in [0, 1, header, ends[1] - 1] {
        assert!(is_refused(&good[..length]), "{length}");
    }
    let newer = String::from_utf8(good).unwrap().replacen("\"format\":2", "\"format\":4", 1);
    assert!(matches!(
        served_from(newer.as_bytes()),
        Err(OpenError::State(StateFileError::NewerFormat { found: 4, .. }))
    ));
}

#[test]
fn a_crash_at_any_byte_of_a_change_leaves_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (good, ends) = three_changes(&directory);
    for length in ends[1]..good.len() {
        let acknowledged = ends[2..].iter().filter(|end| **end <= length).count() as u64;
        let served = served_from(&good[..length]).unwrap_or_else(|error| panic!("{length}: {error}"));
        assert_eq!(served, (1 + acknowledged, acknowledged), "cut at {length}");
    }
    // The file had its length already, but a block of it was not written.
    let mut torn = good.clone();
    torn[ends[3].next_multiple_of(512)..].fill(0);
    assert_eq!(served_from(&torn).unwrap(), (3, 2));
    let mut all_torn = good[..ends[3]].to_vec();
    all_torn.extend_from_slice(&[0; 700]);
    assert_eq!(served_from(&all_torn).unwrap(), (3, 2));
    // No crash does that to a change that another one follows.
    let mut hole = good.clone();
    hole[ends[1]..ends[2] - 1].fill(0);
    assert!(is_refused(&hole));
}

#[test]
fn after_a_torn_change_the_next_one_is_written_behind_a_whole_state() {
    let directory = tempfile::tempdir().unwrap();
    let (good, ends) = three_changes(&directory);
    let path = directory.path().join(STATE_FILE_NAME);
    fs::write(&path, &good[..ends[4] - 5]).unwrap();
    let publisher = open(&directory, zone()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), good[..ends[4] - 5], "a start writes nothing");
    publisher.publish(&batch(2, vec![put(Some(2), app(3))])).unwrap();
    publisher.publish(&batch(2, vec![put(Some(3), app(4))])).unwrap();
    assert_eq!(served_from(&fs::read(&path).unwrap()).unwrap(), (5, 4));
}

#[test]
fn changes_that_are_lost_doubled_or_out_of_order_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (good, ends) = three_changes(&directory);
    let line = |index: usize| &good[ends[index - 1]..ends[index]];
    let state = &good[..ends[1]];
    assert_eq!(served_from(&[state, line(2), line(3), line(4)].concat()).unwrap(), (4, 3));
    for lines in [[line(3), line(4)].concat(), [line(2), line(4)].concat()] {
        assert!(is_refused(&[state, &lines].concat()), "one is missing");
    }
    assert!(is_refused(&[state, line(2), line(2), line(3)].concat()), "doubled");
    assert!(is_refused(&[state, line(3), line(2)].concat()), "out of order");
    let other = tempfile::tempdir().unwrap();
    let mut changed = zone();
    changed.ttl_seconds = 60;
    drop(open(&other, changed).unwrap());
    let other = fs::read(other.path().join(STATE_FILE_NAME)).unwrap();
    assert!(is_refused(&[&other[..], line(2)].concat()), "of another state");
}

#[test]
fn the_file_of_an_earlier_version_is_read_and_replaced_by_the_first_publication() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    let path = directory.path().join(STATE_FILE_NAME);
    publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    drop(publisher);
    open(&directory, zone()).unwrap().publish(&batch(1, vec![put(None, app(1))])).unwrap();
    // Format 1: the same state, without an end of its line and without changes.
    let whole = fs::read_to_string(&path).unwrap();
    let earlier = whole.strip_suffix('\n').unwrap().replacen("\"format\":2", "\"format\":1", 1);
    fs::write(&path, &earlier).unwrap();
    let publisher = open(&directory, zone()).unwrap();
    assert_eq!(publisher.fence(), Fence { highest_epoch: Some(epoch(1)), generation: 2 });
    assert_eq!(fs::read_to_string(&path).unwrap(), earlier, "the earlier version can still have it back");
    publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("{\"format\":2,"));
    assert!(is_refused(&[earlier.as_bytes(), b"\n"].concat()), "nothing stands behind a state of format 1");
}

/// An earlier version would take what it does not know for damage, and advise to start empty.
#[test]
fn what_an_earlier_version_can_not_read_is_of_a_format_that_it_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    let path = directory.path().join(STATE_FILE_NAME);
    let format = || fs::read_to_string(&path).unwrap()[..11].to_owned();
    publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    assert_eq!(format(), "{\"format\":2");
    let text = fixed("text.example.test", RecordType::Txt, &["here"]);
    publisher.publish(&batch(1, vec![put(None, text)])).unwrap();
    assert_eq!(format(), "{\"format\":3");
    drop(publisher);
    let publisher = open(&directory, zone()).unwrap();
    assert_eq!(publisher.snapshot().record_sets().len(), 2);
}

#[test]
fn a_file_that_was_removed_or_replaced_meanwhile_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(STATE_FILE_NAME);
    let publisher = open(&directory, zone()).unwrap();
    publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    fs::remove_file(&path).unwrap();
    publisher.publish(&batch(1, vec![put(Some(1), app(2))])).unwrap();
    assert_eq!(served_from(&fs::read(&path).unwrap()).unwrap(), (3, 2));
    let copy = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, copy).unwrap();
    publisher.publish(&batch(1, vec![put(Some(2), app(3))])).unwrap();
    assert_eq!(served_from(&fs::read(&path).unwrap()).unwrap(), (4, 3));
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    publisher.publish(&batch(1, vec![put(Some(3), app(4))])).unwrap();
    assert_eq!(served_from(&fs::read(&path).unwrap()).unwrap(), (5, 4));
}

#[test]
fn the_changes_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(STATE_FILE_NAME);
    let publisher = open(&directory, zone()).unwrap();
    let note = "n".repeat(1000);
    let (mut written_anew, mut before) = (0, 0);
    for generation in 1..=30 {
        let changes = (0..300).map(|number| {
            let name = format!("s{number}.example.test");
            let mut set = set(&name, RecordType::A, generation, &[("eu-west", "192.0.2.1", 1)]);
            set.note.clone_from(&note);
            put((generation > 1).then(|| generation - 1), set)
        });
        publisher.publish(&batch(1, changes.collect())).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        assert!(length < 2 * CHANGES_BYTES_MAX, "{length}");
        written_anew += u64::from(length < before);
        before = length;
    }
    assert!((2..6).contains(&written_anew), "{written_anew}");
    let served = publisher.snapshot();
    drop(publisher);
    assert_eq!(open(&directory, zone()).unwrap().snapshot().record_sets(), served.record_sets());
}

#[test]
fn the_memory_of_changes_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    let step =
        |generation: u64| set("app.example.test", RecordType::A, generation, &[("eu-west", "192.0.2.1", 1)]);
    for generation in 1..=300 {
        let expected = (generation > 1).then(|| generation - 1);
        publisher.publish(&batch(1, vec![put(expected, step(generation))])).unwrap();
    }
    let applied = publisher.applied();
    assert_eq!(applied.len(), drover_dns::publish::APPLIED_BATCHES_KEPT_MAX);
    assert_eq!(applied.last().unwrap().changes[0].to_generation, Some(300));
}
