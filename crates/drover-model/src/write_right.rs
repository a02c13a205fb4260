//! Who may write a dataset: the stored record, and what agents and coordinators say to each other about it (I5).
//!
//! [Write rights](../../../docs/write-rights.md) has the protocol; "step 8" in a comment is its step of that number. All
//! times in it are lengths on one machine's own clock: no wall clock and no clock of another machine is ever compared.

mod gate;
mod intervals;
mod messages;
mod served;

pub use gate::{GateAnswer, GateOrder, Permit};
pub use intervals::{IntervalsError, RightIntervals, RightSettings};
pub use messages::{Ask, Nonce, PeerAnswer, Renew, Renewed, Seal, Sealed};
pub use served::{DatasetRecord, MoveEnd, MoveRecord, RenewAnswer, RenewRequest, RightForAgent};

use crate::ids::{AgentId, PlanId};
use crate::time::Span;
use crate::units::Generation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Random name of the store's lifetime. What another incarnation granted counts for nothing until it is adopted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 & 0xffff_ffff)
    }
}

/// Who may write: one holder has it, once. It is raised by every grant and every abort, and by nothing else; a leader
/// that changes raises the epoch instead.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct WriteGeneration(pub u64);

impl WriteGeneration {
    /// The one that a grant from here makes, and that its target is sealed for.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for WriteGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An instant of one machine, as time since its boot. `CLOCK_BOOTTIME` and not `CLOCK_MONOTONIC`, which stands still
/// while a machine is suspended; it means nothing on another machine or after a reboot.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct BootTime(Span);

impl BootTime {
    /// This long after boot.
    #[must_use]
    pub const fn after_boot(span: Span) -> Self {
        Self(span)
    }

    /// The instant `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.plus(span))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        self.0.minus(earlier.0)
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The replicas that could be promoted: all of them are asked in failsafe mode, and the target is one of them. Its
/// version orders it, since answers that carry it may arrive late.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Members {
    /// Raised by each change.
    pub version: Generation,
    /// Never the holder, no witness, and no replica that could not take over.
    pub promotable: BTreeSet<AgentId>,
}

/// What a right is open for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RightState {
    /// The holder may renew it.
    Open,
    /// It is being taken from the holder: no renewal succeeds any more.
    Closing {
        /// Who is to get it.
        target: AgentId,
        /// By which plan.
        plan: PlanId,
    },
}

/// The record of one dataset's write right, one key, changed by compare-and-swap only (step 1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct WriteRight {
    /// The store's lifetime in which it was granted.
    pub incarnation: Incarnation,
    /// The right that is held, or being taken.
    pub generation: WriteGeneration,
    /// Who may write while it renews.
    pub holder: AgentId,
    /// Who could take over, as it is wanted.
    pub members: Members,
    /// The members that the holder is known to ask: what it echoed last (step 15).
    pub acknowledged: Members,
    /// Replicas that have every acknowledged write. Shrunk before the database is told so, grown afterwards.
    pub sync_set: BTreeSet<AgentId>,
    /// Open or closing.
    #[serde(flatten)]
    pub state: RightState,
}

impl WriteRight {
    /// May the holder renew it?
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == RightState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right() -> WriteRight {
        let members = Members {
            version: Generation(2),
            promotable: ["us-1", "ap-1"].map(|name| AgentId::new(name).unwrap()).into(),
        };
        WriteRight {
            incarnation: Incarnation(7),
            generation: WriteGeneration(3),
            holder: AgentId::new("eu-1").unwrap(),
            acknowledged: Members { version: Generation(1), ..members.clone() },
            members,
            sync_set: BTreeSet::from([AgentId::new("us-1").unwrap()]),
            state: RightState::Open,
        }
    }

    #[test]
    fn a_stored_right_reads_as_it_was_written_and_its_text_does_not_change() {
        let open = right();
        let target = AgentId::new("us-1").unwrap();
        let closing = RightState::Closing { target, plan: PlanId::from_text("plan-1") };
        for (right, state) in [
            (open.clone(), r#""state":"open""#),
            (WriteRight { state: closing, ..open }, r#""state":"closing","target":"us-1","plan":"plan-1""#),
        ] {
            let text = serde_json::to_string(&right).unwrap();
            let members = r#""promotable":["ap-1","us-1"]}"#;
            assert_eq!(
                text,
                format!(
                    "{{\"incarnation\":7,\"generation\":3,\"holder\":\"eu-1\",\"members\":{{\"version\":2,{members},\
                     \"acknowledged\":{{\"version\":1,{members},\"sync_set\":[\"us-1\"],{state}}}"
                )
            );
            assert_eq!(serde_json::from_str::<WriteRight>(&text).unwrap(), right);
        }
    }

    #[test]
    fn time_on_one_machine_never_runs_below_zero() {
        let (early, late) = (Span::from_secs(1), Span::from_secs(3));
        let (early, late) = (BootTime::after_boot(early), BootTime::after_boot(late));
        assert_eq!(late.since(early), Span::from_secs(2));
        assert_eq!(early.since(late), Span::ZERO);
        assert_eq!(early.plus(Span::from_secs(2)), late);
    }
}
