//! What a batch wants of each record set, and whether that may be done to what is live. Pure; the same for every provider
//! that decides itself.

use std::collections::BTreeSet;

use drover_model::Epoch;

use super::marks::FOREIGN;
use crate::publish::{Batch, Change, Conflict};
use crate::zone::{DnsName, RecordKey, RecordSet, ValidRecordSet};

/// A change with what it wants, checked.
pub(super) struct Wanted<'b> {
    pub(super) change: &'b Change,
    pub(super) key: RecordKey,
    /// None: nothing shall be there.
    pub(super) set: Option<ValidRecordSet>,
}

/// What is live, as a provider reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) set: RecordSet,
    /// Drover's, and not as drover wrote it.
    pub(super) is_changed_by_hand: bool,
}

/// What a change asks of one record set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is so already.
    Done,
    /// It may be written.
    Write,
    /// Something else is live than the writer expects.
    Conflict(Conflict),
    /// It belongs to somebody else.
    Foreign { owner: String },
}

/// The changes of a batch, none of a record set twice.
pub(super) fn wanted(batch: &Batch) -> Result<Vec<Wanted<'_>>, String> {
    let (mut wanted, mut keys) = (Vec::with_capacity(batch.changes.len()), BTreeSet::new());
    for change in &batch.changes {
        let one = Wanted::of(change, batch.epoch)?;
        if !keys.insert(one.key.clone()) {
            return Err(format!("the batch changes {} twice", one.key));
        }
        wanted.push(one);
    }
    Ok(wanted)
}

impl<'b> Wanted<'b> {
    fn of(change: &'b Change, epoch: Epoch) -> Result<Self, String> {
        match change {
            Change::Put { record_set, .. } => {
                let stamped = RecordSet { epoch, ..record_set.clone() };
                let set = ValidRecordSet::with_aliases(stamped).map_err(|e| e.to_string())?;
                Ok(Self { change, key: set.key().clone(), set: Some(set) })
            }
            Change::Delete { name, rtype, .. } => {
                let name = DnsName::parse(name).map_err(|e| e.to_string())?;
                Ok(Self { change, key: RecordKey::new(name, *rtype), set: None })
            }
        }
    }

    /// Does it take what it finds, whosever it is?
    pub(super) fn takes_over(&self) -> bool {
        matches!(self.change, Change::Put { take_over: true, .. })
    }

    /// Compares with what is live.
    pub(super) fn judge(&self, live: Option<&Shown>) -> Asked {
        let current = live.map(|shown| &shown.set);
        let wanted = self.set.as_ref().map(ValidRecordSet::document);
        let is_by_hand = live.is_some_and(|shown| shown.is_changed_by_hand);
        let is_done = match (current, wanted) {
            (Some(current), Some(wanted)) => current.same_target(wanted),
            (None, None) => true,
            _ => false,
        };
        // A hand may have changed what the set itself does not show, such as a health check.
        if is_done && !is_by_hand {
            return Asked::Done;
        }
        if let Some(current) = current.filter(|_| !self.takes_over()) {
            let is_ours = wanted.is_none_or(|w| w.owner == current.owner) && current.owner != FOREIGN;
            if !is_ours {
                return Asked::Foreign { owner: current.owner.clone() };
            }
        }
        let found = current.filter(|c| c.owner != FOREIGN).map(|c| c.generation);
        let is_raised = wanted.is_none_or(|w| Some(w.generation) > found);
        let is_expected =
            self.change.expected_generation() == found || (self.takes_over() && found.is_none());
        // Whoever did not see what a hand made of it must not replace it.
        let is_unseen = is_by_hand && !self.takes_over();
        if is_expected && is_raised && !is_unseen {
            return Asked::Write;
        }
        let expected_generation = self.change.expected_generation();
        Asked::Conflict(Conflict { key: self.key.clone(), expected_generation, current: current.cloned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Answering, Member, RecordType};

    const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };

    fn set(generation: u64) -> RecordSet {
        let member = Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 };
        RecordSet {
            name: "a.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: vec![member],
            generation,
            epoch: EPOCH,
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::USUAL,
        }
    }

    /// A change to `generation` from generation 1, judged by what is live.
    fn asked(generation: u64, take_over: bool, live: &RecordSet, is_changed_by_hand: bool) -> Asked {
        let change = Change::Put { expected_generation: Some(1), record_set: set(generation), take_over };
        let shown = Shown { set: live.clone(), is_changed_by_hand };
        Wanted::of(&change, EPOCH).unwrap().judge(Some(&shown))
    }

    #[test]
    fn what_a_hand_changed_is_replaced_only_by_whoever_takes_it_over() {
        assert_eq!(asked(2, false, &set(1), false), Asked::Write);
        assert!(matches!(asked(2, false, &set(1), true), Asked::Conflict(_)));
        assert_eq!(asked(2, true, &set(1), true), Asked::Write);
        // Nor is it done, where the set itself shows nothing of it.
        assert_eq!(asked(1, false, &set(1), false), Asked::Done);
        assert!(matches!(asked(1, false, &set(1), true), Asked::Conflict(_)));
    }

    #[test]
    fn what_is_not_drovers_is_named_and_an_older_version_is_none_to_write() {
        let theirs = RecordSet { owner: "terraform".into(), ..set(1) };
        assert_eq!(asked(2, false, &theirs, false), Asked::Foreign { owner: "terraform".into() });
        assert_eq!(asked(2, true, &theirs, false), Asked::Write);
        for take_over in [false, true] {
            assert!(matches!(asked(2, take_over, &set(3), false), Asked::Conflict(_)));
        }
    }
}
