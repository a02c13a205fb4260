//! One process a directory, or a socket: an advisory lock on a file of its own.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Held for as long as it lives; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock(File);

/// Why a lock was not taken.
#[derive(Debug)]
pub enum NotLocked {
    /// Somebody has it.
    Held,
    /// The file can't be opened or locked.
    Io(io::Error),
}

impl FileLock {
    /// Takes the lock on this file, which is made where there is none, and never removed: one on a removed file would
    /// exclude no one.
    ///
    /// # Errors
    /// See [`NotLocked`].
    pub fn take(path: &Path) -> Result<Self, NotLocked> {
        let opened = File::options().create(true).truncate(false).write(true).open(path);
        let file = opened.map_err(NotLocked::Io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(NotLocked::Held),
            Err(TryLockError::Error(source)) => Err(NotLocked::Io(source)),
        }
    }
}

/// Said aloud, and not left to the closing of the file: a child that another thread is starting has a copy of the descriptor
/// until it is another program, and the lock would be held as long.
impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a lock ends with its file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_a_starting_child_inherited_holds_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = FileLock::take(&path).unwrap();
        let inherited = lock.0.try_clone().unwrap();
        assert!(matches!(FileLock::take(&path), Err(NotLocked::Held)));
        drop(lock);
        assert!(FileLock::take(&path).is_ok());
        drop(inherited);
    }
}
