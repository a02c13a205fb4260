//! The peer: it vouches for a holder that nobody answers, and seals itself when a leader says so.

use super::{Database, Keeper, KeeperEffect, Role};
use crate::write_right::rules::Rule;
use drover_model::write_right::{Ask, BootTime, PeerAnswer, Seal, Sealed, WriteGeneration};

/// A seal that is not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sealing {
    generation: WriteGeneration,
    /// On its way to the disk; before that the database stops.
    writing: bool,
    /// A leader waits for it.
    ordered: bool,
}

impl Keeper {
    /// Step 6. The promise is made before the answer leaves, and outlives every deadline that the answer can make: that one
    /// counts from a question that was sent before.
    pub(super) fn asked(&mut self, ask: &Ask, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        let nonce = ask.nonce;
        if ask.incarnation != self.seal.incarnation {
            effects.push(KeeperEffect::Foreign(ask.incarnation));
            // What it knows of its own store's generations would end a right of the other's (step 3); that it does not vouch
            // is all that it has to say.
            let generation = WriteGeneration::default();
            return effects.push(KeeperEffect::Answer(PeerAnswer::No { generation, nonce }));
        }
        // What it is sealed for, it knows of.
        let newest = ask.generation >= self.known;
        let idle = self.role == Role::Standby && self.database == Database::Stopped && self.sealing.is_none();
        self.known = self.known.max(ask.generation);
        if matches!(&self.role, Role::Holder(holding) if holding.generation < ask.generation) {
            self.role = Role::Standby; // Step 3: somebody holds a later right.
        }
        let answer = if newest && idle {
            if self.rules.keep(Rule::Promise) {
                self.promise = self.promise.max(now.plus(self.over()));
            }
            PeerAnswer::Yes { from: self.me.clone(), generation: ask.generation, nonce }
        } else {
            PeerAnswer::No { generation: self.known, nonce }
        };
        effects.push(KeeperEffect::Answer(answer));
    }

    /// Step 10. Whoever holds an older right gives it up; whoever is sealed already says so again.
    pub(super) fn seal_ordered(&mut self, seal: Seal, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        if seal.incarnation != self.seal.incarnation {
            return effects.push(KeeperEffect::Foreign(seal.incarnation));
        }
        if seal.generation <= self.seal.generation {
            return effects.push(self.sealed(now));
        }
        self.want_seal(seal.generation, true, effects);
        if !self.rules.keep(Rule::DurableSeal) {
            self.seal.generation = seal.generation;
            self.sealing = None;
            effects.push(self.sealed(now));
        }
    }

    /// From now it vouches for nobody below, and whatever it wrote is over.
    pub(super) fn want_seal(
        &mut self,
        generation: WriteGeneration,
        ordered: bool,
        effects: &mut Vec<KeeperEffect>,
    ) {
        if self.rules.keep(Rule::SealedSaysNo) {
            self.known = self.known.max(generation);
        }
        self.role = Role::Standby;
        let before = self.sealing.unwrap_or(Sealing { generation, writing: false, ordered });
        self.sealing = Some(Sealing {
            generation: before.generation.max(generation),
            ordered: before.ordered || ordered,
            ..before
        });
        if matches!(self.database, Database::Writing { .. }) {
            self.stop(effects);
        }
    }

    /// A seal says that nothing is written below it, so the database stops before the seal is written (step 11).
    pub(super) fn seal_once_stopped(&mut self, effects: &mut Vec<KeeperEffect>) {
        let stopped = self.database == Database::Stopped || !self.rules.keep(Rule::StoppedBeforeSealed);
        if let Some(sealing) = self.sealing.as_mut().filter(|sealing| !sealing.writing && stopped) {
            sealing.writing = true;
            effects.push(KeeperEffect::Persist(Seal { generation: sealing.generation, ..self.seal }));
        }
    }

    /// Now it counts, also for this agent's successor after a crash.
    pub(super) fn persisted(&mut self, seal: Seal, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        self.seal.generation = self.seal.generation.max(seal.generation);
        let Some(sealing) = self.sealing.as_mut() else { return };
        if sealing.generation > self.seal.generation {
            sealing.writing = false; // A higher one was ordered meanwhile.
        } else if self.sealing.take().is_some_and(|sealing| sealing.ordered) {
            effects.push(self.sealed(now));
        }
    }

    fn sealed(&self, now: BootTime) -> KeeperEffect {
        KeeperEffect::Sealed(Sealed {
            from: self.me.clone(),
            generation: self.seal.generation,
            promise_left: self.promise.since(now),
        })
    }
}
