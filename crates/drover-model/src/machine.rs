//! Who a machine is, as its certificate says: one URI among the subject's alternative names (RFC 5280, 4.2.1.6).
//!
//! A URI, and not the common name or a DNS name: nothing else than drover reads it, no public authority would sign it, and an
//! agent's says its region as well, so that a certificate moved to another region's machine is worth nothing there.

use crate::ids::{AgentId, MachineName, NameError, RegionId};
use crate::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The scheme of the URI.
pub const MACHINE_SCHEME: &str = "drover://";

/// A machine that proves who it is by a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum MachineIdentity {
    /// `drover://agent/REGION/AGENT`: may report as that agent, from that region.
    Agent {
        /// Its region.
        region: RegionId,
        /// Its name.
        agent: AgentId,
    },
    /// `drover://coordinator/NAME`: may serve the API.
    Coordinator {
        /// Its name.
        name: MachineName,
    },
    /// `drover://client/NAME`: where a person or a script works.
    Client {
        /// Its name.
        name: MachineName,
    },
}

/// A text is no machine's identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineIdentityError {
    /// Another form.
    #[error(
        "`{0}` is no machine; write drover://agent/REGION/AGENT, drover://coordinator/NAME or drover://client/NAME"
    )]
    Form(String),
    /// A part is no name.
    #[error("`{text}` is no machine")]
    Name {
        /// The whole.
        text: String,
        /// Why not.
        #[source]
        source: NameError,
    },
}

impl FromStr for MachineIdentity {
    type Err = MachineIdentityError;

    fn from_str(text: &str) -> Result<Self, MachineIdentityError> {
        let name = |source| MachineIdentityError::Name { text: text.to_owned(), source };
        let form = || MachineIdentityError::Form(text.to_owned());
        // No decoding of percents and no tolerance for cases: what has two spellings can be checked as one and used as the other.
        let path = text.strip_prefix(MACHINE_SCHEME).ok_or_else(form)?;
        match path.split('/').collect::<Vec<_>>()[..] {
            ["agent", region, agent] => Ok(MachineIdentity::Agent {
                region: RegionId::new(region).map_err(name)?,
                agent: AgentId::new(agent).map_err(name)?,
            }),
            ["coordinator", coordinator] => {
                Ok(MachineIdentity::Coordinator { name: MachineName::new(coordinator).map_err(name)? })
            }
            ["client", client] => {
                Ok(MachineIdentity::Client { name: MachineName::new(client).map_err(name)? })
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for MachineIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineIdentity::Agent { region, agent } => write!(f, "{MACHINE_SCHEME}agent/{region}/{agent}"),
            MachineIdentity::Coordinator { name } => write!(f, "{MACHINE_SCHEME}coordinator/{name}"),
            MachineIdentity::Client { name } => write!(f, "{MACHINE_SCHEME}client/{name}"),
        }
    }
}

impl TryFrom<String> for MachineIdentity {
    type Error = MachineIdentityError;
    fn try_from(text: String) -> Result<Self, MachineIdentityError> {
        text.parse()
    }
}

impl From<MachineIdentity> for String {
    fn from(identity: MachineIdentity) -> String {
        identity.to_string()
    }
}

/// A certificate that has less than a third of its life left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateEnding {
    /// Whose.
    pub machine: MachineIdentity,
    /// When it ends.
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        for text in ["drover://agent/eu-west/eu-west-1", "drover://coordinator/c-1", "drover://client/ann"] {
            let identity: MachineIdentity = text.parse().unwrap();
            assert_eq!(identity.to_string(), text);
            let json = serde_json::to_string(&identity).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<MachineIdentity>(&json).unwrap(), identity);
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in [
            "",
            "drover://",
            "drover://agent",
            "drover://agent/eu-west",
            "drover://agent/eu-west/",
            "drover://agent//eu-west-1",
            "drover://agent/eu-west/eu-west-1/",
            "drover://agent/eu-west/eu-west-1/x",
            "drover://agent/eu-west/eu-west-1?x",
            "drover://agent/eu-west/eu%2Dwest-1",
            "drover://agent/EU-West/eu-west-1",
            "drover://Agent/eu-west/eu-west-1",
            "DROVER://client/ann",
            "drover:///client/ann",
            "drover://client/ann/..",
            "drover://client/ann b",
            " drover://client/ann",
            "drover://coordinator/c-1.example",
            "drover://root/ann",
            "https://client/ann",
            "client/ann",
        ] {
            assert!(text.parse::<MachineIdentity>().is_err(), "{text}");
        }
        let long = format!("drover://client/{}", "a".repeat(64));
        assert!(matches!(long.parse::<MachineIdentity>(), Err(MachineIdentityError::Name { .. })));
    }
}
