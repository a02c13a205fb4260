//! The one thread that writes.
//!
//! Syncing the disk is what costs, and one sync makes any number of transactions durable: while one batch syncs,
//! the next gathers in the queue (group commit). What a batch changed is acknowledged only after its commit is
//! durable and the anchor knows of it.
//!
//! The hard case is a commit that fails. redb can't say then whether it became durable, and refuses to go on. If the
//! disk was full the file is opened anew, verified as at start, and its totals tell which it was; on any other
//! failure the store stops, and the callers are told that the outcome is unknown.

use super::anchor::Anchor;
use super::backend::BackendHandle;
use super::failure::Failure;
use super::lock::StoreLock;
use super::open::Ready;
use super::shared::{Shared, locked};
use super::space::{Load, Room, is_out_of_space};
use super::stage::{Outcome, Staged, stage};
use super::totals::Totals;
use super::verify::{open_held, verify_records};
use crate::error::TxnError;
use crate::types::{Committed, Txn};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Most transactions in one commit: at some 10 µs each they add less to the wait than the sync does.
pub(crate) const BATCH_TXNS_MAX: usize = 1024;
/// Most bytes in one commit, so that a few large values do not make small ones wait long.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Longest wait for the rest of a batch. Callers that were answered together come back together, within some
/// tens of microseconds; without the wait the first of them would have a sync to itself.
const GATHER_MAX: Duration = Duration::from_micros(200);

/// A transaction and where to answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub txn: Txn,
    pub reply: oneshot::Sender<Result<Committed, TxnError>>,
}

impl Job {
    fn answer(self, result: Result<Committed, TxnError>) {
        // A caller that no longer waits does not want to know.
        let _ = self.reply.send(result);
    }
}

/// What may be tried.
#[derive(Debug, Default)]
struct Admitted {
    /// In one commit.
    batch: Vec<Job>,
    /// Each in a commit of its own, as it may fail for want of room.
    singly: Vec<Job>,
}

#[derive(Debug)]
enum Health {
    Sound,
    /// Opened anew after the disk was full; its writes wait in memory for room.
    Held,
    Stopped(String),
}

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    totals: Totals,
    anchor: Anchor,
    anchor_failed: bool,
    backend: BackendHandle,
    health: Health,
    /// Free bytes on the disk when redb last found no room. With no more than that, only deletes are worth a try.
    exhausted_at: Option<u64>,
    last_batch: usize,
    last_commit: Duration,
    /// Released last, after the file is closed.
    _lock: StoreLock,
}

impl Writer {
    /// Splits a verified store into what is shared with readers and the writer.
    pub fn new(ready: Ready, shared: Arc<Shared>) -> Self {
        let Ready { opened, totals, anchor, reserve: _, lock } = ready;
        shared.install(opened.database, opened.backend.clone());
        Self {
            shared,
            totals,
            anchor,
            anchor_failed: false,
            backend: opened.backend,
            health: Health::Sound,
            exhausted_at: None,
            last_batch: 0,
            last_commit: Duration::ZERO,
            _lock: lock,
        }
    }

    /// Serves until every sender is gone and the queue is empty.
    pub fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let jobs = self.gather(first, &mut queue);
            self.last_batch = jobs.len();
            self.serve(jobs);
        }
        self.close();
    }

    fn gather(&self, first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
        let started = Instant::now();
        let patience =
            if self.last_batch > 1 { GATHER_MAX.min(self.last_commit / 4) } else { Duration::ZERO };
        let mut bytes = first.txn.bytes();
        let mut jobs = vec![first];
        while jobs.len() < BATCH_TXNS_MAX && bytes < BATCH_BYTES_MAX {
            match queue.try_recv() {
                Ok(job) => {
                    bytes += job.txn.bytes();
                    jobs.push(job);
                }
                Err(mpsc::error::TryRecvError::Empty)
                    if jobs.len() < self.last_batch && started.elapsed() < patience =>
                {
                    std::thread::yield_now();
                }
                Err(_) => break,
            }
        }
        jobs
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        if let Health::Stopped(reason) = &self.health {
            let error = TxnError::Failed { path: self.shared.paths.store.clone(), reason: reason.clone() };
            return answer_all(jobs, &error);
        }
        let Admitted { batch, singly } = self.admit(jobs);
        self.commit_or_recover(batch);
        for job in singly {
            let hopeless = self.exhausted_at.is_some_and(|at| self.free_bytes() <= at);
            if hopeless && !job.txn.only_deletes() {
                self.refuse(vec![job], self.free_bytes());
            } else {
                self.shared.reserve.set_frugal(!job.txn.only_deletes());
                self.commit_or_recover(vec![job]);
                self.shared.reserve.set_frugal(false);
            }
        }
    }

    fn commit_or_recover(&mut self, mut jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        if matches!(self.health, Health::Held) {
            self.try_release();
        }
        match &self.health {
            Health::Sound => {}
            Health::Held => return self.refuse(jobs, self.free_bytes()),
            Health::Stopped(_) => return self.answer_unknown(jobs, false),
        }
        let started = Instant::now();
        let mut staged = None;
        match self.commit(&mut jobs, &mut staged) {
            Ok(()) => {
                self.last_commit = started.elapsed();
                if let Some(staged) = staged {
                    self.publish(jobs, staged);
                }
            }
            Err(failure) => self.after_failure(&failure, staged, jobs),
        }
    }

    /// Refuses ordinary work that there is no room for, before redb is asked: a failure inside of it costs a reopening.
    /// Urgent work is worth that cost: there may be room inside the file that only redb knows of.
    fn admit(&self, jobs: Vec<Job>) -> Admitted {
        let load = jobs.iter().fold(Load::default(), |load, job| load.with(&job.txn));
        // A disk that does not tell is taken to have room; if it has none, redb's failure says so.
        let Some(free) = self.shared.free_bytes() else {
            return Admitted { batch: jobs, singly: Vec::new() };
        };
        let Room::ReserveOnly(mut free) = self.shared.reserve.room(load.needed_bytes(), free) else {
            return Admitted { batch: jobs, singly: Vec::new() };
        };
        let (urgent, ordinary): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.txn.may_use_reserve());
        self.refuse(ordinary, free);
        let mut admitted = Admitted::default();
        let mut load = Load::default();
        for job in urgent {
            let with_job = load.with(&job.txn);
            let needed = with_job.needed_bytes();
            if free < needed && self.shared.reserve.release() {
                free = self.shared.free_bytes().unwrap_or(needed);
            }
            if free < needed {
                admitted.singly.push(job);
            } else {
                load = with_job;
                admitted.batch.push(job);
            }
        }
        admitted
    }

    fn refuse(&self, jobs: Vec<Job>, free_bytes: u64) {
        for job in jobs {
            let needed_bytes = Load::default().with(&job.txn).needed_bytes();
            let path = self.shared.paths.store.clone();
            job.answer(Err(TxnError::OutOfSpace { path, needed_bytes, free_bytes }));
        }
    }

    fn free_bytes(&self) -> u64 {
        self.shared.free_bytes().unwrap_or(0)
    }

    /// Applies and commits. `staged` is filled before the commit begins: from then on the outcome is redb's.
    fn commit(&self, jobs: &mut [Job], staged: &mut Option<Staged>) -> Result<(), Failure> {
        let database = self.shared.database();
        let database =
            database.as_ref().ok_or_else(|| Failure::Corrupt("the store is not open".to_owned()))?;
        Failure::catch(|| {
            let (write, applied) =
                stage(&database.database, jobs.iter_mut().map(|job| &mut job.txn), self.totals)?;
            let changed = applied.totals != self.totals;
            locked(&self.shared.hub).committing(applied.totals.revision);
            *staged = Some(applied);
            if changed { write.commit().map_err(Failure::of) } else { write.abort().map_err(Failure::of) }
        })
    }

    /// Tells the anchor, watchers, readers of the totals, and then the callers.
    fn publish(&mut self, jobs: Vec<Job>, staged: Staged) {
        if staged.totals != self.totals {
            self.advance(&staged);
        }
        for (job, outcome) in jobs.into_iter().zip(staged.outcomes) {
            job.answer(match outcome {
                Outcome::Changed(changes) => Ok(Committed { revision: changes.revision }),
                Outcome::Unchanged(revision) => Ok(Committed { revision }),
                Outcome::Refused(error) => Err(error),
            });
        }
    }

    fn advance(&mut self, staged: &Staged) {
        if staged.totals.records < self.totals.records {
            self.exhausted_at = None;
        }
        self.totals = staged.totals;
        self.shared.set_records(self.totals.records);
        // What is committed is durable without the anchor; losing its watch is a warning, once.
        if let Err(error) = self.anchor.write(&self.totals, false)
            && !std::mem::replace(&mut self.anchor_failed, true)
        {
            let path = self.shared.paths.anchor.display();
            tracing::error!(%path, %error, "can't write the anchor: a rollback might not be noticed");
        }
        let mut hub = locked(&self.shared.hub);
        for outcome in &staged.outcomes {
            if let Outcome::Changed(changes) = outcome {
                hub.publish(Arc::clone(changes));
            }
        }
    }

    fn after_failure(&mut self, failure: &Failure, staged: Option<Staged>, jobs: Vec<Job>) {
        let reopen = self
            .backend
            .failure()
            .is_some_and(|failure| is_out_of_space(failure.kind) && !failure.during_sync);
        if !reopen {
            self.stop(failure.to_string());
            return self.answer_unknown(jobs, staged.is_some());
        }
        tracing::error!(path = %self.shared.paths.store.display(), %failure, "no room on the disk; opening the store anew");
        let before = self.totals;
        // The repair may have what the floor kept.
        self.shared.reserve.set_frugal(false);
        if let Err(failure) = self.reopen(staged.as_ref().map_or(before, |staged| staged.totals)) {
            self.stop(failure.to_string());
            return self.answer_unknown(jobs, staged.is_some());
        }
        match staged {
            Some(staged) if staged.totals == self.totals && staged.totals != before => {
                // It did become part of the file; whether of the disk too, the release's sync has said.
                self.totals = before;
                if matches!(self.health, Health::Sound) {
                    self.publish(jobs, staged);
                } else {
                    self.advance(&staged);
                    self.answer_unknown(jobs, true);
                }
            }
            _ => {
                self.exhausted_at = Some(self.free_bytes());
                self.refuse(jobs, self.free_bytes());
            }
        }
    }

    /// Closes the file and opens it as at start. It must be where it was, or where the failed commit led.
    fn reopen(&mut self, planned: Totals) -> Result<(), Failure> {
        let mut totals = self.totals;
        let backend = self.shared.reinstall(|| {
            let opened =
                open_held(&self.shared.paths.store, &self.shared.reserve, self.shared.options.cache_bytes)?;
            totals = verify_records(&opened.database)?;
            if totals != self.totals && totals != planned {
                return Err(Failure::Corrupt(format!(
                    "after a full disk it is at revision {}, not at {} or {}",
                    totals.revision, self.totals.revision, planned.revision
                )));
            }
            Ok(opened)
        })?;
        self.totals = totals;
        self.backend = backend;
        self.health = Health::Held;
        self.shared.set_stopped(Some("the disk is full".to_owned()));
        self.try_release();
        Ok(())
    }

    fn try_release(&mut self) {
        match self.backend.release() {
            Ok(()) => {
                self.health = Health::Sound;
                self.shared.set_stopped(None);
            }
            Err(error) if is_out_of_space(error.kind()) => {}
            Err(error) => self.stop(error.to_string()),
        }
    }

    fn stop(&mut self, reason: String) {
        tracing::error!(path = %self.shared.paths.store.display(), reason, "the store takes no more writes");
        self.shared.set_stopped(Some(reason.clone()));
        self.health = Health::Stopped(reason);
    }

    fn answer_unknown(&self, jobs: Vec<Job>, commit_began: bool) {
        let reason = match &self.health {
            Health::Stopped(reason) => reason.clone(),
            Health::Sound | Health::Held => "the disk is full".to_owned(),
        };
        let error = if commit_began {
            TxnError::Uncertain { reason }
        } else {
            TxnError::Failed { path: self.shared.paths.store.clone(), reason }
        };
        answer_all(jobs, &error);
    }

    /// Closes the file in good order, and says so in the anchor.
    fn close(&mut self) {
        locked(&self.shared.hub).close();
        let Some(open) = self.shared.uninstall() else { return };
        if !matches!(self.health, Health::Sound) {
            return;
        }
        let path = self.shared.paths.store.display();
        if let Err(failure) = Failure::catch(|| open.database.close().map_err(Failure::of)) {
            tracing::warn!(%path, %failure, "the store was not closed cleanly; it will be repaired when opened");
            return;
        }
        if let Err(error) = self.anchor.write(&self.totals, true).and_then(|()| self.anchor.sync()) {
            tracing::warn!(%path, %error, "can't write the anchor");
        }
    }
}

fn answer_all(jobs: Vec<Job>, error: &TxnError) {
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}
