//! What can stop an agent, or keep it from a coordinator.

use drover_model::{AgentId, DatasetId, RegionId};
use drover_pki::{HttpError, PkiError};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why an agent could not start, or what went wrong between it and a coordinator.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read`, `write`, `create`, `lock`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The identity file is not what it should be.
    #[error("the identity file {} is wrong", path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A coordinator's address cannot be used.
    #[error("coordinator `{url}` cannot be used: {why}")]
    CoordinatorUrl {
        /// As written.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// The status address would show the agent to the network.
    #[error("status address {0} is not a loopback address; use 127.0.0.1, [::1] or unix:/path")]
    StatusNotLoopback(SocketAddr),
    /// A status address that is neither an IP address with a port nor `unix:/path`.
    #[error("status address `{0}` is not an IP address with a port, nor unix:/path")]
    StatusAddress(String),
    /// The status address is taken or forbidden.
    #[error("cannot listen for status on {address}")]
    StatusListen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Other members would be answered in plain text over a network.
    #[error(
        "peer address {0} is not a loopback address, and without `tls:` members would be answered in plain text: give the agent its \
         certificate (drover pki issue agent AGENT --region REGION --out DIR)"
    )]
    PeerNotLoopback(SocketAddr),
    /// The certificates for other members are of no use.
    #[error("cannot answer other members of datasets by TLS")]
    PeerTls(#[source] PkiError),
    /// The address for other members is taken or forbidden.
    #[error("cannot listen for other members of datasets on {address}")]
    PeerListen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What must not be forgotten can't be read.
    #[error(
        "the seal of dataset {dataset} cannot be read ({why}): without it this agent could let an older writer go on; bring the \
         file back, or take the dataset out of the identity file"
    )]
    SealUnreadable {
        /// Of which dataset.
        dataset: DatasetId,
        /// Why.
        why: String,
    },
    /// Two agents share a state directory.
    #[error("another agent runs with the state directory {}", .0.display())]
    StateInUse(PathBuf),
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client for coordinator {url}")]
    Client {
        /// For whom.
        url: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// No answer from a coordinator.
    #[error("cannot {what} coordinator {url}")]
    Exchange {
        /// `report to`, `pull the probe list from`.
        what: &'static str,
        /// Whom.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A coordinator answered, but not as expected.
    #[error("coordinator {url} answered {status}: {detail}")]
    Answer {
        /// Who.
        url: String,
        /// HTTP status.
        status: u16,
        /// The beginning of what it said.
        detail: String,
    },
    /// An answer past the limit.
    #[error("coordinator {url} answered with more than {limit_bytes} bytes")]
    AnswerTooLong {
        /// Who.
        url: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// An answer that cannot be read.
    #[error("cannot understand the answer of coordinator {url}")]
    AnswerUnreadable {
        /// Who.
        url: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A probe list that was made for somebody else.
    #[error("the probe list is for agent {agent} in {region}, not for this agent")]
    ForeignList {
        /// For whom it is.
        agent: AgentId,
        /// Where that is.
        region: RegionId,
    },
    /// A probe list past the limit.
    #[error("the probe list has {targets} targets, more than {limit}")]
    ListTooLong {
        /// How many.
        targets: usize,
        /// The limit.
        limit: usize,
    },
    /// The random name of this boot could not be drawn.
    #[error("cannot draw a random name for this boot: {0}")]
    Random(String),
    /// A part of the agent panicked: a bug. The others were stopped, so that a supervisor starts all of them anew.
    #[error("a part of the agent broke: {0}")]
    Broken(String),
}
