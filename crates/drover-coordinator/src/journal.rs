//! A run's journal in the store: one key a record, each created only if absent and only while this coordinator leads.

use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use crate::fault;
use crate::runs_index;
use drover_exec::{Journal, JournalError};
use drover_model::RunId;
use drover_model::api::RunSummary;
use drover_model::journal::{Entry, Record};
use drover_store::{Expect, Limited, Op, Txn, TxnError};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The journal of all runs.
#[derive(Clone)]
pub struct StoreJournal {
    db: Db,
    driven: Option<Driven>,
}

/// The run that is driven.
#[derive(Clone)]
struct Driven {
    /// Its end is noted in the index of runs.
    run: RunSummary,
    /// Its end waits for what it still has under way in the store.
    shifting: Arc<Mutex<()>>,
}

impl StoreJournal {
    /// In this store, under its leader's epoch.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, driven: None }
    }

    /// For driving this run: its end is noted in the index of runs in the transaction of its last record, and comes after
    /// the last of its effects: who is told that a run is over may begin the next one on the same services (I2).
    #[must_use]
    pub fn of(db: Db, run: RunSummary, shifting: Arc<Mutex<()>>) -> Self {
        Self { db, driven: Some(Driven { run, shifting }) }
    }

    /// Makes a run's first record durable together with `also`: all of it or nothing.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn begin(&mut self, first: &Record, mut also: Vec<Op>) -> Result<(), JournalError> {
        also.push(runs_index::begun(&first.run).map_err(|e| not_encoded(&e))?);
        self.write(first, also).await
    }

    async fn write(&mut self, record: &Record, also: Vec<Op>) -> Result<(), JournalError> {
        let key = keys::journal(&record.run, record.sequence);
        let unavailable = |detail: String| JournalError::Unavailable { detail };
        let txn = self
            .db
            .put_op(self.db.fenced().expect(key.clone(), Expect::Absent), &key, record)
            .map_err(|e| unavailable(drover_model::chain(&e)))?
            .for_journal();
        let txn = also.into_iter().fold(txn, Txn::op);
        fault::point(|| fault::beside("before-append", record));
        match self.db.commit_raw(txn).await {
            Ok(_) => {
                fault::point(|| fault::beside("after-append", record));
                Ok(())
            }
            Err(TxnError::Conflict { key: k, .. }) if k == keys::LEADER => {
                Err(JournalError::Fenced { detail: "the leader's record was taken over".into() })
            }
            Err(TxnError::Conflict { .. }) if self.stands(&key, record).await => Ok(()),
            Err(TxnError::Conflict { .. }) => Err(JournalError::Conflict { sequence: record.sequence }),
            Err(e @ (TxnError::OutOfSpace { .. } | TxnError::QuotaReached { .. })) => {
                Err(JournalError::OutOfSpace { detail: e.to_string() })
            }
            Err(TxnError::TooLarge { what: Limited::Value { .. } | Limited::Bytes, actual, limit }) => {
                Err(JournalError::TooLarge { bytes: actual, limit })
            }
            Err(e) => Err(unavailable(e.to_string())),
        }
    }

    /// Is what stands at the record's place this very record? Then an earlier attempt did land.
    async fn stands(&self, key: &str, record: &Record) -> bool {
        matches!(self.db.get::<Record>(key).await, Ok(Some((found, _))) if found == *record)
    }
}

fn not_encoded(e: &CoordinatorError) -> JournalError {
    JournalError::Unavailable { detail: drover_model::chain(e) }
}

impl Journal for StoreJournal {
    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let Some(Driven { run, shifting }) = self.driven.clone() else {
            return self.write(record, Vec::new()).await;
        };
        let also = runs_index::ended(&run, record).map_err(|e| not_encoded(&e))?;
        let _nothing_under_way = match record.entry {
            Entry::Ended { .. } => Some(shifting.lock().await),
            _ => None,
        };
        self.write(record, also).await
    }

    async fn load(&mut self, run: &RunId) -> Result<Vec<Record>, JournalError> {
        let records = self.db.list_whole::<Record>(&keys::journal_of(run)).await;
        match records {
            Ok(list) => Ok(list.into_iter().map(|(_, r)| r).collect()),
            Err(e) => Err(JournalError::Unavailable { detail: drover_model::chain(&e) }),
        }
    }
}
