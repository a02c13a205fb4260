//! The contract between drover and any place that keeps its records.

use crate::error::{ReadError, TxnError};
use crate::types::{Committed, Page, Revision, Txn, Versioned};
use crate::watch::Watch;
use async_trait::async_trait;

/// Records under string keys, changed by compare-and-swap transactions alone.
///
/// Every implementation passes `conformance::run_all`. Reads are linearizable: whoever was told `Committed`
/// sees the transaction in every later read. There are no leases: rights are records, and expiry is judged by
/// locally observed time (see `PROTOCOL.md`).
#[async_trait]
pub trait Store: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    /// When the store can't be read, or what it holds is damaged.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError>;

    /// One page of the records whose keys begin with `prefix`, in key order, after `after_key` if given.
    /// `limit` is capped at `LIST_LIMIT_MAX` (zero means that), and a page also ends at `PAGE_BYTES_MAX`.
    ///
    /// # Errors
    /// When the store can't be read, or what it holds is damaged.
    async fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Result<Page, ReadError>;

    /// Commits a transaction. It is durable when this returns `Ok`. Dropping the future does not take a
    /// transaction back: it may commit or not.
    ///
    /// # Errors
    /// See [`TxnError`]; nothing was changed unless it is `Uncertain`.
    async fn txn(&self, txn: Txn) -> Result<Committed, TxnError>;

    /// Changes under `prefix` by transactions later than `after`, in order, without a gap, until the watcher
    /// is told `Lagged` (then: list again, and watch from that page's revision).
    ///
    /// # Errors
    /// When the store is closed or has no place for one more watcher.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, ReadError>;

    /// The latest revision.
    ///
    /// # Errors
    /// When the store can't be read.
    async fn revision(&self) -> Result<Revision, ReadError>;
}
