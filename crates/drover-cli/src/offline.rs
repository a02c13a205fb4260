//! What can be known without the coordinator: the last snapshot, the agents that answer, and what DNS answers now.

use crate::context::Target;
use drover_agent::AgentStatus;
use drover_agent::identity::StatusAddress;
use drover_dns::provider::{Registered, registry_name};
use drover_dns::resolver::{QueryType, Rcode, Resolver};
use drover_dns::zone::{DnsName, GENERATION_LABEL, RecordKey, RecordType};
use drover_model::Timestamp;
use drover_model::api::{DnsView, ServiceView, StatusView};
use drover_model::config::version_of;
use drover_model::out_of_service::status_text;
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

/// What Route 53's checkers give a page: four seconds to connect, two to answer.
const PAGE_TIMEOUT: Duration = Duration::from_secs(6);
/// As much of a page as Route 53's checkers look through.
const PAGE_BYTES_MAX: u64 = 5_120;

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
    /// Its servers can't say one: of Route 53 the API alone shows it.
    pub is_unversioned: bool,
    /// The values of one answer: one draw by weight.
    pub values: Vec<String>,
    /// How long it may be kept.
    pub ttl_seconds: u32,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// What a status server said of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageAnswer {
    /// The page.
    pub url: String,
    /// Whether it declares the region out of service; or why it could not be asked.
    pub said: Result<bool, String>,
}

/// Asks every status page of a status, all at once, as Route 53's checkers do.
pub async fn ask_pages(view: &StatusView) -> Vec<PageAnswer> {
    let regions = view.health_checks.iter().flat_map(|checks| &checks.regions);
    let pages =
        regions.flat_map(|r| r.pages.iter().map(move |page| (status_text(&r.region), page.url.clone())));
    let mut asked = JoinSet::new();
    for (order, (text, url)) in pages.enumerate() {
        asked.spawn(async move {
            let said = ask_page(&url, &text).await;
            (order, PageAnswer { url, said })
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask_page(url: &str, text: &str) -> Result<bool, String> {
    let told = |e: reqwest::Error| drover_model::chain(&e.without_url());
    // As the checkers do, which look at no certificate.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .timeout(PAGE_TIMEOUT);
    let answer = client.build().map_err(told)?.get(url).send().await.map_err(told)?;
    match answer.status().as_u16() {
        200 => {
            // A page is a line; whoever sends more than that is none of drover's.
            let is_short = answer.content_length().is_some_and(|bytes| bytes <= PAGE_BYTES_MAX);
            let body = if is_short { answer.text().await.map_err(told)? } else { String::new() };
            if body.contains(text) { Ok(true) } else { Err("it answers 200 with other words".to_owned()) }
        }
        503 => Ok(false),
        other => Err(format!("it answers {other}")),
    }
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
                is_unversioned: false,
                values: Vec::new(),
                ttl_seconds: 0,
                error: None,
            };
            let (at, guessed) = (server.query.clone(), record_type(service));
            asked.spawn(async move { ((i, j), ask_one(blank, &at, guessed).await) });
        }
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask_one(mut answer: DnsAnswer, at: &str, guessed: RecordType) -> DnsAnswer {
    if let Err(error) = try_ask(&mut answer, at, guessed).await {
        answer.error = Some(error);
    }
    answer
}

async fn try_ask(answer: &mut DnsAnswer, at: &str, guessed: RecordType) -> Result<(), String> {
    let server: SocketAddr = at.parse().map_err(|_| format!("`{at}` is no address"))?;
    let name = DnsName::parse(&answer.name).map_err(|e| e.to_string())?;
    let mut resolver = Resolver::connect(server).await.map_err(|e| drover_model::chain(&e))?;
    let rtype = ask_version(answer, &mut resolver, &name, guessed).await?;
    let got = resolver.resolve(&name, QueryType::from(rtype), ASK_TIMEOUT).await;
    let got = got.map_err(|e| drover_model::chain(&e))?;
    if got.rcode != Rcode::NOERROR {
        return Err(got.rcode.to_string());
    }
    answer.values = got.values;
    answer.ttl_seconds = got.ttl_seconds;
    Ok(())
}

/// Which version a server has, and the type of its records: drover's own server says both under a label of its own, as `A=7`; in
/// zones of others the text says so that stands beside a record set.
async fn ask_version(
    answer: &mut DnsAnswer,
    resolver: &mut Resolver,
    name: &DnsName,
    guessed: RecordType,
) -> Result<RecordType, String> {
    if let Ok(generation) = DnsName::parse(&format!("{GENERATION_LABEL}.{name}")) {
        let told = texts(resolver, &generation).await?;
        let of_type = |text: &String| {
            let (rtype, number) = text.split_once('=')?;
            Some((RecordType::parse(rtype)?, number.parse().ok()?))
        };
        if let Some((rtype, generation)) = told.iter().find_map(of_type) {
            answer.generation = Some(generation);
            return Ok(rtype);
        }
    }
    let others = RecordType::OF_SERVICES.into_iter().filter(|rtype| *rtype != guessed);
    for rtype in std::iter::once(guessed).chain(others) {
        let Ok(registry) = registry_name(&RecordKey::new(name.clone(), rtype)) else { continue };
        let told = texts(resolver, &registry).await?;
        match told.iter().find_map(|text| Registered::read(text)) {
            Some(Registered::Generation(generation)) => answer.generation = Some(generation),
            Some(Registered::OwnerAlone) => answer.is_unversioned = true,
            None => continue,
        }
        return Ok(rtype);
    }
    Ok(guessed)
}

async fn texts(resolver: &mut Resolver, name: &DnsName) -> Result<Vec<String>, String> {
    let got = resolver.resolve(name, QueryType::Txt, ASK_TIMEOUT).await;
    got.map(|answer| answer.values).map_err(|e| drover_model::chain(&e))
}

/// The type of a service's records, by what its endpoints are; of an alias it is another.
fn record_type(service: &ServiceView) -> RecordType {
    let host =
        service.endpoints.first().map(|e| e.address.rsplit_once(':').map_or(e.address.as_str(), |(h, _)| h));
    let host = host.unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => RecordType::A,
        Ok(IpAddr::V6(_)) => RecordType::Aaaa,
        Err(_) => RecordType::Cname,
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
