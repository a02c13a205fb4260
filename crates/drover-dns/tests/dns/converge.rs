//! Whatever reaches whom, and in whatever order they ask each other: in the end all serve the same, and of each record set the last
//! that was published by a leader in command.

use std::collections::{BTreeMap, BTreeSet};

use drover_dns::publish::{Batch, Change, Offer, Publisher, Seal};
use drover_dns::zone::{RecordKey, RecordSet, RecordType};
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
    /// The leader before, which does not know that it was deposed, publishes one and reaches some.
    Deposed { set: usize, reached: [bool; INSTANCES] },
    /// The coordinator removes one, and reaches some.
    Remove { set: usize, reached: [bool; INSTANCES] },
    /// A peer of another store incarnation shows what it has.
    Elsewhere { who: usize },
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
        1 => (0..SETS, any::<[bool; INSTANCES]>()).prop_map(|(set, reached)| Event::Deposed { set, reached }),
        1 => (0..SETS, any::<[bool; INSTANCES]>()).prop_map(|(set, reached)| Event::Remove { set, reached }),
        1 => (0..INSTANCES).prop_map(|who| Event::Elsewhere { who }),
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
    batches: Vec<(Batch, Vec<Seal>)>,
    counter: u64,
    since: u64,
    generation: u64,
    /// With which the epoch before began.
    before: Option<u64>,
    /// What a deposed leader published as well: which of the two stays depends on who hears of which leader first.
    disputed: BTreeSet<usize>,
}

/// What is shown of a record set: when it was signed, with which the epoch began, and the content.
type Shown = ((u64, u64), u64, Option<RecordSet>);

impl World {
    fn new() -> Self {
        let key = Key::new();
        let directories: Vec<_> = (0..INSTANCES).map(|_| tempfile::tempdir().unwrap()).collect();
        let instances = directories.iter().map(|directory| Some(publisher(directory, &key))).collect();
        Self {
            key,
            directories,
            instances,
            batches: vec![],
            counter: 1,
            since: 2,
            generation: 1,
            before: None,
            disputed: BTreeSet::new(),
        }
    }

    fn at(&self, instance: usize) -> &Publisher {
        self.instances[instance].as_ref().unwrap()
    }

    fn deliver(&self, number: usize, at: usize) {
        let (batch, seals) = self.batches[number].clone();
        let snapshot = self.at(at).snapshot();
        // As the provider moves expectations back for whoever is behind.
        let changes = batch.changes.iter().map(|change| {
            let live = snapshot.get(&change.key().unwrap()).map(|live| live.document().generation);
            match change.clone() {
                Change::Put { record_set, .. } => put(live, record_set),
                Change::Delete { name, rtype, .. } => {
                    Change::Delete { expected_generation: live.unwrap_or_default(), name, rtype }
                }
            }
        });
        let moved = Batch { changes: changes.collect(), ..batch };
        // Refused or not: what is held afterwards is what counts.
        drop(self.at(at).publish_sealed(&moved, seals));
    }

    /// Signed as of the next generation, by the leader of this epoch.
    fn publish(&mut self, counter: u64, since: u64, changes: Vec<Change>, reached: [bool; INSTANCES]) {
        let batch = batch(counter, changes);
        let seals = self.key.seal(&batch, since, self.generation);
        self.batches.push((batch, seals));
        for at in (0..INSTANCES).filter(|at| reached[*at]) {
            self.deliver(self.batches.len() - 1, at);
        }
    }

    fn put(&self, set: usize) -> Change {
        put(None, self::set(&name_of(set), RecordType::A, self.generation, &[("eu-west", "192.0.2.1", 1)]))
    }

    fn shown(&self, instance: usize) -> BTreeMap<RecordKey, Shown> {
        let page = everything(self.at(instance));
        let shown = |offer: &Offer| {
            let seal = &page.seals[offer.seal];
            (offer.key.clone(), ((seal.epoch.counter, seal.generation), seal.since, offer.record_set.clone()))
        };
        page.offers.iter().map(shown).collect()
    }

    fn ask(&self, who: usize, whom: usize) {
        let (before, serial) = (self.shown(who), self.at(who).fence().generation);
        let page = everything(self.at(whom));
        let taken = self.at(who).take_from_peer("peer", &page).unwrap();
        assert!(self.at(who).fence().generation >= serial, "{taken:?}");
        let after = self.shown(who);
        // By whom it knew before, or by whom it has just heard of: a leader between may have deposed what its successor would not.
        let known = before.values().map(|((counter, _), since, _)| (*counter, *since));
        let heard = page.seals.iter().map(|seal| (seal.epoch.counter, seal.since));
        let leaders: BTreeSet<_> = known.chain(heard).collect();
        for (key, (rank, since, content)) in before {
            let is_deposed = leaders.iter().any(|leader| was_deposed(rank, *leader));
            assert!(is_deposed || after[&key].0 >= rank, "{key} went backwards from {since} {content:?}");
        }
    }

    fn elsewhere(&self, who: usize) {
        if self.at(who).peer_state().unwrap().highest_epoch.is_none() {
            return;
        }
        let mut other = batch(self.counter + 1, vec![self.put(0)]);
        other.epoch.incarnation += 1;
        let seals = self.key.seal(&other, 1, self.generation + 50);
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = publisher(&directory, &self.key);
        elsewhere.publish_sealed(&other, seals).unwrap();
        let taken = self.at(who).take_from_peer("peer", &everything(&elsewhere)).unwrap();
        assert_eq!((taken.taken, taken.refused.len()), (0, 1));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish { sets, reached } => {
                self.generation += 1;
                let changes = sets.iter().map(|set| self.put(*set)).collect();
                self.publish(self.counter, self.since, changes, reached);
            }
            Event::Remove { set, reached } => {
                self.generation += 1;
                let gone =
                    Change::Delete { expected_generation: 1, name: name_of(set), rtype: RecordType::A };
                self.publish(self.counter, self.since, vec![gone], reached);
            }
            Event::Deposed { set, reached } => {
                let Some(since) = self.before else { return };
                self.generation += 1;
                self.disputed.insert(set);
                let changes = vec![self.put(set)];
                self.publish(self.counter - 1, since, changes, reached);
            }
            Event::Takeover => {
                self.before = Some(self.since);
                self.counter += 1;
                self.since = self.generation + 1;
            }
            Event::Elsewhere { who } => self.elsewhere(who),
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

/// The latest epoch that somebody has something of, and with which generation it began.
fn head<'a>(shown: impl Iterator<Item = &'a Shown>) -> Option<(u64, u64)> {
    shown.max_by_key(|(rank, ..)| *rank).map(|((counter, _), since, _)| (*counter, *since))
}

fn was_deposed((counter, generation): (u64, u64), (latest, since): (u64, u64)) -> bool {
    counter < latest && generation >= since
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn all_come_to_serve_the_last_that_was_published(events in prop::collection::vec(event(), 1..30)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        let all: Vec<_> = (0..INSTANCES).map(|instance| world.shown(instance)).collect();
        let deposes = head(all.iter().flat_map(BTreeMap::values));
        for _ in 0..3 {
            for who in 0..INSTANCES {
                (0..INSTANCES).for_each(|whom| world.ask(who, whom));
            }
        }
        for set in (0..SETS).filter(|set| !world.disputed.contains(set)) {
            let key = key_of(set);
            // What was signed late by who had been deposed is handed on by nobody who knows, and stays where there is nothing else.
            let stands = all.iter().filter_map(|shown| shown.get(&key));
            let stands = stands.filter(|(rank, ..)| deposes.is_some_and(|deposes| !was_deposed(*rank, deposes)));
            let Some(last) = stands.max_by_key(|(rank, ..)| *rank) else { continue };
            for instance in 0..INSTANCES {
                let shown = world.shown(instance);
                prop_assert_eq!(shown.get(&key), Some(last));
                let snapshot = world.at(instance).snapshot();
                prop_assert_eq!(snapshot.get(&key).map(|set| set.document()), last.2.as_ref());
            }
        }
        let is_contested = (0..INSTANCES).any(|instance| world.at(instance).contested() > 0);
        for instance in 0..INSTANCES {
            let (one, first) = (world.at(instance).peer_state().unwrap(), world.at(0).peer_state().unwrap());
            prop_assert!(is_contested || one.buckets == first.buckets, "{one:?} {first:?}");
            let is_disputed = !world.disputed.is_empty();
            prop_assert!(is_disputed || one.generation == first.generation, "{one:?} {first:?}: the serial");
        }
    }
}
