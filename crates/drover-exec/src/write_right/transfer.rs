//! The leader's part: take the right from its holder and give it to a target, or give it back.
//!
//! Close, seal, wait, grant; or close and abort. Each step is read off the record: a leader that takes over finds the
//! record open or closing, and goes on from there with `resume`. What it can't find there it has lost, and waits for
//! anew: a seal is ordered again, and the wait begins when this coordinator first saw the record as it is.

mod swap;

use super::rules::{Rule, Rules};
use drover_model::write_right::{
    BootTime, RightIntervals, RightState, Seal, Sealed, WriteGeneration, WriteRight,
};
use drover_model::{AgentId, Epoch, PlanId};
use swap::Fenced;
pub use swap::{Swap, SwapKind};

/// The store's counter of changes to the record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// When a coordinator first saw the record at its revision (step 9). Followers keep one for each dataset as well, so that a
/// new leader does not wait for what it has seen end; who has none saw it when it read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sighting {
    revision: Revision,
    since: BootTime,
}

impl Sighting {
    /// What is seen now, after what was seen `before`.
    #[must_use]
    pub fn of(before: Option<Sighting>, revision: Revision, now: BootTime) -> Self {
        before.filter(|before| before.revision == revision).unwrap_or(Self { revision, since: now })
    }

    /// When that was first seen, by the clock of whoever saw it.
    #[must_use]
    pub fn since(&self) -> BootTime {
        self.since
    }

    /// Of the record.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

/// What is to become of a right. Durable before the transfer begins (I1): it is a step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Intent {
    /// The right that is taken.
    pub from: WriteGeneration,
    /// Who gets it.
    pub target: AgentId,
    /// By which plan.
    pub plan: PlanId,
}

/// What the outside tells a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferEvent {
    /// The record was read.
    Read(WriteRight, Sighting),
    /// The swap is durable, and the record has this revision.
    Committed(Revision),
    /// The swap failed, or nobody knows what became of it.
    Unsettled,
    /// An agent is sealed.
    Sealed(Sealed),
    /// Give the right back, if it is not granted yet.
    Abort,
    /// Time has passed.
    Tick,
}

/// What a transfer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferEffect {
    /// Read the record, then say `Read`.
    Read,
    /// Swap the record under its conditions, then say `Committed` or `Unsettled`.
    Swap(Swap),
    /// Order the seal of this agent. It may be lost: it is ordered again.
    Seal(AgentId, Seal),
    /// Say `Tick` at this time; replaces every earlier wish.
    WakeAt(BootTime),
    /// It is over.
    Over(Outcome),
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target holds the right.
    Granted(WriteGeneration),
    /// The holder keeps it, at this generation.
    Aborted(WriteGeneration),
    /// Nothing was changed.
    Refused(NotTransferred),
}

/// Why a right is not transferred.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotTransferred {
    /// The holder lives: judge it anew.
    #[error("{0} renewed its right meanwhile: it answers, and is judged anew")]
    Renewed(AgentId),
    /// It could not take over.
    #[error("{0} is no promotable member")]
    NotMember(AgentId),
    /// The holder would not ask it, so nothing that it promises would stop the holder.
    #[error(
        "{target} is a member that {holder} has not acknowledged yet; choose another, or wait until it renews"
    )]
    Unacknowledged {
        /// The member.
        target: AgentId,
        /// Who has not.
        holder: AgentId,
    },
    /// Somebody was quicker.
    #[error("generation {expected} is over, {found} is held by {holder}: plan anew")]
    Superseded {
        /// The right that was to be taken.
        expected: WriteGeneration,
        /// Of the record.
        found: WriteGeneration,
        /// Who holds that.
        holder: AgentId,
    },
    /// Another transfer is under way.
    #[error("{plan} is giving the right to {target}; let it end, or abort it")]
    AnotherTransfer {
        /// To whom.
        target: AgentId,
        /// By which plan.
        plan: PlanId,
    },
}

/// One transfer under one leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transfer {
    intervals: RightIntervals,
    rules: Rules,
    epoch: Epoch,
    intent: Intent,
    record: Option<(WriteRight, Sighting)>,
    /// A swap that nothing is known about yet. There is at most one.
    pending: Option<Swap>,
    /// When the target's promises are over, since it is sealed.
    target_sealed: Option<BootTime>,
    holder_fenced: bool,
    next_order: BootTime,
    aborting: bool,
    outcome: Option<Outcome>,
}

impl Transfer {
    /// A transfer by the leader of this epoch, after the verdict and the durable intent (step 8).
    #[must_use]
    pub fn begin(intervals: RightIntervals, epoch: Epoch, intent: Intent) -> (Self, Vec<TransferEffect>) {
        Self::begin_by(Rules::default(), intervals, epoch, intent)
    }

    pub(super) fn begin_by(
        rules: Rules,
        intervals: RightIntervals,
        epoch: Epoch,
        intent: Intent,
    ) -> (Self, Vec<TransferEffect>) {
        let transfer = Self {
            intervals,
            rules,
            epoch,
            intent,
            record: None,
            pending: None,
            target_sealed: None,
            holder_fenced: false,
            next_order: BootTime::default(),
            aborting: false,
            outcome: None,
        };
        (transfer, vec![TransferEffect::Read])
    }

    /// What a new leader goes on with: the transfer that the record is closing for (step 14).
    #[must_use]
    pub fn resume(
        intervals: RightIntervals,
        epoch: Epoch,
        record: &WriteRight,
    ) -> Option<(Self, Vec<TransferEffect>)> {
        Self::resume_by(Rules::default(), intervals, epoch, record)
    }

    pub(super) fn resume_by(
        rules: Rules,
        intervals: RightIntervals,
        epoch: Epoch,
        record: &WriteRight,
    ) -> Option<(Self, Vec<TransferEffect>)> {
        let RightState::Closing { target, plan } = &record.state else { return None };
        let intent = Intent { from: record.generation, target: target.clone(), plan: plan.clone() };
        Some(Self::begin_by(rules, intervals, epoch, intent))
    }

    /// Takes one event. After the outcome nothing has an effect.
    #[must_use]
    pub fn handle(&mut self, event: TransferEvent, now: BootTime) -> Vec<TransferEffect> {
        if self.outcome.is_some() {
            return Vec::new();
        }
        match event {
            TransferEvent::Read(record, sighting) => return self.read(record, sighting, now),
            TransferEvent::Committed(revision) => self.committed(revision),
            TransferEvent::Unsettled => {
                if self.pending.is_some() {
                    return vec![TransferEffect::Read];
                }
            }
            TransferEvent::Sealed(sealed) => self.sealed(&sealed, now),
            TransferEvent::Abort => self.aborting = true,
            TransferEvent::Tick => {}
        }
        self.advance(now)
    }

    /// A record that is still open but has changed since the close was decided on: a renewal came (step 8).
    fn read(&mut self, record: WriteRight, sighting: Sighting, now: BootTime) -> Vec<TransferEffect> {
        let closing = self.pending.take().filter(|swap| swap.kind() == SwapKind::Close);
        let renewed = closing.is_some_and(|swap| swap.expected() != sighting.revision);
        if renewed && record.is_open() && record.generation == self.intent.from {
            return self.end(Outcome::Refused(NotTransferred::Renewed(record.holder)));
        }
        self.record = Some((record, sighting));
        self.advance(now)
    }

    /// The swap's condition held: the record went from what was seen to what was swapped in, with no renewal between. So it
    /// was last renewed no later than it was first seen (step 9).
    fn committed(&mut self, revision: Revision) {
        let Some(swap) = self.pending.take() else { return };
        if let Some((record, sighting)) = &mut self.record {
            *record = swap.record().clone();
            sighting.revision = revision;
        }
    }

    fn sealed(&mut self, sealed: &Sealed, now: BootTime) {
        if sealed.generation != self.intent.from.next() {
            return;
        }
        if sealed.from == self.intent.target {
            let over = now.plus(sealed.promise_left);
            self.target_sealed = Some(self.target_sealed.map_or(over, |before| before.max(over)));
        } else if self.record.as_ref().is_some_and(|(record, _)| record.holder == sealed.from) {
            self.holder_fenced = true;
        }
    }

    /// What comes next, by the record alone.
    fn advance(&mut self, now: BootTime) -> Vec<TransferEffect> {
        if self.pending.is_some() {
            return Vec::new();
        }
        let Some((record, sighting)) = self.record.clone() else { return Vec::new() };
        let expected = self.intent.from;
        if record.generation != expected {
            let granted = record.generation == expected.next() && record.holder == self.intent.target;
            let returned = self.aborting && record.generation > expected && record.is_open();
            let (found, holder) = (record.generation, record.holder);
            return self.end(match (granted, returned) {
                (true, _) => Outcome::Granted(found),
                (_, true) => Outcome::Aborted(found),
                _ => Outcome::Refused(NotTransferred::Superseded { expected, found, holder }),
            });
        }
        match &record.state {
            RightState::Open if self.aborting => self.end(Outcome::Aborted(expected)),
            RightState::Open => match self.refusal(&record) {
                Some(refusal) => self.end(Outcome::Refused(refusal)),
                None => self.propose(Swap::close(self.epoch, &record, sighting.revision, &self.intent)),
            },
            RightState::Closing { target, plan }
                if (target, plan) != (&self.intent.target, &self.intent.plan) =>
            {
                let (target, plan) = (target.clone(), plan.clone());
                self.end(Outcome::Refused(NotTransferred::AnotherTransfer { target, plan }))
            }
            RightState::Closing { .. } if self.aborting => {
                let above = if self.rules.keep(Rule::AbortAboveSeal) {
                    expected.next().next()
                } else {
                    expected.next()
                };
                self.propose(Swap::abort(self.epoch, &record, sighting.revision, above))
            }
            RightState::Closing { .. } => match self.fenced(sighting, now) {
                Some(fenced) => self.propose(Swap::grant(self.epoch, &record, sighting.revision, fenced)),
                None => self.wait(&record, sighting, now),
            },
        }
    }

    /// Steps 8 and 15: why the target is none.
    fn refusal(&self, record: &WriteRight) -> Option<NotTransferred> {
        let target = &self.intent.target;
        if !record.members.promotable.contains(target) {
            return Some(NotTransferred::NotMember(target.clone()));
        }
        let unacknowledged = !record.acknowledged.promotable.contains(target);
        (unacknowledged && self.rules.keep(Rule::MembershipAcknowledged))
            .then(|| NotTransferred::Unacknowledged { target: target.clone(), holder: record.holder.clone() })
    }

    /// Steps 10 and 11: the proof that a grant takes. The target is sealed, and the holder's last right is over by every
    /// clock, or the holder itself is sealed with its database stopped.
    fn fenced(&self, sighting: Sighting, now: BootTime) -> Option<Fenced> {
        let sealed = match self.target_sealed {
            Some(promise_over) => promise_over <= now || self.holder_fenced,
            None => !self.rules.keep(Rule::SealBeforeGrant),
        };
        let waited = self.lapsed(sighting) <= now || self.holder_fenced || !self.rules.keep(Rule::Wait);
        (sealed && waited).then(|| Fenced::of(&self.intent))
    }

    /// When the last renewal from the store is dead.
    fn lapsed(&self, sighting: Sighting) -> BootTime {
        let drift = self.rules.keep(Rule::DriftAllowance);
        sighting.since.plus(if drift { self.intervals.over() } else { self.intervals.width() })
    }

    /// Orders the seals that are missing, of the target and, as a fence, of the holder; and waits.
    fn wait(&mut self, record: &WriteRight, sighting: Sighting, now: BootTime) -> Vec<TransferEffect> {
        let seal = Seal { incarnation: record.incarnation, generation: self.intent.from.next() };
        let mut effects = Vec::new();
        if self.next_order <= now {
            let missing =
                [(self.target_sealed.is_none(), &self.intent.target), (!self.holder_fenced, &record.holder)];
            effects.extend(
                missing
                    .into_iter()
                    .filter(|(is_missing, _)| *is_missing)
                    .map(|(_, agent)| TransferEffect::Seal(agent.clone(), seal)),
            );
            self.next_order = now.plus(self.intervals.retry());
        }
        let ends = [Some(self.next_order), Some(self.lapsed(sighting)), self.target_sealed];
        effects.extend(ends.into_iter().flatten().filter(|at| *at > now).min().map(TransferEffect::WakeAt));
        effects
    }

    fn propose(&mut self, swap: Swap) -> Vec<TransferEffect> {
        self.pending = Some(swap.clone());
        vec![TransferEffect::Swap(swap)]
    }

    fn end(&mut self, outcome: Outcome) -> Vec<TransferEffect> {
        self.outcome = Some(outcome.clone());
        vec![TransferEffect::Over(outcome)]
    }
}
