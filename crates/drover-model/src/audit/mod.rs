//! The audit: every command, decision and refusal as one numbered record, each holding the hash of the one before it.
//!
//! The hash has no key: whoever may write the store can write another chain from any record on. What the chain gives is
//! that nobody can change, drop, insert or reorder anything without changing every later hash, so that one
//! [`AuditHead`] kept elsewhere vouches for all records up to its number.

mod hash;
#[cfg(test)]
mod tests;
mod verify;

pub use hash::{AuditHash, NotAHash};
pub use verify::{Break, Flaw, Verified, Verifier};

use crate::time::Timestamp;
use crate::traffic::Actor;
use crate::units::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The encoding that this build hashes; a record with more fields has a higher one.
pub const AUDIT_FORM: u16 = 1;

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// From 1; without gaps from the first one on that has a link.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Under which leader.
    pub epoch: Epoch,
    /// Who.
    pub by: Actor,
    /// What was asked or done: `freeze`, `apply`, `approve`.
    pub verb: String,
    /// About what.
    pub subject: String,
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// What came of it.
    pub outcome: String,
    /// Its place in the chain; none in what was written before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Link>,
}

/// A record as it is listed: one that can't be read is told, and keeps nobody from those beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "nearly all are records")]
pub enum AuditItem {
    /// As it was written.
    Record(AuditRecord),
    /// What stands in its place is no record.
    Unreadable {
        /// The number under which it stands.
        number: u64,
        /// Why it can't be read.
        unreadable: String,
    },
}

/// How a record hangs in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// What its hash covers: [`AUDIT_FORM`].
    pub form: u16,
    /// The hash of the record before it; none where the chain begins.
    pub previous: Option<AuditHash>,
    /// Its own, over all of the above.
    pub hash: AuditHash,
}

impl AuditRecord {
    /// The same with its link to the record whose hash is `previous`.
    #[must_use]
    pub fn linked(self, previous: Option<AuditHash>) -> Self {
        let hash = hash::of(&self, previous);
        Self { chain: Some(Link { form: AUDIT_FORM, previous, hash }), ..self }
    }
}

/// The last record of a chain, by which all before it are known: written as `HASH@NUMBER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditHead {
    /// The record's number.
    pub number: u64,
    /// The record's hash.
    pub hash: AuditHash,
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.hash, self.number)
    }
}

/// A head is written otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head is HASH@NUMBER, as `drover audit head` prints it")]
pub struct NotAHead;

impl FromStr for AuditHead {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (hash, number) = text.split_once('@').ok_or(NotAHead)?;
        let number = number.parse().map_err(|_| NotAHead)?;
        Ok(Self { number, hash: hash.parse().map_err(|_| NotAHead)? })
    }
}
