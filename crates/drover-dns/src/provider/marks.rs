//! What every provider writes into a zone of others beside the record sets: whose they are, and who commands the zone.
//! Written for people too: `dig TXT _drover-fence.example.net` shows it.

use std::time::SystemTime;

use drover_model::Epoch;

use super::ProviderError;
use crate::publish::objection;
use crate::zone::{DnsName, InvalidName, RecordKey};

/// The longest string of a TXT record, RFC 1035.
pub(super) const STRING_BYTES_MAX: usize = 255;
/// How every text of drover's begins, also of another version.
pub(super) const OURS: &str = "drover-";
/// How the text beside a record set begins that says all of it.
pub(super) const SET_HEAD: &str = "drover-set 1";
/// How it begins where it says only whose the set is.
pub(super) const OWNER_HEAD: &str = "drover-owner 1 ";
const FENCE_HEAD: &str = "drover-fence 1";
/// How long the fence may be kept by resolvers: nobody but drover asks for it.
pub(super) const FENCE_TTL_SECONDS: u32 = 60;
/// The owner of what nothing of drover's describes. No owner of drover's has such a name.
pub(super) const FOREIGN: &str = "(nobody that drover knows)";

/// What the text beside a record set says of its version, to whoever only asks DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It is this.
    Generation(u64),
    /// Nothing: Route 53 has it in set identifiers, which its API alone shows.
    OwnerAlone,
}

impl Registered {
    /// Reads the text at [`registry_name`]; none: it is none of drover's.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.starts_with(OWNER_HEAD) {
            return Some(Self::OwnerAlone);
        }
        let told = text.strip_prefix(SET_HEAD)?.strip_prefix(" generation=")?;
        told.split(' ').next()?.parse().ok().map(Self::Generation)
    }
}

/// Where in a zone of others the text stands that belongs to a record set.
///
/// # Errors
/// When that name would be too long.
pub fn registry_name(key: &RecordKey) -> Result<DnsName, InvalidName> {
    let rtype = key.rtype.as_str().to_ascii_lowercase();
    DnsName::parse(&format!("_drover-{rtype}.{}", key.name))
}

/// Where a zone's fence stands.
pub(super) fn fence_name(zone: &DnsName) -> Result<DnsName, InvalidName> {
    DnsName::parse(&format!("_drover-fence.{zone}"))
}

/// Who commands a zone. Raised by every update, so that each update of a predecessor fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZoneFence {
    pub(super) epoch: Epoch,
    /// Counts the updates, from the second of its first one: a fence that was removed and is made anew is above all
    /// that there were.
    pub(super) updates: u64,
}

impl ZoneFence {
    pub(super) fn describe(self) -> String {
        format!("{FENCE_HEAD} epoch={} updates={}", epoch(self.epoch), self.updates)
    }

    pub(super) fn read(strings: &[String]) -> Option<Self> {
        let [text] = strings else { return None };
        let (command, updates) =
            text.strip_prefix(FENCE_HEAD)?.strip_prefix(" epoch=")?.split_once(" updates=")?;
        Some(Self { epoch: read_epoch(command)?, updates: updates.parse().ok()? })
    }

    /// The next after `before`, under `epoch`.
    pub(super) fn raised(before: Option<Self>, epoch: Epoch) -> Self {
        let first = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { epoch, updates: before.map_or_else(first, |fence| fence.updates + 1) }
    }

    /// Is it one that somebody was shown?
    pub(super) fn is_among(self, shown: &[(String, Epoch)]) -> bool {
        shown.iter().any(|(_, epoch)| *epoch == self.epoch)
    }

    /// I3: may `given` write where this stands?
    pub(super) fn check(self, given: Epoch, instance: &str) -> Result<(), ProviderError> {
        match objection(self.epoch, given) {
            None => Ok(()),
            Some(reason) => {
                Err(ProviderError::Fenced { instance: instance.to_owned(), highest: self.epoch, reason })
            }
        }
    }
}

/// An epoch as texts have it.
pub(super) fn epoch(epoch: Epoch) -> String {
    format!("{:x}/{}", epoch.incarnation, epoch.counter)
}

pub(super) fn read_epoch(text: &str) -> Option<Epoch> {
    let (incarnation, counter) = text.split_once('/')?;
    Some(Epoch { incarnation: u64::from_str_radix(incarnation, 16).ok()?, counter: counter.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::RecordType;
    use proptest::prelude::*;

    #[test]
    fn marks_stand_at_names_that_people_can_ask_for() {
        let name = |text| DnsName::parse(text).unwrap();
        let key = RecordKey::new(name("checkout.example.net"), RecordType::Aaaa);
        assert_eq!(registry_name(&key).unwrap().as_str(), "_drover-aaaa.checkout.example.net");
        assert_eq!(fence_name(&name("example.net")).unwrap().as_str(), "_drover-fence.example.net");
    }

    #[test]
    fn the_text_beside_a_set_says_its_version_or_that_it_does_not() {
        let set = "drover-set 1 generation=7 epoch=1/1 ttl=30owner=drover";
        assert_eq!(Registered::read(set), Some(Registered::Generation(7)));
        assert_eq!(Registered::read("drover-owner 1 drover"), Some(Registered::OwnerAlone));
        for other in ["v=spf1 -all", "drover-set 2 generation=7", "drover-set 1 generation=x", ""] {
            assert_eq!(Registered::read(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_fence_that_is_written_is_read(incarnation: u64, counter: u64, updates: u64) {
            let fence = ZoneFence { epoch: Epoch { incarnation, counter }, updates };
            prop_assert_eq!(ZoneFence::read(&[fence.describe()]), Some(fence));
        }

        #[test]
        fn no_text_makes_a_panic(text: String) {
            let _ = ZoneFence::read(&[text]);
        }
    }
}
