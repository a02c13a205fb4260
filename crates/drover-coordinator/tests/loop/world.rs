//! A whole world in one process: the real coordinator with its store and API, a real DNS instance, real HTTP services,
//! clients that resolve and call. Only the agents are played: each test says what a vantage sees.

use drover_coordinator::config_dir::ConfigDir;
use drover_coordinator::{Coordinator, Options, api, listen};
use drover_dns::resolver::{QueryType, Resolver};
use drover_dns::server::{Limits, Peering, Running, ServerConfig};
use drover_dns::zone::{NameServer, ZoneConfig};
use drover_model::api::{RunView, StatusView};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{self, Config, DnsInstance};
use drover_model::journal::RunState;
use drover_model::{AgentId, RegionId, ServiceId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Hang guard for everything that a test waits for.
pub const GUARD: Duration = Duration::from_secs(60);
/// The shipped policy, this much faster: probes every 500 ms.
pub const FACTOR: u64 = 60;
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// What a vantage reports of an endpoint.
#[derive(Clone, Copy, PartialEq)]
pub enum Sees {
    Good,
    Bad,
}

#[derive(Default)]
pub struct Agents {
    /// By agent and region seen; missing means good.
    pub sees: BTreeMap<(String, String), Sees>,
    pub silent: Vec<String>,
    pub blind: Vec<String>,
    pub clock_ahead_millis: BTreeMap<String, i64>,
    /// When the certificate ends that is shown in a region.
    pub certificates: BTreeMap<String, drover_model::Timestamp>,
}

pub type Broken = Arc<Mutex<std::collections::BTreeSet<String>>>;

pub struct World {
    pub dir: tempfile::TempDir,
    pub config: Config,
    /// Absent only while it is replaced: its history is one process's alone.
    coordinator: Option<Arc<Coordinator>>,
    pub api: SocketAddr,
    pub agents: Arc<Mutex<Agents>>,
    /// Regions whose services answer every request with an error.
    pub broken: Broken,
    pub http: reqwest::Client,
    dns: Option<Running>,
    stop_world: CancellationToken,
    stop_coordinator: CancellationToken,
    tasks: TaskTracker,
}

pub fn shipped() -> Config {
    let files = [
        include_str!("../../../../regions/eu-west.yaml"),
        include_str!("../../../../regions/us-east.yaml"),
        include_str!("../../../../regions/ap-south.yaml"),
        include_str!("../../../../regions/witness.yaml"),
        include_str!("../../../../regions/services.yaml"),
        include_str!("../../../../regions/settings.yaml"),
    ];
    let files: Vec<_> =
        files.iter().enumerate().map(|(i, t)| SourceFile::new(format!("{i}.yaml"), *t)).collect();
    decode::load(&files).unwrap().config
}

fn zone(config: &Config) -> ZoneConfig {
    let dns = config.settings.dns.as_ref().unwrap();
    let mut servers: Vec<NameServer> = dns
        .embedded()
        .unwrap()
        .nameservers
        .iter()
        .map(|(n, a)| NameServer { name: n.parse().unwrap(), addresses: vec![*a] })
        .collect();
    if servers.len() < 2 {
        let name = format!("ns2.{}", dns.zone).parse().unwrap();
        servers.push(NameServer { name, addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] });
    }
    ZoneConfig::new(dns.zone.parse().unwrap(), servers).unwrap()
}

impl World {
    /// Starts the shipped world, changed by `edit` before it is scaled.
    pub async fn start(edit: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let stop_world = CancellationToken::new();
        let mut config = shipped();
        edit(&mut config);
        let mut config = config::scale(&config, FACTOR);
        // What is proved here is the loop, not how many requests a busy machine serves in two seconds.
        config.services.values_mut().for_each(|s| s.validation.min_samples = 20);
        let broken = Broken::default();
        start_services(&mut config, &stop_world, &broken).await;
        let dns = drover_dns::server::run(
            ServerConfig {
                listen: vec![([127, 0, 0, 1], 0).into()],
                control: ([127, 0, 0, 1], 0).into(),
                state_dir: dir.path().join("dns"),
                zone: zone(&config),
                limits: Limits::default(),
                peering: Peering::default(),
            },
            stop_world.clone(),
        )
        .await
        .unwrap();
        let settings = &mut config.settings;
        settings.listen = free_port();
        settings.dns.as_mut().unwrap().embedded_mut().unwrap().instances =
            vec![DnsInstance { name: "dns-1".into(), control: dns.control, query: dns.dns[0] }];
        std::fs::create_dir(dir.path().join("config")).unwrap();
        write(&dir, &config);
        let (coordinator, api, stop_coordinator, tasks) = boot(&dir).await;
        let world = Self {
            dir,
            config,
            coordinator: Some(coordinator),
            api,
            agents: Arc::default(),
            broken,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            dns: Some(dns),
            stop_world,
            stop_coordinator,
            tasks,
        };
        world.start_agents();
        world.start_clients();
        world
            .until("all endpoints are healthy", |s| {
                s.services.iter().all(|s| s.endpoints.iter().all(|e| e.verdict.to_string() == "healthy"))
            })
            .await;
        world.until_published().await;
        world
    }

    /// Waits until DNS answers every region of every service.
    async fn until_published(&self) {
        let began = std::time::Instant::now();
        for service in self.config.services.values() {
            while self.answered(service.name.as_str()).await.len() < service.endpoints.len() {
                assert!(began.elapsed() < GUARD, "{} is not published", service.name);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub fn coordinator(&self) -> &Arc<Coordinator> {
        self.coordinator.as_ref().unwrap()
    }

    /// Ends the coordinator; its store is closed.
    pub async fn stop_coordinator(&mut self) {
        self.stop_coordinator.cancel();
        self.tasks.close();
        tokio::time::timeout(GUARD, self.tasks.wait()).await.unwrap();
        let Some(coordinator) = self.coordinator.take() else { return };
        // A thread may still be giving back what its task held.
        let alone = async {
            while Arc::strong_count(&coordinator) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(GUARD, alone)
            .await
            .expect("somebody still holds the coordinator, and so its store");
    }

    /// Starts another coordinator on the store of the one before.
    pub async fn start_coordinator(&mut self) {
        let mut config = self.config.clone();
        config.settings.listen = self.api;
        write(&self.dir, &config);
        let (coordinator, _, stop, tasks) = boot(&self.dir).await;
        self.coordinator = Some(coordinator);
        self.stop_coordinator = stop;
        self.tasks = tasks;
    }

    /// Ends the coordinator and starts another on the same store.
    pub async fn restart_coordinator(&mut self) {
        self.stop_coordinator().await;
        self.start_coordinator().await;
    }

    pub fn rewrite(&self, edit: impl FnOnce(&mut Config)) {
        let mut config = self.config.clone();
        config.settings.listen = self.api;
        edit(&mut config);
        write(&self.dir, &config);
    }

    pub async fn get(&self, path: &str) -> Value {
        self.http.get(format!("http://{}{path}", self.api)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.post_as(&format!("{:x}", fastrand::u128(..)), path, &body).await
    }

    /// A command under this idempotency key.
    pub async fn post_as(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("http://{}{path}", self.api)).header("idempotency-key", key);
        let answer = request.json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn status(&self) -> StatusView {
        serde_json::from_value(self.get("/v1/status").await).unwrap()
    }

    pub async fn run_view(&self, run: &str) -> RunView {
        serde_json::from_value(self.get(&format!("/v1/runs/{run}")).await).unwrap()
    }

    /// Waits until the status says so.
    pub async fn until(&self, what: &str, holds: impl Fn(&StatusView) -> bool) -> StatusView {
        let began = std::time::Instant::now();
        loop {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            assert!(
                began.elapsed() < GUARD,
                "not within {GUARD:?}: {what}\n{}",
                serde_json::to_string_pretty(&status).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_run(&self, run: &str, state: RunState) -> RunView {
        let began = std::time::Instant::now();
        loop {
            let view = self.run_view(run).await;
            if view.summary.state == state {
                return view;
            }
            let told: Vec<_> = view.timeline.iter().map(|t| &t.sentence).collect();
            assert!(
                began.elapsed() < GUARD && !view.summary.state.is_final(),
                "{run} is {} instead of {state}: {told:#?}",
                view.summary.state
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everybody outside sees the region's endpoints fail, and its own agent is gone.
    pub fn kill_region(&self, region: &str) {
        let mut agents = self.agents.lock().unwrap();
        for agent in ["eu-west-1", "us-east-1", "ap-south-1", "witness-1"] {
            agents.sees.insert((agent.into(), region.into()), Sees::Bad);
        }
        agents.silent.push(format!("{region}-1"));
    }

    /// Everybody sees the region's endpoints well again, and its own agent is back.
    pub fn heal_region(&self, region: &str) {
        let mut agents = self.agents.lock().unwrap();
        agents.sees.retain(|(_, seen), _| seen != region);
        agents.silent.retain(|agent| *agent != format!("{region}-1"));
    }

    pub fn sees(&self, agent: &str, region: &str, sees: Sees) {
        self.agents.lock().unwrap().sees.insert((agent.into(), region.into()), sees);
    }

    /// The regions whose addresses DNS answers for a service, over 60 questions.
    pub async fn answered(&self, service: &str) -> Vec<String> {
        let server = self.dns.as_ref().unwrap().dns[0];
        let mut resolver = Resolver::connect(server).await.unwrap();
        let config = &self.config.services[&ServiceId::new(service).unwrap()];
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let answer = resolver
                .resolve(&config.dns_name.parse().unwrap(), QueryType::A, Duration::from_secs(5))
                .await
                .unwrap();
            seen.extend(answer.values);
        }
        let region =
            |v: &String| config.endpoints.values().find(|e| e.address == *v).map(|e| e.region.to_string());
        seen.iter().filter_map(region).collect()
    }

    /// For how long an answer of a service may be kept.
    pub async fn ttl_seconds(&self, service: &str) -> u32 {
        let name = &self.config.services[&ServiceId::new(service).unwrap()].dns_name;
        let server = self.dns.as_ref().unwrap().dns[0];
        let mut resolver = Resolver::connect(server).await.unwrap();
        let answer = resolver.resolve(&name.parse().unwrap(), QueryType::A, Duration::from_secs(5)).await;
        answer.unwrap().ttl_seconds
    }

    /// Waits until it is as it should be.
    pub async fn until_ttl(&self, service: &str, holds: impl Fn(u32) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let ttl = self.ttl_seconds(service).await;
            if holds(ttl) {
                return;
            }
            assert!(began.elapsed() < GUARD, "answers of {service} are given for {ttl} s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn start_agents(&self) {
        for (agent, region) in self.config.agents() {
            let (http, api, agents) = (self.http.clone(), self.api, self.agents.clone());
            let config = self.config.clone();
            let stop = self.stop_world.clone();
            tokio::spawn(async move {
                let mut sequence = 0;
                while !stop.is_cancelled() {
                    let report = play(&agents, &agent, &region, &config, &mut sequence);
                    if let Some(report) = report {
                        let url = format!("http://{api}/v1/agents/{agent}/reports");
                        // The coordinator may be away in the middle of a test; the next report comes soon.
                        let _ = http.post(url).json(&report).send().await;
                    }
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
            });
        }
    }

    /// A few callers that go where DNS sends them, so that there is something to validate by.
    fn start_clients(&self) {
        let server = self.dns.as_ref().unwrap().dns[0];
        for service in self.config.services.values() {
            let name = service.dns_name.parse::<drover_dns::zone::DnsName>().unwrap();
            let port = service.endpoints.values().next().unwrap().port;
            let (http, stop) = (self.http.clone(), self.stop_world.clone());
            tokio::spawn(async move {
                let mut resolver = Resolver::connect(server).await.unwrap();
                while !stop.is_cancelled() {
                    if let Ok(answer) = resolver.resolve(&name, QueryType::A, Duration::from_secs(1)).await
                        && let Some(address) = answer.values.first()
                    {
                        let _ = http.get(format!("http://{address}:{port}/items")).send().await;
                    }
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
            });
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_world.cancel();
        self.stop_coordinator.cancel();
    }
}

fn write(dir: &tempfile::TempDir, config: &Config) {
    let file = dir.path().join("config/world.yaml");
    let new = dir.path().join("world.new");
    std::fs::write(&new, config::encode::to_yaml(config)).unwrap();
    std::fs::rename(new, file).unwrap();
}

async fn boot(dir: &tempfile::TempDir) -> (Arc<Coordinator>, SocketAddr, CancellationToken, TaskTracker) {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let options = Options {
        config: ConfigDir { config: dir.path().join("config"), runbooks: None },
        state_directory: dir.path().join("state"),
        listen: None,
        launcher: vec![],
        tls: None,
    };
    let coordinator = Coordinator::open(options, stop.clone(), tasks.clone()).await.unwrap();
    coordinator.start().await.unwrap();
    let address = coordinator.listen;
    let socket = dir.path().join("drover.sock");
    let bound = listen::bind(address, &socket, None).await.unwrap();
    let address = bound.address;
    bound.serve(api::router(coordinator.clone()), &coordinator, &stop, &tasks);
    (coordinator, address, stop, tasks)
}

/// One report of a played agent.
fn play(
    agents: &Mutex<Agents>,
    agent: &AgentId,
    region: &RegionId,
    config: &Config,
    sequence: &mut u64,
) -> Option<Value> {
    let agents = agents.lock().unwrap();
    if agents.silent.iter().any(|s| s == agent.as_str()) {
        return None;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ahead = agents.clock_ahead_millis.get(agent.as_str()).copied().unwrap_or(0);
    let at = drover_model::Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap() + ahead);
    let mut observations = Vec::new();
    for service in config.services.values() {
        for seen in service.endpoints.keys() {
            let key = (agent.to_string(), seen.to_string());
            let outcome = match agents.sees.get(&key).copied().unwrap_or(Sees::Good) {
                Sees::Good => json!({"result": "good"}),
                Sees::Bad => json!({"result": "failed", "kind": "timed_out", "detail": "no answer"}),
            };
            *sequence += 1;
            observations.push(json!({
                "sequence": *sequence, "endpoint": format!("{}@{seen}", service.name), "began_at": at,
                "age": "5ms", "latency_micros": 900, "outcome": outcome, "status": null,
                "certificate_expires_at": agents.certificates.get(seen.as_str()),
            }));
        }
    }
    let blind = agents.blind.iter().any(|b| b == agent.as_str());
    let _ = region;
    Some(json!({
        "schema": 1, "agent": agent, "boot": format!("boot-of-{agent}"), "boot_number": 1, "sent_at": at,
        "config_version": "any", "observations": observations, "opinions": [],
        "self_check": {"references_reached": if blind { 0 } else { 2 }, "references": 2, "blind": blind},
        "dropped": 0,
    }))
}

/// Real services on loopback addresses of their own; the configuration is changed to point to them.
async fn start_services(config: &mut Config, stop: &CancellationToken, broken: &Broken) {
    let block = fastrand::u8(20..250);
    let ip = |i: usize| Ipv4Addr::new(127, block, u8::try_from(11 + i).unwrap(), 1);
    for service in config.services.values_mut() {
        let (port, listeners) = same_port(&ip).await;
        for (i, listener) in listeners.into_iter().enumerate() {
            let router = service_router(REGIONS[i], broken.clone());
            let stop = stop.clone();
            tokio::spawn(async move {
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.unwrap();
            });
            let endpoint = service.endpoints.get_mut(&RegionId::new(REGIONS[i]).unwrap()).unwrap();
            endpoint.address = ip(i).to_string();
            endpoint.port = port;
        }
    }
}

async fn same_port(ip: &impl Fn(usize) -> Ipv4Addr) -> (u16, Vec<tokio::net::TcpListener>) {
    for _ in 0..100 {
        let first = tokio::net::TcpListener::bind((ip(0), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let second = tokio::net::TcpListener::bind((ip(1), port)).await;
        let third = tokio::net::TcpListener::bind((ip(2), port)).await;
        if let (Ok(second), Ok(third)) = (second, third) {
            return (port, vec![first, second, third]);
        }
    }
    panic!("no port is free on three loopback addresses");
}

/// A port that was free a moment ago, on an address that few others use.
fn free_port() -> SocketAddr {
    let ip = Ipv4Addr::new(127, fastrand::u8(20..250), 1, 1);
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn service_router(region: &'static str, broken: Broken) -> axum::Router {
    use axum::routing::{get, post};
    let served = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let counted = served.clone();
    let metrics = move || {
        let [good, bad] = [0, 1].map(|i: usize| served[i].load(Ordering::Relaxed));
        let n = good + bad;
        async move {
            format!(
                "# TYPE http_requests_total counter\nhttp_requests_total{{status=\"200\"}} {good}\n\
                 http_requests_total{{status=\"500\"}} {bad}\n\
                 # TYPE http_request_duration_seconds histogram\n\
                 http_request_duration_seconds_bucket{{le=\"0.005\"}} {n}\n\
                 http_request_duration_seconds_bucket{{le=\"+Inf\"}} {n}\n\
                 http_request_duration_seconds_sum 1\nhttp_request_duration_seconds_count {n}\n"
            )
        }
    };
    let items = move || {
        let fails = broken.lock().unwrap().contains(region);
        counted[usize::from(fails)].fetch_add(1, Ordering::Relaxed);
        let status =
            if fails { axum::http::StatusCode::INTERNAL_SERVER_ERROR } else { axum::http::StatusCode::OK };
        async move { (status, "{\"items\":[]}") }
    };
    axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/items", get(items))
        .route("/order", post(|| async { "{\"status\":\"accepted\"}" }))
}
