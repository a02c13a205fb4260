//! Record sets as they are written down and sent. Nothing here is checked yet: see
//! [`ValidRecordSet`](super::ValidRecordSet).

use std::fmt;

use domain::base::iana::Rtype;
use drover_model::Epoch;
use drover_model::config::{self, Answering, FixedType};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::DnsName;

/// Of those that are for private use (RFC 6895, 3.1): nobody is answered by it.
const NO_TYPE: Rtype = Rtype::from_int(65_280);

/// The types of record that drover publishes: of services, whose members have weights, and those that no traffic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name; never at the zone's apex, always alone at its name.
    Cname,
    /// Who may issue certificates.
    Caa,
    /// Who takes mail.
    Mx,
    /// Text.
    Txt,
    /// No record: where clients are, in lines that servers read and never answer. At the zone's name alone.
    Geography,
}

impl From<config::RecordType> for RecordType {
    fn from(of_service: config::RecordType) -> Self {
        match of_service {
            config::RecordType::A => Self::A,
            config::RecordType::Aaaa => Self::Aaaa,
            config::RecordType::Cname => Self::Cname,
        }
    }
}

/// No service has records of this type: no traffic moves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no service has {0} records")]
pub struct NoService(RecordType);

impl TryFrom<RecordType> for config::RecordType {
    type Error = NoService;

    fn try_from(rtype: RecordType) -> Result<Self, NoService> {
        let is_it = |of_service: &Self| RecordType::from(*of_service) == rtype;
        [Self::A, Self::Aaaa, Self::Cname].into_iter().find(is_it).ok_or(NoService(rtype))
    }
}

impl RecordType {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::A, Self::Aaaa, Self::Cname, Self::Caa, Self::Mx, Self::Txt, Self::Geography];

    /// Those of services.
    pub const OF_SERVICES: [Self; 3] = [Self::A, Self::Aaaa, Self::Cname];

    /// As the configuration has those that no traffic moves; none: it is a service's, or no record.
    #[must_use]
    pub const fn fixed(self) -> Option<FixedType> {
        match self {
            Self::A | Self::Aaaa | Self::Cname | Self::Geography => None,
            Self::Caa => Some(FixedType::Caa),
            Self::Mx => Some(FixedType::Mx),
            Self::Txt => Some(FixedType::Txt),
        }
    }

    /// The type's name in a zone file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Caa => "CAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Geography => "GEOGRAPHY",
        }
    }

    /// The type as messages have it.
    pub(crate) const fn on_the_wire(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Cname => Rtype::CNAME,
            Self::Caa => Rtype::CAA,
            Self::Mx => Rtype::MX,
            Self::Txt => Rtype::TXT,
            Self::Geography => NO_TYPE,
        }
    }

    /// Reads a type's name, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rtype| rtype.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<FixedType> for RecordType {
    fn from(fixed: FixedType) -> Self {
        match fixed {
            FixedType::Caa => Self::Caa,
            FixedType::Mx => Self::Mx,
            FixedType::Txt => Self::Txt,
        }
    }
}

/// What one record set is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordKey {
    /// The owner name.
    pub name: DnsName,
    /// The type.
    pub rtype: RecordType,
}

impl RecordKey {
    /// A key of its two parts.
    #[must_use]
    pub const fn new(name: DnsName, rtype: RecordType) -> Self {
        Self { name, rtype }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)
    }
}

/// One value of a record set and its share of the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What the member stands for: the region's name, one member per region; of what no traffic moves its number, such as `#1`.
    pub set_id: String,
    /// The address or the name, as text of the set's type.
    pub value: String,
    /// The share: this weight of the sum of all. 0 is never answered; at most 255.
    pub weight: u16,
}

/// A weighted record set, as written down and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSet {
    /// The owner name.
    pub name: String,
    /// The type of every member.
    pub rtype: RecordType,
    /// How long a resolver may keep an answer, in seconds.
    pub ttl_seconds: u32,
    /// The values with their weights.
    pub members: Vec<Member>,
    /// The set's version, raised by each change to it; chosen by the writer, checked by the receiver.
    pub generation: u64,
    /// Under whose command the set was written. The receiver stamps the batch's epoch here.
    pub epoch: Epoch,
    /// Who the set belongs to. Another owner's change is refused unless it says that it takes over.
    #[serde(default)]
    pub owner: String,
    /// Why it is as it is, for humans.
    #[serde(default)]
    pub note: String,
    /// With how many of the members it is answered, and whom with which.
    #[serde(default, skip_serializing_if = "Answering::is_usual")]
    pub answering: Answering,
}

impl RecordSet {
    /// Name and type; nothing where the name is none.
    #[must_use]
    pub fn key(&self) -> Option<RecordKey> {
        Some(RecordKey::new(self.name.parse().ok()?, self.rtype))
    }

    /// Do both ask for the same answers at the same version? The epoch and the note are left out: a successor
    /// that repeats its predecessor's write changes nothing.
    #[must_use]
    pub fn same_target(&self, other: &Self) -> bool {
        self.generation == other.generation && self.same_answers(other)
    }

    /// Do both lead to the same answers, whatever their versions?
    #[must_use]
    pub fn same_answers(&self, other: &Self) -> bool {
        self.name == other.name
            && self.rtype == other.rtype
            && self.ttl_seconds == other.ttl_seconds
            && self.owner == other.owner
            && self.answering == other.answering
            && self.same_members(other)
    }

    /// Whatever their order: it changes no answer.
    fn same_members(&self, other: &Self) -> bool {
        let sorted = |set: &Self| {
            let mut members: Vec<Member> = set.members.clone();
            members.sort_by(|a, b| a.set_id.cmp(&b.set_id));
            members
        };
        self.members == other.members
            || (self.members.len() == other.members.len() && sorted(self) == sorted(other))
    }
}
