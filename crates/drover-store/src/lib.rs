//! Drover's records: transactional, on one machine or in an etcd cluster.
//!
//! Four parts, each usable alone:
//! - [`Store`]: compare-and-swap transactions over string keys, prefix lists and watches. What a coordinator
//!   commits here (journal, approvals, targets) is what it may act on.
//! - [`EmbeddedStore`]: the implementation for one machine, one file, group commit, and a file that is read
//!   and verified in full before the first byte of it is trusted or changed.
//! - [`EtcdStore`]: the implementation in a cluster, whose loss of any minority of members is the loss of nothing.
//! - [`History`]: raw observations and transitions by time. It may lose its last second and may be set aside
//!   when damaged, because nothing is decided from it alone; so it has its own file, and never blocks the journal.
//!
//! The hard case is damage that looks like health: a file with a flipped bit that opens as an older but
//! consistent state. `embedded::open` says how each such case is told apart.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod error;
mod etcd;
mod history;
mod json;
mod packed;
mod portable;
mod store;
mod types;
mod watch;

pub use embedded::{Alarm, AnchorCheck, EmbeddedStore, Migrated, OpenError, OpenReport, Options, Stats};
pub use error::{KeyProblem, Limited, ReadError, TxnError};
pub use etcd::{
    Compacted, ETCD_ENDPOINTS_MAX, ETCD_PREFIX_BYTES_MAX, EtcdOptions, EtcdReport, EtcdStore, OpenEtcdError,
};
pub use history::{
    Entry as HistoryEntry, EntryId, HISTORY_QUEUE_MAX, HISTORY_RANGE_MAX, HISTORY_VALUE_BYTES_MAX, History,
    HistoryError, HistoryOptions, HistoryReport, HistoryStats,
};
pub use json::{JsonError, JsonVersioned, get_json};
pub use packed::{JSON_BYTES_MAX, PackError};
pub use portable::{EXPORT_FORMAT, ExportEnd, ExportError, ExportHeader, Exported, Exporter, Importer};
pub use store::Store;
pub use types::{
    Change, ChangeKind, Changes, Committed, Compare, Entry, Expect, KEY_BYTES_MAX, LIST_LIMIT_MAX, Op,
    PAGE_BYTES_MAX, Page, Priority, Revision, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, VALUE_BYTES_MAX, Versioned,
    validate_key,
};
pub use watch::{WATCH_BUFFER, Watch, WatchItem, WatchSender};
