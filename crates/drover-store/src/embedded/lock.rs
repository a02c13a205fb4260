//! One process a store: an advisory lock on a file beside it, which also names its holder.
//!
//! Not on the store's own file: that one may be replaced by a restored copy while nobody holds it, and a lock on
//! the replaced inode would exclude no one. The lock file is never removed, for the same reason.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Held while the store is open; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
}

/// Said aloud, and not left to the closing of the file: a child process that is just being started holds a copy of the
/// descriptor until it becomes its own program, and with it a lock that only closing would end.
impl Drop for StoreLock {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the store's lock ends with its file");
        }
    }
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody has it; the process id if the file tells.
    Held(Option<u32>),
    Io(io::Error),
}

impl StoreLock {
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The name of the holder is a courtesy: on a full disk the lock holds without it.
        if let Err(error) = write_holder(&mut file) {
            tracing::warn!(path = %path.display(), %error, "can't write the process id into the lock file");
        }
        Ok(Self { file })
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    // Fixed width, overwritten in place: a reader never sees a mix of two lengths.
    file.write_all(format!("{:>10}\n", std::process::id()).as_bytes())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_a_starting_child_inherited_holds_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.lock");
        let lock = StoreLock::acquire(&path).unwrap();
        let inherited = lock.file.try_clone().unwrap();
        assert!(matches!(StoreLock::acquire(&path), Err(LockError::Held(Some(_)))));
        drop(lock);
        assert!(StoreLock::acquire(&path).is_ok());
        drop(inherited);
    }
}
