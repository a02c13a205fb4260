//! The store's totals: what the file must add up to. Written in every transaction, recomputed at every start.
//!
//! A record that vanished, or one that came back from an older page, has a valid checksum of its own; only the
//! whole tells. The sum of all records' digests finds both.

use super::envelope::{u32_at, u64_at};
use crate::types::Revision;

/// Encoded length: revision, records, digest, CRC32C.
pub(crate) const TOTALS_BYTES: usize = 8 + 8 + 8 + 4;

/// Revision, number of records, and their digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub revision: Revision,
    pub records: u64,
    /// Wrapping sum of the records' digests: order does not matter, and a removal is a subtraction.
    pub digest: u64,
}

impl Totals {
    pub fn add(&mut self, digest: u64) {
        self.records = self.records.saturating_add(1);
        self.digest = self.digest.wrapping_add(digest);
    }

    pub fn remove(&mut self, digest: u64) {
        self.records = self.records.saturating_sub(1);
        self.digest = self.digest.wrapping_sub(digest);
    }

    pub fn encode(&self) -> [u8; TOTALS_BYTES] {
        let mut bytes = [0; TOTALS_BYTES];
        bytes[..8].copy_from_slice(&self.revision.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.digest.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are not what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != TOTALS_BYTES || crc32c::crc32c(&bytes[..24]) != u32_at(bytes, 24) {
            return None;
        }
        Some(Self {
            revision: Revision(u64_at(bytes, 0)),
            records: u64_at(bytes, 8),
            digest: u64_at(bytes, 16),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_survive_a_round_trip_and_no_flipped_bit() {
        let mut totals = Totals { revision: Revision(7), ..Totals::default() };
        totals.add(u64::MAX);
        totals.add(12);
        totals.remove(u64::MAX);
        assert_eq!(totals, Totals { revision: Revision(7), records: 1, digest: 12 });
        let bytes = totals.encode();
        assert_eq!(Totals::decode(&bytes), Some(totals));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Totals::decode(&flipped), None, "bit {bit}");
        }
    }
}
