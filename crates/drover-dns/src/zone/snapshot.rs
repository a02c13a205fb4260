//! What the sockets answer from: one immutable value, swapped as a whole.
//!
//! Building one checks the zone as a whole (a CNAME stands alone, names lie inside the zone) and makes the
//! index: folded wire name → node. Names that only lie on the way to others are nodes without records ("empty
//! non-terminals"): they exist, so they must never answer NXDOMAIN.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

// Seeded anew for each table. Who asks for names can't choose which are in the table, so it need not be a hash that resists that.
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::publish::ShortTimes;

use super::{
    DnsName, GENERATION_LABEL, InvalidZone, RECORD_SETS_MAX, RecordKey, RecordType, ValidRecordSet,
    ZoneConfig,
};

/// A zone at one generation.
#[derive(Debug)]
pub struct Snapshot {
    zone: ZoneConfig,
    generation: u64,
    record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
    /// What is answered with another time to live than its own, for a while.
    shortened: ShortTimes,
    /// Shared with the snapshot before, but for what changed.
    nodes: HashMap<WireName, Arc<Node>, RandomState>,
}

/// A name as it stands on the wire, folded to lower case. Most lie in one cache line, in a table's row as well as in a question.
pub type WireName = SmallVec<[u8; 40]>;

/// With fewer everything is near.
const FAR_RECORD_SETS_MIN: usize = 2_000;

type SideBySide<T> = SmallVec<[T; 64]>;

/// What there is at one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) is_apex: bool,
    /// At most one of each type, in the order of [`RecordType::ALL`]; a CNAME alone.
    pub(crate) record_sets: SmallVec<[Arc<ValidRecordSet>; 2]>,
    /// The addresses of a name server inside the zone.
    pub(crate) glue: Vec<IpAddr>,
}

/// What a name means to the zone.
#[derive(Debug)]
pub(crate) enum Lookup<'a> {
    /// It exists.
    Node(&'a Node),
    /// It is the generation label below a name that exists.
    Generation(&'a Node),
    /// It is inside the zone and does not exist.
    NoSuchName,
    /// It is none of ours.
    OutOfZone,
}

/// Why record sets can't be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSnapshot {
    /// The zone itself.
    #[error("cannot build a snapshot")]
    Zone(#[source] InvalidZone),
    /// A name outside the zone.
    #[error("cannot publish {key}: it lies outside of the zone {origin}")]
    OutOfZone {
        /// Which set.
        key: RecordKey,
        /// The zone.
        origin: DnsName,
    },
    /// A CNAME at the apex, where the start of authority stands already.
    #[error("cannot publish {key}: a CNAME can't stand at the zone's apex")]
    CnameAtApex {
        /// Which set.
        key: RecordKey,
    },
    /// A CNAME beside other records.
    #[error("cannot publish {key}: a CNAME must stand alone, and {other} is there")]
    CnameBesideOthers {
        /// The CNAME.
        key: RecordKey,
        /// What stands beside it.
        other: RecordType,
    },
    /// A record set at a name server's name.
    #[error("cannot publish {key}: the name belongs to a name server of the zone")]
    NameServer {
        /// Which set.
        key: RecordKey,
    },
    /// The same name and type twice.
    #[error("cannot publish {key}: it is given twice")]
    Duplicate {
        /// Which set.
        key: RecordKey,
    },
    /// Too many.
    #[error("cannot publish {found} record sets, at most {RECORD_SETS_MAX}")]
    TooMany {
        /// How many.
        found: usize,
    },
}

impl Snapshot {
    /// Checks the whole and builds the index.
    ///
    /// # Errors
    /// The first thing found that forbids to serve it.
    pub fn new(
        zone: ZoneConfig,
        generation: u64,
        record_sets: impl IntoIterator<Item = Arc<ValidRecordSet>>,
    ) -> Result<Self, InvalidSnapshot> {
        zone.check().map_err(InvalidSnapshot::Zone)?;
        let (empty, shortened, nodes) = (BTreeMap::new(), ShortTimes::new(), HashMap::default());
        let mut snapshot = Self { zone, generation, record_sets: empty, shortened, nodes };
        snapshot.add_apex();
        for set in record_sets {
            snapshot.add(set)?;
        }
        Ok(snapshot)
    }

    /// The next snapshot, in which just these sets changed. Another content of sets that stay touches no rule of the whole,
    /// so that only their own nodes are made anew.
    ///
    /// # Errors
    /// The first thing found that forbids to serve it.
    pub(crate) fn changed<'a>(
        &self,
        generation: u64,
        record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
        changed: impl IntoIterator<Item = &'a RecordKey>,
    ) -> Result<Self, InvalidSnapshot> {
        let mut nodes = self.nodes.clone();
        for key in changed {
            let node = nodes.get_mut(key.name.wire().as_slice()).map(Arc::make_mut);
            let old = node.and_then(|node| node.record_sets.iter_mut().find(|set| set.key() == key));
            let (Some(old), Some(new)) = (old, record_sets.get(key)) else {
                let whole = Self::new(self.zone.clone(), generation, record_sets.into_values())?;
                return Ok(whole.shortened(self.shortened.clone()));
            };
            *old = served(new, &self.shortened);
        }
        Ok(Self {
            zone: self.zone.clone(),
            generation,
            record_sets,
            shortened: self.shortened.clone(),
            nodes,
        })
    }

    /// The same at the same generation, in which just these sets are answered with another time to live than their own.
    pub(crate) fn shortened(&self, shortened: ShortTimes) -> Self {
        let mut nodes = self.nodes.clone();
        for key in self.shortened.keys().chain(shortened.keys()) {
            let Some(set) = self.record_sets.get(key) else { continue };
            let node = nodes.get_mut(key.name.wire().as_slice()).map(Arc::make_mut);
            if let Some(old) = node.and_then(|node| node.record_sets.iter_mut().find(|set| set.key() == key))
            {
                *old = served(set, &shortened);
            }
        }
        Self {
            zone: self.zone.clone(),
            generation: self.generation,
            record_sets: self.record_sets.clone(),
            shortened,
            nodes,
        }
    }

    /// What is answered with another time to live than its own.
    pub(crate) const fn short_times(&self) -> &ShortTimes {
        &self.shortened
    }

    fn add_apex(&mut self) {
        Arc::make_mut(self.nodes.entry(index_key(&self.zone.origin)).or_default()).is_apex = true;
        for server in self.zone.name_servers.clone() {
            if self.zone.is_inside(&server.name) {
                self.node_with_path(&server.name).glue = server.addresses;
            }
        }
    }

    fn add(&mut self, set: Arc<ValidRecordSet>) -> Result<(), InvalidSnapshot> {
        let key = set.key().clone();
        if !self.zone.is_inside(&key.name) {
            return Err(InvalidSnapshot::OutOfZone { key, origin: self.zone.origin.clone() });
        }
        let node = self.node_with_path(&key.name);
        if !node.glue.is_empty() {
            return Err(InvalidSnapshot::NameServer { key });
        }
        if key.rtype == RecordType::Cname && node.is_apex {
            return Err(InvalidSnapshot::CnameAtApex { key });
        }
        if let Some(other) = node.record_sets.iter().map(|set| set.key().rtype).next() {
            if key.rtype == RecordType::Cname && other != RecordType::Cname {
                return Err(InvalidSnapshot::CnameBesideOthers { key, other });
            }
            if other == RecordType::Cname && key.rtype != other {
                let cname = RecordKey::new(key.name, other);
                return Err(InvalidSnapshot::CnameBesideOthers { key: cname, other: key.rtype });
            }
        }
        node.record_sets.push(Arc::clone(&set));
        node.record_sets.sort_by_key(|set| set.key().rtype);
        if self.record_sets.insert(key.clone(), set).is_some() {
            return Err(InvalidSnapshot::Duplicate { key });
        }
        if self.record_sets.len() > RECORD_SETS_MAX {
            return Err(InvalidSnapshot::TooMany { found: self.record_sets.len() });
        }
        Ok(())
    }

    /// The node of a name inside the zone; names between it and the apex come into being on the way.
    fn node_with_path(&mut self, name: &DnsName) -> &mut Node {
        let mut above = name.parent();
        while let Some(parent) = above.filter(|parent| self.zone.is_inside(parent)) {
            self.nodes.entry(index_key(&parent)).or_default();
            above = parent.parent();
        }
        Arc::make_mut(self.nodes.entry(index_key(name)).or_default())
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &ZoneConfig {
        &self.zone
    }

    /// The generation: raised by every change, and the start of authority's serial (its lower 32 bits).
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// All record sets, by name and type.
    #[must_use]
    pub const fn record_sets(&self) -> &BTreeMap<RecordKey, Arc<ValidRecordSet>> {
        &self.record_sets
    }

    /// One record set.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Arc<ValidRecordSet>> {
        self.record_sets.get(key)
    }

    /// Finds a name, given as it stands on the wire but folded to lower case.
    pub(crate) fn lookup(&self, folded: &[u8]) -> Lookup<'_> {
        if let Some(node) = self.nodes.get(folded) {
            return Lookup::Node(node);
        }
        if !self.is_inside_wire(folded) {
            return Lookup::OutOfZone;
        }
        match strip_generation_label(folded).and_then(|parent| self.nodes.get(parent)) {
            Some(node) if node.is_apex || !node.record_sets.is_empty() => Lookup::Generation(node),
            _ => Lookup::NoSuchName,
        }
    }

    /// Is it too large for the processor's own memory?
    pub(crate) fn is_far(&self) -> bool {
        self.record_sets.len() >= FAR_RECORD_SETS_MIN
    }

    /// Brings near what answers about these names will look at. Of a large zone all of it lies in memory that is far, each place known only from the
    /// one before. Names in turn wait for each of their places; names side by side wait together.
    pub(crate) fn bring_near(&self, names: &[WireName]) {
        let nodes: SideBySide<&Arc<Node>> = names.iter().filter_map(|name| self.nodes.get(name)).collect();
        let sets: SideBySide<&Arc<ValidRecordSet>> =
            nodes.iter().filter_map(|node| node.record_sets.first()).collect();
        let seen: SideBySide<u32> = sets.iter().map(|set| set.ttl_seconds()).collect();
        std::hint::black_box(seen);
    }

    /// Walks the labels, so that a suffix in the middle of a label is not taken for the zone.
    fn is_inside_wire(&self, folded: &[u8]) -> bool {
        let origin = self.zone.origin.wire().as_slice();
        let mut rest = folded;
        while rest.len() > origin.len() {
            let label = usize::from(rest[0]) + 1;
            rest = rest.get(label..).unwrap_or_default();
        }
        rest == origin
    }
}

/// As it is answered.
fn served(set: &Arc<ValidRecordSet>, shortened: &ShortTimes) -> Arc<ValidRecordSet> {
    match shortened.get(set.key()) {
        Some(ttl_seconds) if *ttl_seconds < set.ttl_seconds() => Arc::new(set.with_ttl(*ttl_seconds)),
        _ => Arc::clone(set),
    }
}

fn index_key(name: &DnsName) -> WireName {
    WireName::from_slice(name.wire().as_slice())
}

fn strip_generation_label(folded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = folded.split_first()?;
    if usize::from(*length) != GENERATION_LABEL.len() {
        return None;
    }
    rest.strip_prefix(GENERATION_LABEL.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Member, NameServer, RecordSet};
    use drover_model::Epoch;

    fn set(name: &str, rtype: RecordType, generation: u64) -> Arc<ValidRecordSet> {
        let value = if rtype == RecordType::A { "192.0.2.1" } else { "2001:db8::1" };
        let member = Member { set_id: "eu-west".into(), value: value.into(), weight: 1 };
        let document = RecordSet {
            name: name.into(),
            rtype,
            ttl_seconds: 30,
            members: vec![member],
            generation,
            epoch: Epoch { incarnation: 1, counter: 1 },
            owner: String::new(),
            note: String::new(),
        };
        Arc::new(ValidRecordSet::new(document).unwrap())
    }

    #[test]
    fn what_changed_leads_to_the_same_as_building_the_whole() {
        let server = |name: &str| NameServer {
            name: name.parse().unwrap(),
            addresses: vec!["192.0.2.53".parse().unwrap()],
        };
        let servers = vec![server("ns1.example.test"), server("ns2.example.test")];
        let zone = ZoneConfig::new("example.test".parse().unwrap(), servers).unwrap();
        let (one, two) = ("a.example.test", "b.deep.example.test");
        let mut snapshot = Snapshot::new(zone.clone(), 1, []).unwrap();
        // Created, changed one at a time and together, removed, and another type at a name that stays.
        for step in [
            vec![(one, RecordType::A, Some(1)), (two, RecordType::A, Some(1))],
            vec![(two, RecordType::Aaaa, Some(1))],
            vec![(one, RecordType::A, Some(2))],
            vec![(two, RecordType::A, Some(3)), (two, RecordType::Aaaa, Some(3))],
            vec![(two, RecordType::A, None), (one, RecordType::A, Some(4))],
            vec![(two, RecordType::Aaaa, None)],
        ] {
            let mut sets = snapshot.record_sets().clone();
            let mut keys = vec![];
            for (name, rtype, generation) in step {
                let key = RecordKey::new(name.parse().unwrap(), rtype);
                match generation {
                    Some(generation) => sets.insert(key.clone(), set(name, rtype, generation)),
                    None => sets.remove(&key),
                };
                keys.push(key);
            }
            let generation = snapshot.generation() + 1;
            let before = snapshot.nodes.clone();
            let next = snapshot.changed(generation, sets.clone(), &keys).unwrap();
            let whole = Snapshot::new(zone.clone(), generation, sets.into_values()).unwrap();
            assert_eq!((&next.record_sets, &next.nodes), (&whole.record_sets, &whole.nodes));
            assert_eq!(next.generation(), generation);
            assert_eq!(snapshot.nodes, before, "who still reads the earlier one sees no change");
            snapshot = next;
        }
        let name_server = RecordKey::new("ns1.example.test".parse().unwrap(), RecordType::A);
        let sets = BTreeMap::from([(name_server.clone(), set("ns1.example.test", RecordType::A, 1))]);
        let refused = snapshot.changed(9, sets, &[name_server]).unwrap_err();
        assert!(matches!(refused, InvalidSnapshot::NameServer { .. }), "{refused}");
    }
}
