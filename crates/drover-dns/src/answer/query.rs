//! Reads a query and sorts out what can't be answered by looking at the zone.

use domain::base::iana::{Opcode, Rcode, Rtype};
use domain::base::message::{Message, RecordSection};
use domain::base::name::{ParsedName, ToName};
use domain::base::opt::cookie::Cookie;
use domain::base::opt::{Opt, OptRecord};
use domain::base::question::Question;
use domain::base::record::ParsedRecord;

/// A question that the zone can be asked.
pub(super) struct Query<'a> {
    pub(super) message: &'a Message<[u8]>,
    pub(super) question: Question<ParsedName<&'a [u8]>>,
    /// The name on the wire, folded to lower case: the key of the zone's index.
    pub(super) folded: Vec<u8>,
    pub(super) edns: Option<Edns>,
}

/// What the client said in its OPT record.
pub(super) struct Edns {
    pub(super) payload_bytes_max: u16,
    pub(super) version: u8,
    pub(super) is_dnssec_ok: bool,
    pub(super) cookie: Option<Cookie>,
}

/// A message that gets a bare error.
pub(super) struct Malformed<'a> {
    pub(super) message: &'a Message<[u8]>,
    pub(super) rcode: Rcode,
    /// The question, where there is one to repeat.
    pub(super) question: Option<Question<ParsedName<&'a [u8]>>>,
}

pub(super) enum Parsed<'a> {
    Malformed(Malformed<'a>),
    Query(Query<'a>),
}

/// `None`: no answer at all. An answer to an answer could go on for ever between two servers.
pub(super) fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let message = Message::from_slice(bytes).ok()?;
    let header = message.header();
    if header.qr() {
        return None;
    }
    let malformed = |rcode, question| Some(Parsed::Malformed(Malformed { message, rcode, question }));
    if header.opcode() != Opcode::QUERY {
        return malformed(Rcode::NOTIMP, None);
    }
    let Some(question) = sole_question(message) else {
        return malformed(Rcode::FORMERR, None);
    };
    let Ok(edns) = edns(message) else {
        return malformed(Rcode::FORMERR, Some(question));
    };
    let folded = question.qname().to_canonical_name::<Vec<u8>>().into_octets();
    Some(Parsed::Query(Query { message, question, folded, edns }))
}

fn sole_question(message: &Message<[u8]>) -> Option<Question<ParsedName<&[u8]>>> {
    if message.header_counts().qdcount() != 1 {
        return None;
    }
    message.question().next()?.ok()
}

struct FormError;

/// The one OPT record, if there is one. Two, or one that is out of place or broken, make the message
/// malformed (RFC 6891); so does any record that can't be read.
fn edns(message: &Message<[u8]>) -> Result<Option<Edns>, FormError> {
    let (_, answer, authority, additional) = message.sections().map_err(|_| FormError)?;
    for section in [answer, authority] {
        each_record(section, |record| if record.rtype() == Rtype::OPT { Err(FormError) } else { Ok(()) })?;
    }
    let mut found = None;
    each_record(additional, |record| {
        if record.rtype() != Rtype::OPT {
            return Ok(());
        }
        let parsed = parse_opt(&record)?;
        if found.replace(parsed).is_some() { Err(FormError) } else { Ok(()) }
    })?;
    Ok(found)
}

fn each_record<'a>(
    section: RecordSection<'a, [u8]>,
    mut visit: impl FnMut(ParsedRecord<'a, [u8]>) -> Result<(), FormError>,
) -> Result<(), FormError> {
    for record in section {
        visit(record.map_err(|_| FormError)?)?;
    }
    Ok(())
}

fn parse_opt(record: &ParsedRecord<'_, [u8]>) -> Result<Edns, FormError> {
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
    Ok(Edns {
        payload_bytes_max: opt.udp_payload_size(),
        version: opt.version(),
        is_dnssec_ok: opt.dnssec_ok(),
        cookie,
    })
}
