//! Applying a batch of transactions to one redb transaction.
//!
//! Each sees what those before it in the batch did, as if they had come one by one. So a conflict may show a value
//! that is not durable yet, and no answer leaves before the batch is committed.

use super::envelope::{Envelope, encode};
use super::failure::Failure;
use super::totals::Totals;
use super::verify::{META, META_TOTALS, RECORDS};
use crate::error::TxnError;
use crate::types::{Change, ChangeKind, Changes, Compare, Expect, Op, Revision, Txn, Versioned};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::sync::Arc;

type Records<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// What will be answered to one transaction once the batch is durable.
#[derive(Debug)]
pub(crate) enum Outcome {
    Changed(Arc<Changes>),
    /// All compares held, and there was nothing to change.
    Unchanged(Revision),
    Refused(TxnError),
}

/// A batch applied, not committed.
#[derive(Debug)]
pub(crate) struct Staged {
    /// What the store adds up to once it is.
    pub totals: Totals,
    /// In the order of the transactions.
    pub outcomes: Vec<Outcome>,
}

/// Applies the transactions, taking their operations. Whoever gets the redb transaction commits or aborts it.
pub(crate) fn stage<'a>(
    database: &Database,
    txns: impl Iterator<Item = &'a mut Txn>,
    before: Totals,
) -> Result<(WriteTransaction, Staged), Failure> {
    let write = database.begin_write().map_err(Failure::of)?;
    let mut staged = Staged { totals: before, outcomes: Vec::new() };
    {
        let mut records = write.open_table(RECORDS).map_err(Failure::of)?;
        let mut known = Known::default();
        for txn in txns {
            staged.outcomes.push(apply(&mut records, &mut staged.totals, &mut known, txn)?);
        }
        if staged.totals != before {
            let mut meta = write.open_table(META).map_err(Failure::of)?;
            meta.insert(META_TOTALS, staged.totals.encode().as_slice()).map_err(Failure::of)?;
        }
    }
    Ok((write, staged))
}

/// The compare that a batch saw hold last, while nothing in the batch has changed its key. Every append of every run
/// demands the same leader's record: it is looked up, and its checksum computed, once a batch.
#[derive(Debug, Default)]
struct Known(Option<Compare>);

impl Known {
    fn has(&self, compare: &Compare) -> bool {
        self.0.as_ref() == Some(compare)
    }

    fn learn(&mut self, compare: &Compare) {
        // An `Absent` is most often followed by the put that ends it.
        if compare.expect != Expect::Absent {
            self.0 = Some(compare.clone());
        }
    }

    fn forget(&mut self, changed: &str) {
        if self.0.as_ref().is_some_and(|compare| compare.key == changed) {
            self.0 = None;
        }
    }
}

fn apply(
    records: &mut Records<'_>,
    totals: &mut Totals,
    known: &mut Known,
    txn: &mut Txn,
) -> Result<Outcome, Failure> {
    for compare in &txn.compares {
        if known.has(compare) {
            continue;
        }
        let stored = records.get(compare.key.as_bytes()).map_err(Failure::of)?;
        let current = stored.as_ref().map(|stored| decode(&compare.key, stored.value())).transpose()?;
        if !compare.holds(current.map(|envelope| envelope.mod_revision)) {
            let current = current.map(Envelope::to_versioned);
            return Ok(Outcome::Refused(TxnError::Conflict { key: compare.key.clone(), current }));
        }
        known.learn(compare);
    }
    let revision = totals.revision.next();
    let mut changes = Vec::with_capacity(txn.ops.len());
    for op in std::mem::take(&mut txn.ops) {
        known.forget(op.key());
        match op {
            Op::Put { key, value } => {
                // A journal's append has just been seen to be absent: a third of its cost is not looking again.
                let absent = txn.compares.iter().any(|seen| seen.expect == Expect::Absent && seen.key == key);
                changes.push(put(records, totals, key, value, revision, absent)?);
            }
            Op::Delete { key } => changes.extend(delete(records, totals, key)?),
        }
    }
    if changes.is_empty() {
        return Ok(Outcome::Unchanged(totals.revision));
    }
    totals.revision = revision;
    Ok(Outcome::Changed(Arc::new(Changes { revision, changes })))
}

fn put(
    records: &mut Records<'_>,
    totals: &mut Totals,
    key: String,
    value: Vec<u8>,
    revision: Revision,
    absent: bool,
) -> Result<Change, Failure> {
    let mut create_revision = revision;
    if !absent && let Some(stored) = records.get(key.as_bytes()).map_err(Failure::of)? {
        let replaced = decode(&key, stored.value())?;
        create_revision = replaced.create_revision;
        totals.remove(replaced.digest());
    }
    let (bytes, digest) = encode(key.as_bytes(), &value, create_revision, revision);
    records.insert(key.as_bytes(), bytes.as_slice()).map_err(Failure::of)?;
    totals.add(digest);
    let kind = ChangeKind::Put(Versioned { value, create_revision, mod_revision: revision });
    Ok(Change { key, kind })
}

fn delete(records: &mut Records<'_>, totals: &mut Totals, key: String) -> Result<Option<Change>, Failure> {
    let Some(stored) = records.remove(key.as_bytes()).map_err(Failure::of)? else { return Ok(None) };
    totals.remove(decode(&key, stored.value())?.digest());
    drop(stored);
    Ok(Some(Change { key, kind: ChangeKind::Deleted }))
}

fn decode<'a>(key: &str, bytes: &'a [u8]) -> Result<Envelope<'a>, Failure> {
    Envelope::decode(key.as_bytes(), bytes)
        .map_err(|problem| Failure::Corrupt(format!("key {key:?}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages a batch on an empty store whose leader is put by the batch's first transaction.
    fn outcomes(mut batch: Vec<Txn>) -> Vec<Outcome> {
        let database =
            Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        batch.insert(0, Txn::new().put("leader", "one"));
        let (write, staged) = stage(&database, batch.iter_mut(), Totals::default()).unwrap();
        write.abort().unwrap();
        staged.outcomes
    }

    fn under(leader: u64, key: &str) -> Txn {
        let txn = Txn::new().expect("leader", Expect::ModRevision(Revision(leader)));
        txn.expect(key, Expect::Absent).put(key, "value")
    }

    #[track_caller]
    fn is_refused(outcome: &Outcome, of: &str) {
        let Outcome::Refused(TxnError::Conflict { key, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(key, of);
    }

    #[test]
    fn a_compare_that_held_is_looked_at_again_once_its_batch_changed_the_key() {
        let next = Txn::new().put("leader", "two");
        let outcomes = outcomes(vec![under(1, "a"), under(1, "b"), next, under(1, "c"), under(4, "d")]);
        assert!(outcomes[1..4].iter().all(|outcome| matches!(outcome, Outcome::Changed(_))));
        is_refused(&outcomes[4], "leader");
        assert!(matches!(outcomes[5], Outcome::Changed(_)), "{:?}", outcomes[5]);

        let gone = Txn::new().delete("leader");
        let exists = || Txn::new().expect("leader", Expect::Exists).put("x", "value");
        let outcomes = self::outcomes(vec![exists(), under(1, "a"), gone, under(1, "b"), exists()]);
        is_refused(&outcomes[4], "leader");
        is_refused(&outcomes[5], "leader");
    }

    #[test]
    fn what_was_absent_is_there_for_the_rest_of_the_batch() {
        let outcomes = outcomes(vec![under(1, "a"), under(1, "a"), under(1, "b")]);
        assert!(matches!(outcomes[1], Outcome::Changed(_)));
        is_refused(&outcomes[2], "a");
        assert!(matches!(outcomes[3], Outcome::Changed(_)));
    }
}
