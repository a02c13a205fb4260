//! Reads a query and sorts out what can't be answered by looking at the zone.

use domain::base::iana::{Opcode, Rcode, Rtype};
use domain::base::message::{Message, QuestionSection};
use domain::base::name::{ParsedName, ToName};
use domain::base::opt::cookie::Cookie;
use domain::base::opt::subnet::ClientSubnet;
use domain::base::opt::{Opt, OptRecord};
use domain::base::question::Question;
use domain::base::record::ParsedRecord;

use super::subnet::Subnet;
use crate::zone::{NameHash, WireName};

/// A question that the zone can be asked.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) message: &'a Message<[u8]>,
    pub(super) question: Question<ParsedName<&'a [u8]>>,
    /// The name on the wire, folded to lower case: the key of the zone's index.
    pub(super) folded: WireName,
    pub(super) hash: NameHash,
    pub(super) edns: Option<Edns>,
}

/// What the client said in its OPT record.
#[derive(Debug)]
pub(super) struct Edns {
    pub(super) payload_bytes_max: u16,
    pub(super) version: u8,
    pub(super) is_dnssec_ok: bool,
    pub(super) cookie: Option<Cookie>,
    /// The client behind the resolver, where that is read.
    pub(super) subnet: Option<Subnet>,
}

/// A message that gets a bare error.
#[derive(Debug)]
pub(super) struct Malformed<'a> {
    pub(super) message: &'a Message<[u8]>,
    pub(super) rcode: Rcode,
    /// The question, where there is one to repeat.
    pub(super) question: Option<Question<ParsedName<&'a [u8]>>>,
}

#[derive(Debug)]
pub(super) enum Parsed<'a> {
    Malformed(Malformed<'a>),
    Query(Query<'a>),
}

/// `None`: no answer at all. An answer to an answer could go on for ever between two servers.
pub(super) fn parse(
    bytes: &[u8],
    reads_subnet: bool,
    hash: impl Fn(&[u8]) -> NameHash,
) -> Option<Parsed<'_>> {
    let message = Message::from_slice(bytes).ok()?;
    let header = message.header();
    if header.qr() {
        return None;
    }
    let malformed = |rcode, question| Some(Parsed::Malformed(Malformed { message, rcode, question }));
    if header.opcode() != Opcode::QUERY {
        return malformed(Rcode::NOTIMP, None);
    }
    let Some((question, rest)) = sole_question(message) else {
        return malformed(Rcode::FORMERR, None);
    };
    let Ok(edns) = edns(rest, reads_subnet) else {
        return malformed(Rcode::FORMERR, Some(question));
    };
    let folded = fold(question.qname());
    let hash = hash(&folded);
    Some(Parsed::Query(Query { message, question, folded, hash, edns }))
}

type SoleQuestion<'a> = (Question<ParsedName<&'a [u8]>>, QuestionSection<'a, [u8]>);

/// The question, and where the message goes on.
fn sole_question(message: &Message<[u8]>) -> Option<SoleQuestion<'_>> {
    if message.header_counts().qdcount() != 1 {
        return None;
    }
    let mut section = message.question();
    let question = section.next()?.ok()?;
    Some((question, section))
}

/// To lower case. In a name as it stands on the wire a length is no letter: the longest label has 63 bytes, and `A` is 65.
fn fold(name: &ParsedName<&[u8]>) -> WireName {
    match name.as_flat_slice() {
        Some(flat) => {
            let mut folded = WireName::from_slice(flat);
            folded.make_ascii_lowercase();
            folded
        }
        // In a question that points into its own header.
        None => WireName::from_vec(name.to_canonical_name::<Vec<u8>>().into_octets()),
    }
}

/// The message is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FormError;

/// Answer, authority, additional.
const RECORD_SECTIONS: u8 = 3;

/// The one OPT record, if there is one. Two, or one that is out of place or broken, make the message
/// malformed (RFC 6891); so does any record that can't be read.
fn edns(question: QuestionSection<'_, [u8]>, reads_subnet: bool) -> Result<Option<Edns>, FormError> {
    let mut section = question.next_section().map_err(|_| FormError)?;
    let mut is_additional = false;
    let mut found = None;
    // Three sections, each read to its end.
    for left in (0..RECORD_SECTIONS).rev() {
        for record in section.by_ref() {
            let record = record.map_err(|_| FormError)?;
            if record.rtype() != Rtype::OPT {
                continue;
            }
            if !is_additional || found.replace(parse_opt(&record, reads_subnet)?).is_some() {
                return Err(FormError);
            }
        }
        if left > 0 {
            section = section.next_section().map_err(|_| FormError)?.ok_or(FormError)?;
        }
        is_additional = left == 1;
    }
    Ok(found)
}

fn parse_opt(record: &ParsedRecord<'_, [u8]>, reads_subnet: bool) -> Result<Edns, FormError> {
    if !record.owner().is_root() {
        return Err(FormError);
    }
    let record = record.to_record::<Opt<_>>().ok().flatten().ok_or(FormError)?;
    let opt = OptRecord::from_record(record);
    let mut cookie = None;
    for option in opt.opt().iter::<Cookie>() {
        // A cookie of impossible length makes the message malformed (RFC 7873, 5.2.2).
        cookie = cookie.or(Some(option.map_err(|_| FormError)?));
    }
    let subnet = if reads_subnet {
        Subnet::of(opt.opt().iter::<ClientSubnet>().map(|option| option.map_err(|_| FormError)))?
    } else {
        None
    };
    Ok(Edns {
        payload_bytes_max: opt.udp_payload_size(),
        version: opt.version(),
        is_dnssec_ok: opt.dnssec_ok(),
        cookie,
        subnet,
    })
}
