//! A hosted zone as it was read, and what a call makes of it. Pure.

use std::collections::BTreeMap;

use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};

use crate::provider::marks::{FENCE_TTL_SECONDS, STRING_BYTES_MAX, ZoneFence};
use crate::zone::{DnsName, RecordKey, RecordType};

/// The record sets of a zone. Names that drover does not publish, such as wildcards, are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Zone {
    sets: BTreeMap<(DnsName, String), Vec<ResourceRecordSet>>,
}

/// The fence as it stands in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    /// Nobody has commanded the zone yet.
    None,
    /// It is this.
    Held(ZoneFence),
    /// A text that this build can't read.
    Unreadable,
}

impl Fence {
    pub(super) const fn held(self) -> Option<ZoneFence> {
        match self {
            Self::Held(fence) => Some(fence),
            Self::None | Self::Unreadable => None,
        }
    }
}

impl Zone {
    /// Adds a record set, or puts it in the place of the one of its identifier.
    pub(super) fn add(&mut self, set: ResourceRecordSet) {
        let Some(place) = place(&set) else { return };
        let there = self.sets.entry(place).or_default();
        there.retain(|one| one.set_identifier() != set.set_identifier());
        there.push(set);
    }

    /// Leaves out all at a name, which is read anew.
    pub(super) fn clear(&mut self, name: &DnsName) {
        self.sets.retain(|(at, _), _| at != name);
    }

    /// The domain of the zone.
    pub(super) fn apex(&self) -> Option<&DnsName> {
        self.sets.keys().find(|(_, rtype)| rtype == RrType::Soa.as_str()).map(|(name, _)| name)
    }

    pub(super) fn at(&self, name: &DnsName, rtype: &str) -> &[ResourceRecordSet] {
        self.sets.get(&(name.clone(), rtype.to_owned())).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of(&self, key: &RecordKey) -> &[ResourceRecordSet] {
        self.at(&key.name, key.rtype.as_str())
    }

    /// Another type at the key's name beside which it can't stand: nothing stands beside an alias name.
    pub(super) fn beside(&self, key: &RecordKey) -> Option<&str> {
        let from = (key.name.clone(), String::new());
        let there = self.sets.range(from..).take_while(|((name, _), _)| *name == key.name);
        let (own, alias) = (key.rtype.as_str(), RecordType::Cname.as_str());
        let mut types = there.map(|((_, rtype), _)| rtype.as_str());
        types.find(|rtype| *rtype != own && (own == alias || *rtype == alias))
    }

    /// Does any record follow this health check?
    pub(super) fn follows(&self, check: &str) -> bool {
        self.sets.values().flatten().any(|set| set.health_check_id() == Some(check))
    }

    pub(super) fn fence(&self, name: &DnsName) -> Fence {
        fence(self.at(name, RrType::Txt.as_str()))
    }

    /// What the zone is after a call that was accepted.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let Some(set) = change.resource_record_set() else { continue };
            if change.action() == &ChangeAction::Delete {
                let Some(place) = place(set) else { continue };
                if let Some(there) = self.sets.get_mut(&place) {
                    there.retain(|one| one != set);
                    if there.is_empty() {
                        self.sets.remove(&place);
                    }
                }
            } else {
                self.add(set.clone());
            }
        }
    }
}

fn place(set: &ResourceRecordSet) -> Option<(DnsName, String)> {
    Some((DnsName::parse(set.name()).ok()?, set.r#type().as_str().to_owned()))
}

pub(super) fn fence(sets: &[ResourceRecordSet]) -> Fence {
    if sets.is_empty() {
        return Fence::None;
    }
    text(sets).and_then(|text| ZoneFence::read(&[text])).map_or(Fence::Unreadable, Fence::Held)
}

/// The one string of the one TXT record of a set; none where there is another number of them.
pub(super) fn text(sets: &[ResourceRecordSet]) -> Option<String> {
    let [set] = sets else { return None };
    let [record] = set.resource_records() else { return None };
    unquoted(record.value())
}

/// A TXT record of one string; none where it is longer than a string may be.
pub(super) fn txt(name: &DnsName, text: &str) -> Option<ResourceRecordSet> {
    if text.len() > STRING_BYTES_MAX {
        return None;
    }
    record_set(name, RrType::Txt, FENCE_TTL_SECONDS, &quoted(text)).build().ok()
}

/// A record set of one value, to be completed.
pub(super) fn record_set(
    name: &DnsName,
    rtype: RrType,
    ttl_seconds: u32,
    value: &str,
) -> aws_sdk_route53::types::builders::ResourceRecordSetBuilder {
    let value = ResourceRecord::builder().value(value).build().ok();
    ResourceRecordSet::builder()
        .name(format!("{name}."))
        .r#type(rtype)
        .ttl(i64::from(ttl_seconds))
        .set_resource_records(Some(value.into_iter().collect()))
}

/// As Route 53 has strings of TXT records: in quotes, and in octal what is not printable ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

fn unquoted(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            // A second string.
            b'"' => return None,
            b'\\' => {
                let next = rest.next()?;
                if !next.is_ascii_digit() {
                    bytes.push(next);
                    continue;
                }
                let digits = [next, rest.next()?, rest.next()?];
                let octal = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(octal, 8).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_quoted_as_route_53_has_them() {
        assert_eq!(quoted("owner=drover \"x\\y\" ü"), r#""owner=drover \"x\\y\" \303\274""#);
        for other in [r#""two" "strings""#, "none", r#""\9"#, r#""\777""#, r#"""""#] {
            assert_eq!(unquoted(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read(text: String) {
            prop_assert_eq!(unquoted(&quoted(&text)), Some(text));
        }
    }
}
