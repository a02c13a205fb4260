//! The run of equal results at the end of a vantage's observations, with just enough of its times to say whether the
//! last so many failures lie inside the window.

use drover_model::{Span, Timestamp};

/// Largest failure threshold whose failures are all timed. A larger one is judged by the beginning of its streak, which
/// is never the laxer rule.
pub const FAILURE_THRESHOLD_MAX: u32 = 32;

/// Between 32 failures lie 31 gaps.
const GAPS: usize = FAILURE_THRESHOLD_MAX as usize - 1;

/// Failures whose times are not known lie as far apart as can be said.
const UNTIMED: [u32; GAPS] = [u32::MAX; GAPS];

/// Consecutive results of one kind. Gaps between failures, not times: 4 bytes each instead of 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Streak {
    good: bool,
    length: u32,
    began_at: Timestamp,
    last_at: Timestamp,
    /// Milliseconds between consecutive failures, newest at `(next - 1) % GAPS`. Nearly all that is watched is well, and
    /// has none.
    gaps: Option<Box<[u32; GAPS]>>,
    next: u8,
}

impl Default for Streak {
    fn default() -> Self {
        Self::of(true, 0, Timestamp::default())
    }
}

impl Streak {
    /// A streak of which only the length and the last result's time are known: it counts as having begun just then
    /// for the display, while as a run of failures it is judged only by gaps seen from now on.
    pub(super) fn of(good: bool, length: u32, last_at: Timestamp) -> Self {
        Self { good, length, began_at: last_at, last_at, gaps: None, next: 0 }
    }

    pub(super) fn add(&mut self, at: Timestamp, good: bool) {
        if self.length == 0 || self.good != good {
            *self = Self::of(good, 1, at);
            return;
        }
        if !good {
            let gap = u32::try_from(at.since(self.last_at).as_millis()).unwrap_or(u32::MAX);
            let gaps = self.gaps.get_or_insert_with(|| Box::new(UNTIMED));
            gaps[usize::from(self.next) % GAPS] = gap;
            self.next = (self.next + 1) % GAPS as u8;
        }
        self.length = self.length.saturating_add(1);
        self.last_at = at;
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn successes(&self) -> u32 {
        if self.good { self.length } else { 0 }
    }

    pub(super) fn is_of_failures(&self) -> bool {
        !self.good && self.length > 0
    }

    /// Are the last `threshold` results failures, all of them younger than `window` at the newest? Half-open: a failure
    /// exactly as old as the window is outside.
    pub(super) fn fails(&self, threshold: u32, window: Span) -> bool {
        let threshold = threshold.max(1);
        if self.good || self.length < threshold {
            return false;
        }
        let age = if threshold > FAILURE_THRESHOLD_MAX {
            self.last_at.since(self.began_at)
        } else {
            self.age_of_nth_last(threshold)
        };
        if age >= window {
            cov_mark::hit!(failures_outside_the_window);
        }
        age < window
    }

    /// Age of the `n`th last failure at the newest; `n` is 1 to [`FAILURE_THRESHOLD_MAX`].
    fn age_of_nth_last(&self, n: u32) -> Span {
        let newest = usize::from(self.next) + GAPS - 1;
        let known = self.gaps.as_deref().unwrap_or(&UNTIMED);
        let gaps = (0..n as usize - 1).map(|back| u64::from(known[(newest - back) % GAPS]));
        Span::from_millis(gaps.sum())
    }
}
