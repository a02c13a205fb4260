//! What a zone shows of one record set, and what a change makes of it. Pure.

use domain::base::iana::Rtype;

use super::lua;
use super::message::{Records, Step};
use super::registry::{self, TooLong, answered, rdata, txt_rdata, txt_strings};
use crate::provider::marks::{FOREIGN, OURS, registry_name};
use crate::provider::wanted::{Asked, Shown, Wanted};
use crate::zone::{
    AliasTarget, Answering, DnsName, InvalidName, Member, RecordKey, RecordSet, RecordType, ValidRecordSet,
};

/// A record set as the zone shows it: its own records and those beside it that describe it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) key: RecordKey,
    pub(super) answers: Records,
    pub(super) registry: Records,
    /// Where answers are made by programs: those of the name, also for other types.
    pub(super) programs: Option<Records>,
}

/// The two names to ask for.
pub(super) fn questions(key: &RecordKey) -> Result<[(DnsName, Rtype); 2], InvalidName> {
    Ok([(key.name.clone(), key.rtype.on_the_wire()), (registry_name(key)?, Rtype::TXT)])
}

/// The strings of the one TXT record of a set; none where there is another number of them.
pub(super) fn texts(records: &Records) -> Option<Vec<String>> {
    let [wire] = records.rdata.as_slice() else { return None };
    txt_strings(wire)
}

/// A text that a wildcard answers, or somebody else's, is none of drover's: what stands at the name itself is required to be
/// nothing, and the server knows.
pub(super) fn without_foreign_text(records: Records) -> Records {
    let is_ours = texts(&records).is_some_and(|strings| strings.first().is_some_and(|s| s.starts_with(OURS)));
    if is_ours { records } else { Records { rdata: vec![], ..records } }
}

impl Live {
    /// What is live, as one document: what the registry says, if that is what is answered. Where the answers are others, they
    /// were changed by hand, and are told under the registry's generation; where nothing of drover's describes them, they
    /// are somebody else's. Nothing: there is no such set.
    pub(super) fn shown(&self) -> Option<Shown> {
        let described = texts(&self.registry).and_then(|strings| registry::read(&self.key, &strings));
        let Some(described) = described else {
            let is_there = self.answers.is_alias
                || !self.answers.rdata.is_empty()
                || !self.own_programs().is_empty()
                || !self.registry.rdata.is_empty();
            return is_there.then(|| Shown { set: self.foreign(), is_changed_by_hand: false });
        };
        if self.stands_as(&described) {
            return Some(Shown { set: described, is_changed_by_hand: false });
        }
        let set = RecordSet { ttl_seconds: self.ttl_seconds(), members: self.members(), ..described };
        Some(Shown { set, is_changed_by_hand: true })
    }

    /// Is this what is answered, and in the way in which this zone answers?
    fn stands_as(&self, set: &RecordSet) -> bool {
        let Some(programs) = &self.programs else {
            return !self.answers.is_alias && self.answers == answers_of(set, &self.key);
        };
        // An address beside a program is answered together with what that one draws.
        let is_alone = !self.answers.is_alias && self.answers.rdata.is_empty();
        let wanted = lua::rdata(set).map(|program| program.into_iter().collect::<Vec<_>>());
        is_alone
            && programs.ttl_seconds == set.ttl_seconds
            && wanted.is_ok_and(|wanted| wanted == self.own_programs())
    }

    /// The programs that answer for this type.
    pub(super) fn own_programs(&self) -> Vec<Vec<u8>> {
        self.programs.as_ref().map(|programs| lua::of_type(programs, &self.key).0).unwrap_or_default()
    }

    fn ttl_seconds(&self) -> u32 {
        match &self.programs {
            Some(programs) if !self.own_programs().is_empty() => programs.ttl_seconds,
            _ => self.answers.ttl_seconds,
        }
    }

    fn foreign(&self) -> RecordSet {
        RecordSet {
            name: self.key.name.as_str().to_owned(),
            rtype: self.key.rtype,
            ttl_seconds: self.ttl_seconds(),
            members: self.members(),
            generation: 0,
            epoch: drover_model::Epoch { incarnation: 0, counter: 0 },
            owner: FOREIGN.to_owned(),
            note: String::new(),
            answering: Answering::USUAL,
        }
    }

    /// The values that are answered; what they stand for is not known.
    fn members(&self) -> Vec<Member> {
        if self.answers.is_alias {
            let value = "(an alias)".to_owned();
            return vec![Member { set_id: value.clone(), value, weight: 1 }];
        }
        let plain = self.answers.rdata.iter().map(|wire| (1, shown(self.key.rtype, wire)));
        let drawn = self.own_programs().into_iter().flat_map(|wire| lua::shown(&wire));
        plain.chain(drawn).map(|(weight, value)| Member { set_id: value.clone(), value, weight }).collect()
    }
}

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

/// Why a change can't be expressed by this provider at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Inexpressible {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Text(#[from] TooLong),
    #[error("several answers of type CNAME: a name has one alias at most, and this provider no weights")]
    ManyAliases,
    #[error("an alias target, which Route 53 alone has")]
    AliasTarget,
    #[error("an alias (CNAME) stands at the name, beside which nothing else may: remove it first")]
    BesideAlias,
}

/// The sets of records that a change replaces; nothing where it is done already, or must not be.
pub(super) fn steps_of(
    live: &Live,
    wanted: &Wanted<'_>,
    synthesised: bool,
) -> Result<(Asked, Option<Vec<Step>>), Inexpressible> {
    let shown = live.shown();
    let asked = wanted.judge(shown.as_ref());
    if asked != Asked::Write {
        return Ok((asked, None));
    }
    if live.answers.is_alias {
        return Err(Inexpressible::BesideAlias);
    }
    let aliases = wanted.set.iter().flat_map(|set| &set.document().members);
    if aliases.filter(|m| AliasTarget::parse(&m.value).is_some()).count() > 0 {
        return Err(Inexpressible::AliasTarget);
    }
    let mut steps = steps(live, wanted.set.as_ref().map(ValidRecordSet::document))?;
    let is_ours = shown.is_some_and(|shown| shown.set.owner != FOREIGN);
    // A transfer has nothing in it that a wildcard would answer.
    if synthesised && wanted.takes_over() && !is_ours && live.programs.is_none() {
        steps[0].from.rdata.clear();
    }
    Ok((asked, Some(steps)))
}

fn steps(live: &Live, wanted: Option<&RecordSet>) -> Result<Vec<Step>, Inexpressible> {
    let registry = match wanted {
        None => none(&live.registry),
        Some(set) => {
            let texts = txt_rdata(&registry::describe(set)?);
            Records::new(live.registry.name.clone(), Rtype::TXT, set.ttl_seconds, vec![texts])
        }
    };
    let mut steps = match &live.programs {
        None => vec![Step { from: live.answers.clone(), to: plain_answers(live, wanted)? }],
        Some(programs) => by_programs(live, programs, wanted)?,
    };
    steps.push(Step { from: live.registry.clone(), to: registry });
    Ok(steps)
}

fn none(records: &Records) -> Records {
    Records { rdata: vec![], ..records.clone() }
}

fn plain_answers(live: &Live, wanted: Option<&RecordSet>) -> Result<Records, Inexpressible> {
    match wanted {
        None => Ok(none(&live.answers)),
        Some(set) if set.rtype == RecordType::Cname && answered(set).count() > 1 => {
            Err(Inexpressible::ManyAliases)
        }
        Some(set) => Ok(answers_of(set, &live.key)),
    }
}

/// One program instead of all that stands there for this type; those for other types stay.
fn by_programs(
    live: &Live,
    programs: &Records,
    wanted: Option<&RecordSet>,
) -> Result<Vec<Step>, Inexpressible> {
    let (own, mut rdata) = lua::of_type(programs, &live.key);
    if let Some(set) = wanted {
        rdata.extend(lua::rdata(set)?);
    }
    let ttl_seconds = wanted.map_or(programs.ttl_seconds, |set| set.ttl_seconds);
    let to = Records::new(programs.name.clone(), lua::LUA, ttl_seconds, rdata);
    let mut steps = vec![Step { from: programs.clone(), to }];
    // That no alias is there requires that nothing is, which does not hold where one is drawn by a program.
    let is_drawn_alias = live.key.rtype == RecordType::Cname && !own.is_empty();
    if !(is_drawn_alias && live.answers.rdata.is_empty()) {
        steps.push(Step { from: live.answers.clone(), to: none(&live.answers) });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Epoch;

    /// A set of two regions as the zone shows it, with these addresses answered.
    fn live(answered: &[[u8; 4]], ttl_seconds: u32) -> Live {
        let key = RecordKey::new(DnsName::parse("a.example.test").unwrap(), RecordType::A);
        let member = |n: u8| Member { set_id: format!("r{n}"), value: format!("192.0.2.{n}"), weight: 1 };
        let set = RecordSet {
            name: key.name.as_str().into(),
            rtype: key.rtype,
            ttl_seconds: 30,
            members: vec![member(1), member(2)],
            generation: 7,
            epoch: Epoch { incarnation: 1, counter: 1 },
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let texts = txt_rdata(&registry::describe(&set).unwrap());
        let rdata = answered.iter().map(|octets| octets.to_vec()).collect();
        Live {
            answers: Records::new(key.name.clone(), Rtype::A, ttl_seconds, rdata),
            registry: Records::new(registry_name(&key).unwrap(), Rtype::TXT, 30, vec![texts]),
            programs: None,
            key,
        }
    }

    #[test]
    fn answers_that_the_registry_does_not_describe_are_a_hands_work() {
        let (one, two, other) = ([192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 9]);
        assert!(!live(&[one, two], 30).shown().unwrap().is_changed_by_hand);
        for changed in [live(&[one], 30), live(&[one, two, other], 30), live(&[], 0), live(&[one, two], 31)] {
            let shown = changed.shown().unwrap();
            assert!(shown.is_changed_by_hand && shown.set.generation == 7, "{shown:?}");
        }
    }
}
