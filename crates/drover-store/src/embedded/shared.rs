//! What the writer and the readers of one store share.

use super::backend::BackendHandle;
use super::failure::Failure;
use super::open::{Paths, Ready};
use super::report::Options;
use super::space::Reserve;
use super::verify::Opened;
use crate::watch::Hub;
use redb::Database;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// A store's open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub database: Database,
    pub backend: BackendHandle,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub paths: Paths,
    pub options: Options,
    pub reserve: Arc<Reserve>,
    pub hub: Mutex<Hub>,
    /// Held shared by every reader and by commits, exclusively only while the file is opened or closed.
    file: RwLock<Option<OpenFile>>,
    records: AtomicU64,
    /// Why there are no writes just now.
    stopped: Mutex<Option<String>>,
}

impl Shared {
    /// Without a file yet: see `install`.
    pub fn new(paths: Paths, options: Options, ready: &Ready) -> Self {
        Self {
            paths,
            hub: Mutex::new(Hub::new(ready.totals.revision, options.watch_buffer)),
            options,
            reserve: Arc::clone(&ready.reserve),
            file: RwLock::new(None),
            records: AtomicU64::new(ready.totals.records),
            stopped: Mutex::new(None),
        }
    }

    /// The open file; `None` when closed, or when reopening failed.
    pub fn database(&self) -> RwLockReadGuard<'_, Option<OpenFile>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn install(&self, database: Database, backend: BackendHandle) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Some(OpenFile { database, backend });
    }

    /// Closes the file and opens it anew, while readers wait.
    pub fn reinstall(
        &self,
        open: impl FnOnce() -> Result<Opened, Failure>,
    ) -> Result<BackendHandle, Failure> {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: redb locks it.
        drop(file.take());
        let opened = open()?;
        *file = Some(OpenFile { database: opened.database, backend: opened.backend.clone() });
        Ok(opened.backend)
    }

    pub fn uninstall(&self) -> Option<OpenFile> {
        self.file.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    pub fn set_records(&self, records: u64) {
        self.records.store(records, Ordering::Release);
    }

    pub fn stopped(&self) -> Option<String> {
        locked(&self.stopped).clone()
    }

    pub fn set_stopped(&self, reason: Option<String>) {
        *locked(&self.stopped) = reason;
    }

    /// Free bytes on the store's disk, if the system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        self.reserve.free_bytes()
    }
}

/// Locks a mutex whose data is whole after every statement, so that a panic elsewhere is no reason to stop.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
