//! `kind: Dataset`.

use super::Directory;
use super::cursor::{Fields, Got};
use super::sink::Sink;
use super::tree::Node;
use crate::config::diagnostic::suggest;
use crate::config::shapes::dataset::{DATASET, DATASETS_MAX, DATASETS_PER_AGENT_MAX, MEMBER};
use crate::config::{Dataset, DatasetMember};
use crate::ids::{AgentId, DatasetId};
use crate::write_right::{RightIntervals, RightSettings};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a dataset, even when it has errors.
pub(super) struct Draft {
    pub path: String,
    pub name: Option<DatasetId>,
    /// With the path of each one's item.
    members: Vec<(String, DatasetMember)>,
    pub dataset: Option<Dataset>,
}

pub(super) fn read(sink: &Sink<'_>, node: &Node, path: &str) -> Draft {
    let mut draft = Draft { path: path.to_owned(), name: None, members: Vec::new(), dataset: None };
    let Some(fields) = Fields::open(sink, node, &DATASET, path.to_owned()) else { return draft };
    fields.text("kind");
    draft.name = fields.text("name").value().and_then(|n| DatasetId::new(n).ok());
    let holder = fields.text("holder").value().and_then(|n| AgentId::new(n).ok());
    let count = read_members(&fields, &mut draft.members);
    let write_right = fields.object("write_right").value().and_then(|f| intervals(&f));
    draft.dataset = (|| {
        let members: Vec<_> = draft.members.iter().map(|(_, member)| member.clone()).collect();
        Some(Dataset {
            name: draft.name.clone()?,
            holder: holder?,
            members: Some(members).filter(|members| Some(members.len()) == count)?,
            write_right: write_right?,
        })
    })();
    draft
}

/// How many there should be.
fn read_members(fields: &Fields<'_, '_, '_>, members: &mut Vec<(String, DatasetMember)>) -> Option<usize> {
    let Got::Value(items) = fields.list("members") else { return None };
    let count = items.len();
    for (path, node) in items {
        let Some(item) = Fields::open(fields.sink, node, &MEMBER, path.clone()) else { continue };
        let agent = item.text("agent").value().and_then(|n| AgentId::new(n).ok());
        let peer = item.socket("peer").value();
        members.extend(agent.zip(peer).map(|(agent, peer)| (path, DatasetMember { agent, peer })));
    }
    Some(count)
}

/// The interval rule: what does not fit together would leave a dataset without a writer, or with two.
fn intervals(fields: &Fields<'_, '_, '_>) -> Option<RightSettings> {
    let width = fields.span("width").value();
    let drift = fields.percent("drift").value();
    let demotion = fields.span("demotion").value();
    let renew = fields.span("renew").value();
    let retry = fields.span("retry").value();
    let gate_tick = fields.span("gate_tick").value();
    let settings = RightSettings {
        width: width?,
        drift: drift?,
        demotion: demotion?,
        renew: renew?,
        retry: retry?,
        gate_tick: gate_tick?,
    };
    if let Err(e) = RightIntervals::new(settings) {
        let message = e.to_string();
        let (what, hint) = message.split_once("; ").unwrap_or((&message, ""));
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        fields.sink.error(fields.place, what.to_owned(), hint);
    }
    Some(settings)
}

/// So many datasets and no more: of all, and beside one agent.
pub(super) fn check_number(sink: &Sink<'_>, drafts: &[Draft]) {
    if let Some(beyond) = drafts.get(DATASETS_MAX) {
        let message = format!(
            "{} datasets are more than {DATASETS_MAX}, which one installation can have",
            drafts.len()
        );
        let hint =
            "let databases that always move together be one dataset, or use another installation".to_owned();
        sink.error(sink.place(&beyond.path), message, Some(hint));
    }
    let mut beside: BTreeMap<&AgentId, usize> = BTreeMap::new();
    for (path, member) in drafts.iter().flat_map(|draft| &draft.members) {
        let count = beside.entry(&member.agent).or_default();
        *count += 1;
        // Told once, where it begins to be too many.
        if *count == DATASETS_PER_AGENT_MAX + 1 {
            let message = format!(
                "agent `{}` is a member of more than {DATASETS_PER_AGENT_MAX} datasets, which one agent can be",
                member.agent
            );
            let hint = "put another agent beside the others".to_owned();
            sink.error(sink.place(&format!("{path}/agent")), message, Some(hint));
        }
    }
}

/// Checks of one dataset against the rest of the directory.
pub(super) fn check(sink: &Sink<'_>, directory: &Directory, draft: &Draft) {
    let known: BTreeSet<&AgentId> =
        directory.regions.iter().flat_map(|r| r.agents.iter().filter_map(|a| a.name.as_ref())).collect();
    for (path, member) in &draft.members {
        if directory.complete && !known.contains(&member.agent) {
            let message = format!("agent `{}` is in no region", member.agent);
            let names = known.iter().map(|agent| agent.as_str());
            let place = sink.place(&format!("{path}/agent"));
            sink.error(place, message, suggest(member.agent.as_str(), names));
        }
    }
    let mut agents = BTreeSet::new();
    let mut peers = BTreeSet::new();
    for (path, member) in &draft.members {
        if !agents.insert(&member.agent) {
            let message = format!("agent `{}` is a member twice", member.agent);
            sink.error(sink.place(&format!("{path}/agent")), message, Some("take one out".to_owned()));
        } else if !peers.insert(member.peer) {
            let message = format!("two members are reached at {}", member.peer);
            let hint = "give each agent's own `peer_listen`".to_owned();
            sink.error(sink.place(&format!("{path}/peer")), message, Some(hint));
        }
    }
    let Some(dataset) = &draft.dataset else { return };
    if !agents.contains(&dataset.holder) {
        let message = format!("`holder` {} is none of the members", dataset.holder);
        let names = agents.iter().map(|agent| agent.as_str());
        let place = sink.place(&format!("{}/holder", draft.path));
        sink.error(place, message, suggest(dataset.holder.as_str(), names));
    }
    if dataset.members.len() == 1 {
        let message = format!("dataset `{}` has one member: nobody could take over", dataset.name);
        sink.warn(sink.place(&draft.path), message, Some("add another region's agent".to_owned()));
    }
}
