//! What an instance shows to a peer, in pages of bounded length, and how such a page is read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::proofs::BUCKETS;
use super::publisher::Publisher;
use super::seal::Seal;
use crate::zone::{RecordKey, RecordSet};

/// The record sets in one answer to a peer, at most.
pub(crate) const PAGE_OFFERS_MAX: usize = 200;

/// So many bytes of record sets and seals are in one answer to a peer, at most; one record set is in any case.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

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

/// A page as it came. What a later version has put in it, and this one can't read, must not keep the rest from being taken.
#[derive(Debug, Deserialize)]
pub(crate) struct UnreadPage {
    seals: Vec<Value>,
    offers: Vec<Value>,
    /// Given back as it came: it may be of a type that is not known here.
    pub(crate) next: Option<Value>,
}

/// A page, read as far as it can be.
#[derive(Debug, Default)]
pub(crate) struct ReadPage {
    pub(crate) page: OfferPage,
    /// So many record sets could not be read.
    pub(crate) unreadable: usize,
    /// Why the last of them could not.
    pub(crate) reason: String,
}

/// Why a page is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPage {
    #[error("{offers} record sets in one answer, at most {PAGE_OFFERS_MAX} can be")]
    TooMany { offers: usize },
    #[error("{seals} signatures of {offers} record sets in one answer: more than there is to sign")]
    IdleSeals { seals: usize, offers: usize },
    #[error("an answer without record sets says that there are more")]
    Empty,
}

impl UnreadPage {
    /// # Errors
    /// When no instance of any version answers like this.
    pub(crate) fn read(self) -> Result<ReadPage, NoPage> {
        let (seals, offers) = (self.seals.len(), self.offers.len());
        if offers > PAGE_OFFERS_MAX {
            return Err(NoPage::TooMany { offers });
        }
        if seals > offers {
            return Err(NoPage::IdleSeals { seals, offers });
        }
        if offers == 0 && self.next.is_some() {
            return Err(NoPage::Empty);
        }
        let (mut read, mut places) = (ReadPage::default(), BTreeMap::new());
        for (place, seal) in self.seals.into_iter().enumerate() {
            if let Ok(seal) = serde_json::from_value(seal) {
                places.insert(place, read.page.seals.len());
                read.page.seals.push(seal);
            }
        }
        for offer in self.offers {
            let offer = serde_json::from_value::<Offer>(offer).map_err(|error| error.to_string());
            let with_seal = offer.and_then(|offer| match places.get(&offer.seal) {
                Some(seal) => Ok(Offer { seal: *seal, ..offer }),
                None => Err(format!("the signature of {} can't be read", offer.key)),
            });
            match with_seal {
                Ok(offer) => read.page.offers.push(offer),
                Err(reason) => {
                    read.unreadable += 1;
                    read.reason = reason;
                }
            }
        }
        Ok(read)
    }
}

impl ReadPage {
    /// Puts another page behind this one.
    pub(crate) fn append(&mut self, other: Self) {
        let Self { mut page, unreadable, reason } = other;
        let before = self.page.seals.len();
        page.offers.iter_mut().for_each(|offer| offer.seal = offer.seal.saturating_add(before));
        self.page.seals.append(&mut page.seals);
        self.page.offers.append(&mut page.offers);
        self.unreadable += unreadable;
        if unreadable > 0 {
            self.reason = reason;
        }
    }
}

impl Publisher {
    /// The record sets in these parts of the names, behind `after`. Goes through the whole zone: not for a thread that answers queries.
    #[must_use]
    pub fn offers(&self, wanted: &[usize], after: Option<&RecordKey>) -> OfferPage {
        let mut is_wanted = [false; BUCKETS];
        for bucket in wanted {
            if let Some(is_wanted) = is_wanted.get_mut(*bucket) {
                *is_wanted = true;
            }
        }
        // The snapshot changes while they are held by the one who changes it.
        let proofs = self.proofs();
        let snapshot = self.snapshot();
        let (mut page, mut bytes) = (OfferPage::default(), 0);
        let mut places: BTreeMap<*const Seal, usize> = BTreeMap::new();
        for (key, proof) in proofs.from(after).filter(|(_, proof)| is_wanted[proof.bucket()]) {
            let record_set = snapshot.get(key).map(|set| set.document().clone());
            let known = places.get(&Arc::as_ptr(&proof.seal)).copied();
            let seal = known.unwrap_or(page.seals.len());
            let offer = Offer { key: key.clone(), record_set, seal };
            bytes += length(&offer) + known.map_or_else(|| length(&*proof.seal), |_| 0);
            let is_full = page.offers.len() == PAGE_OFFERS_MAX || bytes > PAGE_BYTES_MAX;
            if is_full && let Some(last) = page.offers.last() {
                page.next = Some(last.key.clone());
                break;
            }
            if known.is_none() {
                places.insert(Arc::as_ptr(&proof.seal), seal);
                page.seals.push(Seal::clone(&proof.seal));
            }
            page.offers.push(offer);
        }
        page
    }
}

/// How long it is as JSON.
fn length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What can't be written is longer than any page.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX / 4, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_later_version_is_read_as_far_as_it_can_be() {
        let page = |offers: &str, seals: &str, next: &str| -> UnreadPage {
            serde_json::from_str(&format!(
                "{{\"seals\":[{seals}],\"offers\":[{offers}],\"next\":{next},\"later\":1}}"
            ))
            .unwrap()
        };
        let key = |rtype: &str| format!("{{\"name\":\"a.example.test\",\"rtype\":\"{rtype}\"}}");
        let offer = |rtype: &str, seal: usize| {
            format!("{{\"key\":{},\"record_set\":null,\"seal\":{seal}}}", key(rtype))
        };
        let seal = serde_json::to_string(&Seal {
            zone: "example.test".parse().unwrap(),
            epoch: drover_model::Epoch { incarnation: 1, counter: 1 },
            since: 1,
            generation: 1,
            digests: vec![],
            signature: crate::publish::Signature::default(),
        })
        .unwrap();
        let offers = [offer("A", 1), offer("SVCB", 1), offer("AAAA", 0)].join(",");
        let read = page(&offers, &format!("{{\"form\":2}},{seal}"), &key("SVCB")).read().unwrap();
        assert_eq!((read.page.offers.len(), read.page.offers[0].seal, read.unreadable), (1, 0, 2));
        assert!(read.reason.contains("a.example.test AAAA"), "{}", read.reason);
        let idle = page("", &seal, "null").read().unwrap_err();
        assert_eq!(idle, NoPage::IdleSeals { seals: 1, offers: 0 });
        assert_eq!(page("", "", &key("A")).read().unwrap_err(), NoPage::Empty);
        let many = vec![offer("A", 0); PAGE_OFFERS_MAX + 1].join(",");
        assert!(matches!(page(&many, &seal, "null").read().unwrap_err(), NoPage::TooMany { offers: 201 }));
    }
}
