//! Counts of good and failed probes over a rolling window, in constant space.
//!
//! A list of probes would grow with the probe rate (a 100 ms interval over five minutes is 3,000 of them), so the window
//! is cut into [`BUCKETS`] equal parts that hold two counters each. The price: what leaves the window leaves by a whole
//! bucket, up to a thirtieth early. It never stays too long, because a probe that is older than the window must not
//! count against an endpoint.

use drover_model::{Span, Timestamp};

/// Parts of the window: at the default 5 m each is 10 s wide, a third of the default probe interval.
pub const BUCKETS: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    good: u16,
    failed: u16,
}

/// Good and failed probes in a rolling window of [`BUCKETS`] parts. About 150 bytes, no heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Ring by bucket number modulo [`BUCKETS`].
    ring: [Bucket; BUCKETS],
    /// Number of the newest bucket, counted in widths since 1970; meaningless while `width` is zero.
    newest: i64,
    /// Width of a bucket in milliseconds; zero until the first probe.
    width: i64,
}

/// What a window holds at some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Good probes.
    pub good: u32,
    /// Failed probes.
    pub failed: u32,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn samples(self) -> u32 {
        self.good.saturating_add(self.failed)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self { ring: [Bucket::default(); BUCKETS], newest: 0, width: 0 }
    }

    /// Counts a probe begun at `at` in a window of length `span`. Another length than before empties the window first:
    /// its buckets cannot be cut anew, and too few samples are the safe side.
    pub fn count(&mut self, at: Timestamp, good: bool, span: Span) {
        let width = width_of(span);
        let number = at.as_millis().div_euclid(width);
        if width != self.width {
            *self = Self { width, newest: number, ..Self::new() };
        }
        self.advance(number);
        if self.newest.saturating_sub(number) >= BUCKETS as i64 {
            return; // Older than the whole window.
        }
        let bucket = &mut self.ring[slot(number)];
        let counter = if good { &mut bucket.good } else { &mut bucket.failed };
        *counter = counter.saturating_add(1);
    }

    fn advance(&mut self, to: i64) {
        let steps = to.saturating_sub(self.newest);
        if steps <= 0 {
            return;
        }
        for step in 1..=steps.min(BUCKETS as i64) {
            self.ring[slot(self.newest.saturating_add(step))] = Bucket::default();
        }
        self.newest = to;
    }

    /// What lies inside the window that ends at `now`.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        self.each(now, |_, bucket| {
            counts.good = counts.good.saturating_add(u32::from(bucket.good));
            counts.failed = counts.failed.saturating_add(u32::from(bucket.failed));
        });
        counts
    }

    /// The beginning of the oldest part of the window that holds a failure: at most one part too early.
    #[must_use]
    pub fn oldest_failure(&self, now: Timestamp) -> Option<Timestamp> {
        let mut oldest = None;
        self.each(now, |number, bucket| {
            if oldest.is_none() && bucket.failed > 0 {
                oldest = Some(Timestamp::from_millis(number.saturating_mul(self.width)));
            }
        });
        oldest
    }

    /// Calls `f` for each live bucket, oldest first.
    fn each(&self, now: Timestamp, mut f: impl FnMut(i64, Bucket)) {
        if self.width == 0 {
            return;
        }
        let current = now.as_millis().div_euclid(self.width).max(self.newest);
        let first = current.saturating_sub(BUCKETS as i64 - 1);
        for number in first..=self.newest {
            f(number, self.ring[slot(number)]);
        }
    }
}

/// Rounded down, so that all buckets together are never longer than the window.
fn width_of(span: Span) -> i64 {
    i64::try_from(span.as_millis() / BUCKETS as u64).unwrap_or(i64::MAX).max(1)
}

fn slot(number: i64) -> usize {
    usize::try_from(number.rem_euclid(BUCKETS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Span = Span::from_secs(300);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + secs * 1_000)
    }

    #[test]
    fn a_probe_leaves_with_its_bucket() {
        let mut window = Window::new();
        window.count(at(0), false, SPAN);
        window.count(at(30), true, SPAN);
        assert_eq!(window.counts(at(30)), Counts { good: 1, failed: 1 });
        assert_eq!(window.counts(at(289)), Counts { good: 1, failed: 1 });
        assert_eq!(window.counts(at(300)), Counts { good: 1, failed: 0 });
        assert_eq!(window.counts(at(400)), Counts::default());
        assert_eq!(window.counts(at(1_000_000)), Counts::default());
    }

    #[test]
    fn another_length_empties_it() {
        let mut window = Window::new();
        window.count(at(0), false, SPAN);
        window.count(at(1), true, Span::from_secs(60));
        assert_eq!(window.counts(at(1)), Counts { good: 1, failed: 0 });
    }

    #[test]
    fn the_oldest_failure_is_named() {
        let mut window = Window::new();
        assert_eq!(window.oldest_failure(at(0)), None);
        window.count(at(0), true, SPAN);
        window.count(at(40), false, SPAN);
        window.count(at(70), false, SPAN);
        assert_eq!(window.oldest_failure(at(70)), Some(at(40)));
    }

    proptest! {
        /// Against the list of probes that it replaces: never counts one outside the window, and misses none that is
        /// younger than the window less one bucket.
        #[test]
        fn it_agrees_with_a_list(
            gaps in prop::collection::vec((0i64..40_000, any::<bool>()), 1..80),
            span_ms in 30u64..400_000,
            wait in 0i64..500_000,
        ) {
            let span = Span::from_millis(span_ms);
            let (mut window, mut list, mut t) = (Window::new(), Vec::new(), 1_700_000_000_000_i64);
            for (gap, good) in gaps {
                t += gap;
                window.count(Timestamp::from_millis(t), good, span);
                list.push((t, good));
            }
            let now = t + wait;
            let younger = |bound: i64, want: bool| {
                u32::try_from(list.iter().filter(|(t, good)| now - t < bound && *good == want).count()).unwrap()
            };
            let counts = window.counts(Timestamp::from_millis(now));
            let (whole, sure) = (i64::try_from(span_ms).unwrap(), width_of(span) * (BUCKETS as i64 - 1));
            prop_assert!(counts.good <= younger(whole, true) && counts.good >= younger(sure, true));
            prop_assert!(counts.failed <= younger(whole, false) && counts.failed >= younger(sure, false));
        }
    }
}
