//! The world of the model: one store record, three agents with their databases and gates, a leader, and a network that
//! keeps whatever was sent. The state machines in it are those that ship.

use super::bounds::{Bounds, Left, Rates};
use crate::write_right::keeper::{Keeper, KeeperEffect, KeeperEvent};
use crate::write_right::renewal::renew_by;
use crate::write_right::transfer::{Intent, Revision, Sighting, Swap, Transfer};
use crate::write_right::transfer::{TransferEffect, TransferEvent};
use crate::write_right::{Gate, MayWrite};
use drover_model::write_right::{
    Ask, BootTime, Incarnation, Members, PeerAnswer, Renew, Renewed, RightState, Seal, Sealed,
    WriteGeneration, WriteRight,
};
use drover_model::{AgentId, Epoch, Generation, PlanId, Span};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The holder at the beginning, and the two that could take over.
pub const NAMES: [&str; 3] = ["p", "s", "t"];
pub const INCARNATION: Incarnation = Incarnation(1);
/// Where clocks stand when a run begins: what was promised at the start of each agent is over.
const BEGINNING_MS: u64 = 100;

/// What is on its way. It stays after it was delivered, and may never be: so it is lost, late, doubled and overtaken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Renew(Renew),
    Renewed(usize, Renewed),
    Ask(usize, Ask),
    Answer(usize, PeerAnswer),
    Seal(usize, Seal),
    Sealed(Sealed),
}

/// A database that was made writable, behind its gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    pub generation: WriteGeneration,
    pub gate: Gate,
}

/// One agent's machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub keeper: Keeper,
    /// What survives a crash.
    pub disk: Seal,
    /// On its way to the disk.
    pub persist: Option<Seal>,
    /// The database was told to stop, and has not stopped.
    pub stopping: bool,
    pub database: Option<Database>,
    pub paused: bool,
    pub session: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub tick: u64,
    pub rates: Rates,
    pub record: Arc<WriteRight>,
    pub revision: Revision,
    pub leader: Epoch,
    pub nodes: [Arc<Node>; 3],
    /// What the leader saw last.
    pub seen: (Arc<WriteRight>, Sighting),
    pub transfer: Option<Arc<Transfer>>,
    /// The leader's transaction, on its way to the store; and one of the leader before.
    pub swap: Option<Arc<Swap>>,
    pub zombie: Option<Arc<Swap>>,
    pub net: BTreeSet<Arc<Message>>,
    /// Who has written at each generation.
    pub writers: [Option<usize>; 8],
    pub two_writers: bool,
    pub older_write: bool,
    pub left: Left,
}

pub fn agent(index: usize) -> AgentId {
    AgentId::new(NAMES[index]).unwrap()
}

fn index(agent: &AgentId) -> usize {
    NAMES.iter().position(|name| *name == agent.as_str()).unwrap()
}

pub fn intent(generation: WriteGeneration, target: usize) -> Intent {
    Intent { from: generation, target: agent(target), plan: PlanId::from_text("plan-1") }
}

impl World {
    /// The holder has just renewed, and writes; both others are its members.
    pub fn begin(bounds: &Bounds, rates: Rates) -> Self {
        let promotable = bounds.members.iter().map(|index| agent(*index)).collect();
        let members = Members { version: Generation(1), promotable };
        let record = Arc::new(WriteRight {
            incarnation: INCARNATION,
            generation: WriteGeneration(1),
            holder: agent(0),
            acknowledged: members.clone(),
            members,
            sync_set: BTreeSet::new(),
            state: RightState::Open,
        });
        let seal = |generation| Seal { incarnation: INCARNATION, generation: WriteGeneration(generation) };
        let nodes = [1, 0, 0].map(seal).into_iter().enumerate().map(|(index, disk)| {
            let (keeper, _) =
                Keeper::start_by(bounds.rules, agent(index), bounds.intervals, disk, 0, BootTime::default());
            let node = Node {
                keeper,
                disk,
                persist: None,
                stopping: true,
                database: None,
                paused: false,
                session: 0,
            };
            Arc::new(node)
        });
        let sighting = Sighting::of(None, Revision(0), after(0));
        let mut world = Self {
            tick: 0,
            rates,
            record: record.clone(),
            revision: Revision(0),
            leader: Epoch { incarnation: 1, counter: 1 },
            nodes: nodes.collect::<Vec<_>>().try_into().unwrap(),
            seen: (record.clone(), sighting),
            transfer: None,
            swap: None,
            zombie: None,
            net: BTreeSet::new(),
            writers: [None; 8],
            two_writers: false,
            older_write: false,
            left: bounds.left,
        };
        for node in 0..3 {
            world.stopped(bounds, node);
            world.tell(bounds, node, KeeperEvent::Record((*record).clone()));
        }
        let Some(Message::Renew(first)) = world.net.pop_first().map(Arc::unwrap_or_clone) else {
            panic!("a holder renews at once")
        };
        let renewed = renew_by(bounds.rules, &record, &first).unwrap().committed();
        world.tell(bounds, 0, KeeperEvent::Renewed(renewed));
        world.observe(bounds);
        assert_eq!(world.writers[1], Some(0), "the model begins with a holder that writes");
        world
    }

    pub fn now(&self, node: usize) -> BootTime {
        after(self.rates.agents[node] * self.tick)
    }

    pub fn leader_now(&self) -> BootTime {
        after(self.rates.coordinators[usize::from(self.leader.counter.is_multiple_of(2))] * self.tick)
    }

    /// An event for an agent, and all that follows without waiting for anybody.
    pub fn tell(&mut self, bounds: &Bounds, node: usize, event: KeeperEvent) {
        self.tell_from(bounds, node, event, None);
    }

    fn tell_from(&mut self, bounds: &Bounds, node: usize, event: KeeperEvent, asker: Option<usize>) {
        let now = self.now(node);
        let mut due = Some(event);
        while let Some(event) = due.take() {
            for effect in Arc::make_mut(&mut self.nodes[node]).keeper.handle(event, now) {
                match effect {
                    KeeperEffect::WakeAt(at) if at <= now => due = Some(KeeperEvent::Tick),
                    effect => self.perform(bounds, node, effect, asker),
                }
            }
        }
    }

    fn perform(&mut self, bounds: &Bounds, node: usize, effect: KeeperEffect, asker: Option<usize>) {
        let machine = Arc::make_mut(&mut self.nodes[node]);
        match effect {
            KeeperEffect::Renew(renew) => self.send(Message::Renew(renew)),
            KeeperEffect::Ask(members, ask) => {
                for member in members {
                    self.send(Message::Ask(index(&member), ask.clone()));
                }
            }
            KeeperEffect::Answer(answer) => self.send(Message::Answer(asker.unwrap(), answer)),
            KeeperEffect::Persist(seal) => machine.persist = Some(seal),
            KeeperEffect::Sealed(sealed) => self.send(Message::Sealed(sealed)),
            KeeperEffect::Promote(right) => machine.database = Some(opened(bounds, &right)),
            KeeperEffect::Extend(right) => {
                let database = machine.database.as_mut().expect("only what runs is extended");
                assert_eq!(database.generation, right.generation(), "a right never changes its generation");
                database.gate.extend(right.permit(&bounds.intervals));
            }
            KeeperEffect::Stop => machine.stopping = true,
            KeeperEffect::Foreign(_) => panic!("there is one store"),
            KeeperEffect::WakeAt(_) => {} // Everybody looks once a tick.
        }
    }

    pub fn send(&mut self, message: Message) {
        self.net.insert(Arc::new(message));
    }

    /// A message reaches whom it is for.
    pub fn deliver(&mut self, bounds: &Bounds, message: &Message) {
        match message.clone() {
            Message::Renew(renew) => self.serve(bounds, &renew),
            Message::Renewed(to, renewed) => self.tell(bounds, to, KeeperEvent::Renewed(renewed)),
            Message::Ask(to, ask) => {
                let asker = index(&ask.from);
                self.tell_from(bounds, to, KeeperEvent::Asked(ask), Some(asker));
            }
            Message::Answer(to, answer) => self.tell(bounds, to, KeeperEvent::Answered(answer)),
            Message::Seal(to, seal) => self.tell(bounds, to, KeeperEvent::SealOrdered(seal)),
            Message::Sealed(sealed) => self.lead(TransferEvent::Sealed(sealed)),
        }
    }

    /// How many renewals the store still takes from whoever asks.
    pub fn left_to(&self, renew: &Renew) -> u8 {
        if index(&renew.from) == 0 { self.left.renewals } else { self.left.first_renewals }
    }

    /// Any coordinator serves a renewal, in one transaction.
    fn serve(&mut self, bounds: &Bounds, renew: &Renew) {
        if let Ok(renewal) = renew_by(bounds.rules, &self.record, renew) {
            let first = u8::from(index(&renew.from) == 0);
            self.left.renewals -= first;
            self.left.first_renewals -= 1 - first;
            self.store(renewal.record().clone());
            self.send(Message::Renewed(index(&renew.from), renewal.committed()));
        }
    }

    pub fn store(&mut self, record: WriteRight) {
        self.record = Arc::new(record);
        self.revision = Revision(self.revision.0 + 1);
    }

    /// The leader reads the record.
    pub fn see(&mut self) {
        let sighting = Sighting::of(Some(self.seen.1), self.revision, self.leader_now());
        self.seen = (self.record.clone(), sighting);
    }

    /// An event for the leader's transfer, and all that follows without waiting for anybody.
    pub fn lead(&mut self, event: TransferEvent) {
        let now = self.leader_now();
        let mut due = Some(event);
        while let Some(event) = due.take() {
            let Some(transfer) = self.transfer.as_mut() else { return };
            for effect in Arc::make_mut(transfer).handle(event, now) {
                match effect {
                    TransferEffect::Read => {
                        self.see();
                        due = Some(TransferEvent::Read((*self.seen.0).clone(), self.seen.1));
                    }
                    TransferEffect::Swap(swap) => self.swap = Some(Arc::new(swap)),
                    TransferEffect::Seal(agent, seal) => self.send(Message::Seal(index(&agent), seal)),
                    TransferEffect::WakeAt(_) => {}
                    TransferEffect::Over(_) => return self.transfer = None,
                }
            }
        }
    }

    /// The store takes a leader's transaction, or does not; who asked for it hears of it, or does not.
    pub fn execute(&mut self, bounds: &Bounds, swap: &Swap) -> bool {
        let compares = !bounds.uncompared.contains(&swap.kind());
        let holds = swap.epoch() == self.leader && (swap.expected() == self.revision || !compares);
        if holds {
            self.store(swap.record().clone());
        }
        holds
    }

    pub fn stopped(&mut self, bounds: &Bounds, node: usize) {
        let machine = Arc::make_mut(&mut self.nodes[node]);
        (machine.stopping, machine.database) = (false, None);
        self.tell(bounds, node, KeeperEvent::Stopped);
    }

    /// Can this agent's database write now? For as long as its gate and the time to stop it allow, in the worst case.
    pub fn writes(&self, bounds: &Bounds, node: usize) -> Option<WriteGeneration> {
        let database = self.nodes[node].database.as_ref()?;
        let open = self.now(node) < database.gate.stopped_by() || !bounds.gate;
        open.then_some(database.generation)
    }

    /// Everybody who can write does, at every moment: the order of two writes at one moment is the worst one.
    pub fn observe(&mut self, bounds: &Bounds) {
        let writing: Vec<_> = (0..3).filter_map(|node| Some((node, self.writes(bounds, node)?.0))).collect();
        for (node, generation) in &writing {
            let slot = usize::try_from(*generation).unwrap();
            self.two_writers |= self.writers[slot].is_some_and(|other| other != *node);
            self.writers[slot] = Some(*node);
        }
        let newest = self.writers.iter().rposition(Option::is_some).unwrap_or(0);
        self.older_write |= writing.iter().any(|(_, generation)| *generation < newest as u64);
    }

    /// Drops what can no longer matter: an answer to a question from which no deadline ahead could follow, and a seal for a
    /// right that was granted. Not to deliver them is a run of the model, too.
    pub fn forget(&mut self, bounds: &Bounds) {
        let now: Vec<_> = (0..3).map(|node| self.now(node)).collect();
        let granted = self.record.generation;
        let ahead = |node: usize, sent: BootTime| bounds.intervals.deadline(sent) > now[node];
        self.net.retain(|message| match &**message {
            Message::Renew(renew) => ahead(index(&renew.from), renew.nonce.sent),
            Message::Renewed(to, renewed) => ahead(*to, renewed.nonce.sent),
            Message::Ask(_, ask) => ahead(index(&ask.from), ask.nonce.sent),
            Message::Answer(to, PeerAnswer::Yes { nonce, .. } | PeerAnswer::No { nonce, .. }) => {
                ahead(*to, nonce.sent)
            }
            Message::Seal(_, seal) => seal.generation > granted,
            Message::Sealed(sealed) => sealed.generation > granted,
        });
    }
}

fn opened(bounds: &Bounds, right: &MayWrite) -> Database {
    Database { generation: right.generation(), gate: Gate::open(right.permit(&bounds.intervals)) }
}

/// This long after the beginning.
fn after(ms: u64) -> BootTime {
    BootTime::after_boot(Span::from_millis(BEGINNING_MS + ms))
}
