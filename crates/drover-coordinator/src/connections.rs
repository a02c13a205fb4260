//! Which connections the API holds, and which of them it does without when there are too many.
//!
//! A client that connects and asks nothing, or takes a minute to say what it asks, costs a place that somebody who asks
//! needs. So when all places are taken the connection that has been without a request for the longest is closed, as web
//! servers do; only when every one of them is at work does the next one wait, in the kernel's backlog.

use drover_model::machine::MachineIdentity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    table: Mutex<Table>,
    /// One ended, or has nothing to do any more.
    room: Notify,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Open>,
    /// Of each machine that has proven who it is, its connections.
    of_machine: BTreeMap<MachineIdentity, BTreeSet<u64>>,
    /// Without a request: first those that have not proven who they are, then by how long already.
    idle: BTreeMap<Turn, u64>,
    next_id: u64,
    next_turn: u64,
}

/// Whether who is there has proven to be one who may ask, and when it came to rest.
type Turn = (bool, u64);

#[derive(Debug)]
struct Open {
    evicted: CancellationToken,
    is_proven: bool,
    machine: Option<MachineIdentity>,
    /// Its place among the idle ones.
    turn: Option<Turn>,
}

impl Table {
    fn rest(&mut self, id: u64) {
        self.next_turn += 1;
        if let Some(open) = self.open.get_mut(&id) {
            let turn = (open.is_proven, self.next_turn);
            open.turn = Some(turn);
            self.idle.insert(turn, id);
        }
    }

    fn work(&mut self, id: u64) {
        if let Some(turn) = self.open.get_mut(&id).and_then(|open| open.turn.take()) {
            self.idle.remove(&turn);
        }
    }

    fn remove(&mut self, id: u64) {
        self.work(id);
        let Some(machine) = self.open.remove(&id).and_then(|open| open.machine) else { return };
        if let Some(own) = self.of_machine.get_mut(&machine) {
            own.remove(&id);
            if own.is_empty() {
                self.of_machine.remove(&machine);
            }
        }
    }

    fn prove(&mut self, id: u64, machine: Option<&MachineIdentity>) {
        self.work(id);
        if let Some(open) = self.open.get_mut(&id) {
            open.is_proven = true;
            open.machine = machine.cloned();
        }
        if let Some(machine) = machine {
            self.of_machine.entry(machine.clone()).or_default().insert(id);
        }
        self.rest(id);
    }

    /// Room for one more of a machine's: where it has as many as it may, the one of them goes that has been idle for the longest.
    /// With all of them at work there is none.
    fn make_room_for(&mut self, machine: &MachineIdentity, most: usize) -> bool {
        let Some(own) = self.of_machine.get(machine) else { return most > 0 };
        // Those that were told to go are gone in a moment, and count no more.
        let stay = own.iter().filter_map(|id| self.open.get(id).map(|open| (*id, open)));
        let stay: Vec<(u64, &Open)> = stay.filter(|(_, open)| !open.evicted.is_cancelled()).collect();
        if stay.len() < most {
            return true;
        }
        let Some((turn, id)) = stay.iter().filter_map(|(id, open)| Some((open.turn?, *id))).min() else {
            return false;
        };
        self.idle.remove(&turn);
        if let Some(open) = self.open.get_mut(&id) {
            open.turn = None;
            open.evicted.cancel();
        }
        true
    }

    /// Closes the one that has been idle for the longest, of strangers where there are any. It keeps its place, as its descriptor, until it is closed.
    fn evict(&mut self) -> bool {
        let Some((_, id)) = self.idle.pop_first() else { return false };
        if let Some(open) = self.open.get_mut(&id) {
            open.turn = None;
            open.evicted.cancel();
        }
        true
    }
}

impl Connections {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default(), room: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, and whether another one had to go for it. Waits while all are at work.
    pub(crate) async fn admit(self: &Arc<Self>) -> (Place, bool) {
        let mut evicting = false;
        loop {
            let freed = self.room.notified();
            if let Some(place) = self.try_admit() {
                return (place, evicting);
            }
            evicting = evicting || self.table().evict();
            freed.await;
        }
    }

    fn try_admit(self: &Arc<Self>) -> Option<Place> {
        let mut table = self.table();
        if table.open.len() >= self.max {
            return None;
        }
        table.next_id += 1;
        let (id, evicted) = (table.next_id, CancellationToken::new());
        table.open.insert(id, Open { evicted: evicted.clone(), is_proven: false, machine: None, turn: None });
        table.rest(id);
        drop(table);
        Some(Place { connections: self.clone(), id, evicted })
    }

    /// Closes the connection that has been idle for the longest, for its descriptor.
    pub(crate) fn evict(&self) -> bool {
        self.table().evict()
    }
}

/// A machine has all the connections that one may have, and each is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) most: usize,
}

/// A connection's place. It is given back with this value.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
    /// Cancelled when somebody else needs it.
    pub(crate) evicted: CancellationToken,
}

impl Place {
    /// Whoever is there has shown a certificate: strangers are closed before it. `Err` where a machine has `most` connections
    /// already, all of them at work; then it is a stranger as before.
    pub(crate) fn prove(&self, machine: Option<&MachineIdentity>, most: usize) -> Result<(), TooMany> {
        let mut table = self.connections.table();
        if machine.is_some_and(|machine| !table.make_room_for(machine, most)) {
            return Err(TooMany { most });
        }
        table.prove(self.id, machine);
        Ok(())
    }

    /// A request is being answered for as long as the value lives. The connection is then nobody's to close.
    pub(crate) fn work(&self) -> Work {
        self.connections.table().work(self.id);
        Work { connections: self.connections.clone(), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
        self.connections.room.notify_one();
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Work {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.connections.table().rest(self.id);
        self.connections.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::GUARD;

    #[tokio::test]
    async fn the_one_that_asked_nothing_for_the_longest_goes_first() {
        let connections = Connections::new(3);
        let (first, _) = connections.admit().await;
        let (second, _) = connections.admit().await;
        let (third, evicting) = connections.admit().await;
        assert!(!evicting);
        // It asked later than the others came.
        drop(first.work());
        let fourth = next(&connections);
        tokio::time::timeout(GUARD, second.evicted.cancelled()).await.unwrap();
        assert!(!first.evicted.is_cancelled() && !third.evicted.is_cancelled());
        assert!(!fourth.is_finished(), "it still has a descriptor");
        drop(second);
        let (fourth, evicting) = tokio::time::timeout(GUARD, fourth).await.unwrap().unwrap();
        assert!(evicting);
        assert_eq!(connections.table().open.len(), 3);
        drop((first, third, fourth));
        let table = connections.table();
        assert!(table.open.is_empty() && table.idle.is_empty());
    }

    #[tokio::test]
    async fn strangers_go_before_whoever_has_shown_a_certificate() {
        let connections = Connections::new(2);
        let (agent, _) = connections.admit().await;
        agent.prove(None, 1).unwrap();
        let (stranger, _) = connections.admit().await;
        let another = next(&connections);
        tokio::time::timeout(GUARD, stranger.evicted.cancelled()).await.unwrap();
        assert!(!agent.evicted.is_cancelled(), "though it has been idle for longer");
        drop(stranger);
        drop(tokio::time::timeout(GUARD, another).await.unwrap().unwrap());
        drop(agent.work());
        assert!(connections.table().idle.keys().all(|(is_proven, _)| *is_proven), "it stays one");
    }

    #[tokio::test]
    async fn a_machine_has_so_many_connections_and_takes_no_place_from_others() {
        let connections = Connections::new(8);
        let agent: MachineIdentity = "drover://agent/eu-west/a-1".parse().unwrap();
        let mut own = Vec::new();
        for _ in 0..3 {
            let (place, _) = connections.admit().await;
            place.prove(Some(&agent), 3).unwrap();
            own.push(place);
        }
        let (other, _) = connections.admit().await;
        other.prove(Some(&"drover://client/ann".parse().unwrap()), 3).unwrap();
        // Of its own the one that has been idle for the longest goes.
        let work: Vec<Work> = own.iter().take(1).map(Place::work).collect();
        let (fourth, _) = connections.admit().await;
        fourth.prove(Some(&agent), 3).unwrap();
        let gone: Vec<bool> = own.iter().map(|place| place.evicted.is_cancelled()).collect();
        assert_eq!(gone, [false, true, false]);
        // With all at work there is no other.
        let more: Vec<Work> = [&own[2], &fourth].map(Place::work).into();
        let (fifth, _) = connections.admit().await;
        assert_eq!(fifth.prove(Some(&agent), 3), Err(TooMany { most: 3 }));
        assert!(!other.evicted.is_cancelled());
        drop((work, more, own, fourth, fifth));
        drop(other);
        assert!(connections.table().of_machine.is_empty());
    }

    #[tokio::test]
    async fn who_is_being_answered_is_not_interrupted_and_the_next_one_waits() {
        let connections = Connections::new(1);
        let (place, _) = connections.admit().await;
        let work = place.work();
        let waiting = next(&connections);
        // One thread and nothing to wait for: whoever can go on has gone on by then.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished() && !place.evicted.is_cancelled());
        drop(work);
        // It is idle now, and somebody waits.
        tokio::time::timeout(GUARD, place.evicted.cancelled()).await.unwrap();
        drop(place);
        assert!(tokio::time::timeout(GUARD, waiting).await.unwrap().unwrap().1);
    }

    fn next(connections: &Arc<Connections>) -> tokio::task::JoinHandle<(Place, bool)> {
        let connections = connections.clone();
        tokio::spawn(async move { connections.admit().await })
    }
}
