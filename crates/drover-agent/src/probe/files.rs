//! Files that a probe needs: certificates and secrets. Read again when they changed, looked at once a second at most.

use crate::probe::failure::Failure;
pub use drover_pki::{FILES_CHECKED_EVERY, PEM_BYTES_MAX, Stamp};
use http::HeaderValue;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Longest secret header value, in bytes.
pub const SECRET_BYTES_MAX: u64 = 8 * 1024;

/// The file's stamp.
///
/// # Errors
/// A local failure when it cannot be looked at, or is longer than `bytes_max`.
pub async fn stamp(path: &Path, bytes_max: u64) -> Result<Stamp, Failure> {
    let meta = tokio::fs::metadata(path).await.map_err(|e| unreadable(path, &e))?;
    if meta.len() > bytes_max {
        return Err(Failure::local(&format!("{} is longer than {bytes_max} bytes", path.display())));
    }
    Ok(Stamp::of(&meta))
}

/// The file's bytes.
///
/// # Errors
/// A local failure when it cannot be read.
pub async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(path).await.map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(&format!("cannot read {}: {error}", path.display()))
}

struct Secret {
    stamp: Stamp,
    looked_at: Instant,
    value: HeaderValue,
}

/// Secret header values by file. Shows no value, not even in `Debug`.
#[derive(Default)]
pub struct Secrets {
    known: Mutex<BTreeMap<PathBuf, Secret>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// The value in `path`, without the white space around it, marked as sensitive.
    ///
    /// # Errors
    /// A local failure when the file cannot be read or holds no header value.
    pub async fn get(&self, path: &Path) -> Result<HeaderValue, Failure> {
        if let Some(value) = self.known().get(path).filter(|s| s.looked_at.elapsed() < FILES_CHECKED_EVERY) {
            return Ok(value.value.clone());
        }
        let stamp = stamp(path, SECRET_BYTES_MAX).await?;
        if let Some(secret) = self.known().get_mut(path).filter(|s| s.stamp == stamp) {
            secret.looked_at = Instant::now();
            return Ok(secret.value.clone());
        }
        let bytes = read(path).await?;
        let mut value = HeaderValue::from_bytes(bytes.trim_ascii())
            .map_err(|_| Failure::local(&format!("{} does not hold a header value", path.display())))?;
        value.set_sensitive(true);
        let secret = Secret { stamp, looked_at: Instant::now(), value: value.clone() };
        self.known().insert(path.to_owned(), secret);
        Ok(value)
    }

    /// Forgets every file, for a new probe list.
    pub fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Secret>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::probe::FailureKind;

    #[tokio::test]
    async fn a_secret_is_read_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secrets = Secrets::default();
        let value = secrets.get(&path).await.unwrap();
        assert_eq!(value.as_bytes(), b"hunter2");
        assert!(!format!("{secrets:?} {value:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn what_is_no_secret_is_the_agents_own_fault_and_is_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let secrets = Secrets::default();
        assert_eq!(secrets.get(&path).await.unwrap_err().kind, FailureKind::Local);
        std::fs::write(&path, "hunter2\nsecond line").unwrap();
        let failure = secrets.get(&path).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Local);
        assert!(!failure.detail.contains("hunter2"));
    }
}
