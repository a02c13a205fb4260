//! What is served: names, record sets, the zone's apex, and the immutable snapshot that holds them all.

mod alias;
mod apex;
mod draws;
mod fixed;
mod geography;
mod index;
mod name;
mod record;
mod served;
mod snapshot;
mod valid;

pub use alias::AliasTarget;
pub use apex::{InvalidZone, NameServer, SoaTimers, ZoneConfig};
pub(crate) use draws::{Around, Chance, NETWORK_BITS_V4, NETWORK_BITS_V6, network};
pub use drover_model::config::{Answering, Answers, Draws};
pub(crate) use fixed::Data;
pub use fixed::in_zone_file;
pub(crate) use geography::{Geography, NotAllowed};
pub(crate) use index::NameHash;
pub use index::WireName;
pub use name::{DnsName, InvalidName};
pub use record::{Member, NoService, RecordKey, RecordSet, RecordType};
pub(crate) use served::{Drawn, Served};
pub use snapshot::{InvalidSnapshot, Snapshot};
pub(crate) use snapshot::{Lookup, Node, Placed};
pub use valid::{InvalidRecordSet, ValidRecordSet};

/// The largest weight of a member: Route 53's bound, so that every provider can hold the same sets.
pub const WEIGHT_MAX: u16 = 255;

/// The most members of one record set: Route 53's bound on weighted records of one name and type.
pub const MEMBERS_MAX: usize = 100;

/// The most lines of a geography: a network each, and two.
pub const GEOGRAPHY_LINES_MAX: usize = 2_002;

/// The longest time to live of a record: one day. More would make a drain meaningless.
pub const TTL_SECONDS_MAX: u32 = 24 * 60 * 60;

/// The most record sets of one zone.
pub const RECORD_SETS_MAX: usize = 100_000;

/// The longest time for which a resolver may keep "no such name": a name that appears must soon be seen.
pub const NEGATIVE_TTL_SECONDS_MAX: u32 = 30;

/// The label under which the generation of what is served can be asked for, as TXT.
pub const GENERATION_LABEL: &str = "_generation";
