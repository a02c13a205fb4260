//! What a record's hash is made of.

use super::AuditRecord;
use crate::text::as_text;
use crate::traffic::Actor;
use schemars::JsonSchema;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Hashed first, so that no other use of SHA-256 gives the hash of a record, nor another form of record.
const DOMAIN: &[u8] = b"drover audit record 1\n";

/// SHA-256 of a record, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct AuditHash([u8; 32]);

as_text!(AuditHash);

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for AuditHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash)?;
        Ok(Self(bytes))
    }
}

/// Every field in its order, numbers in eight bytes and texts after their length: no two records have one encoding.
pub(super) fn of(record: &AuditRecord, previous: Option<AuditHash>) -> AuditHash {
    // By name, so that a new field is not forgotten here.
    let AuditRecord { number, at, epoch, by, verb, subject, reason, outcome, chain: _ } = record;
    let mut encoded = Encoded(Sha256::new_with_prefix(DOMAIN));
    match previous {
        None => encoded.byte(0),
        Some(AuditHash(hash)) => {
            encoded.byte(1);
            encoded.0.update(hash);
        }
    }
    encoded.number(*number);
    encoded.0.update(at.as_millis().to_be_bytes());
    encoded.number(epoch.incarnation);
    encoded.number(epoch.counter);
    match by {
        Actor::Automatic => encoded.byte(0),
        Actor::Person { name, host } => {
            encoded.byte(1);
            encoded.text(name);
            encoded.text(host);
        }
    }
    for text in [verb, subject, reason, outcome] {
        encoded.text(text);
    }
    AuditHash(encoded.0.finalize().into())
}

struct Encoded(Sha256);

impl Encoded {
    fn byte(&mut self, byte: u8) {
        self.0.update([byte]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }
}
