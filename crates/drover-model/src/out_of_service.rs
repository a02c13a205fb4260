//! Which regions drover declares out of service, as its agents tell everybody who asks.
//!
//! A declaration is positive: whoever hears nothing, or anything else, must take the region for one in service (I6). It carries the
//! leader's epoch and a generation, and whoever keeps one takes no earlier one in its place.

use crate::ids::RegionId;
use crate::units::{Epoch, Generation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Below this path of a status server each region has a page of its own.
pub const STATUS_PATH: &str = "/v1/out-of-service/";

/// Regions declared at once, at most: more than any installation has.
pub const DECLARED_REGIONS_MAX: usize = 1_024;

/// The page of a region at a status server.
#[must_use]
pub fn status_path(region: &RegionId) -> String {
    format!("{STATUS_PATH}{region}")
}

/// What the page says, with status 200, while the region is declared out of service. Route 53's checkers look for just this, so that a
/// server that answers 200 to whatever it is asked declares nothing.
#[must_use]
pub fn status_text(region: &RegionId) -> String {
    format!("drover declares {region} out of service")
}

/// All regions that are declared out of service, and by what right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutOfService {
    /// Of the leader that says so.
    pub epoch: Epoch,
    /// Raised by every change.
    pub generation: Generation,
    /// The regions. Empty: all are in service.
    pub regions: BTreeSet<RegionId>,
}

/// Which declaration an agent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldDeclaration {
    /// Of the leader that said so.
    pub epoch: Epoch,
    /// Its generation.
    pub generation: Generation,
}

/// Why a declaration is not taken in place of the one that is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// An earlier leader's, or an earlier one of the same leader.
    #[error(
        "it is of epoch {given}, generation {generation}, and epoch {held}, generation {held_generation} is held"
    )]
    Backwards {
        /// The epoch that it has.
        given: Epoch,
        /// The generation that it has.
        generation: Generation,
        /// The epoch that is held.
        held: Epoch,
        /// The generation that is held.
        held_generation: Generation,
    },
    /// Of a coordinator with another store: nobody can tell which of the two is right.
    #[error("it is of a coordinator with another store ({given}), and that of {held} is held")]
    OtherIncarnation {
        /// The epoch that it has.
        given: Epoch,
        /// The epoch that is held.
        held: Epoch,
    },
    /// Two of one generation say different things.
    #[error("it is of generation {generation} as the one that is held, and says something else")]
    Contradicts {
        /// The generation of both.
        generation: Generation,
    },
    /// More than anybody declares.
    #[error("it names {regions} regions, more than {DECLARED_REGIONS_MAX}")]
    TooMany {
        /// How many.
        regions: usize,
    },
}

impl OutOfService {
    /// Which one it is.
    #[must_use]
    pub fn held(&self) -> HeldDeclaration {
        HeldDeclaration { epoch: self.epoch, generation: self.generation }
    }

    /// May it take the place of `held`? False: it is just that one.
    ///
    /// # Errors
    /// When it may not: what is held then stays (fail-static).
    pub fn replaces(&self, held: Option<&Self>) -> Result<bool, NotTaken> {
        if self.regions.len() > DECLARED_REGIONS_MAX {
            return Err(NotTaken::TooMany { regions: self.regions.len() });
        }
        let Some(held) = held else { return Ok(true) };
        if self == held {
            return Ok(false);
        }
        if self.epoch.incarnation != held.epoch.incarnation {
            return Err(NotTaken::OtherIncarnation { given: self.epoch, held: held.epoch });
        }
        let order = |one: &Self| (one.generation, one.epoch.counter);
        if self.epoch.counter < held.epoch.counter || order(self) < order(held) {
            return Err(NotTaken::Backwards {
                given: self.epoch,
                generation: self.generation,
                held: held.epoch,
                held_generation: held.generation,
            });
        }
        if self.generation == held.generation && self.regions != held.regions {
            return Err(NotTaken::Contradicts { generation: self.generation });
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(incarnation: u64, counter: u64, generation: u64, regions: &[&str]) -> OutOfService {
        OutOfService {
            epoch: Epoch { incarnation, counter },
            generation: Generation(generation),
            regions: regions.iter().map(|r| RegionId::new(*r).unwrap()).collect(),
        }
    }

    #[test]
    fn a_declaration_never_goes_backwards() {
        let held = declared(1, 2, 5, &["eu-west"]);
        assert_eq!(held.replaces(None), Ok(true));
        assert_eq!(held.replaces(Some(&held)), Ok(false), "it is that one");
        for taken in [declared(1, 2, 6, &[]), declared(1, 3, 6, &[]), declared(1, 3, 5, &["eu-west"])] {
            assert_eq!(taken.replaces(Some(&held)), Ok(true), "{taken:?}");
        }
        for late in [
            declared(1, 2, 4, &[]),
            // A deposed leader, whatever it counted up to.
            declared(1, 1, 9, &[]),
            // A store that was put back from a copy: its generations are those of before.
            declared(1, 3, 4, &[]),
        ] {
            assert!(matches!(late.replaces(Some(&held)), Err(NotTaken::Backwards { .. })), "{late:?}");
        }
        assert!(matches!(
            declared(2, 9, 9, &[]).replaces(Some(&held)),
            Err(NotTaken::OtherIncarnation { .. })
        ));
        assert!(matches!(declared(1, 3, 5, &[]).replaces(Some(&held)), Err(NotTaken::Contradicts { .. })));
        let mut many = declared(1, 2, 6, &[]);
        many.regions = (0..=DECLARED_REGIONS_MAX).map(|n| RegionId::new(format!("r{n}")).unwrap()).collect();
        assert!(matches!(many.replaces(Some(&held)), Err(NotTaken::TooMany { .. })));
    }

    #[test]
    fn a_region_has_a_page_and_a_text_of_its_own() {
        let region = RegionId::new("eu-west").unwrap();
        assert_eq!(status_path(&region), "/v1/out-of-service/eu-west");
        assert_eq!(status_text(&region), "drover declares eu-west out of service");
    }
}
