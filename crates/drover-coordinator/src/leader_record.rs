//! The leader's record and its beat, as the store has them.

use crate::db::{Db, Leader, keys};
use crate::error::CoordinatorError;
use crate::kinds::Placed;
use crate::leading::fence_of;
use drover_exec::leadership::{Event, Sight};
use drover_model::{Epoch, Timestamp};
use drover_store::{Expect, Op, Revision, Txn, TxnError, Versioned};
use serde::{Deserialize, Serialize};

/// A leader's sign of life. What counts is its revision; this is for people who look into the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beat {
    epoch: Epoch,
}

/// Record and beat, as one reading showed them.
#[derive(Debug, Clone)]
pub(crate) struct LeaderSight {
    /// Of which revisions.
    pub sight: Sight,
    /// The record.
    pub leader: Option<Leader>,
}

fn encoded(op: Result<Op, drover_store::JsonError>) -> Result<Op, CoordinatorError> {
    op.map_err(|e| CoordinatorError::store("encode the leader's record", e))
}

fn as_it_was(revision: Option<drover_exec::write_right::Revision>) -> Expect {
    revision.map_or(Expect::Absent, |r| Expect::ModRevision(Revision(r.0)))
}

/// The epoch of whoever takes over from `before`; a store that nobody has led yet begins this incarnation.
pub(crate) fn next_epoch(before: Option<Epoch>, incarnation: u64) -> Epoch {
    before.map_or(Epoch { incarnation, counter: 1 }, |e| Epoch { counter: e.counter.saturating_add(1), ..e })
}

/// Puts the record in the place of what was seen, in a store that may be led.
pub(crate) fn claim(leader: &Leader, seen: Expect) -> Result<Txn, CoordinatorError> {
    let txn = Txn::new()
        .expect(keys::LEADER, seen)
        .expect(keys::RETIRED, Expect::Absent)
        .expect(keys::LEVEL, Expect::Absent)
        .expect(keys::IMPORTING, Expect::Absent)
        .op(encoded(Op::put_json(keys::LEADER, leader))?)
        // As long as there is room for the journal: a run that its predecessor left would else wait for a person.
        .for_journal();
    Ok(txn)
}

impl Db {
    /// Reads record and beat at one revision.
    ///
    /// # Errors
    /// When the store fails or the record is not what was expected.
    pub(crate) async fn sight(&self) -> Result<LeaderSight, CoordinatorError> {
        let what = "read the leader's record";
        let page = self.store().list(keys::LEADER, None, 0).await;
        let page = page.map_err(|e| CoordinatorError::store(what, e))?;
        let find = |key: &str| page.items.iter().find(|item| item.key == key).map(|item| &item.versioned);
        let record = find(keys::LEADER);
        let read = |v: &Versioned| v.decode_json::<Leader>(keys::LEADER)?.value.in_its_place(keys::LEADER);
        let leader = record.map(read).transpose();
        let leader = leader.map_err(|e| CoordinatorError::store(what, e))?;
        let sight = Sight {
            record: record.map(|v| fence_of(v.mod_revision)),
            is_released: leader.as_ref().is_some_and(|l| l.released),
            beat: find(keys::LEADER_BEAT).map(|v| fence_of(v.mod_revision)),
        };
        Ok(LeaderSight { sight, leader })
    }

    /// Swaps the record under the next epoch and writes the first beat with it, if both are still as they were seen.
    /// Nothing when they are not.
    ///
    /// # Errors
    /// When the store fails; the swap may have landed then.
    pub(crate) async fn take_over_from(
        &self,
        seen: &LeaderSight,
        since: Timestamp,
        advertise: Option<String>,
        incarnation: u64,
    ) -> Result<Option<(Leader, Revision)>, CoordinatorError> {
        let epoch = next_epoch(seen.leader.as_ref().map(|l| l.epoch), incarnation);
        let leader = Leader { epoch, pid: std::process::id(), since, advertise, released: false };
        let txn = claim(&leader, as_it_was(seen.sight.record))?
            .expect(keys::LEADER_BEAT, as_it_was(seen.sight.beat))
            .op(encoded(Op::put_json(keys::LEADER_BEAT, &Beat { epoch }))?);
        match self.store().txn(txn).await {
            Ok(done) => Ok(Some((leader, done.revision))),
            Err(TxnError::Conflict { .. }) => Ok(None),
            Err(e) => Err(CoordinatorError::store("take over the leader's record", e)),
        }
    }

    /// Writes a beat behind the fence.
    ///
    /// # Errors
    /// When nobody knows whether it landed.
    pub(crate) async fn beat(&self) -> Result<Event, CoordinatorError> {
        let beat = Beat { epoch: self.epoch() };
        let txn = self.fenced().op(encoded(Op::put_json(keys::LEADER_BEAT, &beat))?).for_journal();
        match self.commit("write a beat", txn).await {
            Ok(_) => Ok(Event::BeatLanded),
            Err(CoordinatorError::Fenced { .. }) => Ok(Event::BeatRefused),
            Err(e) => Err(e),
        }
    }

    /// Puts the record down, behind the fence: whoever sees it takes over at once.
    ///
    /// # Errors
    /// When another one leads already, or nobody knows whether it landed.
    pub(crate) async fn release(&self, seen: Option<&LeaderSight>) -> Result<Event, CoordinatorError> {
        let Some(leader) = seen.and_then(|seen| seen.leader.clone()) else { return Ok(Event::Released) };
        let released = Leader { released: true, ..leader };
        let txn = self.fenced().op(encoded(Op::put_json(keys::LEADER, &released))?).for_journal();
        self.commit("put the leader's record down", txn).await.map(|_| Event::Released)
    }
}
