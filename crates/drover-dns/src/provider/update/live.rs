//! What a zone shows of one record set, and what a change makes of it. Pure.

use domain::base::iana::Rtype;

use super::message::{Records, Step};
use super::registry::{self, TooLong, answered, rdata, txt_rdata, txt_strings};
use crate::publish::{Change, Conflict};
use crate::zone::{DnsName, InvalidName, Member, RecordKey, RecordSet, RecordType, ValidRecordSet};

/// A record set as the zone shows it: its own records and those beside it that describe it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) key: RecordKey,
    pub(super) answers: Records,
    pub(super) registry: Records,
}

/// The two names to ask for.
pub(super) fn questions(key: &RecordKey) -> Result<[(DnsName, Rtype); 2], InvalidName> {
    Ok([(key.name.clone(), key.rtype.on_the_wire()), (registry::registry_name(key)?, Rtype::TXT)])
}

/// The strings of the one TXT record of a set; none where there is another number of them.
pub(super) fn texts(records: &Records) -> Option<Vec<String>> {
    let [wire] = records.rdata.as_slice() else { return None };
    txt_strings(wire)
}

/// A text that a wildcard answers, or somebody else's, is none of drover's: what stands at the name itself is required to be
/// nothing, and the server knows.
pub(super) fn without_foreign_text(records: Records) -> Records {
    let is_ours =
        texts(&records).is_some_and(|strings| strings.first().is_some_and(|s| s.starts_with(registry::OURS)));
    if is_ours { records } else { Records { rdata: vec![], ..records } }
}

impl Live {
    /// What is live, as one document: what the registry says, if that is what is answered. Where the answers are others, they
    /// were changed by hand, and are told under the registry's generation; where nothing of drover's describes them, they
    /// are somebody else's. Nothing: there is no such set.
    pub(super) fn document(&self) -> Option<RecordSet> {
        let described = texts(&self.registry).and_then(|strings| registry::read(&self.key, &strings));
        let Some(described) = described else {
            let is_there =
                self.answers.is_alias || !self.answers.rdata.is_empty() || !self.registry.rdata.is_empty();
            return is_there.then(|| self.foreign());
        };
        if !self.answers.is_alias && self.answers == answers_of(&described, &self.key) {
            return Some(described);
        }
        Some(RecordSet { ttl_seconds: self.answers.ttl_seconds, members: self.members(), ..described })
    }

    fn foreign(&self) -> RecordSet {
        RecordSet {
            name: self.key.name.as_str().to_owned(),
            rtype: self.key.rtype,
            ttl_seconds: self.answers.ttl_seconds,
            members: self.members(),
            generation: 0,
            epoch: drover_model::Epoch { incarnation: 0, counter: 0 },
            owner: FOREIGN.to_owned(),
            note: String::new(),
        }
    }

    /// The values that are answered; what they stand for is not known.
    fn members(&self) -> Vec<Member> {
        if self.answers.is_alias {
            let value = "(an alias)".to_owned();
            return vec![Member { set_id: value.clone(), value, weight: 1 }];
        }
        let shown = self.answers.rdata.iter().map(|wire| shown(self.key.rtype, wire));
        shown.map(|value| Member { set_id: value.clone(), value, weight: 1 }).collect()
    }
}

/// The owner of what nothing of drover's describes. No owner of drover's has such a name.
pub(super) const FOREIGN: &str = "(nobody that drover knows)";

fn shown(rtype: RecordType, wire: &[u8]) -> String {
    let address = match (rtype, wire.len()) {
        (RecordType::A, 4) => {
            <[u8; 4]>::try_from(wire).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string())
        }
        (RecordType::Aaaa, 16) => {
            <[u8; 16]>::try_from(wire).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string())
        }
        _ => domain::base::name::Name::from_octets(wire).ok().map(|name| name.to_string()),
    };
    address.unwrap_or_else(|| "(unreadable)".to_owned())
}

/// The records that answer for `set`: each value with weight, once.
pub(super) fn answers_of(set: &RecordSet, key: &RecordKey) -> Records {
    let values = answered(set).filter_map(|m| rdata(set.rtype, &m.value)).collect();
    Records::new(key.name.clone(), set.rtype.on_the_wire(), set.ttl_seconds, values)
}

/// What a change asks of one record set.
pub(super) enum Asked {
    /// It is so already.
    Done,
    /// Its two sets of records become these.
    Steps([Step; 2]),
    /// Something else is live than the writer expects.
    Conflict(Conflict),
    /// It belongs to somebody else.
    Foreign { owner: String },
}

/// Why a change can't be expressed by this provider at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Inexpressible {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Text(#[from] TooLong),
    #[error("several answers of type CNAME: a name has one alias at most, and this provider no weights")]
    ManyAliases,
    #[error("an alias (CNAME) stands at the name, beside which nothing else may: remove it first")]
    BesideAlias,
}

/// Compares a change with what is live.
pub(super) fn judge(
    live: &Live,
    wanted: Option<&ValidRecordSet>,
    change: &Change,
    synthesised: bool,
) -> Result<Asked, Inexpressible> {
    let current = live.document();
    let wanted_set = wanted.map(ValidRecordSet::document);
    let is_done = match (&current, wanted_set) {
        (Some(current), Some(wanted)) => current.same_target(wanted),
        (None, None) => true,
        _ => false,
    };
    if is_done {
        return Ok(Asked::Done);
    }
    let take_over = matches!(change, Change::Put { take_over: true, .. });
    if let Some(current) = current.as_ref().filter(|_| !take_over) {
        let is_ours = wanted_set.is_none_or(|w| w.owner == current.owner) && current.owner != FOREIGN;
        if !is_ours {
            return Ok(Asked::Foreign { owner: current.owner.clone() });
        }
    }
    if live.answers.is_alias {
        return Err(Inexpressible::BesideAlias);
    }
    let found = current.as_ref().filter(|c| c.owner != FOREIGN).map(|c| c.generation);
    let is_raised = wanted_set.is_none_or(|w| Some(w.generation) > found);
    if (change.expected_generation() != found && !(take_over && found.is_none())) || !is_raised {
        let expected_generation = change.expected_generation();
        return Ok(Asked::Conflict(Conflict { key: live.key.clone(), expected_generation, current }));
    }
    let mut steps = steps(live, wanted_set)?;
    if synthesised && take_over && found.is_none() {
        steps[0].from.rdata.clear();
    }
    Ok(Asked::Steps(steps))
}

fn steps(live: &Live, wanted: Option<&RecordSet>) -> Result<[Step; 2], Inexpressible> {
    let none = |records: &Records| Records { rdata: vec![], ..records.clone() };
    let (answers, registry) = match wanted {
        None => (none(&live.answers), none(&live.registry)),
        Some(set) => {
            if set.rtype == RecordType::Cname && answered(set).count() > 1 {
                return Err(Inexpressible::ManyAliases);
            }
            let texts = txt_rdata(&registry::describe(set)?);
            let name = live.registry.name.clone();
            (answers_of(set, &live.key), Records::new(name, Rtype::TXT, set.ttl_seconds, vec![texts]))
        }
    };
    Ok([Step { from: live.answers.clone(), to: answers }, Step { from: live.registry.clone(), to: registry }])
}
