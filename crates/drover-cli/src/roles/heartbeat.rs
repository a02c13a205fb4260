//! The sign of life that a service manager waits for, given by the very task that must not stand still.

use sd_notify::NotifyState;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many signs in the time after which the service manager ends the process.
const SIGNS: u32 = 4;

/// Tells the service manager, if there is one that waits.
#[derive(Debug)]
pub struct Heartbeat {
    every: Option<Duration>,
    last: Mutex<Option<Instant>>,
}

impl Heartbeat {
    /// As the service manager wants it of this process.
    pub fn of_service() -> Self {
        let every = sd_notify::watchdog_enabled().map(|within| within / SIGNS);
        Self { every, last: Mutex::default() }
    }

    /// It lives. Called as often as one likes, it is told no oftener than needed.
    pub fn beat(&self) {
        if self.is_due(Instant::now()) {
            super::tell(&NotifyState::Watchdog);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let Some(every) = self.every else { return false };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= every);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[test]
fn a_heart_beats_no_oftener_than_it_must() {
    let heart = Heartbeat { every: Some(Duration::from_millis(500)), last: Mutex::default() };
    let begin = Instant::now();
    let at = |millis| heart.is_due(begin + Duration::from_millis(millis));
    assert_eq!([0, 100, 499, 500, 900, 1_000].map(at), [true, false, false, true, false, true]);
    let nobody = Heartbeat { every: None, last: Mutex::default() };
    assert!(!nobody.is_due(begin));
}
