//! Reads a whole zone by a signed transfer (RFC 5936): the one way to see records that a server answers no question for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::base::iana::Rtype;
use domain::base::message::Message;
use domain::base::name::ToName;
use domain::base::{MessageBuilder, ParsedRecord};
use domain::tsig::{ClientSequence, Key};
use tokio::time::timeout;

use super::exchange::{ExchangeError, READ_TIMEOUTS, Remote, whole_rdata};
use super::message::{self, BadReply, Records};
use crate::resolver::Rcode;
use crate::resolver::framing::{receive, send};
use crate::zone::DnsName;

/// The largest zone that is read: 100,000 names with what stands beside them take half of it.
const ZONE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The start of authority comes first and last.
const ENDS: u32 = 2;

/// What a zone holds of the names that were asked for.
#[derive(Debug, Default)]
pub(super) struct Stored {
    records: BTreeMap<(Vec<u8>, u16), Records>,
    /// Names whose server is another, in lower case.
    delegated: BTreeSet<Vec<u8>>,
}

impl Stored {
    /// What stands at a name itself; a wildcard stands at another.
    pub(super) fn at(&self, name: &DnsName, rtype: Rtype) -> Records {
        let found = self.records.get(&(name.wire().as_slice().to_vec(), rtype.to_int())).cloned();
        found.unwrap_or_else(|| Records::new(name.clone(), rtype, 0, vec![]))
    }

    /// Does the zone answer for this name itself?
    pub(super) fn answers_for(&self, name: &DnsName) -> bool {
        !upwards(name.wire().as_slice()).any(|above| self.delegated.contains(above))
    }
}

/// A name in wire form, and all above it, the root left out.
fn upwards(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let here = wire;
        let label = usize::from(*here.first().filter(|length| **length > 0)?);
        wire = here.get(label + 1..)?;
        Some(here)
    })
}

/// What is picked out of a transfer as it comes.
struct Picking<'w> {
    zone: &'w DnsName,
    wanted: BTreeMap<&'w [u8], &'w DnsName>,
    above: BTreeSet<&'w [u8]>,
    stored: Stored,
    ends: u32,
}

impl<'w> Picking<'w> {
    fn new(zone: &'w DnsName, wanted: &'w [DnsName]) -> Self {
        let above = wanted.iter().flat_map(|name| upwards(name.wire().as_slice())).collect();
        let wanted = wanted.iter().map(|name| (name.wire().as_slice(), name)).collect();
        Self { zone, wanted, above, stored: Stored::default(), ends: 0 }
    }

    /// None: it can't be read.
    fn take(&mut self, record: &ParsedRecord<'_, [u8]>) -> Option<()> {
        let owner = record.owner().to_vec().as_slice().to_ascii_lowercase();
        let rtype = record.rtype();
        if rtype == Rtype::SOA {
            self.ends += 1;
        }
        if rtype == Rtype::NS && owner != self.zone.wire().as_slice() && self.above.contains(owner.as_slice())
        {
            self.stored.delegated.insert(owner.clone());
        }
        let Some(name) = self.wanted.get(owner.as_slice()) else { return Some(()) };
        let (ttl_seconds, rdata) = (record.ttl().as_secs(), whole_rdata(record, rtype)?);
        let found = self.stored.records.entry((owner, rtype.to_int()));
        let records = found.or_insert_with(|| Records::new((*name).clone(), rtype, ttl_seconds, vec![]));
        records.rdata.push(rdata);
        records.rdata.sort_unstable();
        Some(())
    }
}

impl Remote {
    /// What the zone holds of the wanted names now.
    pub(super) async fn transfer(
        &self,
        zone: &DnsName,
        key: &Arc<Key>,
        wanted: &[DnsName],
    ) -> Result<Stored, ExchangeError> {
        let whole = self.timeout * READ_TIMEOUTS;
        let silent = ExchangeError::Silent { server: self.server, after: whole };
        timeout(whole, self.transfer_all(zone, key, wanted)).await.unwrap_or(Err(silent))
    }

    async fn transfer_all(
        &self,
        zone: &DnsName,
        key: &Arc<Key>,
        wanted: &[DnsName],
    ) -> Result<Stored, ExchangeError> {
        let server = self.server;
        let (question, mut sequence) = question(zone, key).ok_or(ExchangeError::Garbled { server })?;
        let mut stream = self.connect().await?;
        let broken = |source| ExchangeError::NotReached { server, source };
        send(&mut stream, &question).await.map_err(broken)?;
        let (mut picking, mut bytes_left) = (Picking::new(zone, wanted), ZONE_BYTES_MAX);
        while picking.ends < ENDS {
            let silent = ExchangeError::Silent { server, after: self.timeout };
            let bytes = timeout(self.timeout, receive(&mut stream)).await.map_err(|_| silent)?;
            let bytes = bytes.map_err(broken)?;
            bytes_left = bytes_left
                .checked_sub(bytes.len())
                .ok_or(ExchangeError::ZoneTooLarge { server, bytes_max: ZONE_BYTES_MAX })?;
            let message = self.signed(bytes, &mut sequence)?;
            let before = picking.ends;
            self.pick(&message, &mut picking)?;
            if before == 0 && picking.ends == 0 {
                return Err(ExchangeError::Garbled { server });
            }
        }
        let forged = |source| ExchangeError::BadReply { server, source: BadReply::Signature(source) };
        sequence.done().map_err(forged)?;
        Ok(picking.stored)
    }

    /// One message of the transfer, signed by whoever has the key.
    fn signed(
        &self,
        bytes: Vec<u8>,
        sequence: &mut ClientSequence<Arc<Key>>,
    ) -> Result<Message<Vec<u8>>, ExchangeError> {
        let server = self.server;
        let mut message = Message::from_octets(bytes).map_err(|_| ExchangeError::Garbled { server })?;
        let rcode = Rcode(u16::from(message.header().rcode().to_int()));
        let signature = sequence.answer(&mut message, message::now());
        // Who may not transfer is told so without a signature, like one whose key is unknown.
        if rcode != Rcode::NOERROR {
            return Err(ExchangeError::NotTransferred { server, rcode });
        }
        let unsigned = |why| ExchangeError::BadReply { server, source: message::unsigned(why, rcode) };
        signature.map_err(unsigned)?;
        Ok(message)
    }

    fn pick(&self, message: &Message<Vec<u8>>, picking: &mut Picking<'_>) -> Result<(), ExchangeError> {
        let garbled = || ExchangeError::Garbled { server: self.server };
        let message = Message::from_slice(message.as_slice()).map_err(|_| garbled())?;
        for record in message.answer().map_err(|_| garbled())? {
            let record = record.map_err(|_| garbled())?;
            picking.take(&record).ok_or_else(garbled)?;
        }
        Ok(())
    }
}

fn question(zone: &DnsName, key: &Arc<Key>) -> Option<(Vec<u8>, ClientSequence<Arc<Key>>)> {
    let mut builder = MessageBuilder::from_target(Vec::with_capacity(512)).ok()?;
    builder.header_mut().set_id(getrandom::u32().ok()? as u16);
    let mut question = builder.question();
    question.push((zone.wire(), Rtype::AXFR)).ok()?;
    let mut additional = question.additional();
    let sequence = ClientSequence::request(Arc::clone(key), &mut additional, message::now()).ok()?;
    Some((additional.finish(), sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_answered_elsewhere_when_it_or_one_above_it_is_delegated() {
        let name = |text| DnsName::parse(text).unwrap();
        let delegated = [name("eu.example.test").wire().as_slice().to_vec()].into();
        let stored = Stored { delegated, ..Stored::default() };
        for (text, answers) in
            [("x.y.eu.example.test", false), ("eu.example.test", false), ("neu.example.test", true)]
        {
            assert_eq!(stored.answers_for(&name(text)), answers, "{text}");
        }
    }
}
