//! Decides what a question is answered: result code and records, before any byte is written.

use std::net::IpAddr;

use bytes::Bytes;
use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::name::Name;
use domain::base::{Serial, Ttl};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa, Txt};
use smallvec::SmallVec;

use super::CNAME_HOPS_MAX;
use super::query::Query;
use crate::zone::{Chance, Data, Drawn, Lookup, Node, Placed, RecordType, Served, Snapshot};

/// Whose record it is. The question's own name is repeated in the case in which it was asked (0x20).
#[derive(Clone)]
pub(super) enum Owner {
    Question,
    Name(Name<Bytes>),
}

pub(super) struct Record {
    pub(super) owner: Owner,
    pub(super) ttl: Ttl,
    pub(super) data: Data,
}

pub(super) struct Outcome {
    pub(super) rcode: OptRcode,
    pub(super) is_authoritative: bool,
    /// The last name of a chain exists without records of the type asked for.
    ends_without_data: bool,
    /// So many bits of the client's address decide it: others might get another answer.
    pub(super) client_bits: u8,
    pub(super) answer: SmallVec<[Record; 1]>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Outcome {
    fn refusal(rcode: OptRcode) -> Self {
        Self {
            rcode,
            is_authoritative: false,
            ends_without_data: false,
            client_bits: 0,
            answer: SmallVec::new(),
            authority: vec![],
            additional: vec![],
        }
    }

    fn authoritative() -> Self {
        Self { is_authoritative: true, ..Self::refusal(OptRcode::NOERROR) }
    }

    /// Is any name in it but the question's own?
    pub(super) fn names_others(&self) -> bool {
        let is_plain = |record: &Record| {
            matches!(record.owner, Owner::Question)
                && matches!(record.data, Data::A(_) | Data::Aaaa(_) | Data::Txt(_) | Data::Caa(_))
        };
        !(self.authority.is_empty() && self.additional.is_empty() && self.answer.iter().all(is_plain))
    }
}

/// Of a server that does not know the zone yet.
pub(super) fn not_ready() -> Outcome {
    Outcome::refusal(OptRcode::SERVFAIL)
}

/// `found` is what the snapshot has at the question's name.
pub(super) fn respond(snapshot: &Snapshot, query: &Query<'_>, found: Lookup<'_>, chance: Chance) -> Outcome {
    if query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
        return Outcome::refusal(OptRcode::BADVERS);
    }
    let qtype = query.question.qtype();
    // No transfers, and no classes but the Internet's (so nothing tells the server's version either).
    if query.question.qclass() != Class::IN || matches!(qtype, Rtype::AXFR | Rtype::IXFR) {
        return Outcome::refusal(OptRcode::REFUSED);
    }
    let mut outcome = Outcome::authoritative();
    match found {
        Lookup::OutOfZone => return Outcome::refusal(OptRcode::REFUSED),
        Lookup::NoSuchName => outcome.rcode = OptRcode::NXDOMAIN,
        Lookup::Generation(node) => answer_generation(snapshot, node, qtype, &mut outcome),
        Lookup::Node(node) if node.is_apex => answer_apex(snapshot, node, qtype, chance, &mut outcome),
        Lookup::Node(node) => answer_node(snapshot, node, qtype, chance, &mut outcome),
    }
    // A chain of CNAMEs whose end is somewhere else is complete as it is: the resolver goes on from there.
    let is_negative =
        outcome.rcode == OptRcode::NXDOMAIN || outcome.ends_without_data || outcome.answer.is_empty();
    if is_negative && outcome.is_authoritative {
        outcome.authority.push(start_of_authority(snapshot));
    }
    outcome
}

/// TXT `_generation.<name>`: what is live here, for those who verify. Never cached.
fn answer_generation(snapshot: &Snapshot, node: &Node, qtype: Rtype, outcome: &mut Outcome) {
    if !matches!(qtype, Rtype::TXT | Rtype::ANY) {
        return;
    }
    let mut texts = Vec::new();
    if node.is_apex {
        texts.push(format!("snapshot={}", snapshot.generation()));
    }
    for placed in &node.record_sets {
        texts.push(format!("{}={}", placed.served.rtype(), placed.set.document().generation));
    }
    for text in texts {
        if let Ok(txt) = Txt::build_from_slice(text.as_bytes()) {
            outcome.answer.push(Record { owner: Owner::Question, ttl: Ttl::ZERO, data: txt.into() });
        }
    }
}

fn answer_apex(snapshot: &Snapshot, node: &Node, qtype: Rtype, chance: Chance, outcome: &mut Outcome) {
    match qtype {
        // To ANY one record is enough (RFC 8482).
        Rtype::SOA | Rtype::ANY => {
            outcome.answer.push(Record { owner: Owner::Question, ..start_of_authority(snapshot) });
        }
        Rtype::NS => {
            for server in &snapshot.zone().name_servers {
                let ttl = Ttl::from_secs(snapshot.zone().ttl_seconds);
                let name = server.name.wire().clone();
                for address in &server.addresses {
                    let owner = Owner::Name(name.clone());
                    outcome.additional.push(Record { owner, ttl, data: address_data(*address) });
                }
                outcome.answer.push(Record { owner: Owner::Question, ttl, data: Ns::new(name).into() });
            }
        }
        _ => answer_node(snapshot, node, qtype, chance, outcome),
    }
}

/// Weighted records, following CNAMEs inside the zone.
fn answer_node<'a>(
    snapshot: &'a Snapshot,
    node: &'a Node,
    qtype: Rtype,
    chance: Chance,
    outcome: &mut Outcome,
) {
    let mut node = node;
    let mut chance = chance;
    let mut owner = Owner::Question;
    for _ in 0..CNAME_HOPS_MAX {
        let Some(placed) = matching_set(node, qtype) else {
            return answer_glue(snapshot, node, qtype, owner, outcome);
        };
        let around = snapshot.around();
        let (client_bits, chosen) = placed.chosen(&around, chance);
        outcome.client_bits = outcome.client_bits.max(client_bits);
        let Ok(chosen) = chosen else {
            // Not "there is none", which would be kept.
            *outcome = Outcome { client_bits: outcome.client_bits, ..Outcome::refusal(OptRcode::REFUSED) };
            return;
        };
        outcome.answer.extend(chosen.iter().map(|drawn| record(&placed.served, owner.clone(), *drawn)));
        let [Drawn::Cname(target)] = chosen.as_slice() else { return };
        let target = target.wire();
        if matches!(qtype, Rtype::CNAME | Rtype::ANY) {
            return;
        }
        match snapshot.lookup(target.as_slice()) {
            Lookup::Node(next) => node = next,
            Lookup::NoSuchName => {
                outcome.rcode = OptRcode::NXDOMAIN;
                return;
            }
            Lookup::OutOfZone | Lookup::Generation(_) => return,
        }
        owner = Owner::Name(target.clone());
        chance = chance.next();
    }
}

fn matching_set(node: &Node, qtype: Rtype) -> Option<&Placed> {
    node.record_sets.iter().find(|placed| {
        let rtype = placed.served.rtype();
        // A CNAME answers for every type.
        qtype == Rtype::ANY || rtype == RecordType::Cname || qtype == rtype.on_the_wire()
    })
}

fn answer_glue(snapshot: &Snapshot, node: &Node, qtype: Rtype, owner: Owner, outcome: &mut Outcome) {
    let ttl = Ttl::from_secs(snapshot.zone().ttl_seconds);
    let matching = node.glue.iter().filter(|address| match address {
        IpAddr::V4(_) => matches!(qtype, Rtype::A | Rtype::ANY),
        IpAddr::V6(_) => matches!(qtype, Rtype::AAAA | Rtype::ANY),
    });
    let count_max = if qtype == Rtype::ANY { 1 } else { usize::MAX };
    let before = outcome.answer.len();
    for address in matching.take(count_max) {
        outcome.answer.push(Record { owner: owner.clone(), ttl, data: address_data(*address) });
    }
    outcome.ends_without_data = outcome.answer.len() == before;
}

fn record(set: &Served, owner: Owner, drawn: Drawn<'_>) -> Record {
    let data = match drawn {
        Drawn::A(address) => A::new(address).into(),
        Drawn::Aaaa(address) => Aaaa::new(address).into(),
        Drawn::Cname(target) => Cname::new(target.wire().clone()).into(),
        Drawn::Fixed(data) => Data::clone(data),
    };
    Record { owner, ttl: Ttl::from_secs(set.ttl_seconds()), data }
}

/// The start of authority, whose time to live is the one for which "no such name" may be kept (RFC 2308).
fn start_of_authority(snapshot: &Snapshot) -> Record {
    let zone = snapshot.zone();
    let origin = zone.origin.wire().clone();
    let primary =
        zone.name_servers.first().map_or_else(|| origin.clone(), |server| server.name.wire().clone());
    let negative = Ttl::from_secs(zone.negative_ttl_seconds);
    let soa = Soa::new(
        primary,
        zone.mailbox.wire().clone(),
        Serial(serial(snapshot.generation())),
        Ttl::from_secs(zone.soa.refresh_seconds),
        Ttl::from_secs(zone.soa.retry_seconds),
        Ttl::from_secs(zone.soa.expire_seconds),
        negative,
    );
    Record { owner: Owner::Name(origin), ttl: negative, data: soa.into() }
}

/// Serials compare modulo 2³² (RFC 1982), so the lower bits do.
fn serial(generation: u64) -> u32 {
    (generation & u64::from(u32::MAX)) as u32
}

fn address_data(address: IpAddr) -> Data {
    match address {
        IpAddr::V4(address) => A::new(address).into(),
        IpAddr::V6(address) => Aaaa::new(address).into(),
    }
}
