//! Decides what a batch does to the state, purely: the publisher then writes it down and makes it visible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drover_model::Epoch;

use super::batch::{AppliedChange, Batch, Change, Conflict, FenceReason, PublishError};
use super::{CHANGES_PER_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::zone::{DnsName, InvalidRecordSet, RecordKey, Snapshot, ValidRecordSet};

/// The record sets after a batch, and what changed on the way (nothing: all was as asked for).
pub(super) struct Decision {
    pub(super) record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
    pub(super) applied: Vec<AppliedChange>,
    /// What each change of the batch asks for, in their order; none: no such set.
    pub(super) wanted: Vec<(RecordKey, Option<Arc<ValidRecordSet>>)>,
}

/// I3: may this epoch write after `highest`? The same or a later one of the same incarnation may. Incarnations are random
/// and have no order: another one is refused until it is adopted. Nothing: it may.
pub(crate) fn objection(highest: Epoch, given: Epoch) -> Option<FenceReason> {
    if given.incarnation != highest.incarnation {
        return Some(FenceReason::OtherIncarnation);
    }
    if given.counter < highest.counter {
        cov_mark::hit!(i3_dns_refuses_an_older_epoch);
        return Some(FenceReason::Older);
    }
    None
}

/// As [`objection`], where nobody may have written yet.
pub(super) fn check_fence(highest: Option<Epoch>, given: Epoch) -> Result<(), PublishError> {
    let Some(highest) = highest else { return Ok(()) };
    match objection(highest, given) {
        None => Ok(()),
        Some(reason) => Err(PublishError::Fenced { given, highest, reason }),
    }
}

pub(super) fn decide(current: &Snapshot, batch: &Batch) -> Result<Decision, PublishError> {
    check_shape(batch)?;
    let mut steps = Vec::with_capacity(batch.changes.len());
    let mut keys = BTreeSet::new();
    for change in &batch.changes {
        let step = Step::of(change, batch.epoch)?;
        if !keys.insert(step.key.clone()) {
            return Err(PublishError::Malformed(format!("it changes {} twice", step.key)));
        }
        steps.push(step);
    }
    // All conflicts at once: whoever was overtaken wants to see the whole picture.
    let conflicts: Vec<Conflict> = steps.iter().filter_map(|step| step.conflict(current)).collect();
    if !conflicts.is_empty() {
        return Err(PublishError::Conflict(conflicts));
    }
    let wanted = steps.iter().map(|step| (step.key.clone(), step.target.clone())).collect();
    let mut decision = Decision { record_sets: current.record_sets().clone(), applied: vec![], wanted };
    for step in steps.into_iter().filter(|step| !step.is_done(current)) {
        step.check_rights(current)?;
        step.take(&mut decision);
    }
    Ok(decision)
}

fn check_shape(batch: &Batch) -> Result<(), PublishError> {
    let changes = batch.changes.len();
    if changes == 0 || changes > CHANGES_PER_BATCH_MAX {
        return Err(PublishError::Malformed(format!("it has {changes} changes")));
    }
    let key = batch.idempotency_key.len();
    if key == 0 || key > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(PublishError::Malformed(format!("its key has {key} bytes")));
    }
    Ok(())
}

/// A change whose parts are checked.
struct Step {
    key: RecordKey,
    expected: Option<u64>,
    /// None: delete.
    target: Option<Arc<ValidRecordSet>>,
    take_over: bool,
}

impl Step {
    fn of(change: &Change, epoch: Epoch) -> Result<Self, PublishError> {
        match change {
            Change::Put { expected_generation, record_set, take_over } => {
                let mut stamped = record_set.clone();
                stamped.epoch = epoch;
                let set = ValidRecordSet::new(stamped).map_err(PublishError::InvalidRecordSet)?;
                let key = set.key().clone();
                let target = Some(Arc::new(set));
                Ok(Self { key, expected: *expected_generation, target, take_over: *take_over })
            }
            Change::Delete { expected_generation, name, rtype } => {
                let name = DnsName::parse(name)
                    .map_err(|error| PublishError::InvalidRecordSet(InvalidRecordSet::Name(error)))?;
                let key = RecordKey::new(name, *rtype);
                Ok(Self { key, expected: Some(*expected_generation), target: None, take_over: false })
            }
        }
    }

    fn is_done(&self, current: &Snapshot) -> bool {
        match (&self.target, current.get(&self.key)) {
            (None, None) => true,
            (Some(target), Some(live)) => target.document().same_target(live.document()),
            _ => false,
        }
    }

    fn conflict(&self, current: &Snapshot) -> Option<Conflict> {
        let live = current.get(&self.key).map(|set| set.document());
        if self.is_done(current) || live.map(|set| set.generation) == self.expected {
            return None;
        }
        Some(Conflict { key: self.key.clone(), expected_generation: self.expected, current: live.cloned() })
    }

    fn check_rights(&self, current: &Snapshot) -> Result<(), PublishError> {
        let (Some(target), Some(live)) = (&self.target, current.get(&self.key)) else {
            return Ok(());
        };
        let (wanted, live) = (target.document(), live.document());
        if wanted.owner != live.owner && !self.take_over {
            return Err(PublishError::OwnedByOther { key: self.key.clone(), owner: live.owner.clone() });
        }
        if wanted.generation <= live.generation {
            let (wanted, current) = (wanted.generation, live.generation);
            return Err(PublishError::GenerationNotRaised { key: self.key.clone(), wanted, current });
        }
        Ok(())
    }

    fn take(self, decision: &mut Decision) {
        let to_generation = self.target.as_ref().map(|set| set.document().generation);
        let before = match self.target {
            Some(set) => decision.record_sets.insert(self.key.clone(), set),
            None => decision.record_sets.remove(&self.key),
        };
        let from_generation = before.map(|set| set.document().generation);
        decision.applied.push(AppliedChange { key: self.key, from_generation, to_generation });
    }
}
