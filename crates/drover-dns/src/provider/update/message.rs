//! Messages of RFC 2136: a zone, what must be so, and what shall become of it, signed by RFC 8945.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::message::Message;
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, AuthorityBuilder};
use domain::base::rdata::UnknownRecordData;
use domain::base::{MessageBuilder, Ttl};
use domain::rdata::tsig::Time48;
use domain::tsig::{ClientTransaction, Key, ValidationError};

use super::lua::LUA;
use crate::resolver::Rcode;
use crate::zone::DnsName;

/// The longest message over TCP, less what a signature takes at most.
pub(super) const UPDATE_BYTES_MAX: usize = u16::MAX as usize - 1024;

/// The records of one name and type, each in its wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) name: DnsName,
    pub(super) rtype: Rtype,
    pub(super) ttl_seconds: u32,
    /// Sorted, so that equal sets are equal. Empty: there are none.
    pub(super) rdata: Vec<Vec<u8>>,
    /// An alias stands at the name instead, beside which nothing else may.
    pub(super) is_alias: bool,
}

impl Records {
    pub(super) fn new(name: DnsName, rtype: Rtype, ttl_seconds: u32, mut rdata: Vec<Vec<u8>>) -> Self {
        rdata.sort_unstable();
        Self { name, rtype, ttl_seconds, rdata, is_alias: false }
    }

    /// The question that these answer.
    pub(super) fn asked_for(&self) -> (DnsName, Rtype) {
        (self.name.clone(), self.rtype)
    }
}

/// One step: what is live, exactly, and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: Records,
    pub(super) to: Records,
}

impl Step {
    /// At least so many bytes of a message, twice its records with their names.
    pub(super) fn bytes(&self) -> usize {
        let of = |records: &Records| {
            let name = records.name.wire().as_slice().len();
            // Name, type, class, time, length, data; and one more record that deletes or forbids.
            records.rdata.iter().map(|data| name + 10 + data.len()).sum::<usize>() + name + 10
        };
        of(&self.from) + of(&self.to)
    }
}

/// Nothing can go wrong but the length, which the caller bounds by [`Step::bytes`].
#[derive(Debug, thiserror::Error)]
#[error("the update does not fit into a message of {} bytes", u16::MAX)]
pub(super) struct TooLarge;

/// An update of `zone` and the transaction that knows its answer: all steps happen, or none.
pub(super) fn update(
    id: u16,
    zone: &DnsName,
    steps: &[Step],
    key: &Arc<Key>,
) -> Result<(Vec<u8>, ClientTransaction<Arc<Key>>), TooLarge> {
    let mut builder = MessageBuilder::from_target(Vec::with_capacity(4096)).map_err(|_| TooLarge)?;
    builder.header_mut().set_id(id);
    builder.header_mut().set_opcode(Opcode::UPDATE);
    let mut zones = builder.question();
    zones.push((zone.wire(), Rtype::SOA)).map_err(|_| TooLarge)?;
    let mut answer = zones.answer();
    let mut required = BTreeSet::new();
    for Step { from, .. } in steps {
        // Two steps may have begun with one set: a name's programs of all types are one.
        if required.insert((&from.name, from.rtype.to_int())) {
            require(&mut answer, from)?;
        }
    }
    let mut authority = answer.authority();
    for step in steps {
        replace(&mut authority, step)?;
    }
    let mut additional: AdditionalBuilder<Vec<u8>> = authority.additional();
    let transaction =
        ClientTransaction::request(Arc::clone(key), &mut additional, now()).map_err(|_| TooLarge)?;
    let bytes = additional.finish();
    if bytes.len() > usize::from(u16::MAX) {
        return Err(TooLarge);
    }
    Ok((bytes, transaction))
}

/// RFC 2136, 2.4.2 and 2.4.3: this set with exactly these values exists, or none of that name and type.
fn require(to: &mut AnswerBuilder<Vec<u8>>, records: &Records) -> Result<(), TooLarge> {
    let name = records.name.wire();
    if records.rdata.is_empty() && records.rtype == Rtype::CNAME {
        // 2.4.5: nothing at all is there. A server would pass over an alias beside other records without a word.
        return to.push((name, Class::NONE, Ttl::ZERO, data(Rtype::ANY, &[])?)).map_err(|_| TooLarge);
    }
    if records.rdata.is_empty() {
        return to.push((name, Class::NONE, Ttl::ZERO, data(records.rtype, &[])?)).map_err(|_| TooLarge);
    }
    for rdata in &records.rdata {
        to.push((name, Class::IN, Ttl::ZERO, data(records.rtype, rdata)?)).map_err(|_| TooLarge)?;
    }
    Ok(())
}

/// RFC 2136, 2.5.2 and 2.5.1: delete the set, then add what shall be.
fn replace(to: &mut AuthorityBuilder<Vec<u8>>, step: &Step) -> Result<(), TooLarge> {
    let records = &step.to;
    let name = records.name.wire();
    if records.rtype == LUA {
        return replace_each(to, step);
    }
    if !step.from.rdata.is_empty() {
        to.push((name, Class::ANY, Ttl::ZERO, data(records.rtype, &[])?)).map_err(|_| TooLarge)?;
    }
    for rdata in &records.rdata {
        let ttl = Ttl::from_secs(records.ttl_seconds);
        to.push((name, Class::IN, ttl, data(records.rtype, rdata)?)).map_err(|_| TooLarge)?;
    }
    Ok(())
}

/// RFC 2136, 2.5.4: of a set that is not all drover's, record by record.
fn replace_each(
    to: &mut AuthorityBuilder<Vec<u8>>,
    Step { from, to: wanted }: &Step,
) -> Result<(), TooLarge> {
    let name = wanted.name.wire();
    for rdata in from.rdata.iter().filter(|rdata| !wanted.rdata.contains(rdata)) {
        to.push((name, Class::NONE, Ttl::ZERO, data(LUA, rdata)?)).map_err(|_| TooLarge)?;
    }
    let stays = |rdata: &Vec<u8>| from.ttl_seconds == wanted.ttl_seconds && from.rdata.contains(rdata);
    for rdata in wanted.rdata.iter().filter(|rdata| !stays(rdata)) {
        let ttl = Ttl::from_secs(wanted.ttl_seconds);
        to.push((name, Class::IN, ttl, data(LUA, rdata)?)).map_err(|_| TooLarge)?;
    }
    Ok(())
}

fn data(rtype: Rtype, rdata: &[u8]) -> Result<UnknownRecordData<&[u8]>, TooLarge> {
    UnknownRecordData::from_octets(rtype, rdata).map_err(|_| TooLarge)
}

/// Why a reply counts for nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadReply {
    /// It can't be read, or answers something else.
    #[error("it is no reply to the update")]
    Garbled,
    /// The server does not accept our signature, and so has nothing to sign its answer with.
    #[error("it refuses our signature ({0})")]
    NotAuthorised(String),
    /// Nobody who has the key signed it.
    #[error("its signature does not hold: {0}")]
    Signature(ValidationError),
}

/// The result code of a signed reply. One whose signature does not hold tells nothing.
pub(super) fn verdict(
    bytes: Vec<u8>,
    id: u16,
    transaction: &ClientTransaction<Arc<Key>>,
) -> Result<Rcode, BadReply> {
    let mut message = Message::from_octets(bytes).map_err(|_| BadReply::Garbled)?;
    if !message.header().qr() || message.header().opcode() != Opcode::UPDATE {
        return Err(BadReply::Garbled);
    }
    let rcode = Rcode(u16::from(message.header().rcode().to_int()));
    transaction.answer(&mut message, now()).map_err(|why| unsigned(why, rcode))?;
    if message.header().id() != id {
        return Err(BadReply::Garbled);
    }
    Ok(rcode)
}

/// Does the server itself say that it did not accept the update's signature? It says so unsigned, with a reason (RFC 8945, 5.2)
/// or, as PowerDNS does, without. Who stands between could say it as well, and win no more than by cutting the line.
pub(super) fn unsigned(why: ValidationError, rcode: Rcode) -> BadReply {
    let refuses = matches!(rcode, Rcode::REFUSED | Rcode::NOTAUTH);
    match why {
        ValidationError::ServerBadKey
        | ValidationError::ServerBadSig
        | ValidationError::ServerBadTime { .. } => BadReply::NotAuthorised(why.to_string()),
        ValidationError::ServerUnsigned if refuses => BadReply::NotAuthorised(rcode.to_string()),
        why => BadReply::Signature(why),
    }
}

pub(super) fn now() -> Time48 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time48::from_u64(since.as_secs())
}
