//! What an instance can show of what it serves: for each record set, and for what was removed lately, the seal under which it came.
//!
//! Two instances that hold the same proofs serve the same. To find out what differs they compare a number for each of [`BUCKETS`]
//! parts of the names, so that neither a zone of 100,000 record sets nor one change in it costs more than it must.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::GONE_KEPT_MAX;
use super::seal::{Digest, Rank, Seal, TrustedKeys};
use crate::zone::{RecordKey, Snapshot};

/// The parts that names fall into.
pub const BUCKETS: usize = 256;

/// A record set's, or that of its removal.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) seal: Arc<Seal>,
    pub(super) digest: Digest,
    pub(super) is_gone: bool,
}

/// What a publication proves, by record set.
pub(super) type NewProofs = BTreeMap<RecordKey, Proof>;

/// All that an instance holds.
#[derive(Debug)]
pub(super) struct Proofs {
    by_key: BTreeMap<RecordKey, Proof>,
    gone: usize,
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), gone: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

impl Proof {
    pub(super) fn rank(&self) -> (Rank, Digest) {
        // No leader signs two contents at one generation. Should that happen all the same, all must choose the same one.
        (self.seal.rank(), self.digest)
    }

    /// Of this proof among others; alike at all who hold it.
    fn fingerprint(&self, key: &RecordKey) -> u64 {
        let Seal { epoch, generation, .. } = *self.seal;
        let numbers = [epoch.incarnation, epoch.counter, generation].map(u64::to_be_bytes);
        let hash = Sha256::new().chain_update(numbers.as_flattened()).chain_update(self.digest.as_bytes());
        first_bytes(&hash.chain_update(key.to_string()).finalize())
    }
}

/// The part that a name falls into.
pub(super) fn bucket(key: &RecordKey) -> usize {
    first_bytes(&Sha256::digest(key.name.as_str())) as usize % BUCKETS
}

fn first_bytes(hash: &[u8]) -> u64 {
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Proofs {
    /// Those of what was read again that still prove it: by a key that is trusted now.
    pub(super) fn restored(
        seals: BTreeMap<RecordKey, Arc<Seal>>,
        snapshot: &Snapshot,
        trusted: &TrustedKeys,
    ) -> Self {
        let (origin, read) = (&snapshot.zone().origin, seals.len());
        let mut checked = HashMap::new();
        let mut proofs = NewProofs::new();
        for (key, seal) in seals {
            let holds =
                checked.entry(Arc::as_ptr(&seal)).or_insert_with(|| seal.check(origin, trusted).is_ok());
            let set = snapshot.get(&key);
            let digest = set.map_or_else(|| Digest::of_removed(&key), |set| Digest::of(set));
            if *holds && seal.digests.contains(&digest) {
                proofs.insert(key, Proof { seal, digest, is_gone: set.is_none() });
            }
        }
        if proofs.len() < read {
            let lost = read - proofs.len();
            tracing::warn!(
                lost,
                "record sets were signed by a key that is not trusted any more: they are served, and given to no peer \
                                  until the coordinator signs them anew"
            );
        }
        let mut held = Self::default();
        held.take(proofs);
        held
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Proof> {
        self.by_key.get(key)
    }

    pub(super) fn buckets(&self) -> Vec<u64> {
        self.buckets.to_vec()
    }

    /// The newest seal of an incarnation.
    pub(super) fn head(&self, incarnation: u64) -> Option<&Arc<Seal>> {
        let seals = self.by_key.values().map(|proof| &proof.seal);
        seals.filter(|seal| seal.epoch.incarnation == incarnation).max_by_key(|seal| seal.rank())
    }

    /// Those behind `after`, in order.
    pub(super) fn from(&self, after: Option<&RecordKey>) -> impl Iterator<Item = (&RecordKey, &Proof)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_key.range((after.map_or(Unbounded, Excluded), Unbounded))
    }

    /// What was published is proven by these from now on.
    pub(super) fn take(&mut self, new: NewProofs) {
        for (key, proof) in new {
            self.toggle(&key, &proof);
            self.gone += usize::from(proof.is_gone);
            if let Some(before) = self.by_key.insert(key.clone(), proof) {
                self.toggle(&key, &before);
                self.gone -= usize::from(before.is_gone);
            }
        }
        while self.gone > GONE_KEPT_MAX {
            let gone = self.by_key.iter().filter(|(_, proof)| proof.is_gone);
            let Some(oldest) = gone.min_by_key(|(_, proof)| proof.rank()).map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some(proof) = self.by_key.remove(&oldest) {
                self.toggle(&oldest, &proof);
                self.gone -= 1;
            }
        }
    }

    /// Counts it in its part, or no longer.
    fn toggle(&mut self, key: &RecordKey, proof: &Proof) {
        self.buckets[bucket(key)] ^= proof.fingerprint(key);
    }
}

/// Which seal a record set has, as it is written: by its place among the seals beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedKey {
    pub(super) key: RecordKey,
    pub(super) seal: usize,
}

/// Seals and what came under them, each seal once.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    pub(super) seals: Vec<Seal>,
    pub(super) keys: Vec<SealedKey>,
}

/// The seal of each record set, after all that was written about them in turn.
pub(super) fn collect(
    written: impl IntoIterator<Item = Sealed>,
) -> Result<BTreeMap<RecordKey, Arc<Seal>>, String> {
    let mut by_key = BTreeMap::new();
    for Sealed { seals, keys } in written {
        let seals: Vec<Arc<Seal>> = seals.into_iter().map(Arc::new).collect();
        for SealedKey { key, seal } in keys {
            let seal = seals.get(seal).ok_or_else(|| format!("the seal of {key} is missing"))?;
            by_key.insert(key, Arc::clone(seal));
        }
    }
    Ok(by_key)
}

/// The same, as it is written.
#[derive(Debug, Default, Serialize)]
pub(super) struct SealedView<'a> {
    seals: Vec<&'a Seal>,
    keys: Vec<SealedKey>,
}

impl<'a> SealedView<'a> {
    pub(super) fn of(proofs: impl IntoIterator<Item = (&'a RecordKey, &'a Proof)>) -> Self {
        let (mut view, mut places) = (Self::default(), HashMap::new());
        for (key, proof) in proofs {
            let seal = *places.entry(Arc::as_ptr(&proof.seal)).or_insert_with(|| {
                view.seals.push(&proof.seal);
                view.seals.len() - 1
            });
            view.keys.push(SealedKey { key: key.clone(), seal });
        }
        view
    }

    /// Those that are held, but for what these replace; and these.
    pub(super) fn with(held: &'a Proofs, new: &'a NewProofs) -> Self {
        let held = held.by_key.iter().filter(|(key, _)| !new.contains_key(key));
        Self::of(held.chain(new))
    }
}
