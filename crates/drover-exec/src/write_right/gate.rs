//! What stops the database when the agent does not.
//!
//! An agent may be stopped, swapped out or gone while its database goes on. So the deadline is kept by a process
//! beside it, which knows nothing but this, and whose own death stops the database as well.

use super::keeper::MayWrite;
use drover_model::write_right::{BootTime, RightIntervals};

/// What the gate does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLook {
    /// Nothing.
    Open,
    /// It stops the database, whatever the agent says.
    Stop,
}

/// The gate before one database (step 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gate {
    intervals: RightIntervals,
    until: BootTime,
}

impl Gate {
    /// Opens with a right, and with nothing else.
    #[must_use]
    pub fn open(intervals: RightIntervals, right: &MayWrite) -> Self {
        Self { intervals, until: right.until() }
    }

    /// The right was renewed. It is never shortened: whoever wants less stops the database.
    pub fn extend(&mut self, right: &MayWrite) {
        self.until = self.until.max(right.until());
    }

    /// Looks at the clock, at least once every `gate_tick`. It stops at the last look that is sure not to come too late.
    #[must_use]
    pub fn look(&self, now: BootTime) -> GateLook {
        if now.plus(self.intervals.gate_tick()) > self.until { GateLook::Stop } else { GateLook::Open }
    }

    /// From then on nothing is written, by the clock of this machine.
    #[must_use]
    pub fn stopped_by(&self) -> BootTime {
        self.until.plus(self.intervals.demotion())
    }
}
