//! The anchor: a small file beside the store that remembers the last commit from outside.
//!
//! redb keeps two commit slots. A flipped bit in its header can make it take the older one, whose pages and
//! checksums are all valid: the store would open without a word, one commit short. Nothing inside the file can
//! tell; the anchor can. It is written after each commit and not synced, so after a crash or a power loss it may
//! be behind the store (harmless), never ahead of it.
//!
//! Two slots, written in turn, in blocks of their own, so that a torn write leaves the other one.

use super::envelope::{u32_at, u64_at};
use super::totals::Totals;
use crate::types::Revision;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Slots are one block apart: no disk tears more than the block that it writes.
const SLOT_SPACING: u64 = 4096;
const SLOTS: u64 = 2;
const MAGIC: &[u8; 8] = b"drvancr1";
/// Magic, sequence, revision, records, digest, clean flag, CRC32C.
const SLOT_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 1 + 4;
const CRC_AT: usize = SLOT_BYTES - 4;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Counts writes; the slot with the higher one is the newer.
    pub sequence: u64,
    pub totals: Totals,
    /// Whether the store was closed in good order after it.
    pub clean: bool,
}

/// What an anchor file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such file.
    Missing,
    /// No slot is readable.
    Damaged,
    /// The newest readable slot.
    Mark(Mark),
}

/// Reads an anchor file.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    let mut newest: Option<Mark> = None;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, slot * SLOT_SPACING) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        let mark = decode(&bytes);
        if mark.is_some_and(|mark| newest.is_none_or(|newest| mark.sequence > newest.sequence)) {
            newest = mark;
        }
    }
    Ok(newest.map_or(Found::Damaged, Found::Mark))
}

/// The anchor file, open for writing.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: File,
    sequence: u64,
}

impl Anchor {
    /// Opens the file, or creates it at its full size: a full disk must not stop its later writes.
    pub fn open(path: &Path, found: &Found) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let bytes = SLOT_SPACING * SLOTS;
        if file.metadata()?.len() != bytes {
            file.set_len(0)?;
            file.write_all_at(&vec![0; (SLOT_SPACING * SLOTS) as usize], 0)?;
        }
        let sequence = match found {
            Found::Mark(mark) => mark.sequence,
            Found::Missing | Found::Damaged => 0,
        };
        Ok(Self { file, sequence })
    }

    /// Overwrites the older slot.
    pub fn write(&mut self, totals: &Totals, clean: bool) -> io::Result<()> {
        let mark = Mark { sequence: self.sequence + 1, totals: *totals, clean };
        self.file.write_all_at(&encode(&mark), (mark.sequence % SLOTS) * SLOT_SPACING)?;
        self.sequence = mark.sequence;
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(mark: &Mark) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    let words = [mark.sequence, mark.totals.revision.0, mark.totals.records, mark.totals.digest];
    for (index, word) in words.iter().enumerate() {
        bytes[8 + index * 8..16 + index * 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes[CRC_AT - 1] = u8::from(mark.clean);
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Mark> {
    if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
        return None;
    }
    let totals = Totals {
        revision: Revision(u64_at(bytes, 16)),
        records: u64_at(bytes, 24),
        digest: u64_at(bytes, 32),
    };
    Some(Mark { sequence: u64_at(bytes, 8), totals, clean: bytes[CRC_AT - 1] != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_readable_slot_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("anchor");
        assert_eq!(read(&path).unwrap(), Found::Missing);
        let mut anchor = Anchor::open(&path, &Found::Missing).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Damaged, "created, never written");
        let totals = |revision| Totals { revision: Revision(revision), records: 2, digest: 3 };
        for revision in 1..=3 {
            anchor.write(&totals(revision), revision == 3).unwrap();
        }
        let newest = Mark { sequence: 3, totals: totals(3), clean: true };
        assert_eq!(read(&path).unwrap(), Found::Mark(newest));

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let older = Mark { sequence: 2, totals: totals(2), clean: false };
        assert_eq!(read(&path).unwrap(), Found::Mark(older), "slot 1 held the third write");
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Damaged);
    }
}
