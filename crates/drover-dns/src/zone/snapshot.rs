//! What the sockets answer from: one immutable value, swapped as a whole.
//!
//! Building one checks the zone as a whole (a CNAME stands alone, names lie inside the zone) and makes the
//! index: folded wire name → node. Names that only lie on the way to others are nodes without records ("empty
//! non-terminals"): they exist, so they must never answer NXDOMAIN.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::publish::ShortTimes;

use super::index::{Index, NameHash};
use super::{
    Around, DnsName, GENERATION_LABEL, Geography, InvalidZone, RECORD_SETS_MAX, RecordKey, RecordType,
    Served, ValidRecordSet, ZoneConfig,
};

/// A zone at one generation.
#[derive(Debug)]
pub struct Snapshot {
    zone: ZoneConfig,
    generation: u64,
    record_sets: BTreeMap<RecordKey, Arc<ValidRecordSet>>,
    /// Where clients are.
    geography: Arc<Geography>,
    /// What is answered with another time to live than its own, for a while.
    shortened: ShortTimes,
    /// Shared with the snapshot before, but for what changed.
    nodes: Index,
}

/// What there is at one name, from the start of a cache line on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Node {
    /// At most one of each type, in the order of [`RecordType::ALL`]; a CNAME alone.
    pub(crate) record_sets: SmallVec<[Placed; 2]>,
    pub(crate) is_apex: bool,
    /// The addresses of a name server inside the zone.
    pub(crate) glue: Vec<IpAddr>,
}

impl Node {
    /// Has what an answer looks at fetched from memory.
    pub(crate) fn bring_near(&self) {
        std::hint::black_box((self.is_apex, self.record_sets.first().map(|placed| placed.served.draw(0))));
    }
}

/// A record set at its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// All that an ordinary answer looks at: here, and not behind the pointer, which with many names leads out of every cache.
    pub(crate) served: Served,
    pub(crate) set: Arc<ValidRecordSet>,
}

impl Placed {
    fn new(set: &Arc<ValidRecordSet>, shortened: &ShortTimes) -> Self {
        let served = set.served();
        let ttl_seconds =
            shortened.get(set.key()).map_or(served.ttl_seconds(), |ttl| served.ttl_seconds().min(*ttl));
        Self { served: served.with_ttl(ttl_seconds), set: Arc::clone(set) }
    }
}

/// What a name means to the zone.
#[derive(Debug, Clone, Copy)]
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
    /// A geography that is not the whole zone's.
    #[error("cannot publish {key}: it is the zone's, at its own name")]
    GeographyBelow {
        /// Which set.
        key: RecordKey,
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
        let (empty, shortened, nodes) = (BTreeMap::new(), ShortTimes::new(), Index::default());
        let geography = Arc::default();
        let mut snapshot = Self { zone, generation, record_sets: empty, geography, shortened, nodes };
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
            let old =
                node.and_then(|node| node.record_sets.iter_mut().find(|placed| placed.set.key() == key));
            let (Some(old), Some(new)) = (old, record_sets.get(key)) else {
                let whole = Self::new(self.zone.clone(), generation, record_sets.into_values())?;
                return Ok(whole.shortened(self.shortened.clone()));
            };
            *old = Placed::new(new, &self.shortened);
        }
        Ok(Self {
            zone: self.zone.clone(),
            generation,
            record_sets,
            geography: Arc::clone(&self.geography),
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
            if let Some(old) =
                node.and_then(|node| node.record_sets.iter_mut().find(|placed| placed.set.key() == key))
            {
                *old = Placed::new(set, &shortened);
            }
        }
        Self {
            zone: self.zone.clone(),
            generation: self.generation,
            record_sets: self.record_sets.clone(),
            geography: Arc::clone(&self.geography),
            shortened,
            nodes,
        }
    }

    /// What is answered with another time to live than its own.
    pub(crate) const fn short_times(&self) -> &ShortTimes {
        &self.shortened
    }

    fn add_apex(&mut self) {
        Arc::make_mut(self.nodes.get_or_add(self.zone.origin.wire().as_slice())).is_apex = true;
        for server in self.zone.name_servers.clone() {
            if self.zone.is_inside(&server.name) {
                self.node_with_path(&server.name).glue = server.addresses;
            }
        }
    }

    fn add(&mut self, set: Arc<ValidRecordSet>) -> Result<(), InvalidSnapshot> {
        let key = set.key().clone();
        if self.record_sets.contains_key(&key) {
            return Err(InvalidSnapshot::Duplicate { key });
        }
        if self.record_sets.len() >= RECORD_SETS_MAX {
            return Err(InvalidSnapshot::TooMany { found: self.record_sets.len() + 1 });
        }
        if !self.zone.is_inside(&key.name) {
            return Err(InvalidSnapshot::OutOfZone { key, origin: self.zone.origin.clone() });
        }
        if key.rtype == RecordType::Geography {
            if key.name != self.zone.origin {
                return Err(InvalidSnapshot::GeographyBelow { key });
            }
            // No name has it: it is not answered.
            self.geography = Arc::new(Geography::new(set.document()));
            self.record_sets.insert(key, set);
            return Ok(());
        }
        let node = self.node_with_path(&key.name);
        if !node.glue.is_empty() {
            return Err(InvalidSnapshot::NameServer { key });
        }
        if key.rtype == RecordType::Cname && node.is_apex {
            return Err(InvalidSnapshot::CnameAtApex { key });
        }
        if let Some(other) = node.record_sets.first().map(|placed| placed.served.rtype()) {
            if key.rtype == RecordType::Cname && other != RecordType::Cname {
                return Err(InvalidSnapshot::CnameBesideOthers { key, other });
            }
            if other == RecordType::Cname && key.rtype != other {
                let cname = RecordKey::new(key.name, other);
                return Err(InvalidSnapshot::CnameBesideOthers { key: cname, other: key.rtype });
            }
        }
        node.record_sets.push(Placed::new(&set, &ShortTimes::new()));
        node.record_sets.sort_by_key(|placed| placed.served.rtype());
        self.record_sets.insert(key, set);
        Ok(())
    }

    /// The node of a name inside the zone; names between it and the apex come into being on the way.
    fn node_with_path(&mut self, name: &DnsName) -> &mut Node {
        let mut above = name.parent();
        while let Some(parent) = above.filter(|parent| self.zone.is_inside(parent)) {
            self.nodes.get_or_add(parent.wire().as_slice());
            above = parent.parent();
        }
        Arc::make_mut(self.nodes.get_or_add(name.wire().as_slice()))
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

    /// What there is of the zone around its record sets.
    pub(crate) fn around(&self) -> Around<'_> {
        Around { origin: &self.zone.origin, geography: &self.geography }
    }

    /// One record set.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Arc<ValidRecordSet>> {
        self.record_sets.get(key)
    }

    /// Finds a name, given as it stands on the wire but folded to lower case.
    pub(crate) fn lookup(&self, folded: &[u8]) -> Lookup<'_> {
        self.lookup_hashed(self.hash(folded), folded)
    }

    /// The first part of a look-up.
    pub(crate) fn hash(&self, folded: &[u8]) -> NameHash {
        self.nodes.hash(folded)
    }

    /// To be called for many names between the first part and the second.
    pub(crate) fn bring_near(&self, hash: NameHash) {
        self.nodes.bring_near(hash);
    }

    /// The second part.
    pub(crate) fn lookup_hashed(&self, hash: NameHash, folded: &[u8]) -> Lookup<'_> {
        if let Some(node) = self.nodes.get_hashed(hash, folded) {
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
    use crate::zone::{Answering, Member, NameServer, RecordSet};
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
            answering: Answering::USUAL,
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
