//! Raw observations and transitions, by time: what `explain` and graphs look back on.
//!
//! Nothing is decided from it alone, so it trades safety for cheapness where the store does not: an append returns
//! before anything is on the disk, a crash may lose the last second, and a damaged file is set aside (renamed, loudly)
//! and begun anew. It lives in a file of its own, and stops growing long before the disk is full, so that it can
//! never be what stops the journal.

mod entry;
mod file;
#[cfg(test)]
mod tests;
mod writer;

pub use entry::{Entry, EntryId};

use crate::embedded::{Failure, FreeSpace, Statvfs};
use entry::{decode, key_of, validate_kind};
use file::{Current, ENTRIES};
use redb::ReadableDatabase;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use writer::{Append, Control, Writer};

/// Appends that wait to be written; more are refused.
pub const HISTORY_QUEUE_MAX: usize = 4096;
/// Largest key and value of an entry together, in bytes: a probe's result has some hundred.
pub const HISTORY_VALUE_BYTES_MAX: usize = 16 << 10;
/// Most entries in one answer; a larger or zero limit means this.
pub const HISTORY_RANGE_MAX: usize = 10_000;

/// Settings of a history.
#[derive(Clone, Debug)]
pub struct HistoryOptions {
    /// How long an entry may wait until it is on the disk.
    pub sync_interval: Duration,
    /// With less free on the disk, entries are dropped: the rest is for the journal.
    pub free_bytes_min: u64,
    /// Memory for pages, in bytes.
    pub cache_bytes: usize,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(1),
            // Four times the store's reserve: it stops first, and leaves room to act in.
            free_bytes_min: 64 << 20,
            cache_bytes: 2 << 20,
        }
    }
}

/// What was found at the opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryReport {
    /// Where a damaged file was set aside.
    pub set_aside: Option<PathBuf>,
}

/// What became of the entries since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Written.
    pub written: u64,
    /// Lost: no room, a full queue, or a failing disk.
    pub dropped: u64,
    /// How often a damaged file was set aside.
    pub set_aside: u64,
}

/// Why the history could not do it.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Another process has the file.
    #[error("history {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The writer does not keep up.
    #[error("history takes no more entries now: its queue has its limit of {limit}")]
    Full {
        /// The queue's length.
        limit: usize,
    },
    /// The entry is too large.
    #[error("history entry has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its key and value.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A kind is a short lowercase word.
    #[error("history has no kind {kind:?}: a kind has 1 to 32 lowercase letters, digits or -")]
    BadKind {
        /// The kind given.
        kind: String,
    },
    /// What was read is not what was written. The file is being set aside.
    #[error("history {} is damaged: {detail}; it is set aside and begun anew", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The system refused.
    #[error("can't {action} history {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was closed.
    #[error("the history is closed")]
    Closed,
}

#[derive(Debug, Default)]
struct Counters {
    written: AtomicU64,
    dropped: AtomicU64,
    set_aside: AtomicU64,
}

/// Which way entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// An append-only record of what was seen, by kind and time. Dropping it writes what is queued.
#[derive(Debug)]
pub struct History {
    current: Arc<Current>,
    counters: Arc<Counters>,
    controls: Arc<Mutex<Vec<Control>>>,
    queue: Option<SyncSender<Append>>,
    writer: Option<JoinHandle<()>>,
}

impl History {
    /// Opens or creates the file `path`; a damaged one is set aside.
    ///
    /// # Errors
    /// When another process has it, or the system refuses.
    pub fn open(
        path: impl AsRef<Path>,
        options: HistoryOptions,
    ) -> Result<(Self, HistoryReport), HistoryError> {
        Self::open_on(path.as_ref(), options, Arc::new(Statvfs))
    }

    fn open_on(
        path: &Path,
        options: HistoryOptions,
        free_space: Arc<dyn FreeSpace>,
    ) -> Result<(Self, HistoryReport), HistoryError> {
        let (current, next_sequence, set_aside) = Current::open(path, options.cache_bytes)?;
        let current = Arc::new(current);
        let counters = Arc::new(Counters::default());
        counters.set_aside.store(u64::from(set_aside.is_some()), Ordering::Relaxed);
        let controls = Arc::new(Mutex::new(Vec::new()));
        let (queue, receiver) = sync_channel(HISTORY_QUEUE_MAX);
        let writer = Writer::new(
            Arc::clone(&current),
            Arc::clone(&counters),
            Arc::clone(&controls),
            options,
            free_space,
            next_sequence,
        );
        let thread = std::thread::Builder::new()
            .name("drover-history".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| HistoryError::Io {
                path: path.to_owned(),
                action: "start the writer of",
                source,
            })?;
        let history = Self { current, counters, controls, queue: Some(queue), writer: Some(thread) };
        Ok((history, HistoryReport { set_aside }))
    }

    /// Queues an entry. It can be read some milliseconds later, at the latest after `flush`, and is on the disk after
    /// the sync interval. Never waits.
    ///
    /// # Errors
    /// When the queue is full, or the entry can't be kept.
    pub fn append(&self, kind: &str, timestamp_ms: u64, key: &str, bytes: &[u8]) -> Result<(), HistoryError> {
        validate_kind(kind)?;
        let size = key.len() + bytes.len();
        if size > HISTORY_VALUE_BYTES_MAX {
            return Err(HistoryError::TooLarge { bytes: size, limit: HISTORY_VALUE_BYTES_MAX });
        }
        let append =
            Append::Entry { kind: kind.to_owned(), timestamp_ms, key: key.to_owned(), bytes: bytes.to_vec() };
        let queue = self.queue.as_ref().ok_or(HistoryError::Closed)?;
        match queue.try_send(append) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                Err(HistoryError::Full { limit: HISTORY_QUEUE_MAX })
            }
            Err(TrySendError::Disconnected(_)) => Err(HistoryError::Closed),
        }
    }

    /// Entries of a kind with `from_ms <= timestamp < to_ms`, oldest first, at most `limit` (zero or more than
    /// [`HISTORY_RANGE_MAX`] means that). Continue with `range_after` and the last entry's id.
    ///
    /// # Errors
    /// When it can't be read; a damaged file is then being set aside.
    pub fn range(
        &self,
        kind: &str,
        from_ms: u64,
        to_ms: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, HistoryError> {
        validate_kind(kind)?;
        let from = key_of(kind, EntryId { timestamp_ms: from_ms, sequence: 0 });
        self.read(kind, Bound::Included(from), to_ms, limit)
    }

    /// As `range`, from the entry after `after`.
    ///
    /// # Errors
    /// As `range`.
    pub fn range_after(
        &self,
        kind: &str,
        after: EntryId,
        to_ms: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, HistoryError> {
        validate_kind(kind)?;
        self.read(kind, Bound::Excluded(key_of(kind, after)), to_ms, limit)
    }

    /// Entries of a kind with `from_ms <= timestamp` that come before `before`, newest first, at most `limit`. Continue
    /// with the last entry's id.
    ///
    /// # Errors
    /// As `range`.
    pub fn range_before(
        &self,
        kind: &str,
        from_ms: u64,
        before: EntryId,
        limit: usize,
    ) -> Result<Vec<Entry>, HistoryError> {
        validate_kind(kind)?;
        let from = key_of(kind, EntryId { timestamp_ms: from_ms, sequence: 0 });
        self.read_between(Bound::Included(from), &key_of(kind, before), limit, Order::NewestFirst)
    }

    fn read(
        &self,
        kind: &str,
        start: Bound<Vec<u8>>,
        to_ms: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, HistoryError> {
        let end = key_of(kind, EntryId { timestamp_ms: to_ms, sequence: 0 });
        self.read_between(start, &end, limit, Order::OldestFirst)
    }

    fn read_between(
        &self,
        start: Bound<Vec<u8>>,
        end: &[u8],
        limit: usize,
        order: Order,
    ) -> Result<Vec<Entry>, HistoryError> {
        let limit = if limit == 0 { HISTORY_RANGE_MAX } else { limit.min(HISTORY_RANGE_MAX) };
        let start = start.as_ref().map(Vec::as_slice);
        if let Bound::Included(from) | Bound::Excluded(from) = start
            && from >= end
        {
            return Ok(Vec::new());
        }
        let result = self.current.with(|database| {
            let read = database.begin_read().map_err(Failure::of)?;
            let entries = read.open_table(ENTRIES).map_err(Failure::of)?;
            let mut range = entries.range::<&[u8]>((start, Bound::Excluded(end))).map_err(Failure::of)?;
            let mut found = Vec::new();
            while found.len() < limit {
                let next = match order {
                    Order::OldestFirst => range.next(),
                    Order::NewestFirst => range.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, value) = entry.map_err(Failure::of)?;
                found.push(decode(key.value(), value.value()).map_err(Failure::Corrupt)?);
            }
            Ok(found)
        });
        result.map_err(|failure| {
            if matches!(failure, Failure::Corrupt(_)) {
                self.control(Control::SetAside);
            }
            self.current.error("read", failure)
        })
    }

    /// Removes entries of a kind older than `older_than_ms`, in transactions of bounded size between which appends go
    /// on; how many there were.
    ///
    /// # Errors
    /// When the history is closed or can't be written.
    pub async fn prune(&self, kind: &str, older_than_ms: u64) -> Result<u64, HistoryError> {
        validate_kind(kind)?;
        let mut removed = 0;
        loop {
            let (reply, answer) = oneshot::channel();
            self.control(Control::Prune { kind: kind.to_owned(), older_than_ms, reply });
            let batch = answer.await.map_err(|_| HistoryError::Closed)??;
            removed += batch.removed;
            if !batch.more {
                return Ok(removed);
            }
        }
    }

    /// Waits until all that was appended before is on the disk.
    ///
    /// # Errors
    /// When the history is closed, or an entry was lost since the flush before.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        let (reply, answer) = oneshot::channel();
        self.control(Control::Flush { reply });
        answer.await.map_err(|_| HistoryError::Closed)?
    }

    /// Size of its file, in bytes.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn bytes(&self) -> Result<u64, HistoryError> {
        let path = self.current.path();
        std::fs::metadata(path).map(|m| m.len()).map_err(|source| HistoryError::Io {
            path: path.to_owned(),
            action: "ask the size of",
            source,
        })
    }

    /// What became of the entries.
    #[must_use]
    pub fn stats(&self) -> HistoryStats {
        HistoryStats {
            written: self.counters.written.load(Ordering::Relaxed),
            dropped: self.counters.dropped.load(Ordering::Relaxed),
            set_aside: self.counters.set_aside.load(Ordering::Relaxed),
        }
    }

    fn control(&self, control: Control) {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).push(control);
        // Wakes the writer; if the queue is full it is awake.
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Append::Wake);
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.writer.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.current.path().display(), "the history's writer panicked");
        }
    }
}
