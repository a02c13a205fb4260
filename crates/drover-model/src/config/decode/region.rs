//! `kind: Region`.

use super::cursor::{Fields, Got};
use super::sink::Sink;
use super::tree::Node;
use crate::config::shapes::region::{AGENT, REGION};
use crate::config::{AgentConfig, Location, Region, RegionRole};
use crate::ids::{AgentId, RegionId};
use std::net::IpAddr;

/// What is known of a region, even when it has errors: others may refer to it all the same.
pub(super) struct Draft {
    pub path: String,
    pub name: Option<RegionId>,
    pub role: Option<RegionRole>,
    pub location: Option<Location>,
    pub agents: Vec<AgentDraft>,
    pub region: Option<Region>,
}

/// An agent with the path of its document's item.
pub(super) struct AgentDraft {
    pub path: String,
    pub name: Option<AgentId>,
    pub source_address: Option<IpAddr>,
}

pub(super) fn read(sink: &Sink<'_>, node: &Node, path: &str) -> Draft {
    let mut draft = Draft {
        path: path.to_owned(),
        name: None,
        role: None,
        location: None,
        agents: Vec::new(),
        region: None,
    };
    let Some(fields) = Fields::open(sink, node, &REGION, path.to_owned()) else { return draft };
    fields.text("kind");
    draft.name = fields.text("name").value().and_then(|n| RegionId::new(n).ok());
    draft.role = fields.text("role").value().map(|r| match r.as_str() {
        "witness" => RegionRole::Witness,
        _ => RegionRole::Serving,
    });
    draft.location = fields.object("location").value().and_then(|f| location(&f));
    let agents = read_agents(&fields, &mut draft.agents);
    draft.region = (|| {
        Some(Region {
            name: draft.name.clone()?,
            role: draft.role?,
            location: draft.location.clone()?,
            agents: agents?,
        })
    })();
    draft
}

fn location(fields: &Fields<'_, '_, '_>) -> Option<Location> {
    let city = fields.text("city").value();
    let latitude = fields.number("latitude").value();
    let longitude = fields.number("longitude").value();
    let jurisdiction = fields.text("jurisdiction").value();
    Some(Location { city: city?, latitude: latitude?, longitude: longitude?, jurisdiction: jurisdiction? })
}

fn read_agents(fields: &Fields<'_, '_, '_>, drafts: &mut Vec<AgentDraft>) -> Option<Vec<AgentConfig>> {
    let items = match fields.list("agents") {
        Got::Value(items) => items,
        Got::Absent | Got::Bad => return None,
    };
    let mut agents = Vec::new();
    let count = items.len();
    for (path, node) in items {
        let Some(agent) = Fields::open(fields.sink, node, &AGENT, path.clone()) else { continue };
        let name = agent.text("name").value().and_then(|n| AgentId::new(n).ok());
        let source_address = agent.ip("source_address").optional();
        drafts.push(AgentDraft { path, name: name.clone(), source_address: source_address.flatten() });
        if let (Some(name), Some(source_address)) = (name, source_address) {
            agents.push(AgentConfig { name, source_address });
        }
    }
    (agents.len() == count).then_some(agents)
}
