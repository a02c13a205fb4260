//! Who leads: it moves rights, and goes on with what a leader before it began.

use super::DatasetWorld;
use super::agenda::What;
use super::net::latency;
use crate::planted::Planted;
use crate::rights::clock::BootClock;
use drover_exec::write_right::{
    Intent, NotTransferred, Outcome, Sighting, Swap, SwapKind, Transfer, TransferEffect, TransferEvent,
    change_members,
};
use drover_model::write_right::{BootTime, RightState, Sealed};
use drover_model::{AgentId, Epoch, PlanId, Span, Timestamp};

/// By which its clock is named.
pub(super) const LEADER: &str = "leader";

/// Between two looks at the record.
const LOOK_EVERY: Span = Span::from_secs(1);
/// Pause before a store whose answer was lost is asked again.
const STORE_AGAIN: Span = Span::from_millis(200);
/// Of so many answers of the store one is lost.
const LOST_ONE_IN: u32 = 40;
/// A holder that lives renews every second, and may do so between the look and the close.
const CLOSE_TRIES: u32 = 20;

/// A coordinator that looks at the record: when it saw it first as it is, by its own clock.
pub(super) struct Watcher {
    pub(super) clock: BootClock,
    sighting: Option<Sighting>,
}

impl Watcher {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { clock: BootClock::new(now, Span::from_hours(1)), sighting: None }
    }
}

/// A leader of one epoch.
pub(super) struct Lead {
    pub(super) epoch: Epoch,
    watcher: Watcher,
    moving: Option<Moving>,
}

struct Moving {
    transfer: Transfer,
    intent: Intent,
    holder: AgentId,
    tries: u32,
}

impl Lead {
    pub(super) fn new(epoch: Epoch, watcher: Watcher) -> Self {
        Self { epoch, watcher, moving: None }
    }

    pub(super) fn moves(&self) -> bool {
        self.moving.is_some()
    }
}

impl DatasetWorld {
    /// Whoever leads by now takes over. It has the sightings that it made as a follower, and nothing else.
    pub(super) fn succeed(&mut self, rate: i64) {
        let now = self.now;
        if self.env.epoch != self.lead.epoch {
            let watcher = std::mem::replace(&mut self.follower, Watcher::new(now));
            let before = std::mem::replace(&mut self.lead, Lead::new(self.env.epoch, watcher));
            self.deposed = Some(before).filter(|before| self.env.asleep == Some(before.epoch));
            let looks = now + latency(&mut self.chance, false);
            self.agenda.put(looks, What::LeadLooks(self.env.epoch.counter));
        }
        self.lead.watcher.clock.runs_at(rate, now);
        self.follower.clock.runs_at(rate, now);
    }

    /// The leader's next transaction is so long on its way.
    pub(super) fn is_late_by(&mut self, span: Span) {
        self.late = span;
    }

    fn leader(&mut self, counter: u64) -> Option<&mut Lead> {
        if self.lead.epoch.counter == counter {
            return Some(&mut self.lead);
        }
        self.deposed.as_mut().filter(|deposed| deposed.epoch.counter == counter)
    }

    fn sees(&mut self, counter: u64) -> Option<Sighting> {
        let (now, revision) = (self.now, self.stored.revision);
        let watcher = &mut self.leader(counter)?.watcher;
        let sighting = Sighting::of(watcher.sighting, revision, watcher.clock.at(now));
        watcher.sighting = Some(sighting);
        if self.env.lacks(Planted::Wait) {
            return Some(Sighting::of(None, revision, BootTime::default()));
        }
        Some(sighting)
    }

    pub(super) fn lead_looks(&mut self, counter: u64) {
        if self.lead.epoch.counter != counter {
            return;
        }
        self.agenda.put(self.now + LOOK_EVERY, What::LeadLooks(counter));
        let here = self.follower.clock.at(self.now);
        let seen = Sighting::of(self.follower.sighting, self.stored.revision, here);
        self.follower.sighting = Some(seen);
        self.sees(counter);
        if self.lead.moves() {
            if self.env.lacks(Planted::Seal) {
                self.takes_the_order_for_the_seal(counter);
            }
            return self.lead(counter, TransferEvent::Tick);
        }
        self.tend(counter);
    }

    /// What a leader does that moves nothing.
    fn tend(&mut self, counter: u64) {
        let record = self.stored.record.clone();
        if let RightState::Closing { target, plan } = &record.state {
            let intent = Intent { from: record.generation, target: target.clone(), plan: plan.clone() };
            self.seen.resumed = true;
            self.tell(format!("epoch {counter} goes on with the move to {target}"));
            return self.begins(counter, intent, record.holder.clone());
        }
        if let Some(target) = self.stored.moving.take() {
            let (holder, generation) = (&record.holder, record.generation);
            self.tell(if *holder == target {
                format!("{holder} holds the right at generation {generation}")
            } else {
                format!("{holder} keeps the right: the leader ended before it was closed; ask again")
            });
        }
        let wanted = self.members.iter().filter(|agent| **agent != record.holder).cloned().collect();
        if record.members.promotable != wanted
            && let Ok(changed) = change_members(&record, wanted)
        {
            self.store(&changed);
        }
    }

    /// With the rule taken away nobody is sealed, and the leader goes on as if the target were.
    fn takes_the_order_for_the_seal(&mut self, counter: u64) {
        let Some(intent) = self.lead.moving.as_ref().map(|moving| moving.intent.clone()) else { return };
        let sealed = Sealed { from: intent.target, generation: intent.from.next(), promise_left: Span::ZERO };
        self.lead(counter, TransferEvent::Sealed(sealed));
    }

    /// A person moves the right. What stands in the way is said at once.
    pub(super) fn moves(&mut self, target: AgentId) -> String {
        let record = self.stored.record.clone();
        if self.lead.moves() {
            return format!("refused: a move of {} is under way", self.name);
        }
        if record.holder == target {
            return format!("refused: {target} has the write right of {} already", self.name);
        }
        let plan = PlanId::from_text(&format!("move-{}-{}-{target}", self.name, record.generation));
        let intent = Intent { from: record.generation, target: target.clone(), plan };
        let epoch = self.lead.epoch;
        let Some(sighting) = self.sees(epoch.counter) else {
            return format!("refused: nobody leads {}", self.name);
        };
        let (mut asked, _) = Transfer::begin(self.intervals, epoch, intent.clone());
        let here = self.lead.watcher.clock.at(self.now);
        let effects = asked.handle(TransferEvent::Read((*record).clone(), sighting), here);
        if let Some(TransferEffect::Over(Outcome::Refused(why))) = effects.first() {
            return format!("refused: {why}");
        }
        // Durable before the right is closed (I1).
        self.stored.moving = Some(target.clone());
        self.begins(epoch.counter, intent, record.holder.clone());
        format!("the right to write goes from {} to {target}", record.holder)
    }

    /// Gives the right back, if it is not granted yet.
    pub(super) fn aborts(&mut self) -> String {
        if !self.lead.moves() {
            return format!("refused: no move of {} is under way", self.name);
        }
        self.lead(self.lead.epoch.counter, TransferEvent::Abort);
        "the move is told to give the right back, if it is not granted yet".to_owned()
    }

    fn begins(&mut self, counter: u64, intent: Intent, holder: AgentId) {
        let intervals = self.intervals;
        let Some(lead) = self.leader(counter) else { return };
        let (transfer, effects) = Transfer::begin(intervals, lead.epoch, intent.clone());
        lead.moving = Some(Moving { transfer, intent, holder, tries: 1 });
        self.does(counter, effects);
    }

    pub(super) fn lead(&mut self, counter: u64, event: TransferEvent) {
        let now = self.now;
        let Some(lead) = self.leader(counter) else { return };
        let here = lead.watcher.clock.at(now);
        let Some(moving) = &mut lead.moving else { return };
        let effects = moving.transfer.handle(event, here);
        self.does(counter, effects);
    }

    fn does(&mut self, counter: u64, effects: Vec<TransferEffect>) {
        for effect in effects {
            match effect {
                TransferEffect::Read => {
                    if let Some(sighting) = self.sees(counter) {
                        let record = (*self.stored.record).clone();
                        self.lead(counter, TransferEvent::Read(record, sighting));
                    }
                }
                TransferEffect::Swap(swap) => {
                    let takes = latency(&mut self.chance, false).plus(std::mem::take(&mut self.late));
                    self.agenda.put(self.now + takes, What::Swap(counter, Box::new(swap)));
                }
                // Whoever is meant reads it off the record.
                TransferEffect::Seal(..) => {}
                TransferEffect::WakeAt(at) => {
                    let now = self.now;
                    let Some(lead) = self.leader(counter) else { return };
                    let when = lead.watcher.clock.when(at, now).max(now + Span::from_millis(1));
                    self.agenda.put(when, What::Lead(counter, Box::new(TransferEvent::Tick)));
                }
                TransferEffect::Over(outcome) => self.ended(counter, outcome),
            }
        }
    }

    fn ended(&mut self, counter: u64, outcome: Outcome) {
        let intervals = self.intervals;
        let Some(lead) = self.leader(counter) else { return };
        let epoch = lead.epoch;
        let Some(mut moving) = lead.moving.take() else { return };
        if matches!(outcome, Outcome::Refused(NotTransferred::Renewed(_))) && moving.tries < CLOSE_TRIES {
            let (transfer, effects) = Transfer::begin(intervals, epoch, moving.intent.clone());
            (moving.transfer, moving.tries) = (transfer, moving.tries + 1);
            lead.moving = Some(moving);
            return self.does(counter, effects);
        }
        self.stored.moving = None;
        self.tell(match outcome {
            Outcome::Granted(generation) => {
                format!("{} holds the right at generation {generation}", moving.intent.target)
            }
            Outcome::Aborted(generation) => {
                format!("aborted: {} keeps the right, at generation {generation}", moving.holder)
            }
            Outcome::Refused(why) => format!("nothing was changed: {why}"),
        });
    }

    /// The store takes a leader's transaction, or does not; whether the leader hears of it is another matter.
    pub(super) fn swap(&mut self, counter: u64, swap: &Swap) {
        if swap.epoch() != self.env.epoch && !self.env.lacks(Planted::EpochCheck) {
            // Fenced: it does not lead any more, and knows that now.
            if let Some(lead) = self.leader(counter) {
                lead.moving = None;
                self.tell(format!("epoch {counter} is refused: it does not lead"));
            }
            return;
        }
        let compares = swap.kind() != SwapKind::Close || !self.env.lacks(Planted::CloseCompares);
        let holds = swap.expected() == self.stored.revision || !compares;
        if holds {
            self.store(swap.record());
            self.seen.moved |= swap.kind() == SwapKind::Grant;
            self.seen.aborted |= swap.kind() == SwapKind::Abort;
            self.tell_swapped(swap.kind());
        }
        let lost = self.chance.u32(..LOST_ONE_IN) == 0;
        let (event, takes) = match (holds, lost) {
            (true, false) => {
                (TransferEvent::Committed(self.stored.revision), latency(&mut self.chance, false))
            }
            (false, false) => (TransferEvent::Unsettled, latency(&mut self.chance, false)),
            (_, true) => (TransferEvent::Unsettled, STORE_AGAIN),
        };
        self.agenda.put(self.now + takes, What::Lead(counter, Box::new(event)));
    }

    fn tell_swapped(&mut self, kind: SwapKind) {
        let record = self.stored.record.clone();
        let (holder, generation) = (&record.holder, record.generation);
        match (kind, &record.state) {
            (SwapKind::Close, RightState::Closing { target, .. }) => {
                self.tell(format!("the right of {holder} is closing for {target}"));
            }
            (SwapKind::Grant, _) => self.tell(format!("generation {generation} is granted to {holder}")),
            _ => self.tell(format!("the right goes back to {holder} at generation {generation}")),
        }
    }
}
