//! What of the store a coordinator can't make sense of.

use super::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A record of the store that makes no sense to the coordinator that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadableRecord {
    /// Its key.
    pub key: String,
    /// How bad that is.
    pub severity: Severity,
    /// What is wrong with it.
    pub why: String,
    /// What is done while it stands there.
    pub meanwhile: String,
    /// The command by which a person gets rid of it.
    pub next: String,
}
