//! What a call to etcd can end in, sorted by what may be done next.
//!
//! The one question that counts is whether a transaction may have been applied. etcd says so clearly when it refuses
//! one before it is proposed; every other failure (a timeout, a broken connection, a change of leader) leaves it open.

use crate::error::{ReadError, TxnError};
use std::error::Error;
use thiserror::Error;
use tonic::{Code, Status};

/// Why a store in etcd can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenEtcdError {
    /// The options can't work.
    #[error("the settings of the etcd store can't be used: {problem}")]
    Options {
        /// Which, and what would do.
        problem: String,
    },
    /// No member answers, or there is no quorum.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be begun.
    #[error(transparent)]
    Begin(#[from] TxnError),
    /// Other keys lie under the prefix.
    #[error("{keys} keys that are not drover's lie under {prefix}/: choose another prefix")]
    Foreign {
        /// The prefix.
        prefix: String,
        /// How many.
        keys: i64,
    },
    /// Made by a newer drover, or damaged.
    #[error(
        "the record {key} in etcd is not one that this drover reads ({found}): upgrade drover, or choose another prefix"
    )]
    Format {
        /// The record's key.
        key: String,
        /// What it holds.
        found: String,
    },
    /// The data is in another cluster than the one in which it was begun.
    #[error(
        "this store was begun in etcd cluster {begun:016x}, and {now:016x} answers: it was restored from a snapshot, or the \
         endpoints lead to a copy. Old orders could be given twice from it. If it is the one to go on with, run `drover \
         store export --restored`, and import that under another prefix, which gives it an incarnation of its own"
    )]
    OtherCluster {
        /// In which cluster the store was begun.
        begun: u64,
        /// Which one answered.
        now: u64,
    },
}

/// Why a call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection: the request left this machine on none.
    NotSent(String),
    /// Refused for now, and surely not applied: another attempt may be taken.
    Busy(String),
    /// Whether it was applied is not known.
    Unclear(String),
    /// The answer is larger than this client takes: ask for less.
    TooLargeAnswer(String),
    /// History before some revision is gone.
    Compacted,
    /// The database is at its quota.
    Full,
    /// Refused for good.
    Refused(String),
}

impl Fault {
    /// Reads what a call answered.
    pub(super) fn of(status: &Status) -> Self {
        let told = status.message();
        match status.code() {
            Code::ResourceExhausted if told.contains("database space exceeded") => Self::Full,
            Code::ResourceExhausted if told.contains("too many requests") => Self::Busy(told.to_owned()),
            Code::OutOfRange if told.contains("has been compacted") => Self::Compacted,
            // What this client's own decoder says.
            Code::OutOfRange if told.contains("message length too large") => {
                Self::TooLargeAnswer(told.to_owned())
            }
            Code::InvalidArgument
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::DataLoss
            | Code::Unimplemented => Self::Refused(told.to_owned()),
            _ if was_not_sent(status) => Self::NotSent(told.to_owned()),
            code => Self::Unclear(format!("{code:?}: {told}")),
        }
    }

    /// Whether another attempt, at another member, may do better.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Busy(_) | Self::Unclear(_))
    }

    /// What happened, in words.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::NotSent(told) => format!("no connection: {told}"),
            Self::Busy(told) | Self::Unclear(told) | Self::TooLargeAnswer(told) | Self::Refused(told) => {
                told.clone()
            }
            Self::Compacted => "the history asked for has been compacted".to_owned(),
            Self::Full => "its database is at its quota".to_owned(),
        }
    }

    pub(super) fn into_read_error(self, store: &str) -> ReadError {
        let (store, reason) = (store.to_owned(), self.reason());
        if self.passes() {
            ReadError::Unreachable { store, reason }
        } else {
            ReadError::Refused { store, reason }
        }
    }

    /// For a transaction that surely was not applied.
    pub(super) fn into_txn_error(self, store: &str) -> TxnError {
        let (store, reason) = (store.to_owned(), self.reason());
        match self {
            Self::Full => TxnError::QuotaReached { store },
            fault if fault.passes() => TxnError::Unreachable { store, reason },
            _ => TxnError::Refused { store, reason },
        }
    }
}

/// Whether a connection could not even be made.
fn was_not_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_is_sorted_by_what_may_be_done_next() {
        let of = |code, told: &str| Fault::of(&Status::new(code, told));
        assert_eq!(of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), Fault::Full);
        assert!(matches!(of(Code::ResourceExhausted, "etcdserver: too many requests"), Fault::Busy(_)));
        assert!(matches!(of(Code::InvalidArgument, "etcdserver: request is too large"), Fault::Refused(_)));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Code::OutOfRange, compacted), Fault::Compacted);
        for open in ["etcdserver: request timed out", "etcdserver: leader changed", "etcdserver: no leader"] {
            assert!(matches!(of(Code::Unavailable, open), Fault::Unclear(_)), "{open}");
        }
        assert!(
            matches!(of(Code::Unknown, "transport error"), Fault::Unclear(_)),
            "never taken for a refusal"
        );
    }
}
