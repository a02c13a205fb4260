//! Which regions are near to which clients, and which may answer them: `geography` of `dns`.

use crate::ids::{RegionId, ServiceId};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most bits of a client's address that are looked at: more would be about a person (RFC 7871, 11.1).
pub const CLIENT_BITS_V4_MAX: u8 = 24;
/// As [`CLIENT_BITS_V4_MAX`], of IPv6.
pub const CLIENT_BITS_V6_MAX: u8 = 56;

/// What is answered to a client whose jurisdiction has no region with weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// Another region: the service stays up, outside of the jurisdiction.
    #[default]
    Answer,
    /// That the question is refused: the service is down for him.
    Refuse,
}

impl Outside {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Answer, Self::Refuse];

    /// As it is configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Refuse => "refuse",
        }
    }
}

/// Clients that are alike to the zone. The longest network that has a client is his.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientNetwork {
    /// Where they are.
    #[schemars(with = "String")]
    pub cidr: IpNet,
    /// The regions that are near to them, the nearest first. Others are not preferred to each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<RegionId>,
    /// Regions of this jurisdiction alone may answer them; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
}

/// Where clients are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Geography {
    /// What drover calls it, as it calls services by their names; no service has the same.
    pub id: ServiceId,
    /// Their networks.
    pub networks: Vec<ClientNetwork>,
    /// What they get whom no region may answer.
    pub outside: Outside,
}

/// One part of a geography, as servers are told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steering {
    /// What they get whom no region may answer.
    Outside(Outside),
    /// Where each region is.
    Jurisdictions(BTreeMap<RegionId, String>),
    /// Clients that are alike.
    Network(ClientNetwork),
}

/// A network as it is configured.
///
/// # Errors
/// What it should be.
pub fn client_network(text: &str) -> Result<IpNet, &'static str> {
    let network: IpNet = text.parse().map_err(|_| "a network, such as 203.0.113.0/24 or 2001:db8::/48")?;
    let most = match network {
        IpNet::V4(_) => CLIENT_BITS_V4_MAX,
        IpNet::V6(_) => CLIENT_BITS_V6_MAX,
    };
    if network.trunc() != network {
        return Err("a network without bits beyond its prefix");
    }
    if network.prefix_len() > most {
        return Err("at most /24, or /56 of IPv6: more of a client is not looked at");
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_no_address_and_no_single_client() {
        for right in ["203.0.113.0/24", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "2001:db8:0:ff00::/56"] {
            assert_eq!(client_network(right).unwrap().to_string(), right);
        }
        for wrong in ["203.0.113.0", "203.0.113.7/24", "203.0.113.0/25", "2001:db8::/57", "x", "1.2.3.0/33"] {
            assert!(client_network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_servers_are_told_is_read_as_it_is_written() {
        let network = ClientNetwork {
            cidr: "203.0.113.0/24".parse().unwrap(),
            prefer: vec![RegionId::new("eu-west").unwrap()],
            jurisdiction: Some("EU".into()),
        };
        for told in [Steering::Outside(Outside::Refuse), Steering::Network(network)] {
            let text = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Steering>(&text).unwrap(), told, "{text}");
        }
    }
}
