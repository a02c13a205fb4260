//! What instances tell each other, so that one that missed a publication needs no coordinator to catch up.
//!
//! Each record set travels with the seal under which it came, so it matters not who hands it over. Of two that were signed the later one
//! stays, whatever the order in which they arrive: all that hear of the same publications come to serve the same, and gaps close by
//! themselves. Nothing is taken that was signed before what is live, of another incarnation, or by a leader that had been deposed.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::batch::{AppliedChange, PublishError};
use super::proofs::{BUCKETS, NewProofs, Proof, Proofs, bucket};
use super::publisher::{Next, Publisher};
use super::seal::{Digest, Seal, SealError};
use crate::zone::{DnsName, RecordKey, RecordSet, Snapshot, ValidRecordSet};

/// The record sets in one answer to a peer, at most; with their seals below 4 MiB, and usually a tenth of a MiB.
const PAGE_OFFERS_MAX: usize = 200;

/// What an instance holds, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Of which zone.
    pub zone: DnsName,
    /// The snapshot's generation.
    pub generation: u64,
    /// The highest epoch seen.
    pub highest_epoch: Option<Epoch>,
    /// A number for each part of the names; alike where the same is held.
    pub buckets: Vec<u64>,
}

/// One record set, or that it is gone, with its seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which.
    pub key: RecordKey,
    /// As it was signed; none: removed.
    pub record_set: Option<RecordSet>,
    /// The seal, by its place in the page.
    pub seal: usize,
}

/// Some of what an instance holds, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferPage {
    /// Each once.
    pub seals: Vec<Seal>,
    /// The record sets.
    pub offers: Vec<Offer>,
    /// Where the next page goes on; none: this is the last.
    pub next: Option<RecordKey>,
}

/// Why a peer's record set was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyRefused {
    /// It is not what was signed, or nobody who is trusted signed it.
    #[error("{0}")]
    NotSigned(#[from] SealError),
    /// It was signed before what is live.
    #[error("zone generation {given} is before {held}, which is live")]
    Backwards {
        /// Its zone generation.
        given: u64,
        /// That of what is live.
        held: u64,
    },
    /// It is of another store incarnation, which must be adopted first.
    #[error("epoch {given} is of another store incarnation than {highest}, and was not adopted here")]
    OtherIncarnation {
        /// Its epoch.
        given: Epoch,
        /// The highest seen.
        highest: Epoch,
    },
    /// It was signed by a leader that had been deposed.
    #[error("epoch {given} was deposed by {highest} when it signed this")]
    OlderEpoch {
        /// Its epoch.
        given: Epoch,
        /// The highest seen.
        highest: Epoch,
    },
    /// It may not be served.
    #[error("{0}")]
    Invalid(String),
}

/// A peer's record set that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedOffer {
    /// Which.
    pub key: RecordKey,
    /// Why not.
    pub why: WhyRefused,
}

/// What became of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// So many are served now.
    pub taken: usize,
    /// What was not taken; what was there already is left out.
    pub refused: Vec<RefusedOffer>,
}

/// What one page leads to, as far as it is gone through.
struct Taking<'a> {
    current: &'a Snapshot,
    held: &'a Proofs,
    highest: Option<Epoch>,
    /// The newest seal of that incarnation.
    head: Option<Arc<Seal>>,
    record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
    generation: u64,
    applied: Vec<AppliedChange>,
    proofs: NewProofs,
    refused: Vec<RefusedOffer>,
}

impl Publisher {
    /// What this instance holds; none: it trusts no key, and can show nothing.
    #[must_use]
    pub fn peer_state(&self) -> Option<PeerState> {
        self.trusted.as_ref()?;
        let snapshot = self.snapshot();
        let fence = self.fence();
        Some(PeerState {
            zone: snapshot.zone().origin.clone(),
            generation: fence.generation,
            highest_epoch: fence.highest_epoch,
            buckets: self.proofs().buckets(),
        })
    }

    /// The record sets in these parts of the names, behind `after`.
    #[must_use]
    pub fn offers(&self, wanted: &[usize], after: Option<&RecordKey>) -> OfferPage {
        let is_wanted: Vec<bool> = (0..BUCKETS).map(|bucket| wanted.contains(&bucket)).collect();
        // The snapshot changes while they are held by the one who changes it.
        let proofs = self.proofs();
        let snapshot = self.snapshot();
        let mut page = OfferPage::default();
        let mut places: BTreeMap<*const Seal, usize> = BTreeMap::new();
        for (key, proof) in proofs.from(after) {
            if !is_wanted.get(bucket(key)).copied().unwrap_or_default() {
                continue;
            }
            if page.offers.len() == PAGE_OFFERS_MAX {
                page.next = page.offers.last().map(|offer| offer.key.clone());
                break;
            }
            let seal = *places.entry(Arc::as_ptr(&proof.seal)).or_insert_with(|| {
                page.seals.push(Seal::clone(&proof.seal));
                page.seals.len() - 1
            });
            let record_set = snapshot.get(key).map(|set| set.document().clone());
            page.offers.push(Offer { key: key.clone(), record_set, seal });
        }
        page
    }

    /// The record sets that no trusted key has signed in this incarnation, so that no peer would take them.
    #[must_use]
    pub fn unsealed(&self) -> Vec<RecordKey> {
        if self.trusted.is_none() {
            return vec![];
        }
        let (proofs, highest) = (self.proofs(), self.fence().highest_epoch);
        let snapshot = self.snapshot();
        snapshot.record_sets().keys().filter(|key| !is_proven(&proofs, highest, key)).cloned().collect()
    }

    /// Is this one of [`Publisher::unsealed`]?
    #[must_use]
    pub fn is_unsealed(&self, key: &RecordKey) -> bool {
        self.trusted.is_some() && !is_proven(&self.proofs(), self.fence().highest_epoch, key)
    }

    /// Takes what is newer of what a peer holds. Blocks for the disk.
    ///
    /// # Errors
    /// Those of writing.
    pub fn take_from_peer(&self, peer: &str, page: &OfferPage) -> Result<Taken, PublishError> {
        match self.take_page(peer, page) {
            // One that can't stand beside the others must not keep them from being taken.
            Err(PublishError::InvalidSnapshot(_)) if page.offers.len() > 1 => {
                let mut all = Taken::default();
                for offer in &page.offers {
                    let one =
                        OfferPage { seals: page.seals.clone(), offers: vec![offer.clone()], next: None };
                    let Taken { taken, refused } = self.take_from_peer(peer, &one)?;
                    all.taken += taken;
                    all.refused.extend(refused);
                }
                Ok(all)
            }
            Err(PublishError::InvalidSnapshot(error)) => {
                let refused = page.offers.iter().map(|offer| RefusedOffer {
                    key: offer.key.clone(),
                    why: WhyRefused::Invalid(error.to_string()),
                });
                Ok(Taken { taken: 0, refused: refused.collect() })
            }
            taken => taken,
        }
    }

    fn take_page(&self, peer: &str, page: &OfferPage) -> Result<Taken, PublishError> {
        let Some(trusted) = &self.trusted else { return Ok(Taken::default()) };
        let origin = self.load().zone().origin.clone();
        let check = |seal: &Seal| seal.check(&origin, trusted).map(|()| Arc::new(seal.clone()));
        let seals: Vec<Result<Arc<Seal>, SealError>> = page.seals.iter().map(check).collect();
        let mut writer = self.writer();
        let (current, held, ledger) = (self.snapshot(), self.proofs(), self.ledger.load_full());
        let mut taking = Taking {
            current: &current,
            held: &held,
            highest: ledger.highest_epoch,
            head: ledger.highest_epoch.and_then(|highest| held.head(highest.incarnation)).cloned(),
            record_sets: current.record_sets().clone(),
            generation: current.generation(),
            applied: vec![],
            proofs: NewProofs::new(),
            refused: vec![],
        };
        for offer in &page.offers {
            if let Err(why) = taking.offer(offer, &seals) {
                taking.refused.push(RefusedOffer { key: offer.key.clone(), why });
            }
        }
        let Taking { highest, record_sets, generation, applied, proofs, refused, .. } = taking;
        drop(held);
        let taken = proofs.len();
        if let Some(epoch) = highest.filter(|_| taken > 0) {
            let name = format!("from peer {peer}");
            let next = Next { generation, epoch, name: &name, record_sets, applied, proofs };
            self.make(&mut writer, next)?;
        }
        Ok(Taken { taken, refused })
    }
}

fn is_proven(proofs: &Proofs, highest: Option<Epoch>, key: &RecordKey) -> bool {
    let incarnation = |epoch: Epoch| epoch.incarnation;
    proofs.get(key).is_some_and(|proof| highest.map(incarnation) == Some(proof.seal.epoch.incarnation))
}

impl OfferPage {
    /// Puts another page behind this one.
    pub(crate) fn append(&mut self, mut page: Self) {
        let before = self.seals.len();
        page.offers.iter_mut().for_each(|offer| offer.seal = offer.seal.saturating_add(before));
        self.seals.append(&mut page.seals);
        self.offers.append(&mut page.offers);
        self.next = page.next;
    }
}

impl Taking<'_> {
    fn offer(&mut self, offer: &Offer, seals: &[Result<Arc<Seal>, SealError>]) -> Result<(), WhyRefused> {
        let key = &offer.key;
        let seal = seals.get(offer.seal).cloned().unwrap_or(Err(SealError::Unsigned))?;
        let set = match &offer.record_set {
            None => None,
            Some(document) => {
                let set = ValidRecordSet::new(document.clone());
                Some(Arc::new(set.map_err(|error| WhyRefused::Invalid(error.to_string()))?))
            }
        };
        let digest = set.as_deref().map_or_else(|| Digest::of_removed(key), Digest::of);
        if set.as_ref().is_some_and(|set| set.key() != key) || !seal.digests.contains(&digest) {
            return Err(SealError::Tampered { key: key.clone() }.into());
        }
        let proof = Proof { seal, digest, is_gone: set.is_none() };
        if self.is_held(key, &proof, set.as_deref())? {
            return Ok(());
        }
        self.check_epoch(&proof.seal)?;
        self.put(key, set, proof);
        Ok(())
    }

    /// Is it there already? An error, where what is there is newer.
    fn is_held(
        &self,
        key: &RecordKey,
        proof: &Proof,
        set: Option<&ValidRecordSet>,
    ) -> Result<bool, WhyRefused> {
        let given = proof.seal.generation;
        let Some(held) = self.proofs.get(key).or_else(|| self.held.get(key)) else {
            // What nobody signed has its own generation alone to be compared by.
            let live = self.current.get(key).map(|live| live.document().generation);
            let is_older = live > set.map(|set| set.document().generation);
            return if is_older {
                Err(WhyRefused::Backwards { given, held: live.unwrap_or_default() })
            } else {
                Ok(false)
            };
        };
        if held.seal.epoch.incarnation != proof.seal.epoch.incarnation {
            return Ok(false);
        }
        match held.rank().cmp(&proof.rank()) {
            std::cmp::Ordering::Equal => Ok(true),
            std::cmp::Ordering::Greater => Err(WhyRefused::Backwards { given, held: held.seal.generation }),
            std::cmp::Ordering::Less => Ok(false),
        }
    }

    /// I3, of what somebody else hands over: it may have been signed by an earlier leader, but not after a later one had begun.
    fn check_epoch(&self, seal: &Seal) -> Result<(), WhyRefused> {
        let Some(highest) = self.highest else { return Ok(()) };
        let given = seal.epoch;
        if given.incarnation != highest.incarnation {
            return Err(WhyRefused::OtherIncarnation { given, highest });
        }
        let head = self.head.as_ref().filter(|head| head.epoch == highest);
        let since = head.map(|head| head.since);
        if given.counter < highest.counter && since.is_some_and(|since| seal.generation >= since) {
            cov_mark::hit!(i3_dns_refuses_what_was_signed_deposed);
            return Err(WhyRefused::OlderEpoch { given, highest });
        }
        Ok(())
    }

    fn put(&mut self, key: &RecordKey, set: Option<Arc<ValidRecordSet>>, proof: Proof) {
        self.highest = self.highest.max(Some(proof.seal.epoch));
        if self.head.as_ref().is_none_or(|head| head.rank() < proof.seal.rank()) {
            self.head = Some(Arc::clone(&proof.seal));
        }
        self.generation = self.generation.max(proof.seal.generation);
        let to_generation = set.as_ref().map(|set| set.document().generation);
        let is_same = match (&set, self.current.get(key)) {
            (Some(set), Some(live)) => set.document().same_target(live.document()),
            (None, None) => true,
            _ => false,
        };
        match set {
            Some(set) => self.record_sets.insert(key.clone(), set),
            None => self.record_sets.remove(key),
        };
        if !is_same {
            let from_generation = self.current.get(key).map(|live| live.document().generation);
            self.applied.push(AppliedChange { key: key.clone(), from_generation, to_generation });
        }
        self.proofs.insert(key.clone(), proof);
    }
}
