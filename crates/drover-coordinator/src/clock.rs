//! The coordinator's clock: wall time at the start, carried on by a monotonic clock. A wall clock that jumps while
//! drover runs therefore moves no window, no timeout and no verdict; it only shows after the next start.

use drover_model::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_at_start: i64,
    started: Instant,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_at_start: i64::try_from(wall.as_millis()).unwrap_or(0), started: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.wall_at_start.saturating_add(elapsed))
    }
}
