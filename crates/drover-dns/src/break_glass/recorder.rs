//! Writes the record: each line is on disk before whatever it tells of goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use drover_model::Timestamp;

use super::record::{Entry, Line, RECORD_BYTES_MAX, RECORD_LINES_MAX, Record, Unsound};
use crate::publish::SigningKey;

/// Lines of one command, at most: what a file must have room for before one begins.
const LINES_OF_ONE: usize = 8;
/// Bytes of one command, at most: two record sets of a hundred regions, twice over.
const BYTES_OF_ONE: usize = 128 << 10;

/// Writes one command's lines.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// Locked for as long as it is open, so that two commands can't write into each other's chain.
    file: File,
    key: SigningKey,
    last: Option<Line>,
}

/// Why a line is not on disk. What it would have told of must not begin.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// The file can't be had or written.
    #[error("cannot write the break-glass record {}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another command writes there.
    #[error("cannot write the break-glass record {}: another command is writing it", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// What is there is no record, or was changed.
    #[error("cannot go on with the break-glass record {}", path.display())]
    Unsound {
        /// Which.
        path: PathBuf,
        /// In what.
        #[source]
        source: Unsound,
    },
    /// It has no room for another command.
    #[error("the break-glass record {} is full; name another file", path.display())]
    Full {
        /// Which.
        path: PathBuf,
    },
}

impl Recorder {
    /// Begins a file that its owner alone may read, or goes on with one that is sound. `key` signs this command's lines.
    ///
    /// # Errors
    /// See [`NotRecorded`].
    pub fn open(path: &Path, key: SigningKey) -> Result<Self, NotRecorded> {
        let failed = |source| NotRecorded::Unwritable { path: path.to_owned(), source };
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(NotRecorded::InUse { path: path.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut text = String::new();
        (&mut file).take(RECORD_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
        let last = if text.is_empty() {
            // The name of a new file is on disk once its directory is.
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
            directory.sync_all().map_err(failed)?;
            None
        } else {
            let record = Record::read(&text);
            let record = record.map_err(|source| NotRecorded::Unsound { path: path.to_owned(), source })?;
            if record.lines().len() + LINES_OF_ONE > RECORD_LINES_MAX
                || text.len() + BYTES_OF_ONE > RECORD_BYTES_MAX
            {
                return Err(NotRecorded::Full { path: path.to_owned() });
            }
            record.lines().last().cloned()
        };
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, key, last })
    }

    /// Writes a line and syncs it.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn write(&mut self, at: Timestamp, entry: Entry) -> Result<(), NotRecorded> {
        let line = Line::next(self.last.as_ref(), at, entry, &self.key);
        let written = self.file.write_all(line.written().as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|source| NotRecorded::Unwritable { path: self.path.clone(), source })?;
        self.last = Some(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::break_glass::{Ended, Outcome};
    use std::os::unix::fs::MetadataExt;

    fn began(key: &SigningKey) -> Entry {
        Entry::Began(crate::break_glass::Began {
            session: "00000001".into(),
            key: key.public(),
            by: drover_model::traffic::Actor::Automatic,
            reason: "r".into(),
            zone: "example.test".into(),
            provider: "embedded".into(),
            version: "0".into(),
        })
    }

    fn one(path: &Path) {
        let key = SigningKey::for_once().unwrap();
        let entry = began(&key);
        let mut recorder = Recorder::open(path, key).unwrap();
        recorder.write(Timestamp::from_millis(1), entry).unwrap();
        let ended = Ended {
            service: "checkout".parse().unwrap(),
            outcome: Outcome::Done,
            sentence: "it is live".into(),
        };
        recorder.write(Timestamp::from_millis(2), Entry::Ended(ended)).unwrap();
    }

    #[test]
    fn a_file_is_begun_and_gone_on_with_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.jsonl");
        one(&path);
        one(&path);
        let record = Record::read(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(record.lines().len(), 4);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_commands_never_write_one_file_and_nothing_follows_a_broken_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.jsonl");
        let open = || Recorder::open(&path, SigningKey::for_once().unwrap());
        let held = open().unwrap();
        assert!(matches!(open(), Err(NotRecorded::InUse { .. })));
        drop(held);
        one(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("it is live", "it is dead", 1)).unwrap();
        let Err(NotRecorded::Unsound { source, .. }) = open() else { panic!("it goes on") };
        assert_eq!(source.line, 2);
        assert!(matches!(
            Recorder::open(&directory.path().join("none/record.jsonl"), SigningKey::for_once().unwrap()),
            Err(NotRecorded::Unwritable { .. })
        ));
    }
}
