//! What was published survives; what can't be trusted is not served.

use std::fs;

use drover_dns::publish::{OpenError, Publisher, STATE_FILE_NAME, StateFileError};
use drover_dns::zone::{RecordType, ZoneConfig};

use crate::common::{app, batch, epoch, key, put, record_sets, serve, set, zone};

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

#[test]
fn a_write_that_fails_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    publisher.publish(&batch(1, vec![put(None, app(1))])).unwrap();
    // Something stands where the new state would be written first.
    let partial = directory.path().join(format!("{STATE_FILE_NAME}.partial"));
    fs::create_dir(&partial).unwrap();
    let error = publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap_err();
    assert!(error.to_string().contains("nothing changed"), "{error}");
    assert_eq!(publisher.snapshot().generation(), 2);
    assert_eq!(publisher.fence().highest_epoch, Some(epoch(1)));
    fs::remove_dir(&partial).unwrap();
    publisher.publish(&batch(2, vec![put(Some(1), app(2))])).unwrap();
    assert_eq!(publisher.snapshot().generation(), 3);
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let publisher = open(&directory, zone()).unwrap();
    publisher.publish(&batch(1, record_sets().into_iter().map(|set| put(None, set)).collect())).unwrap();
    let served = publisher.snapshot();
    drop(publisher);
    let path = directory.path().join(STATE_FILE_NAME);
    let good = fs::read(&path).unwrap();
    let header = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // All of the header, and the body at 200 places.
    let places = (0..header).chain((header..good.len()).step_by((good.len() - header) / 200));
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        fs::write(&path, &bad).unwrap();
        match open(&directory, zone()) {
            Err(OpenError::State(error)) => assert!(error.to_string().contains(STATE_FILE_NAME), "{error}"),
            Err(error) => panic!("byte {place}: {error}"),
            Ok(opened) => assert_eq!(opened.snapshot().record_sets(), served.record_sets(), "byte {place}"),
        }
    }
    for length in [0, 1, header, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        assert!(
            matches!(open(&directory, zone()), Err(OpenError::State(StateFileError::Corrupt { .. }))),
            "{length}"
        );
    }
    let newer = String::from_utf8(good).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    fs::write(&path, newer).unwrap();
    assert!(matches!(
        open(&directory, zone()),
        Err(OpenError::State(StateFileError::NewerFormat { found: 2, .. }))
    ));
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
