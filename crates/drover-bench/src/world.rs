//! Worlds of a stated size: every service in every region, one agent a region, all of it as a real installation has it.

use crate::error::{BenchError, Result};
use drover_coordinator::config_dir::SHIPPED_RUNBOOKS;
use drover_core::{targets, verdict};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{
    AccessSettings, AgentConfig, Config, DnsInstance, DnsServers, DnsSettings, DnsVelocity, DriftPolicy,
    EmbeddedDns, Endpoint, FailbackPolicy, FailoverPolicy, HealthCheck, HttpCheck, Location, PagingSettings,
    RecordType, Region, RegionRole, Retention, Service, Settings, TlsOptions, ValidationPolicy,
    VantageSettings,
};
use drover_model::decision::{OpinionState, VantageOpinion, VantageState, VerdictInputs};
use drover_model::plan::{LoadedRunbook, StandingVerdict, World};
use drover_model::runbook::Purpose;
use drover_model::{AgentId, EndpointKey, Percent, RegionId, RequestsPerSecond, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Where every sample world answers.
pub const ZONE: &str = "drover.test";
/// Port of every endpoint.
pub const PORT: u16 = 8080;
/// Declared peak of every service.
const PEAK_RPS: u64 = 1_000;
/// Every region could carry a service alone, so that no figure stands or falls with capacity.
const CAPACITY_RPS: u64 = 2_000;

/// Size and pace of a world.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Regions, each with one agent.
    pub regions: usize,
    /// Services, each in every region.
    pub services: usize,
    /// Between two probes of an endpoint.
    pub interval: Span,
    /// DNS, when there is a server.
    pub dns: Option<DnsSettings>,
}

impl Shape {
    /// Endpoints of this world.
    pub fn endpoints(&self) -> usize {
        self.regions * self.services
    }

    /// Its configuration.
    pub fn config(&self) -> Result<Config> {
        let mut config = Config {
            regions: BTreeMap::new(),
            services: BTreeMap::new(),
            datasets: BTreeMap::new(),
            settings: self.settings(),
        };
        for at in 0..self.regions {
            let region = region_of(at)?;
            config.regions.insert(region.name.clone(), region);
        }
        let names: Vec<RegionId> = config.regions.keys().cloned().collect();
        for at in 0..self.services {
            let service = self.service(at, &names)?;
            config.services.insert(service.name.clone(), service);
        }
        Ok(config)
    }

    fn settings(&self) -> Settings {
        Settings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            dns: self.dns.clone(),
            store: None,
            access: AccessSettings::default(),
            vantage: VantageSettings {
                references: Vec::new(),
                reference_interval: Span::from_secs(10),
                report_interval: Span::from_secs(1),
                silent_after: Span::from_mins(30),
                max_clock_skew: Span::from_secs(10),
                common_cause_share: Percent::whole(50),
                common_cause_window: Span::from_mins(5),
            },
            paging: PagingSettings::default(),
            retention: Retention {
                observations: Span::from_hours(48),
                transitions: Span::from_hours(24 * 90),
                store_alarm_bytes: 4 << 30,
            },
        }
    }

    fn service(&self, at: usize, regions: &[RegionId]) -> Result<Service> {
        let name = name(ServiceId::new(format!("service-{at:05}")))?;
        let endpoint = |(place, region): (usize, &RegionId)| {
            let endpoint = Endpoint {
                region: region.clone(),
                address: address(place, at).to_string(),
                alias: None,
                port: PORT,
                weight: None,
                priority: 1,
                capacity: RequestsPerSecond(CAPACITY_RPS),
            };
            (region.clone(), endpoint)
        };
        Ok(Service {
            dns_name: format!("{name}.{ZONE}"),
            name,
            priority: 1,
            record_type: RecordType::A,
            ttl: Span::from_secs(30),
            answering: drover_model::config::Answering::USUAL,
            split: drover_model::config::Split::ByWeight,
            endpoints: regions.iter().enumerate().map(endpoint).collect(),
            check: HealthCheck::Http(http_check()),
            interval: self.interval,
            timeout: self.interval.min(Span::from_secs(5)),
            failover: policy(self.interval),
            metrics: None,
            traffic: None,
            peak_load: Some(RequestsPerSecond(PEAK_RPS)),
            app_checks: Vec::new(),
            validation: ValidationPolicy {
                window: Span::from_mins(2),
                min_samples: 100,
                max_error_rate: Percent::whole(1),
                max_latency_p95: Span::from_millis(500),
                min_availability: Percent::whole(99),
            },
            rto: Span::from_mins(30),
            rpo: Span::from_hours(1),
        })
    }
}

/// Every region and service has another address, as in life; none of them is ever reached from here.
fn address(region: usize, service: usize) -> Ipv4Addr {
    let byte = |n: usize| u8::try_from(n % 256).unwrap_or_default();
    Ipv4Addr::new(10, byte(region), byte(service / 256), byte(service))
}

pub fn http_check() -> HttpCheck {
    HttpCheck {
        tls: false,
        path: "/health".into(),
        expect_status: vec![200],
        expect_body: None,
        max_latency: None,
        host: None,
        tls_options: TlsOptions { expiry_warning: Span::from_hours(24 * 14), ..TlsOptions::default() },
        secret_header: None,
    }
}

fn policy(interval: Span) -> FailoverPolicy {
    FailoverPolicy {
        automatic: true,
        failure_threshold: 3,
        failure_window: Span::from_mins(5).max(interval.times(10)),
        gray_failure_share: Percent::whole(50),
        gray_min_samples: 6,
        recovery_threshold: 10,
        quorum: None,
        max_unavailable_regions: 1,
        block_period: Span::from_hours(1),
        ramp: [1, 5, 25, 50, 100].map(Percent::whole).to_vec(),
        soak: Span::from_mins(5),
        headroom: Percent::whole(10),
        jurisdictions: Vec::new(),
        approval_expires: Span::from_mins(15),
        approvals: 1,
        failback: FailbackPolicy::default(),
    }
}

fn region_of(at: usize) -> Result<Region> {
    let region = name(RegionId::new(format!("region-{at:02}")))?;
    let agent = name(AgentId::new(format!("{region}-agent")))?;
    Ok(Region {
        name: region,
        role: RegionRole::Serving,
        location: Location {
            city: "Nowhere".into(),
            latitude: 0.0,
            longitude: at as f64,
            jurisdiction: "EU".into(),
        },
        agents: vec![AgentConfig { name: agent, source_address: None }],
    })
}

fn name<T>(made: std::result::Result<T, drover_model::ids::NameError>) -> Result<T> {
    made.map_err(|e| BenchError::Unexpected(e.to_string()))
}

/// The shipped runbooks.
pub fn runbooks() -> Result<BTreeMap<Purpose, LoadedRunbook>> {
    let files: Vec<_> = SHIPPED_RUNBOOKS.iter().map(|(name, text)| SourceFile::new(*name, *text)).collect();
    let books = decode::load_runbooks(&files)
        .map_err(|found| BenchError::Unexpected(format!("the shipped runbooks are refused: {found:?}")))?;
    Ok(books.into_iter().map(|book| (book.runbook.purpose, book)).collect())
}

/// DNS as a world has it whose servers are never asked.
pub fn unasked_dns() -> DnsSettings {
    let nowhere = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    dns_at(nowhere(9), nowhere(10))
}

/// One instance that takes changes at `control` and answers at `query`.
pub fn dns_at(control: SocketAddr, query: SocketAddr) -> DnsSettings {
    let server = |n: u8| (format!("ns{n}.{ZONE}"), Ipv4Addr::LOCALHOST.into());
    DnsSettings {
        zone: ZONE.into(),
        servers: DnsServers::Embedded(EmbeddedDns {
            nameservers: vec![server(1), server(2)],
            instances: vec![DnsInstance { name: "dns-1".into(), control, query }],
            ttl_floor: Span::from_secs(20),
            signing_key_file: None,
        }),
        velocity: DnsVelocity::default(),
        drift: DriftPolicy::Report,
        drift_hold: Span::from_mins(15),
        records: vec![],
        geography: None,
    }
}

/// A world in which `down` is seen failing by everybody and everything else is well.
pub fn world(config: Config, down: Option<&RegionId>, now: Timestamp) -> Result<World> {
    let agents = config.agents();
    let endpoints =
        config.services.values().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)));
    let verdicts = endpoints
        .map(|endpoint| {
            let state =
                if down == Some(&endpoint.region) { OpinionState::Failing } else { OpinionState::Healthy };
            let concluded = verdict::conclude(&inputs(&endpoint, &agents, state, now));
            (endpoint, StandingVerdict { verdict: concluded, since: now, recent_changes: Vec::new() })
        })
        .collect();
    let traffic = config.services.values().map(|s| (s.name.clone(), targets::initial_traffic(s, now)));
    Ok(World {
        verdicts,
        vantages: agents.keys().map(|a| (a.clone(), VantageState::Reporting)).collect(),
        traffic: traffic.collect(),
        loads: config
            .services
            .keys()
            .map(|s| {
                let rate = RequestsPerSecond(PEAK_RPS);
                (s.clone(), drover_model::traffic::Load::Measured { rate, at: now })
            })
            .collect(),
        holds: Vec::new(),
        held: BTreeMap::new(),
        dns_of_another_store: None,
        freeze: None,
        blocks: Vec::new(),
        runs: Vec::new(),
        ended: Vec::new(),
        rearmed: BTreeMap::new(),
        runbooks: runbooks()?.into(),
        heard_since_start: agents.into_keys().collect(),
        // As the coordinator has them from when it loads a configuration.
        service_versions: Arc::new(config.service_versions()),
        config: Arc::new(config),
    })
}

fn inputs(
    endpoint: &EndpointKey,
    agents: &BTreeMap<AgentId, RegionId>,
    state: OpinionState,
    now: Timestamp,
) -> VerdictInputs {
    let told = |(agent, region): (&AgentId, &RegionId)| VantageOpinion {
        vantage: agent.clone(),
        region: region.clone(),
        vantage_state: VantageState::Reporting,
        state,
        streak: 3,
        good: 0,
        failed: 0,
        gray: false,
        last_probe_age: None,
        last_failure: None,
        last_probe_failed: state == OpinionState::Failing,
    };
    let (inside, outside): (Vec<_>, Vec<_>) = agents.iter().partition(|(_, r)| **r == endpoint.region);
    let outside: Vec<_> = outside.into_iter().map(told).collect();
    let need = drover_core::quorum::need(u32::try_from(outside.len()).unwrap_or(u32::MAX));
    VerdictInputs {
        endpoint: endpoint.clone(),
        at: now,
        need,
        outside,
        inside: inside.into_iter().map(told).collect(),
        led_since: None,
    }
}
