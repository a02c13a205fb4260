//! Damaged files: each is refused, named and left alone, or opens with every record as it was.
//!
//! A store that opens with anything else is the worst outcome that there is: a coordinator would act on it.

use crate::{dump, open, populate, runtime};
use drover_store::{Entry, OpenError, Store, Txn};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Flipped bits for each kind of file.
const FLIPS: usize = 220;
/// redb's header and commit slots.
const HEADER_BYTES: usize = 320;

/// A store's files in memory, and what is in it.
struct Sample {
    store: Vec<u8>,
    anchor: Vec<u8>,
    records: Vec<Entry>,
}

/// A populated store, closed in good order or as a killed process leaves it.
fn sample(seed: u64, closed: bool) -> Sample {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    runtime().block_on(async {
        let (store, _) = open(&path).unwrap();
        populate(&store, 250, &mut fastrand::Rng::with_seed(seed)).await;
        let records = dump(&store).await;
        if closed {
            store.close();
        }
        // Open and idle, every acknowledged write is in the file: this is what `kill -9` leaves.
        let read = |path: &Path| fs::read(path).unwrap();
        Sample { store: read(&path), anchor: read(&path.with_file_name("store.redb.anchor")), records }
    })
}

fn lay_out(store: &[u8], anchor: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    fs::write(&path, store).unwrap();
    fs::write(path.with_file_name("store.redb.anchor"), anchor).unwrap();
    (directory, path)
}

/// Opens the files; whether it was refused. Anything but the two accepted outcomes is a panic.
fn refused_or_equal(store: &[u8], anchor: &[u8], expected: &[Entry], what: &str) -> bool {
    let (_directory, path) = lay_out(store, anchor);
    match open(&path) {
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "{what}: names the file: {text}");
            assert!(text.contains("restore"), "{what}: says what to do: {text}");
            assert!(fs::read(&path).unwrap() == store, "{what}: refused, and changed nevertheless");
            true
        }
        Ok((opened, _)) => {
            runtime().block_on(async {
                assert!(dump(&opened).await == expected, "{what}: opened with other records");
                opened.txn(Txn::new().put("after", what)).await.unwrap();
            });
            drop(opened);
            let (reopened, _) =
                open(&path).unwrap_or_else(|error| panic!("{what}: not opened again: {error}"));
            let after = runtime().block_on(reopened.get("after")).unwrap();
            assert_eq!(after.unwrap().value, what.as_bytes());
            false
        }
    }
}

/// Flips one bit at each of many seeded places, a quarter of them in the header. How many were refused.
fn flip(seed: u64, closed: bool) -> usize {
    let sample = sample(seed, closed);
    let mut random = fastrand::Rng::with_seed(seed ^ 0xf11b);
    let places: Vec<(usize, u8)> = (0..FLIPS)
        .map(|n| {
            let end = if n % 4 == 0 { HEADER_BYTES } else { sample.store.len() };
            (random.usize(..end), random.u8(..8))
        })
        .collect();
    let mut refused = 0;
    for (offset, bit) in places {
        let mut damaged = sample.store.clone();
        damaged[offset] ^= 1 << bit;
        let what = format!("seed {seed}, bit {bit} of byte {offset}");
        refused += usize::from(refused_or_equal(&damaged, &sample.anchor, &sample.records, &what));
    }
    refused
}

#[test]
fn a_flipped_bit_in_a_closed_store_is_refused_or_harmless() {
    let refused = flip(11, true);
    assert!(refused > FLIPS / 4, "only {refused} of {FLIPS} refused: is anything verified?");
}

#[test]
fn a_flipped_bit_in_a_killed_store_is_refused_or_harmless() {
    let refused = flip(12, false);
    assert!(refused > FLIPS / 4, "only {refused} of {FLIPS} refused: is anything verified?");
}

#[test]
fn each_bit_that_steers_redb_is_refused_or_harmless() {
    // Magic, flags, geometry: the first 32 bytes, every second bit.
    for closed in [true, false] {
        let sample = sample(13, closed);
        for bit in (0..32 * 8).step_by(2) {
            let mut damaged = sample.store.clone();
            // The flags' byte in full.
            let bit = if (72..88).contains(&bit) { 72 + (bit - 72) / 2 } else { bit };
            damaged[bit / 8] ^= 1 << (bit % 8);
            refused_or_equal(
                &damaged,
                &sample.anchor,
                &sample.records,
                &format!("closed {closed}, bit {bit}"),
            );
        }
    }
}

#[test]
fn a_damaged_anchor_never_hides_records() {
    let sample = sample(14, false);
    for offset in (0..64).chain(4096..4160) {
        let mut anchor = sample.anchor.clone();
        anchor[offset] ^= 0x10;
        assert!(!refused_or_equal(&sample.store, &anchor, &sample.records, &format!("anchor byte {offset}")));
    }
    for anchor in [&b""[..], &[0xff; 9000]] {
        assert!(!refused_or_equal(&sample.store, anchor, &sample.records, "anchor of garbage"));
    }
}

#[test]
fn truncated_empty_garbage_and_extended_files_are_refused() {
    for closed in [true, false] {
        let sample = sample(15, closed);
        let length = sample.store.len();
        for keep in [0, 1, 63, 64, 319, 4096, 4097, length / 3, length / 2, length - 4096, length - 1] {
            let what = format!("closed {closed}, {keep} of {length} bytes");
            let refused = refused_or_equal(&sample.store[..keep], &sample.anchor, &sample.records, &what);
            assert!(refused || keep >= length - 4096, "{what}: opened");
        }
        let mut random = fastrand::Rng::with_seed(15);
        for extra in [1, 100, 4096, 123_456] {
            let mut extended = sample.store.clone();
            extended.extend(std::iter::repeat_with(|| random.u8(..)).take(extra));
            refused_or_equal(&extended, &sample.anchor, &sample.records, &format!("{extra} bytes appended"));
        }
        let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        assert!(refused_or_equal(&garbage, &sample.anchor, &sample.records, "garbage"));
        assert!(refused_or_equal(&vec![0; length], &sample.anchor, &sample.records, "zeros"));
        let mut blanked = sample.store.clone();
        blanked[length / 4..length / 2].fill(0);
        refused_or_equal(&blanked, &sample.anchor, &sample.records, "a quarter blanked");
    }
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    fs::write(&path, b"").unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}
