//! When a region is declared out of service by status pages, and when that ends.
//!
//! The intuition: records of Route 53 are changed by an API that stands in one region, and may be down for hours. Which of its records
//! are answered is also up to health checks, and these read pages that drover's own agents serve. So a declaration stands for the
//! *difference* between the records and the targets: it begins when all targets want a region out and the records still give it
//! weight, and it ends when the records say by themselves what the targets want.
//!
//! The hard case is the end. A region that is declared in service while its records still have weight would be answered again by itself.
//! So a declaration ends on proof alone: every record set was read anew, is what its target wants, and has reached all name servers. That
//! holds also where no service has an endpoint there any more: the configuration is no proof of what is answered.
//! Unknown records, like a coordinator that has just started or an API that is down, change nothing.
//!
//! A declaration takes out the whole region, for each service at once, and moves weight to whoever has any. So it begins only where that
//! answers no region that a target does not want: see [`answered`] for records without weight.
//!
//! Who was told that it is over may not have heard it: an agent that is cut off keeps its last word. So a region is *withdrawing* until so
//! few status servers may still declare it that their word does not count, for as long as checkers may take to follow. Until then every
//! other decision must hold both with it and without it: also a move of traffic, see [`Told::leaves_some`].

mod answered;

pub use answered::{Share, answered};

use drover_model::{RegionId, ServiceId, Weights};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is known of a service's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Nothing, since nobody could read them.
    Unknown,
    /// These weights were live when they were read or written last.
    Seen(Weights),
    /// These weights were read just now, and every name server has them.
    Proven(Weights),
}

impl Records {
    /// The weights, as far as they are known.
    #[must_use]
    pub const fn weights(&self) -> Option<&Weights> {
        match self {
            Self::Unknown => None,
            Self::Seen(weights) | Self::Proven(weights) => Some(weights),
        }
    }
}

/// A service of which the region may be answered: see [`concerns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned<'a> {
    /// Which.
    pub service: &'a ServiceId,
    /// Its target's weights.
    pub target: &'a Weights,
    /// Its records.
    pub records: Records,
}

/// May a service's answers have the region? By its configuration, or because its records have it still: an endpoint that was taken out of the
/// configuration is answered for as long as nobody has written the records, and one of weight 0 is in their reserve.
#[must_use]
pub fn concerns(region: &RegionId, has_endpoint: bool, records: &Records) -> bool {
    has_endpoint || records.weights().is_some_and(|weights| weights.get(region).is_some())
}

/// How a region stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody declares anything: the records alone decide.
    InService,
    /// The status pages declare it out of service.
    Declared,
    /// They were told that it is over, and enough of them to count may not have heard it.
    Withdrawing,
}

/// Every region that is not simply in service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(BTreeMap<RegionId, Standing>);

impl Told {
    /// How a region stands.
    #[must_use]
    pub fn standing(&self, region: &RegionId) -> Standing {
        self.0.get(region).copied().unwrap_or(Standing::InService)
    }

    /// The regions that stand so.
    pub fn those(&self, standing: Standing) -> impl Iterator<Item = &RegionId> {
        self.0.iter().filter(move |(_, s)| **s == standing).map(|(region, _)| region)
    }

    /// Is somebody of these surely answered, whichever of the regions in question are left out? Without it Route 53 goes to the records of
    /// weight 0, its reserve, which nobody wants to be answered.
    #[must_use]
    pub fn leaves_some(&self, weights: &Weights) -> bool {
        weights.iter().any(|(region, weight)| weight.0 > 0 && self.standing(region) == Standing::InService)
    }

    /// What the status pages declare.
    #[must_use]
    pub fn declared(&self) -> BTreeSet<RegionId> {
        self.those(Standing::Declared).cloned().collect()
    }

    /// Every region that Route 53 may leave out because of it.
    #[must_use]
    pub fn may_be_out(&self) -> BTreeSet<RegionId> {
        self.0.keys().cloned().collect()
    }

    /// The same with `region` standing so.
    #[must_use]
    pub fn with(&self, region: &RegionId, standing: Standing) -> Self {
        let mut next = self.clone();
        if standing == Standing::InService {
            next.0.remove(region);
        } else {
            next.0.insert(region.clone(), standing);
        }
        next
    }
}

/// Why a region stays as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stays {
    /// Its targets and records agree, or no target wants it out altogether.
    NothingToDo,
    /// Some service is to keep it: pages speak of whole regions.
    NotAllLeave {
        /// Which.
        service: ServiceId,
    },
    /// What the records say is not known, so nobody can say what would be answered.
    RecordsUnknown {
        /// Of which service.
        service: ServiceId,
    },
    /// Without it a region would be answered that the target gives nothing, or none that it gives something.
    WouldAnswer {
        /// Of which service.
        service: ServiceId,
        /// What would be answered.
        regions: Vec<RegionId>,
    },
    /// The records do not say yet what the target wants.
    RecordsBehind {
        /// Of which service.
        service: ServiceId,
    },
    /// Too many status servers may not have heard that it is in service, or Route 53's checkers may not have followed.
    NotHeard,
    /// They say so as far as is known, and nobody has read them just now.
    NotProven {
        /// Of which service.
        service: ServiceId,
    },
    /// No service is known to have it, and nobody has read the records just now to say that none has.
    NotRead,
    /// There are not so many status servers outside of it as it takes.
    TooFewPages,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToDo => f.write_str("records and targets agree"),
            Self::NotAllLeave { service } => {
                write!(f, "{service} keeps it, and pages speak of whole regions")
            }
            Self::RecordsUnknown { service } => write!(f, "the records of {service} are not known"),
            Self::WouldAnswer { service, regions } => {
                let names: Vec<&str> = regions.iter().map(RegionId::as_str).collect();
                write!(
                    f,
                    "{service} would be answered with {}, which its target does not want",
                    names.join(" and ")
                )
            }
            Self::RecordsBehind { service } => {
                write!(f, "the records of {service} are not yet what its target wants")
            }
            Self::NotHeard => f.write_str("status servers or Route 53's checkers may not have followed yet"),
            Self::NotProven { service } => write!(f, "the records of {service} were not read anew"),
            Self::NotRead => {
                f.write_str("no service is known to have it, and the records were not read anew")
            }
            Self::TooFewPages => f.write_str("too few status servers stand outside of it to declare it"),
        }
    }
}

/// Facts about one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Every service that has an endpoint there.
    pub concerned: &'a [Concerned<'a>],
    /// Are there so many status servers outside of it that a declaration counts?
    pub can_be_left: bool,
    /// So few status servers may not have heard the newest word that they can't keep the region out, and have been so few for as long as
    /// Route 53's checkers may take to follow.
    pub is_followed: bool,
    /// All records were read just now, and every name server has them.
    pub is_proven: bool,
    /// The records of all services are proven to be what their targets want: with nothing declared, just that is answered.
    pub is_all_settled: bool,
}

/// The one transition: how `region` stands next beside all others, or why it stays as it stands.
///
/// # Errors
/// It stays.
pub fn next(region: &RegionId, told: &Told, facts: Facts<'_>) -> Result<Standing, Stays> {
    match told.standing(region) {
        Standing::Declared => may_withdraw(region, told, facts).map(|()| Standing::Withdrawing),
        Standing::InService => may_declare(region, told, facts).map(|()| Standing::Declared),
        Standing::Withdrawing => match may_declare(region, told, facts) {
            Ok(()) => Ok(Standing::Declared),
            Err(_) if facts.is_followed => Ok(Standing::InService),
            Err(_) => Err(Stays::NotHeard),
        },
    }
}

fn may_declare(region: &RegionId, told: &Told, facts: Facts<'_>) -> Result<(), Stays> {
    let concerned = facts.concerned;
    let leaves = |one: &&Concerned<'_>| one.target.of(region).0 == 0;
    if concerned.iter().filter(leaves).count() == 0 {
        return Err(Stays::NothingToDo);
    }
    if let Some(keeps) = concerned.iter().find(|one| !leaves(one)) {
        return Err(Stays::NotAllLeave { service: keeps.service.clone() });
    }
    let (declared, then) = (told.declared(), told.with(region, Standing::Declared));
    let mut is_answered = false;
    for one in concerned {
        let Some(records) = one.records.weights() else {
            return Err(Stays::RecordsUnknown { service: one.service.clone() });
        };
        is_answered |= answered(records, &declared).contains_key(region);
        // Whether a write that is under way happened is not known, so both must go well.
        for weights in [records, one.target] {
            only_wanted(one, weights, &then)?;
        }
    }
    match (is_answered, facts.can_be_left) {
        (true, true) => Ok(()),
        (true, false) => Err(Stays::TooFewPages),
        (false, _) => Err(Stays::NothingToDo),
    }
}

fn may_withdraw(region: &RegionId, told: &Told, facts: Facts<'_>) -> Result<(), Stays> {
    if facts.concerned.is_empty() && !facts.is_proven {
        return Err(Stays::NotRead);
    }
    let then = told.with(region, Standing::InService);
    for one in facts.concerned {
        let service = one.service.clone();
        match &one.records {
            Records::Unknown => return Err(Stays::RecordsUnknown { service }),
            Records::Seen(weights) | Records::Proven(weights) if !says_the_same(weights, one.target) => {
                return Err(Stays::RecordsBehind { service });
            }
            Records::Seen(_) => return Err(Stays::NotProven { service }),
            // Two regions that are declared may be in each other's way. They go together, at the same look.
            Records::Proven(_) if facts.is_all_settled => {}
            Records::Proven(weights) => only_wanted(one, weights, &then)?,
        }
    }
    Ok(())
}

/// Do both give every region the same weight? One of which nothing is said has none.
#[must_use]
pub fn says_the_same(one: &Weights, other: &Weights) -> bool {
    let has_all = |of: &Weights, all: &Weights| all.iter().all(|(region, weight)| of.of(region) == *weight);
    has_all(one, other) && has_all(other, one)
}

/// Is just what the target wants answered, and some of it, whichever of the withdrawing regions are still left out?
fn only_wanted(one: &Concerned<'_>, weights: &Weights, told: &Told) -> Result<(), Stays> {
    let (least, most) = (told.declared(), told.may_be_out());
    let is_wanted =
        |region: &RegionId, out: &BTreeSet<RegionId>| one.target.of(region).0 > 0 && !out.contains(region);
    for out in [&least, &most] {
        let regions: Vec<RegionId> = answered(weights, out).into_keys().collect();
        // A reserve that is answered only for as long as somebody has not heard the newest word is nobody's plan.
        let is_passing_reserve = least != most && regions.iter().any(|r| weights.of(r).0 == 0);
        if regions.is_empty() || is_passing_reserve || !regions.iter().all(|r| is_wanted(r, out)) {
            return Err(Stays::WouldAnswer { service: one.service.clone(), regions });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
