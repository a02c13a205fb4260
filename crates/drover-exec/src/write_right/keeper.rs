//! An agent's part: holder and peer in one, since the same machine is one today and the other tomorrow.
//!
//! `handle` takes one event and then lets the database follow: it is told to write only from one place
//! (`follow`), which asks all that must be true for it.

mod holding;
mod peer;

use super::rules::{Rule, Rules};
use drover_model::AgentId;
use drover_model::write_right::{
    Ask, BootTime, Incarnation, PeerAnswer, Permit, Renew, Renewed, RightIntervals, Seal, Sealed,
    WriteGeneration, WriteRight,
};
use holding::Holding;
use peer::Sealing;

/// What the outside tells a keeper. Closed: nothing else moves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperEvent {
    /// Time has passed.
    Tick,
    /// The record as a coordinator showed it, on its own or as the answer to a renewal that was refused.
    Record(WriteRight),
    /// A renewal is durable.
    Renewed(Renewed),
    /// Another holder asks, in failsafe mode.
    Asked(Ask),
    /// A member answered.
    Answered(PeerAnswer),
    /// A leader orders a seal.
    SealOrdered(Seal),
    /// The seal is on disk, synced.
    Persisted(Seal),
    /// The database has stopped.
    Stopped,
}

/// What a keeper wants done.
#[derive(Debug)]
pub enum KeeperEffect {
    /// Send it to any coordinator.
    Renew(Renew),
    /// Send it to each of these members.
    Ask(Vec<AgentId>, Ask),
    /// Answer the holder that asked.
    Answer(PeerAnswer),
    /// Make it durable, then say `Persisted`.
    Persist(Seal),
    /// Answer the leader: it is sealed, durably.
    Sealed(Sealed),
    /// Open the gate, then make the database writable at this generation, and write the generation into it.
    Promote(MayWrite),
    /// Let the gate know that it may stay open for longer.
    Extend(MayWrite),
    /// Stop the database, then say `Stopped`. It is over when nothing can be written any more, and not before:
    /// a database that refuses writes by a setting is not stopped.
    Stop,
    /// Tell people: somebody speaks for another lifetime of the store. Nothing of it was followed.
    Foreign(Incarnation),
    /// Say `Tick` at this time; replaces every earlier wish.
    WakeAt(BootTime),
}

/// The proof that a database may write (I5, step 13). Only a keeper makes it, and only when its seal is durable, its
/// promises are over, its renewal was counted from the sending, and the deadline is ahead.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a right that nobody uses leaves a dataset without a writer"]
pub struct MayWrite {
    generation: WriteGeneration,
    until: BootTime,
}

impl MayWrite {
    /// At which generation.
    #[must_use]
    pub fn generation(&self) -> WriteGeneration {
        self.generation
    }

    /// Until when, by the clock of this machine.
    #[must_use]
    pub fn until(&self) -> BootTime {
        self.until
    }

    /// What the gate is told.
    #[must_use]
    pub fn permit(&self, intervals: &RightIntervals) -> Permit {
        Permit {
            generation: self.generation,
            until: self.until,
            gate_tick: intervals.gate_tick(),
            demotion: intervals.demotion(),
        }
    }
}

/// What the database was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Database {
    Stopped,
    Stopping,
    Writing { until: BootTime },
}

/// What this agent is to the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Role {
    /// A peer, which vouches for whoever holds the right.
    Standby,
    /// The holder by the record, which writes while its deadline is ahead.
    Holder(Holding),
}

/// The state machine of one agent for one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keeper {
    me: AgentId,
    intervals: RightIntervals,
    rules: Rules,
    session: u64,
    /// As it is on disk.
    seal: Seal,
    sealing: Option<Sealing>,
    /// The highest generation that it has heard of.
    known: WriteGeneration,
    /// It does not write before this.
    promise: BootTime,
    database: Database,
    role: Role,
}

impl Keeper {
    /// A keeper at the start of its agent. The database is stopped first, whoever started it: only a holder makes it
    /// writable. A start counts as a promise that was just made (step 7), since one may have been made before it.
    /// `session` is drawn anew at each start; `seal` is what was persisted.
    #[must_use]
    pub fn start(
        me: AgentId,
        intervals: RightIntervals,
        seal: Seal,
        session: u64,
        now: BootTime,
    ) -> (Self, Vec<KeeperEffect>) {
        Self::start_by(Rules::default(), me, intervals, seal, session, now)
    }

    pub(super) fn start_by(
        rules: Rules,
        me: AgentId,
        intervals: RightIntervals,
        seal: Seal,
        session: u64,
        now: BootTime,
    ) -> (Self, Vec<KeeperEffect>) {
        let mut keeper = Self {
            me,
            intervals,
            rules,
            session,
            seal,
            sealing: None,
            known: seal.generation,
            promise: BootTime::default(),
            database: Database::Stopping,
            role: Role::Standby,
        };
        if !rules.keep(Rule::SealedSaysNo) {
            keeper.known = WriteGeneration::default();
        }
        if rules.keep(Rule::QuietAtBoot) {
            keeper.promise = now.plus(keeper.over());
        }
        (keeper, vec![KeeperEffect::Stop])
    }

    /// Takes one event. Nothing is refused: what is late, doubled or foreign has no effect on the right.
    #[must_use]
    pub fn handle(&mut self, event: KeeperEvent, now: BootTime) -> Vec<KeeperEffect> {
        let mut effects = Vec::new();
        match event {
            KeeperEvent::Tick => self.tick(now, &mut effects),
            KeeperEvent::Record(record) => self.read(&record, now, &mut effects),
            KeeperEvent::Renewed(renewed) => self.renewed(&renewed, now),
            KeeperEvent::Asked(ask) => self.asked(&ask, now, &mut effects),
            KeeperEvent::Answered(answer) => self.answered(&answer, now),
            KeeperEvent::SealOrdered(seal) => self.seal_ordered(seal, now, &mut effects),
            KeeperEvent::Persisted(seal) => self.persisted(seal, now, &mut effects),
            KeeperEvent::Stopped => self.database = Database::Stopped,
        }
        self.follow(now, &mut effects);
        if let Some(at) = self.wake_at(now) {
            effects.push(KeeperEffect::WakeAt(at));
        }
        effects
    }

    /// The record shows another generation, or that the right is being taken: the database stops now, and nobody is
    /// asked to vouch (step 3). It shows this agent as the holder: it seals itself for that, and then asks for a renewal.
    fn read(&mut self, record: &WriteRight, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        if record.incarnation != self.seal.incarnation {
            return effects.push(KeeperEffect::Foreign(record.incarnation));
        }
        if record.generation < self.known {
            return; // Older than what is known: shown late.
        }
        self.known = record.generation;
        let mine = record.is_open() && self.is_holder(record);
        match &self.role {
            Role::Holder(holding) if holding.generation == record.generation && mine => {}
            Role::Holder(_) => self.role = Role::Standby,
            Role::Standby if !mine => {}
            Role::Standby
                if self.seal.generation == record.generation || !self.rules.keep(Rule::SealBeforeWriting) =>
            {
                self.role = Role::Holder(Holding::granted(record.generation, now));
            }
            Role::Standby => self.want_seal(record.generation, false, effects),
        }
    }

    fn is_holder(&self, record: &WriteRight) -> bool {
        record.holder == self.me
            || (!self.rules.keep(Rule::HolderMatches) && self.seal.generation == record.generation)
    }

    /// Lets the database follow what the keeper may do. The one place where a right to write is made.
    fn follow(&mut self, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        let right = self.may_write(now);
        match (self.database, right) {
            // What has lapsed is stopped even when it was renewed this moment: the gate may have stopped it already.
            (Database::Writing { until }, _) if until <= now => self.stop(effects),
            (Database::Writing { .. }, None) => self.stop(effects),
            (Database::Writing { until }, Some(right)) if until < right.until => {
                self.database = Database::Writing { until: right.until };
                effects.push(KeeperEffect::Extend(right));
            }
            (Database::Stopped, Some(right)) => {
                cov_mark::hit!(i5_single_writer);
                self.database = Database::Writing { until: right.until };
                effects.push(KeeperEffect::Promote(right));
            }
            _ => {}
        }
        self.seal_once_stopped(effects);
    }

    fn stop(&mut self, effects: &mut Vec<KeeperEffect>) {
        self.database = Database::Stopping;
        effects.push(KeeperEffect::Stop);
    }

    /// Step 13.
    fn may_write(&self, now: BootTime) -> Option<MayWrite> {
        let Role::Holder(holding) = &self.role else { return None };
        let until = holding.deadline.filter(|deadline| *deadline > now)?;
        let sealed = self.seal.generation == holding.generation || !self.rules.keep(Rule::SealBeforeWriting);
        let free = sealed && self.sealing.is_none() && self.promise <= now;
        free.then_some(MayWrite { generation: holding.generation, until })
    }

    /// W(1+ρ).
    fn over(&self) -> drover_model::Span {
        if self.rules.keep(Rule::DriftAllowance) { self.intervals.over() } else { self.intervals.width() }
    }

    fn wake_at(&self, now: BootTime) -> Option<BootTime> {
        let Role::Holder(holding) = &self.role else { return None };
        let later = match self.database {
            Database::Writing { until } => until,
            Database::Stopped | Database::Stopping => self.promise,
        };
        let wishes = holding.wishes(&self.intervals).into_iter().flatten();
        wishes.chain(Some(later).filter(|at| *at > now)).min()
    }
}
