//! Raw observations, as they came (`GET /v1/observations`).

use crate::ids::{AgentId, EndpointKey};
use crate::probe::ProbeOutcome;
use crate::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an observation went when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObservationPlace {
    /// Into the current window.
    #[default]
    Current,
    /// Older than an opinion may be: into the history alone.
    TooOld,
    /// The agent's clock was too far off: into the history alone.
    Skewed,
    /// The agent reached nothing at all: into the history alone.
    Blind,
    /// No such endpoint was configured: into the history alone.
    NotConfigured,
    /// It was seen before: kept once more, and of no effect.
    Replayed,
    /// The whole report was refused: kept, and of no effect.
    Refused,
}

impl std::fmt::Display for ObservationPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ObservationPlace::Current => "current",
            ObservationPlace::TooOld => "too old",
            ObservationPlace::Skewed => "clock skewed",
            ObservationPlace::Blind => "blind",
            ObservationPlace::NotConfigured => "not configured",
            ObservationPlace::Replayed => "replayed",
            ObservationPlace::Refused => "report refused",
        })
    }
}

/// A raw observation, as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObservationView {
    /// When the coordinator received it.
    pub received_at: Timestamp,
    /// Who saw it.
    pub vantage: AgentId,
    /// Of what.
    pub endpoint: EndpointKey,
    /// How the probe ended.
    pub outcome: ProbeOutcome,
    /// HTTP status, when one came.
    pub status: Option<u16>,
    /// Time of the whole exchange, in microseconds.
    pub latency_micros: u64,
    /// When the probe began, by the agent's clock.
    pub began_at: Timestamp,
    /// How long before the report was sent that was.
    pub age: Span,
    /// Where it went.
    pub place: ObservationPlace,
}
