//! The agent's two clocks.
//!
//! Ages and windows are counted on the time since the machine started, sleep included (`CLOCK_BOOTTIME` on Linux): the
//! wall clock steps, and `CLOCK_MONOTONIC` stands still while a virtual machine is suspended, so that a probe from
//! before the suspension would seem seconds old when it is hours old. The wall clock is read for people only.

use drover_model::write_right::BootTime;
use drover_model::{Span, Timestamp};
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::CLOCK_MONOTONIC;

/// Time since the machine started, as a [`Timestamp`] so that `drover-core` can count with it. It is no date: compare
/// it with its like only, within one boot of the machine.
#[must_use]
pub fn monotonic_now() -> Timestamp {
    // The call cannot fail for a clock that exists; were it to, everything would seem to happen at once, and no streak
    // would ever grow old: the stricter side.
    clock_gettime(MONOTONIC).map_or(Timestamp::from_millis(0), |t| {
        Timestamp::from_millis(t.tv_sec().saturating_mul(1_000).saturating_add(t.tv_nsec() / 1_000_000))
    })
}

/// The same time as the write right counts in: of this machine, and of no other.
#[must_use]
pub fn boot_now() -> BootTime {
    BootTime::after_boot(Span::from_millis(u64::try_from(monotonic_now().as_millis()).unwrap_or(0)))
}

/// The wall clock: for people and for the coordinator's comparison of clocks, never for a window.
#[must_use]
pub fn wall_now() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_moves_forward() {
        let before = monotonic_now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(monotonic_now().as_millis() >= before.as_millis() + 4);
        assert!(before.as_millis() > 0);
    }
}
