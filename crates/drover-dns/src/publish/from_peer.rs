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
use super::page::{Offer, OfferPage};
use super::proofs::{NewProofs, Proof, Proofs};
use super::publisher::{Next, Publisher};
use super::seal::{Digest, Seal, SealError};
use crate::zone::{DnsName, RecordKey, Snapshot, ValidRecordSet};

/// What an instance holds, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Of which zone.
    pub zone: DnsName,
    /// The snapshot's generation.
    pub generation: u64,
    /// The highest epoch seen, or, where no coordinator has written yet, heard of from peers.
    pub highest_epoch: Option<Epoch>,
    /// A number for each part of the names; alike where the same is held.
    pub buckets: Vec<u64>,
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
    /// It is as old as removals that are not remembered any more.
    #[error(
        "zone generation {given} is not after {forgotten}, up to which removals are forgotten here: it may have been removed"
    )]
    MayBeRemoved {
        /// Its zone generation.
        given: u64,
        /// That of the latest removal that was forgotten.
        forgotten: u64,
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
    /// So many could not be read: a later version made them.
    pub unreadable: usize,
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
    /// Does it trust any key?
    pub(crate) const fn keeps_signatures(&self) -> bool {
        self.trusted.is_some()
    }

    /// What this instance holds; none: it trusts no key, and can show nothing.
    #[must_use]
    pub fn peer_state(&self) -> Option<PeerState> {
        if !self.keeps_signatures() {
            return None;
        }
        let (proofs, snapshot) = (self.proofs(), self.snapshot());
        Some(PeerState {
            zone: snapshot.zone().origin.clone(),
            generation: snapshot.generation(),
            highest_epoch: self.ledger.load().highest_epoch.or_else(|| proofs.heard()),
            buckets: proofs.buckets(),
        })
    }

    /// Is nothing held, and nothing known to have been removed?
    pub(crate) fn is_blank(&self) -> bool {
        self.load().record_sets().is_empty() && self.proofs().is_empty()
    }

    /// How many record sets and removals were signed by a leader that had been deposed, and have not been replaced yet.
    #[must_use]
    pub fn contested(&self) -> usize {
        let highest = self.ledger.load().highest_epoch;
        let proofs = self.proofs();
        proofs.contested(highest.or_else(|| proofs.heard()))
    }

    /// The epoch that `given` must not be before: the highest that has written; where none has, the highest of its own incarnation that
    /// peers have shown.
    pub(super) fn highest_for(&self, given: Epoch) -> Option<Epoch> {
        let heard = || self.proofs().heard().filter(|heard| heard.incarnation == given.incarnation);
        self.ledger.load().highest_epoch.or_else(heard)
    }

    /// The record sets that no trusted key has signed in this incarnation, so that no peer would take them.
    #[must_use]
    pub fn unsealed(&self) -> Vec<RecordKey> {
        if self.trusted.is_none() {
            return vec![];
        }
        let (proofs, snapshot) = (self.proofs(), self.snapshot());
        snapshot.record_sets().keys().filter(|key| proofs.get(key).is_none()).cloned().collect()
    }

    /// Is this one of [`Publisher::unsealed`]?
    #[must_use]
    pub fn is_unsealed(&self, key: &RecordKey) -> bool {
        self.trusted.is_some() && self.proofs().get(key).is_none()
    }

    /// Takes what is newer of what a peer holds. Blocks for the disk.
    ///
    /// # Errors
    /// Those of writing.
    pub fn take_from_peer(&self, peer: &str, page: &OfferPage) -> Result<Taken, PublishError> {
        let Some(trusted) = &self.trusted else { return Ok(Taken::default()) };
        let origin = self.load().zone().origin.clone();
        let check = |seal: &Seal| seal.check(&origin, trusted).map(|()| Arc::new(seal.clone()));
        // Once, however often some of the page must be gone through again.
        let seals: CheckedSeals = page.seals.iter().map(check).collect();
        self.take_some(peer, &page.offers, &seals)
    }

    fn take_some(&self, peer: &str, offers: &[Offer], seals: &CheckedSeals) -> Result<Taken, PublishError> {
        match self.take_together(peer, offers, seals) {
            // One that can't stand beside the others must not keep them from being taken; it is found by halves.
            Err(PublishError::InvalidSnapshot(_)) if offers.len() > 1 => {
                let (first, second) = offers.split_at(offers.len() / 2);
                let mut all = self.take_some(peer, first, seals)?;
                all.append(self.take_some(peer, second, seals)?);
                Ok(all)
            }
            Err(PublishError::InvalidSnapshot(error)) => {
                let refused = offers.iter().map(|offer| RefusedOffer {
                    key: offer.key.clone(),
                    why: WhyRefused::Invalid(error.to_string()),
                });
                Ok(Taken { refused: refused.collect(), ..Taken::default() })
            }
            taken => taken,
        }
    }

    fn take_together(
        &self,
        peer: &str,
        offers: &[Offer],
        seals: &CheckedSeals,
    ) -> Result<Taken, PublishError> {
        let mut writer = self.writer();
        let (current, held, ledger) = (self.snapshot(), self.proofs(), self.ledger.load_full());
        let mut taking = Taking {
            current: &current,
            held: &held,
            highest: ledger.highest_epoch.or_else(|| held.heard()),
            head: held.head().cloned(),
            record_sets: current.record_sets().clone(),
            generation: current.generation(),
            applied: vec![],
            proofs: NewProofs::new(),
            refused: vec![],
        };
        // Whom nobody commands yet has no way to tell which of two incarnations it should be.
        let first = offers.iter().filter_map(|offer| seals.get(offer.seal)?.as_ref().ok());
        let mut first = first.map(|seal| seal.epoch);
        if taking.highest.is_none()
            && let Some(one) = first.next()
            && let Some(other) = first.find(|other| other.incarnation != one.incarnation)
        {
            let why = WhyRefused::OtherIncarnation { given: other, highest: one };
            let refused =
                offers.iter().map(|offer| RefusedOffer { key: offer.key.clone(), why: why.clone() });
            return Ok(Taken { refused: refused.collect(), ..Taken::default() });
        }
        for offer in offers {
            if let Err(why) = taking.offer(offer, seals) {
                taking.refused.push(RefusedOffer { key: offer.key.clone(), why });
            }
        }
        let Taking { highest, record_sets, generation, applied, proofs, refused, .. } = taking;
        drop(held);
        let taken = proofs.len();
        if let Some(epoch) = highest.filter(|_| taken > 0) {
            let name = format!("from peer {peer}");
            // A coordinator of another incarnation must not be kept out by the word of a peer alone.
            let highest_epoch = ledger.highest_epoch.and(highest);
            let next = Next { generation, epoch, highest_epoch, name: &name, record_sets, applied, proofs };
            self.make(&mut writer, next)?;
        }
        Ok(Taken { taken, refused, unreadable: 0 })
    }
}

/// The seals of a page, found to be a trusted key's or not.
type CheckedSeals = Vec<Result<Arc<Seal>, SealError>>;

impl Taken {
    pub(crate) fn append(&mut self, mut other: Self) {
        self.taken += other.taken;
        self.refused.append(&mut other.refused);
        self.unreadable += other.unreadable;
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
        let proof = Proof::new(key, seal, digest, set.is_none());
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
            let live = self.current.get(key).map(|live| live.document().generation);
            if live.is_none()
                && let Some(forgotten) = self.held.may_be_removed(proof)
            {
                let forgotten = forgotten.generation;
                // That it is removed is so already, and would be forgotten again.
                return set.map_or(Ok(true), |_| Err(WhyRefused::MayBeRemoved { given, forgotten }));
            }
            // What nobody signed has its own generation alone to be compared by.
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
            // Signed by a leader that had been deposed, and taken when nobody here could know: what may be taken now stands instead.
            std::cmp::Ordering::Greater if self.is_deposed(&held.seal) && !self.is_deposed(&proof.seal) => {
                cov_mark::hit!(i3_dns_replaces_what_was_signed_deposed);
                Ok(false)
            }
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
        if self.is_deposed(seal) {
            cov_mark::hit!(i3_dns_refuses_what_was_signed_deposed);
            return Err(WhyRefused::OlderEpoch { given, highest });
        }
        Ok(())
    }

    /// Was it signed by an earlier leader after the one in command had begun?
    fn is_deposed(&self, seal: &Seal) -> bool {
        let head = self.head.as_ref().filter(|head| Some(head.epoch) == self.highest);
        head.is_some_and(|head| seal.is_deposed(head.epoch, head.since))
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
