//! The store on one machine: one redb file, one writer thread, readers beside it.
//!
//! Read `open` for how a file comes to be trusted, `writer` for how a transaction becomes durable.

mod anchor;
mod backend;
mod envelope;
mod failure;
mod lock;
mod migrate;
mod open;
mod report;
mod shared;
mod space;
mod stage;
#[cfg(test)]
mod tests;
mod totals;
mod verify;
mod writer;

pub(crate) use failure::Failure;
pub(crate) use space::{FreeSpace, Statvfs};

pub use report::{Alarm, AnchorCheck, Migrated, OpenError, OpenReport, Options, Stats};

use self::space::Reserve;
use crate::error::{ReadError, TxnError};
use crate::store::Store;
use crate::types::{Committed, Entry, LIST_LIMIT_MAX, PAGE_BYTES_MAX, Page, Revision, Txn, Versioned};
use crate::watch::{WATCHERS_MAX, Watch};
use async_trait::async_trait;
use envelope::Envelope;
use migrate::{FORMATS, Formats};
use open::Paths;
use redb::{ReadTransaction, ReadableDatabase};
use shared::{Shared, locked};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use totals::Totals;
use verify::{META, META_TOTALS, RECORDS};
use writer::{Job, Writer};

/// The embedded implementation of [`Store`].
///
/// Reads run on the caller's thread: they are served from memory or the page cache, are bounded, and never wait for
/// the writer. Dropping the store finishes what is queued and closes the file; `close` does so at a chosen time.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: RwLock<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens or creates the store in the file `path`, and verifies all of it. Beside the file lie `.anchor`, `.lock`
    /// and `.reserve`. Takes seconds for millions of records: call it from a thread that may block.
    ///
    /// # Errors
    /// See [`OpenError`]: each names the file and what to do next, and leaves the file as it was.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(path.as_ref(), options, &FORMATS, Arc::new(Statvfs))
    }

    fn open_with(
        path: &Path,
        options: Options,
        formats: &Formats,
        free_space: Arc<dyn FreeSpace>,
    ) -> Result<(Self, OpenReport), OpenError> {
        let paths = Paths::of(path);
        let (ready, report) = open::open(&paths, &options, formats, free_space)?;
        let (sender, receiver) = mpsc::channel(options.queue_max.max(1));
        let shared = Arc::new(Shared::new(paths, options, &ready));
        let writer = Writer::new(ready, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("drover-store".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|source| OpenError::Io {
                path: path.to_owned(),
                action: "start the writer of",
                source,
            })?;
        let store = Self { shared, queue: RwLock::new(Some(sender)), writer: Mutex::new(Some(thread)) };
        Ok((store, report))
    }

    /// Finishes what is queued, closes the file, and waits for that. Later calls are refused as `Closed`.
    pub fn close(&self) {
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
        let thread = locked(&self.writer).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(path = %self.shared.paths.store.display(), "the store's writer panicked");
        }
    }

    /// Size, room and what needs attention.
    ///
    /// # Errors
    /// When the store is closed or its size can't be read.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        let file = self.shared.database();
        let bytes = match file.as_ref() {
            Some(open) => open.backend.len().map_err(|error| self.failed(&error.to_string()))?,
            None => return Err(self.not_open()),
        };
        let size_alarm_bytes = self.shared.options.size_alarm_bytes;
        let free_bytes = self.shared.free_bytes();
        let alarm = if let Some(reason) = self.shared.stopped() {
            Some(Alarm::Stopped { reason })
        } else if self.shared.reserve.is_missing() {
            Some(Alarm::ReserveGone { reserve_bytes: self.shared.reserve.bytes() })
        } else if let Some(free_bytes) = free_bytes.filter(|free| Reserve::is_low(*free)) {
            Some(Alarm::Full { free_bytes })
        } else if bytes >= size_alarm_bytes {
            Some(Alarm::Large { bytes, size_alarm_bytes })
        } else {
            None
        };
        Ok(Stats { bytes, records: self.shared.records(), free_bytes, alarm })
    }

    /// Runs `work` on a snapshot.
    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Failure>) -> Result<T, ReadError> {
        let file = self.shared.database();
        let Some(open) = file.as_ref() else { return Err(self.not_open()) };
        let result = Failure::catch(|| work(&open.database.begin_read().map_err(Failure::of)?));
        result.map_err(|failure| match failure {
            Failure::Corrupt(detail) => ReadError::Corrupt { path: self.shared.paths.store.clone(), detail },
            other @ (Failure::InUse | Failure::Io(_)) => self.failed(&other.to_string()),
        })
    }

    fn failed(&self, reason: &str) -> ReadError {
        ReadError::Failed { path: self.shared.paths.store.clone(), reason: reason.to_owned() }
    }

    fn not_open(&self) -> ReadError {
        match self.shared.stopped() {
            Some(reason) => self.failed(&reason),
            None => ReadError::Closed,
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.read(|read| {
            let records = read.open_table(RECORDS).map_err(Failure::of)?;
            let stored = records.get(key.as_bytes()).map_err(Failure::of)?;
            stored.map(|stored| decode(key.as_bytes(), stored.value())).transpose()
        })
    }

    async fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Result<Page, ReadError> {
        let limit = if limit == 0 { LIST_LIMIT_MAX } else { limit.min(LIST_LIMIT_MAX) };
        self.read(|read| list(read, prefix, after_key, limit))
    }

    async fn txn(&self, txn: Txn) -> Result<Committed, TxnError> {
        txn.validate()?;
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(queue) = queue else { return Err(TxnError::Closed) };
        let (reply, answer) = oneshot::channel();
        if queue.send(Job { txn, reply }).await.is_err() {
            return Err(TxnError::Closed);
        }
        drop(queue);
        answer
            .await
            .unwrap_or_else(|_| Err(TxnError::Uncertain { reason: "the store's writer ended".to_owned() }))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, ReadError> {
        let mut hub = locked(&self.shared.hub);
        if hub.is_closed() {
            return Err(ReadError::Closed);
        }
        hub.watch(prefix, after).ok_or(ReadError::TooManyWatchers { limit: WATCHERS_MAX })
    }

    async fn revision(&self) -> Result<Revision, ReadError> {
        let hub = locked(&self.shared.hub);
        if hub.is_closed() { Err(ReadError::Closed) } else { Ok(hub.published()) }
    }
}

fn list(read: &ReadTransaction, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
    let meta = read.open_table(META).map_err(Failure::of)?;
    let totals = meta.get(META_TOTALS).map_err(Failure::of)?;
    let totals = totals.and_then(|totals| Totals::decode(totals.value()));
    let totals = totals.ok_or_else(|| Failure::Corrupt("its totals are missing or damaged".to_owned()))?;
    let mut page = Page { items: Vec::new(), revision: totals.revision, next: None };
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
        _ => Bound::Included(prefix.as_bytes()),
    };
    let records = read.open_table(RECORDS).map_err(Failure::of)?;
    let range = records.range::<&[u8]>((start, Bound::Unbounded)).map_err(Failure::of)?;
    let mut bytes = 0;
    for record in range {
        let (key, value) = record.map_err(Failure::of)?;
        if !key.value().starts_with(prefix.as_bytes()) {
            break;
        }
        if page.items.len() >= limit || bytes >= PAGE_BYTES_MAX {
            page.next = page.items.last().map(|entry: &Entry| entry.key.clone());
            break;
        }
        let versioned = decode(key.value(), value.value())?;
        bytes += versioned.value.len();
        let key = String::from_utf8(key.value().to_vec())
            .map_err(|error| Failure::Corrupt(format!("a key is not UTF-8: {error}")))?;
        page.items.push(Entry { key, versioned });
    }
    Ok(page)
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<Versioned, Failure> {
    Envelope::decode(key, bytes)
        .map(Envelope::to_versioned)
        .map_err(|problem| Failure::Corrupt(format!("key {:?}: {problem}", String::from_utf8_lossy(key))))
}
