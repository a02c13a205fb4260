//! Talks to a zone's primary server over TCP: reads record sets as they are, and sends signed updates.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rtype;
use domain::base::message::Message;
use domain::base::name::ToName;
use domain::base::rdata::UnknownRecordData;
use domain::tsig::Key;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{self, BadReply, Records, Step};
use crate::resolver::Rcode;
use crate::resolver::framing::{receive, send};
use crate::zone::DnsName;

/// Questions on their way at once over one connection: some servers close one on which too many wait.
const QUESTIONS_AT_ONCE: usize = 16;
/// So many times as long as one exchange may a whole reading take, of thousands of names.
pub(super) const READ_TIMEOUTS: u32 = 6;

/// Why the primary server gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// Nothing was sent: the outcome is known, nothing changed.
    #[error("cannot reach {server}: {source}")]
    NotReached {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// Nothing in time, or the connection broke.
    #[error("no answer of {server} within {} ms", after.as_millis())]
    Silent { server: SocketAddr, after: Duration },
    /// It does not answer for the name.
    #[error("{server} answers {source}")]
    NotAnswered {
        server: SocketAddr,
        #[source]
        source: NotAnswered,
    },
    /// It does not give the zone.
    #[error("{server} answers {rcode} to a transfer of the zone")]
    NotTransferred { server: SocketAddr, rcode: Rcode },
    /// The zone is larger than any that drover reads.
    #[error("the zone of {server} has more than {bytes_max} bytes")]
    ZoneTooLarge { server: SocketAddr, bytes_max: usize },
    /// What came can't be read.
    #[error("cannot read the answer of {server}")]
    Garbled { server: SocketAddr },
    /// The reply to an update does not count.
    #[error("the reply of {server} counts for nothing")]
    BadReply {
        server: SocketAddr,
        #[source]
        source: BadReply,
    },
}

/// One server, asked over TCP: answers of any length arrive whole, and nobody can forge one from aside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote {
    pub(super) server: SocketAddr,
    pub(super) timeout: Duration,
}

impl Remote {
    /// What is live for each of these, in their order, where the server answers for it. A name that is not there has no
    /// records.
    pub(super) async fn read(
        &self,
        wanted: &[(DnsName, Rtype)],
    ) -> Result<Vec<Result<Records, NotAnswered>>, ExchangeError> {
        let whole = self.timeout * READ_TIMEOUTS;
        let silent = ExchangeError::Silent { server: self.server, after: whole };
        timeout(whole, self.read_all(wanted)).await.unwrap_or(Err(silent))
    }

    /// As [`Remote::read`], of one.
    pub(super) async fn read_one(&self, wanted: (DnsName, Rtype)) -> Result<Records, ExchangeError> {
        let server = self.server;
        let found = self.read(&[wanted]).await?.pop().ok_or(ExchangeError::Garbled { server })?;
        found.map_err(|source| ExchangeError::NotAnswered { server, source })
    }

    async fn read_all(
        &self,
        wanted: &[(DnsName, Rtype)],
    ) -> Result<Vec<Result<Records, NotAnswered>>, ExchangeError> {
        let server = self.server;
        let mut stream = self.connect().await?;
        let mut found = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(QUESTIONS_AT_ONCE) {
            let answers = timeout(self.timeout, ask(&mut stream, some)).await;
            let answers = match answers {
                Ok(Ok(answers)) => answers,
                Ok(Err(source)) => return Err(ExchangeError::NotReached { server, source }),
                Err(_) => return Err(ExchangeError::Silent { server, after: self.timeout }),
            };
            for ((name, rtype), bytes) in some.iter().zip(answers) {
                found.push(self.records(name, *rtype, &bytes)?);
            }
        }
        Ok(found)
    }

    /// Sends an update; all its steps happen, or none. Gives the result code of the signed reply.
    pub(super) async fn update(
        &self,
        zone: &DnsName,
        steps: &[Step],
        key: &Arc<Key>,
        id: u16,
    ) -> Result<Rcode, UpdateError> {
        let (bytes, transaction) = message::update(id, zone, steps, key)?;
        let server = self.server;
        let mut stream = self.connect().await?;
        let exchanged = timeout(self.timeout, async {
            send(&mut stream, &bytes).await?;
            receive(&mut stream).await
        });
        // From the first byte on, silence says nothing about what happened.
        let Ok(Ok(reply)) = exchanged.await else {
            return Err(ExchangeError::Silent { server, after: self.timeout }.into());
        };
        let verdict = message::verdict(reply, id, &transaction);
        verdict.map_err(|source| ExchangeError::BadReply { server, source }.into())
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, ExchangeError> {
        let server = self.server;
        match timeout(self.timeout, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(ExchangeError::NotReached { server, source }),
            Err(_) => {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                Err(ExchangeError::NotReached { server, source })
            }
        }
    }

    fn records(
        &self,
        name: &DnsName,
        rtype: Rtype,
        bytes: &[u8],
    ) -> Result<Result<Records, NotAnswered>, ExchangeError> {
        let server = self.server;
        let garbled = || ExchangeError::Garbled { server };
        let message = Message::from_slice(bytes).map_err(|_| garbled())?;
        let rcode = Rcode(u16::from(message.header().rcode().to_int()));
        // Absent only if whoever is in charge says so: unknown is not absent (I6).
        if !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN) || !message.header().aa() {
            return Ok(Err(NotAnswered { name: name.clone(), rcode }));
        }
        let (mut ttl_seconds, mut rdata, mut is_alias) = (None, Vec::new(), false);
        for record in message.answer().map_err(|_| garbled())? {
            let record = record.map_err(|_| garbled())?;
            if !record.owner().name_eq(name.wire()) {
                continue;
            }
            if record.rtype() != rtype {
                is_alias |= record.rtype() == Rtype::CNAME;
                continue;
            }
            ttl_seconds = Some(record.ttl().as_secs());
            rdata.push(whole_rdata(&record, rtype).ok_or_else(garbled)?);
        }
        let records = Records::new(name.clone(), rtype, ttl_seconds.unwrap_or_default(), rdata);
        Ok(Ok(Records { is_alias, ..records }))
    }
}

/// A server does not answer for a name: what stands there is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{rcode} for {name}, or not with authority")]
pub(super) struct NotAnswered {
    name: DnsName,
    rcode: Rcode,
}

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    TooLarge(#[from] message::TooLarge),
}

/// A record's data with its names written out, as a prerequisite must have it.
pub(super) fn whole_rdata(record: &domain::base::ParsedRecord<'_, [u8]>, rtype: Rtype) -> Option<Vec<u8>> {
    if rtype == Rtype::CNAME {
        let cname = record.to_record::<domain::rdata::Cname<_>>().ok()??;
        return Some(cname.data().cname().to_vec().as_slice().to_ascii_lowercase());
    }
    let data = record.to_record::<UnknownRecordData<_>>().ok()??;
    let octets: &[u8] = data.data().data();
    Some(octets.to_vec())
}

/// Asks all at once, and gives the answers in the order of the questions, whatever order they came in.
async fn ask(stream: &mut TcpStream, wanted: &[(DnsName, Rtype)]) -> io::Result<Vec<Vec<u8>>> {
    let first_id = fastrand::Rng::with_seed(getrandom::u64().map_err(io::Error::from)?).u16(..);
    for (id, (name, rtype)) in ids(first_id).zip(wanted) {
        send(stream, &crate::resolver::question(id, name, *rtype)).await?;
    }
    let mut answers = BTreeMap::new();
    while answers.len() < wanted.len() {
        let bytes = receive(stream).await?;
        let Some(id) = bytes.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if ids(first_id).take(wanted.len()).all(|asked| asked != id) || answers.insert(id, bytes).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to no question"));
        }
    }
    Ok(ids(first_id).take(wanted.len()).filter_map(|id| answers.remove(&id)).collect())
}

fn ids(first: u16) -> impl Iterator<Item = u16> {
    (0..).map(move |n| first.wrapping_add(n))
}
