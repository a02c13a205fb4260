//! What DNS itself can't say about a record set, in a TXT record beside it: whose it is, its generation, its weights.
//! Written for people too: `dig TXT _drover-a.checkout.example.net` shows all of it.

use crate::provider::marks::{SET_HEAD, STRING_BYTES_MAX, epoch, read_epoch};
use crate::zone::{Answering, DnsName, Member, RecordKey, RecordSet, RecordType};

/// Parts of a member's string: weight, value, and the rest.
const MEMBER_PARTS: usize = 3;

/// Why a record set can't be described in TXT strings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} takes {bytes} bytes, and a TXT string at most {STRING_BYTES_MAX}")]
pub struct TooLong {
    what: String,
    bytes: usize,
}

impl TooLong {
    /// Does this fit into one string?
    pub(super) fn check(text: &str) -> Result<(), Self> {
        if text.len() <= STRING_BYTES_MAX {
            return Ok(());
        }
        Err(Self { what: text.chars().take(40).collect(), bytes: text.len() })
    }
}

/// The strings that describe `set`.
pub(super) fn describe(set: &RecordSet) -> Result<Vec<String>, TooLong> {
    let mut strings = vec![
        format!(
            "{SET_HEAD} generation={} epoch={} ttl={}",
            set.generation,
            epoch(set.epoch),
            set.ttl_seconds
        ),
        format!("owner={}", set.owner),
        shortened(&format!("note={}", set.note)),
    ];
    let members = set.members.iter().map(|m| format!("{} {} {}", m.weight, m.value, m.set_id));
    strings.extend(members);
    strings.iter().try_for_each(|string| TooLong::check(string))?;
    Ok(strings)
}

/// The set that these strings describe; none: they are not ours, or of a version that this build does not know.
pub(super) fn read(key: &RecordKey, strings: &[String]) -> Option<RecordSet> {
    let [head, owner, note, members @ ..] = strings else { return None };
    let mut fields = head.strip_prefix(SET_HEAD)?.strip_prefix(' ')?.split(' ');
    let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let (generation, command, ttl) = (field("generation")?, field("epoch")?, field("ttl")?);
    let members: Option<Vec<Member>> = members.iter().map(|text| member(text)).collect();
    Some(RecordSet {
        name: key.name.as_str().to_owned(),
        rtype: key.rtype,
        ttl_seconds: ttl.parse().ok()?,
        members: members?,
        generation: generation.parse().ok()?,
        epoch: read_epoch(&command)?,
        owner: owner.strip_prefix("owner=")?.to_owned(),
        note: note.strip_prefix("note=")?.to_owned(),
        answering: Answering::USUAL,
    })
}

fn member(text: &str) -> Option<Member> {
    let mut parts = text.splitn(MEMBER_PARTS, ' ');
    let (weight, value, set_id) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Member { set_id: set_id.to_owned(), value: value.to_owned(), weight: weight.parse().ok()? })
}

/// Notes are for people: what does not fit is left out.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The values that are answered, in the order of the members: all that have weight.
pub(super) fn answered(set: &RecordSet) -> impl Iterator<Item = &Member> {
    set.members.iter().filter(|m| m.weight > 0)
}

/// The wire form of one value; none: it is no value of this type.
pub(super) fn rdata(rtype: RecordType, value: &str) -> Option<Vec<u8>> {
    match rtype {
        RecordType::A => Some(value.parse::<std::net::Ipv4Addr>().ok()?.octets().to_vec()),
        RecordType::Aaaa => Some(value.parse::<std::net::Ipv6Addr>().ok()?.octets().to_vec()),
        RecordType::Cname => Some(DnsName::parse(value).ok()?.wire().as_slice().to_vec()),
        // Of drover's own servers alone.
        RecordType::Caa | RecordType::Mx | RecordType::Txt | RecordType::Geography => None,
    }
}

/// The wire form of a TXT record of these strings, none longer than 255 bytes.
pub(super) fn txt_rdata(strings: &[String]) -> Vec<u8> {
    let mut wire = Vec::new();
    for string in strings {
        wire.push(u8::try_from(string.len()).unwrap_or(u8::MAX));
        wire.extend_from_slice(&string.as_bytes()[..string.len().min(STRING_BYTES_MAX)]);
    }
    wire
}

/// The strings of a TXT record in its wire form; none: it is malformed, or no text.
pub(super) fn txt_strings(mut wire: &[u8]) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = wire.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        strings.push(String::from_utf8(string.to_vec()).ok()?);
        wire = rest;
    }
    Some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Epoch;
    use proptest::prelude::*;

    fn key() -> RecordKey {
        RecordKey::new(DnsName::parse("checkout.example.net").unwrap(), RecordType::A)
    }

    fn set(weights: &[u16]) -> RecordSet {
        let member = |(i, weight): (usize, &u16)| Member {
            set_id: format!("region-{i}"),
            value: format!("192.0.2.{i}"),
            weight: *weight,
        };
        RecordSet {
            name: key().name.as_str().into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: weights.iter().enumerate().map(member).collect(),
            generation: 7,
            epoch: Epoch { incarnation: 0xdead_beef_0123_4567, counter: 3 },
            owner: "prod eu".into(),
            note: "drained by run-7".into(),
            answering: Answering::USUAL,
        }
    }

    #[test]
    fn a_registry_can_be_read_by_people() {
        let strings = describe(&set(&[50, 0])).unwrap();
        assert_eq!(strings[0], "drover-set 1 generation=7 epoch=deadbeef01234567/3 ttl=30");
        assert_eq!(
            strings[1..],
            ["owner=prod eu", "note=drained by run-7", "50 192.0.2.0 region-0", "0 192.0.2.1 region-1"]
        );
    }

    #[test]
    fn a_text_of_somebody_else_is_no_registry() {
        let ours = describe(&set(&[1])).unwrap();
        assert_eq!(read(&key(), &ours), Some(set(&[1])));
        for (at, text) in
            [(0, "v=spf1 -all"), (0, "drover-set 2 generation=7 epoch=1/1 ttl=1"), (1, "prod"), (3, "1 x")]
        {
            let mut theirs = ours.clone();
            theirs[at] = text.into();
            assert_eq!(read(&key(), &theirs), None, "{text}");
        }
    }

    #[test]
    fn what_fits_no_string_is_refused_by_name_and_a_note_is_cut() {
        let owner = RecordSet { owner: "x".repeat(250), ..set(&[1]) };
        assert_eq!(describe(&owner).unwrap_err().bytes, 256);
        let note = RecordSet { note: "ü".repeat(200), ..set(&[1]) };
        assert!(describe(&note).unwrap()[2].len() <= STRING_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(weights in prop::collection::vec(0u16..256, 1..100)) {
            let set = set(&weights);
            let wire = txt_rdata(&describe(&set).unwrap());
            prop_assert_eq!(read(&key(), &txt_strings(&wire).unwrap()), Some(set));
        }

        #[test]
        fn no_bytes_make_a_panic(wire in prop::collection::vec(any::<u8>(), 0..300)) {
            let strings = txt_strings(&wire).unwrap_or_default();
            let _ = read(&key(), &strings);
        }
    }
}
