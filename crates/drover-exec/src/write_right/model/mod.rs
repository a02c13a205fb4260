//! The write right, checked: every order of messages, losses, delays, doubles, crashes, pauses, leaders, aborts and
//! changes of members within bounds, driven through the state machines that ship.

mod bounds;
mod mutations;
mod runs;
mod world;

use super::keeper::{Keeper, KeeperEvent};
use super::renewal::change_members_by;
use super::transfer::{Sighting, Transfer, TransferEvent};
use bounds::Bounds;
use drover_model::write_right::Seal;
use stateright::{Model, Property};
use std::sync::Arc;
use world::{Message, World, agent, intent};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A tick of every clock; whoever is not paused looks at its own.
    Pass,
    Deliver(Arc<Message>),
    /// An agent reads the record, as when a renewal is refused.
    Read(usize),
    /// What was on its way to an agent's disk is on it.
    Synced(usize),
    Stopped(usize),
    /// An agent dies and starts; its machine, its database and its gate go on. What was on its way to the disk may be on it.
    Crash(usize, bool),
    Pause,
    Resume,
    /// The leader sees the record as it is.
    See,
    Begin(usize),
    Abort,
    /// The store gets the leader's transaction; its answer may be lost.
    Execute {
        answered: bool,
    },
    /// The store gets the transaction of the leader before.
    Zombie,
    TakeOver,
    Members(Vec<usize>),
}

struct Checked {
    bounds: Bounds,
    also: Vec<Property<Checked>>,
}

impl Model for Checked {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        self.bounds.rates.iter().map(|rates| World::begin(&self.bounds, *rates)).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.tick < self.bounds.ticks {
            steps.push(Step::Pass);
        }
        steps.extend(
            world
                .net
                .iter()
                .filter(|message| match &***message {
                    Message::Renew(renew) => world.left_to(renew) > 0,
                    Message::Sealed(_) => world.transfer.is_some(),
                    Message::Seal(0, _) if !self.bounds.holder_hears => false,
                    Message::Renewed(to, _)
                    | Message::Ask(to, _)
                    | Message::Answer(to, _)
                    | Message::Seal(to, _) => !world.nodes[*to].paused,
                })
                .cloned()
                .map(Step::Deliver),
        );
        self.of_machines(world, steps);
        self.of_the_leader(world, steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        self.take(&mut world, step);
        world.observe(&self.bounds);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no write at a generation after a write at a later one", |_, world: &World| {
                !world.older_write
            }),
            Property::always("one generation has one writer", |_, world: &World| !world.two_writers),
        ];
        properties.extend(self.also.iter().cloned());
        properties
    }
}

impl Checked {
    fn of_machines(&self, world: &World, steps: &mut Vec<Step>) {
        for (index, node) in world.nodes.iter().enumerate() {
            if node.persist.is_some() && !node.paused {
                steps.push(Step::Synced(index));
            }
            if node.stopping && !node.paused {
                steps.push(Step::Stopped(index));
            }
            if !node.paused && (index != 0 || self.bounds.holder_hears) {
                steps.push(Step::Read(index));
            }
            if world.left.crashes > 0 && self.bounds.crashing.contains(&index) {
                steps.push(Step::Crash(index, false));
                if node.persist.is_some() {
                    steps.push(Step::Crash(index, true));
                }
            }
        }
        if world.nodes[0].paused {
            steps.push(Step::Resume);
        } else if world.left.pauses > 0 {
            steps.push(Step::Pause);
        }
    }

    fn of_the_leader(&self, world: &World, steps: &mut Vec<Step>) {
        // What was seen matters to whoever begins.
        if world.seen.1.revision() != world.revision && world.left.transfers > 0 {
            steps.push(Step::See);
        }
        if world.swap.is_some() {
            steps.push(Step::Execute { answered: true });
            if world.left.lost_answers > 0 {
                steps.push(Step::Execute { answered: false });
            }
        }
        if world.zombie.is_some() {
            steps.push(Step::Zombie);
        }
        match &world.transfer {
            Some(_) if world.left.aborts > 0 => steps.push(Step::Abort),
            None if world.left.transfers > 0 => {
                steps.extend(self.bounds.targets.iter().map(|target| Step::Begin(*target)));
            }
            _ => {}
        }
        if world.left.takeovers > 0 {
            steps.push(Step::TakeOver);
        }
        if world.left.member_changes > 0 {
            steps.extend(self.bounds.memberships.iter().cloned().map(Step::Members));
        }
    }

    fn take(&self, world: &mut World, step: Step) {
        let bounds = &self.bounds;
        match step {
            Step::Pass => self.pass(world),
            Step::Deliver(message) => world.deliver(bounds, &message),
            Step::Read(node) => {
                let record = (*world.record).clone();
                world.tell(bounds, node, KeeperEvent::Record(record));
            }
            Step::Synced(node) => {
                let machine = Arc::make_mut(&mut world.nodes[node]);
                let seal = machine.persist.take().expect("only what is on its way arrives");
                machine.disk = seal;
                world.tell(bounds, node, KeeperEvent::Persisted(seal));
            }
            Step::Stopped(node) => world.stopped(bounds, node),
            Step::Crash(node, synced) => self.crash(world, node, synced),
            Step::Pause => {
                world.left.pauses -= 1;
                Arc::make_mut(&mut world.nodes[0]).paused = true;
            }
            Step::Resume => {
                Arc::make_mut(&mut world.nodes[0]).paused = false;
                world.tell(bounds, 0, KeeperEvent::Tick);
            }
            Step::See => world.see(),
            Step::Begin(target) => self.begin(world, target),
            Step::Abort => {
                world.left.aborts -= 1;
                world.lead(TransferEvent::Abort);
            }
            Step::Execute { answered } => self.execute(world, answered),
            Step::Zombie => {
                if let Some(swap) = world.zombie.take() {
                    world.execute(bounds, &swap);
                }
            }
            Step::TakeOver => self.take_over(world),
            Step::Members(members) => {
                let members = members.into_iter().map(agent).collect();
                if let Ok(record) = change_members_by(bounds.rules, &world.record, members) {
                    world.left.member_changes -= 1;
                    world.store(record);
                }
            }
        }
    }

    fn pass(&self, world: &mut World) {
        world.tick += 1;
        for node in 0..3 {
            if !world.nodes[node].paused {
                world.tell(&self.bounds, node, KeeperEvent::Tick);
            }
        }
        world.lead(TransferEvent::Tick);
        world.forget(&self.bounds);
    }

    fn crash(&self, world: &mut World, node: usize, synced: bool) {
        world.left.crashes -= 1;
        let now = world.now(node);
        let machine = Arc::make_mut(&mut world.nodes[node]);
        let persist: Option<Seal> = machine.persist.take();
        machine.disk = persist.filter(|_| synced).unwrap_or(machine.disk);
        machine.session += 1;
        let (rules, intervals) = (self.bounds.rules, self.bounds.intervals);
        (machine.keeper, _) =
            Keeper::start_by(rules, agent(node), intervals, machine.disk, machine.session, now);
        machine.stopping = true;
    }

    fn begin(&self, world: &mut World, target: usize) {
        world.left.transfers -= 1;
        let intent = intent(world.seen.0.generation, target);
        let bounds = &self.bounds;
        let (transfer, _) = Transfer::begin_by(bounds.rules, bounds.intervals, world.leader, intent);
        world.transfer = Some(Arc::new(transfer));
        // What it decides on is what it saw last, which may be old by now.
        world.lead(TransferEvent::Read((*world.seen.0).clone(), world.seen.1));
    }

    fn execute(&self, world: &mut World, answered: bool) {
        let Some(swap) = world.swap.take() else { return };
        let holds = world.execute(&self.bounds, &swap);
        world.left.lost_answers -= u8::from(!answered);
        let known = holds && answered;
        world.lead(if known { TransferEvent::Committed(world.revision) } else { TransferEvent::Unsettled });
    }

    fn take_over(&self, world: &mut World) {
        world.left.takeovers -= 1;
        world.leader.counter += 1;
        world.zombie = world.swap.take();
        world.transfer = None;
        let bounds = &self.bounds;
        // It saw nothing as a follower: the longest wait. The shortest is that of the leader that saw all, above.
        world.seen.1 = Sighting::of(None, world.revision, world.leader_now());
        world.see();
        if let Some((transfer, _)) =
            Transfer::resume_by(bounds.rules, bounds.intervals, world.leader, &world.record)
        {
            world.transfer = Some(Arc::new(transfer));
            world.lead(TransferEvent::Read((*world.seen.0).clone(), world.seen.1));
        }
    }
}
