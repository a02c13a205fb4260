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
mod subnet;

use std::net::IpAddr;

use query::Parsed;
use subnet::Subnet;

use crate::zone::{Chance, Lookup, Snapshot};

/// The size of answers over UDP that is offered, and the most that is sent: fits the smallest common path
/// without fragments (DNS flag day 2020).
pub const UDP_ANSWER_BYTES_MAX: u16 = 1232;

/// The most over UDP for a client that does not say more, RFC 1035.
pub const UDP_ANSWER_BYTES_PLAIN: u16 = 512;

/// Room for nearly every answer.
pub const ANSWER_BYTES_USUAL: usize = 512;

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
    /// Whom a resolver asks for is looked at, where it says so (RFC 7871).
    pub reads_client_subnet: bool,
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

/// A message that deserves an answer, read.
#[derive(Debug)]
pub struct Asked<'m, 's> {
    snapshot: &'s Snapshot,
    parsed: Parsed<'m>,
    /// What there is at the name that it asks for; none: not looked up yet.
    found: Option<Lookup<'s>>,
}

impl<'m, 's> Asked<'m, 's> {
    /// Reads a message, and of it also whom a resolver asks for where that is looked at; `None` if it deserves no answer (too short, or an answer itself).
    #[must_use]
    pub fn read(snapshot: &'s Snapshot, message: &'m [u8], reads_client_subnet: bool) -> Option<Self> {
        let parsed = query::parse(message, reads_client_subnet, |name| snapshot.hash(name))?;
        Some(Self { snapshot, parsed, found: None })
    }

    /// To be called between the reading of many messages and their answers. What answers look at lies far apart in a large zone, each place known only
    /// from the one before: in turn they would wait for each of their places, side by side they wait together.
    pub fn look_up_together(all: &mut [Option<Self>]) {
        for asked in all.iter().flatten() {
            if let Parsed::Query(query) = &asked.parsed {
                asked.snapshot.bring_near(query.hash);
            }
        }
        for asked in all.iter_mut().flatten() {
            if let Parsed::Query(query) = &asked.parsed {
                asked.found = Some(asked.snapshot.lookup_hashed(query.hash, &query.folded));
            }
        }
        for asked in all.iter().flatten() {
            if let Some(Lookup::Node(node)) = asked.found {
                node.bring_near();
            }
        }
    }

    /// The name that it asks for, folded; empty where the message could not be read.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match &self.parsed {
            Parsed::Malformed(_) => &[],
            Parsed::Query(query) => &query.folded,
        }
    }

    /// The answer, written into a buffer.
    #[must_use]
    pub fn answer(&self, mut buffer: Vec<u8>, context: &Context) -> Option<Response> {
        buffer.clear();
        match &self.parsed {
            Parsed::Malformed(malformed) => compose::reject(malformed),
            Parsed::Query(query) => {
                let look_up = || self.snapshot.lookup_hashed(query.hash, &query.folded);
                let found = self.found.unwrap_or_else(look_up);
                let subnet = query.edns.as_ref().and_then(|edns| edns.subnet.as_ref());
                let client = subnet.and_then(Subnet::client).unwrap_or(context.client);
                let chance = Chance { draw: context.draw, client };
                let outcome = respond::respond(self.snapshot, query, found, chance);
                compose::compose(buffer, query, &outcome, context)
            }
        }
    }

    /// The answer of who does not know the zone yet: a failure, so that another server is asked. Errors are told as ever.
    #[must_use]
    pub fn not_ready(&self, mut buffer: Vec<u8>, context: &Context) -> Option<Response> {
        buffer.clear();
        match &self.parsed {
            Parsed::Malformed(malformed) => compose::reject(malformed),
            Parsed::Query(query) => compose::compose(buffer, query, &respond::not_ready(), context),
        }
    }

    /// The answer that says nothing but "come over TCP"; `None` where the message is no question.
    #[must_use]
    pub fn come_over_tcp(&self, context: &Context) -> Option<Vec<u8>> {
        match &self.parsed {
            Parsed::Malformed(_) => None,
            Parsed::Query(query) => compose::come_over_tcp(query, context),
        }
    }
}

/// Answers a query; `None` if the message deserves no answer.
#[must_use]
pub fn answer(snapshot: &Snapshot, message: &[u8], context: &Context) -> Option<Response> {
    let asked = Asked::read(snapshot, message, context.reads_client_subnet)?;
    asked.answer(Vec::with_capacity(ANSWER_BYTES_USUAL), context)
}
