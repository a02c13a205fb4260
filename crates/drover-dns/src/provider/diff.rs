//! Compares what is desired with what is live, purely.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LaggingState, Observed};
use crate::publish::Change;
use crate::zone::{InvalidRecordSet, RecordKey, RecordSet, ValidRecordSet};

/// What must change, what need not, and what must not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diff {
    /// The changes, each with the generation that was observed; in the order of the desired sets.
    pub changes: Vec<Change>,
    /// The record sets that are live as desired at every server that was reached.
    pub in_sync: Vec<RecordKey>,
    /// The record sets that can't be changed to what is desired.
    pub blocked: Vec<Blocked>,
}

/// A record set that can't be changed to what is desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// What is desired.
    pub desired: RecordSet,
    /// What is live, if that is known.
    pub current: Option<RecordSet>,
    /// Why.
    pub reason: BlockedReason,
}

/// Why a record set can't be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum BlockedReason {
    /// It may not be published at all.
    Invalid {
        /// Why not.
        detail: String,
    },
    /// It was not observed: unknown is not absent (I6).
    NotObserved,
    /// A later generation is live: whoever desires this has been overtaken.
    Overtaken,
    /// Other answers are live than were published under this generation, or that before it: somebody changed it by hand.
    Drifted,
    /// It belongs to somebody else.
    OwnedByOther,
}

/// Compares. A record set that is live as desired but lags at some reachable server is put again, which
/// repairs that server and changes no other.
#[must_use]
pub fn diff(desired: &[RecordSet], observed: &[Observed]) -> Diff {
    let observed: BTreeMap<&RecordKey, &Observed> = observed.iter().map(|one| (&one.key, one)).collect();
    let mut diff = Diff::default();
    for wanted in desired {
        match ValidRecordSet::with_aliases(wanted.clone()) {
            Ok(valid) => {
                let found = observed.get(valid.key()).copied();
                compare(&valid, found, &mut diff);
            }
            Err(error) => diff.blocked.push(Blocked {
                desired: wanted.clone(),
                current: None,
                reason: BlockedReason::Invalid { detail: detail(&error) },
            }),
        }
    }
    diff
}

fn compare(valid: &ValidRecordSet, found: Option<&Observed>, diff: &mut Diff) {
    let wanted = valid.document();
    let current = found.and_then(|found| found.current.as_ref());
    let reason = match (found, current) {
        (None, _) => Some(BlockedReason::NotObserved),
        (Some(_), None) => None,
        (Some(_), Some(live)) if live.owner != wanted.owner => Some(BlockedReason::OwnedByOther),
        (Some(_), Some(live)) if live.generation > wanted.generation => Some(BlockedReason::Overtaken),
        (Some(_), Some(live)) if live.generation == wanted.generation && !live.same_answers(wanted) => {
            Some(BlockedReason::Drifted)
        }
        (Some(found), Some(_)) if found.is_changed_by_hand => Some(BlockedReason::Drifted),
        (Some(found), Some(live)) if live.same_target(wanted) && !is_behind_anywhere(found) => {
            diff.in_sync.push(valid.key().clone());
            return;
        }
        (Some(_), Some(_)) => None,
    };
    if let Some(reason) = reason {
        diff.blocked.push(Blocked { desired: wanted.clone(), current: current.cloned(), reason });
        return;
    }
    diff.changes.push(Change::Put {
        expected_generation: current.map(|live| live.generation),
        record_set: wanted.clone(),
        take_over: false,
    });
}

/// Servers that were not reached are no reason to write: there is nobody to write to.
fn is_behind_anywhere(found: &Observed) -> bool {
    let can_be_mended =
        |state: &LaggingState| matches!(state, LaggingState::Behind { .. } | LaggingState::Unsigned);
    found.lagging.iter().any(|lagging| can_be_mended(&lagging.state))
}

fn detail(error: &InvalidRecordSet) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
