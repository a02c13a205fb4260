//! The clock of one machine, as a write right is kept by it: it never goes back, and runs too fast or too slow.

use drover_model::write_right::BootTime;
use drover_model::{Span, Timestamp};

const MILLION: i64 = 1_000_000;

/// Time since a machine's boot, at a rate of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct BootClock {
    since: Timestamp,
    /// What it showed then.
    showed: u64,
    /// How fast it runs beyond the truth, in parts of a million.
    rate_millionths: i64,
}

impl BootClock {
    /// A machine that was booted so long before `now`.
    pub(super) fn new(now: Timestamp, up: Span) -> Self {
        Self { since: now, showed: up.as_millis(), rate_millionths: 0 }
    }

    pub(super) fn at(&self, now: Timestamp) -> BootTime {
        let passed = i64::try_from(now.since(self.since).as_millis()).unwrap_or(i64::MAX);
        let ran = passed.saturating_add(passed.saturating_mul(self.rate_millionths).div_euclid(MILLION));
        BootTime::after_boot(Span::from_millis(self.showed.saturating_add(ran.unsigned_abs())))
    }

    /// The first moment at which it shows `wanted`, and not before `now`.
    pub(super) fn when(&self, wanted: BootTime, now: Timestamp) -> Timestamp {
        let left = i64::try_from(wanted.since(self.at(now)).as_millis()).unwrap_or(i64::MAX);
        let mut after = u64::try_from(left.saturating_mul(MILLION) / (MILLION + self.rate_millionths))
            .unwrap_or_default();
        while self.at(now + Span::from_millis(after)) < wanted {
            after += 1;
        }
        now + Span::from_millis(after)
    }

    /// From now on it runs at this rate. Slower than half and faster than twice the truth is no clock.
    pub(super) fn runs_at(&mut self, millionths: i64, now: Timestamp) {
        let rate = millionths.clamp(-MILLION / 2, MILLION);
        if rate != self.rate_millionths {
            *self = Self {
                since: now,
                showed: self.at(now).since(BootTime::default()).as_millis(),
                rate_millionths: rate,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_says_when_it_will_show_a_time_and_then_shows_it() {
        let began = Timestamp::from_millis(1_000_000);
        let mut clock = BootClock::new(began, Span::from_secs(50));
        for rate in [0, 80_000, -80_000, 13, -500_000] {
            let now = began + Span::from_secs(7);
            clock.runs_at(rate, now);
            for ahead in [0, 1, 2, 999, 1_000, 65_432] {
                let wanted = clock.at(now).plus(Span::from_millis(ahead));
                let when = clock.when(wanted, now);
                assert!(clock.at(when) >= wanted, "{rate} {ahead}");
                assert!(ahead == 0 || clock.at(when - Span::from_millis(1)) < wanted, "{rate} {ahead}");
            }
        }
    }

    #[test]
    fn a_change_of_its_rate_moves_no_clock() {
        let began = Timestamp::from_millis(0);
        let mut clock = BootClock::new(began, Span::ZERO);
        let later = began + Span::from_secs(100);
        clock.runs_at(100_000, later);
        assert_eq!(clock.at(later), BootTime::after_boot(Span::from_secs(100)));
        assert_eq!(clock.at(later + Span::from_secs(10)), BootTime::after_boot(Span::from_secs(111)));
    }
}
