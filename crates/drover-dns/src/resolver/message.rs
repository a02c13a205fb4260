//! Questions and answers of the stub resolver, on the wire.

use domain::base::iana::{Class, Rtype};
use domain::base::message::Message;
use domain::base::name::ToName;
use domain::base::record::ParsedRecord;
use domain::rdata::{A, Aaaa, Caa, Cname, Mx, Ns, Soa, Txt};
use drover_model::config::FixedValue;

use super::{Answer, QueryType, Rcode};
use crate::answer::UDP_ANSWER_BYTES_MAX;
use crate::zone::DnsName;

/// An answer to our question, as it came.
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) is_truncated: bool,
}

/// A question with an OPT record that allows answers over the plain 512 bytes. Written out: it is always the
/// same few bytes.
pub(super) fn query(id: u16, name: &DnsName, qtype: QueryType) -> Vec<u8> {
    question(id, name, wire_type(qtype))
}

/// As [`query`], for any type.
pub(crate) fn question(id: u16, name: &DnsName, rtype: Rtype) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + name.wire().as_slice().len() + 4 + 11);
    bytes.extend_from_slice(&id.to_be_bytes());
    // Query, no recursion wanted; one question, one additional record.
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(name.wire().as_slice());
    bytes.extend_from_slice(&rtype.to_int().to_be_bytes());
    bytes.extend_from_slice(&Class::IN.to_int().to_be_bytes());
    // The root, OPT, our size, no flags, no options.
    bytes.push(0);
    bytes.extend_from_slice(&Rtype::OPT.to_int().to_be_bytes());
    bytes.extend_from_slice(&UDP_ANSWER_BYTES_MAX.to_be_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes
}

/// `None`: it is no answer to this query.
pub(super) fn read(bytes: &[u8], query: &[u8]) -> Option<Reply> {
    let (message, query) = (Message::from_slice(bytes).ok()?, Message::from_slice(query).ok()?);
    let header = message.header();
    if !header.qr() || header.id() != query.header().id() {
        return None;
    }
    let asked = query.sole_question().ok()?;
    let echoed = message.sole_question().ok()?;
    if !echoed.qname().name_eq(asked.qname()) || echoed.qtype() != asked.qtype() {
        return None;
    }
    let rcode = Rcode(message.opt_rcode().to_int());
    let mut answer = Answer { rcode, values: vec![], ttl_seconds: 0, is_authoritative: header.aa() };
    if !header.tc() {
        read_records(message, asked.qtype(), &mut answer)?;
    }
    Some(Reply { answer, is_truncated: header.tc() })
}

fn read_records(message: &Message<[u8]>, qtype: Rtype, answer: &mut Answer) -> Option<()> {
    let (_, records, authority, _) = message.sections().ok()?;
    let mut ttl = None;
    for record in records {
        let record = record.ok()?;
        // CNAMEs on the way bound the time as well.
        ttl = Some(ttl.unwrap_or(u32::MAX).min(record.ttl().as_secs()));
        if record.rtype() == qtype {
            answer.values.push(value(&record)?);
        }
    }
    if answer.values.is_empty() {
        // "No" may be kept for the lesser of the start of authority's time and its minimum (RFC 2308).
        for record in authority {
            let record = record.ok()?;
            if let Some(soa) = record.to_record::<Soa<_>>().ok()? {
                let negative = soa.ttl().as_secs().min(soa.data().minimum().as_secs());
                ttl = Some(ttl.unwrap_or(u32::MAX).min(negative));
            }
        }
    }
    answer.ttl_seconds = ttl.unwrap_or(0);
    Some(())
}

fn value(record: &ParsedRecord<'_, [u8]>) -> Option<String> {
    match record.rtype() {
        Rtype::A => Some(record.to_record::<A>().ok()??.data().addr().to_string()),
        Rtype::AAAA => Some(record.to_record::<Aaaa>().ok()??.data().addr().to_string()),
        Rtype::CNAME => Some(name(record.to_record::<Cname<_>>().ok()??.data().cname())),
        Rtype::NS => Some(name(record.to_record::<Ns<_>>().ok()??.data().nsdname())),
        Rtype::TXT => {
            let record = record.to_record::<Txt<_>>().ok()??;
            let text: Vec<u8> = record.data().text();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Rtype::CAA => {
            let record = record.to_record::<Caa<_>>().ok()??;
            let (tag, given) = (record.data().tag().to_string(), record.data().value());
            let value = String::from_utf8_lossy(given);
            let flags = record.data().flags().bits();
            Some(FixedValue::Caa { flags, tag: &tag, value: &value }.to_string())
        }
        Rtype::MX => {
            let record = record.to_record::<Mx<_>>().ok()??;
            let (preference, host) = (record.data().preference(), name(record.data().exchange()));
            Some(FixedValue::Mx { preference, host: &host }.to_string())
        }
        Rtype::SOA => Some(record.to_record::<Soa<_>>().ok()??.data().serial().to_string()),
        _ => None,
    }
}

fn name(name: &impl ToName) -> String {
    name.to_vec().to_string().to_ascii_lowercase()
}

const fn wire_type(qtype: QueryType) -> Rtype {
    match qtype {
        QueryType::A => Rtype::A,
        QueryType::Aaaa => Rtype::AAAA,
        QueryType::Cname => Rtype::CNAME,
        QueryType::Caa => Rtype::CAA,
        QueryType::Mx => Rtype::MX,
        QueryType::Txt => Rtype::TXT,
        QueryType::Soa => Rtype::SOA,
        QueryType::Ns => Rtype::NS,
    }
}
