//! Mistakes that are planted on purpose, to see that the invariants find them: one rule at a time is taken away.
//!
//! Only a build with the feature `planted-bugs` has them. The rules of the core are taken away by what this world tells the
//! core, those of write rights by what it does with what their state machines want, and those of the store and of DNS where
//! this world stands for them: what is shipped has no switch to be thrown.

use crate::state::State;
use drover_model::config::Config;
use drover_model::decision::{Verdict, VerdictState};
use drover_model::{Percent, RequestsPerSecond};
#[cfg(feature = "planted-bugs")]
use std::fmt;

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Journal and DNS take what an older epoch says.
    EpochCheck,
    /// An act begins before its intent is durable.
    JournalFirst,
    /// One vantage is enough.
    Quorum,
    /// Everything fits everywhere.
    CapacityGuard,
    /// What drover did by itself is forgotten at once.
    BlockPeriod,
    /// However many regions fail at once, each is believed.
    CommonCauseBreaker,
    /// A plan runs whatever has become of the world that it was made from.
    StalePlanCheck,
    /// A new leader acts on what others have seen before it led.
    QuietAtBoot,
    /// A write right is closed whatever has become of the record since it was seen.
    CloseCompares,
    /// A write right is granted to a target that was not sealed, and that seals itself nowhere.
    Seal,
    /// A seal is told of before it is on the disk, and never gets there.
    DurableSeal,
    /// A write right is granted without waiting for its last renewal to be over.
    Wait,
    /// Whoever vouches for a holder does not remember it.
    Promise,
}

#[cfg(feature = "planted-bugs")]
impl Planted {
    /// All of them.
    pub const ALL: [Planted; 13] = [
        Planted::EpochCheck,
        Planted::JournalFirst,
        Planted::Quorum,
        Planted::CapacityGuard,
        Planted::BlockPeriod,
        Planted::CommonCauseBreaker,
        Planted::StalePlanCheck,
        Planted::QuietAtBoot,
        Planted::CloseCompares,
        Planted::Seal,
        Planted::DurableSeal,
        Planted::Wait,
        Planted::Promise,
    ];
}

#[cfg(feature = "planted-bugs")]
impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Planted::EpochCheck => "epoch check",
            Planted::JournalFirst => "journal-first order",
            Planted::Quorum => "quorum rule",
            Planted::CapacityGuard => "capacity guard",
            Planted::BlockPeriod => "block period",
            Planted::CommonCauseBreaker => "common-cause breaker",
            Planted::StalePlanCheck => "stale-plan check",
            Planted::QuietAtBoot => "quiet at boot",
            Planted::CloseCompares => "compare at the close",
            Planted::Seal => "seal",
            Planted::DurableSeal => "durable seal",
            Planted::Wait => "wait before the grant",
            Planted::Promise => "promise",
        })
    }
}

/// A load that fits wherever anything does.
pub(crate) const NEXT_TO_NOTHING: RequestsPerSecond = RequestsPerSecond(1);

impl State {
    /// Is this rule the one that was taken away?
    pub(crate) fn lacks(&self, rule: Planted) -> bool {
        self.planted() == Some(rule)
    }

    /// The rule that was taken away.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn planted(&self) -> Option<Planted> {
        self.planted
    }

    /// Every rule is kept.
    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self, reason = "with the feature it depends on the world")]
    pub(crate) fn planted(&self) -> Option<Planted> {
        None
    }

    /// What a verdict becomes where one vantage is enough.
    pub(crate) fn without_quorum(&self, mut verdict: Verdict) -> Verdict {
        if self.lacks(Planted::Quorum) && verdict.failing > verdict.unconfirmed {
            verdict.state = VerdictState::Down;
            (verdict.failing, verdict.unconfirmed) = (verdict.need.max(verdict.failing), 0);
        }
        verdict
    }

    /// The configuration with a breaker that never trips.
    pub(crate) fn without_breaker(&self, mut config: Config) -> Config {
        config.settings.vantage.common_cause_share = Percent::FULL;
        config
    }
}
