//! How the traffic is measured that still reaches a region which was left.

use crate::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A service's measure of what still reaches a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSource {
    /// Where the number comes from.
    #[serde(flatten)]
    pub from: TrafficFrom,
    /// The region is drained below this, in the unit of the source.
    pub drained_below: u64,
    /// It must have stayed below for this long.
    pub hold: Span,
}

/// Where the number comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrafficFrom {
    /// A query to a Prometheus server, in requests a second.
    Prometheus {
        /// The server.
        url: String,
        /// The query; `{region}` and `{service}` stand for the endpoint's.
        query: String,
    },
    /// Established TCP connections to the endpoint's port, counted by the region's agents.
    Connections,
    /// Lines that are appended to a file, in requests a second, counted by the region's agents.
    AccessLog {
        /// The file, where the agent runs.
        path: PathBuf,
    },
}

impl TrafficSource {
    /// A measured level in words. `thousandths` of a request a second, or of a connection.
    #[must_use]
    pub fn words(&self, thousandths: u64) -> String {
        let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
        let number = if rest == 0 { whole.to_string() } else { format!("{whole}.{}", tenths(rest)) };
        match self.from {
            TrafficFrom::Connections => format!("{number} connections"),
            TrafficFrom::Prometheus { .. } | TrafficFrom::AccessLog { .. } => format!("{number}rps"),
        }
    }

    /// The threshold in words.
    #[must_use]
    pub fn threshold(&self) -> String {
        self.words(self.drained_below.saturating_mul(1_000))
    }

    /// Is it drained at this level?
    #[must_use]
    pub fn is_below(&self, thousandths: u64) -> bool {
        thousandths < self.drained_below.saturating_mul(1_000)
    }
}

/// Of what is less than one the first two digits, so that no traffic and little traffic differ.
fn tenths(thousandths: u64) -> String {
    let text = format!("{:03}", thousandths);
    text.trim_end_matches('0').chars().take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_the_unit_of_its_source_and_is_drained_only_below_the_threshold() {
        let log = TrafficSource {
            from: TrafficFrom::AccessLog { path: "/var/log/access.log".into() },
            drained_below: 1,
            hold: Span::from_secs(30),
        };
        assert_eq!(
            (log.words(250), log.words(12_000), log.threshold()),
            ("0.25rps".into(), "12rps".into(), "1rps".into())
        );
        assert!(log.is_below(999) && !log.is_below(1_000));
        let connections = TrafficSource { from: TrafficFrom::Connections, drained_below: 5, ..log };
        assert_eq!(connections.threshold(), "5 connections");
    }
}
