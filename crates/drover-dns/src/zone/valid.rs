//! The checked record set: a value of this type can be published.
//!
//! Last line of I4: empty and all-zero sets have no value of this type, so no code path can serve one.

use std::collections::BTreeSet;

use drover_model::config::{FixedType, Steering};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::fixed;
use super::served::{Served, Share, Values, point};
use super::{
    AliasTarget, Answers, DnsName, Draws, GENERATION_LABEL, GEOGRAPHY_LINES_MAX, InvalidName, MEMBERS_MAX,
    Member, RecordKey, RecordSet, RecordType, TTL_SECONDS_MAX, WEIGHT_MAX,
};

/// The longest owner, note and set id, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// A record set that may be published: at least one member with weight, all of one type, none twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "RecordSet", into = "RecordSet")]
pub struct ValidRecordSet {
    key: RecordKey,
    document: RecordSet,
    served: Served,
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
    /// A name has one alias at most, and what no traffic moves is answered whole.
    #[error("cannot publish {key}: `answers: {answers}`, and of its type it must be {wanted}")]
    Answers {
        /// Which set.
        key: RecordKey,
        /// How many are asked for.
        answers: Answers,
        /// How many must be.
        wanted: Answers,
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
        let is_alias = |member: &&Member| AliasTarget::of(set.key.rtype, &member.value).is_some();
        match set.document.members.iter().find(is_alias) {
            None => Ok(set),
            Some(alias) => Err(InvalidRecordSet::Alias { set_id: alias.set_id.clone(), key: set.key }),
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
        let (values, weight_total) = values(&key, &mut document.members)?;
        check_differ(&key, &document.members)?;
        if weight_total == 0 {
            return Err(InvalidRecordSet::AllWeightsZero { key, members: document.members.len() });
        }
        let served = Served::new(&document, weight_total, values);
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
    #[must_use]
    pub fn draw(&self, draw: u64) -> &Member {
        let members = &self.document.members;
        let total = members.iter().map(|member| u32::from(member.weight)).sum();
        let point = point(draw, total);
        let mut below = 0;
        let found = members.iter().find(|member| {
            below += u32::from(member.weight);
            point < below
        });
        // The point is below the total, so that there is one; the first is a member in any case.
        found.unwrap_or(&members[0])
    }

    /// What an answer needs of it.
    pub(crate) const fn served(&self) -> &Served {
        &self.served
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
    let most = if key().rtype == RecordType::Geography { GEOGRAPHY_LINES_MAX } else { MEMBERS_MAX };
    if members > most {
        return Err(InvalidRecordSet::TooManyMembers { key: key(), members });
    }
    if document.ttl_seconds > TTL_SECONDS_MAX {
        return Err(InvalidRecordSet::Ttl { key: key(), ttl_seconds: document.ttl_seconds });
    }
    let answers = document.answering.answers;
    let wanted = match key().rtype {
        RecordType::Cname => Some(Answers::One),
        RecordType::Caa | RecordType::Mx | RecordType::Txt | RecordType::Geography => Some(Answers::All),
        // The others would not be near.
        RecordType::A | RecordType::Aaaa if document.answering.draws == Draws::Nearest => Some(Answers::One),
        RecordType::A | RecordType::Aaaa => None,
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != answers) {
        return Err(InvalidRecordSet::Answers { key: key(), answers, wanted });
    }
    for (field, text) in [("owner", &document.owner), ("note", &document.note)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidRecordSet::Text { key: key(), field });
        }
    }
    Ok(())
}

/// The values in their one spelling, and the sum of the weights.
fn values(key: &RecordKey, members: &mut [Member]) -> Result<(Values, u32), InvalidRecordSet> {
    if key.rtype == RecordType::Geography {
        return steering_lines(key, members);
    }
    if let Some(rtype) = key.rtype.fixed() {
        return fixed_values(key, rtype, members);
    }
    Ok(match key.rtype {
        RecordType::A => {
            let (shares, total) = shares(key, members, |text| spelled(text.parse().ok()?))?;
            (shares.map_or(Values::Elsewhere, Values::A), total)
        }
        RecordType::Aaaa => {
            let (shares, total) = shares(key, members, |text| spelled(text.parse().ok()?))?;
            (shares.map_or(Values::Elsewhere, Values::Aaaa), total)
        }
        RecordType::Cname | RecordType::Caa | RecordType::Mx | RecordType::Txt | RecordType::Geography => {
            let target = |text: &str| DnsName::parse(text).ok().filter(|target| *target != key.name);
            let (shares, total) = shares(key, members, |text| spelled(target(text)?))?;
            (shares.map_or(Values::Elsewhere, Values::Cname), total)
        }
    })
}

/// Of a geography, whose lines answer nobody.
fn steering_lines(key: &RecordKey, members: &mut [Member]) -> Result<(Values, u32), InvalidRecordSet> {
    for member in &mut *members {
        check_member(key, member)?;
        let line = serde_json::from_str(&member.value).ok();
        let spelled = line.and_then(|line: Steering| serde_json::to_string(&line).ok());
        match spelled {
            Some(spelled) => member.value = spelled,
            None => return Err(no_value(key, member)),
        }
    }
    Ok((Values::Elsewhere, members.iter().map(|member| u32::from(member.weight)).sum()))
}

/// Of what no traffic moves.
fn fixed_values(
    key: &RecordKey,
    rtype: FixedType,
    members: &mut [Member],
) -> Result<(Values, u32), InvalidRecordSet> {
    let mut values = Vec::with_capacity(members.len());
    for member in &mut *members {
        check_member(key, member)?;
        let Some((value, spelling)) = fixed::data(rtype, &member.value) else {
            return Err(no_value(key, member));
        };
        member.value = spelling;
        values.push(value);
    }
    Ok((Values::Fixed(values.into()), members.iter().map(|member| u32::from(member.weight)).sum()))
}

fn spelled<T: ToString>(value: T) -> Option<(T, String)> {
    let spelling = value.to_string();
    Some((value, spelling))
}

/// None in the place of the shares: one is an alias.
type Shares<T, const N: usize> = (Option<SmallVec<[Share<T>; N]>>, u32);

fn shares<T, const N: usize>(
    key: &RecordKey,
    members: &mut [Member],
    read: impl Fn(&str) -> Option<(T, String)>,
) -> Result<Shares<T, N>, InvalidRecordSet>
where
    [Share<T>; N]: smallvec::Array<Item = Share<T>>,
{
    let mut shares = Some(SmallVec::with_capacity(members.len()));
    let mut total = 0;
    for member in members {
        check_member(key, member)?;
        total += member.weight;
        if let Some(alias) = alias(key, member) {
            member.value = alias.to_string();
            shares = None;
            continue;
        }
        let Some((value, spelling)) = read(&member.value) else { return Err(no_value(key, member)) };
        member.value = spelling;
        if let Some(shares) = &mut shares {
            shares.push(Share { below: total, value });
        }
    }
    Ok((shares, u32::from(total)))
}

/// The alias target that this member is. One of the name itself is none.
fn alias(key: &RecordKey, member: &Member) -> Option<AliasTarget> {
    AliasTarget::of(key.rtype, &member.value).filter(|alias| alias.name != key.name)
}

fn check_member(key: &RecordKey, member: &Member) -> Result<(), InvalidRecordSet> {
    if member.set_id.is_empty() || member.set_id.len() > TEXT_BYTES_MAX {
        return Err(InvalidRecordSet::Text { key: key.clone(), field: "set_id" });
    }
    if member.weight > WEIGHT_MAX {
        let set_id = member.set_id.clone();
        return Err(InvalidRecordSet::Weight { key: key.clone(), set_id, weight: member.weight });
    }
    Ok(())
}

fn no_value(key: &RecordKey, member: &Member) -> InvalidRecordSet {
    InvalidRecordSet::Value {
        key: key.clone(),
        set_id: member.set_id.clone(),
        value: member.value.chars().take(TEXT_BYTES_MAX).collect(),
    }
}

/// No two members of one region, or of one value.
fn check_differ(key: &RecordKey, members: &[Member]) -> Result<(), InvalidRecordSet> {
    let (mut regions, mut values) = (BTreeSet::new(), BTreeSet::new());
    for member in members {
        let twice = if !regions.insert(&member.set_id) {
            Some(format!("region {}", member.set_id))
        } else if !values.insert(&member.value) {
            Some(format!("value {}", member.value))
        } else {
            None
        };
        if let Some(what) = twice {
            return Err(InvalidRecordSet::Duplicate { key: key.clone(), what });
        }
    }
    Ok(())
}

// The bounds of the shares are u16.
const _: () = assert!(MEMBERS_MAX * WEIGHT_MAX as usize <= u16::MAX as usize);
