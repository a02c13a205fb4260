//! The history's file, and setting it aside when it is damaged.

use super::HistoryError;
use crate::embedded::Failure;
use redb::{Builder, Database, ReadableDatabase, TableDefinition};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

pub(crate) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const META_SEQUENCE: &str = "next-sequence";
/// Damaged files kept for examination; the oldest goes when there would be more. A disk that damages files would
/// otherwise fill itself with them.
const SET_ASIDE_MAX: u32 = 4;

/// The open file. It may be exchanged for a new one while readers wait.
#[derive(Debug)]
pub(crate) struct Current {
    path: PathBuf,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
}

impl Current {
    /// Opens or creates; also the next sequence, and where a damaged file went.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<(Self, u64, Option<PathBuf>), HistoryError> {
        let current = Self { path: path.to_owned(), cache_bytes, database: RwLock::new(None) };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)
                .map_err(|source| current.error("make the directory of", Failure::Io(source)))?;
        }
        let (sequence, set_aside) = current.reopen(false)?;
        Ok((current, sequence, set_aside))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the database; its panics are damage.
    pub fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(database) => Failure::catch(|| work(database)),
            None => Err(Failure::Io(io::Error::other("it could not be opened"))),
        }
    }

    /// Closes the file and opens it again, setting it aside first if told to, or if it turns out to be damaged.
    pub fn reopen(&self, damaged: bool) -> Result<(u64, Option<PathBuf>), HistoryError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = slot.take() {
            // A damaged one may panic here too; what matters is that it is closed.
            let _ = Failure::catch(|| database.close().map_err(Failure::of));
        }
        if !damaged {
            match self.open_file() {
                Ok((database, sequence)) => {
                    *slot = Some(database);
                    return Ok((sequence, None));
                }
                Err(Failure::Corrupt(detail)) => {
                    tracing::error!(path = %self.path.display(), detail, "the history is damaged");
                }
                Err(failure) => return Err(self.error("open", failure)),
            }
        }
        let aside = self.set_aside().map_err(|source| self.error("set aside", Failure::Io(source)))?;
        tracing::error!(
            path = %self.path.display(), aside = %aside.display(),
            "set the damaged history aside and began a new one: older observations can't be shown"
        );
        let (database, sequence) = self.open_file().map_err(|failure| self.error("open", failure))?;
        *slot = Some(database);
        Ok((sequence, Some(aside)))
    }

    fn open_file(&self) -> Result<(Database, u64), Failure> {
        // redb would begin a new history in an empty file, which is no loss here.
        Failure::catch(|| {
            let database =
                Builder::new().set_cache_size(self.cache_bytes).create(&self.path).map_err(Failure::of)?;
            let write = database.begin_write().map_err(Failure::of)?;
            write.open_table(ENTRIES).map_err(Failure::of)?;
            write.open_table(META).map_err(Failure::of)?;
            write.commit().map_err(Failure::of)?;
            let read = database.begin_read().map_err(Failure::of)?;
            let meta = read.open_table(META).map_err(Failure::of)?;
            let sequence = meta.get(META_SEQUENCE).map_err(Failure::of)?;
            let sequence = sequence.map_or(0, |sequence| sequence.value());
            drop((meta, read));
            Ok((database, sequence))
        })
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let name = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".corrupt-{number}"));
            PathBuf::from(name)
        };
        let mut free = 1;
        while free <= SET_ASIDE_MAX && name(free).try_exists()? {
            free += 1;
        }
        if free > SET_ASIDE_MAX {
            tracing::warn!(path = %name(1).display(), "removing the oldest history that was set aside");
            for number in 1..SET_ASIDE_MAX {
                fs::rename(name(number + 1), name(number))?;
            }
            free = SET_ASIDE_MAX;
        }
        fs::rename(&self.path, name(free))?;
        Ok(name(free))
    }

    pub fn error(&self, action: &'static str, failure: Failure) -> HistoryError {
        let path = self.path.clone();
        match failure {
            Failure::Corrupt(detail) => HistoryError::Corrupt { path, detail },
            Failure::InUse => HistoryError::InUse { path },
            Failure::Io(source) => HistoryError::Io { path, action, source },
        }
    }
}
