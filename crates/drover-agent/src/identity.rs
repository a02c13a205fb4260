//! Who this agent is and whom it reports to: all that it must be told. Everything else it pulls.
//!
//! ```yaml
//! agent: eu-west-1
//! region: eu-west
//! coordinators: ["http://127.0.0.1:7400", "unix:/run/drover/coordinator.sock"]
//! state_dir: /var/lib/drover/agent
//! status: 127.0.0.1:7410          # optional
//! status_listen: 0.0.0.0:7412     # optional
//! peer_listen: 10.0.0.5:7414       # optional: where the other members of datasets ask; beyond loopback with `tls:` only
//! datasets:                       # optional: whose database is beside this agent, and where its gate listens
//!   - {name: orders, gate: /run/drover-gate/orders.sock}
//! tls:                            # for coordinators at https://, and for the other members of datasets
//!   ca: /etc/drover/tls/ca.pem
//!   certificate: /etc/drover/tls/certificate.pem
//!   key: /etc/drover/tls/key.pem
//! ```

use crate::error::AgentError;
use crate::rights::DatasetHere;
use drover_model::config::DATASETS_PER_AGENT_MAX;
use drover_model::machine::MachineIdentity;
use drover_model::{AgentId, RegionId};
use drover_pki::TlsFiles;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Observations kept for coordinators that do not answer, unless the identity file says otherwise: at about 100 bytes
/// each 10 MB, which is 40 hours of 20 endpoints every 30 s.
pub const BUFFER_OBSERVATIONS_MAX: usize = 100_000;

/// Probes under way at once, unless the identity file says otherwise. Each holds a descriptor and some KiB; 10,000
/// endpoints every 5 s with a timeout of 4 s, all black-holed, want 8,000.
pub const PROBES_IN_FLIGHT_MAX: usize = 8_192;

/// Coordinators that one agent reports to, at most.
pub const COORDINATORS_MAX: usize = 16;

/// The identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The agent's name, as the configuration has it.
    pub agent: AgentId,
    /// Its region.
    pub region: RegionId,
    /// Every coordinator; each gets every report.
    pub coordinators: Vec<CoordinatorUrl>,
    /// Where the boot counter and the last probe list are kept.
    pub state_dir: PathBuf,
    /// Where to tell about itself; nowhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusAddress>,
    /// Where to serve status pages for Route 53's checkers; nowhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_listen: Option<SocketAddr>,
    /// Where the other members of datasets ask, when no coordinator answers them; nowhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// The datasets whose database is beside this agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetHere>,
    /// By which files the agent proves who it is, to coordinators at `https://` and to the other members of datasets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Observations kept while cut off.
    #[serde(default = "buffer_default")]
    pub buffer_observations_max: usize,
    /// Probes under way at once. The descriptor limit may lower it.
    #[serde(default = "in_flight_default")]
    pub probes_in_flight_max: usize,
}

fn buffer_default() -> usize {
    BUFFER_OBSERVATIONS_MAX
}

fn in_flight_default() -> usize {
    PROBES_IN_FLIGHT_MAX
}

impl Identity {
    /// An identity with the default limits and no status endpoint.
    #[must_use]
    pub fn new(
        agent: AgentId,
        region: RegionId,
        coordinators: Vec<CoordinatorUrl>,
        state_dir: PathBuf,
    ) -> Self {
        Self {
            agent,
            region,
            coordinators,
            state_dir,
            status: None,
            status_listen: None,
            peer_listen: None,
            datasets: Vec::new(),
            tls: None,
            buffer_observations_max: BUFFER_OBSERVATIONS_MAX,
            probes_in_flight_max: PROBES_IN_FLIGHT_MAX,
        }
    }

    /// Who this agent is, as its certificate must say.
    #[must_use]
    pub fn machine(&self) -> MachineIdentity {
        MachineIdentity::Agent { region: self.region.clone(), agent: self.agent.clone() }
    }

    /// Reads an identity file, YAML or JSON (which is YAML).
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be read, [`AgentError::Identity`] when it is not an identity.
    pub fn load(path: &Path) -> Result<Self, AgentError> {
        let text = std::fs::read_to_string(path).map_err(|source| AgentError::File {
            what: "read",
            path: path.to_owned(),
            source,
        })?;
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| AgentError::Identity {
            path: path.to_owned(),
            source,
        };
        let identity: Self = serde_saphyr::from_str(&text).map_err(|e| wrong(Box::new(e)))?;
        identity.check().map_err(|why| wrong(why.into()))?;
        Ok(identity)
    }

    fn check(&self) -> Result<(), String> {
        if self.coordinators.is_empty() {
            return Err("it names no coordinator, so that nobody would hear the agent".to_owned());
        }
        if self.coordinators.len() > COORDINATORS_MAX {
            return Err(format!(
                "it names {} coordinators, more than {COORDINATORS_MAX}",
                self.coordinators.len()
            ));
        }
        let names: std::collections::BTreeSet<_> = self.datasets.iter().map(|d| &d.name).collect();
        if names.len() != self.datasets.len() || names.len() > DATASETS_PER_AGENT_MAX {
            return Err(format!("it must name each dataset once, and {DATASETS_PER_AGENT_MAX} at most"));
        }
        if self.buffer_observations_max == 0 || self.probes_in_flight_max == 0 {
            return Err("buffer_observations_max and probes_in_flight_max must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// Where a coordinator listens.
///
/// Plain HTTP is taken on loopback only. Whoever answers there tells the agent which files to read as secret headers
/// and where to send them; over a network that must be somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CoordinatorUrl {
    /// `http://127.0.0.1:7400` or `https://…`, without a final slash.
    Http(String),
    /// `unix:/path/to/socket`.
    Unix(PathBuf),
}

impl FromStr for CoordinatorUrl {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        let refuse = |why| AgentError::CoordinatorUrl { url: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(refuse("a socket needs its whole path, unix:/path"));
            }
            return Ok(CoordinatorUrl::Unix(PathBuf::from(path)));
        }
        let url = reqwest::Url::parse(text)
            .map_err(|_| refuse("it is not a URL; write http://127.0.0.1:PORT or unix:/path"))?;
        if url.path() != "/"
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
        {
            return Err(refuse("only scheme, host and port belong here"));
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(url.host_str().unwrap_or("")) => {}
            "http" => return Err(refuse(PLAIN_HTTP)),
            _ => return Err(refuse("the scheme must be http, https or unix")),
        }
        Ok(CoordinatorUrl::Http(url.as_str().trim_end_matches('/').to_owned()))
    }
}

const PLAIN_HTTP: &str = "plain http is taken on loopback only; over a network write https://, with certificates of `drover pki init`";

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoordinatorUrl::Http(url) => f.pad(url),
            CoordinatorUrl::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for CoordinatorUrl {
    type Error = AgentError;
    fn try_from(text: String) -> Result<Self, AgentError> {
        text.parse()
    }
}

impl From<CoordinatorUrl> for String {
    fn from(url: CoordinatorUrl) -> String {
        url.to_string()
    }
}

/// Where the agent tells about itself: loopback or a Unix socket, since it asks nobody who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StatusAddress {
    /// A loopback address; port 0 picks a free one, which is written to `status.address` in the state directory.
    Tcp(SocketAddr),
    /// A socket that only the agent's user may open.
    Unix(PathBuf),
}

impl FromStr for StatusAddress {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|p| p.starts_with('/')) {
            return Ok(StatusAddress::Unix(PathBuf::from(path)));
        }
        let address: SocketAddr = text.parse().map_err(|_| AgentError::StatusAddress(text.to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(AgentError::StatusNotLoopback(address));
        }
        Ok(StatusAddress::Tcp(address))
    }
}

impl fmt::Display for StatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusAddress::Tcp(address) => address.fmt(f),
            StatusAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for StatusAddress {
    type Error = AgentError;
    fn try_from(text: String) -> Result<Self, AgentError> {
        text.parse()
    }
}

impl From<StatusAddress> for String {
    fn from(address: StatusAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Identity, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        Identity::load(&path).map_err(|e| drover_model::chain(&e))
    }

    #[test]
    fn an_identity_is_yaml_or_json() {
        let yaml = "agent: eu-1\nregion: eu-west\ncoordinators: ['http://127.0.0.1:7400/', 'unix:/run/c.sock']\n\
                    state_dir: /tmp/x\nstatus: '127.0.0.1:0'\n";
        let identity = load(yaml).unwrap();
        assert_eq!(identity.coordinators[0].to_string(), "http://127.0.0.1:7400");
        assert_eq!(identity.coordinators[1].to_string(), "unix:/run/c.sock");
        assert_eq!(identity.probes_in_flight_max, PROBES_IN_FLIGHT_MAX);
        let json = serde_json::to_string(&identity).unwrap();
        assert_eq!(load(&json).unwrap(), identity);
    }

    #[test]
    fn the_sample_that_is_installed_is_what_an_agent_wants() {
        let identity = load(include_str!("../../../deploy/etc/agent.yaml")).unwrap();
        assert_eq!(identity.status.map(String::from).as_deref(), Some("127.0.0.1:7411"));
        assert_eq!(identity.buffer_observations_max, BUFFER_OBSERVATIONS_MAX, "the default is what it shows");
        assert_eq!(identity.probes_in_flight_max, PROBES_IN_FLIGHT_MAX);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        let base = "agent: eu-1\nregion: eu-west\nstate_dir: /tmp/x\n";
        for (rest, reason) in [
            ("coordinators: []", "no coordinator"),
            ("coordinators: ['http://10.0.0.1:7400']", "loopback only"),
            ("coordinators: ['http://coordinator.example:7400']", "loopback only"),
            ("coordinators: ['http://127.0.0.1:7400/v1']", "scheme, host and port"),
            ("coordinators: ['ftp://127.0.0.1']", "must be http"),
            ("coordinators: ['unix:run/c.sock']", "whole path"),
            ("coordinators: ['unix:/c']\nstatus: '0.0.0.0:80'", "not a loopback"),
            ("coordinators: ['unix:/c']\nstatus: somewhere", "nor unix:/path"),
            ("coordinators: ['unix:/c']\nprobes_in_flight_max: 0", "at least 1"),
            ("coordinators: ['unix:/c']\ncolour: red", "colour"),
        ] {
            let error = load(&format!("{base}{rest}\n")).unwrap_err();
            assert!(error.contains(reason), "{rest:?} gave {error:?}");
        }
    }
}
