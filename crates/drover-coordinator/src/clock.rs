//! The coordinator's clock: wall time at the start, carried on by the time since the machine started. A wall clock that
//! jumps while drover runs therefore moves no window, no timeout and no verdict; it only shows after the next start.
//!
//! Sleep counts (`CLOCK_BOOTTIME` on Linux): after a virtual machine was suspended for an hour, everything known is an
//! hour old, where a clock that stood still would take an hour-old opinion for a fresh one.

use drover_model::write_right::BootTime;
use drover_model::{Span, Timestamp};
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::CLOCK_MONOTONIC;

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_at_start: i64,
    started: i64,
}

/// Milliseconds since the machine started.
fn monotonic_millis() -> i64 {
    // The call can't fail for a clock that exists; were it to, time would stand still and nothing would be decided.
    clock_gettime(MONOTONIC)
        .map_or(0, |t| t.tv_sec().saturating_mul(1_000).saturating_add(t.tv_nsec() / 1_000_000))
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        Self { wall_at_start: Self::wall().as_millis(), started: monotonic_millis() }
    }

    /// Now, as this machine alone counts it: for how long, never for when.
    #[must_use]
    pub fn boot() -> BootTime {
        BootTime::after_boot(Span::from_millis(u64::try_from(monotonic_millis()).unwrap_or(0)))
    }

    /// The wall clock as it is just now, for the comparison of clocks alone.
    #[must_use]
    pub fn wall() -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(wall.as_millis()).unwrap_or(0))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = monotonic_millis().saturating_sub(self.started);
        Timestamp::from_millis(self.wall_at_start.saturating_add(elapsed))
    }
}
