//! What an agent says to the gate beside its database, and hears from it: one of these a line, as JSON.
//!
//! Both are processes of one machine, so that they speak of the same clock.

use super::{BootTime, WriteGeneration};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Until when a database may write, with what the gate needs to know to stop it in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permit {
    /// At which generation.
    pub generation: WriteGeneration,
    /// By the clock of this machine.
    pub until: BootTime,
    /// Between two looks of the gate, at most.
    pub gate_tick: Span,
    /// D: the longest that stopping the database takes.
    pub demotion: Span,
}

/// An order to the gate. Repeating one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum GateOrder {
    /// Let the database run until then; start it where it does not.
    Run(Permit),
    /// Stop it now.
    Stop,
}

/// The gate's answer to each order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GateAnswer {
    /// It runs, at this generation.
    Running {
        /// Of the permit.
        generation: WriteGeneration,
    },
    /// Nothing of it runs any more.
    Stopped {
        /// Why, where the order was another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}
