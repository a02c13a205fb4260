//! Values of records that no traffic moves: from text to the wire, and to a zone file.

use bytes::Bytes;
use domain::base::name::Name;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::rdata::caa::{CaaFlags, CaaTag};
use domain::rdata::{Caa, Mx, Txt, ZoneRecordData};
use drover_model::config::{FixedType, FixedValue};

use super::{DnsName, RecordType};

/// A record's data, as answers have it.
pub(crate) type Data = ZoneRecordData<Bytes, Name<Bytes>>;

/// The data of a value, and its one spelling; none: it is no value of this type.
pub(super) fn data(rtype: FixedType, text: &str) -> Option<(Data, String)> {
    let value = FixedValue::read(rtype, text).ok()?;
    let (data, spelled) = match value {
        // In strings of 255 bytes at most (RFC 1035, 3.3.14); whoever reads them puts them together.
        FixedValue::Txt(text) => {
            (Txt::<Bytes>::build_from_slice(text.as_bytes()).ok()?.into(), value.to_string())
        }
        FixedValue::Mx { preference, host: "." } => {
            (Mx::new(preference, Name::root_bytes()).into(), value.to_string())
        }
        FixedValue::Mx { preference, host } => {
            let host = DnsName::parse(host).ok()?;
            (Mx::new(preference, host.wire().clone()).into(), value.spelled())
        }
        FixedValue::Caa { flags, tag, value: given } => {
            let tag = CaaTag::from_octets(Bytes::copy_from_slice(tag.as_bytes())).ok()?;
            let given = Bytes::copy_from_slice(given.as_bytes());
            (Caa::try_new(CaaFlags::new(flags), tag, given).ok()?.into(), value.to_string())
        }
    };
    Some((data, spelled))
}

/// A value as it stands in a zone file (RFC 1035, 5): texts in quotes, names with their last dot. None: it is no value of this type.
#[must_use]
pub fn in_zone_file(rtype: RecordType, value: &str) -> Option<String> {
    match rtype.fixed() {
        None if rtype == RecordType::Geography => None,
        None if rtype == RecordType::Cname => Some(format!("{value}.")),
        None => Some(value.to_owned()),
        Some(fixed) => Some(data(fixed, value)?.0.display_zonefile(DisplayKind::Simple).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_form_in_a_zone_file() {
        let long = "k".repeat(300);
        let two = format!("\"{}\" \"{}\"", "k".repeat(255), "k".repeat(45));
        for (rtype, value, expected) in [
            (RecordType::Txt, "v=spf1 -all", "\"v=spf1 -all\""),
            (RecordType::Txt, "a \"b\" \\", "\"a \\\"b\\\" \\\\\""),
            (RecordType::Txt, long.as_str(), two.as_str()),
            (RecordType::Caa, "0 issue ca.example", "0 issue \"ca.example\""),
            (RecordType::Mx, "10 Mail.Example.COM", "10 mail.example.com."),
            (RecordType::Mx, "0 .", "0 ."),
            (RecordType::Cname, "a.example.com", "a.example.com."),
            (RecordType::A, "192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(in_zone_file(rtype, value).as_deref(), Some(expected));
        }
        assert_eq!(in_zone_file(RecordType::Mx, "mail"), None);
    }
}
