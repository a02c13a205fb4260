//! How to open a store, and what opening and asking answer.

use crate::types::Revision;
use crate::watch::WATCH_BUFFER;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Settings of an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Room kept back for the journal, in bytes; zero for none.
    pub reserve_bytes: u64,
    /// File size from which `stats` raises an alarm.
    pub size_alarm_bytes: u64,
    /// Memory for pages, in bytes.
    pub cache_bytes: usize,
    /// Transactions that wait for the writer; more wait at the caller.
    pub queue_max: usize,
    /// Transactions that wait for one watcher before it is told `Lagged`.
    pub watch_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // A run journals some hundred records of some KiB, each a few pages: 16 MiB ends several.
            reserve_bytes: 16 << 20,
            // A year of a large installation's runs is below 1 GiB; more means that something is not pruned.
            size_alarm_bytes: 1 << 30,
            // What a decision reads again; a page that is not there comes from the page cache of the system.
            cache_bytes: 4 << 20,
            // Ten full batches.
            queue_max: 10 * super::writer::BATCH_TXNS_MAX,
            watch_buffer: WATCH_BUFFER,
        }
    }
}

/// What was found at the opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The store was made just now.
    pub created: bool,
    /// Records in it, each verified.
    pub records: u64,
    /// Its revision.
    pub revision: Revision,
    /// The run before closed it in good order. If not, redb's repair was part of the opening.
    pub was_closed_cleanly: bool,
    /// How it compares to its anchor.
    pub anchor: AnchorCheck,
    /// The migration that was made, if any.
    pub migrated: Option<Migrated>,
    /// The reserve is in place.
    pub reserve_held: bool,
    /// How long opening took.
    pub took: Duration,
}

/// How a store compares to the anchor beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorCheck {
    /// Both are at the same commit.
    Matches,
    /// The store is ahead, as after a crash.
    Behind {
        /// By so many revisions.
        by: u64,
    },
    /// There was none: nothing could be compared.
    Missing,
    /// It was unreadable: nothing could be compared.
    Damaged,
}

/// A migration made at the opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The format before.
    pub from: u32,
    /// The format now.
    pub to: u32,
    /// The file as it was before.
    pub copy: PathBuf,
}

/// Why a store was not opened. Its file is as it was, but for `Migration`.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it.
    #[error(
        "store {} is in use by {}; stop it first, or use another directory",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
        /// Who has it, if known.
        pid: Option<u32>,
    },
    /// A later drover wrote it.
    #[error(
        "store {} has format {found}, this drover knows up to {supported}; start the drover that wrote it, or a newer one",
        path.display()
    )]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        supported: u32,
    },
    /// Too old for this drover.
    #[error(
        "store {} has format {found}, and this drover can't bring it to {supported}; open it with a version in between first",
        path.display()
    )]
    OlderFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format needed.
        supported: u32,
    },
    /// What is in it is not what was written.
    #[error(
        "store {} is damaged: {detail}; it was left untouched: keep a copy of it, then restore it from a backup",
        path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// It is sound, and older than it was.
    #[error(
        "store {} is at revision {revision}, but was already at {anchor_revision} as its anchor {} tells; it was left \
         untouched: restore the newer file, or, to go on from the older state knowingly, remove the anchor",
        path.display(),
        anchor.display()
    )]
    RolledBack {
        /// The store's file.
        path: PathBuf,
        /// The anchor's file.
        anchor: PathBuf,
        /// Where the store is.
        revision: Revision,
        /// Where it was.
        anchor_revision: Revision,
    },
    /// It is gone, and was not empty.
    #[error(
        "store {} is missing, but was at revision {revision} as its anchor {} tells; restore it, or, to begin with an \
         empty one knowingly, remove the anchor",
        path.display(),
        anchor.display()
    )]
    Missing {
        /// The store's file.
        path: PathBuf,
        /// The anchor's file.
        anchor: PathBuf,
        /// Where the store was.
        revision: Revision,
    },
    /// A migration failed.
    #[error(
        "can't migrate store {} from format {from} to {to}: {detail}; the file as it was before is {}",
        path.display(),
        copy.display()
    )]
    Migration {
        /// The store's file.
        path: PathBuf,
        /// Its format before.
        from: u32,
        /// The format wanted.
        to: u32,
        /// The file as it was before.
        copy: PathBuf,
        /// What failed.
        detail: String,
    },
    /// Not even the reserve was room enough.
    #[error("no room to open store {}; free some space on its disk", path.display())]
    OutOfSpace {
        /// The store's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("can't {action} store {}", path.display())]
    Io {
        /// The store's file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Size and room of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The file's size.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Free on its disk, the reserve not counted; `None` when the system does not tell.
    pub free_bytes: Option<u64>,
    /// The gravest of what needs attention.
    pub alarm: Option<Alarm>,
}

/// What needs attention, gravest first.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Alarm {
    /// It takes no writes.
    #[error("the store takes no writes: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The reserve was given up, or could not be made.
    #[error("the reserve of {reserve_bytes} bytes for the journal is gone; free some space")]
    ReserveGone {
        /// Its configured size.
        reserve_bytes: u64,
    },
    /// There is room for journal records and pages alone: everything else is refused.
    #[error("the disk has {free_bytes} bytes free: only the journal is written; free some space")]
    Full {
        /// Free on its disk, the reserve not counted.
        free_bytes: u64,
    },
    /// The file grew past the configured size.
    #[error("the store has {bytes} bytes, the alarm is set at {size_alarm_bytes}")]
    Large {
        /// The file's size.
        bytes: u64,
        /// The configured size.
        size_alarm_bytes: u64,
    },
}
