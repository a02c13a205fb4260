//! What vantages are asked to ask of a zone's servers, and what they saw there.
//!
//! The coordinator hears what servers answer to it. Clients are elsewhere: a server that an anycast, a firewall or a stale copy makes
//! another one for a region is seen from that region alone.

use crate::config::{RecordType, ZoneServer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Questions of one list, at most: some 300 bytes each.
pub const QUESTIONS_MAX: usize = 1_024;

/// What an agent has to ask: each question of each server, over UDP and over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QuestionList {
    /// Changes whenever the list does.
    pub version: u64,
    /// Who is asked.
    pub servers: Vec<ZoneServer>,
    /// What, at most [`QUESTIONS_MAX`].
    pub questions: Vec<DnsQuestion>,
    /// Traffic to measure in the agent's own region, again and again while it stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficQuestion>,
}

/// An endpoint of the agent's own region, of which is asked what still reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficQuestion {
    /// Names it in the answer.
    pub id: u64,
    /// The endpoint's address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// How.
    pub how: TrafficCount,
}

/// What an agent counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "count", rename_all = "snake_case")]
pub enum TrafficCount {
    /// Established TCP connections to the port.
    Connections,
    /// Lines appended to a file, a second.
    AccessLog {
        /// Which.
        path: PathBuf,
    },
}

/// What an agent counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSight {
    /// Of which question.
    pub question: u64,
    /// How much.
    pub level: TrafficLevel,
}

/// How much traffic there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "level", rename_all = "snake_case")]
pub enum TrafficLevel {
    /// So much.
    Counted {
        /// Thousandths of a line a second, or of a connection.
        thousandths: u64,
    },
    /// It can't be counted, which is not the same as none.
    Unknown {
        /// Why, in words.
        why: String,
    },
    /// Nothing listens to the endpoint's port on the agent's machine: it is not where this is counted.
    NotHere,
}

/// A record set, and how an answer is told to be of the version that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsQuestion {
    /// Names it in the answer.
    pub id: u64,
    /// The name.
    pub name: String,
    /// The type.
    pub record_type: RecordType,
    /// Where the version stands beside it, in zones where DNS shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<GenerationMark>,
    /// The values that may be answered.
    pub values: Vec<String>,
    /// Those that must not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<String>,
    /// An alias is among them, whose answers nobody but its provider knows: others than `values` may come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_alias: bool,
    /// Who asks may be one of those whom no region may answer, and then is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_refuse: bool,
}

/// The text that says which version a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationMark {
    /// Its name.
    pub name: String,
    /// How it is written.
    pub form: MarkForm,
    /// The version that should be there; a later one is as good.
    pub generation: u64,
}

/// How a server says which version it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkForm {
    /// As drover's own server: `A=7`.
    Counter,
    /// As the text that drover keeps beside a set in a zone of others.
    Registry,
}

/// What one agent saw, of some questions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SightReport {
    /// At most [`QUESTIONS_MAX`].
    pub sights: Vec<Sight>,
    /// At most [`QUESTIONS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficSight>,
}

/// What one vantage saw of one record set: at each server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sight {
    /// Of which question.
    pub question: u64,
    /// Server by server.
    pub servers: Vec<ServerSight>,
}

impl Sight {
    /// No server shows anything else.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.servers.iter().all(|s| s.other().is_none())
    }
}

/// What one server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSight {
    /// The server's name.
    pub server: String,
    /// Over UDP.
    pub udp: Seen,
    /// Over TCP.
    pub tcp: Seen,
}

impl ServerSight {
    /// What else than asked for is answered, when something is. One answer is enough: it is what a client may get.
    #[must_use]
    pub fn other(&self) -> Option<&str> {
        [&self.udp, &self.tcp].into_iter().find_map(|seen| match seen {
            Seen::Other { found, .. } => Some(found.as_str()),
            Seen::Wanted | Seen::Silent { .. } => None,
        })
    }

    /// What stood there before, when that is still answered.
    #[must_use]
    pub fn old(&self) -> Option<&str> {
        [&self.udp, &self.tcp].into_iter().find_map(|seen| match seen {
            Seen::Other { found, is_old: true } => Some(found.as_str()),
            Seen::Other { .. } | Seen::Wanted | Seen::Silent { .. } => None,
        })
    }

    /// Why nothing came at all, when nothing did.
    #[must_use]
    pub fn silent(&self) -> Option<&str> {
        match (&self.udp, &self.tcp) {
            (Seen::Silent { why }, Seen::Silent { .. }) => Some(why),
            _ => None,
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum Seen {
    /// What should be there.
    Wanted,
    /// Something else.
    Other {
        /// What, in words.
        found: String,
        /// It is what stood there before: an older generation, or a value that must not be answered any more. Whatever else there is
        /// (a refusal, an answer without authority) may be the doing of what stands between the two.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_old: bool,
    },
    /// No answer: what is there is not known.
    Silent {
        /// Why, in words.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(udp: Seen, tcp: Seen) -> ServerSight {
        ServerSight { server: "ns1".to_owned(), udp, tcp }
    }

    #[test]
    fn one_answer_of_something_else_outweighs_and_silence_says_nothing() {
        let other = || Seen::Other { found: "generation 6".to_owned(), is_old: true };
        let silent = || Seen::Silent { why: "refused".to_owned() };
        assert_eq!(server(Seen::Wanted, other()).other(), Some("generation 6"));
        assert_eq!(server(other(), silent()).other(), Some("generation 6"));
        let refused = || Seen::Other { found: "REFUSED".to_owned(), is_old: false };
        assert_eq!(server(refused(), other()).old(), Some("generation 6"));
        assert_eq!(server(refused(), Seen::Wanted).old(), None);
        assert_eq!(server(silent(), Seen::Wanted).silent(), None);
        assert_eq!(server(silent(), silent()).silent(), Some("refused"));
        let settled = Sight { question: 1, servers: vec![server(silent(), silent())] };
        assert!(settled.is_settled());
    }
}
