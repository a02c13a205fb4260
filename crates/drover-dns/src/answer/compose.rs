//! Writes an answer: sections in order, cut to what the client can take, the OPT record last.

use domain::base::Serial;
use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::message_builder::{
    AdditionalBuilder, AnswerBuilder, MessageBuilder, PushError, StaticCompressor,
};
use domain::base::opt::cookie::Cookie;
use domain::base::rdata::{ComposeRecordData, RecordData};
use domain::base::record::ComposeRecord;
use domain::base::wire::Composer;

use super::query::{Edns, Malformed, Query};
use super::respond::{Outcome, Owner, Record};
use super::subnet::Subnet;
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

/// A pointer (RFC 1035, 4.1.4) to the first byte after a message's header.
const QUESTION_NAME: [u8; 2] = [0xc0, 12];

/// A bare error for a message that could not be read as a query.
pub(super) fn reject(malformed: &Malformed<'_>) -> Option<Response> {
    let mut builder = MessageBuilder::from_target(Vec::with_capacity(ANSWER_BYTES_USUAL)).ok()?;
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
    Some(Response {
        bytes: builder.finish(),
        rcode: u16::from(malformed.rcode.to_int()),
        is_truncated: false,
        kind: AnswerKind::Refusal,
        is_client_known: false,
    })
}

pub(super) fn compose(
    buffer: Vec<u8>,
    query: &Query<'_>,
    outcome: &Outcome,
    context: &Context,
) -> Option<Response> {
    let cookie = query.edns.as_ref().and_then(|edns| server_cookie(edns, context));
    // What names nobody but the question's own has nothing that a compressor could find.
    let (bytes, is_truncated) = if outcome.names_others() {
        let target = StaticCompressor::new(buffer);
        let (target, is_truncated) = written(target, query, outcome, context, cookie.as_ref())?;
        (target.into_target(), is_truncated)
    } else {
        written(buffer, query, outcome, context, cookie.as_ref())?
    };
    Some(Response {
        bytes,
        rcode: outcome.rcode.to_int(),
        is_truncated,
        kind: kind(outcome),
        is_client_known: query.edns.as_ref().is_some_and(|edns| is_known(edns, context)),
    })
}

/// The message, and whether it is truncated.
fn written<Target: Composer>(
    target: Target,
    query: &Query<'_>,
    outcome: &Outcome,
    context: &Context,
    cookie: Option<&Cookie>,
) -> Option<(Target, bool)> {
    let edns = query.edns.as_ref();
    let of_subnet = |edns: &Edns| edns.subnet.as_ref().map_or(0, Subnet::option_bytes);
    let reserved = match (edns, cookie) {
        (None, _) => 0,
        (Some(edns), None) => OPT_BYTES + of_subnet(edns),
        (Some(edns), Some(_)) => OPT_BYTES + COOKIE_BYTES + of_subnet(edns),
    };
    let limit = answer_bytes_max(edns, context.transport).saturating_sub(reserved);
    let mut builder = started(target, query, outcome.rcode.rcode())?;
    // The codec refuses a message that reaches its limit, we one that exceeds it.
    builder.set_push_limit(limit + 1);
    builder.header_mut().set_aa(outcome.is_authoritative);
    let pushed = outcome.answer.iter().try_for_each(|record| builder.push(record));
    let mut is_truncated = pushed.is_err();
    if is_truncated {
        // Cut at the record set's boundary: half a set would be taken for the whole.
        builder.rewind();
    }
    let mut builder = builder.authority();
    if !is_truncated {
        let pushed = outcome.authority.iter().try_for_each(|record| builder.push(record));
        is_truncated = pushed.is_err();
    }
    let mut builder = builder.additional();
    builder.header_mut().set_tc(is_truncated);
    if !is_truncated {
        // Glue is a courtesy: what does not fit is left out, and that is no truncation (RFC 2181, 9).
        for record in &outcome.additional {
            if builder.push(record).is_err() {
                break;
            }
        }
    }
    builder.clear_push_limit();
    if let Some(edns) = edns {
        push_opt(&mut builder, edns, outcome.rcode, cookie, outcome.client_bits).ok()?;
    }
    Some((builder.finish(), is_truncated))
}

/// The head of an answer, with the question in the case in which it was asked.
fn started<Target: Composer>(
    target: Target,
    query: &Query<'_>,
    rcode: Rcode,
) -> Option<AnswerBuilder<Target>> {
    let mut builder = MessageBuilder::from_target(target).ok()?;
    let (asked, header) = (query.message.header(), builder.header_mut());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_rcode(rcode);
    let mut builder = builder.question();
    builder.push(query.question).ok()?;
    Some(builder.answer())
}

impl ComposeRecord for Record {
    fn compose_record<Target: Composer + ?Sized>(
        &self,
        target: &mut Target,
    ) -> Result<(), Target::AppendError> {
        match &self.owner {
            // A pointer to where the question's name stands in every message: behind the header.
            Owner::Question => target.append_slice(&QUESTION_NAME)?,
            Owner::Name(name) => target.append_compressed_name(name)?,
        }
        self.data.rtype().compose(target)?;
        Class::IN.compose(target)?;
        self.ttl.compose(target)?;
        self.data.compose_len_rdata(target)
    }
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
    let mut builder = started(Vec::with_capacity(ANSWER_BYTES_USUAL), query, Rcode::NOERROR)?;
    builder.header_mut().set_aa(true);
    builder.header_mut().set_tc(true);
    let mut builder = builder.additional();
    if let Some(edns) = &query.edns {
        let cookie = server_cookie(edns, context);
        push_opt(&mut builder, edns, OptRcode::NOERROR, cookie.as_ref(), 0).ok()?;
    }
    Some(builder.finish())
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

fn push_opt<Target: Composer>(
    builder: &mut AdditionalBuilder<Target>,
    edns: &Edns,
    rcode: OptRcode,
    cookie: Option<&Cookie>,
    client_bits: u8,
) -> Result<(), PushError> {
    builder.opt(|opt| {
        opt.set_udp_payload_size(UDP_ANSWER_BYTES_MAX);
        opt.set_version(0);
        opt.set_dnssec_ok(edns.is_dnssec_ok);
        opt.set_rcode(rcode);
        cookie.map_or(Ok(()), |cookie| opt.push(cookie))?;
        edns.subnet.map_or(Ok(()), |subnet| opt.push(&subnet.answered(client_bits)))
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
