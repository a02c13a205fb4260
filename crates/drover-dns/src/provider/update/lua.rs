//! LUA records of PowerDNS: how weights stand in a zone whose servers have them. Pure.
//!
//! Such a record holds the type that it answers for and a program; the server runs that for each question. On the wire it is the type's
//! number and the program's text in strings, as in a TXT record (<https://doc.powerdns.com/authoritative/lua-records>). Records of all types
//! of a name are one set: those of other types than the one at hand belong to somebody else, and stay.

use domain::base::iana::Rtype;

use super::message::Records;
use super::registry::{TooLong, answered, txt_rdata, txt_strings};
use crate::provider::marks::STRING_BYTES_MAX;
use crate::zone::{DnsName, InvalidName, RecordKey, RecordSet};

/// PowerDNS's own number, of those for private use.
pub(super) const LUA: Rtype = Rtype::from_int(65402);
/// Bytes of the type that a record answers for.
const TYPE_BYTES: usize = 2;
const PROGRAM_HEAD: &str = "pickwrandom({";
const PROGRAM_END: &str = "})";
/// What a server answers that runs such programs.
pub(super) const PROOF: &str = "drover";

/// Where the record stands by which a server proves that it runs such programs.
pub(super) fn proof_name(zone: &DnsName) -> Result<DnsName, InvalidName> {
    DnsName::parse(&format!("_drover-lua.{zone}"))
}

/// That record.
pub(super) fn proof(name: DnsName, ttl_seconds: u32) -> Records {
    let rdata = wire(Rtype::TXT, &[format!("'{PROOF}'")]);
    Records::new(name, LUA, ttl_seconds, vec![rdata])
}

/// The record that answers for `set`; none: no value of it has weight.
///
/// The program is split between members only: PowerDNS keeps no string longer than 255 bytes through a transfer, and puts a space where
/// two meet.
pub(super) fn rdata(set: &RecordSet) -> Result<Option<Vec<u8>>, TooLong> {
    // A value is an address or a host name of letters, digits, dots, `-` and `_`: nothing that could end a string of the program.
    let members: Vec<String> = answered(set).map(|m| format!("{{{},'{}'}}", m.weight, m.value)).collect();
    if members.is_empty() {
        return Ok(None);
    }
    let mut strings = vec![PROGRAM_HEAD.to_owned()];
    let last = members.len() - 1;
    for (number, member) in members.into_iter().enumerate() {
        let end = if number == last { PROGRAM_END } else { "," };
        let text = member + end;
        TooLong::check(&text)?;
        match strings.last_mut() {
            Some(string) if string.len() + text.len() <= STRING_BYTES_MAX => string.push_str(&text),
            _ => strings.push(text),
        }
    }
    Ok(Some(wire(set.rtype.on_the_wire(), &strings)))
}

fn wire(answers: Rtype, strings: &[String]) -> Vec<u8> {
    let mut wire = answers.to_int().to_be_bytes().to_vec();
    wire.extend(txt_rdata(strings));
    wire
}

/// The records of `all` that answer for this type, and those that don't.
pub(super) fn of_type(all: &Records, key: &RecordKey) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    all.rdata.iter().cloned().partition(|wire| answers_for(wire, key.rtype.on_the_wire()))
}

/// Does this record answer for that type?
pub(super) fn answers_for(wire: &[u8], rtype: Rtype) -> bool {
    wire.starts_with(&rtype.to_int().to_be_bytes())
}

/// What a record says, for people: weights and values where it is of drover's kind, or else its program.
pub(super) fn shown(wire: &[u8]) -> Vec<(u16, String)> {
    let strings = wire.get(TYPE_BYTES..).and_then(txt_strings);
    let Some(strings) = strings else { return vec![(1, "(unreadable)".to_owned())] };
    let program = strings.concat();
    members(&program).unwrap_or_else(|| vec![(1, format!("(a program: {program})"))])
}

fn members(program: &str) -> Option<Vec<(u16, String)>> {
    let inner = program.strip_prefix(PROGRAM_HEAD)?.strip_suffix(PROGRAM_END)?;
    let member = |text: &str| {
        let text = text.trim().strip_prefix('{')?;
        let (weight, value) = text.strip_suffix('}').unwrap_or(text).split_once(",'")?;
        Some((weight.trim().parse().ok()?, value.strip_suffix('\'')?.to_owned()))
    };
    inner.split("},").map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Answering, Member, RecordType};
    use drover_model::Epoch;
    use proptest::prelude::*;

    fn set(rtype: RecordType, values: &[(u16, &str)]) -> RecordSet {
        let member = |(weight, value): &(u16, &str)| Member {
            set_id: format!("at-{value}"),
            value: (*value).into(),
            weight: *weight,
        };
        RecordSet {
            name: "checkout.example.net".into(),
            rtype,
            ttl_seconds: 30,
            members: values.iter().map(member).collect(),
            generation: 1,
            epoch: Epoch { incarnation: 1, counter: 1 },
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::USUAL,
        }
    }

    fn strings(set: &RecordSet) -> Vec<String> {
        txt_strings(&rdata(set).unwrap().unwrap()[TYPE_BYTES..]).unwrap()
    }

    #[test]
    fn a_set_is_one_program_and_what_has_no_weight_is_not_in_it() {
        let set = set(RecordType::A, &[(50, "192.0.2.1"), (0, "192.0.2.9"), (30, "192.0.2.2")]);
        assert_eq!(strings(&set), ["pickwrandom({{50,'192.0.2.1'},{30,'192.0.2.2'}})"]);
        let wire = rdata(&set).unwrap().unwrap();
        assert!(answers_for(&wire, Rtype::A) && !answers_for(&wire, Rtype::AAAA));
        assert_eq!(shown(&wire), [(50, "192.0.2.1".into()), (30, "192.0.2.2".into())]);
        let none = RecordSet { members: vec![], ..set };
        assert_eq!(rdata(&none).unwrap(), None);
    }

    #[test]
    fn a_long_program_is_split_between_members_and_a_member_that_fits_no_string_is_named() {
        let label = "x".repeat(60);
        let name = [label.as_str(); 3].join(".");
        let two = strings(&set(RecordType::Cname, &[(1, &name), (2, &name)]));
        assert_eq!(two, [format!("pickwrandom({{{{1,'{name}'}},"), format!("{{2,'{name}'}}}})")]);
        let long = [label.as_str(); 4].join(".") + ".abcdef";
        assert!(rdata(&set(RecordType::Cname, &[(255, &long)])).is_err());
    }

    #[test]
    fn a_program_of_somebody_else_is_shown_as_it_is() {
        let theirs = wire(Rtype::A, &["pickclosest({'192.0.2.1',".into(), "'192.0.2.2'})".into()]);
        assert_eq!(shown(&theirs), [(1, "(a program: pickclosest({'192.0.2.1','192.0.2.2'}))".into())]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(weights in prop::collection::vec(1u16..256, 1..100)) {
            let values: Vec<String> = (0..weights.len()).map(|n| format!("2001:db8::{n:x}")).collect();
            let given: Vec<_> = weights.iter().copied().zip(values.iter().map(String::as_str)).collect();
            let wire = rdata(&set(RecordType::Aaaa, &given)).unwrap().unwrap();
            let read = shown(&wire);
            prop_assert_eq!(read.iter().map(|(w, v)| (*w, v.as_str())).collect::<Vec<_>>(), given);
        }

        #[test]
        fn no_bytes_make_a_panic(wire in prop::collection::vec(any::<u8>(), 0..300), text: String) {
            shown(&wire);
            members(&text);
        }
    }
}
