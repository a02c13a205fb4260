//! A small stub resolver: asks one server one question, over UDP, and over TCP when the answer did not fit.
//!
//! Meant for those who must know what one server answers now: verification, status, and clients that keep
//! their own cache. A [`Resolver`] keeps its socket, so that thousands of questions a second cost a send and
//! a receive each. It never follows names to other servers and keeps nothing.

pub(crate) mod framing;
mod message;

pub(crate) use message::question;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::zone::{DnsName, RecordType};

/// The time allowed is divided into this many rounds, the question being sent at the start of each: a lost
/// datagram costs a third.
const ROUNDS: u32 = 3;

/// The longest time that a question may take; more is cut to it.
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// More than we ever ask for over UDP.
const UDP_BUFFER_BYTES: usize = 4096;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueryType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name behind a name.
    Cname,
    /// Who may issue certificates.
    Caa,
    /// Who takes mail.
    Mx,
    /// Texts.
    Txt,
    /// The start of authority.
    Soa,
    /// Name servers.
    Ns,
}

impl From<RecordType> for QueryType {
    fn from(rtype: RecordType) -> Self {
        match rtype {
            RecordType::A => Self::A,
            RecordType::Aaaa => Self::Aaaa,
            RecordType::Cname => Self::Cname,
            RecordType::Caa => Self::Caa,
            RecordType::Mx => Self::Mx,
            // Of a geography nothing is answered, whatever is asked for.
            RecordType::Txt | RecordType::Geography => Self::Txt,
        }
    }
}

/// A server's result code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcode(pub u16);

impl Rcode {
    /// The question was answered, perhaps with no record.
    pub const NOERROR: Self = Self(0);
    /// The server could not answer.
    pub const SERVFAIL: Self = Self(2);
    /// There is no such name.
    pub const NXDOMAIN: Self = Self(3);
    /// The server does not answer for this name.
    pub const REFUSED: Self = Self(5);
    /// Not in charge of the zone, or the request is not authorised.
    pub const NOTAUTH: Self = Self(9);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NOERROR => f.write_str("NOERROR"),
            Self(1) => f.write_str("FORMERR"),
            Self::SERVFAIL => f.write_str("SERVFAIL"),
            Self::NXDOMAIN => f.write_str("NXDOMAIN"),
            Self(4) => f.write_str("NOTIMP"),
            Self::REFUSED => f.write_str("REFUSED"),
            Self::NOTAUTH => f.write_str("NOTAUTH"),
            Self(16) => f.write_str("BADVERS"),
            Self(other) => write!(f, "RCODE{other}"),
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The result code.
    pub rcode: Rcode,
    /// The values of the type asked for, as text: addresses, names without trailing dot, texts without
    /// quotes.
    pub values: Vec<String>,
    /// How long the answer may be kept, in seconds: the least of its records, or for an answer without
    /// records what the start of authority allows; 0 where nothing is said.
    pub ttl_seconds: u32,
    /// The server says that it is in charge of the name.
    pub is_authoritative: bool,
}

impl Answer {
    /// The values that are addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.values.iter().filter_map(|value| value.parse().ok()).collect()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nothing came in time.
    #[error("cannot ask {server} for {name}: no answer within {} ms", timeout.as_millis())]
    TimedOut {
        /// Who was asked.
        server: SocketAddr,
        /// For what.
        name: DnsName,
        /// How long was waited.
        timeout: Duration,
    },
    /// The network refused.
    #[error("cannot ask {server} for {name}")]
    Io {
        /// Who was asked.
        server: SocketAddr,
        /// For what.
        name: DnsName,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server sent something that is no answer to the question.
    #[error("cannot read the answer of {server} for {name}")]
    Garbled {
        /// Who was asked.
        server: SocketAddr,
        /// For what.
        name: DnsName,
    },
}

/// Asks one server, over and over, through one socket.
#[derive(Debug)]
pub struct Resolver {
    server: SocketAddr,
    socket: UdpSocket,
    buffer: Vec<u8>,
    random: fastrand::Rng,
}

/// Asks one question with a socket of its own.
///
/// # Errors
/// See [`ResolveError`]. A result code other than NOERROR is an answer, not an error.
pub async fn resolve(
    server: SocketAddr,
    name: &DnsName,
    qtype: QueryType,
    timeout: Duration,
) -> Result<Answer, ResolveError> {
    let connected = Resolver::connect(server).await;
    let mut resolver = connected.map_err(|source| ResolveError::Io { server, name: name.clone(), source })?;
    resolver.resolve(name, qtype, timeout).await
}

/// Asks one question over TCP.
///
/// # Errors
/// See [`ResolveError`]. A result code other than NOERROR is an answer, not an error.
pub async fn resolve_over_tcp(
    server: SocketAddr,
    name: &DnsName,
    qtype: QueryType,
    timeout: Duration,
) -> Result<Answer, ResolveError> {
    let id =
        getrandom::u32().map_err(|e| ResolveError::Io { server, name: name.clone(), source: e.into() })?;
    let query = message::query(id as u16, name, qtype);
    exchange_tcp(server, name, &query, Instant::now() + timeout, timeout).await
}

async fn exchange_tcp(
    server: SocketAddr,
    name: &DnsName,
    query: &[u8],
    deadline: Instant,
    timeout: Duration,
) -> Result<Answer, ResolveError> {
    let name = name.clone();
    let bytes = match timeout_at(deadline, ask_tcp(server, query)).await {
        Err(_) => return Err(ResolveError::TimedOut { server, name, timeout }),
        Ok(Err(source)) => return Err(ResolveError::Io { server, name, source }),
        Ok(Ok(bytes)) => bytes,
    };
    let reply = message::read(&bytes, query);
    reply.map(|reply| reply.answer).ok_or(ResolveError::Garbled { server, name })
}

impl Resolver {
    /// A resolver for one server.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn connect(server: SocketAddr) -> io::Result<Self> {
        let local: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((local, 0)).await?;
        socket.connect(server).await?;
        let random = fastrand::Rng::with_seed(getrandom::u64().map_err(io::Error::from)?);
        Ok(Self { server, socket, buffer: vec![0; UDP_BUFFER_BYTES], random })
    }

    /// Who is asked.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        self.server
    }

    /// Asks for one name; at most `timeout` passes, all tries together.
    ///
    /// # Errors
    /// See [`ResolveError`]. A result code other than NOERROR is an answer, not an error.
    pub async fn resolve(
        &mut self,
        name: &DnsName,
        qtype: QueryType,
        timeout: Duration,
    ) -> Result<Answer, ResolveError> {
        let timeout = timeout.min(TIMEOUT_MAX);
        let start = Instant::now();
        let deadline = start + timeout;
        // One id for all rounds: a late answer to the first question is as good as one to the third.
        let query = message::query(self.random.u16(..), name, qtype);
        let mut refused = None;
        for round in 1..=ROUNDS {
            let round_end = start + timeout * round / ROUNDS;
            match self.exchange_udp(&query, round_end).await {
                Ok(Some(reply)) if reply.is_truncated => {
                    return exchange_tcp(self.server, name, &query, deadline, timeout).await;
                }
                Ok(Some(reply)) => return Ok(reply.answer),
                Ok(None) => {}
                Err(source) => {
                    // A closed port says so at once. It may be a server that is being restarted: wait for the
                    // next round.
                    refused = Some(source);
                    if round < ROUNDS {
                        tokio::time::sleep_until(round_end).await;
                    }
                }
            }
        }
        Err(match refused {
            Some(source) => ResolveError::Io { server: self.server, name: name.clone(), source },
            None => ResolveError::TimedOut { server: self.server, name: name.clone(), timeout },
        })
    }

    /// `None`: nothing until `end`. Answers to earlier questions and forgeries are passed over.
    async fn exchange_udp(&mut self, query: &[u8], end: Instant) -> io::Result<Option<message::Reply>> {
        self.socket.send(query).await?;
        loop {
            match timeout_at(end, self.socket.recv(&mut self.buffer)).await {
                Err(_) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(length)) => {
                    if let Some(reply) = message::read(&self.buffer[..length], query) {
                        return Ok(Some(reply));
                    }
                }
            }
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    framing::send(&mut stream, query).await?;
    framing::receive(&mut stream).await
}
