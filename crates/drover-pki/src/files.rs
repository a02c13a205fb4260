//! Files that change under a running program: by what a change is known, and a value that is made of them anew.

use crate::error::PkiError;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a file is looked at, at most: one look then serves a thousand connections, and a new certificate counts soon enough.
pub const FILES_CHECKED_EVERY: Duration = Duration::from_secs(1);

/// Longest certificate, key or revocation file, in bytes; the system's whole bundle has some 250 KiB, and 4 MiB hold 100,000
/// revoked certificates.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// By what a changed file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified_seconds: i64,
    modified_nanos: i64,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// Of a file that was looked at.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        Self {
            modified_seconds: meta.mtime(),
            modified_nanos: meta.mtime_nsec(),
            bytes: meta.len(),
            inode: meta.ino(),
        }
    }
}

/// A file's bytes, when it is no longer than one may be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let failed = |source| PkiError::File { what: "read", path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > PEM_BYTES_MAX {
        return Err(PkiError::TooLong { path: path.to_owned(), limit_bytes: PEM_BYTES_MAX });
    }
    std::fs::read(path).map_err(failed)
}

/// May everybody read or write it? Then it is no secret any more. A group may, which is how packaged services get at theirs.
#[must_use]
pub fn is_open_to_all(meta: &Metadata) -> bool {
    const OTHERS: u32 = 0o007;
    meta.permissions().mode() & OTHERS != 0
}

/// A private key's bytes, unless it is none any more, which is worth a refusal.
pub(crate) fn read_key(path: &Path) -> Result<Vec<u8>, PkiError> {
    if std::fs::metadata(path).is_ok_and(|meta| is_open_to_all(&meta)) {
        return Err(PkiError::KeyOpenToAll { path: path.to_owned() });
    }
    read(path)
}

type Make<T> = dyn Fn() -> Result<T, PkiError> + Send + Sync;

/// A value that is made of files, and made again when one of them changed.
///
/// What can't be used never replaces what can: a renewal that went wrong is told, and the old certificate goes on until it
/// ends. The files are looked at by whoever asks and in his own time; that is a few system calls a second at most, on
/// files of some kilobytes, and needs no task of its own that could die unnoticed.
pub struct Watched<T> {
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    stamps: Vec<Option<Stamp>>,
    looked_at: Instant,
    value: Arc<T>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, PkiError> + Send + Sync + 'static,
    ) -> Result<Self, PkiError> {
        // Before they are read: what changes meanwhile is then seen to have changed.
        let stamps = stamps(&files);
        let held = Held { stamps, looked_at: Instant::now(), value: Arc::new(make()?) };
        Ok(Self { files, make: Box::new(make), held: Mutex::new(held) })
    }

    /// The value as the files have it, or as they had it when they could last be used.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        let mut held = self.held();
        if held.looked_at.elapsed() < FILES_CHECKED_EVERY {
            return Arc::clone(&held.value);
        }
        held.looked_at = Instant::now();
        let stamps = stamps(&self.files);
        if stamps == held.stamps {
            return Arc::clone(&held.value);
        }
        // Also after a failure: half of a renewal is told once, and the other half is another change.
        held.stamps = stamps;
        match (self.make)() {
            Ok(value) => {
                tracing::info!(files = ?self.files, "certificates changed and were read anew");
                held.value = Arc::new(value);
            }
            Err(e) => tracing::warn!(
                error = %drover_model::chain(&e),
                "certificates changed and can't be used; those from before stay in use"
            ),
        }
        Arc::clone(&held.value)
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| std::fs::metadata(file).ok().map(|meta| Stamp::of(&meta))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_never_replaces_what_can() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let read_number = {
            let file = file.clone();
            move || {
                let text = String::from_utf8(read(&file)?).unwrap();
                text.parse::<u8>().map_err(|e| PkiError::unusable(&file, e))
            }
        };
        let watched = Watched::new(vec![file.clone()], read_number).unwrap();
        // As if the last look were long ago: nothing here waits for a clock.
        let now = |watched: &Watched<u8>| {
            watched.held().looked_at = Instant::now() - FILES_CHECKED_EVERY;
            *watched.get()
        };
        assert_eq!(now(&watched), 1);
        std::fs::write(&file, "twenty").unwrap();
        assert_eq!(now(&watched), 1);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(now(&watched), 1);
        std::fs::write(&file, "22").unwrap();
        assert_eq!(*watched.get(), 1, "looked at a moment ago");
        assert_eq!(now(&watched), 22);
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        std::fs::write(&key, "k").unwrap();
        for (mode, taken) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_key(&key).is_ok(), taken, "{mode:o}");
        }
    }
}
