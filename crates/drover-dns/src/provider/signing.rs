//! Signs what is published, so that instances can hand it to each other: under the zone's generation, which goes up by one with each batch.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use drover_model::Epoch;

use super::ProviderError;
use crate::background::in_background;
use crate::publish::{Batch, Seal, Sealing, SigningKey};
use crate::zone::DnsName;

/// Whom the refusal of an unusable key names: it is nobody else's fault.
const COORDINATOR: &str = "the coordinator";

/// The zone's generations as one coordinator knows and gives them. It outlives a provider that is made anew by another configuration.
#[derive(Debug, Default)]
pub struct ZoneGenerations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The highest that any instance has shown.
    seen: u64,
    /// Under which epoch they are given, and the first.
    begun: Option<(Epoch, u64)>,
}

/// What a batch is signed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) since: u64,
    pub(super) generation: u64,
}

impl ZoneGenerations {
    /// An instance has this one.
    pub(super) fn see(&self, generation: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.seen = known.seen.max(generation);
    }

    /// The next, above all that is known; none: nothing is known yet.
    pub(super) fn next(&self, epoch: Epoch) -> Option<Numbered> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.seen == 0 {
            return None;
        }
        let generation = known.seen.saturating_add(1);
        known.seen = generation;
        let since = match known.begun {
            Some((begun, since)) if begun == epoch => since,
            _ => generation,
        };
        known.begun = Some((epoch, since));
        Some(Numbered { since, generation })
    }
}

/// Signs batches of one zone.
#[derive(Debug, Clone)]
pub struct BatchSigner {
    /// Read for every batch, so that a new key needs no restart.
    pub key_file: PathBuf,
    /// The zone.
    pub zone: DnsName,
    /// Its generations.
    pub generations: Arc<ZoneGenerations>,
}

impl BatchSigner {
    /// The signatures over a batch.
    ///
    /// # Errors
    /// `NotNow` where the key can't be used: it is mended without the batch being another.
    pub(super) async fn seal(&self, batch: &Batch, numbered: Numbered) -> Result<Vec<Seal>, ProviderError> {
        let (file, zone, batch) = (self.key_file.clone(), self.zone.clone(), batch.clone());
        let Numbered { since, generation } = numbered;
        let not_now = |detail| ProviderError::NotNow { instance: COORDINATOR.to_owned(), detail };
        in_background(move || {
            let key = SigningKey::read(&file).map_err(|error| not_now(drover_model::chain(&error)))?;
            Sealing { key: &key, zone: &zone, since, generation }.seal(&batch).map_err(|error| {
                ProviderError::Refused {
                    instance: COORDINATOR.to_owned(),
                    code: "invalid".to_owned(),
                    detail: drover_model::chain(&error),
                }
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_only_go_up_and_an_epoch_begins_above_all_that_is_known() {
        let generations = ZoneGenerations::default();
        let epoch = |counter| Epoch { incarnation: 1, counter };
        assert_eq!(generations.next(epoch(1)), None);
        generations.see(40);
        generations.see(12);
        assert_eq!(generations.next(epoch(1)), Some(Numbered { since: 41, generation: 41 }));
        assert_eq!(generations.next(epoch(1)), Some(Numbered { since: 41, generation: 42 }));
        generations.see(50);
        assert_eq!(generations.next(epoch(1)), Some(Numbered { since: 41, generation: 51 }));
        assert_eq!(generations.next(epoch(2)), Some(Numbered { since: 52, generation: 52 }));
    }
}
