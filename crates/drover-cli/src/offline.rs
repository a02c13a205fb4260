//! What can be known without the coordinator: the last snapshot, the agents that answer, and what DNS answers now.

use crate::context::Target;
use drover_agent::AgentStatus;
use drover_agent::identity::StatusAddress;
use drover_dns::resolver::{QueryType, Rcode, Resolver};
use drover_dns::zone::{DnsName, GENERATION_LABEL};
use drover_model::Timestamp;
use drover_model::api::{DnsView, ServiceView, StatusView};
use drover_model::config::version_of;
use serde::Serialize;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

/// Version of this output's schema.
const OFFLINE_SCHEMA: u16 = 1;
/// Time for one agent or one DNS question: on this machine milliseconds would do.
const ASK_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What `status` prints when the coordinator can't be reached.
#[derive(Debug, Serialize)]
pub struct OfflineView {
    /// [`OFFLINE_SCHEMA`].
    pub schema: u16,
    /// Always false: tells this from a status.
    pub coordinator_reachable: bool,
    /// Why not.
    pub error: String,
    /// The last status that was seen in this context.
    pub snapshot: Option<StatusView>,
    /// The agents whose addresses are known.
    pub agents: Vec<AgentAnswer>,
    /// What each DNS server of the snapshot answers now.
    pub dns: Vec<DnsAnswer>,
}

/// What an agent said.
#[derive(Debug, Serialize)]
pub struct AgentAnswer {
    /// Its name.
    pub agent: String,
    /// What it said about itself.
    pub status: Option<AgentStatus>,
    /// Why there is none.
    pub error: Option<String>,
}

/// What a DNS server answered about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsAnswer {
    /// The server.
    pub instance: String,
    /// The service.
    pub service: String,
    /// The name that was asked for.
    pub name: String,
    /// The generation that it serves, when it says.
    pub generation: Option<u64>,
    /// The values of one answer: one draw by weight.
    pub values: Vec<String>,
    /// How long it may be kept.
    pub ttl_seconds: u32,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// Asks everybody at once.
pub async fn look(target: &Target, error: String) -> OfflineView {
    let snapshot = read_snapshot(target);
    let dns = match &snapshot {
        Some(view) => ask_dns(&view.dns, &view.services).await,
        None => Vec::new(),
    };
    let agents = ask_agents(target).await;
    OfflineView { schema: OFFLINE_SCHEMA, coordinator_reachable: false, error, snapshot, agents, dns }
}

/// Where the last status of a target is kept.
fn snapshot_path(target: &Target) -> Option<PathBuf> {
    let address = version_of(&target.coordinator.to_string());
    dirs::cache_dir().map(|d| d.join("drover").join(format!("status-{address}.json")))
}

/// Keeps a status for the day on which the coordinator is gone. A cache that can't be written is no failure.
pub fn keep_snapshot(target: &Target, text: &[u8]) {
    let Some(path) = snapshot_path(target) else { return };
    let Some(directory) = path.parent() else { return };
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| tempfile::NamedTempFile::new_in(directory))
        .and_then(|mut file| {
            file.write_all(text)?;
            file.persist(&path).map_err(|e| e.error)
        });
    if let Err(e) = written {
        tracing::debug!(path = %path.display(), error = %e, "can't keep the snapshot");
    }
}

fn read_snapshot(target: &Target) -> Option<StatusView> {
    let text = std::fs::read(snapshot_path(target)?).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Age of the snapshot.
pub fn age(view: &StatusView, now: Timestamp) -> drover_model::Span {
    now.since(view.at)
}

/// Asks every server about every service, all at once.
pub async fn ask_dns(servers: &[DnsView], services: &[ServiceView]) -> Vec<DnsAnswer> {
    let mut asked = JoinSet::new();
    for (i, server) in servers.iter().enumerate() {
        for (j, service) in services.iter().enumerate() {
            let blank = DnsAnswer {
                instance: server.instance.clone(),
                service: service.name.to_string(),
                name: service.dns_name.clone(),
                generation: None,
                values: Vec::new(),
                ttl_seconds: 0,
                error: None,
            };
            let (at, qtype) = (server.query.clone(), query_type(service));
            asked.spawn(async move { ((i, j), ask_one(blank, &at, qtype).await) });
        }
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask_one(mut answer: DnsAnswer, at: &str, qtype: QueryType) -> DnsAnswer {
    if let Err(error) = try_ask(&mut answer, at, qtype).await {
        answer.error = Some(error);
    }
    answer
}

async fn try_ask(answer: &mut DnsAnswer, at: &str, qtype: QueryType) -> Result<(), String> {
    let server: SocketAddr = at.parse().map_err(|_| format!("`{at}` is no address"))?;
    let name = DnsName::parse(&answer.name).map_err(|e| e.to_string())?;
    let text = |e: &dyn std::error::Error| match e.source() {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    };
    let mut resolver = Resolver::connect(server).await.map_err(|e| text(&e))?;
    let got = resolver.resolve(&name, qtype, ASK_TIMEOUT).await.map_err(|e| text(&e))?;
    if got.rcode != Rcode::NOERROR {
        return Err(got.rcode.to_string());
    }
    answer.values = got.values;
    answer.ttl_seconds = got.ttl_seconds;
    if let Ok(generation) = DnsName::parse(&format!("{GENERATION_LABEL}.{name}")) {
        let got = resolver.resolve(&generation, QueryType::Txt, ASK_TIMEOUT).await.map_err(|e| text(&e))?;
        // One text a record type, `A=7`; a service has one type.
        let told = got.values.iter().filter_map(|v| v.split_once('='));
        let of_type = told.filter(|(key, _)| matches!(*key, "A" | "AAAA" | "CNAME"));
        answer.generation = of_type.filter_map(|(_, n)| n.parse().ok()).next();
    }
    Ok(())
}

/// The type of a service's records, by what its endpoints are.
fn query_type(service: &ServiceView) -> QueryType {
    let host =
        service.endpoints.first().map(|e| e.address.rsplit_once(':').map_or(e.address.as_str(), |(h, _)| h));
    let host = host.unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => QueryType::A,
        Ok(IpAddr::V6(_)) => QueryType::Aaaa,
        Err(_) => QueryType::Cname,
    }
}

async fn ask_agents(target: &Target) -> Vec<AgentAnswer> {
    let mut asked = JoinSet::new();
    for (agent, address) in target.agents.clone() {
        asked.spawn(async move {
            let (status, error) = match ask_agent(&address).await {
                Ok(status) => (Some(status), None),
                Err(error) => (None, Some(error)),
            };
            AgentAnswer { agent, status, error }
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|a, b| a.agent.cmp(&b.agent));
    answers
}

async fn ask_agent(address: &str) -> Result<AgentStatus, String> {
    let parsed: StatusAddress = address.parse().map_err(|e: drover_agent::AgentError| e.to_string())?;
    let builder = reqwest::Client::builder().no_proxy().timeout(ASK_TIMEOUT);
    let (builder, host) = match &parsed {
        StatusAddress::Tcp(address) => (builder, address.to_string()),
        StatusAddress::Unix(path) => (builder.unix_socket(path.as_path()), "localhost".to_owned()),
    };
    let client = builder.build().map_err(|e| e.to_string())?;
    let answer = client.get(format!("http://{host}/v1/agent")).send().await;
    let answer = answer
        .and_then(reqwest::Response::error_for_status)
        .map_err(|_| format!("no answer at {address}"))?;
    answer.json().await.map_err(|_| format!("{address} answers something else"))
}
