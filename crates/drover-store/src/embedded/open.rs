//! Opening: lock, read everything, decide, and only then touch the file.
//!
//! The order is the safety. The file is opened with its writes held in memory (`backend`), verified in full
//! (`verify`), and compared with the anchor, which tells an older state that is sound in itself. Whatever is refused
//! is left byte for byte as it was, so that it can be examined, copied, or opened by a version that knows better.
//!
//! The hard case is `kill -9` against a flipped bit: both leave a file that redb wants to repair. The repair of the
//! first ends at the last acknowledged transaction or beyond, which is where the anchor is; that of the second may
//! fall back to the commit before, and then the anchor is ahead of the store.

use super::anchor::{self, Anchor, Found};
use super::failure::Failure;
use super::migrate::{self, Formats, sync_directory};
use super::report::{AnchorCheck, Migrated, OpenError, OpenReport, Options};
use super::space::{FreeSpace, Reserve, is_out_of_space};
use super::totals::Totals;
use super::verify::{
    META, META_FORMAT, META_TOTALS, Opened, RECORDS, encode_format, open_held, verify_records,
};
use super::{lock, lock::StoreLock};
use redb::Builder;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The store's file and those beside it.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub store: PathBuf,
    pub anchor: PathBuf,
    pub lock: PathBuf,
    pub reserve: PathBuf,
    creating: PathBuf,
}

impl Paths {
    pub fn of(store: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = store.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            store: store.to_owned(),
            anchor: beside(".anchor"),
            lock: beside(".lock"),
            reserve: beside(".reserve"),
            creating: beside(".creating"),
        }
    }
}

/// A verified store, ready to be written to.
#[derive(Debug)]
pub(crate) struct Ready {
    pub opened: Opened,
    pub totals: Totals,
    pub anchor: Anchor,
    pub reserve: Arc<Reserve>,
    pub lock: StoreLock,
}

/// Opens or creates the store.
pub(crate) fn open(
    paths: &Paths,
    options: &Options,
    formats: &Formats,
    free_space: Arc<dyn FreeSpace>,
) -> Result<(Ready, OpenReport), OpenError> {
    let started = Instant::now();
    let error = Errors(&paths.store);
    let lock = take_lock(paths)?;
    let found = anchor::read(&paths.anchor).map_err(|source| error.io("read the anchor of", source))?;
    let exists = paths.store.try_exists().map_err(|source| error.io("look for", source))?;
    if !exists {
        create(paths, formats, &found)?;
    }
    let reserve = Arc::new(Reserve::new(paths.reserve.clone(), options.reserve_bytes, free_space));
    adopt_reserve(&reserve, paths);
    let mut opened =
        open_held(&paths.store, &reserve, options.cache_bytes).map_err(|failure| error.of(failure))?;
    let migrated = if opened.format == formats.current {
        None
    } else {
        Some(bring_forward(paths, formats, &mut opened)?)
    };
    let totals = verify_records(&opened.database).map_err(|failure| error.of(failure))?;
    let anchor_check = compare(paths, &totals, &found)?;
    opened.backend.release().map_err(|source| error.io("write", source))?;
    if let Some(cause) = reserve.is_missing().then(|| reserve.fill()).and_then(Result::err) {
        tracing::warn!(path = %paths.reserve.display(), error = %cause, "can't make the reserve");
    }
    let anchor =
        begin_anchor(paths, &found, &totals).map_err(|source| error.io("write the anchor of", source))?;
    let report = OpenReport {
        created: !exists,
        records: totals.records,
        revision: totals.revision,
        was_closed_cleanly: matches!(found, Found::Mark(mark) if mark.clean),
        anchor: anchor_check,
        migrated,
        reserve_held: !reserve.is_missing(),
        took: started.elapsed(),
    };
    Ok((Ready { opened, totals, anchor, reserve, lock }, report))
}

fn take_lock(paths: &Paths) -> Result<StoreLock, OpenError> {
    let error = Errors(&paths.store);
    if let Some(parent) = paths.store.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|source| error.io("make the directory of", source))?;
    }
    StoreLock::acquire(&paths.lock).map_err(|cause| match cause {
        lock::LockError::Held(pid) => OpenError::InUse { path: paths.store.clone(), pid },
        lock::LockError::Io(source) => error.io("lock", source),
    })
}

/// Makes an empty store: whole under another name, then renamed, so that a crash leaves all of it or nothing.
fn create(paths: &Paths, formats: &Formats, found: &Found) -> Result<(), OpenError> {
    let error = Errors(&paths.store);
    if let Found::Mark(mark) = found
        && mark.totals.revision.0 > 0
    {
        return Err(OpenError::Missing {
            path: paths.store.clone(),
            anchor: paths.anchor.clone(),
            revision: mark.totals.revision,
        });
    }
    match fs::remove_file(&paths.creating) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error.io("create", source)),
        _ => {}
    }
    let make = || -> Result<(), redb::Error> {
        let database = Builder::new().create(&paths.creating)?;
        let write = database.begin_write()?;
        {
            write.open_table(RECORDS)?;
            let mut meta = write.open_table(META)?;
            meta.insert(META_FORMAT, encode_format(formats.current).as_slice())?;
            meta.insert(META_TOTALS, Totals::default().encode().as_slice())?;
        }
        write.commit()?;
        database.close()?;
        Ok(())
    };
    make().map_err(|cause| error.of(Failure::of(cause)))?;
    fs::rename(&paths.creating, &paths.store)
        .and_then(|()| sync_directory(&paths.store))
        .map_err(|source| error.io("create", source))
}

/// Uses the reserve that a former run left, if it is whole.
fn adopt_reserve(reserve: &Reserve, paths: &Paths) {
    let whole = fs::metadata(&paths.reserve)
        .is_ok_and(|meta| meta.len() == reserve.bytes() && meta.blocks() * 512 >= reserve.bytes());
    if whole {
        reserve.adopt();
    }
}

fn bring_forward(paths: &Paths, formats: &Formats, opened: &mut Opened) -> Result<Migrated, OpenError> {
    let error = Errors(&paths.store);
    let (from, to) = (opened.format, formats.current);
    if from > to {
        return Err(OpenError::NewerFormat { path: paths.store.clone(), found: from, supported: to });
    }
    let Some(steps) = formats.steps_from(from) else {
        return Err(OpenError::OlderFormat { path: paths.store.clone(), found: from, supported: to });
    };
    let copy = migrate::copy_aside(&paths.store, from).map_err(|source| error.io("copy aside", source))?;
    opened.backend.release().map_err(|source| error.io("write", source))?;
    migrate::apply(opened, &steps, to).map_err(|failure| OpenError::Migration {
        path: paths.store.clone(),
        from,
        to,
        copy: copy.clone(),
        detail: failure.to_string(),
    })?;
    tracing::info!(path = %paths.store.display(), from, to, copy = %copy.display(), "migrated the store");
    Ok(Migrated { from, to, copy })
}

/// Whether the store is at the anchor or beyond.
fn compare(paths: &Paths, totals: &Totals, found: &Found) -> Result<AnchorCheck, OpenError> {
    let mark = match found {
        Found::Mark(mark) => mark,
        Found::Missing if totals.revision.0 == 0 => return Ok(AnchorCheck::Matches),
        Found::Missing => {
            tracing::warn!(
                store = %paths.store.display(), anchor = %paths.anchor.display(),
                "the store has no anchor beside it: a rollback could not have been noticed; making one"
            );
            return Ok(AnchorCheck::Missing);
        }
        Found::Damaged => {
            tracing::warn!(
                store = %paths.store.display(), anchor = %paths.anchor.display(),
                "the anchor is damaged: a rollback could not have been noticed; making a new one"
            );
            return Ok(AnchorCheck::Damaged);
        }
    };
    if mark.totals.revision > totals.revision {
        return Err(OpenError::RolledBack {
            path: paths.store.clone(),
            anchor: paths.anchor.clone(),
            revision: totals.revision,
            anchor_revision: mark.totals.revision,
        });
    }
    if mark.totals.revision < totals.revision {
        return Ok(AnchorCheck::Behind { by: totals.revision.0 - mark.totals.revision.0 });
    }
    if mark.totals != *totals {
        return Err(Errors(&paths.store).of(Failure::Corrupt(format!(
            "at revision {} it has {} records with digest {:016x}, its anchor {} says {} with {:016x}",
            totals.revision,
            totals.records,
            totals.digest,
            paths.anchor.display(),
            mark.totals.records,
            mark.totals.digest
        ))));
    }
    Ok(AnchorCheck::Matches)
}

/// Marks the store as open at `totals`.
fn begin_anchor(paths: &Paths, found: &Found, totals: &Totals) -> io::Result<Anchor> {
    let mut anchor = Anchor::open(&paths.anchor, found)?;
    anchor.write(totals, false)?;
    anchor.sync()?;
    sync_directory(&paths.anchor)?;
    Ok(anchor)
}

/// Makes errors that name the store.
struct Errors<'a>(&'a Path);

impl Errors<'_> {
    fn io(&self, action: &'static str, source: io::Error) -> OpenError {
        let path = self.0.to_owned();
        if is_out_of_space(source.kind()) {
            OpenError::OutOfSpace { path, source }
        } else {
            OpenError::Io { path, action, source }
        }
    }

    fn of(&self, failure: Failure) -> OpenError {
        match failure {
            Failure::Corrupt(detail) => OpenError::Corrupt { path: self.0.to_owned(), detail },
            Failure::InUse => OpenError::InUse { path: self.0.to_owned(), pid: None },
            Failure::Io(source) => self.io("read", source),
        }
    }
}
