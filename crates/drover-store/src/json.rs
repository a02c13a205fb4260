//! Typed records: JSON in and out of a store, so that no caller hand-rolls it.

use crate::error::ReadError;
use crate::packed::{PackError, pack, unpack};
use crate::store::Store;
use crate::types::{Op, Revision, Txn, Versioned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Most bytes of what is said about a record that can't be decoded.
const ERROR_BYTES_MAX: usize = 300;

/// A record read as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonVersioned<T> {
    /// The decoded value.
    pub value: T,
    /// When the key came to be.
    pub create_revision: Revision,
    /// When it was last put.
    pub mod_revision: Revision,
}

/// Why a typed record can't be read or written.
#[derive(Debug, Error)]
pub enum JsonError {
    /// The store failed.
    #[error("can't read record {key}")]
    Read {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The bytes are not the JSON that was expected.
    #[error("record {key} is not the expected JSON")]
    Decode {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The value has no JSON form, such as a map with keys that are no strings.
    #[error("can't write record {key} as JSON")]
    Encode {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is the JSON that was expected, and says what can't be.
    #[error("record {key} makes no sense: {why}")]
    Odd {
        /// The key.
        key: String,
        /// What can't be.
        why: String,
    },
    /// The JSON is too large, or was packed and is damaged.
    #[error("record {key} can't be packed or unpacked")]
    Pack {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: PackError,
    },
}

/// Reads and decodes the record under a key.
///
/// # Errors
/// When it can't be read or decoded.
pub async fn get_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<JsonVersioned<T>>, JsonError> {
    let found = store.get(key).await.map_err(|source| JsonError::Read { key: key.to_owned(), source })?;
    found.map(|versioned| versioned.decode_json(key)).transpose()
}

impl Versioned {
    /// Decodes the value; `key` is for the error alone.
    ///
    /// # Errors
    /// When the value is not the JSON of a `T`.
    pub fn decode_json<T: DeserializeOwned>(&self, key: &str) -> Result<JsonVersioned<T>, JsonError> {
        let json = unpack(&self.value).map_err(|source| JsonError::Pack { key: key.to_owned(), source })?;
        let value = serde_json::from_slice(&json)
            .map_err(|source| JsonError::Decode { key: key.to_owned(), source: short(source) })?;
        Ok(JsonVersioned { value, create_revision: self.create_revision, mod_revision: self.mod_revision })
    }
}

/// An error names the value that it is about, which may be a megabyte of anything: no log, page or answer gets more than
/// its beginning.
fn short(error: serde_json::Error) -> serde_json::Error {
    let text = error.to_string();
    if text.len() <= ERROR_BYTES_MAX {
        return error;
    }
    let end = (0..=ERROR_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    serde::de::Error::custom(format_args!("{}…", &text[..end]))
}

impl Op {
    /// A put of a value as JSON, packed when it is large.
    ///
    /// # Errors
    /// When the value has no JSON form, or one that is too large.
    pub fn put_json<T: Serialize + ?Sized>(key: impl Into<String>, value: &T) -> Result<Self, JsonError> {
        let key = key.into();
        let json = match serde_json::to_vec(value) {
            Ok(json) => json,
            Err(source) => return Err(JsonError::Encode { key, source }),
        };
        match pack(json) {
            Ok(value) => Ok(Self::Put { key, value }),
            Err(source) => Err(JsonError::Pack { key, source }),
        }
    }
}

impl Txn {
    /// Adds a put of a value as JSON.
    ///
    /// # Errors
    /// As [`Op::put_json`].
    pub fn put_json<T: Serialize + ?Sized>(
        self,
        key: impl Into<String>,
        value: &T,
    ) -> Result<Self, JsonError> {
        Ok(self.op(Op::put_json(key, value)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_hostile_value_is_short() {
        let value = serde_json::to_vec(&"é\n".repeat(200_000)).unwrap();
        let hostile = Versioned { value, create_revision: Revision(1), mod_revision: Revision(1) };
        let JsonError::Decode { source, .. } = hostile.decode_json::<u32>("k").unwrap_err() else { panic!() };
        let told = source.to_string();
        assert!(told.starts_with("invalid type: string"), "{told}");
        assert!(told.len() <= ERROR_BYTES_MAX + "…".len(), "{} bytes", told.len());
    }
}
