//! Instants and lengths of time as values. Nothing here knows what time it is: programs pass `now` in.

use crate::text::{as_text, padded};
use schemars::JsonSchema;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// An instant, in milliseconds since 1970-01-01 UTC. Stored and sent as RFC 3339 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(with = "String")]
pub struct Timestamp(i64);

as_text!(Timestamp);

impl Timestamp {
    /// The instant this many milliseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Span {
        Span::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "@{}ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let t: jiff::Timestamp = s.parse().map_err(|e| format!("`{s}` is not an RFC 3339 time: {e}"))?;
        Ok(Self(t.as_millisecond()))
    }
}

/// A length of time in whole milliseconds, written with its unit: `100ms`, `30s`, `5m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(with = "String")]
pub struct Span(u64);

as_text!(Span);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// This many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// This many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// This many minutes.
    #[must_use]
    pub const fn from_mins(mins: u64) -> Self {
        Self::from_secs(mins.saturating_mul(60))
    }

    /// This many hours.
    #[must_use]
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_mins(hours.saturating_mul(60))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Seconds with their fraction.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// For the timers of the standard library and the runtime.
    #[must_use]
    pub const fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Rounded down to milliseconds.
    #[must_use]
    pub fn from_duration(d: Duration) -> Self {
        Self(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// Both lengths together, at most the longest representable one.
    #[must_use]
    pub const fn plus(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }

    /// What is left after `other`, at least zero.
    #[must_use]
    pub const fn minus(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }

    /// This length `n` times, at most the longest representable one.
    #[must_use]
    pub const fn times(self, n: u64) -> Span {
        Span(self.0.saturating_mul(n))
    }

    /// This length divided by `n` (1 when 0 is given), rounded up, so that a scaled positive length stays positive.
    #[must_use]
    pub fn divided_by(self, n: u64) -> Span {
        Span(self.0.div_ceil(n.max(1)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        padded(f, |to| {
            let mut rest = self.0;
            for (unit, millis) in UNITS {
                let n = rest / millis;
                if n > 0 {
                    write!(to, "{n}{unit}")?;
                    rest %= millis;
                }
            }
            Ok(())
        })
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{s}` is not a length of time; write it with its unit: 100ms, 30s, 5m, 1h30m, 2d");
        let mut total: u64 = 0;
        let mut rest = s.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let n: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = UNITS.iter().find(|(u, _)| *u == &rest[..letters]).ok_or_else(wrong)?;
            rest = rest[letters..].trim_start();
            total = n.checked_mul(unit.1).and_then(|v| total.checked_add(v)).ok_or_else(wrong)?;
        }
        Ok(Self(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_span_survives_its_text(ms in any::<u64>()) {
            let span = Span::from_millis(ms);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }

        #[test]
        fn any_text_is_a_span_or_an_error(text in ".{0,12}") {
            let _ = text.parse::<Span>();
        }

        #[test]
        fn a_timestamp_survives_its_text(ms in 0i64..4_102_444_800_000) {
            let t = Timestamp::from_millis(ms);
            prop_assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
    }

    #[test]
    fn spans_are_written_with_units() {
        assert_eq!("1h30m".parse::<Span>().unwrap(), Span::from_mins(90));
        assert_eq!(Span::from_millis(1_500).to_string(), "1s500ms");
        for bad in ["", "30", "5 parsecs", "-3s", "m5", "99999999999999999999s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_timestamp_is_rfc_3339_utc() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
    }
}
