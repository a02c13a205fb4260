//! An entry and its bytes.
//!
//! Key: kind · 0 · timestamp (8, big endian) · sequence (8, big endian), so that the order of bytes is the order of
//! time within a kind. Value: CRC32C over all else (4) · length of the key (2) · key · bytes.

use super::HistoryError;

/// Longest kind.
const KIND_BYTES_MAX: usize = 32;
const TIME_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
const VALUE_HEADER_BYTES: usize = CRC_BYTES + 2;

/// Names an entry within its kind; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Tells apart entries of one millisecond, in the order of their appending.
    pub sequence: u64,
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, and which.
    pub id: EntryId,
    /// What it is about.
    pub key: String,
    /// What was seen.
    pub bytes: Vec<u8>,
}

pub(crate) fn validate_kind(kind: &str) -> Result<(), HistoryError> {
    let good = (1..=KIND_BYTES_MAX).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good {
        Ok(())
    } else {
        Err(HistoryError::BadKind { kind: kind.chars().take(KIND_BYTES_MAX).collect() })
    }
}

pub(crate) fn key_of(kind: &str, id: EntryId) -> Vec<u8> {
    let mut key = Vec::with_capacity(kind.len() + 1 + TIME_BYTES);
    key.extend_from_slice(kind.as_bytes());
    key.push(0);
    key.extend_from_slice(&id.timestamp_ms.to_be_bytes());
    key.extend_from_slice(&id.sequence.to_be_bytes());
    key
}

pub(crate) fn encode(stored_key: &[u8], key: &str, bytes: &[u8]) -> Vec<u8> {
    let mut value = vec![0; CRC_BYTES];
    // Appends are refused above HISTORY_VALUE_BYTES_MAX, which is below 64 KiB.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(key.as_bytes());
    value.extend_from_slice(bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(stored_key), &value[CRC_BYTES..]);
    value[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    value
}

pub(crate) fn decode(stored_key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let damaged = || "an entry's checksum does not match its bytes".to_owned();
    let time = stored_key.len().checked_sub(TIME_BYTES).map(|at| &stored_key[at..]).ok_or_else(damaged)?;
    let (header, rest) = value.split_at_checked(VALUE_HEADER_BYTES).ok_or_else(damaged)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(stored_key), &value[CRC_BYTES..]);
    if header[..CRC_BYTES] != crc.to_le_bytes() {
        return Err(damaged());
    }
    let length = usize::from(u16::from_le_bytes([header[CRC_BYTES], header[CRC_BYTES + 1]]));
    let (key, bytes) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let key = String::from_utf8(key.to_vec()).map_err(|error| error.to_string())?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&time[at..at + 8]);
        u64::from_be_bytes(word)
    };
    Ok(Entry { id: EntryId { timestamp_ms: word(0), sequence: word(8) }, key, bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_a_round_trip_and_no_flipped_bit() {
        let id = EntryId { timestamp_ms: 5, sequence: 6 };
        let stored = key_of("observation", id);
        let value = encode(&stored, "eu-west/checkout", b"ok");
        let entry = Entry { id, key: "eu-west/checkout".to_owned(), bytes: b"ok".to_vec() };
        assert_eq!(decode(&stored, &value), Ok(entry));
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&stored, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn kinds_are_short_lowercase_words() {
        assert!(validate_kind("observation").is_ok());
        for bad in ["", "Upper", "a/b", "a\0", "a-kind-with-far-too-many-characters"] {
            assert!(validate_kind(bad).is_err(), "{bad:?}");
        }
    }
}
