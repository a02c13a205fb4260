//! Room on the disk, and the reserve kept for the time when there is none.
//!
//! A run that has moved half of the traffic must be able to journal the other half, though something has filled
//! the disk. So a ballast file holds some room, and is given up for exactly that: ordinary transactions are
//! refused first, journal records then have the reserve to themselves.

use crate::types::Txn;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every batch may cost whatever is in it: totals, redb's own tables and headers, a growing page directory.
const BATCH_BASE_BYTES: u64 = 1 << 20;
/// A changed record rewrites its leaf page and, shared with others, the pages above: two pages of 4 KiB.
const OP_BYTES: u64 = 8 << 10;
/// Kept free for the journal on top of what an ordinary batch needs.
const LOW_WATER_BYTES: u64 = 4 << 20;

/// Below this only deletes and redb's repair write: a store that has filled its disk to the last block could neither
/// be repaired nor emptied.
const FLOOR_BYTES: u64 = 512 << 10;

/// What is in a batch, for an upper bound of the room that it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    ops: u64,
    bytes: u64,
}

impl Load {
    /// The batch with one more transaction.
    #[must_use]
    pub fn with(self, txn: &Txn) -> Self {
        Self { ops: self.ops + txn.ops.len() as u64, bytes: self.bytes + txn.bytes() as u64 }
    }

    /// What it may write to new places. Values count twice: redb rounds them up to powers of two.
    pub fn needed_bytes(self) -> u64 {
        BATCH_BASE_BYTES + 2 * self.bytes + OP_BYTES * self.ops
    }
}

/// Asks for the free bytes of the disk that holds a path. A trait so that a test can have a full disk.
pub(crate) trait FreeSpace: Send + Sync + std::fmt::Debug {
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The real answer. Blocks reserved for root don't count.
#[derive(Debug)]
pub(crate) struct Statvfs;

impl FreeSpace for Statvfs {
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        // The fields' widths differ between platforms.
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
        Ok(free)
    }
}

/// Whether an error means that there is no room: disk, quota or the process's file size limit.
pub(crate) fn is_out_of_space(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// How much room a batch finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For everybody.
    Ample,
    /// For those alone who may use the reserve. The free bytes, the reserve not counted.
    ReserveOnly(u64),
}

/// The ballast file, and how far down the disk may be filled.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: AtomicBool,
    free_space: Arc<dyn FreeSpace>,
    /// Free bytes that are not to be used; zero when all may be.
    floor: AtomicU64,
}

impl Reserve {
    /// Nothing is on disk until `fill`.
    pub fn new(path: PathBuf, bytes: u64, free_space: Arc<dyn FreeSpace>) -> Self {
        Self { path, bytes, held: AtomicBool::new(false), free_space, floor: AtomicU64::new(0) }
    }

    /// Free bytes on its disk, if the system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.free_space.free_bytes(directory.unwrap_or(Path::new("."))).ok()
    }

    /// While frugal, nothing is written once the disk is filled down to the floor, or, if it already is, any further:
    /// what finds room inside the file goes on.
    pub fn set_frugal(&self, frugal: bool) {
        let floor = if frugal { self.free_bytes().unwrap_or(0).min(FLOOR_BYTES) } else { 0 };
        self.floor.store(floor, Ordering::Release);
    }

    /// Whether a write is refused before the disk would refuse it.
    pub fn is_at_floor(&self) -> bool {
        let floor = self.floor.load(Ordering::Acquire);
        floor > 0 && self.free_bytes().is_some_and(|free| free < floor)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether not even the smallest ordinary batch finds room.
    pub fn is_low(free: u64) -> bool {
        free < Load::default().needed_bytes() + LOW_WATER_BYTES
    }

    /// Whether a reserve was asked for and is not there.
    pub fn is_missing(&self) -> bool {
        self.bytes > 0 && !self.held.load(Ordering::Acquire)
    }

    /// Takes the file that is there for a whole reserve.
    pub fn adopt(&self) {
        self.held.store(self.bytes > 0, Ordering::Release);
    }

    /// Makes the file, with real blocks behind it.
    pub fn fill(&self) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        let length = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        if let Err(error) = nix::fcntl::posix_fallocate(&file, 0, length) {
            // Half a reserve would be taken for a whole one at the next start.
            drop(file);
            fs::remove_file(&self.path)?;
            return Err(error.into());
        }
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives the room up; `true` if there was some to give.
    pub fn release(&self) -> bool {
        if !self.held.swap(false, Ordering::AcqRel) {
            return false;
        }
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::error!(
                    path = %self.path.display(), bytes = self.bytes,
                    "the disk is full: gave up the reserve so that the journal can go on; free some space"
                );
                true
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the disk is full, and the reserve can't be removed");
                false
            }
        }
    }

    /// How much room there is for a batch that may need `needed` bytes, given the free bytes. Makes the reserve
    /// anew when it was given up and there is plenty again.
    pub fn room(&self, needed: u64, free: u64) -> Room {
        if free < needed.saturating_add(LOW_WATER_BYTES) {
            return Room::ReserveOnly(free);
        }
        if self.is_missing() && free >= needed + 2 * (LOW_WATER_BYTES + self.bytes) {
            match self.fill() {
                Ok(()) => tracing::info!(path = %self.path.display(), "made the reserve anew"),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "can't make the reserve anew")
                }
            }
        }
        Room::Ample
    }
}
