//! Keys, revisions, transactions and what they answer: plain data, shared by every implementation of `Store`.
//!
//! The limits are those of the narrowest implementation. etcd refuses more than 128 operations a transaction
//! and requests over 1.5 MiB by default, so a transaction that passes here also fits there.

use crate::error::{KeyProblem, Limited, TxnError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value, in bytes: 1 MiB. A journal record is a few hundred bytes, a plan some tens of KiB; one for a thousand
/// services is packed.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most operations, and most compares, in one transaction: etcd's default of 128 (`--max-txn-ops`), less the two that
/// the store adds to each there, the record by which it knows itself and the mark by which a lost answer is found out.
pub const TXN_OPS_MAX: usize = 126;
/// Most bytes of keys and values in one transaction: one largest value and 256 KiB beside it, below etcd's
/// request limit of 1.5 MiB with room for its framing.
pub const TXN_BYTES_MAX: usize = VALUE_BYTES_MAX + (256 << 10);
/// Most records in one page of a list; a larger or zero limit means this.
pub const LIST_LIMIT_MAX: usize = 1000;
/// A page ends early once it holds this many bytes of values: 1000 largest values would be 1 GiB.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// A point in the store's history. Every transaction that changes something has one of its own, later than all before
/// it. It says nothing about their number: in a shared etcd, others' transactions and the store's own count, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A value and the revisions that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes that were put.
    pub value: Vec<u8>,
    /// When the key came to be; a delete and a later put start it anew.
    pub create_revision: Revision,
    /// When the value was last put. Compare with it to swap.
    pub mod_revision: Revision,
}

/// A record in a page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key, prefix included.
    pub key: String,
    /// Its value and revisions.
    pub versioned: Versioned,
}

/// One page of a list: a consistent snapshot at `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Records in the byte order of their keys.
    pub items: Vec<Entry>,
    /// The store's revision that this page shows. Later pages may show later ones.
    pub revision: Revision,
    /// Pass as `after_key` for the next page; `None` when this was the last.
    pub next: Option<String>,
}

/// What a compare demands of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No such key.
    Absent,
    /// Some value.
    Exists,
    /// Exactly the value put at this revision.
    ModRevision(Revision),
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key looked at.
    pub key: String,
    /// What must hold of it.
    pub expect: Expect,
}

impl Compare {
    /// Whether `current` is what this compare demands.
    #[must_use]
    pub fn holds(&self, current: Option<Revision>) -> bool {
        match self.expect {
            Expect::Absent => current.is_none(),
            Expect::Exists => current.is_some(),
            Expect::ModRevision(revision) => current == Some(revision),
        }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a value, creating the key if need be.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key; nothing if there is none.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// A put.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// A delete.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}

/// What a transaction may use when the disk is nearly full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Refused once only the reserve is left. Transactions that only delete are exempt.
    #[default]
    Ordinary,
    /// May use up the reserve: the records of a run that has begun, which must be able to end.
    Journal,
}

/// All compares hold and all operations happen, or none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, checked in this order; the first that fails is reported.
    pub compares: Vec<Compare>,
    /// Changes, each of another key.
    pub ops: Vec<Op>,
    /// What it may use of the reserve.
    pub priority: Priority,
}

impl Txn {
    /// An empty, ordinary transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.compares.push(Compare { key: key.into(), expect });
        self
    }

    /// Adds a change.
    #[must_use]
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.op(Op::put(key, value))
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.op(Op::delete(key))
    }

    /// Lets it use the reserve: see [`Priority::Journal`].
    #[must_use]
    pub fn for_journal(mut self) -> Self {
        self.priority = Priority::Journal;
        self
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let compares: usize = self.compares.iter().map(|compare| compare.key.len()).sum();
        let ops: usize = self.ops.iter().map(|op| op.key().len() + op.value_bytes()).sum();
        compares + ops
    }

    /// Whether it may use the reserve: a journal record, or deletes that make room.
    pub(crate) fn may_use_reserve(&self) -> bool {
        self.priority == Priority::Journal || self.only_deletes()
    }

    pub(crate) fn only_deletes(&self) -> bool {
        self.ops.iter().all(|op| matches!(op, Op::Delete { .. }))
    }

    /// Checks keys and limits, which every implementation must do before anything else.
    ///
    /// # Errors
    /// `TooLarge` with the limit, or `BadKey` with the key and what is wrong with it.
    pub fn validate(&self) -> Result<(), TxnError> {
        within(Limited::Compares, self.compares.len(), TXN_OPS_MAX)?;
        within(Limited::Ops, self.ops.len(), TXN_OPS_MAX)?;
        for compare in &self.compares {
            validate_key(&compare.key).map_err(|problem| bad_key(&compare.key, problem))?;
        }
        let mut changed = BTreeSet::new();
        for op in &self.ops {
            validate_key(op.key()).map_err(|problem| bad_key(op.key(), problem))?;
            within(Limited::Value { key: op.key().to_owned() }, op.value_bytes(), VALUE_BYTES_MAX)?;
            if !changed.insert(op.key()) {
                return Err(bad_key(op.key(), KeyProblem::ChangedTwice));
            }
        }
        within(Limited::Bytes, self.bytes(), TXN_BYTES_MAX)
    }
}

fn within(what: Limited, actual: usize, limit: usize) -> Result<(), TxnError> {
    if actual > limit { Err(TxnError::TooLarge { what, actual, limit }) } else { Ok(()) }
}

fn bad_key(key: &str, problem: KeyProblem) -> TxnError {
    TxnError::BadKey { key: key.chars().take(KEY_BYTES_MAX).collect(), problem }
}

/// Whether a key may be used: not empty, at most [`KEY_BYTES_MAX`] bytes, no control characters.
///
/// # Errors
/// What is wrong with it.
pub fn validate_key(key: &str) -> Result<(), KeyProblem> {
    if key.is_empty() {
        Err(KeyProblem::Empty)
    } else if key.len() > KEY_BYTES_MAX {
        Err(KeyProblem::TooLong { bytes: key.len() })
    } else if key.chars().any(char::is_control) {
        Err(KeyProblem::ControlCharacter)
    } else {
        Ok(())
    }
}

/// A transaction that was made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its revision, the `mod_revision` of every key that it put. A transaction that changed nothing need not have one
    /// of its own, and may report the store's.
    pub revision: Revision,
}

/// One key's change, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has this value now.
    Put(Versioned),
    /// It is gone.
    Deleted,
}

/// All changes of one transaction that a watcher asked for: never a part of them, so that what was written
/// together is seen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The transaction's revision.
    pub revision: Revision,
    /// In the order of the transaction's operations.
    pub changes: Vec<Change>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        assert_eq!(validate_key("traffic/checkout"), Ok(()));
        assert_eq!(validate_key(""), Err(KeyProblem::Empty));
        assert_eq!(validate_key("a\nb"), Err(KeyProblem::ControlCharacter));
        assert_eq!(validate_key(&"k".repeat(513)), Err(KeyProblem::TooLong { bytes: 513 }));
    }

    #[test]
    fn a_transaction_of_deletes_may_use_the_reserve() {
        assert!(Txn::new().delete("a").may_use_reserve());
        assert!(!Txn::new().delete("a").put("b", "x").may_use_reserve());
        assert!(Txn::new().put("b", "x").for_journal().may_use_reserve());
    }
}
