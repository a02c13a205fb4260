//! Digests and signatures as they are written down: hexadecimal.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::zone::{RecordKey, ValidRecordSet};

/// Keeps digests of record sets apart from those of anything else.
const PUT_FORM: &[u8] = b"drover dns put 1\n";
const REMOVED_FORM: &[u8] = b"drover dns removed 1\n";

/// SHA-256 of a change, as it is published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

impl Digest {
    /// Of a record set with all that is said of it, its epoch and generation included.
    #[must_use]
    pub fn of(set: &ValidRecordSet) -> Self {
        // Texts and numbers: nothing that JSON can't say. What a later version adds to a record set is signed with it.
        let json = serde_json::to_vec(set.document()).unwrap_or_default();
        Self(Sha256::new().chain_update(PUT_FORM).chain_update(json).finalize().into())
    }

    /// Of there being no such record set any more.
    #[must_use]
    pub fn of_removed(key: &RecordKey) -> Self {
        Self(Sha256::new().chain_update(REMOVED_FORM).chain_update(key.to_string()).finalize().into())
    }

    /// Of something else, whose form keeps it apart from all others.
    pub(crate) fn over(form: &[u8], bytes: &[u8]) -> Self {
        Self(Sha256::new().chain_update(form).chain_update(bytes).finalize().into())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Signature {
    pub(super) const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Default for Signature {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// So many bytes in hexadecimal.
pub(super) fn unhex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(format!("{} hexadecimal digits are needed", 2 * N)),
    }
}

macro_rules! written_in_hex {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                unhex(&text).map(Self)
            }
        }

        impl From<$type> for String {
            fn from(bytes: $type) -> Self {
                hex::encode(bytes.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    };
}

written_in_hex!(Digest);
written_in_hex!(Signature);
