//! The envelope around each value: revisions, length and a checksum over all of it and the key.
//!
//! redb has page checksums of its own. This one is ours because it also binds a value to its key, and because a
//! record read at run time is checked again, not just the file at start.
//!
//! Layout, little endian: format (1) · create revision (8) · mod revision (8) · length (4) · CRC32C (4) · value.

use crate::types::{Revision, Versioned};

/// Format byte of envelopes written now.
pub(crate) const ENVELOPE_FORMAT: u8 = 1;
const CREATE_AT: usize = 1;
const MOD_AT: usize = CREATE_AT + 8;
const LENGTH_AT: usize = MOD_AT + 8;
const CRC_AT: usize = LENGTH_AT + 4;
const VALUE_AT: usize = CRC_AT + 4;

/// A decoded envelope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope<'a> {
    pub value: &'a [u8],
    pub create_revision: Revision,
    pub mod_revision: Revision,
    crc: u32,
}

impl<'a> Envelope<'a> {
    /// Checks and decodes; the error says what is wrong, without the key.
    pub fn decode(key: &[u8], bytes: &'a [u8]) -> Result<Self, String> {
        let Some((&format, _)) = bytes.split_first() else { return Err("the record is empty".to_owned()) };
        if format != ENVELOPE_FORMAT {
            return Err(format!("the record has format {format}, not {ENVELOPE_FORMAT}"));
        }
        if bytes.len() < VALUE_AT {
            return Err(format!("the record has {} bytes, its header alone has {VALUE_AT}", bytes.len()));
        }
        let (header, value) = bytes.split_at(VALUE_AT);
        let length = u32_at(header, LENGTH_AT);
        if u64::from(length) != value.len() as u64 {
            return Err(format!("the record's value has {} bytes, its header says {length}", value.len()));
        }
        let crc = u32_at(header, CRC_AT);
        let computed = checksum(&header[..CRC_AT], key, value);
        if crc != computed {
            return Err(format!("the record's checksum is {crc:08x}, its bytes give {computed:08x}"));
        }
        let create_revision = Revision(u64_at(header, CREATE_AT));
        let mod_revision = Revision(u64_at(header, MOD_AT));
        Ok(Self { value, create_revision, mod_revision, crc })
    }

    /// This record's part in the store's digest.
    pub fn digest(&self) -> u64 {
        digest(self.crc, self.mod_revision)
    }

    pub fn to_versioned(self) -> Versioned {
        Versioned {
            value: self.value.to_vec(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
        }
    }
}

/// Wraps a value. Returns the bytes and the record's part in the store's digest.
pub(crate) fn encode(key: &[u8], value: &[u8], create: Revision, modified: Revision) -> (Vec<u8>, u64) {
    let mut bytes = Vec::with_capacity(VALUE_AT + value.len());
    bytes.push(ENVELOPE_FORMAT);
    bytes.extend_from_slice(&create.0.to_le_bytes());
    bytes.extend_from_slice(&modified.0.to_le_bytes());
    // Values are at most VALUE_BYTES_MAX, far below 4 GiB.
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes, key, value);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(value);
    (bytes, digest(crc, modified))
}

fn checksum(header: &[u8], key: &[u8], value: &[u8]) -> u32 {
    // The length is in the header, so no byte can move between key and value unseen.
    let crc = crc32c::crc32c(header);
    let crc = crc32c::crc32c_append(crc, key);
    crc32c::crc32c_append(crc, value)
}

/// Digests are summed over all records, so they must be spread over 64 bits: equal CRCs of two records, or one
/// missing and another resurrected, must not cancel out.
fn digest(crc: u32, modified: Revision) -> u64 {
    mix(mix(u64::from(crc)) ^ modified.0)
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Reads a little-endian number; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Reads a little-endian number; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(value in prop::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
            let (mut bytes, _) = encode(b"a/b", &value, Revision(3), Revision(9));
            let decoded = Envelope::decode(b"a/b", &bytes).map(|envelope| envelope.to_versioned());
            prop_assert_eq!(decoded.map(|versioned| versioned.value), Ok(value));
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Envelope::decode(b"a/b", &bytes).is_err());
        }
    }

    #[test]
    fn a_record_is_bound_to_its_key_and_every_truncation_is_found() {
        let (bytes, _) = encode(b"a", b"value", Revision(1), Revision(2));
        assert!(Envelope::decode(b"b", &bytes).is_err());
        for length in 0..bytes.len() {
            assert!(Envelope::decode(b"a", &bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
