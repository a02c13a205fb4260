//! What each agent has to probe: every endpoint, its own region's too (the inside view).

use crate::config_dir::Loaded;
use drover_core::opinion::policy_of;
use drover_model::probe::{ProbeList, ProbeTarget};
use drover_model::{AgentId, EndpointKey};

/// The probe list of one agent; nothing for an agent that is not configured.
#[must_use]
pub fn for_agent(loaded: &Loaded, agent: &AgentId) -> Option<ProbeList> {
    let config = &loaded.config;
    let region = config.region_of_agent(agent)?.clone();
    let source_address =
        config.regions.get(&region)?.agents.iter().find(|a| a.name == *agent)?.source_address;
    let targets = config
        .services
        .values()
        .flat_map(|s| s.endpoints.values().map(move |e| (s, e)))
        .map(|(s, e)| ProbeTarget {
            endpoint: EndpointKey::new(&s.name, &e.region),
            address: e.address.clone(),
            port: e.port,
            host: s.dns_name.clone(),
            check: s.check.clone(),
            interval: s.interval,
            timeout: s.timeout,
            policy: policy_of(s),
        })
        .collect();
    let vantage = &config.settings.vantage;
    Some(ProbeList {
        config_version: loaded.version.clone(),
        agent: agent.clone(),
        region,
        source_address,
        targets,
        references: vantage.references.clone(),
        reference_interval: vantage.reference_interval,
        report_interval: vantage.report_interval,
    })
}
