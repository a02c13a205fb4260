//! The words of a publication: what is asked for, what was done, and why not.

use std::fmt;

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::seal::{Seal, SealError};
use super::{CHANGES_PER_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX, StateFileError};
use crate::zone::{InvalidRecordSet, InvalidSnapshot, RecordKey, RecordSet, RecordType};

/// Changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Under whose command (I3). An older one than the receiver has seen is refused.
    pub epoch: Epoch,
    /// Names this write for whoever reads the log of applied changes. Repeating a write is harmless by its
    /// content, not by its key: see [`Change`].
    pub idempotency_key: String,
    /// The changes; no record set twice.
    pub changes: Vec<Change>,
}

/// A batch as it is sent: with the signatures over it, where its sender has a key.
#[derive(Debug, Serialize)]
pub(crate) struct SentBatchView<'b> {
    #[serde(flatten)]
    pub(crate) batch: &'b Batch,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) seals: &'b [Seal],
}

/// The same as it is received: `flatten` would let unknown fields pass.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentBatch {
    epoch: Epoch,
    idempotency_key: String,
    changes: Vec<Change>,
    #[serde(default)]
    seals: Vec<Seal>,
}

impl SentBatch {
    pub(crate) fn into_parts(self) -> (Batch, Vec<Seal>) {
        let Self { epoch, idempotency_key, changes, seals } = self;
        (Batch { epoch, idempotency_key, changes }, seals)
    }
}

/// One change, with the state that it was decided upon.
///
/// A put whose record set is live already at its generation is done: repeating a write changes nothing. A
/// late duplicate of a write that was overtaken meets another generation than it expects, and is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Create or replace a record set.
    Put {
        /// The generation that is live now; none: the set must not exist.
        expected_generation: Option<u64>,
        /// What shall be live; its generation must be above the expected one. Its epoch is overwritten with
        /// the batch's.
        record_set: RecordSet,
        /// Take the set from another owner, knowingly.
        #[serde(default)]
        take_over: bool,
    },
    /// Remove a record set; its name answers "no such name" afterwards. Never part of moving traffic.
    Delete {
        /// The generation that is live now.
        expected_generation: u64,
        /// The owner name.
        name: String,
        /// The type.
        rtype: RecordType,
    },
}

impl Change {
    /// What it puts; a deletion puts nothing.
    #[must_use]
    pub const fn put(&self) -> Option<&RecordSet> {
        match self {
            Self::Put { record_set, .. } => Some(record_set),
            Self::Delete { .. } => None,
        }
    }

    /// Which record set it changes; nothing where the name is none.
    #[must_use]
    pub fn key(&self) -> Option<RecordKey> {
        match self {
            Self::Put { record_set, .. } => record_set.key(),
            Self::Delete { name, rtype, .. } => Some(RecordKey::new(name.parse().ok()?, *rtype)),
        }
    }

    /// What the change expects to find.
    #[must_use]
    pub const fn expected_generation(&self) -> Option<u64> {
        match self {
            Self::Put { expected_generation, .. } => *expected_generation,
            Self::Delete { expected_generation, .. } => Some(*expected_generation),
        }
    }
}

/// What a publication led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Published {
    /// At least one record set changed.
    Changed {
        /// The snapshot's generation that shows it.
        generation: u64,
    },
    /// Everything was as asked for already.
    Unchanged {
        /// The snapshot's generation.
        generation: u64,
    },
}

/// A batch that changed something, as the instance remembers it. Kept in the same file as the state, so that
/// it is exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedBatch {
    /// The snapshot's generation that it made.
    pub generation: u64,
    /// When, in milliseconds since 1970, by this machine's clock.
    pub applied_unix_milliseconds: u64,
    /// Under whose command.
    pub epoch: Epoch,
    /// The batch's key.
    pub idempotency_key: String,
    /// What changed; changes that were done already are left out.
    pub changes: Vec<AppliedChange>,
}

/// One record set's step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedChange {
    /// Which set.
    pub key: RecordKey,
    /// Its generation before; none: it did not exist.
    pub from_generation: Option<u64>,
    /// Its generation after; none: it is gone.
    pub to_generation: Option<u64>,
}

/// A record set that is not as a change expected it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conflict {
    /// Which set.
    pub key: RecordKey,
    /// The generation that was expected; none: no such set.
    pub expected_generation: Option<u64>,
    /// What is live; none: no such set.
    pub current: Option<RecordSet>,
}

/// Why an epoch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceReason {
    /// A later leader has written.
    Older,
    /// The epoch comes from another store incarnation; it must be adopted first.
    OtherIncarnation,
}

impl fmt::Display for FenceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Older => "a later leader has written",
            Self::OtherIncarnation => "it is of another store incarnation, which must be adopted first",
        })
    }
}

/// Why a batch was not published. Nothing of it is visible, except after `NotDurable`.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The epoch is not the one in command (I3).
    #[error("cannot publish under epoch {given}: {reason} (highest seen {highest})")]
    Fenced {
        /// The batch's epoch.
        given: Epoch,
        /// The highest that this instance has seen.
        highest: Epoch,
        /// Why.
        reason: FenceReason,
    },
    /// At least one record set is not as expected.
    #[error("cannot publish: {} record sets are not at the expected generation, first {}", .0.len(),
        .0.first().map_or_else(String::new, |conflict| conflict.key.to_string()))]
    Conflict(Vec<Conflict>),
    /// A record set belongs to somebody else.
    #[error("cannot change {key}: it belongs to \"{owner}\"; say take_over to take it")]
    OwnedByOther {
        /// Which set.
        key: RecordKey,
        /// Whose it is.
        owner: String,
    },
    /// The new generation is not above the expected one.
    #[error("cannot publish {key} at generation {wanted}: it must be above {current}")]
    GenerationNotRaised {
        /// Which set.
        key: RecordKey,
        /// What was asked for.
        wanted: u64,
        /// What is live.
        current: u64,
    },
    /// Nobody who is trusted signed it, or something else.
    #[error("cannot publish the batch: {0}")]
    NotSigned(#[source] SealError),
    /// It was signed before what is live.
    #[error("cannot publish {key} as of zone generation {given}: what is live was signed later, at {held}")]
    Backwards {
        /// Which set.
        key: RecordKey,
        /// The batch's zone generation.
        given: u64,
        /// That of what is live.
        held: u64,
    },
    /// The batch is empty, too large, or names a record set twice.
    #[error(
        "cannot publish the batch: {0}; a batch has 1 to {CHANGES_PER_BATCH_MAX} changes, each to \
         another record set, and a key of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes"
    )]
    Malformed(String),
    /// A record set may not be published.
    #[error("cannot publish the batch")]
    InvalidRecordSet(#[source] InvalidRecordSet),
    /// The record sets may not stand together.
    #[error("cannot publish the batch")]
    InvalidSnapshot(#[source] InvalidSnapshot),
    /// The state could not be written; nothing changed.
    #[error("cannot publish the batch: the state was not written, nothing changed")]
    NotWritten(#[source] StateFileError),
    /// The state was written and is live, but may not survive a power failure. Repeat the batch.
    #[error("cannot tell whether the batch is durable: it is live; repeat it")]
    NotDurable(#[source] StateFileError),
}
