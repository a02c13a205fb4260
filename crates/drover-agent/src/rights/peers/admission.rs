//! Who may ask a member to vouch, by the certificate that it showed: another member of the dataset, for itself, from its own region.

use super::super::known::Peers;
use drover_model::machine::MachineIdentity;
use drover_model::{AgentId, RegionId};
use drover_pki::{NotAMachine, NotAdmitted, Presented, ServerTls};
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) tls: Arc<ServerTls>,
    pub(super) presented: Presented,
}

/// Why a question is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the certificate names no machine: {0}")]
    NotAMachine(NotAMachine),
    #[error("{0}; drover pki show, where the authority is, says what was issued")]
    Lapsed(NotAdmitted),
    #[error("members are asked by agents, and this certificate is of {0}")]
    NotAnAgent(MachineIdentity),
    #[error("an agent asks for itself: the certificate is of {agent}, and the question of {from}")]
    NotItsOwn { agent: AgentId, from: AgentId },
    #[error("{0} is no other member of this dataset, as far as this agent was told by a coordinator")]
    NotAMember(AgentId),
    #[error(
        "the certificate is of agent {agent} in {claimed}, and the configuration has it in {configured}: \
         drover pki issue agent {agent} --region {configured} --out DIR"
    )]
    OtherRegion { agent: AgentId, claimed: RegionId, configured: RegionId },
    #[error("no coordinator has told this agent yet in which region {0} is")]
    RegionUnknown(AgentId),
}

impl Refusal {
    /// The word by which it is counted.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotAMachine(_) => "not_a_machine",
            Self::Lapsed(_) => "certificate_lapsed",
            Self::NotAnAgent(_) => "not_an_agent",
            Self::NotItsOwn { .. } => "not_its_own",
            Self::NotAMember(_) => "not_a_member",
            Self::OtherRegion { .. } => "wrong_region",
            Self::RegionUnknown(_) => "region_unknown",
        }
    }
}

impl Caller {
    /// May it ask in the name of `from`, of a dataset with these other members?
    pub(super) fn may_ask(&self, from: &AgentId, peers: &Peers) -> Result<(), Refusal> {
        self.tls.still_admits(&self.presented).map_err(Refusal::Lapsed)?;
        let machine = self.presented.machine.as_ref().map_err(|e| Refusal::NotAMachine(e.clone()))?;
        may_ask(&machine.identity, from, peers)
    }
}

fn may_ask(machine: &MachineIdentity, from: &AgentId, peers: &Peers) -> Result<(), Refusal> {
    let MachineIdentity::Agent { region, agent } = machine else {
        return Err(Refusal::NotAnAgent(machine.clone()));
    };
    if agent != from {
        return Err(Refusal::NotItsOwn { agent: agent.clone(), from: from.clone() });
    }
    let peer = peers.get(agent).ok_or_else(|| Refusal::NotAMember(agent.clone()))?;
    match &peer.region {
        Some(configured) if configured == region => Ok(()),
        Some(configured) => {
            let (claimed, configured) = (region.clone(), configured.clone());
            Err(Refusal::OtherRegion { agent: agent.clone(), claimed, configured })
        }
        None => Err(Refusal::RegionUnknown(agent.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::known::PeerAt;
    use super::*;

    #[test]
    fn a_member_asks_for_itself_and_from_its_own_region() {
        let peer = |(name, region): (&str, Option<&str>)| {
            let region = region.map(|region| RegionId::new(region).unwrap());
            (AgentId::new(name).unwrap(), PeerAt { address: ([10, 0, 0, 5], 7_414).into(), region })
        };
        let peers: Peers = [("us-east-1", Some("us-east")), ("untold", None)].map(peer).into();
        for (machine, from, refused) in [
            ("drover://agent/us-east/us-east-1", "us-east-1", None),
            ("drover://agent/eu-west/us-east-1", "us-east-1", Some("wrong_region")),
            ("drover://agent/us-east/us-east-1", "ap-south-1", Some("not_its_own")),
            ("drover://agent/us-east/us-east-2", "us-east-2", Some("not_a_member")),
            ("drover://agent/us-east/untold", "untold", Some("region_unknown")),
            ("drover://coordinator/c-1", "us-east-1", Some("not_an_agent")),
            ("drover://client/ann", "us-east-1", Some("not_an_agent")),
        ] {
            let judged = may_ask(&machine.parse().unwrap(), &AgentId::new(from).unwrap(), &peers);
            assert_eq!(judged.err().as_ref().map(Refusal::code), refused, "{machine} for {from}");
        }
    }
}
