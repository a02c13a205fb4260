//! Owns the state of one instance: checks a batch, writes it down, then makes it visible with one swap.
//!
//! What changed is appended to the state's file and synced. Only a file that this process wrote as a whole is
//! appended to; at the start, and after anything went wrong, the whole is written first.
//!
//! The hard case is a write that fails half-way.
//! - Appending: a change that is not in the file as a whole is dropped by whoever reads it next, so nothing
//!   has changed. One that is there but could not be synced may be on disk or not. Either way the file is not
//!   touched again: the whole is written at once, with the change in it, and that decides.
//! - Writing the whole: before the rename nothing has changed. After it the file is the new state but may not
//!   survive a power failure.
//!
//! Where the change may be on disk without being known to be, it becomes visible all the same, so that never
//! less is served than is on disk; the writer is told to repeat, and no write is acknowledged, not even one
//! that finds its wish granted, before a whole was written and synced. So it is after a start, too: what was
//! read there may come from memory that never reached the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::batch::{AppliedBatch, AppliedChange, Batch, FenceReason, PublishError, Published};
use super::change_log::{Appended, ChangeLog, StateChangeView, WhyNot};
use super::decide::{Decision, check_fence, decide};
use super::ledger::Ledger;
use super::proofs::{NewProofs, Proof, Proofs, SealedView};
use super::seal::{self, Digest, SEALED_CHANGES_MAX, Seal, SealError, TrustedKeys};
use super::shortened::{ShortTimes, Shortened};
use super::state_file::{self, STATE_FILE_NAME, StateBody, StateFileError, StateView, WriteError};
use crate::lock::{FileLock, NotLocked};
use crate::zone::{
    DnsName, InvalidRecordSet, InvalidSnapshot, RecordKey, Snapshot, ValidRecordSet, ZoneConfig,
};

/// Held by the one process that may write the state.
const LOCK_FILE_NAME: &str = "lock";

/// The state of one instance.
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
    snapshot: ArcSwap<Snapshot>,
    pub(super) ledger: ArcSwap<Ledger>,
    /// One writer at a time; readers never wait for the disk.
    pub(super) writer: Mutex<Writer>,
    /// Whose signatures count. None: whoever reaches the control listener may write, as he always could.
    pub(super) trusted: Option<TrustedKeys>,
    /// Changed by the one writer, with the snapshot.
    proofs: Mutex<Proofs>,
    _lock: FileLock,
}

/// What is served without being known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Owes {
    #[default]
    Nothing,
    /// What a start has read: a process that was killed between writing and syncing leaves its last change in memory only.
    Sync,
    /// What could not be synced, and no write since has put there.
    Whole,
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    /// None: the whole is to be written before anything is acknowledged.
    log: Option<ChangeLog>,
    owes: Owes,
    /// When times to live are the record sets' own again; none: they are.
    shortened_until: Option<Instant>,
}

/// Who may write to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// The highest epoch seen; none before the first write.
    pub highest_epoch: Option<Epoch>,
    /// The snapshot's generation.
    pub generation: u64,
}

/// Why an instance can't start from its directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or its lock can't be had.
    #[error("cannot use the state directory {}", directory.display())]
    Directory {
        /// Which one.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process writes there.
    #[error("cannot use the state directory {}: another process holds it", directory.display())]
    InUse {
        /// Which one.
        directory: PathBuf,
    },
    /// The state can't be read or written.
    #[error("cannot start from the state directory")]
    State(#[source] StateFileError),
    /// The state is of another zone.
    #[error("cannot serve zone {configured} from {}: it holds zone {found}", directory.display())]
    OtherZone {
        /// The directory.
        directory: PathBuf,
        /// The configured zone.
        configured: DnsName,
        /// The zone that is there.
        found: DnsName,
    },
    /// A record set that was written is not accepted any more.
    #[error("cannot serve a record set of the state directory")]
    RecordSet(#[source] InvalidRecordSet),
    /// The record sets do not fit the zone.
    #[error("cannot serve the state directory's record sets")]
    Snapshot(#[source] InvalidSnapshot),
}

impl Publisher {
    /// Takes the directory (created if need be) and reads what was served last. The configured zone replaces
    /// the stored one, under a new generation if it differs.
    ///
    /// # Errors
    /// Whenever it is not certain what was served last: another process, a corrupt file, another zone.
    pub fn open(directory: &Path, zone: ZoneConfig) -> Result<Self, OpenError> {
        Self::open_trusting(directory, zone, None)
    }

    /// As [`Publisher::open`]; from then on just what one of these keys signed is taken, from the coordinator and from peers.
    /// What was signed by others, or by nobody, is served as before until it is published anew.
    ///
    /// # Errors
    /// As there.
    pub fn open_trusting(
        directory: &Path,
        zone: ZoneConfig,
        trusted: Option<TrustedKeys>,
    ) -> Result<Self, OpenError> {
        let lock = take_lock(directory)?;
        let stored = state_file::read(directory).map_err(OpenError::State)?;
        if let Some(stored) = &stored
            && stored.torn_bytes > 0
        {
            tracing::warn!(
                file = %directory.join(STATE_FILE_NAME).display(),
                bytes = stored.torn_bytes,
                "dropped a last change that is cut short: so a crash leaves one of which nobody was told that it was made, \
                 and so would damage at the file's end"
            );
        }
        let (state, seals) = stored.map(|stored| (stored.state, stored.seals)).unzip();
        let (snapshot, ledger, is_new) = restore(directory, zone, state)?;
        let proofs = match &trusted {
            Some(trusted) => {
                Proofs::restored(seals.unwrap_or_default(), &snapshot, trusted, ledger.highest_epoch)
            }
            None => Proofs::default(),
        };
        let owes = if is_new { Owes::Nothing } else { Owes::Sync };
        let mut writer = Writer { owes, ..Writer::default() };
        let nothing = NewProofs::new();
        if is_new {
            let (held, forgotten) = proofs.copied();
            let sealed = trusted.as_ref().map(|_| SealedView::with(&held, &nothing, forgotten));
            let written = state_file::write(directory, &body(&snapshot, &ledger, sealed));
            writer.log = Some(written.map_err(|error| match error {
                WriteError::NotWritten(error) | WriteError::NotDurable(error) => OpenError::State(error),
            })?);
        }
        Ok(Self {
            directory: directory.to_owned(),
            snapshot: ArcSwap::from_pointee(snapshot),
            ledger: ArcSwap::from_pointee(ledger),
            writer: Mutex::new(writer),
            trusted,
            proofs: Mutex::new(proofs),
            _lock: lock,
        })
    }

    /// What is served now, for a short while: the cheapest access.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// What is served now, to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Who may write.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { highest_epoch: self.ledger.load().highest_epoch, generation: self.load().generation() }
    }

    /// The last applied batches, oldest first; bounded.
    #[must_use]
    pub fn applied(&self) -> Vec<AppliedBatch> {
        self.ledger.load().applied.iter().map(|batch| AppliedBatch::clone(batch)).collect()
    }

    /// Publishes a batch, all of it or nothing. Blocks for the disk.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing of the batch is visible except after `NotDurable`.
    pub fn publish(&self, batch: &Batch) -> Result<Published, PublishError> {
        self.publish_sealed(batch, vec![])
    }

    /// As [`Publisher::publish`], of a batch that was signed. Where no key is trusted the signatures say nothing, and are not kept.
    ///
    /// # Errors
    /// As there; `NotSigned` and `Backwards` only where keys are trusted.
    pub fn publish_sealed(&self, batch: &Batch, seals: Vec<Seal>) -> Result<Published, PublishError> {
        let seals = match &self.trusted {
            Some(trusted) => seal::check_batch(seals, batch, &self.load().zone().origin, trusted)
                .map_err(PublishError::NotSigned)?,
            None => vec![],
        };
        let mut writer = self.writer();
        let ledger = self.ledger.load_full();
        // I3: an older leader is told so before anything else, also when its wish is granted already.
        check_fence(self.highest_for(batch.epoch), batch.epoch)?;
        let current = self.snapshot();
        let mut decision = decide(&current, batch)?;
        let proofs = match &self.trusted {
            Some(_) => prove(&self.proofs(), &mut decision, &seals)?,
            None => NewProofs::new(),
        };
        let generation = current.generation();
        if decision.applied.is_empty() && proofs.is_empty() {
            if ledger.highest_epoch != Some(batch.epoch) || writer.log.is_none() {
                let committed = self.commit(&mut writer, ledger.under(batch.epoch), current, Step::default());
                // What is wished for is live, whatever became of this write.
                committed.map_err(|error| match error {
                    PublishError::NotWritten(source) => PublishError::NotDurable(source),
                    other => other,
                })?;
            }
            return Ok(Published::Unchanged { generation });
        }
        let generation = seals.first().map_or(generation + 1, |seal| generation.max(seal.generation));
        let has_changed = !decision.applied.is_empty();
        let next = Next {
            generation,
            epoch: batch.epoch,
            highest_epoch: Some(batch.epoch),
            name: &batch.idempotency_key,
            record_sets: decision.record_sets,
            applied: decision.applied,
            proofs,
        };
        self.make(&mut writer, next)?;
        Ok(if has_changed { Published::Changed { generation } } else { Published::Unchanged { generation } })
    }

    /// Makes what was decided durable and visible. Call it as the one writer.
    pub(super) fn make(&self, writer: &mut Writer, next: Next<'_>) -> Result<(), PublishError> {
        let Next { generation, epoch, highest_epoch, name, record_sets, applied, proofs } = next;
        // What was there already is put as it was signed now: its epoch and its note may be others.
        let keys: BTreeSet<&RecordKey> =
            applied.iter().map(|change| &change.key).chain(proofs.keys()).collect();
        let snapshot = self.snapshot().changed(generation, record_sets, keys);
        let snapshot = snapshot.map_err(PublishError::InvalidSnapshot)?;
        let mut ledger = Ledger { highest_epoch, ..Ledger::clone(&self.ledger.load()) };
        let applied = (!applied.is_empty()).then(|| {
            Arc::new(AppliedBatch {
                generation,
                applied_unix_milliseconds: unix_milliseconds(),
                epoch,
                idempotency_key: name.to_owned(),
                changes: applied,
            })
        });
        if let Some(applied) = &applied {
            ledger.remember(Arc::clone(applied));
        }
        self.commit(writer, ledger, Arc::new(snapshot), Step { applied: applied.as_deref(), proofs })
    }

    /// Lets another store incarnation command: a deliberate act after a store was lost or restored. `from`
    /// must be the highest epoch seen, so that two adoptions can't cross.
    ///
    /// # Errors
    /// `Fenced` if `from` is not the highest epoch seen; the errors of writing.
    pub fn adopt(&self, from: Option<Epoch>, to: Epoch) -> Result<(), PublishError> {
        let mut writer = self.writer();
        let ledger = self.ledger.load_full();
        if let Some(highest) = ledger.highest_epoch
            && highest != to
            && from != Some(highest)
        {
            return Err(PublishError::Fenced { given: to, highest, reason: FenceReason::OtherIncarnation });
        }
        if let Some(highest) = ledger.highest_epoch
            && highest.incarnation == to.incarnation
        {
            check_fence(Some(highest), to)?;
        }
        self.commit(&mut writer, ledger.under(to), self.snapshot(), Step::default())
    }

    /// Puts on disk what is served without being known to be there, if anything is. Whoever asked for it finds it served and
    /// need not ask again, so nobody else would. Says whether anything had to be written.
    ///
    /// # Errors
    /// The errors of writing; try again later.
    pub fn settle(&self) -> Result<bool, PublishError> {
        let mut writer = self.writer();
        if writer.owes == Owes::Sync && is_synced(&self.directory) {
            writer.owes = Owes::Nothing;
        }
        if writer.owes == Owes::Nothing {
            return Ok(false);
        }
        let ledger = Ledger::clone(&self.ledger.load());
        self.commit(&mut writer, ledger, self.snapshot(), Step::default())?;
        Ok(true)
    }

    /// Answers these with shorter times to live, and all others with their own. Blocks for whoever writes.
    ///
    /// # Errors
    /// `Fenced`, told by an older leader.
    pub fn shorten(&self, told: &Shortened, now: Instant) -> Result<(), PublishError> {
        let mut writer = self.writer();
        check_fence(self.highest_for(told.epoch), told.epoch)?;
        let times = told.by_key();
        writer.shortened_until = (!times.is_empty()).then(|| told.until(now));
        self.serve_shortened(times);
        Ok(())
    }

    /// Answers everything with its own time to live again, where nobody has said for long that it be shorter.
    pub fn lapse(&self, now: Instant) {
        let mut writer = self.writer();
        if writer.shortened_until.is_some_and(|until| until <= now) {
            writer.shortened_until = None;
            self.serve_shortened(ShortTimes::new());
        }
    }

    /// Call it as the one writer.
    fn serve_shortened(&self, times: ShortTimes) {
        let current = self.snapshot();
        if *current.short_times() != times {
            self.snapshot.store(Arc::new(current.shortened(times)));
        }
    }

    pub(super) fn proofs(&self) -> MutexGuard<'_, Proofs> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        // State and ledger are replaced as wholes, so a panic elsewhere can't have left them torn.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Durable first, then visible.
    fn commit(
        &self,
        writer: &mut Writer,
        next: Ledger,
        snapshot: Arc<Snapshot>,
        step: Step<'_>,
    ) -> Result<(), PublishError> {
        let (owes, committed) = match self.write(writer, &next, &snapshot, &step) {
            Ok(()) => (Owes::Nothing, Ok(())),
            Err(WriteError::NotDurable(error)) => (Owes::Whole, Err(PublishError::NotDurable(error))),
            Err(WriteError::NotWritten(error)) => return Err(PublishError::NotWritten(error)),
        };
        writer.owes = owes;
        // Together, for whoever shows both.
        let mut proofs = self.proofs();
        proofs.take(step.proofs, next.highest_epoch);
        self.ledger.store(Arc::new(next));
        self.snapshot.store(snapshot);
        committed
    }

    /// Appends what changed, or writes the whole. Leaves a log behind only where all is known to be on disk.
    fn write(
        &self,
        writer: &mut Writer,
        next: &Ledger,
        snapshot: &Snapshot,
        step: &Step<'_>,
    ) -> Result<(), WriteError> {
        let mut may_be_there = false;
        if let Some(log) = writer.log.take() {
            let path = self.directory.join(STATE_FILE_NAME);
            match log.append(&path, &change(snapshot, next, step)) {
                Appended::Durable(log) => {
                    writer.log = Some(log);
                    return Ok(());
                }
                Appended::No(WhyNot::Full | WhyNot::NotPlain) => {}
                Appended::No(WhyNot::Replaced) => {
                    tracing::warn!(file = %path.display(), "was changed from outside; it is written anew");
                }
                Appended::No(WhyNot::Failed(error)) => {
                    tracing::warn!(file = %path.display(), %error, "cannot append to it; it is written anew");
                }
                Appended::Uncertain(error) => {
                    tracing::warn!(file = %path.display(), %error, "cannot sync it; it is written anew");
                    may_be_there = true;
                }
            }
        }
        // A copy: nobody who looks at them shall wait for the disk.
        let (held, forgotten) = self.proofs().copied();
        let sealed = self.trusted.as_ref().map(|_| SealedView::with(&held, &step.proofs, forgotten));
        match state_file::write(&self.directory, &body(snapshot, next, sealed)) {
            Ok(log) => {
                writer.log = Some(log);
                Ok(())
            }
            Err(WriteError::NotWritten(error)) if may_be_there => Err(WriteError::NotDurable(error)),
            Err(error) => Err(error),
        }
    }
}

/// What a state changes by; nothing: just the ledger changed.
#[derive(Debug, Default)]
struct Step<'a> {
    applied: Option<&'a AppliedBatch>,
    proofs: NewProofs,
}

/// What was decided to be next.
pub(super) struct Next<'a> {
    pub(super) generation: u64,
    pub(super) epoch: Epoch,
    /// Who may not be followed by an earlier one; none: no coordinator has written yet.
    pub(super) highest_epoch: Option<Epoch>,
    /// For the log of applied batches.
    pub(super) name: &'a str,
    pub(super) record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
    pub(super) applied: Vec<AppliedChange>,
    pub(super) proofs: NewProofs,
}

/// Is each change what was signed, and signed after what is live? Gives what proves them; what is there already is proven anew.
fn prove(held: &Proofs, decision: &mut Decision, seals: &[Arc<Seal>]) -> Result<NewProofs, PublishError> {
    let applied: BTreeSet<&RecordKey> = decision.applied.iter().map(|change| &change.key).collect();
    let mut proofs = NewProofs::new();
    for (place, (key, target)) in decision.wanted.iter().enumerate() {
        let digest = target.as_deref().map_or_else(|| Digest::of_removed(key), Digest::of);
        let seal = seals.get(place / SEALED_CHANGES_MAX);
        let seal = seal.filter(|seal| seal.digests.get(place % SEALED_CHANGES_MAX) == Some(&digest));
        let Some(seal) = seal else {
            return Err(PublishError::NotSigned(SealError::Tampered { key: key.clone() }));
        };
        let proof = Proof::new(key, Arc::clone(seal), digest, target.is_none());
        let held = held.get(key).filter(|held| held.seal.epoch.incarnation == seal.epoch.incarnation);
        // It is proven. Somebody else was meant, and to write the zone for that every few seconds is too much.
        // (One removal is like another, whatever was put in between, so that the later must be known.)
        let is_same = |held: &Proof| held.digest == digest && held.seal.epoch == seal.epoch;
        if target.is_some() && !applied.contains(key) && held.is_some_and(is_same) {
            continue;
        }
        if let Some(held) = held.filter(|held| held.rank() >= proof.rank()) {
            if applied.contains(key) {
                let (given, held) = (seal.generation, held.seal.generation);
                return Err(PublishError::Backwards { key: key.clone(), given, held });
            }
            continue;
        }
        if let Some(set) = target.as_ref().filter(|_| !applied.contains(key)) {
            decision.record_sets.insert(key.clone(), Arc::clone(set));
        }
        proofs.insert(key.clone(), proof);
    }
    Ok(proofs)
}

fn take_lock(directory: &Path) -> Result<FileLock, OpenError> {
    let failed = |source| OpenError::Directory { directory: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    FileLock::take(&directory.join(LOCK_FILE_NAME)).map_err(|e| match e {
        NotLocked::Held => OpenError::InUse { directory: directory.to_owned() },
        NotLocked::Io(source) => failed(source),
    })
}

/// The snapshot to serve, its ledger, and whether it must be written down first.
fn restore(
    directory: &Path,
    zone: ZoneConfig,
    stored: Option<StateBody>,
) -> Result<(Snapshot, Ledger, bool), OpenError> {
    let Some(stored) = stored else {
        let snapshot = Snapshot::new(zone, 1, []).map_err(OpenError::Snapshot)?;
        return Ok((snapshot, Ledger::default(), true));
    };
    if stored.zone.origin != zone.origin {
        return Err(OpenError::OtherZone {
            directory: directory.to_owned(),
            configured: zone.origin,
            found: stored.zone.origin,
        });
    }
    cov_mark::hit!(i12_dns_answers_from_its_own_copy);
    let is_new = stored.zone != zone;
    let generation = if is_new { stored.generation + 1 } else { stored.generation };
    let mut record_sets = Vec::with_capacity(stored.record_sets.len());
    for document in stored.record_sets {
        record_sets.push(Arc::new(ValidRecordSet::new(document).map_err(OpenError::RecordSet)?));
    }
    let snapshot = Snapshot::new(zone, generation, record_sets).map_err(OpenError::Snapshot)?;
    let ledger = Ledger {
        highest_epoch: stored.highest_epoch,
        applied: stored.applied.into_iter().map(Arc::new).collect(),
    };
    Ok((snapshot, ledger, is_new))
}

fn body<'a>(snapshot: &'a Snapshot, ledger: &'a Ledger, sealed: Option<SealedView<'a>>) -> StateView<'a> {
    StateView {
        zone: snapshot.zone(),
        generation: snapshot.generation(),
        highest_epoch: ledger.highest_epoch,
        record_sets: snapshot.record_sets().values().map(|set| set.document()).collect(),
        applied: ledger.applied.iter().map(Arc::as_ref).collect(),
        sealed,
    }
}

fn change<'a>(snapshot: &'a Snapshot, ledger: &Ledger, step: &'a Step<'_>) -> StateChangeView<'a> {
    let Step { applied, proofs } = step;
    let keys = || applied.iter().flat_map(|batch| &batch.changes).map(|change| &change.key);
    let put: BTreeSet<&RecordKey> = keys().chain(proofs.keys()).collect();
    StateChangeView {
        generation: snapshot.generation(),
        highest_epoch: ledger.highest_epoch,
        put: put.into_iter().filter_map(|key| snapshot.get(key)).map(|set| set.document()).collect(),
        removed: keys().filter(|key| snapshot.get(key).is_none()).collect(),
        applied: *applied,
        sealed: (!proofs.is_empty()).then(|| SealedView::of(proofs)),
    }
}

/// Sees to it that the file is on disk as it is read.
fn is_synced(directory: &Path) -> bool {
    let path = directory.join(STATE_FILE_NAME);
    match File::open(&path).and_then(|file| file.sync_data()) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "cannot sync it; it is written anew");
            false
        }
    }
}

/// 0 for a clock before 1970: the log is for reading, nothing is decided by it.
fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
