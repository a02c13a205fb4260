//! The checked record set: a value of this type can be published.
//!
//! Last line of I4: empty and all-zero sets have no value of this type, so no code path can serve one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    AliasTarget, DnsName, GENERATION_LABEL, InvalidName, MEMBERS_MAX, Member, RecordKey, RecordSet,
    RecordType, TTL_SECONDS_MAX, WEIGHT_MAX,
};

/// The longest owner, note and set id, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// One member's data, ready for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecordData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(DnsName),
}

/// A record set that may be published: at least one member with weight, all of one type, none twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "RecordSet", into = "RecordSet")]
pub struct ValidRecordSet {
    key: RecordKey,
    document: RecordSet,
    served: Served,
}

/// What an answer needs, all in one place: with 100,000 names each place more is another that no cache has.
#[derive(Debug, Clone)]
struct Served {
    ttl_seconds: u32,
    weight_total: u32,
    /// In the order of the members.
    choices: SmallVec<[Choice; MEMBERS_USUAL]>,
}

/// As many regions as most services have.
const MEMBERS_USUAL: usize = 4;

/// What may be answered, and for which draws: those below its bound that no earlier one took.
#[derive(Debug, Clone)]
struct Choice {
    below: u32,
    /// None: an alias, whose answers are its target's.
    data: Option<RecordData>,
}

/// Why a record set can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecordSet {
    /// The owner name or a CNAME's target is no name.
    #[error("cannot publish a record set with an invalid name")]
    Name(#[source] InvalidName),
    /// The name is kept for drover's own answers.
    #[error("cannot publish {key}: the label {GENERATION_LABEL} is reserved")]
    Reserved {
        /// Which set.
        key: RecordKey,
    },
    /// An alias target where none can be.
    #[error("cannot publish {key}: {set_id} is an alias target, which Route 53 alone has")]
    Alias {
        /// Which set.
        key: RecordKey,
        /// Which member.
        set_id: String,
    },
    /// No member at all (I4).
    #[error("cannot publish {key}: it has no member")]
    Empty {
        /// Which set.
        key: RecordKey,
    },
    /// No member would ever be answered (I4).
    #[error("cannot publish {key}: all of its {members} weights are 0")]
    AllWeightsZero {
        /// Which set.
        key: RecordKey,
        /// How many members it has.
        members: usize,
    },
    /// Too many members.
    #[error("cannot publish {key}: {members} members, at most {MEMBERS_MAX}")]
    TooManyMembers {
        /// Which set.
        key: RecordKey,
        /// How many members it has.
        members: usize,
    },
    /// A weight out of range.
    #[error("cannot publish {key}: weight {weight} of {set_id}, at most {WEIGHT_MAX}")]
    Weight {
        /// Which set.
        key: RecordKey,
        /// Whose weight.
        set_id: String,
        /// The weight.
        weight: u16,
    },
    /// A time to live out of range.
    #[error("cannot publish {key}: time to live {ttl_seconds} s, at most {TTL_SECONDS_MAX} s")]
    Ttl {
        /// Which set.
        key: RecordKey,
        /// The time to live.
        ttl_seconds: u32,
    },
    /// A value that is not of the set's type.
    #[error("cannot publish {key}: \"{value}\" of {set_id} is no {} value", key.rtype)]
    Value {
        /// Which set.
        key: RecordKey,
        /// Whose value.
        set_id: String,
        /// The value.
        value: String,
    },
    /// Two members of one region, or of one value.
    #[error("cannot publish {key}: \"{what}\" appears twice")]
    Duplicate {
        /// Which set.
        key: RecordKey,
        /// The region or value.
        what: String,
    },
    /// An empty region name, or a text past its limit.
    #[error(
        "cannot publish {key}: {field} must have 1 to {TEXT_BYTES_MAX} bytes (owner and note may be empty)"
    )]
    Text {
        /// Which set.
        key: RecordKey,
        /// Which field.
        field: &'static str,
    },
}

impl ValidRecordSet {
    /// Checks a record set and puts names and values into their one spelling.
    ///
    /// # Errors
    /// The first thing found that forbids to publish it.
    pub fn new(document: RecordSet) -> Result<Self, InvalidRecordSet> {
        let set = Self::with_aliases(document)?;
        let values = set.served.choices.iter().zip(&set.document.members);
        match values.filter(|(choice, _)| choice.data.is_none()).map(|(_, member)| &member.set_id).next() {
            None => Ok(set),
            Some(set_id) => Err(InvalidRecordSet::Alias { key: set.key.clone(), set_id: set_id.clone() }),
        }
    }

    /// As [`Self::new`]; members may be alias targets ([`AliasTarget`]).
    ///
    /// # Errors
    /// The first thing found that forbids to publish it.
    pub fn with_aliases(mut document: RecordSet) -> Result<Self, InvalidRecordSet> {
        let name = DnsName::parse(&document.name).map_err(InvalidRecordSet::Name)?;
        let key = RecordKey::new(name, document.rtype);
        check_shape(&key, &document)?;
        document.name = key.name.as_str().to_owned();
        let mut choices = SmallVec::with_capacity(document.members.len());
        let mut weight_total = 0;
        let mut seen = BTreeSet::new();
        for member in &mut document.members {
            let data = check_member(&key, member)?;
            weight_total += u32::from(member.weight);
            choices.push(Choice { below: weight_total, data });
            for what in [format!("region {}", member.set_id), format!("value {}", member.value)] {
                if let Some(what) = seen.replace(what) {
                    return Err(InvalidRecordSet::Duplicate { key, what });
                }
            }
        }
        if weight_total == 0 {
            return Err(InvalidRecordSet::AllWeightsZero { key, members: document.members.len() });
        }
        let served = Served { ttl_seconds: document.ttl_seconds, weight_total, choices };
        Ok(Self { key, document, served })
    }

    /// Name and type.
    #[must_use]
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The set as it is written down, in its one spelling.
    #[must_use]
    pub const fn document(&self) -> &RecordSet {
        &self.document
    }

    /// The member that `draw` falls on: by weight, never one of weight 0.
    ///
    /// A uniform `draw` gives each member its weight's share of the answers; the bias of the multiplication
    /// is below 100 × 255 / 2³², six in a million.
    #[must_use]
    pub fn draw(&self, draw: u64) -> &Member {
        &self.document.members[self.draw_index(draw)]
    }

    /// None: an alias, of which only Route 53 knows the answers.
    pub(crate) fn draw_data(&self, draw: u64) -> Option<&RecordData> {
        self.served.choices[self.draw_index(draw)].data.as_ref()
    }

    /// The same set, answered with another time to live. Its document stays as it is.
    pub(crate) fn with_ttl(&self, ttl_seconds: u32) -> Self {
        let served = Served { ttl_seconds, ..self.served.clone() };
        Self { key: self.key.clone(), document: self.document.clone(), served }
    }

    /// What is answered.
    pub(crate) const fn ttl_seconds(&self) -> u32 {
        self.served.ttl_seconds
    }

    fn draw_index(&self, draw: u64) -> usize {
        let point = ((draw >> 32) * u64::from(self.served.weight_total)) >> 32;
        // point < weight_total, so that there is one; the first is a member in any case.
        let found = self.served.choices.iter().position(|choice| point < u64::from(choice.below));
        found.unwrap_or_default()
    }
}

impl PartialEq for ValidRecordSet {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document
    }
}

impl Eq for ValidRecordSet {}

impl TryFrom<RecordSet> for ValidRecordSet {
    type Error = InvalidRecordSet;

    fn try_from(document: RecordSet) -> Result<Self, Self::Error> {
        Self::new(document)
    }
}

impl From<ValidRecordSet> for RecordSet {
    fn from(set: ValidRecordSet) -> Self {
        set.document
    }
}

fn check_shape(key: &RecordKey, document: &RecordSet) -> Result<(), InvalidRecordSet> {
    let key = || key.clone();
    if key().name.labels().any(|label| label == GENERATION_LABEL) {
        return Err(InvalidRecordSet::Reserved { key: key() });
    }
    let members = document.members.len();
    if members == 0 {
        return Err(InvalidRecordSet::Empty { key: key() });
    }
    if members > MEMBERS_MAX {
        return Err(InvalidRecordSet::TooManyMembers { key: key(), members });
    }
    if document.ttl_seconds > TTL_SECONDS_MAX {
        return Err(InvalidRecordSet::Ttl { key: key(), ttl_seconds: document.ttl_seconds });
    }
    for (field, text) in [("owner", &document.owner), ("note", &document.note)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidRecordSet::Text { key: key(), field });
        }
    }
    Ok(())
}

fn check_member(key: &RecordKey, member: &mut Member) -> Result<Option<RecordData>, InvalidRecordSet> {
    if member.set_id.is_empty() || member.set_id.len() > TEXT_BYTES_MAX {
        return Err(InvalidRecordSet::Text { key: key.clone(), field: "set_id" });
    }
    if member.weight > WEIGHT_MAX {
        let set_id = member.set_id.clone();
        return Err(InvalidRecordSet::Weight { key: key.clone(), set_id, weight: member.weight });
    }
    let refuse = || InvalidRecordSet::Value {
        key: key.clone(),
        set_id: member.set_id.clone(),
        value: member.value.chars().take(TEXT_BYTES_MAX).collect(),
    };
    let alias = AliasTarget::parse(&member.value).filter(|_| key.rtype != RecordType::Cname);
    if let Some(alias) = alias {
        if alias.name == key.name {
            return Err(refuse());
        }
        member.value = alias.to_string();
        return Ok(None);
    }
    let (data, spelled) = match key.rtype {
        RecordType::A => {
            let address: Ipv4Addr = member.value.parse().map_err(|_| refuse())?;
            (RecordData::A(address), address.to_string())
        }
        RecordType::Aaaa => {
            let address: Ipv6Addr = member.value.parse().map_err(|_| refuse())?;
            (RecordData::Aaaa(address), address.to_string())
        }
        RecordType::Cname => {
            let target = DnsName::parse(&member.value).map_err(|_| refuse())?;
            if target == key.name {
                return Err(refuse());
            }
            let spelled = target.as_str().to_owned();
            (RecordData::Cname(target), spelled)
        }
    };
    member.value = spelled;
    Ok(Some(data))
}
