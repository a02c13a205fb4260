//! What stops the database when the agent does not.
//!
//! An agent may be stopped, swapped out or gone while its database goes on. So the deadline is kept by a process
//! beside it, which knows nothing but this, and whose own death stops the database as well.

use drover_model::write_right::{BootTime, Permit};

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
    permit: Permit,
}

impl Gate {
    /// Opens for what a keeper's right permits ([`MayWrite::permit`](super::MayWrite::permit)), and for nothing else. It comes from another
    /// process, so that the proof itself can't be asked for here.
    #[must_use]
    pub fn open(permit: Permit) -> Self {
        Self { permit }
    }

    /// What it is open for.
    #[must_use]
    pub fn permit(&self) -> Permit {
        self.permit
    }

    /// The right was renewed. It is never shortened: whoever wants less stops the database.
    pub fn extend(&mut self, permit: Permit) {
        self.permit.until = self.permit.until.max(permit.until);
    }

    /// Looks at the clock, at least once every `gate_tick`. It stops at the last look that is sure not to come too late.
    #[must_use]
    pub fn look(&self, now: BootTime) -> GateLook {
        if now.plus(self.permit.gate_tick) > self.permit.until { GateLook::Stop } else { GateLook::Open }
    }

    /// From then on nothing is written, by the clock of this machine.
    #[must_use]
    pub fn stopped_by(&self) -> BootTime {
        self.permit.until.plus(self.permit.demotion)
    }
}
