//! The last line before any provider, whoever asks and whatever was planned: nothing is applied that was not admitted here.
//!
//! Never dark (I4): each record set is checked once more. No deletion: what is live is only ever replaced, by a batch that
//! happens at once or not at all. And a limit on how much changes: a run changes no more record sets than its plan named, which a person or
//! the guards have seen with its size; a person who adopts changes the one that they were shown; what nobody was asked about, because the
//! configuration changed, has a velocity.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use drover_model::api::CheckFound;
use drover_model::config::DnsVelocity;
use drover_model::{Epoch, RegionId};

use super::{
    Applied, Capabilities, Commands, Coverage, Diff, Observed, ProviderError, RecordSets, Verification,
};
use crate::publish::{Batch, Change, Shortened};
use crate::zone::{RecordKey, RecordSet, ValidRecordSet};

/// By what right record sets are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// A run's: so many record sets as its plan named.
    Planned {
        /// How many.
        record_sets: usize,
    },
    /// Each was decided by a run or a person before, and is put once more.
    Decided,
    /// A person was shown one record set and takes it.
    Shown,
    /// Nobody was asked.
    Unattended(DnsVelocity),
}

/// Why a change was not given to the provider. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// It would leave a name without an answer, or is no record set.
    #[error("withheld: {detail}")]
    Invalid {
        /// What is wrong with it.
        detail: String,
    },
    /// It would delete a record set.
    #[error("withheld: {name} would be deleted, and drover deletes nothing that is live")]
    Deletion {
        /// Whose.
        name: String,
    },
    /// More than the plan named.
    #[error("withheld: {would} record sets would change, and {named} were named")]
    NotNamed {
        /// How many would.
        would: usize,
        /// How many were named.
        named: usize,
    },
    /// Too much at once for something that nobody was asked about.
    #[error(
        "withheld: {would} record sets that are live would change, and {most} of {live} may change unasked \
         within {window} (`dns.velocity`), {done} of which did", window = .velocity.window
    )]
    TooFast {
        /// How many would.
        would: usize,
        /// How many did within the window.
        done: usize,
        /// How many may.
        most: usize,
        /// How many are live.
        live: usize,
        /// The limit as it is configured.
        velocity: DnsVelocity,
    },
    /// Something else than was admitted.
    #[error("withheld: {key} at generation {generation} was never admitted")]
    NotAdmitted {
        /// Which record set.
        key: RecordKey,
        /// At which generation.
        generation: u64,
    },
}

/// Changes that may be applied. Only [`Gate::admit`] makes one.
#[derive(Debug)]
#[must_use = "what is admitted and not applied changes nothing"]
pub struct Admitted(BTreeMap<RecordKey, Version>);

#[derive(Debug)]
struct Version {
    generation: u64,
    before: Option<RecordSet>,
}

impl Admitted {
    /// What was live of a record set when its change was admitted.
    #[must_use]
    pub fn before(&self, key: &RecordKey) -> Option<&RecordSet> {
        self.0.get(key)?.before.as_ref()
    }
}

/// A provider behind the gate: the only way to its [`RecordSets::apply`].
pub struct Gate {
    provider: Arc<dyn RecordSets>,
    /// What changed lately, each once however often. Gone with the process: a restart changes nothing by itself.
    changed: Mutex<BTreeMap<RecordKey, Instant>>,
}

impl Gate {
    /// Puts the gate before a provider.
    #[must_use]
    pub fn new(provider: Arc<dyn RecordSets>) -> Self {
        Self { provider, changed: Mutex::default() }
    }

    /// May these changes be applied, given what is live?
    ///
    /// # Errors
    /// With the numbers, when they may not. All or none: half of a mistake is one, too.
    pub fn admit(&self, changes: &[Change], live: &[Observed], right: Right) -> Result<Admitted, Withheld> {
        self.admit_at(changes, live, right, Instant::now())
    }

    /// Would these be admitted? Counts for nothing.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub fn would_admit(&self, changes: &[Change], live: &[Observed], right: Right) -> Result<(), Withheld> {
        let (_, changed, standing) = Self::told_apart(changes, live)?;
        self.check(&changed, standing, right, Instant::now())
    }

    fn admit_at(
        &self,
        changes: &[Change],
        live: &[Observed],
        right: Right,
        now: Instant,
    ) -> Result<Admitted, Withheld> {
        let (admitted, changed, standing) = Self::told_apart(changes, live)?;
        self.check(&changed, standing, right, now)?;
        // A person who takes some of many must not set the others free by it.
        if matches!(right, Right::Shown | Right::Unattended(_)) {
            self.note(&changed, now);
        }
        Ok(admitted)
    }

    /// All of them; those of which somebody would see something else; and how many record sets are live.
    fn told_apart(
        changes: &[Change],
        live: &[Observed],
    ) -> Result<(Admitted, Vec<RecordKey>, usize), Withheld> {
        let puts = changes.iter().map(valid).collect::<Result<Vec<_>, _>>()?;
        let current: BTreeMap<&RecordKey, &RecordSet> =
            live.iter().filter_map(|o| Some((&o.key, o.current.as_ref()?))).collect();
        // What nobody is answered yet, and a server that missed a version, change nothing that anybody sees.
        let changed = puts
            .iter()
            .filter(|put| current.get(put.key()).is_some_and(|live| !live.same_answers(put.document())));
        let changed: Vec<RecordKey> = changed.map(|put| put.key().clone()).collect();
        let admitted = puts.iter().map(|put| {
            let before = current.get(put.key()).map(|live| (*live).clone());
            (put.key().clone(), Version { generation: put.document().generation, before })
        });
        Ok((Admitted(admitted.collect()), changed, current.len()))
    }

    fn check(&self, changed: &[RecordKey], live: usize, right: Right, now: Instant) -> Result<(), Withheld> {
        let would = changed.len();
        let named = match right {
            Right::Planned { record_sets } => record_sets,
            Right::Shown => 1,
            Right::Decided => return Ok(()),
            Right::Unattended(velocity) => return self.check_velocity(changed, live, velocity, now),
        };
        if would > named {
            return Err(Withheld::NotNamed { would, named });
        }
        Ok(())
    }

    fn check_velocity(
        &self,
        changed: &[RecordKey],
        live: usize,
        velocity: DnsVelocity,
        now: Instant,
    ) -> Result<(), Withheld> {
        let most = velocity.most(live);
        let window = Duration::from_millis(velocity.window.as_millis());
        let done = {
            let mut lately = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            lately.retain(|_, at| now.duration_since(*at) < window);
            let again = changed.iter().filter(|key| lately.contains_key(key)).count();
            lately.len() - again
        };
        if !changed.is_empty() && done + changed.len() > most {
            return Err(Withheld::TooFast { would: changed.len(), done, most, live, velocity });
        }
        Ok(())
    }

    fn note(&self, changed: &[RecordKey], now: Instant) {
        let mut lately = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        lately.extend(changed.iter().map(|key| (key.clone(), now)));
    }

    /// As [`RecordSets::apply`], of what was admitted.
    ///
    /// # Errors
    /// As there; and `Withheld` when the batch has something else in it.
    pub async fn apply(&self, batch: &Batch, admitted: &Admitted) -> Result<Applied, ProviderError> {
        for change in &batch.changes {
            let (key, generation) = version(&valid(change)?);
            if admitted.0.get(&key).is_none_or(|version| version.generation != generation) {
                return Err(Withheld::NotAdmitted { key, generation }.into());
            }
        }
        self.provider.apply(batch).await
    }

    /// As [`RecordSets::name`].
    #[must_use]
    pub fn name(&self) -> &str {
        self.provider.name()
    }

    /// As [`RecordSets::capabilities`].
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// As [`RecordSets::observe`].
    ///
    /// # Errors
    /// As there.
    pub async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        self.provider.observe(keys).await
    }

    /// As [`RecordSets::commanded_by`].
    ///
    /// # Errors
    /// As there.
    pub async fn commanded_by(&self) -> Result<Option<Epoch>, ProviderError> {
        self.provider.commanded_by().await
    }

    /// As [`RecordSets::commands`].
    ///
    /// # Errors
    /// As there.
    pub async fn commands(&self) -> Result<Commands, ProviderError> {
        self.provider.commands().await
    }

    /// As [`RecordSets::take_command`]: no change of what is answered, so nothing to admit.
    ///
    /// # Errors
    /// As there.
    pub async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError> {
        self.provider.take_command(from, to).await
    }

    /// As [`RecordSets::forget`].
    pub fn forget(&self, keys: &[RecordKey]) {
        self.provider.forget(keys);
    }

    /// As [`RecordSets::diff`].
    #[must_use]
    pub fn diff(&self, desired: &[RecordSet], observed: &[Observed]) -> Diff {
        self.provider.diff(desired, observed)
    }

    /// As [`RecordSets::shorten`]: no change of what is answered, so nothing to admit.
    ///
    /// # Errors
    /// As there.
    pub async fn shorten(&self, told: &Shortened) -> Result<(), ProviderError> {
        self.provider.shorten(told).await
    }

    /// As [`RecordSets::provision`]: no change of what is answered, so nothing to admit.
    ///
    /// # Errors
    /// As there.
    pub async fn provision(
        &self,
        epoch: Epoch,
        keys: &[RecordKey],
        declared: &BTreeSet<RegionId>,
    ) -> Result<Vec<CheckFound>, ProviderError> {
        self.provider.provision(epoch, keys, declared).await
    }

    /// As [`RecordSets::unanswered`].
    ///
    /// # Errors
    /// As there.
    pub async fn unanswered(
        &self,
        key: &RecordKey,
        values: &BTreeSet<String>,
        draws: u32,
    ) -> Result<Verification, ProviderError> {
        self.provider.unanswered(key, values, draws).await
    }

    /// As [`RecordSets::verify`].
    ///
    /// # Errors
    /// As there.
    pub async fn verify(
        &self,
        key: &RecordKey,
        expected: Option<&RecordSet>,
    ) -> Result<Verification, ProviderError> {
        self.provider.verify(key, expected).await
    }
}

fn version(put: &ValidRecordSet) -> (RecordKey, u64) {
    (put.key().clone(), put.document().generation)
}

/// What a change puts, if it may be put at all.
fn valid(change: &Change) -> Result<ValidRecordSet, Withheld> {
    match change {
        Change::Delete { name, .. } => Err(Withheld::Deletion { name: name.clone() }),
        Change::Put { record_set, .. } => ValidRecordSet::with_aliases(record_set.clone())
            .map_err(|e| Withheld::Invalid { detail: drover_model::chain(&e) }),
    }
}

#[cfg(test)]
mod tests;
