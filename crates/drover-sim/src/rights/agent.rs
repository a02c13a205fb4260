//! An agent's process beside a copy: what it is told goes to its keeper, and what that wants is done.

use super::DatasetWorld;
use super::agenda::What;
use super::net::{latency, socket};
use crate::planted::Planted;
use drover_exec::write_right::{Keeper, KeeperEffect, KeeperEvent};
use drover_model::write_right::{
    Ask, BootTime, GateAnswer, GateOrder, PeerAnswer, Renew, Renewed, Seal, WriteGeneration, WriteRight,
};
use drover_model::{AgentId, Span, Timestamp};
use std::sync::Arc;

/// How often an agent reads how its right stands.
const LOOK_EVERY: Span = Span::from_secs(1);
/// For one coordinator to answer.
pub(super) const ANSWER_WITHIN: Span = Span::from_secs(1);
/// For a seal to be on the disk, at most: usually, and one time in so many.
const DISK: u64 = 20;
const DISK_SLOW: u64 = 900;
const DISK_SLOW_ONE_IN: u32 = 20;

/// What arrives at an agent.
#[derive(Debug, Clone)]
pub(super) enum Letter {
    /// How the right stands.
    Right(Arc<WriteRight>),
    /// It was renewed.
    Renewed(Renewed),
    /// It was not, since it stands so.
    Refused(Arc<WriteRight>),
    /// Another member asks.
    Asked(usize, Ask),
    /// Another member answered.
    Answer(PeerAnswer),
}

/// One life of an agent.
pub(super) struct Process {
    pub(super) session: u64,
    /// None before it was told anything, when nothing is on its disk.
    keeper: Option<Keeper>,
    wake: Option<BootTime>,
    wakes_at: Option<Timestamp>,
    /// The coordinator that answered last, counted from its own region's.
    pub(super) preferred: usize,
    /// The number of its last order to the gate, and that order.
    wanted: (u64, GateOrder),
    /// The order that waits for an answer.
    said: Option<u64>,
    /// What it was shown last, while nothing happened since that would make it mean anything else.
    shown: Option<Arc<WriteRight>>,
    /// It told that it asks the others.
    asks: bool,
}

impl DatasetWorld {
    /// A fresh process: what it knows is what is on its disk.
    pub(super) fn agent_begins(&mut self, m: usize) {
        let (first, connect) = (latency(&mut self.chance, true), socket(&mut self.chance));
        let now = self.now;
        let machine = &mut self.machines[m];
        machine.lives += 1;
        // What was on its way to the disk may have got there.
        machine.postponed.clear();
        let session = machine.lives;
        let wanted = (0, GateOrder::Stop);
        machine.agent = Some(Process {
            session,
            keeper: None,
            wake: None,
            wakes_at: None,
            preferred: 0,
            wanted,
            said: Some(0),
            shown: None,
            asks: false,
        });
        if let Some(gate) = &mut machine.gate {
            gate.session = session;
            let (number, order) = wanted;
            let ordered = What::Ordered { machine: m, life: gate.life, session, number, order };
            self.agenda.put(now + connect, ordered);
        }
        if let Some(seal) = machine.disk {
            self.keeper_begins(m, seal);
        }
        self.agenda.put(now + first, What::Look(m, session));
    }

    fn keeper_begins(&mut self, m: usize, seal: Seal) {
        let machine = &mut self.machines[m];
        machine.disk = Some(seal);
        let now = machine.clock.at(self.now);
        let Some(process) = &mut machine.agent else { return };
        let (keeper, effects) =
            Keeper::start(machine.name.clone(), self.intervals, seal, process.session, now);
        process.keeper = Some(keeper);
        self.perform(m, effects, None);
    }

    fn is_alive(&self, m: usize, session: u64) -> bool {
        self.machines[m].agent.as_ref().is_some_and(|process| process.session == session)
    }

    pub(super) fn looks(&mut self, m: usize, session: u64) {
        if !self.is_alive(m, session) {
            return;
        }
        let (answered, tried) = self.read_by(m);
        let took = ANSWER_WITHIN.times(tried);
        self.agenda.put(self.now + took.max(LOOK_EVERY), What::Look(m, session));
        if !answered {
            return;
        }
        let record = self.stored.record.clone();
        let known = self.machines[m].agent.as_ref().and_then(|process| process.shown.as_ref());
        if tried == 0 && record.is_open() && known.is_some_and(|known| Arc::ptr_eq(known, &record)) {
            return; // It would be told the same twice, with nothing in between and nothing ordered by it.
        }
        let on_its_way = took.plus(latency(&mut self.chance, tried == 0));
        self.sends(m, on_its_way, What::Letter(m, Letter::Right(record)));
    }

    /// What an agent exchanges with others, with what the network does to all that is its.
    pub(super) fn sends(&mut self, m: usize, takes: Span, what: What) {
        let machine = &mut self.machines[m];
        machine.sent += 1;
        if machine.facts.way.is_plain() {
            return self.agenda.put(self.now + takes, what);
        }
        for after in machine.facts.way.arrivals(machine.sent) {
            self.agenda.put(self.now + takes.plus(after), what.clone());
        }
    }

    pub(super) fn wakes(&mut self, m: usize, session: u64) {
        let machine = &mut self.machines[m];
        let (now, here) = (self.now, machine.clock.at(self.now));
        let Some(process) = machine.agent.as_mut().filter(|process| process.session == session) else {
            return;
        };
        if process.wakes_at.is_some_and(|at| at > now) {
            return; // An earlier wish took its place.
        }
        process.wakes_at = None;
        match process.wake {
            Some(wake) if wake <= here => {
                process.wake = None;
                self.tell_keeper(m, KeeperEvent::Tick, None);
            }
            Some(wake) => self.wake_at(m, wake),
            None => {}
        }
    }

    fn wake_at(&mut self, m: usize, wake: BootTime) {
        let machine = &mut self.machines[m];
        let due = machine.clock.when(wake, self.now).max(self.now + Span::from_millis(1));
        let Some(process) = &mut machine.agent else { return };
        process.wake = Some(wake);
        if process.wakes_at.is_none_or(|at| due < at) {
            process.wakes_at = Some(due);
            self.agenda.put(due, What::Wake(m, process.session));
        }
    }

    pub(super) fn hears(&mut self, m: usize, letter: Letter) {
        let Some(process) = &mut self.machines[m].agent else { return };
        match letter {
            Letter::Right(record) if process.keeper.is_none() => {
                // It takes the store's word for which store it is, and is sealed for nothing.
                let (incarnation, generation) = (record.incarnation, WriteGeneration::default());
                self.keeper_begins(m, Seal { incarnation, generation });
            }
            Letter::Right(record) => {
                let seal = record.seal_for(&self.machines[m].name);
                self.tell_keeper(m, KeeperEvent::Record((*record).clone()), None);
                if let Some(seal) = seal.filter(|_| !self.env.lacks(Planted::Seal)) {
                    self.tell_keeper(m, KeeperEvent::SealOrdered(seal), None);
                }
                if let Some(process) = &mut self.machines[m].agent {
                    process.shown = Some(record);
                }
            }
            Letter::Renewed(renewed) => {
                process.asks = false;
                self.tell_keeper(m, KeeperEvent::Renewed(renewed), None);
            }
            Letter::Refused(record) => {
                self.tell_keeper(m, KeeperEvent::Record((*record).clone()), None);
            }
            // Whoever knows nothing vouches for nobody.
            Letter::Asked(_, _) if process.keeper.is_none() => {}
            Letter::Asked(asker, ask) => self.tell_keeper(m, KeeperEvent::Asked(ask), Some(asker)),
            Letter::Answer(answer) => {
                let vouches = matches!(answer, PeerAnswer::Yes { .. });
                let before = self.machines[m].permits;
                self.tell_keeper(m, KeeperEvent::Answered(answer), None);
                self.seen.vouched |= vouches && self.machines[m].permits > before;
            }
        }
    }

    fn tell_keeper(&mut self, m: usize, event: KeeperEvent, asker: Option<usize>) {
        let machine = &mut self.machines[m];
        let now = machine.clock.at(self.now);
        let Some(process) = &mut machine.agent else { return };
        process.shown = None;
        let Some(keeper) = &mut process.keeper else { return };
        let effects = if asker.is_some() && self.env.lacks(Planted::Promise) {
            // It answers, and remembers nothing of what it has promised.
            keeper.clone().handle(event, now)
        } else {
            keeper.handle(event, now)
        };
        self.perform(m, effects, asker);
    }

    fn perform(&mut self, m: usize, effects: Vec<KeeperEffect>, asker: Option<usize>) {
        for effect in effects {
            match effect {
                KeeperEffect::Renew(renew) => self.renews(m, 0, self.now, renew),
                KeeperEffect::Ask(members, ask) => self.asks(m, &members, &ask),
                KeeperEffect::Answer(answer) => {
                    if let Some(asker) = asker
                        && self.env.carries(self.machines[m].place, self.machines[asker].place)
                    {
                        let takes = latency(&mut self.chance, false);
                        self.sends(m, takes, What::Letter(asker, Letter::Answer(answer)));
                    }
                }
                KeeperEffect::Persist(seal) => self.persists(m, seal),
                KeeperEffect::Sealed(sealed) => self.says_sealed(m, &sealed),
                KeeperEffect::Promote(right) | KeeperEffect::Extend(right) => {
                    self.machines[m].permits += 1;
                    self.orders(m, GateOrder::Run(right.permit(&self.intervals)));
                }
                KeeperEffect::Stop => self.orders(m, GateOrder::Stop),
                KeeperEffect::Foreign(incarnation) => {
                    let name = self.machines[m].name.clone();
                    self.tell(format!("{name} hears of another store ({incarnation})"));
                }
                KeeperEffect::WakeAt(at) => self.wake_at(m, at),
            }
        }
    }

    /// To any coordinator: the one that answered last, then the others.
    pub(super) fn renews(&mut self, m: usize, before: usize, sent: Timestamp, renew: Renew) {
        let takes = latency(&mut self.chance, before == 0);
        self.sends(m, takes, What::Renewal { machine: m, before, sent, renew });
    }

    fn asks(&mut self, m: usize, members: &[AgentId], ask: &Ask) {
        let place = self.machines[m].place;
        if let Some(process) = self.machines[m].agent.as_mut().filter(|process| !process.asks) {
            process.asks = true;
            let name = self.machines[m].name.clone();
            self.tell(format!("no coordinator answers {name}; it asks the other members"));
        }
        for member in members {
            let Some(other) = self.machines.iter().position(|machine| machine.name == *member) else {
                continue;
            };
            let arrives =
                self.env.carries(place, self.machines[other].place) && !self.machines[m].facts.blind;
            if arrives {
                let takes = latency(&mut self.chance, false);
                self.sends(m, takes, What::Letter(other, Letter::Asked(m, ask.clone())));
            }
        }
    }

    fn persists(&mut self, m: usize, seal: Seal) {
        let most = if self.chance.u32(..DISK_SLOW_ONE_IN) == 0 { DISK_SLOW } else { DISK };
        let takes = Span::from_millis(self.chance.u64(1..=most));
        let Some(process) = &self.machines[m].agent else { return };
        self.agenda.put(self.now + takes, What::Persisted(m, process.session, seal));
    }

    /// It is on the disk whoever still waits for it, unless the machine lost its power.
    pub(super) fn persisted(&mut self, m: usize, session: u64, seal: Seal) {
        let volatile = self.env.lacks(Planted::DurableSeal) || self.env.lacks(Planted::Seal);
        if !self.is_alive(m, session) {
            return;
        }
        if !volatile {
            self.machines[m].disk = Some(seal);
        }
        self.tell_keeper(m, KeeperEvent::Persisted(seal), None);
    }

    /// The order that counts from now.
    fn orders(&mut self, m: usize, order: GateOrder) {
        let Some(process) = &mut self.machines[m].agent else { return };
        process.wanted = (process.wanted.0 + 1, order);
        if process.said.is_none() {
            self.says_order(m);
        }
    }

    fn says_order(&mut self, m: usize) {
        let takes = socket(&mut self.chance);
        let machine = &mut self.machines[m];
        let (Some(process), Some(gate)) = (&mut machine.agent, &machine.gate) else { return };
        let (number, order) = process.wanted;
        process.said = Some(number);
        let ordered = What::Ordered { machine: m, life: gate.life, session: process.session, number, order };
        self.agenda.put(self.now + takes, ordered);
    }

    /// One order at a time; what was wanted meanwhile is said next.
    pub(super) fn gate_answered(
        &mut self,
        m: usize,
        session: u64,
        (number, order): (u64, GateOrder),
        answer: &GateAnswer,
    ) {
        let Some(process) = self.machines[m].agent.as_mut().filter(|p| p.session == session) else { return };
        process.said = None;
        let wanted = process.wanted.0;
        if wanted != number {
            return self.says_order(m);
        }
        if matches!((order, answer), (GateOrder::Stop, GateAnswer::Stopped { .. })) {
            self.tell_keeper(m, KeeperEvent::Stopped, None);
        }
    }
}
