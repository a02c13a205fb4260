//! Whatever reaches whom, and in whatever order they ask each other: in the end all serve the same, and of each record set the last
//! that was published.

use std::collections::BTreeMap;

use drover_dns::publish::{Batch, Publisher, Seal};
use drover_dns::zone::{RecordKey, RecordType};
use proptest::prelude::*;

use crate::common::{batch, key, put, set};
use crate::peers::{Key, everything, publisher};

const INSTANCES: usize = 3;
const SETS: usize = 4;

#[derive(Debug, Clone)]
enum Event {
    /// The coordinator publishes these, and reaches some.
    Publish { sets: Vec<usize>, reached: [bool; INSTANCES] },
    /// Another leads from now on.
    Takeover,
    /// A batch that was published arrives once more, or late.
    Late { batch: prop::sample::Index, at: usize },
    /// One asks another.
    Ask { who: usize, whom: usize },
    /// One starts anew.
    Restart { who: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let sets = prop::collection::btree_set(0..SETS, 1..=SETS).prop_map(|sets| sets.into_iter().collect());
    prop_oneof![
        4 => (sets, any::<[bool; INSTANCES]>()).prop_map(|(sets, reached)| Event::Publish { sets, reached }),
        1 => Just(Event::Takeover),
        2 => (any::<prop::sample::Index>(), 0..INSTANCES).prop_map(|(batch, at)| Event::Late { batch, at }),
        4 => (0..INSTANCES, 0..INSTANCES).prop_map(|(who, whom)| Event::Ask { who, whom }),
        1 => (0..INSTANCES).prop_map(|who| Event::Restart { who }),
    ]
}

fn name_of(set: usize) -> String {
    format!("s{set}.example.test")
}

fn key_of(set: usize) -> RecordKey {
    key(&name_of(set), RecordType::A)
}

struct World {
    key: Key,
    directories: Vec<tempfile::TempDir>,
    instances: Vec<Option<Publisher>>,
    batches: Vec<(Vec<usize>, u64, Batch, Vec<Seal>)>,
    counter: u64,
    since: u64,
    generation: u64,
    /// What somebody took, by record set.
    taken: BTreeMap<usize, u64>,
}

impl World {
    fn new() -> Self {
        let key = Key::new();
        let directories: Vec<_> = (0..INSTANCES).map(|_| tempfile::tempdir().unwrap()).collect();
        let instances = directories.iter().map(|directory| Some(publisher(directory, &key))).collect();
        let (batches, taken) = (vec![], BTreeMap::new());
        Self { key, directories, instances, batches, counter: 1, since: 2, generation: 1, taken }
    }

    fn at(&self, instance: usize) -> &Publisher {
        self.instances[instance].as_ref().unwrap()
    }

    fn deliver(&mut self, number: usize, at: usize) {
        let (sets, generation, batch, seals) = self.batches[number].clone();
        let snapshot = self.at(at).snapshot();
        // As the provider moves expectations back for whoever is behind.
        let changes = batch.changes.iter().map(|change| {
            let record_set = change.put().unwrap().clone();
            let live = snapshot.get(&record_set.key().unwrap()).map(|live| live.document().generation);
            put(live, record_set)
        });
        let moved = Batch { changes: changes.collect(), ..batch };
        if self.at(at).publish_sealed(&moved, seals).is_ok() {
            for set in sets {
                let last = self.taken.entry(set).or_default();
                *last = generation.max(*last);
            }
        }
    }

    fn ask(&self, who: usize, whom: usize) {
        let before = self.at(who).fence().generation;
        let serials = self.at(who).snapshot();
        let taken = self.at(who).take_from_peer("peer", &everything(self.at(whom))).unwrap();
        assert!(self.at(who).fence().generation >= before, "{taken:?}");
        for (key, old) in serials.record_sets() {
            let new = self.at(who).snapshot().get(key).unwrap().document().generation;
            assert!(new >= old.document().generation, "{key} went backwards");
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish { sets, reached } => {
                self.generation += 1;
                let region = [("eu-west", "192.0.2.1", 1)];
                let put = |set: &usize| {
                    put(None, self::set(&name_of(*set), RecordType::A, self.generation, &region))
                };
                let batch = batch(self.counter, sets.iter().map(put).collect());
                let seals = self.key.seal(&batch, self.since, self.generation);
                self.batches.push((sets, self.generation, batch, seals));
                for at in (0..INSTANCES).filter(|at| reached[*at]) {
                    self.deliver(self.batches.len() - 1, at);
                }
            }
            Event::Takeover => {
                self.counter += 1;
                self.since = self.generation + 1;
            }
            Event::Late { batch, at } if !self.batches.is_empty() => {
                self.deliver(batch.index(self.batches.len()), at)
            }
            Event::Late { .. } => {}
            Event::Ask { who, whom } => self.ask(who, whom),
            Event::Restart { who } => {
                self.instances[who] = None;
                self.instances[who] = Some(publisher(&self.directories[who], &self.key));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn all_come_to_serve_the_last_that_was_published(events in prop::collection::vec(event(), 1..30)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        for _ in 0..2 {
            for who in 0..INSTANCES {
                (0..INSTANCES).for_each(|whom| world.ask(who, whom));
            }
        }
        let first = world.at(0).peer_state();
        for instance in 0..INSTANCES {
            prop_assert_eq!(&world.at(instance).peer_state(), &first, "with the serial");
            let snapshot = world.at(instance).snapshot();
            let served: BTreeMap<usize, u64> = (0..SETS)
                .filter_map(|set| Some((set, snapshot.get(&key_of(set))?.document().generation)))
                .collect();
            prop_assert_eq!(&served, &world.taken);
        }
    }
}
