//! Who leads among any number of coordinators, as a state machine.
//!
//! Think of a night watch with one lamp. Who carries it calls out every half minute, and puts it down by itself once
//! nobody can have heard the last call for too long. The others listen; whoever has heard nothing for the whole while
//! walks to the hook where the lamp's tag hangs, and takes it only if the tag is still the one it saw.
//!
//! Two things keep two from acting at once, and either would do for what is written. The *fence*: every write of a leader
//! requires the leader's record as it was when it took over, so that nothing of a deposed one lands (I3). The *bound*: a
//! leader acts only until [`Bounds::acts_for`] after it *sent* the last beat that landed, and nobody takes over before
//! [`Bounds::lost_after`] has passed since it *saw* that beat. The second is what holds back effects that no fence reaches.
//!
//! The hard case is silence that is the observer's own: a follower that could not read does not know that there was no beat.
//! It begins to count again with its next reading (I6), and it judges by a reading that it asked for after the bound, so
//! that one that was stopped for an hour does not depose who beat all the while.

#[cfg(test)]
mod tests;

use crate::write_right::Revision;
use drover_model::Span;
use drover_model::write_right::BootTime;

/// How many beats fit into the bound: a leader has failed to make four before it stops, and etcd's own election, which
/// takes up to 2 s, passes within 3 s.
const BEATS_IN_BOUND: u64 = 6;
/// The part of the bound by which a leader stops earlier than anybody may take over. A tenth allows two clocks that are
/// each wrong by a twentieth, fifty times what real ones are.
const MARGIN_PART: u64 = 10;

/// The bound, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    lost_after: Span,
}

impl Bounds {
    /// By the time without a beat after which a leader counts as lost.
    #[must_use]
    pub const fn new(lost_after: Span) -> Self {
        Self { lost_after }
    }

    /// Nobody takes over before this has passed since it saw the last beat.
    #[must_use]
    pub const fn lost_after(&self) -> Span {
        self.lost_after
    }

    /// A leader acts for so long after it sent the last beat that landed.
    #[must_use]
    pub fn acts_for(&self) -> Span {
        self.lost_after.minus(self.lost_after.divided_by(MARGIN_PART))
    }

    /// Between two beats, and between two looks at them.
    #[must_use]
    pub fn beat_every(&self) -> Span {
        self.lost_after.divided_by(BEATS_IN_BOUND)
    }
}

/// The leader's record and its beat, as one reading showed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The record's revision, when there is one.
    pub record: Option<Revision>,
    /// Whoever led has put it down.
    pub is_released: bool,
    /// The beat's revision, when there is one.
    pub beat: Option<Revision>,
}

/// What the outside tells. Closed: nothing else moves the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The record may have changed: look now.
    Changed,
    /// What the look that was ordered showed.
    Saw {
        /// The record and its beat.
        sight: Sight,
        /// Another follower hears more vantages: it shall take over rather than this one.
        gives_way: bool,
    },
    /// It showed nothing.
    LookFailed,
    /// The swap landed, and the record has this revision.
    TookOver(Revision),
    /// It was refused, or nobody knows: what then stands, a look will show.
    NotTakenOver,
    /// The beat landed.
    BeatLanded,
    /// The record is not this leader's any more.
    BeatRefused,
    /// Nobody knows whether it landed.
    BeatLost,
    /// Stop leading, as when the process is told to end.
    Release,
    /// The record was put down, or could not be.
    Released,
}

/// What is to be done. Every `Look`, `TakeOver`, `Beat` and `Release` is answered by exactly one of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Read record and beat at one revision.
    Look,
    /// Swap the record, and write the first beat with it, if both are as in this sight.
    TakeOver(Sight),
    /// Take up what the leader does, under this fence.
    Lead(Revision),
    /// Write a beat that requires the record at this revision.
    Beat(Revision),
    /// Put the record of this revision down.
    Release(Revision),
    /// It is over, and nothing more will be ordered.
    End(End),
}

/// How it was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Another one took over.
    Deposed,
    /// It put the record down, or tried to.
    HandedOver,
    /// It never led.
    NeverLed,
}

/// A sight and since when it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    sight: Sight,
    since: BootTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Another one leads, or nobody.
    Following { seen: Option<Seen>, asked_at: Option<BootTime>, next_look: BootTime },
    /// The swap is on its way.
    TakingOver { sent_at: BootTime, is_to_release: bool },
    /// It leads, and acts until then.
    Leading { fence: Revision, until: BootTime, beat_sent_at: Option<BootTime>, next_beat: BootTime },
    /// It does not act any more, and puts the record down.
    HandingOver,
    /// Nothing moves it.
    Over,
}

/// One coordinator's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    bounds: Bounds,
    state: State,
}

impl Leadership {
    /// One that has just started, and knows nothing.
    #[must_use]
    pub const fn follow(bounds: Bounds, now: BootTime) -> Self {
        Self { bounds, state: State::Following { seen: None, asked_at: None, next_look: now } }
    }

    /// Takes one event, and says what is to be done.
    #[must_use = "what is not done is never answered"]
    pub fn handle(&mut self, event: Event, now: BootTime) -> Vec<Effect> {
        match self.state {
            State::Following { seen, asked_at, next_look } => {
                self.follows(seen, asked_at, next_look, event, now)
            }
            State::TakingOver { sent_at, is_to_release } => {
                self.takes_over(sent_at, is_to_release, event, now)
            }
            State::Leading { fence, until, beat_sent_at, next_beat } => {
                self.leads(fence, until, beat_sent_at, next_beat, event, now)
            }
            State::HandingOver => match event {
                Event::Released => self.end(End::HandedOver),
                _ => Vec::new(),
            },
            State::Over => Vec::new(),
        }
    }

    /// When it wants `Tick`.
    #[must_use]
    pub const fn wake_at(&self) -> Option<BootTime> {
        match self.state {
            State::Following { asked_at: None, next_look, .. } => Some(next_look),
            State::Leading { beat_sent_at: None, next_beat, .. } => Some(next_beat),
            _ => None,
        }
    }

    /// Until when it may act, while it leads.
    #[must_use]
    pub const fn acts_until(&self) -> Option<BootTime> {
        match self.state {
            State::Leading { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Since when the beat that it saw last is known, while it follows.
    #[must_use]
    pub fn heard_at(&self) -> Option<BootTime> {
        match self.state {
            State::Following { seen, .. } => seen.map(|seen| seen.since),
            _ => None,
        }
    }

    fn follows(
        &mut self,
        seen: Option<Seen>,
        asked_at: Option<BootTime>,
        next_look: BootTime,
        event: Event,
        now: BootTime,
    ) -> Vec<Effect> {
        let look_later = now.plus(self.bounds.beat_every());
        let (next, effects) = match (event, asked_at) {
            (Event::Tick, None) if now >= next_look => {
                (State::Following { seen, asked_at: Some(now), next_look }, vec![Effect::Look])
            }
            (Event::Changed, None) => {
                (State::Following { seen, asked_at: Some(now), next_look: now }, vec![Effect::Look])
            }
            // The reading on its way may be older than the change: look again as soon as it is here.
            (Event::Changed, Some(_)) => (State::Following { seen, asked_at, next_look: now }, vec![]),
            (Event::Saw { sight, gives_way }, Some(asked)) => {
                if self.is_to_be_taken(sight, gives_way, seen, asked) {
                    let sent = State::TakingOver { sent_at: now, is_to_release: false };
                    (sent, vec![Effect::TakeOver(sight)])
                } else {
                    let same = seen.filter(|seen| seen.sight == sight);
                    let seen = Some(same.unwrap_or(Seen { sight, since: now }));
                    // Only a change that came meanwhile is looked at sooner.
                    let next_look = if next_look > asked { next_look } else { look_later };
                    (State::Following { seen, asked_at: None, next_look }, vec![])
                }
            }
            // It does not know that there was no beat: it counts from its next reading (I6).
            (Event::LookFailed, Some(_)) => {
                cov_mark::hit!(i6_a_follower_that_could_not_look_counts_anew);
                (State::Following { seen: None, asked_at: None, next_look: look_later }, vec![])
            }
            (Event::Release, _) => return self.end(End::NeverLed),
            _ => (self.state, vec![]),
        };
        self.state = next;
        effects
    }

    /// Nobody leads, or who did was not heard for the whole bound, by a reading that was asked for after it. Who gives way
    /// waits for one bound more, and no longer: the other one may be gone by then.
    fn is_to_be_taken(&self, sight: Sight, gives_way: bool, seen: Option<Seen>, asked_at: BootTime) -> bool {
        let unchanged = seen.filter(|s| s.sight == sight).map(|s| asked_at.since(s.since));
        let lost_after = self.bounds.lost_after;
        let nobody_leads = sight.record.is_none() || sight.is_released;
        let bound = match (nobody_leads, gives_way) {
            (true, false) => return true,
            (true, true) | (false, false) => lost_after,
            (false, true) => lost_after.plus(lost_after),
        };
        unchanged.is_some_and(|unchanged| unchanged >= bound)
    }

    fn takes_over(
        &mut self,
        sent_at: BootTime,
        is_to_release: bool,
        event: Event,
        now: BootTime,
    ) -> Vec<Effect> {
        let (next, effects) = match event {
            Event::TookOver(fence) if is_to_release => (State::HandingOver, vec![Effect::Release(fence)]),
            Event::TookOver(fence) => {
                // Counted from the sending: the answer may have been away for an hour.
                let until = sent_at.plus(self.bounds.acts_for());
                let next_beat = sent_at.plus(self.bounds.beat_every());
                (State::Leading { fence, until, beat_sent_at: None, next_beat }, vec![Effect::Lead(fence)])
            }
            Event::NotTakenOver if is_to_release => return self.end(End::NeverLed),
            Event::NotTakenOver => (State::Following { seen: None, asked_at: None, next_look: now }, vec![]),
            Event::Release => (State::TakingOver { sent_at, is_to_release: true }, vec![]),
            _ => (self.state, vec![]),
        };
        self.state = next;
        effects
    }

    fn leads(
        &mut self,
        fence: Revision,
        until: BootTime,
        beat_sent_at: Option<BootTime>,
        next_beat: BootTime,
        event: Event,
        now: BootTime,
    ) -> Vec<Effect> {
        let leading =
            |until, beat_sent_at, next_beat| State::Leading { fence, until, beat_sent_at, next_beat };
        let (next, effects) = match (event, beat_sent_at) {
            (Event::Tick, None) if now >= next_beat => {
                (leading(until, Some(now), next_beat), vec![Effect::Beat(fence)])
            }
            (Event::BeatLanded, Some(sent)) => {
                let until = sent.plus(self.bounds.acts_for()).max(until);
                (leading(until, None, sent.plus(self.bounds.beat_every())), vec![])
            }
            // Not a reason to end: nobody may be able to write, and then nobody takes over. It only acts no longer than
            // the last beat lets it, and goes on once one lands.
            (Event::BeatLost, Some(_)) => (leading(until, None, now.plus(self.bounds.beat_every())), vec![]),
            (Event::BeatRefused, Some(_)) => {
                cov_mark::hit!(i3_a_deposed_leader_ends);
                return self.end(End::Deposed);
            }
            (Event::Release, _) => (State::HandingOver, vec![Effect::Release(fence)]),
            _ => (self.state, vec![]),
        };
        self.state = next;
        effects
    }

    fn end(&mut self, end: End) -> Vec<Effect> {
        self.state = State::Over;
        vec![Effect::End(end)]
    }
}
