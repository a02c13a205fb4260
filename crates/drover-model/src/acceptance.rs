//! Words by which a person takes on what a guard refuses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A guard's refusal that a person takes on by name. What proves that data is safe or that anything is left to serve
/// can't be accepted away: there is no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// More load on a region than its capacity less headroom (I7).
    Capacity,
    /// A region that was left comes back before it has been stable for as long as the policy says.
    StableHold,
}

impl Acceptance {
    /// Every word, for help and errors.
    pub const ALL: [Acceptance; 2] = [Acceptance::Capacity, Acceptance::StableHold];

    /// The word on the command line and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Acceptance::Capacity => "capacity",
            Acceptance::StableHold => "stable_hold",
        }
    }
}

impl std::str::FromStr for Acceptance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|a| a.word() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|a| a.word()).collect();
            format!("`{text}` can't be accepted; what can: {}", known.join(", "))
        })
    }
}
