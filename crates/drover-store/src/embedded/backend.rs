//! The store's file as redb sees it: first held, then direct.
//!
//! redb repairs while it opens: it picks a commit slot, rewrites the header, frees pages. On a damaged file that
//! destroys the evidence, and may destroy the copy that could still be saved. So until the store is verified its
//! writes go to memory (`held`), reads see them, and the file stays untouched. Once the store is accepted they are
//! written in their order, syncs included: a crash in between looks to redb like a crash during its own repair.

use super::space::{Reserve, is_out_of_space};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const BLOCK_BYTES: u64 = 4096;
/// A repair rewrites the header and some pages of redb's own tables: a few MiB for a store of many GiB.
const HELD_BYTES_MAX: u64 = 256 << 20;

/// A change of the file; the log keeps owned ones.
#[derive(Debug)]
enum FileOp<Data> {
    Write { offset: u64, data: Data },
    SetLen(u64),
    Sync,
}

impl FileOp<&[u8]> {
    fn to_owned(&self) -> FileOp<Vec<u8>> {
        match self {
            Self::Write { offset, data } => FileOp::Write { offset: *offset, data: data.to_vec() },
            Self::SetLen(len) => FileOp::SetLen(*len),
            Self::Sync => FileOp::Sync,
        }
    }
}

/// What was written while held.
#[derive(Debug)]
struct Held {
    /// The length that redb sees.
    len: u64,
    /// How much of the real file is still visible under the blocks.
    base_len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
    log: Vec<FileOp<Vec<u8>>>,
    log_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    inner: FileBackend,
    held: RwLock<Option<Held>>,
    reserve: Arc<Reserve>,
    failure: Mutex<Option<IoFailure>>,
}

/// The first failure of the system, which redb later calls just "previous".
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoFailure {
    pub kind: io::ErrorKind,
    /// After a failed sync nobody knows what is on the disk.
    pub during_sync: bool,
}

/// redb's end of it.
#[derive(Debug)]
pub(crate) struct HeldBackend(Arc<Shared>);

/// The store's end of it: releases what is held, and knows the first failure.
#[derive(Clone, Debug)]
pub(crate) struct BackendHandle(Arc<Shared>);

impl HeldBackend {
    /// A backend whose writes are held.
    pub fn new(file: File, reserve: Arc<Reserve>) -> io::Result<(Self, BackendHandle)> {
        let len = file.metadata()?.len();
        // Wrapped in a Result by redb's API; it has no way to fail.
        let inner = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        let held = Held { len, base_len: len, blocks: BTreeMap::new(), log: Vec::new(), log_bytes: 0 };
        let shared =
            Arc::new(Shared { inner, held: RwLock::new(Some(held)), reserve, failure: Mutex::new(None) });
        Ok((Self(Arc::clone(&shared)), BackendHandle(shared)))
    }
}

impl BackendHandle {
    /// Writes to the file what was held, and holds no more. On an error all is still held: reads go on, and it
    /// can be tried again, since the same writes in the same order give the same file.
    pub fn release(&self) -> io::Result<()> {
        let mut held = self.0.held_mut();
        let Some(pending) = held.as_ref() else { return Ok(()) };
        for op in &pending.log {
            self.0.apply(op)?;
        }
        self.0.inner.sync_data()?;
        *held = None;
        Ok(())
    }

    /// The first I/O failure since it was opened.
    pub fn failure(&self) -> Option<IoFailure> {
        *self.0.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the file as redb sees it.
    pub fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Shared {
    fn held(&self) -> RwLockReadGuard<'_, Option<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Option<Held>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> io::Result<u64> {
        match self.held().as_ref() {
            Some(held) => Ok(held.len),
            None => self.inner.len(),
        }
    }

    /// One write to the real file. When there is no room the reserve is given up, then tried once more: failing
    /// in the middle of a commit costs a reopening.
    fn apply<Data: AsRef<[u8]>>(&self, op: &FileOp<Data>) -> io::Result<()> {
        let once = || match op {
            FileOp::Write { offset, data } => self.inner.write(*offset, data.as_ref()),
            FileOp::SetLen(len) => self.inner.set_len(*len),
            FileOp::Sync => self.inner.sync_data(),
        };
        let result = if self.reserve.is_at_floor() && !matches!(op, FileOp::Sync) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            once()
        };
        match result {
            // Not a sync: after one failed, the system may have dropped the pages that it could not write.
            Err(error)
                if is_out_of_space(error.kind()) && !matches!(op, FileOp::Sync) && self.reserve.release() =>
            {
                once()
            }
            result => result,
        }
    }

    fn write(&self, op: &FileOp<&[u8]>) -> io::Result<()> {
        // The common path takes the lock shared: writers don't stop readers.
        if self.held().is_none() {
            return self.apply_noted(op);
        }
        let mut held = self.held_mut();
        match held.as_mut() {
            Some(held) => held.write(&self.inner, op),
            None => self.apply_noted(op),
        }
    }

    fn apply_noted(&self, op: &FileOp<&[u8]>) -> io::Result<()> {
        self.noted(self.apply(op), matches!(op, FileOp::Sync))
    }

    fn noted(&self, result: io::Result<()>, during_sync: bool) -> io::Result<()> {
        if let Err(error) = &result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(IoFailure { kind: error.kind(), during_sync });
        }
        result
    }
}

impl Held {
    fn write(&mut self, inner: &FileBackend, op: &FileOp<&[u8]>) -> io::Result<()> {
        match op {
            FileOp::Write { offset, data } => {
                self.log_bytes += data.len() as u64;
                if self.log_bytes > HELD_BYTES_MAX {
                    return Err(io::Error::other(format!(
                        "the repair writes more than its limit of {HELD_BYTES_MAX} bytes"
                    )));
                }
                self.write_blocks(inner, *offset, data)?;
            }
            FileOp::SetLen(len) => self.set_len(*len),
            FileOp::Sync => {}
        }
        self.log.push(op.to_owned());
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.base_len = self.base_len.min(len);
            self.blocks.retain(|block, _| block * BLOCK_BYTES < len);
            // What is cut off must read as zeros if the file grows again.
            let cut = (len % BLOCK_BYTES) as usize;
            if cut != 0
                && let Some(last) = self.blocks.get_mut(&(len / BLOCK_BYTES))
            {
                last[cut..].fill(0);
            }
        }
        self.len = len;
    }

    fn write_blocks(&mut self, inner: &FileBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let block = at / BLOCK_BYTES;
            let within = (at % BLOCK_BYTES) as usize;
            let count = (BLOCK_BYTES as usize - within).min(data.len() - done);
            if !self.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
                self.read_base(inner, block * BLOCK_BYTES, &mut bytes)?;
                self.blocks.insert(block, bytes);
            }
            if let Some(bytes) = self.blocks.get_mut(&block) {
                bytes[within..within + count].copy_from_slice(&data[done..done + count]);
            }
            done += count;
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn read(&self, inner: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        let Some(end) = end else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "read beyond the end of the store"));
        };
        self.read_base(inner, offset, out)?;
        for (block, bytes) in self.blocks.range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)) {
            let start = block * BLOCK_BYTES;
            let from = offset.max(start);
            let to = end.min(start + BLOCK_BYTES);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    /// The file under the blocks, zeros beyond its end.
    fn read_base(&self, inner: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.base_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (file, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if file.is_empty() { Ok(()) } else { inner.read(offset, file) }
    }
}

impl StorageBackend for HeldBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.held().as_ref() {
            Some(held) => held.read(&self.0.inner, offset, out),
            None => self.0.noted(self.0.inner.read(offset, out), false),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.write(&FileOp::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.write(&FileOp::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(&FileOp::Write { offset, data })
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::space::Statvfs;
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_u64, prop::collection::vec(any::<u8>(), 1..6000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0..24_000_u64).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn held_writes_read_back_leave_the_file_alone_and_land_on_release(steps in prop::collection::vec(step(), 0..12)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let before: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
            std::fs::write(&path, &before).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let reserve = Arc::new(Reserve::new(directory.path().join("reserve"), 0, Arc::new(Statvfs)));
            let (backend, handle) = HeldBackend::new(file, reserve).unwrap();
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].copy_from_slice(&data);
                        backend.write(at, &data).unwrap();
                    }
                    Step::SetLen(len) => {
                        model.resize(len as usize, 0);
                        backend.set_len(len).unwrap();
                    }
                }
            }
            let mut read = vec![0; model.len()];
            backend.read(0, &mut read).unwrap();
            prop_assert!(read == model, "reads see what was written");
            prop_assert!(backend.read(1, &mut read).is_err() || model.is_empty());
            prop_assert!(std::fs::read(&path).unwrap() == before, "the file is untouched");
            handle.release().unwrap();
            prop_assert!(std::fs::read(&path).unwrap() == model, "and then has it all");
        }
    }
}
