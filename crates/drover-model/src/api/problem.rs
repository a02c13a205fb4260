//! How the API says that something went wrong.

use crate::reason::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error answer (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URI for the kind; `about:blank` when the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// Stable code, as in [`Reason::code`] where there is a reason.
    pub code: String,
    /// Every reason, with numbers.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// The command that goes on from here.
    #[serde(default)]
    pub next: Option<String>,
}
