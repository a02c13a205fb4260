//! What an instance can show of what it serves: for each record set, and for what was removed lately, the seal under which it came.
//!
//! Two instances that hold the same proofs serve the same. To find out what differs they compare a number for each of [`BUCKETS`]
//! parts of the names, so that neither a zone of 100,000 record sets nor one change in it costs more than it must.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use drover_model::Epoch;
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
    /// The part of the names that its own falls into: a hash, which nobody should make for each question of a peer.
    bucket: usize,
}

/// What a publication proves, by record set.
pub(super) type NewProofs = BTreeMap<RecordKey, Proof>;

/// All that an instance holds, of one store incarnation: incarnations have no order, so what another one signed proves nothing beside it.
#[derive(Debug)]
pub(super) struct Proofs {
    by_key: BTreeMap<RecordKey, Proof>,
    /// What was removed, oldest first; at most [`GONE_KEPT_MAX`].
    gone: BTreeSet<(Rank, RecordKey)>,
    /// The latest removal that is not remembered any more.
    forgotten: Option<Forgotten>,
    /// The newest seal.
    head: Option<Arc<Seal>>,
    buckets: Box<[u64; BUCKETS]>,
}

/// A removal of which only the place in the order is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgotten {
    /// Under whose command.
    pub(super) epoch: Epoch,
    /// The zone's generation.
    pub(super) generation: u64,
}

impl Forgotten {
    const fn rank(self) -> Rank {
        Rank { counter: self.epoch.counter, generation: self.generation }
    }
}

impl Default for Proofs {
    fn default() -> Self {
        let (by_key, gone, buckets) = (BTreeMap::new(), BTreeSet::new(), Box::new([0; BUCKETS]));
        Self { by_key, gone, forgotten: None, head: None, buckets }
    }
}

impl Proof {
    pub(super) fn new(key: &RecordKey, seal: Arc<Seal>, digest: Digest, is_gone: bool) -> Self {
        Self { seal, digest, is_gone, bucket: bucket(key) }
    }

    pub(super) const fn bucket(&self) -> usize {
        self.bucket
    }

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
fn bucket(key: &RecordKey) -> usize {
    first_bytes(&Sha256::digest(key.name.as_str())) as usize % BUCKETS
}

fn first_bytes(hash: &[u8]) -> u64 {
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Proofs {
    /// Those of what was read again that still prove it: by a key that is trusted now, in the incarnation that commands.
    pub(super) fn restored(
        seals: WrittenSeals,
        snapshot: &Snapshot,
        trusted: &TrustedKeys,
        highest: Option<Epoch>,
    ) -> Self {
        let WrittenSeals { by_key: mut seals, forgotten } = seals;
        let commands = |epoch: Epoch| highest.is_none_or(|highest| highest.incarnation == epoch.incarnation);
        seals.retain(|_, seal| commands(seal.epoch));
        let forgotten = forgotten.filter(|forgotten| commands(forgotten.epoch));
        let (origin, read) = (&snapshot.zone().origin, seals.len());
        let mut checked = HashMap::new();
        let mut proofs = NewProofs::new();
        for (key, seal) in seals {
            let holds =
                checked.entry(Arc::as_ptr(&seal)).or_insert_with(|| seal.check(origin, trusted).is_ok());
            let set = snapshot.get(&key);
            let digest = set.map_or_else(|| Digest::of_removed(&key), |set| Digest::of(set));
            if *holds && seal.digests.contains(&digest) {
                let proof = Proof::new(&key, seal, digest, set.is_none());
                proofs.insert(key, proof);
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
        let mut held = Self { forgotten, ..Self::default() };
        held.take(proofs, highest);
        held
    }

    /// The newest epoch of which a seal is held: what peers have said, where no coordinator has yet.
    pub(super) fn heard(&self) -> Option<Epoch> {
        self.head.as_ref().map(|head| head.epoch)
    }

    /// May this have been removed here, so long ago that it is not remembered?
    pub(super) fn may_be_removed(&self, proof: &Proof) -> Option<Forgotten> {
        self.forgotten.filter(|forgotten| {
            forgotten.epoch.incarnation == proof.seal.epoch.incarnation
                && forgotten.rank() >= proof.seal.rank()
        })
    }

    /// The generation with which the epoch in command began, where that is known.
    pub(super) fn since(&self, highest: Option<Epoch>) -> Option<u64> {
        self.head.as_ref().filter(|head| Some(head.epoch) == highest).map(|head| head.since)
    }

    /// How many were signed by a leader that had been deposed, before this instance knew.
    pub(super) fn contested(&self, highest: Option<Epoch>) -> usize {
        let Some((highest, since)) = highest.zip(self.since(highest)) else { return 0 };
        self.by_key.values().filter(|proof| proof.seal.is_deposed(highest, since)).count()
    }

    /// All of it, to be looked at without anybody waiting.
    pub(super) fn copied(&self) -> (NewProofs, Option<Forgotten>) {
        (self.by_key.clone(), self.forgotten)
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Proof> {
        self.by_key.get(key)
    }

    pub(super) fn buckets(&self) -> Vec<u64> {
        self.buckets.to_vec()
    }

    /// The newest seal.
    pub(super) const fn head(&self) -> Option<&Arc<Seal>> {
        self.head.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Those behind `after`, in order.
    pub(super) fn from(&self, after: Option<&RecordKey>) -> impl Iterator<Item = (&RecordKey, &Proof)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_key.range((after.map_or(Unbounded, Excluded), Unbounded))
    }

    /// What was published is proven by these from now on, under the epoch that commands now. Of another incarnation nothing is kept:
    /// nobody of this one would take it.
    pub(super) fn take(&mut self, new: NewProofs, highest: Option<Epoch>) {
        let incarnation = |epoch: Epoch| epoch.incarnation;
        if let Some(incarnation) = highest.map(incarnation)
            && self.heard().is_some_and(|heard| heard.incarnation != incarnation)
        {
            *self = Self::default();
        }
        for (key, proof) in new {
            if self.head.as_ref().is_none_or(|head| head.rank() < proof.seal.rank()) {
                self.head = Some(Arc::clone(&proof.seal));
            }
            if let Some(before) = self.by_key.remove(&key) {
                self.toggle(&key, &before);
                if before.is_gone {
                    self.gone.remove(&(before.seal.rank(), key.clone()));
                }
            }
            self.toggle(&key, &proof);
            if proof.is_gone {
                self.gone.insert((proof.seal.rank(), key.clone()));
            }
            self.by_key.insert(key, proof);
        }
        self.forget();
    }

    /// What was removed first is forgotten first. That it was something is not: nothing as old is taken any more.
    fn forget(&mut self) {
        let mut forgotten = 0;
        while self.gone.len() > GONE_KEPT_MAX {
            let Some((_, oldest)) = self.gone.pop_first() else { break };
            if let Some(proof) = self.by_key.remove(&oldest) {
                self.toggle(&oldest, &proof);
                let Seal { epoch, generation, .. } = *proof.seal;
                let now = Forgotten { epoch, generation };
                let is_later = self.forgotten.is_none_or(|before| before.rank() < now.rank());
                self.forgotten = if is_later { Some(now) } else { self.forgotten };
                forgotten += 1;
            }
        }
        if let Some(up_to) = self.forgotten.filter(|_| forgotten > 0) {
            tracing::warn!(
                forgotten,
                kept = GONE_KEPT_MAX,
                up_to_generation = up_to.generation,
                "more record sets were removed than are remembered; of what was signed up to that generation nothing that is \
                 unknown here is taken from peers"
            );
        }
    }

    /// Counts it in its part, or no longer.
    fn toggle(&mut self, key: &RecordKey, proof: &Proof) {
        self.buckets[proof.bucket] ^= proof.fingerprint(key);
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
    #[serde(default)]
    pub(super) forgotten: Option<Forgotten>,
}

/// The seal of each record set that has one, and of those that were removed lately.
#[derive(Debug, Default)]
pub(super) struct WrittenSeals {
    by_key: BTreeMap<RecordKey, Arc<Seal>>,
    forgotten: Option<Forgotten>,
}

/// The seal of each record set, after all that was written about them in turn.
pub(super) fn collect(written: impl IntoIterator<Item = Sealed>) -> Result<WrittenSeals, String> {
    let mut all = WrittenSeals::default();
    for Sealed { seals, keys, forgotten } in written {
        all.forgotten = forgotten.or(all.forgotten);
        let seals: Vec<Arc<Seal>> = seals.into_iter().map(Arc::new).collect();
        for SealedKey { key, seal } in keys {
            let seal = seals.get(seal).ok_or_else(|| format!("the seal of {key} is missing"))?;
            all.by_key.insert(key, Arc::clone(seal));
        }
    }
    Ok(all)
}

/// The same, as it is written.
#[derive(Debug, Default, Serialize)]
pub(super) struct SealedView<'a> {
    seals: Vec<&'a Seal>,
    keys: Vec<SealedKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<Forgotten>,
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
    pub(super) fn with(held: &'a NewProofs, new: &'a NewProofs, forgotten: Option<Forgotten>) -> Self {
        let held = held.iter().filter(|(key, _)| !new.contains_key(key));
        Self { forgotten, ..Self::of(held.chain(new)) }
    }
}
