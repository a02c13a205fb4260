//! Every command, decision and refusal, in order, kept for ever, each with the hash of the one before it.
//!
//! The chain neither forks nor has gaps. Records are written one at a time, and each in one transaction with the head of
//! the chain, which must still be the one that it was linked to: of two that were linked to the same head one lands.
//! Where an answer was lost, a write failed, or whoever waited for it went away, the head in memory is forgotten and
//! read again before the next record. A predecessor's write that is still on its way lands before the take-over or, by
//! the leader's record (I3), never; the head is read after that.

use crate::coordinator::Coordinator;
use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use drover_model::audit::AuditHead;
pub use drover_model::audit::AuditRecord;
use drover_model::traffic::Actor;
use drover_store::{Expect, Limited, Revision, Txn, TxnError};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Attempts to append a record behind a head that turned out to be another than the one in memory.
const APPEND_ATTEMPTS: u32 = 3;

/// Numbers for numbered records, found once at the start and counted on in memory: only the leader writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The next number.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The last number given out.
    pub fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts on after `number`.
    pub fn continue_after(&self, number: u64) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}

/// The number at the end of a store key.
#[must_use]
pub fn number_of_key(key: &str) -> u64 {
    key.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What a key of the store holds of the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The last record's number and hash; before all records, in the order of keys.
    Head,
    /// The record of this number.
    Record(u64),
}

impl Kept {
    /// What is under `key`, when it is of the audit.
    #[must_use]
    pub fn under(key: &str) -> Option<Self> {
        match key {
            keys::AUDIT_HEAD => Some(Self::Head),
            _ => key.starts_with(keys::AUDIT).then(|| Self::Record(number_of_key(key))),
        }
    }
}

/// Where the chain goes on.
#[derive(Debug, Default)]
pub(crate) struct AuditChain {
    last: Counter,
    /// Unknown until it was read, and again after anything else than a success.
    tail: Mutex<Option<Tail>>,
}

/// The end of the audit.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// The last record that is linked.
    head: Option<AuditHead>,
    /// Where the store says so.
    said_at: Option<Revision>,
    /// The highest number, which an older build may have given to a record without a link.
    number: u64,
}

impl Tail {
    async fn read(db: &Db) -> Result<Self, CoordinatorError> {
        let number = db.last_number(keys::AUDIT).await?;
        let (head, said_at) = match db.get_placed::<AuditHead>(keys::AUDIT_HEAD).await {
            Err(e) if e.is_of_one_record() => Self::head_of(db, number).await?,
            read => read?.unzip(),
        };
        Ok(Self { head, said_at, number: number.max(head.map_or(0, |head| head.number)) })
    }

    /// What a head that can't be read must have said: its last record's number and hash, in the place of what is there.
    /// Where nobody can read the last record either, there is none to link the next one to: the chain is broken there, which
    /// `drover audit verify` shows.
    async fn head_of(
        db: &Db,
        number: u64,
    ) -> Result<(Option<AuditHead>, Option<Revision>), CoordinatorError> {
        let failed = |e| CoordinatorError::store("read the head of the audit", e);
        let there = db.store().get(keys::AUDIT_HEAD).await.map_err(failed)?;
        let last = db.get_sound::<AuditRecord>(&keys::numbered(keys::AUDIT, number)).await?;
        let link = last.and_then(|(record, _)| record.chain);
        Ok((link.map(|link| AuditHead { number, hash: link.hash }), there.map(|there| there.mod_revision)))
    }
}

/// What became of a record that was to be written together with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Both are durable.
    Together,
    /// Neither is: a condition of what was to be written beside the record does not hold.
    Otherwise,
}

impl AuditChain {
    /// The highest number of a record.
    pub(crate) fn last(&self) -> u64 {
        self.last.last()
    }

    /// Finds the end of what is in the store. Only after the leader's record was taken.
    pub(crate) async fn recall(&self, db: &Db) -> Result<(), CoordinatorError> {
        let mut held = self.tail.lock().await;
        let tail = Tail::read(db).await?;
        if let Some(head) = tail.head.filter(|head| head.number != tail.number) {
            tracing::error!(
                last = tail.number,
                "the audit's chain ends at {head}, its records elsewhere: `drover audit verify` says where it is broken"
            );
        }
        self.last.continue_after(tail.number);
        *held = Some(tail);
        Ok(())
    }

    /// Finds the number of the last record while another coordinator writes them: it may be one ahead of the head that was read before it.
    pub(crate) async fn follow(&self, db: &Db) -> Result<(), CoordinatorError> {
        self.last.continue_after(db.last_number_from(keys::AUDIT, self.last.last()).await?);
        Ok(())
    }

    /// Makes `record` the next one, in one transaction with `also`, which carries the leader's fence.
    async fn append(&self, db: &Db, record: AuditRecord, also: Txn) -> Result<Appended, CoordinatorError> {
        let mut held = self.tail.lock().await;
        for _ in 0..APPEND_ATTEMPTS {
            // Taken out: whoever is dropped or fails on the way leaves it unknown.
            let tail = match held.take() {
                Some(tail) => tail,
                None => Tail::read(db).await?,
            };
            let number = tail.number + 1;
            let linked = AuditRecord { number, ..record.clone() }.linked(tail.head.map(|h| h.hash));
            let Some(link) = linked.chain else { continue };
            let head = AuditHead { number, hash: link.hash };
            let key = keys::numbered(keys::AUDIT, number);
            let expected = tail.said_at.map_or(Expect::Absent, Expect::ModRevision);
            let txn = also.clone().expect(keys::AUDIT_HEAD, expected).expect(key.clone(), Expect::Absent);
            let txn = db.put_op(db.put_op(txn, &key, &linked)?, keys::AUDIT_HEAD, &head)?;
            let done = match db.commit_raw(txn).await {
                Ok(revision) => Ok(revision),
                Err(TxnError::Conflict { key: at, .. }) if at == keys::AUDIT_HEAD || at == key => continue,
                Err(TxnError::Conflict { key, .. }) if key != keys::LEADER => {
                    *held = Some(tail);
                    return Ok(Appended::Otherwise);
                }
                Err(error) => landed(db, head).await.ok_or(error),
            };
            let at = done.map_err(|e| not_written(e, number))?;
            *held = Some(Tail { head: Some(head), said_at: Some(at), number });
            self.last.continue_after(number);
            return Ok(Appended::Together);
        }
        let what =
            format!("write the audit: its head changed {APPEND_ATTEMPTS} times, which only its leader does");
        Err(CoordinatorError::Fenced { what })
    }
}

/// Whether a record did land whose answer was lost: its hash covers its number, its time and all else of it.
async fn landed(db: &Db, wanted: AuditHead) -> Option<Revision> {
    let (head, at) = db.get::<AuditHead>(keys::AUDIT_HEAD).await.ok()??;
    (head == wanted).then_some(at)
}

fn not_written(error: TxnError, number: u64) -> CoordinatorError {
    let what = format!("write record {number} of the audit");
    match error {
        TxnError::Conflict { .. } => CoordinatorError::Fenced { what },
        TxnError::TooLarge { what: Limited::Value { .. } | Limited::Bytes, actual, limit } => {
            CoordinatorError::TooLarge { what, bytes: actual, limit }
        }
        error => CoordinatorError::store(what, error),
    }
}

impl Coordinator {
    /// Writes one line.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub async fn audit(
        &self,
        by: &Actor,
        verb: &str,
        subject: &str,
        reason: &str,
        outcome: &str,
    ) -> Result<(), CoordinatorError> {
        self.audit_with(self.db.fenced(), by, [verb, subject, reason, outcome]).await.map(|_| ())
    }

    /// Writes one line together with what it tells of, so that neither is there without the other. The words are verb,
    /// subject, reason and outcome.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub(crate) async fn audit_with(
        &self,
        also: Txn,
        by: &Actor,
        [verb, subject, reason, outcome]: [&str; 4],
    ) -> Result<Appended, CoordinatorError> {
        let record = AuditRecord {
            number: 0,
            at: self.clock.now(),
            epoch: self.db.epoch(),
            by: by.clone(),
            verb: verb.into(),
            subject: subject.into(),
            reason: reason.into(),
            outcome: outcome.into(),
            chain: None,
        };
        self.counters.audit.append(&self.db, record, also).await
    }
}

#[cfg(test)]
mod tests;
