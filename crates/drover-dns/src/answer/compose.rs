//! Writes an answer: sections in order, cut to what the client can take, the OPT record last.

use domain::base::Serial;
use domain::base::iana::{OptRcode, Rcode};
use domain::base::message_builder::{
    AdditionalBuilder, MessageBuilder, PushError, RecordSectionBuilder, StaticCompressor,
};
use domain::base::opt::cookie::Cookie;

use super::query::{Edns, Malformed, Query};
use super::respond::{Outcome, Owner, Record};
use super::{
    ANSWER_BYTES_USUAL, AnswerKind, Context, Response, Transport, UDP_ANSWER_BYTES_MAX,
    UDP_ANSWER_BYTES_PLAIN,
};

/// Root owner, type, class, time to live, length.
const OPT_BYTES: usize = 1 + 2 + 2 + 4 + 2;
/// Code and length, client cookie, server cookie of RFC 9018.
const COOKIE_BYTES: usize = 4 + 8 + 16;

/// How old a server cookie may be, and how far ahead of the clock.
const COOKIE_SECONDS_MAX: u32 = 60 * 60;
const COOKIE_SECONDS_AHEAD_MAX: u32 = 5 * 60;

type Target = StaticCompressor<Vec<u8>>;

/// A bare error for a message that could not be read as a query.
pub(super) fn reject(malformed: &Malformed<'_>) -> Option<Response> {
    let mut builder =
        MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(ANSWER_BYTES_USUAL))).ok()?;
    let request = malformed.message.header();
    let header = builder.header_mut();
    header.set_id(request.id());
    header.set_qr(true);
    header.set_opcode(request.opcode());
    header.set_rd(request.rd());
    header.set_rcode(malformed.rcode);
    let mut builder = builder.question();
    if let Some(question) = &malformed.question {
        builder.push(question).ok()?;
    }
    let bytes = builder.finish().into_target();
    Some(Response {
        bytes,
        rcode: u16::from(malformed.rcode.to_int()),
        is_truncated: false,
        kind: AnswerKind::Refusal,
        name: vec![],
        is_client_known: false,
    })
}

pub(super) fn compose(
    buffer: Vec<u8>,
    query: &Query<'_>,
    outcome: &Outcome,
    context: &Context,
) -> Option<Response> {
    let edns = query.edns.as_ref();
    let cookie = edns.and_then(|edns| server_cookie(edns, context));
    let reserved = match (edns, &cookie) {
        (None, _) => 0,
        (Some(_), None) => OPT_BYTES,
        (Some(_), Some(_)) => OPT_BYTES + COOKIE_BYTES,
    };
    let limit = answer_bytes_max(edns, context.transport).saturating_sub(reserved);
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(buffer)).ok()?;
    // The codec refuses a message that reaches its limit, we one that exceeds it.
    builder.set_push_limit(limit + 1);
    let mut builder = builder.start_answer(query.message, outcome.rcode.rcode()).ok()?;
    builder.header_mut().set_aa(outcome.is_authoritative);
    let pushed = outcome.answer.iter().try_for_each(|record| push(&mut builder, record, query));
    let mut is_truncated = pushed.is_err();
    if is_truncated {
        // Cut at the record set's boundary: half a set would be taken for the whole.
        builder.rewind();
    }
    let mut builder = builder.authority();
    if !is_truncated {
        let pushed = outcome.authority.iter().try_for_each(|record| push(&mut builder, record, query));
        is_truncated = pushed.is_err();
    }
    let mut builder = builder.additional();
    builder.header_mut().set_tc(is_truncated);
    if !is_truncated {
        // Glue is a courtesy: what does not fit is left out, and that is no truncation (RFC 2181, 9).
        for record in &outcome.additional {
            if push(&mut builder, record, query).is_err() {
                break;
            }
        }
    }
    builder.clear_push_limit();
    if let Some(edns) = edns {
        push_opt(&mut builder, edns, outcome.rcode, cookie.as_ref()).ok()?;
    }
    let bytes = builder.finish().into_target();
    Some(Response {
        bytes,
        rcode: outcome.rcode.to_int(),
        is_truncated,
        kind: kind(outcome),
        name: vec![],
        is_client_known: edns.is_some_and(|edns| is_known(edns, context)),
    })
}

fn kind(outcome: &Outcome) -> AnswerKind {
    match outcome.rcode {
        OptRcode::NOERROR => AnswerKind::OfName,
        OptRcode::NXDOMAIN => AnswerKind::NoSuchName,
        _ => AnswerKind::Refusal,
    }
}

/// No records, and the bit that sends the client to TCP.
pub(super) fn come_over_tcp(query: &Query<'_>, context: &Context) -> Option<Vec<u8>> {
    let builder =
        MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(ANSWER_BYTES_USUAL))).ok()?;
    let mut builder = builder.start_answer(query.message, Rcode::NOERROR).ok()?;
    builder.header_mut().set_aa(true);
    builder.header_mut().set_tc(true);
    let mut builder = builder.additional();
    if let Some(edns) = &query.edns {
        push_opt(&mut builder, edns, OptRcode::NOERROR, server_cookie(edns, context).as_ref()).ok()?;
    }
    Some(builder.finish().into_target())
}

/// min(what the client takes, what we send), never below what every client takes.
fn answer_bytes_max(edns: Option<&Edns>, transport: Transport) -> usize {
    match (transport, edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(UDP_ANSWER_BYTES_PLAIN),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.payload_bytes_max.clamp(UDP_ANSWER_BYTES_PLAIN, UDP_ANSWER_BYTES_MAX))
        }
    }
}

/// The question's own name is repeated as it was asked; the compressor turns it into a pointer.
fn push(
    section: &mut impl RecordSectionBuilder<Target>,
    record: &Record,
    query: &Query<'_>,
) -> Result<(), PushError> {
    match &record.owner {
        Owner::Question => section.push((query.question.qname(), record.ttl, &record.data)),
        Owner::Name(name) => section.push((name, record.ttl, &record.data)),
    }
}

fn push_opt(
    builder: &mut AdditionalBuilder<Target>,
    edns: &Edns,
    rcode: OptRcode,
    cookie: Option<&Cookie>,
) -> Result<(), PushError> {
    builder.opt(|opt| {
        opt.set_udp_payload_size(UDP_ANSWER_BYTES_MAX);
        opt.set_version(0);
        opt.set_dnssec_ok(edns.is_dnssec_ok);
        opt.set_rcode(rcode);
        cookie.map_or(Ok(()), |cookie| opt.push(cookie))
    })
}

/// Did we give it this cookie, within the time that RFC 9018 (4.3) lets one live?
fn is_known(edns: &Edns, context: &Context) -> bool {
    let (Some(cookie), Some(server)) = (edns.cookie.as_ref(), context.cookie) else { return false };
    cookie.check_server_hash(context.client, &server.secret, |stamp| {
        let age = server.now_unix_seconds.wrapping_sub(stamp.into_int());
        age <= COOKIE_SECONDS_MAX || age.wrapping_neg() <= COOKIE_SECONDS_AHEAD_MAX
    })
}

fn server_cookie(edns: &Edns, context: &Context) -> Option<Cookie> {
    let (cookie, server) = (edns.cookie.as_ref()?, context.cookie?);
    let now = Serial(server.now_unix_seconds);
    Some(cookie.create_response(now, context.client, &server.secret))
}
