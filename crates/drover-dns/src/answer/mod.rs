//! From the bytes of a query to the bytes of its answer, purely: no clock, no socket, no randomness of its
//! own.
//!
//! Both transports call [`answer`]. All that varies comes in through [`Context`]: the transport's size limit,
//! the client's address and the cookie secret, and one random number that decides which weighted member is
//! answered.
//!
//! Most answers are one address of the name that was asked for, and what they cost is what the server costs. So such a one touches
//! no heap beyond the buffer that it is written in, and its owner is the pointer that every compressor would find.

mod compose;
mod query;
mod respond;

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::zone::{Snapshot, WireName};

/// The size of answers over UDP that is offered, and the most that is sent: fits the smallest common path
/// without fragments (DNS flag day 2020).
pub const UDP_ANSWER_BYTES_MAX: u16 = 1232;

/// The most over UDP for a client that does not say more, RFC 1035.
pub const UDP_ANSWER_BYTES_PLAIN: u16 = 512;

/// Room for nearly every answer.
pub const ANSWER_BYTES_USUAL: usize = 512;

/// Messages that are answered one after the other, usually at most.
const AT_ONCE_USUAL: usize = 64;

/// How many CNAMEs inside the zone are followed for one answer.
pub const CNAME_HOPS_MAX: usize = 8;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A stream; answers up to 64 KiB.
    Tcp,
}

/// What the transport knows about a query.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// How it came.
    pub transport: Transport,
    /// From where.
    pub client: IpAddr,
    /// A uniform random number: decides the weighted member.
    pub draw: u64,
    /// What makes DNS cookies (RFC 9018); none are answered without.
    pub cookie: Option<CookieContext>,
}

/// What makes a server cookie.
#[derive(Debug, Clone, Copy)]
pub struct CookieContext {
    /// The server's secret.
    pub secret: [u8; 16],
    /// The time stamped into the cookie, in seconds since 1970.
    pub now_unix_seconds: u32,
}

/// An answer, and what the counters want to know about it.
#[derive(Debug, Clone)]
pub struct Response {
    /// The message, without the length that TCP puts before it.
    pub bytes: Vec<u8>,
    /// The full result code, with the part that EDNS carries.
    pub rcode: u16,
    /// The answer did not fit and says so.
    pub is_truncated: bool,
    /// What it says, in short.
    pub kind: AnswerKind,
    /// The name that was asked for, folded; empty where the message could not be read.
    pub name: WireName,
    /// The client showed a cookie of ours: it is where it says it is.
    pub is_client_known: bool,
}

/// Answers that are alike to whoever wants to multiply them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// About one name that is there, records or none of that type.
    OfName,
    /// There is no such name: they can be made up without end.
    NoSuchName,
    /// Any error.
    Refusal,
}

/// To be called before many messages are answered one after the other: what their answers look at is fetched for all of them at once.
pub fn bring_near<'m>(snapshot: &Snapshot, messages: impl Iterator<Item = &'m [u8]>) {
    if snapshot.is_far() {
        let names: SmallVec<[WireName; AT_ONCE_USUAL]> =
            messages.filter_map(query::seems_to_ask_for).collect();
        snapshot.bring_near(&names);
    }
}

/// Answers a query; `None` if the message deserves no answer (too short, or an answer itself).
#[must_use]
pub fn answer(snapshot: &Snapshot, message: &[u8], context: &Context) -> Option<Response> {
    answer_in(Vec::with_capacity(ANSWER_BYTES_USUAL), snapshot, message, context)
}

/// As [`answer`], written into a buffer of the caller's, who has many to answer.
#[must_use]
pub fn answer_in(
    mut buffer: Vec<u8>,
    snapshot: &Snapshot,
    message: &[u8],
    context: &Context,
) -> Option<Response> {
    buffer.clear();
    match query::parse(message)? {
        query::Parsed::Malformed(reject) => compose::reject(&reject),
        query::Parsed::Query(query) => {
            let outcome = respond::respond(snapshot, &query, context.draw);
            compose::compose(buffer, query, &outcome, context)
        }
    }
}

/// The answer that says nothing but "come over TCP"; `None` where the message is no question.
#[must_use]
pub fn come_over_tcp(message: &[u8], context: &Context) -> Option<Vec<u8>> {
    match query::parse(message)? {
        query::Parsed::Malformed(_) => None,
        query::Parsed::Query(query) => compose::come_over_tcp(&query, context),
    }
}
