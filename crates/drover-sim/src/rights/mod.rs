//! Datasets: who may write, and who does.
//!
//! Beside each copy of a dataset stand an agent and a gate; a coordinator in each region reads and renews, and the leader
//! moves. What they decide is decided by `drover_exec::write_right`: here are its clocks, disks, links and processes, as the agent
//! (`drover-agent/src/rights` and `gate`) and the coordinator (`datasets`) have them. What may be late, lost or doubled there is so
//! here, and a message that their clients would have given up may still arrive.
//!
//! - `agent` is an agent's process with its disk, `gate` the process that starts and stops the database, `renewals` what a
//!   coordinator answers, `lead` the leader's transfer.
//! - `writes` looks for a violation of I5 when anything begins to write: it writes on from then until it is stopped, so that
//!   nothing else can break it.
//!
//! Time is in milliseconds here, and goes on event by event within a step of the world. A right is renewed once a second, so
//! that a dataset costs about twenty events a second.

mod agenda;
mod agent;
mod clock;
mod gate;
mod lead;
mod net;
mod renewals;
mod view;
mod writes;

use crate::seeds::RightsSeen;
use crate::state::State;
use agenda::{Agenda, What};
use agent::Process;
use clock::BootClock;
use drover_exec::write_right::Revision;
use drover_model::config::{Config, Dataset};
use drover_model::write_right::{
    Incarnation, Members, RightIntervals, RightState, Seal, WriteGeneration, WriteRight,
};
use drover_model::{AgentId, DatasetId, Epoch, Generation, RegionId, Span, Timestamp};
use fastrand::Rng;
use gate::GateProcess;
use lead::{Lead, Watcher};
use net::{Env, Facts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use writes::Writes;

/// How long machines were up when a world began: their clocks agree about nothing.
const UP: Span = Span::from_hours(3);
const UP_APART: Span = Span::from_mins(7);

/// All datasets of the world.
#[derive(Default)]
pub(crate) struct Rights {
    datasets: BTreeMap<DatasetId, DatasetWorld>,
    places: Vec<RegionId>,
    /// By whose name, in parts of a million.
    rates: BTreeMap<String, i64>,
    config: Option<Arc<Config>>,
    /// What messages take is drawn from here.
    chance: u64,
}

/// What the store has of a dataset.
struct Stored {
    record: Arc<WriteRight>,
    revision: Revision,
    /// The move that was asked for last, until somebody wrote down how it ended.
    moving: Option<AgentId>,
}

/// One copy of a dataset, with what stands beside it.
struct Machine {
    name: AgentId,
    place: usize,
    clock: BootClock,
    facts: Facts,
    disk: Option<Seal>,
    agent: Option<Process>,
    gate: Option<GateProcess>,
    /// Counts the lives of its processes.
    lives: u64,
    /// Messages that its agent sent.
    sent: u64,
    /// Times that its gate was told until when it may write.
    permits: u64,
    /// What arrives while its agent is stopped.
    postponed: Vec<What>,
}

/// One dataset.
struct DatasetWorld {
    name: DatasetId,
    intervals: RightIntervals,
    members: BTreeSet<AgentId>,
    stored: Stored,
    machines: Vec<Machine>,
    lead: Lead,
    /// Who leads next.
    follower: Watcher,
    /// Who led before, and does not know that somebody else does.
    deposed: Option<Lead>,
    /// The leader's next transaction is so long on its way.
    late: Span,
    agenda: Agenda,
    chance: Rng,
    env: Arc<Env>,
    now: Timestamp,
    writes: Writes,
    told: Vec<(Timestamp, String)>,
    violations: Vec<String>,
    seen: RightsSeen,
}

impl State {
    /// Everything that happens to datasets until now.
    pub(crate) fn keep_rights(&mut self) {
        if self.loaded.config.datasets.is_empty() {
            return;
        }
        let now = self.now();
        let mut rights = std::mem::take(&mut self.rights);
        rights.follow(&self.loaded.config, self.store.epoch, now);
        let env = Arc::new(Env::of(self, &rights.places));
        for world in rights.datasets.values_mut() {
            let facts = |machine: &Machine| {
                let rate = rights.rates.get(machine.name.as_str()).copied().unwrap_or_default();
                Facts::of(self, &machine.name, &rights.places[machine.place], rate)
            };
            let facts: Vec<Facts> = world.machines.iter().map(facts).collect();
            let leaders = rights.rates.get(lead::LEADER).copied().unwrap_or_default();
            world.meets(&env, &facts, leaders);
            world.run(now);
            self.told.append(&mut world.told);
            self.seen.rights.add(world.seen);
            for violation in world.violations.drain(..) {
                let line = format!("I5 is violated: {violation}");
                self.told.push((now, line.clone()));
                self.watch.violations.push(line);
            }
        }
        self.rights = rights;
    }
}

impl Rights {
    /// From now on the clock of this agent's machine, or of those that lead, runs so fast beyond the truth.
    pub(crate) fn runs_at(&mut self, name: &str, millionths: i64) {
        self.rates.insert(name.to_owned(), millionths);
    }

    /// Other dice for what is on its way from now on.
    pub(crate) fn draw_from(&mut self, chance: u64) {
        self.chance = chance;
        self.datasets.values_mut().for_each(|world| world.chance.seed(chance));
    }

    /// Datasets that are new, and members that are, as the configuration has them.
    fn follow(&mut self, config: &Arc<Config>, epoch: Epoch, now: Timestamp) {
        if self.config.as_ref().is_some_and(|before| Arc::ptr_eq(before, config)) {
            return;
        }
        self.places = config.regions.keys().cloned().collect();
        let places = &self.places;
        let place = |agent: &AgentId| {
            let region = config.region_of_agent(agent);
            places.iter().position(|place| Some(place) == region).unwrap_or_default()
        };
        for (name, dataset) in &config.datasets {
            if !self.datasets.contains_key(name)
                && let Ok(intervals) = RightIntervals::new(dataset.write_right)
            {
                let world = DatasetWorld::begin(dataset, intervals, epoch, self.chance, now);
                self.datasets.insert(name.clone(), world);
            }
            let Some(world) = self.datasets.get_mut(name) else { continue };
            world.members = dataset.agents();
            for agent in dataset.agents() {
                match world.machines.iter_mut().find(|machine| machine.name == agent) {
                    Some(machine) => machine.place = place(&agent),
                    None => world.machines.push(Machine::new(
                        agent.clone(),
                        place(&agent),
                        world.machines.len(),
                        now,
                    )),
                }
            }
        }
        self.config = Some(config.clone());
    }
}

impl Machine {
    fn new(name: AgentId, place: usize, number: usize, now: Timestamp) -> Self {
        let up = UP.plus(UP_APART.times(u64::try_from(number).unwrap_or_default()));
        Self {
            name,
            place,
            clock: BootClock::new(now, up),
            // Until it is looked at.
            facts: Facts { off: true, ..Facts::default() },
            disk: None,
            agent: None,
            gate: None,
            lives: 0,
            sent: 0,
            permits: 0,
            postponed: vec![],
        }
    }
}

impl DatasetWorld {
    /// The first right, as a leader grants it.
    fn begin(
        dataset: &Dataset,
        intervals: RightIntervals,
        epoch: Epoch,
        chance: u64,
        now: Timestamp,
    ) -> Self {
        let members = dataset.agents();
        let promotable = members.iter().filter(|agent| **agent != dataset.holder).cloned().collect();
        let known = Members { version: Generation(1), promotable };
        let record = WriteRight {
            incarnation: Incarnation(epoch.incarnation),
            generation: WriteGeneration(1),
            holder: dataset.holder.clone(),
            acknowledged: known.clone(),
            members: known,
            sync_set: BTreeSet::new(),
            state: RightState::Open,
        };
        let mut world = Self {
            name: dataset.name.clone(),
            intervals,
            members,
            stored: Stored { record: Arc::new(record), revision: Revision(1), moving: None },
            machines: vec![],
            lead: Lead::new(epoch, Watcher::new(now)),
            follower: Watcher::new(now),
            deposed: None,
            late: Span::ZERO,
            agenda: Agenda::default(),
            chance: Rng::with_seed(chance),
            env: Arc::default(),
            now,
            writes: Writes::default(),
            told: vec![],
            violations: vec![],
            seen: RightsSeen::default(),
        };
        world.agenda.put(now, What::LeadLooks(epoch.counter));
        world
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        self.told.push((self.now, format!("{}: {what}", self.name)));
    }

    /// What fate did since the last step.
    fn meets(&mut self, env: &Arc<Env>, facts: &[Facts], leaders_rate: i64) {
        self.env = env.clone();
        self.seen = RightsSeen::default();
        self.succeed(leaders_rate);
        for (m, is) in facts.iter().enumerate() {
            let was = std::mem::replace(&mut self.machines[m].facts, *is);
            let now = self.now;
            if is.rate != was.rate {
                self.machines[m].clock.runs_at(is.rate, now);
                self.gate_looks_again(m);
            }
            if is.off {
                self.dies(m);
            } else if was.off {
                self.gate_begins(m);
                self.agent_begins(m);
            } else if is.boot != was.boot {
                self.agent_begins(m);
            }
            if !is.stopped && !is.off {
                let postponed = std::mem::take(&mut self.machines[m].postponed);
                postponed.into_iter().for_each(|what| self.agenda.put(now, what));
            }
        }
    }

    /// The machine loses its power: nothing is left but its disk.
    fn dies(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        (machine.agent, machine.gate) = (None, None);
        machine.postponed.clear();
        self.ends_to_write(m);
    }

    fn run(&mut self, until: Timestamp) {
        while let Some((at, what)) = self.agenda.next(until) {
            self.now = self.now.max(at);
            self.happens(what);
        }
        self.now = until;
    }

    fn happens(&mut self, what: What) {
        let of_agent = match &what {
            What::Look(m, _) | What::Wake(m, _) | What::Letter(m, _) | What::Persisted(m, ..) => Some(*m),
            What::Answered { machine, .. } => Some(*machine),
            _ => None,
        };
        if let Some(machine) = of_agent.map(|m| &mut self.machines[m])
            && machine.facts.stopped
        {
            return machine.postponed.push(what);
        }
        match what {
            What::Look(m, session) => self.looks(m, session),
            What::Wake(m, session) => self.wakes(m, session),
            What::Letter(m, letter) => self.hears(m, letter),
            What::Persisted(m, session, seal) => self.persisted(m, session, seal),
            What::Answered { machine, session, number, order, answer } => {
                self.gate_answered(machine, session, (number, order), &answer);
            }
            What::Ordered { machine, life, session, number, order } => {
                self.ordered(machine, life, session, (number, order));
            }
            What::GateLooks(m, life) => self.gate_looks(m, life),
            What::Stopped(m, life) => self.database_stopped(m, life),
            What::Renewal { machine, before, sent, renew } => self.renewal(machine, before, sent, renew),
            What::Swap(leader, swap) => self.swap(leader, &swap),
            What::Lead(leader, event) => self.lead(leader, *event),
            What::LeadLooks(leader) => self.lead_looks(leader),
        }
    }
}
