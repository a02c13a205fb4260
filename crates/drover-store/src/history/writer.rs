//! The thread that writes the history.
//!
//! Entries are committed without a sync as they come, so that they can be read, and synced once an interval.

use super::entry::{EntryId, encode, key_of};
use super::file::{Current, ENTRIES, META, META_SEQUENCE};
use super::{Counters, HistoryError, HistoryOptions};
use crate::embedded::{Failure, FreeSpace};
use redb::{Database, Durability, ReadableTable};
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// Most entries in one commit.
const BATCH_MAX: usize = super::HISTORY_QUEUE_MAX;
/// Most entries removed in one transaction: some 10 ms, during which appends wait in the queue.
const PRUNE_BATCH_MAX: usize = 2000;

/// What comes through the queue.
#[derive(Debug)]
pub(crate) enum Append {
    Entry {
        kind: String,
        timestamp_ms: u64,
        key: String,
        bytes: Vec<u8>,
    },
    /// Nothing, but controls wait.
    Wake,
}

/// What comes beside the queue: it must get through when that is full.
#[derive(Debug)]
pub(crate) enum Control {
    Flush { reply: oneshot::Sender<Result<(), HistoryError>> },
    Prune { kind: String, older_than_ms: u64, reply: oneshot::Sender<Result<Pruned, HistoryError>> },
    SetAside,
}

/// One transaction of pruning.
#[derive(Debug)]
pub(crate) struct Pruned {
    pub removed: u64,
    pub more: bool,
}

pub(crate) struct Writer {
    current: Arc<Current>,
    counters: Arc<Counters>,
    controls: Arc<Mutex<Vec<Control>>>,
    options: HistoryOptions,
    free_space: Arc<dyn FreeSpace>,
    next_sequence: u64,
    synced: Instant,
    unsynced: bool,
    /// Whether the last batch was dropped, so that a lasting trouble is told once.
    dropping: bool,
    /// Why entries were lost since the last flush, which reports it.
    lost: Option<String>,
}

impl Writer {
    pub fn new(
        current: Arc<Current>,
        counters: Arc<Counters>,
        controls: Arc<Mutex<Vec<Control>>>,
        options: HistoryOptions,
        free_space: Arc<dyn FreeSpace>,
        next_sequence: u64,
    ) -> Self {
        Self {
            current,
            counters,
            controls,
            options,
            free_space,
            next_sequence,
            synced: Instant::now(),
            unsynced: false,
            dropping: false,
            lost: None,
        }
    }

    /// Serves until the history is dropped and the queue empty.
    pub fn run(mut self, queue: &Receiver<Append>) {
        loop {
            let first = queue.recv_timeout(self.options.sync_interval);
            // Before the queue is drained: a flush covers all that was queued when it was asked for.
            let controls = std::mem::take(&mut *self.controls.lock().unwrap_or_else(PoisonError::into_inner));
            let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
            let entries: Vec<Append> =
                first.ok().into_iter().chain(queue.try_iter().take(BATCH_MAX)).collect();
            let flushes = controls.iter().any(|control| matches!(control, Control::Flush { .. }));
            let must_sync = ended || flushes;
            if let Err(reason) = self.write(entries, must_sync) {
                self.lost = Some(reason);
            }
            for control in controls {
                self.serve(control);
            }
            if ended {
                break;
            }
        }
    }

    fn write(&mut self, entries: Vec<Append>, must_sync: bool) -> Result<(), String> {
        let count = entries.iter().filter(|entry| matches!(entry, Append::Entry { .. })).count() as u64;
        let sync = must_sync || self.synced.elapsed() >= self.options.sync_interval;
        if count == 0 && !(sync && self.unsynced) {
            return Ok(());
        }
        if let Some(free) = self.short_of_space() {
            let limit = self.options.free_bytes_min;
            let reason = format!("{free} bytes free on the disk, fewer than {limit}");
            return self.dropped(count, reason);
        }
        let mut sequence = self.next_sequence;
        let current = Arc::clone(&self.current);
        match current.with(|database| commit(database, entries, &mut sequence, sync)) {
            Ok(()) => {
                self.next_sequence = sequence;
                self.unsynced = !sync;
                if sync {
                    self.synced = Instant::now();
                }
                self.dropping = false;
                self.counters.written.fetch_add(count, Ordering::Relaxed);
                Ok(())
            }
            Err(failure) => {
                let reason = failure.to_string();
                self.mend(&failure);
                self.dropped(count, reason)
            }
        }
    }

    fn short_of_space(&self) -> Option<u64> {
        let free = self.free_space.free_bytes(self.current.path()).ok()?;
        (free < self.options.free_bytes_min).then_some(free)
    }

    fn dropped(&mut self, count: u64, reason: String) -> Result<(), String> {
        self.counters.dropped.fetch_add(count, Ordering::Relaxed);
        if !std::mem::replace(&mut self.dropping, true) {
            tracing::error!(path = %self.current.path().display(), reason, "dropping history entries");
        }
        Err(reason)
    }

    /// After a failure redb takes no more writes: the file is opened anew, or replaced.
    fn mend(&mut self, failure: &Failure) {
        match self.current.reopen(matches!(failure, Failure::Corrupt(_))) {
            Ok((sequence, set_aside)) => {
                // Never backwards: what a reader has seen must not come again under another entry.
                self.next_sequence = self.next_sequence.max(sequence);
                self.counters.set_aside.fetch_add(u64::from(set_aside.is_some()), Ordering::Relaxed);
            }
            Err(error) => tracing::error!(%error, "can't open the history anew"),
        }
    }

    fn serve(&mut self, control: Control) {
        match control {
            Control::Flush { reply } => {
                let result = match self.lost.take() {
                    None => Ok(()),
                    Some(reason) => {
                        Err(self.current.error("write", Failure::Io(std::io::Error::other(reason))))
                    }
                };
                let _ = reply.send(result);
            }
            Control::Prune { kind, older_than_ms, reply } => {
                let result = self.current.with(|database| prune(database, &kind, older_than_ms));
                self.unsynced = true;
                let _ = reply.send(result.map_err(|failure| {
                    self.mend(&failure);
                    self.current.error("prune", failure)
                }));
            }
            Control::SetAside => self.mend(&Failure::Corrupt("a reader found damage".to_owned())),
        }
    }
}

fn commit(database: &Database, entries: Vec<Append>, sequence: &mut u64, sync: bool) -> Result<(), Failure> {
    let mut write = database.begin_write().map_err(Failure::of)?;
    write.set_durability(if sync { Durability::Immediate } else { Durability::None }).map_err(Failure::of)?;
    {
        let mut table = write.open_table(ENTRIES).map_err(Failure::of)?;
        for entry in entries {
            let Append::Entry { kind, timestamp_ms, key, bytes } = entry else { continue };
            let stored = key_of(&kind, EntryId { timestamp_ms, sequence: *sequence });
            let value = encode(&stored, &key, &bytes);
            table.insert(stored.as_slice(), value.as_slice()).map_err(Failure::of)?;
            *sequence += 1;
        }
        let mut meta = write.open_table(META).map_err(Failure::of)?;
        meta.insert(META_SEQUENCE, *sequence).map_err(Failure::of)?;
    }
    write.commit().map_err(Failure::of)
}

fn prune(database: &Database, kind: &str, older_than_ms: u64) -> Result<Pruned, Failure> {
    let from = key_of(kind, EntryId { timestamp_ms: 0, sequence: 0 });
    let to = key_of(kind, EntryId { timestamp_ms: older_than_ms, sequence: 0 });
    let mut write = database.begin_write().map_err(Failure::of)?;
    // Pruning again what a crash brought back is harmless.
    write.set_durability(Durability::None).map_err(Failure::of)?;
    let mut old = Vec::new();
    {
        let mut table = write.open_table(ENTRIES).map_err(Failure::of)?;
        let range = table.range::<&[u8]>((Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice())));
        for entry in range.map_err(Failure::of)?.take(PRUNE_BATCH_MAX + 1) {
            old.push(entry.map_err(Failure::of)?.0.value().to_vec());
        }
        for key in old.iter().take(PRUNE_BATCH_MAX) {
            table.remove(key.as_slice()).map_err(Failure::of)?;
        }
    }
    write.commit().map_err(Failure::of)?;
    let removed = old.len().min(PRUNE_BATCH_MAX);
    Ok(Pruned { removed: removed as u64, more: old.len() > PRUNE_BATCH_MAX })
}
