//! Large JSON, packed. A plan for a thousand services, or the world that a decision was made from, says the same names
//! over and over: as it is it would not fit a record, packed it is a fraction of that.
//!
//! Small records stay as they are, so that they can be read at night with any tool.

use lz4_flex::block::{self, DecompressError};
use std::borrow::Cow;
use thiserror::Error;

/// JSON of so many bytes and more is packed.
pub(crate) const PACKED_FROM_BYTES: usize = 64 << 10;
/// Most bytes of JSON in one record: some ten times the largest that this build writes for 10,000 endpoints.
pub const JSON_BYTES_MAX: usize = 64 << 20;
/// The first byte of what is packed. No JSON begins with it.
const PACKED: u8 = 0x01;

/// Why bytes can't be packed or unpacked.
#[derive(Debug, Error)]
pub enum PackError {
    /// It would not be read again.
    #[error("its JSON has {bytes} bytes, {JSON_BYTES_MAX} allowed")]
    TooLarge {
        /// How much it is.
        bytes: usize,
    },
    /// They are not what was packed.
    #[error("its packed bytes are damaged")]
    Damaged(#[from] DecompressError),
}

/// What to store for this JSON.
pub(crate) fn pack(json: Vec<u8>) -> Result<Vec<u8>, PackError> {
    if json.len() < PACKED_FROM_BYTES {
        return Ok(json);
    }
    if json.len() > JSON_BYTES_MAX {
        return Err(PackError::TooLarge { bytes: json.len() });
    }
    let mut packed = block::compress_prepend_size(&json);
    packed.insert(0, PACKED);
    Ok(packed)
}

/// The JSON that was stored so.
pub(crate) fn unpack(stored: &[u8]) -> Result<Cow<'_, [u8]>, PackError> {
    let Some((&PACKED, packed)) = stored.split_first() else { return Ok(Cow::Borrowed(stored)) };
    let (bytes, packed) = block::uncompressed_size(packed)?;
    if bytes > JSON_BYTES_MAX {
        return Err(PackError::TooLarge { bytes });
    }
    Ok(Cow::Owned(block::decompress(packed, bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_json_stays_readable_and_large_json_fits() {
        let small = b"{\"a\":1}".to_vec();
        assert_eq!(pack(small.clone()).unwrap(), small);
        let large = serde_json::to_vec(&vec!["service-00001@region-01"; 100_000]).unwrap();
        let packed = pack(large.clone()).unwrap();
        assert!(packed.len() * 10 < large.len(), "{} of {}", packed.len(), large.len());
        assert_eq!(*unpack(&packed).unwrap(), large);
    }

    #[test]
    fn what_is_too_large_is_refused_before_there_is_memory_for_it() {
        let error = pack(vec![b' '; JSON_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, PackError::TooLarge { .. }), "{error}");
        let mut bomb = vec![PACKED];
        bomb.extend(u32::MAX.to_le_bytes());
        assert!(matches!(unpack(&bomb), Err(PackError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_other_bytes_and_never_a_panic(at in 0usize..4_000, to in any::<u8>(), cut in 0usize..4_000) {
            let json = serde_json::to_vec(&(0..20_000).collect::<Vec<u32>>()).unwrap();
            let mut packed = pack(json).unwrap();
            let at = at % packed.len();
            packed[at] = to;
            packed.truncate(packed.len() - cut % packed.len());
            if let Ok(found) = unpack(&packed) {
                prop_assert!(found.len() <= JSON_BYTES_MAX);
            }
        }
    }
}
