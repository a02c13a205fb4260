//! The intervals of a write right, which are safe only together.

use super::BootTime;
use crate::time::Span;
use crate::units::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that clocks may be wrong by. Real ones stay below a thousandth, so that this is a slip of the pen.
const DRIFT_MAX: Percent = Percent::whole(50);

/// The intervals as somebody wrote them down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RightSettings {
    /// W: how long a right lasts after it was asked for.
    pub width: Span,
    /// ρ: by how much the rate of a clock may be wrong, of any two machines one too fast and the other too slow.
    pub drift: Percent,
    /// D: the longest that stopping the database takes.
    pub demotion: Span,
    /// Between two renewals.
    pub renew: Span,
    /// Until a renewal without an answer is sent again.
    pub retry: Span,
    /// Between two looks of the gate that stops the database.
    pub gate_tick: Span,
}

impl Default for RightSettings {
    /// 1 + 2 × 1 + 1 + 0.5 + 0.5 s of 6 s: a right is over after six seconds of silence, and a holder has asked three
    /// times before it needs its peers.
    fn default() -> Self {
        Self {
            width: Span::from_secs(6),
            drift: Percent::from_basis_points(833),
            demotion: Span::from_secs(1),
            renew: Span::from_secs(1),
            retry: Span::from_secs(1),
            gate_tick: Span::from_millis(500),
        }
    }
}

/// Intervals under which nobody could keep a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntervalsError {
    /// A holder that answers in time would lose its right all the same.
    #[error(
        "a write right of {} is too short: renew {} + 2 × retry {} + demotion {} + drift {drift} + gate tick {} = {needed}; \
         make the width {least} or more, or renew and retry more often",
        .settings.width, .settings.renew, .settings.retry, .settings.demotion, .settings.gate_tick
    )]
    TooShort {
        /// As given.
        settings: RightSettings,
        /// ρW.
        drift: Span,
        /// What they add up to.
        needed: Span,
        /// The width that would do: more than is needed now, since the drift grows with it.
        least: Span,
    },
    /// Time on such a clock says nothing.
    #[error(
        "a drift of {0} is too much to rest anything on: clocks of {DRIFT_MAX} at most can keep a write right"
    )]
    Drift(Percent),
    /// It would be sent without end, or looked at without end.
    #[error("{0} of a write right is zero: give it at least 1ms")]
    Zero(&'static str),
}

/// Intervals that hold together (`renew + 2·retry + D + ρW + gate tick ≤ W`). There is no other way to have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RightIntervals(RightSettings);

impl RightIntervals {
    /// Checks the intervals, as a configuration is loaded.
    ///
    /// # Errors
    /// [`IntervalsError`] has the numbers and what to change.
    pub fn new(settings: RightSettings) -> Result<Self, IntervalsError> {
        let positive =
            [("renew", settings.renew), ("retry", settings.retry), ("gate tick", settings.gate_tick)];
        if let Some((name, _)) = positive.into_iter().find(|(_, span)| *span == Span::ZERO) {
            return Err(IntervalsError::Zero(name));
        }
        if settings.drift > DRIFT_MAX {
            return Err(IntervalsError::Drift(settings.drift));
        }
        let spans = [settings.retry.times(2), settings.demotion, settings.gate_tick];
        let without_drift = spans.into_iter().fold(settings.renew, Span::plus);
        let drift = drift_of(&settings);
        let needed = without_drift.plus(drift);
        if needed > settings.width {
            let exact = 10_000 - u64::from(settings.drift.basis_points());
            let least = without_drift.times(10_000).divided_by(exact);
            return Err(IntervalsError::TooShort { settings, drift, needed, least });
        }
        Ok(Self(settings))
    }

    /// Until when a right may be used that was asked for at `sent`, by the clock of whoever asked: W − ρW − D later
    /// (steps 2 and 4). The database may take D to stop from then, and a slow clock ρW.
    #[must_use]
    pub fn deadline(&self, sent: BootTime) -> BootTime {
        sent.plus(self.0.width.minus(drift_of(&self.0)).minus(self.0.demotion))
    }

    /// W(1+ρ): after this long by any clock, a right that was asked for before is over by every clock (steps 6 and 11).
    #[must_use]
    pub fn over(&self) -> Span {
        self.0.width.plus(drift_of(&self.0))
    }

    /// W, without what clocks may be wrong by: what `over` must not be.
    #[must_use]
    pub fn width(&self) -> Span {
        self.0.width
    }

    /// Between two renewals.
    #[must_use]
    pub fn renew(&self) -> Span {
        self.0.renew
    }

    /// Until a renewal without an answer is sent again.
    #[must_use]
    pub fn retry(&self) -> Span {
        self.0.retry
    }

    /// Between two looks of the gate.
    #[must_use]
    pub fn gate_tick(&self) -> Span {
        self.0.gate_tick
    }

    /// The longest that stopping the database takes.
    #[must_use]
    pub fn demotion(&self) -> Span {
        self.0.demotion
    }
}

/// ρW, rounded up, since a millisecond too few is a millisecond of two writers.
fn drift_of(settings: &RightSettings) -> Span {
    let part = u128::from(settings.width.as_millis()) * u128::from(settings.drift.basis_points());
    Span::from_millis(u64::try_from(part.div_ceil(10_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_intervals_as_shipped_fit_and_others_say_what_to_change() {
        let shipped = RightSettings::default();
        assert!(RightIntervals::new(shipped).is_ok());
        let slow = RightSettings { retry: Span::from_secs(2), ..shipped };
        assert_eq!(
            RightIntervals::new(slow).unwrap_err().to_string(),
            "a write right of 6s is too short: renew 1s + 2 × retry 2s + demotion 1s + drift 500ms + gate tick 500ms = 7s; \
             make the width 7s91ms or more, or renew and retry more often"
        );
        let wrong = RightSettings { drift: Percent::whole(60), ..shipped };
        assert_eq!(RightIntervals::new(wrong), Err(IntervalsError::Drift(Percent::whole(60))));
        for (name, zero) in [
            ("renew", RightSettings { renew: Span::ZERO, ..shipped }),
            ("retry", RightSettings { retry: Span::ZERO, ..shipped }),
            ("gate tick", RightSettings { gate_tick: Span::ZERO, ..shipped }),
        ] {
            assert_eq!(RightIntervals::new(zero), Err(IntervalsError::Zero(name)));
        }
    }

    fn any_settings() -> impl Strategy<Value = RightSettings> {
        let span = |max: u64| (0..max).prop_map(Span::from_millis);
        (span(20_000), 0u32..5_000, span(3_000), span(3_000), span(3_000), span(1_000)).prop_map(
            |(width, drift, demotion, renew, retry, gate_tick)| RightSettings {
                width,
                drift: Percent::from_basis_points(drift),
                demotion,
                renew,
                retry,
                gate_tick,
            },
        )
    }

    proptest! {
        #[test]
        fn intervals_are_taken_just_when_they_fit(settings in any_settings()) {
            let ms = Span::as_millis;
            let drift = settings.drift.as_fraction() * settings.width.as_secs_f64() * 1_000.0;
            let sum = ms(settings.renew) + 2 * ms(settings.retry) + ms(settings.demotion) + ms(settings.gate_tick);
            #[allow(clippy::cast_precision_loss)]
            let slack = ms(settings.width) as f64 - sum as f64 - drift;
            let zero = [settings.renew, settings.retry, settings.gate_tick].contains(&Span::ZERO);
            // Rounding is upwards and by less than a millisecond.
            if zero || slack < 0.0 {
                let refused = RightIntervals::new(settings).unwrap_err();
                if let IntervalsError::TooShort { least, .. } = refused {
                    let advised = RightSettings { width: least, ..settings };
                    prop_assert!(RightIntervals::new(advised).is_ok());
                }
            } else if slack >= 1.0 {
                prop_assert!(RightIntervals::new(settings).is_ok());
            }
        }

        /// The slowest holder has stopped before the fastest waiter goes on: with clocks at 1 − ρ and 1 + ρ.
        #[test]
        fn a_right_is_over_by_every_clock(settings in any_settings(), sent in 0u64..1_000_000) {
            let Ok(intervals) = RightIntervals::new(settings) else { return Ok(()) };
            let sent = BootTime::after_boot(Span::from_millis(sent));
            let held = intervals.deadline(sent).since(sent).plus(intervals.demotion());
            let rho = settings.drift.as_fraction();
            let stopped = held.as_secs_f64() / (1.0 - rho);
            let over = intervals.over().as_secs_f64() / (1.0 + rho);
            prop_assert!(stopped <= over + 1e-9, "stopped after {stopped}s, over after {over}s");
        }

        /// Three renewals fit before the gate has to look for the last time.
        #[test]
        fn a_holder_has_asked_three_times_before_it_is_stopped(settings in any_settings()) {
            let Ok(intervals) = RightIntervals::new(settings) else { return Ok(()) };
            let sent = BootTime::default();
            let third = sent.plus(intervals.renew()).plus(intervals.retry().times(2));
            prop_assert!(third.plus(intervals.gate_tick()) <= intervals.deadline(sent));
        }
    }
}
