//! The authority's files, each of which is there whole or not at all.

use crate::error::PkiError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Keys, and directories that hold some.
const OWNER_ONLY: u32 = 0o700;
/// What everybody may know: certificates and revocations.
const PUBLIC: u32 = 0o644;

/// An authority's directory.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    pub(super) fn crl(&self) -> PathBuf {
        self.0.join("crl.pem")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.0.join("ledger.json")
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> PkiError + use<> {
    let path = path.to_owned();
    move |source| PkiError::File { what, path: path.clone(), source }
}

/// Makes the directory, for its owner alone, unless it is there.
pub(crate) fn make_directory(directory: &Path) -> Result<(), PkiError> {
    let made = DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(directory);
    made.map_err(failed("make", directory))
}

/// Holds the directory against every other process: two that issue at once would each forget the other's entry. The second is
/// refused: what it waits for might be a person at a prompt.
pub(super) fn lock(directory: &Path) -> Result<Flock<File>, PkiError> {
    let opened = File::open(directory).map_err(failed("open", directory))?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| failed("lock", directory)(e.into()))
}

/// A new file that its owner alone may read.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let file = written(path, bytes)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_directory(path),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(PkiError::Exists { path: path.to_owned() })
        }
        Err(e) => Err(failed("write", path)(e.error)),
    }
}

/// A file that its owner alone may read, in the place of what was there.
pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let file = written(path, bytes)?;
    if let Ok(before) = std::fs::metadata(path) {
        keep_rights(&before, file.as_file()).map_err(failed("write", path))?;
    }
    file.persist(path).map_err(|e| failed("write", path)(e.error))?;
    sync_directory(path)
}

/// A key that a service or its group may read keeps that when it is renewed by root; nobody else gets a right.
fn keep_rights(before: &Metadata, file: &File) -> std::io::Result<()> {
    const OWNER_AND_GROUP: u32 = 0o660;
    fchown(file, Some(before.uid()), Some(before.gid()))?;
    file.set_permissions(Permissions::from_mode(before.mode() & OWNER_AND_GROUP))
}

/// A file that everybody may read.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let file = written(path, bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(PUBLIC)).map_err(failed("write", path))?;
    file.persist(path).map_err(|e| failed("write", path)(e.error))?;
    sync_directory(path)
}

/// What stands in one of the authority's own.
pub(super) fn text(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(failed("read", path))
}

/// The same bytes elsewhere.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PkiError> {
    let bytes = std::fs::read(from).map_err(failed("read", from))?;
    replace(to, &bytes)
}

/// Beside its place, on disk, and for its owner alone.
fn written(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, PkiError> {
    let failed = failed("write", path);
    let mut file = NamedTempFile::new_in(directory_of(path)).map_err(&failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(&failed)?;
    Ok(file)
}

fn sync_directory(path: &Path) -> Result<(), PkiError> {
    let directory = directory_of(path);
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed("write", directory))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
