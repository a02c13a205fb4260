//! What reading and committing can answer instead of success.

use crate::types::{KEY_BYTES_MAX, Revision, Versioned};
use std::path::PathBuf;
use thiserror::Error;

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyProblem {
    /// A key has at least one character.
    #[error("it is empty")]
    Empty,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("it has {bytes} bytes, the limit is {KEY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Control characters would break logs and tables.
    #[error("it has a control character")]
    ControlCharacter,
    /// Two operations of one transaction on one key have no defined order in every implementation.
    #[error("the transaction changes it twice")]
    ChangedTwice,
}

/// Which limit a transaction is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Limited {
    /// The value of one key, in bytes.
    #[error("the value of {key} in bytes")]
    Value {
        /// The key.
        key: String,
    },
    /// The number of operations.
    #[error("its number of operations")]
    Ops,
    /// The number of compares.
    #[error("its number of compares")]
    Compares,
    /// All keys and values together, in bytes.
    #[error("its keys and values in bytes")]
    Bytes,
}

/// Why a transaction did not commit. In every case but `Uncertain` nothing of it is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxnError {
    /// A compare did not hold.
    #[error("compare failed on {key}: {}", describe(.current.as_ref()))]
    Conflict {
        /// The key of the first compare that failed.
        key: String,
        /// What the key holds now.
        current: Option<Versioned>,
    },
    /// Over a limit.
    #[error("transaction is too large: {what} is {actual}, the limit is {limit}")]
    TooLarge {
        /// Which limit.
        what: Limited,
        /// What the transaction has.
        actual: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A key that can't be used.
    #[error("transaction has an unusable key {key:?}: {problem}")]
    BadKey {
        /// The key, cut to the longest one allowed.
        key: String,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// The disk has no room for it. Free some and try again; reading goes on.
    #[error(
        "no room for the transaction in {}: it may need {needed_bytes} bytes, the disk has {free_bytes} free; free some \
         space",
        path.display()
    )]
    OutOfSpace {
        /// The store's file.
        path: PathBuf,
        /// An upper bound of what the transaction may take.
        needed_bytes: u64,
        /// Free on that disk, when asked.
        free_bytes: u64,
    },
    /// The database of the store is at its quota. Reading and deleting go on.
    #[error(
        "no room for the transaction in {store}: its database is at its quota; `etcdctl endpoint status --cluster -w table` \
         says how large it is, `etcdctl defrag --cluster` and then `etcdctl alarm disarm` make room"
    )]
    QuotaReached {
        /// The store.
        store: String,
    },
    /// No member of the store took it within the time for a call.
    #[error(
        "can't reach the store {store}: {reason}; `etcdctl endpoint health --cluster` says which members are there"
    )]
    Unreachable {
        /// The store.
        store: String,
        /// What the last attempt ended in.
        reason: String,
    },
    /// The store refused it, for a reason that another attempt does not change.
    #[error("the store {store} refused the transaction: {reason}")]
    Refused {
        /// The store.
        store: String,
        /// What it said.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store stopped itself after a failure, and takes no writes until it is opened again.
    #[error("store {} takes no writes since a failure: {reason}", path.display())]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// It may have been committed or not. Read the keys before trying again.
    #[error("the outcome of the transaction is not known: {reason}")]
    Uncertain {
        /// Why not.
        reason: String,
    },
}

fn describe(current: Option<&Versioned>) -> String {
    match current {
        Some(versioned) => {
            format!("it was last written at revision {}", versioned.mod_revision)
        }
        None => "there is no such key".to_owned(),
    }
}

impl TxnError {
    /// The current `mod_revision` told by a conflict; `None` if the key is absent or this is another error.
    #[must_use]
    pub fn conflict_revision(&self) -> Option<Revision> {
        match self {
            Self::Conflict { current, .. } => current.as_ref().map(|versioned| versioned.mod_revision),
            _ => None,
        }
    }
}

/// Why reading failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// What was read is not what was written.
    #[error("store {} is damaged: {detail}; stop drover and check the disk", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The read itself failed.
    #[error("can't read store {}: {reason}", path.display())]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// The failure.
        reason: String,
    },
    /// No member of the store answered within the time for a call.
    #[error(
        "can't reach the store {store}: {reason}; `etcdctl endpoint health --cluster` says which members are there"
    )]
    Unreachable {
        /// The store.
        store: String,
        /// What the last attempt ended in.
        reason: String,
    },
    /// The store refused to be read, for a reason that another attempt does not change.
    #[error("the store {store} can't be read: {reason}")]
    Refused {
        /// The store.
        store: String,
        /// What it said.
        reason: String,
    },
    /// More watchers than the store serves.
    #[error("can't watch: the store already has its limit of {limit} watchers")]
    TooManyWatchers {
        /// How many are allowed.
        limit: usize,
    },
}
