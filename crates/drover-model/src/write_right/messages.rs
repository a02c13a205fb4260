//! What is said about a write right. Any of it may be lost, late, doubled, or overtake what was sent before it.

use super::{BootTime, Incarnation, Members, WriteGeneration};
use crate::ids::AgentId;
use crate::time::Span;
use crate::units::Generation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When something was asked, by the clock of whoever asked, and by which of its lives. It comes back with the answer, so
/// that a right counts from the sending and a process takes no answer to a question of its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Nonce {
    /// Drawn at each start of the agent.
    pub session: u64,
    /// By the sender's clock.
    pub sent: BootTime,
}

/// The holder to any coordinator: let me go on (step 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Renew {
    /// Who asks.
    pub from: AgentId,
    /// Of the store that granted the right.
    pub incarnation: Incarnation,
    /// Which right.
    pub generation: WriteGeneration,
    /// The members that it would ask in failsafe mode; none before it has heard of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echoes: Option<Generation>,
    /// When it asked.
    pub nonce: Nonce,
}

/// The answer to a renewal that is durable. One that is refused is answered with the record itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Renewed {
    /// Which right.
    pub generation: WriteGeneration,
    /// Whom to ask in failsafe mode from now.
    pub members: Members,
    /// Of the question.
    pub nonce: Nonce,
}

/// The holder to a promotable member, when no coordinator answers: do you know of anybody after me (step 4)?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Ask {
    /// Who asks.
    pub from: AgentId,
    /// Of the store that granted the right.
    pub incarnation: Incarnation,
    /// The right that it holds.
    pub generation: WriteGeneration,
    /// Of the round.
    pub nonce: Nonce,
}

/// A member's answer (step 6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum PeerAnswer {
    /// It will not write before the right that it vouched for is over.
    Yes {
        /// Who vouches.
        from: AgentId,
        /// For which right.
        generation: WriteGeneration,
        /// Of the round.
        nonce: Nonce,
    },
    /// It does not vouch.
    No {
        /// The highest generation that it knows of.
        generation: WriteGeneration,
        /// Of the round.
        nonce: Nonce,
    },
}

/// Never write below this generation again. The leader orders it of the target and of the holder (step 10), and it is what
/// they make durable: an order can only take rights away, so that it is safe from whomever it comes, and however late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Seal {
    /// The store's lifetime that the generation belongs to.
    pub incarnation: Incarnation,
    /// Writes below it are over.
    pub generation: WriteGeneration,
}

/// It is sealed, durably, and its database is stopped. From the target this is what a grant waits for; from the holder
/// it says that it is fenced (step 11).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Who is.
    pub from: AgentId,
    /// It never writes below this one again.
    pub generation: WriteGeneration,
    /// How long it still keeps what it promised to the holder.
    pub promise_left: Span,
}
