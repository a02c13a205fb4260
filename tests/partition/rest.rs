//! When a world is at rest: one coordinator leads and the others know it, everything is healthy and has its full share, every
//! server shows it, no run is under way, and one writes the dataset. What waits for a person meanwhile gets an answer, as from somebody on call.

use crate::dataset;
use crate::site::{self, NAME, REGIONS, Site};
use crate::watch::dns_control;
use drover_model::RunId;
use drover_model::api::{RunSummary, RunView, StatusView};
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use drover_model::traffic::Actor;
use serde_json::json;

/// What is not at rest yet, or whose status it is when all is.
pub fn at_rest(site: &Site) -> Result<StatusView, String> {
    let mut leading = None;
    let mut followed = Vec::new();
    for region in 1..=REGIONS.len() {
        let status = site.status(region).ok_or_else(|| format!("coordinator {region} does not answer"))?;
        let leadership = status.coordinator.leadership.clone();
        let leadership = leadership.ok_or_else(|| format!("coordinator {region} knows no leader"))?;
        followed.push(leadership.leader);
        if leadership.leads {
            leading = Some((region, status));
        }
    }
    let (region, mut status) = leading.ok_or("nobody leads")?;
    if followed.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("they follow different leaders: {followed:?}"));
    }
    if let Some(run) = status.runs.iter().find(|r| !r.state.is_final()) {
        return Err(format!("{} is {}: {}", run.id, run.state, run.summary));
    }
    for endpoint in status.services.iter().flat_map(|s| &s.endpoints) {
        let is_whole = endpoint.weight == endpoint.configured_weight;
        if endpoint.verdict != VerdictState::Healthy || !is_whole {
            let (region, has) = (&endpoint.region, endpoint.weight.0);
            return Err(format!(
                "{region} is {:?} and has {has} of {}",
                endpoint.verdict, endpoint.configured_weight.0
            ));
        }
    }
    if let Some(vantage) = status.vantages.iter().find(|v| !v.state.counts()) {
        return Err(format!("{} is {}", vantage.agent, vantage.state));
    }
    if let Some(dns) = status.dns.iter().find(|d| !d.reachable || !d.behind.is_empty()) {
        return Err(format!("{} is behind: {:?}", dns.instance, dns.behind));
    }
    every_server_shows_all(site)?;
    // What a status shows of it may be a second old.
    status.datasets = vec![dataset::at_rest(site, region)?];
    Ok(status)
}

/// Asks the servers themselves, each on its own machine.
fn every_server_shows_all(site: &Site) -> Result<(), String> {
    for server in 1..=REGIONS.len() {
        let path = format!("/v1/recordsets/{NAME}/A");
        let shown = site.place(server).within(|| dns_control(server, &path));
        let shown = shown.ok_or_else(|| format!("DNS server {server} shows nothing"))?;
        let members = shown["record_set"]["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let carrying = members.iter().filter(|m| m["weight"].as_u64().is_some_and(|w| w > 0)).count();
        if carrying != REGIONS.len() {
            return Err(format!("DNS server {server} shows {carrying} regions: {shown}"));
        }
    }
    Ok(())
}

/// Gives an answer to each run that waits for a person: somebody looks, and stops it. How many there were.
pub fn answer(site: &Site) -> usize {
    let waits = |run: &&RunSummary| {
        matches!(run.state, RunState::AwaitingApproval | RunState::Paused | RunState::NeedsOperator)
    };
    let Some((region, status)) = site.leader() else { return 0 };
    let by = Actor::Person { name: "on-call".into(), host: "desk".into() };
    let body = json!({"by": by, "reason": "all is well again"}).to_string();
    let mut answered = 0;
    for run in status.runs.iter().filter(waits) {
        let verb = if run.state == RunState::AwaitingApproval { "reject" } else { "abort" };
        let (code, _) = site.ask(region, "POST", &format!("/v1/runs/{}/{verb}", run.id), &body);
        answered += usize::from(code == 200);
    }
    answered
}

/// A run in full, by the leader whose status this is.
pub fn run(site: &Site, status: &StatusView, run: &RunId) -> RunView {
    let leader = status.coordinator.leadership.as_ref().and_then(|l| l.answered_by.clone());
    let region = (1..=REGIONS.len()).find(|r| leader.as_deref() == Some(site::api(*r).as_str())).unwrap();
    let (code, body) = site.ask(region, "GET", &format!("/v1/runs/{run}"), "");
    assert_eq!(code, 200, "{run}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{run}: {e} in {body}"))
}
