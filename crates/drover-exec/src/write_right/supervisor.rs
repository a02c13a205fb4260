//! What the process beside a database decides: it obeys its agent, and the clock before its agent.
//!
//! It begins with a database that does not run, and remembers nothing of what was before it. Whoever drives it starts and
//! stops what writes, says so, and asks again after a stop: a database may take long to stop, and what was permitted before
//! may be over then.

use super::gate::{Gate, GateLook};
use drover_model::Span;
use drover_model::write_right::{BootTime, GateOrder, Permit, WriteGeneration};
use std::fmt;

/// Before a program that ended by itself is started again: so long after the first time, twice as long after each further one,
/// and never longer than the other. One that starts again at once would do so at every renewal, and hide that nothing is written.
const RESTART_PAUSE_MIN: Span = Span::from_secs(1);
const RESTART_PAUSE_MAX: Span = Span::from_secs(30);

/// Why a database is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The clock says so.
    Over,
    /// Its agent says so.
    Ordered,
    /// What its agent permits is over by now.
    OverAlready,
    /// Its agent permits another generation.
    OtherGeneration,
    /// It ended, and what it left behind must not write either.
    EndedByItself,
    /// Nobody would look at the clock any more.
    GateEnds,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Over => "its right to write is over",
            StopReason::Ordered => "its agent says so",
            StopReason::OverAlready => "the right that came is over already",
            StopReason::OtherGeneration => "its generation is over",
            StopReason::EndedByItself => "its program ended by itself",
            StopReason::GateEnds => "the gate ends",
        })
    }
}

/// Why a database that may be wanted stays stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaysStopped {
    /// It could not be stopped in time.
    Over,
    /// It ends again and again.
    EndedByItself {
        /// Before it is started again.
        pause: Span,
    },
}

impl fmt::Display for StaysStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StaysStopped::Over => f.write_str("the right is over, or ends before the next look"),
            StaysStopped::EndedByItself { pause } => {
                write!(f, "its program ended by itself, and is started again in {pause} at the earliest")
            }
        }
    }
}

/// What an order comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an order that is not carried out is no order"]
pub enum GateStep {
    /// Stop it, say [`stopped`](Supervisor::stopped), and ask again once nothing of it runs.
    Stop(StopReason),
    /// Start it and say [`started`](Supervisor::started), or answer why it can't be.
    Start(Permit),
    /// It runs; answer that.
    Runs(WriteGeneration),
    /// Nothing runs; answer that.
    Stopped(Option<StaysStopped>),
}

/// The decisions of one gate's process.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    running: Option<Running>,
    ended: Option<EndedByItself>,
}

#[derive(Debug, Clone)]
struct Running {
    gate: Gate,
    began: BootTime,
}

impl Supervisor {
    /// Until when what runs may, and how long it may take to stop; nothing where nothing runs.
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        self.running.as_ref().map(|running| running.gate.permit())
    }

    /// How long it may rest before it looks: to the last look that is sure not to come too late, and no longer than a tick.
    /// Nothing where nothing runs.
    #[must_use]
    pub fn rests(&self, now: BootTime) -> Option<Span> {
        let permit = self.permit()?;
        let last = permit.until.since(now).minus(permit.gate_tick);
        Some(last.min(permit.gate_tick).max(Span::from_millis(1)))
    }

    /// Looks at the clock, and at whether the program `has_ended` that it started. Says why it is to be stopped.
    #[must_use]
    pub fn look(&self, has_ended: bool, now: BootTime) -> Option<StopReason> {
        let running = self.running.as_ref()?;
        match running.gate.look(now) {
            GateLook::Stop => Some(StopReason::Over),
            GateLook::Open => has_ended.then_some(StopReason::EndedByItself),
        }
    }

    /// Takes an order of its agent.
    pub fn obey(&mut self, order: GateOrder, now: BootTime) -> GateStep {
        let GateOrder::Run(permit) = order else {
            return self.stop_first(StopReason::Ordered, None);
        };
        if Gate::open(permit).look(now) == GateLook::Stop {
            return self.stop_first(StopReason::OverAlready, Some(StaysStopped::Over));
        }
        match &mut self.running {
            Some(running) if running.gate.permit().generation != permit.generation => {
                GateStep::Stop(StopReason::OtherGeneration)
            }
            Some(running) => {
                running.gate.extend(permit);
                GateStep::Runs(permit.generation)
            }
            None => match self.ended.and_then(|ended| ended.left(permit.generation, now)) {
                Some(pause) => GateStep::Stopped(Some(StaysStopped::EndedByItself { pause })),
                None => GateStep::Start(permit),
            },
        }
    }

    /// It was started. To be said before anything else, which could fail: what runs is stopped by this alone.
    pub fn started(&mut self, permit: Permit, now: BootTime) {
        self.running = Some(Running { gate: Gate::open(permit), began: now });
    }

    /// It is being stopped since `now`.
    pub fn stopped(&mut self, why: StopReason, now: BootTime) {
        let Some(running) = self.running.take() else { return };
        if why == StopReason::EndedByItself {
            let generation = running.gate.permit().generation;
            self.ended = Some(EndedByItself::after(self.ended, generation, running.began, now));
        }
    }

    fn stop_first(&self, why: StopReason, then: Option<StaysStopped>) -> GateStep {
        if self.running.is_some() { GateStep::Stop(why) } else { GateStep::Stopped(then) }
    }
}

/// A program that ended and had not been told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndedByItself {
    generation: WriteGeneration,
    at: BootTime,
    /// Before it is started again.
    pause: Span,
}

impl EndedByItself {
    /// One that ran for longer than the longest pause begins anew, and so does another generation.
    fn after(before: Option<Self>, generation: WriteGeneration, began: BootTime, at: BootTime) -> Self {
        let lived = at.since(began);
        let again = before.filter(|b| b.generation == generation && lived < RESTART_PAUSE_MAX);
        let pause = again.map_or(RESTART_PAUSE_MIN, |before| before.pause.times(2).min(RESTART_PAUSE_MAX));
        Self { generation, at, pause }
    }

    /// How long it still must not be started for this generation; nothing where it may.
    fn left(&self, generation: WriteGeneration, now: BootTime) -> Option<Span> {
        let left = self.pause.minus(now.since(self.at));
        (self.generation == generation && left > Span::ZERO).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::after_boot(Span::from_secs(seconds))
    }

    fn permit(generation: u64, until: u64) -> Permit {
        Permit {
            generation: WriteGeneration(generation),
            until: at(until),
            gate_tick: Span::from_millis(500),
            demotion: Span::from_secs(1),
        }
    }

    #[test]
    fn a_program_that_ends_again_and_again_is_started_less_and_less_often() {
        let (first, next) = (WriteGeneration(1), WriteGeneration(2));
        let mut ended = EndedByItself::after(None, first, at(10), at(11));
        assert_eq!((ended.left(first, at(11)), ended.left(first, at(12))), (Some(RESTART_PAUSE_MIN), None));
        assert_eq!(ended.left(next, at(11)), None, "another right starts at once");
        for pause in [2, 4, 8, 16, 30, 30] {
            ended = EndedByItself::after(Some(ended), first, at(20), at(21));
            assert_eq!(ended.pause, Span::from_secs(pause));
        }
        assert_eq!(EndedByItself::after(Some(ended), next, at(20), at(21)).pause, RESTART_PAUSE_MIN);
        assert_eq!(EndedByItself::after(Some(ended), first, at(20), at(50)).pause, RESTART_PAUSE_MIN);
    }

    #[test]
    fn the_clock_goes_before_the_agent() {
        let mut supervisor = Supervisor::default();
        assert_eq!((supervisor.rests(at(1)), supervisor.look(true, at(1))), (None, None));
        assert_eq!(supervisor.obey(GateOrder::Run(permit(1, 10)), at(1)), GateStep::Start(permit(1, 10)));
        supervisor.started(permit(1, 10), at(1));
        assert_eq!(supervisor.rests(at(1)), Some(Span::from_millis(500)));
        assert_eq!(supervisor.rests(at(10)), Some(Span::from_millis(1)), "it looks all the same");
        assert_eq!(supervisor.obey(GateOrder::Run(permit(1, 12)), at(2)), GateStep::Runs(WriteGeneration(1)));
        assert_eq!(
            (supervisor.look(false, at(11)), supervisor.look(false, at(12))),
            (None, Some(StopReason::Over))
        );
        assert_eq!(supervisor.look(true, at(11)), Some(StopReason::EndedByItself));
        supervisor.stopped(StopReason::EndedByItself, at(11));
        let pause = StaysStopped::EndedByItself { pause: RESTART_PAUSE_MIN };
        assert_eq!(supervisor.obey(GateOrder::Run(permit(1, 20)), at(11)), GateStep::Stopped(Some(pause)));
    }

    #[test]
    fn what_is_over_once_another_was_stopped_is_not_started() {
        let mut supervisor = Supervisor::default();
        supervisor.started(permit(1, 10), at(1));
        let next = GateOrder::Run(permit(2, 9));
        assert_eq!(supervisor.obey(next, at(2)), GateStep::Stop(StopReason::OtherGeneration));
        supervisor.stopped(StopReason::OtherGeneration, at(2));
        assert_eq!(supervisor.obey(next, at(8)), GateStep::Start(permit(2, 9)));
        assert_eq!(supervisor.obey(next, at(9)), GateStep::Stopped(Some(StaysStopped::Over)));
    }

    #[test]
    fn it_is_stopped_before_anybody_is_told_so() {
        let mut supervisor = Supervisor::default();
        supervisor.started(permit(1, 10), at(1));
        assert_eq!(supervisor.obey(GateOrder::Stop, at(2)), GateStep::Stop(StopReason::Ordered));
        let late = GateOrder::Run(permit(1, 2));
        assert_eq!(supervisor.obey(late, at(2)), GateStep::Stop(StopReason::OverAlready));
        supervisor.stopped(StopReason::Ordered, at(2));
        assert_eq!(supervisor.obey(GateOrder::Stop, at(3)), GateStep::Stopped(None));
    }
}
