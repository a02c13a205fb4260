//! Signatures by which an instance knows what the coordinator published, whoever hands it over.
//!
//! A batch is sealed in parts of at most [`SEALED_CHANGES_MAX`] changes, each by one Ed25519 signature (RFC 8032) over the zone, the epoch,
//! the zone's generation and a digest of each change. So a record set can be shown to somebody else with the seal that it came under
//! and nothing else of its batch, and what must be kept of a seal is bounded by what of it is still live.

mod digest;
mod key;

use std::sync::Arc;

use drover_model::Epoch;
use serde::{Deserialize, Serialize};

use super::{Batch, Change};
use crate::zone::{DnsName, InvalidRecordSet, RecordKey, RecordSet, ValidRecordSet};

pub use digest::{Digest, Signature};
pub use key::{PublicKey, SigningKey, TRUSTED_KEYS_MAX, TrustedKeys, UnusableSigningKey};

/// The changes under one signature, at most: few enough that the digests of a batch of which one change is still live are no burden (4 KiB),
/// and as many as make a batch of a thousand cost a millisecond to verify.
pub const SEALED_CHANGES_MAX: usize = 64;

/// The first line of what is signed; another form of it will have another.
const SIGNED_FORM: &str = "drover dns seal 1";

/// What the coordinator says that it published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Of which zone.
    pub zone: DnsName,
    /// Under whose command.
    pub epoch: Epoch,
    /// The zone's generation with which this epoch began: what an earlier epoch signed from there on, it signed deposed.
    pub since: u64,
    /// The zone's generation, raised by each batch.
    pub generation: u64,
    /// Of each change, in their order.
    pub digests: Vec<Digest>,
    /// Over all of it.
    pub signature: Signature,
}

/// The order of what was signed for one record set: later epochs of an incarnation first, then later generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(super) counter: u64,
    pub(super) generation: u64,
}

/// Why a signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is none.
    #[error(
        "it is not signed, and this server takes only what a key of its `trusted_keys` signed; set `dns.signing_key_file` \
         (`drover dns keygen --out FILE` makes a key and prints what the server must trust)"
    )]
    Unsigned,
    /// None of the keys that this server knows made it.
    #[error(
        "no key of this server's `trusted_keys` signed it; add the coordinator's public key there (`drover dns keygen --show FILE` \
         prints it), and restart the server"
    )]
    Untrusted,
    /// It is of another zone.
    #[error("it was signed for the zone {found}, and this is {zone}")]
    OtherZone {
        /// The zone here.
        zone: DnsName,
        /// The zone that was signed.
        found: DnsName,
    },
    /// The signatures and what they came with don't belong together.
    #[error("its signatures are of something else: {0}")]
    OtherBatch(&'static str),
    /// It is not what was signed.
    #[error("{key} is not what was signed")]
    Tampered {
        /// Which record set.
        key: RecordKey,
    },
}

/// What a coordinator signs with, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// The key.
    pub key: &'a SigningKey,
    /// The zone.
    pub zone: &'a DnsName,
    /// The generation with which the batch's epoch began.
    pub since: u64,
    /// The batch's.
    pub generation: u64,
}

impl Sealing<'_> {
    /// Signs all changes of a batch.
    ///
    /// # Errors
    /// When a change can't be published at all, and so has no form in which it would be.
    pub fn seal(&self, batch: &Batch) -> Result<Vec<Seal>, InvalidRecordSet> {
        batch.changes.chunks(SEALED_CHANGES_MAX).map(|part| self.part(batch.epoch, part)).collect()
    }

    fn part(&self, epoch: Epoch, changes: &[Change]) -> Result<Seal, InvalidRecordSet> {
        let digests = changes.iter().map(|change| digest_of(change, epoch)).collect::<Result<_, _>>()?;
        let Self { since, generation, .. } = *self;
        let (zone, signature) = (self.zone.clone(), Signature::default());
        let mut seal = Seal { zone, epoch, since, generation, digests, signature };
        seal.signature = self.key.sign(&seal.signed_bytes());
        Ok(seal)
    }
}

/// As the receiver will have it.
fn digest_of(change: &Change, epoch: Epoch) -> Result<Digest, InvalidRecordSet> {
    match change {
        Change::Put { record_set, .. } => {
            let stamped = RecordSet { epoch, ..record_set.clone() };
            Ok(Digest::of(&ValidRecordSet::new(stamped)?))
        }
        Change::Delete { name, rtype, .. } => {
            let name = DnsName::parse(name).map_err(InvalidRecordSet::Name)?;
            Ok(Digest::of_removed(&RecordKey::new(name, *rtype)))
        }
    }
}

impl Seal {
    fn signed_bytes(&self) -> Vec<u8> {
        let Self { zone, epoch, since, generation, digests, .. } = self;
        let (Epoch { incarnation, counter }, count) = (epoch, digests.len());
        let head = format!("{SIGNED_FORM}\n{zone}\n{incarnation} {counter} {since} {generation} {count}\n");
        let mut bytes = head.into_bytes();
        digests.iter().for_each(|digest| bytes.extend_from_slice(digest.as_bytes()));
        bytes
    }

    /// Did a trusted key sign it, for this zone?
    pub(crate) fn check(&self, zone: &DnsName, trusted: &TrustedKeys) -> Result<(), SealError> {
        if self.zone != *zone {
            return Err(SealError::OtherZone { zone: zone.clone(), found: self.zone.clone() });
        }
        if self.digests.is_empty() || self.digests.len() > SEALED_CHANGES_MAX {
            return Err(SealError::OtherBatch("a part has 1 to 64 changes"));
        }
        if trusted.have_signed(&self.signed_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(SealError::Untrusted)
        }
    }

    /// Was it signed by a leader after a later one, whose epoch is `highest`, had begun at the zone's generation `since`?
    pub(super) const fn is_deposed(&self, highest: Epoch, since: u64) -> bool {
        self.epoch.counter < highest.counter && self.generation >= since
    }

    pub(crate) const fn rank(&self) -> Rank {
        Rank { counter: self.epoch.counter, generation: self.generation }
    }
}

/// The seals of a batch, found to be a trusted key's and to belong to it. Not yet that the changes are those that were signed.
pub(super) fn check_batch(
    seals: Vec<Seal>,
    batch: &Batch,
    zone: &DnsName,
    trusted: &TrustedKeys,
) -> Result<Vec<Arc<Seal>>, SealError> {
    let Some(first) = seals.first() else { return Err(SealError::Unsigned) };
    if seals.iter().any(|seal| seal.epoch != batch.epoch) {
        return Err(SealError::OtherBatch("another epoch"));
    }
    if seals.iter().any(|seal| (seal.generation, seal.since) != (first.generation, first.since)) {
        return Err(SealError::OtherBatch("parts of several batches"));
    }
    let sizes = batch.changes.chunks(SEALED_CHANGES_MAX).map(<[Change]>::len);
    if !sizes.eq(seals.iter().map(|seal| seal.digests.len())) {
        return Err(SealError::OtherBatch("another number of changes"));
    }
    for seal in &seals {
        seal.check(zone, trusted)?;
    }
    Ok(seals.into_iter().map(Arc::new).collect())
}

#[cfg(test)]
mod tests;
