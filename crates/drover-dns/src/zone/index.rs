//! Where a name's node is: one row of a table, which many look-ups can wait for together.

use std::hash::BuildHasher;
use std::sync::Arc;

// Seeded anew for each table. Who asks for names can't choose which are in the table, so it need not be a hash that resists that.
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::snapshot::Node;

/// A name as it stands on the wire, folded to lower case. Most lie in one cache line, in a table's row as well as in a question.
pub type WireName = SmallVec<[u8; 40]>;

/// Names with their nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    rows: HashTable<Row>,
    hasher: RandomState,
}

type Row = (WireName, Arc<Node>);

/// A name's hash, in one index alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameHash(u64);

impl Index {
    pub(super) fn hash(&self, name: &[u8]) -> NameHash {
        NameHash(self.hasher.hash_one(name))
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Node>> {
        self.get_hashed(self.hash(name), name)
    }

    pub(super) fn get_hashed(&self, hash: NameHash, name: &[u8]) -> Option<&Arc<Node>> {
        self.rows.find(hash.0, |row| row.0.as_slice() == name).map(|row| &row.1)
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Arc<Node>> {
        let hash = self.hash(name);
        self.rows.find_mut(hash.0, |row| row.0.as_slice() == name).map(|row| &mut row.1)
    }

    /// The name's node, which comes into being where there is none.
    pub(super) fn get_or_add(&mut self, name: &[u8]) -> &mut Arc<Node> {
        let (hash, hasher) = (self.hash(name), &self.hasher);
        let is_name = |row: &Row| row.0.as_slice() == name;
        let row_hash = |row: &Row| hasher.hash_one(row.0.as_slice());
        let added = || (WireName::from_slice(name), Arc::default());
        &mut self.rows.entry(hash.0, is_name, row_hash).or_insert_with(added).into_mut().1
    }

    /// Has the row fetched in which the name probably is. Nothing waits for it: whoever comes next to look at it does.
    pub(super) fn bring_near(&self, hash: NameHash) {
        std::hint::black_box(self.rows.find(hash.0, |row| {
            std::hint::black_box(row.0.is_empty());
            true
        }));
    }
}

impl PartialEq for Index {
    /// The same names with the same nodes; every table has its own hashes.
    fn eq(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.rows.iter().all(|(name, node)| other.get(name).is_some_and(|found| found == node))
    }
}

impl Eq for Index {}
