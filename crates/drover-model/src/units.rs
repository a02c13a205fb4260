//! Numbers that carry their unit, and the two counters that order authority.

use crate::text::{as_text, padded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The sum of a published record set's weights: percent, because people read them as percent.
pub const WEIGHT_SUM: u16 = 100;

/// An endpoint's weight in its service's DNS answers, 0 to 255 (the range of the strictest provider, Route 53).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Weight(pub u8);

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A share in hundredths of a percent (0 to 10,000), written `5%` or `0.25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(with = "String")]
pub struct Percent(u32);

as_text!(Percent);

impl Percent {
    /// Nothing.
    pub const ZERO: Percent = Percent(0);
    /// All of it.
    pub const FULL: Percent = Percent(10_000);

    /// This many hundredths of a percent, at most 100 %.
    #[must_use]
    pub const fn from_basis_points(points: u32) -> Self {
        Self(if points > 10_000 { 10_000 } else { points })
    }

    /// Whole percent, at most 100.
    #[must_use]
    pub const fn whole(percent: u32) -> Self {
        Self::from_basis_points(percent.saturating_mul(100))
    }

    /// Hundredths of a percent.
    #[must_use]
    pub const fn basis_points(self) -> u32 {
        self.0
    }

    /// `part` of `whole`, rounded down; zero of nothing.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Self {
        let points = (u128::from(part) * 10_000).checked_div(u128::from(whole)).unwrap_or(0);
        Self::from_basis_points(u32::try_from(points).unwrap_or(10_000))
    }

    /// As a fraction of one.
    #[must_use]
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, cents) = (self.0 / 100, self.0 % 100);
        padded(f, |to| match cents {
            0 => write!(to, "{whole}%"),
            _ if cents % 10 == 0 => write!(to, "{whole}.{}%", cents / 10),
            _ => write!(to, "{whole}.{cents:02}%"),
        })
    }
}

impl FromStr for Percent {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not a percentage; write it with its sign, 0% to 100%");
        let number = s.trim().strip_suffix('%').ok_or_else(wrong)?.trim();
        let (whole, cents) = number.split_once('.').unwrap_or((number, ""));
        if cents.len() > 2 || !cents.chars().all(|c| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let cents: u32 = match cents.len() {
            0 => 0,
            1 => cents.parse::<u32>().map_err(|_| wrong())? * 10,
            _ => cents.parse().map_err(|_| wrong())?,
        };
        let points = whole.checked_mul(100).and_then(|w| w.checked_add(cents)).ok_or_else(wrong)?;
        if points > 10_000 { Err(wrong()) } else { Ok(Self(points)) }
    }
}

/// Requests a second, whole, written `900rps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(with = "String")]
pub struct RequestsPerSecond(pub u64);

as_text!(RequestsPerSecond);

impl fmt::Display for RequestsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        padded(f, |to| write!(to, "{}rps", self.0))
    }
}

impl FromStr for RequestsPerSecond {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not a rate; write it with its unit: 900rps");
        s.trim().strip_suffix("rps").ok_or_else(wrong)?.trim().parse().map(Self).map_err(|_| wrong())
    }
}

/// Who may command: the store's incarnation, and a counter that every new leader raises (I3).
/// Ordered only within one incarnation; receivers refuse another incarnation until they are told to adopt it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
pub struct Epoch {
    /// Random name of the store's lifetime.
    pub incarnation: u64,
    /// Raised by each leader that takes over.
    pub counter: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}/{}", self.incarnation & 0xffff_ffff, self.counter)
    }
}

/// A version of one object, raised by every change to it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The following generation.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Before the first.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentage_survives_its_text(points in 0u32..=10_000) {
            let p = Percent::from_basis_points(points);
            prop_assert_eq!(p.to_string().parse::<Percent>().unwrap(), p);
        }
    }

    #[test]
    fn units_are_required() {
        assert_eq!("0.25%".parse::<Percent>().unwrap().basis_points(), 25);
        for bad in ["5", "101%", "-1%", "1.234%", "%", "x%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("900rps".parse::<RequestsPerSecond>().unwrap(), RequestsPerSecond(900));
        assert!("900".parse::<RequestsPerSecond>().is_err());
    }

    #[test]
    fn a_share_of_nothing_is_zero() {
        assert_eq!(Percent::of(1, 0), Percent::ZERO);
        assert_eq!(Percent::of(1, 3).basis_points(), 3_333);
    }
}
