//! Formats of the store, and the steps between them.
//!
//! A newer format is refused: this version can't know what it means. An older one is brought forward one format at
//! a time in a single redb transaction, after the file was copied aside and the copy synced. A crash leaves the old
//! format or the new, and the copy in either case.

use super::failure::Failure;
use super::totals::Totals;
use super::verify::{META, META_FORMAT, META_TOTALS, Opened, encode_format};
use redb::{ReadableTable, WriteTransaction};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Brings every record, and the totals, from one format to the next.
pub(crate) struct Migration {
    /// The format it starts from.
    pub from: u32,
    /// Does it, inside the one transaction.
    pub apply: fn(&WriteTransaction) -> Result<(), Failure>,
}

/// The formats that a version knows.
pub(crate) struct Formats {
    /// What it writes.
    pub current: u32,
    /// What it can bring forward.
    pub migrations: &'static [Migration],
}

/// Format 1 is the first; it has nothing to come from.
pub(crate) const FORMATS: Formats = Formats { current: 1, migrations: &[] };

impl Formats {
    /// The steps from `found` to the current format; `None` when one is missing.
    pub fn steps_from(&self, found: u32) -> Option<Vec<&Migration>> {
        let step = |from| self.migrations.iter().find(|migration| migration.from == from);
        (found..self.current).map(step).collect()
    }
}

/// Applies the steps, and stores the new format, in one transaction with a revision of its own: the records' digest
/// may have changed, and at an equal revision the anchor would call that damage.
pub(crate) fn apply(opened: &mut Opened, steps: &[&Migration], current: u32) -> Result<(), Failure> {
    Failure::catch(|| {
        let write = opened.database.begin_write().map_err(Failure::of)?;
        for step in steps {
            (step.apply)(&write)?;
        }
        {
            let mut meta = write.open_table(META).map_err(Failure::of)?;
            meta.insert(META_FORMAT, encode_format(current).as_slice()).map_err(Failure::of)?;
            let stored = meta.get(META_TOTALS).map_err(Failure::of)?;
            let totals = stored.as_ref().and_then(|stored| Totals::decode(stored.value()));
            drop(stored);
            let mut totals =
                totals.ok_or_else(|| Failure::Corrupt("the migration left no totals".to_owned()))?;
            totals.revision = totals.revision.next();
            meta.insert(META_TOTALS, totals.encode().as_slice()).map_err(Failure::of)?;
        }
        write.commit().map_err(Failure::of)
    })?;
    opened.format = current;
    Ok(())
}

/// Copies the store's file aside under a name that is not taken, synced with its directory.
pub(crate) fn copy_aside(path: &Path, format: u32) -> io::Result<PathBuf> {
    let mut attempt = 0_u32;
    let copy = loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".format-{format}"));
        if attempt > 0 {
            name.push(format!("-{attempt}"));
        }
        let candidate = PathBuf::from(name);
        if !candidate.try_exists()? {
            break candidate;
        }
        attempt += 1;
    };
    // Under a temporary name first: a copy cut short by a crash must not look like a whole one.
    let mut partial = copy.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let copied = fs::copy(path, &partial).and_then(|_| File::open(&partial)?.sync_all());
    if let Err(error) = copied {
        // Most likely the disk is full: half a copy must not keep it so.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    fs::rename(&partial, &copy)?;
    sync_directory(path)?;
    Ok(copy)
}

/// Makes a file's name durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
