//! A small world for tests: three serving regions and a witness, two services everywhere, all healthy.

use drover_model::config::{
    AccessSettings, Answering, AppCheck, Config, DnsInstance, DnsServers, DnsSettings, DnsVelocity,
    DriftPolicy, EmbeddedDns, Endpoint, FailbackPolicy, FailoverPolicy, HealthCheck, Location,
    PagingSettings, RecordType, Region, RegionRole, Retention, Service, Settings, Split, TcpCheck,
    ValidationPolicy, VantageSettings,
};
use drover_model::decision::{Verdict, VerdictState};
use drover_model::ids::EndpointKey;
use drover_model::plan::{Intent, LoadedRunbook, StandingVerdict, World};
use drover_model::reason::Reason;
use drover_model::runbook::{OnFailure, Purpose, Runbook, RunbookStep, RunbookStepKind, WaitFor};
use drover_model::traffic::Load;
use drover_model::{Percent, RegionId, RequestsPerSecond, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(crate) const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];

pub(crate) fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

pub(crate) fn service_id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

pub(crate) fn key(service: &str, place: &str) -> EndpointKey {
    EndpointKey::new(&service_id(service), &region(place))
}

/// `checkout` (priority 1, 900 rps measured) and `catalog` (priority 2, 600 rps declared) in three regions.
pub(crate) fn world() -> World {
    let mut checkout = service("checkout", 1, &REGIONS);
    checkout.app_checks.push(AppCheck {
        name: "buy".into(),
        method: "POST".into(),
        path: "/buy".into(),
        body: None,
        expect_status: 200,
        expect_body: None,
        timeout: Span::from_secs(5),
    });
    let mut world = of(vec![checkout, service("catalog", 2, &REGIONS)]);
    let measured = Load::Measured { rate: RequestsPerSecond(900), at: NOW };
    world.loads.insert(service_id("checkout"), measured);
    world
}

/// The configuration, to be changed.
pub(crate) fn config(world: &mut World) -> &mut Config {
    Arc::make_mut(&mut world.config)
}

/// A world of these services, published as configured and healthy everywhere.
pub(crate) fn of(services: Vec<Service>) -> World {
    let config = Config {
        regions: regions(&services),
        services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
        datasets: BTreeMap::new(),
        settings: settings(),
    };
    let endpoints =
        config.services.values().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)));
    World {
        verdicts: endpoints.map(|e| (e, standing(VerdictState::Healthy))).collect(),
        vantages: BTreeMap::new(),
        traffic: config
            .services
            .values()
            .map(|s| (s.name.clone(), crate::targets::initial_traffic(s, NOW)))
            .collect(),
        loads: BTreeMap::new(),
        holds: vec![],
        held: BTreeMap::new(),
        dns_of_another_store: None,
        freeze: None,
        blocks: vec![],
        runs: vec![],
        ended: vec![],
        service_versions: Arc::default(),
        rearmed: BTreeMap::new(),
        runbooks: [Purpose::Failover, Purpose::Failback, Purpose::Drain, Purpose::Undrain]
            .map(|p| (p, runbook(p)))
            .into_iter()
            .collect(),
        heard_since_start: vec![],
        config: Arc::new(config),
    }
}

pub(crate) fn intent(purpose: Purpose, place: &str) -> Intent {
    Intent {
        purpose,
        services: vec![],
        region: region(place),
        to: None,
        automatic: false,
        hold_for: None,
        reason: "a test".into(),
        accept: vec![],
    }
}

pub(crate) fn standing(state: VerdictState) -> StandingVerdict {
    let reason = match state {
        VerdictState::Healthy => Reason::SeenHealthy { healthy: 3, configured: 3 },
        VerdictState::Down => Reason::QuorumReached { failing: 3, configured: 3, need: 2 },
        _ => Reason::TooLittleKnown { abstaining: 3, configured: 3, need: 2 },
    };
    let verdict = Verdict {
        state,
        failing: 0,
        unconfirmed: 0,
        healthy: 0,
        abstaining: 0,
        configured: 3,
        need: 2,
        suspect: false,
        reason,
    };
    StandingVerdict { verdict, since: NOW, recent_changes: vec![] }
}

/// Every endpoint of `place` is held to be `state`.
pub(crate) fn judge(world: &mut World, place: &str, state: VerdictState) {
    for (key, held) in world.verdicts.iter_mut() {
        if key.region == region(place) {
            *held = standing(state);
        }
    }
}

pub(crate) fn service(name: &str, priority: u32, places: &[&str]) -> Service {
    let endpoint = |(index, place): (usize, &&str)| {
        let address = format!("192.0.2.{}", index + 1);
        let (weight, capacity) = (None, RequestsPerSecond(800));
        (
            region(place),
            Endpoint {
                region: region(place),
                address,
                alias: None,
                port: 443,
                weight,
                priority: 1,
                capacity,
            },
        )
    };
    Service {
        name: service_id(name),
        priority,
        dns_name: format!("{name}.example.test"),
        record_type: RecordType::A,
        ttl: Span::from_secs(30),
        answering: Answering::USUAL,
        split: Split::ByWeight,
        endpoints: places.iter().enumerate().map(endpoint).collect(),
        check: HealthCheck::Tcp(TcpCheck { max_latency: None }),
        interval: Span::from_secs(30),
        timeout: Span::from_secs(5),
        failover: policy(),
        metrics: None,
        traffic: None,
        peak_load: Some(RequestsPerSecond(600)),
        app_checks: vec![],
        validation: ValidationPolicy {
            window: Span::from_mins(2),
            min_samples: 100,
            max_error_rate: Percent::whole(1),
            max_latency_p95: Span::from_millis(500),
            min_availability: Percent::whole(99),
        },
        rto: Span::from_mins(10),
        rpo: Span::ZERO,
    }
}

fn policy() -> FailoverPolicy {
    FailoverPolicy {
        automatic: true,
        failure_threshold: 3,
        failure_window: Span::from_mins(5),
        gray_failure_share: Percent::whole(30),
        gray_min_samples: 10,
        recovery_threshold: 3,
        quorum: None,
        max_unavailable_regions: 1,
        block_period: Span::from_hours(1),
        ramp: [1, 10, 50, 100].map(Percent::whole).to_vec(),
        soak: Span::from_mins(1),
        headroom: Percent::whole(20),
        jurisdictions: vec![],
        approval_expires: Span::from_hours(1),
        approvals: 1,
        failback: FailbackPolicy { automatic: false, stable_hold: Span::ZERO },
    }
}

fn regions(services: &[Service]) -> BTreeMap<RegionId, Region> {
    let serving = services.iter().flat_map(|s| s.endpoints.keys().cloned()).map(|n| (n, RegionRole::Serving));
    let all = serving.chain([(region("tower"), RegionRole::Witness)]);
    let make = |(name, role): (RegionId, RegionRole)| {
        let jurisdiction = name.as_str().chars().take(2).collect::<String>().to_uppercase();
        let location = Location { city: "Town".into(), latitude: 0.0, longitude: 0.0, jurisdiction };
        (name.clone(), Region { name, role, location, agents: vec![] })
    };
    all.map(make).collect()
}

fn settings() -> Settings {
    let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let instance = DnsInstance { name: "dns-1".into(), control: local(1), query: local(2) };
    Settings {
        listen: local(3),
        dns: Some(DnsSettings {
            zone: "example.test".into(),
            servers: DnsServers::Embedded(EmbeddedDns {
                nameservers: vec![],
                instances: vec![instance],
                ttl_floor: drover_model::config::defaults::TTL_FLOOR,
                signing_key_file: None,
            }),
            velocity: DnsVelocity::default(),
            drift: DriftPolicy::Report,
            drift_hold: Span::from_mins(15),
            records: vec![],
            geography: None,
        }),
        store: None,
        access: AccessSettings::default(),
        vantage: VantageSettings {
            references: vec![],
            reference_interval: Span::from_secs(10),
            report_interval: Span::from_secs(5),
            silent_after: Span::from_secs(30),
            max_clock_skew: Span::from_secs(2),
            common_cause_share: Percent::whole(50),
            common_cause_window: Span::from_mins(1),
        },
        paging: PagingSettings::default(),
        retention: Retention {
            observations: Span::from_hours(24),
            transitions: Span::from_hours(24),
            store_alarm_bytes: 1 << 30,
        },
    }
}

fn runbook(purpose: Purpose) -> LoadedRunbook {
    use RunbookStepKind as Kind;
    let shift = || vec![step(Kind::ShiftTraffic), step(Kind::VerifyDns)];
    let mut steps = vec![step(Kind::Preflight), step(Kind::VerifyApp)];
    if purpose == Purpose::Failback {
        let inner = shift().into_iter().chain([step(Kind::Wait(WaitFor::Soak)), step(Kind::Validate)]);
        steps.push(step(Kind::Ramp(inner.collect())));
    } else {
        steps.extend(shift());
        steps.push(step(Kind::Wait(WaitFor::Drain)));
    }
    steps.extend([step(Kind::Validate), step(Kind::Notify("done".into()))]);
    let runbook = Runbook { name: purpose.to_string(), purpose, description: "A test.".into(), steps };
    LoadedRunbook { runbook, version: "v1".into(), programs: BTreeMap::new() }
}

pub(crate) fn step(kind: RunbookStepKind) -> RunbookStep {
    let (timeout, backoff) = (Span::from_secs(30), Span::from_secs(1));
    RunbookStep { kind, timeout, attempts: 3, backoff, on_failure: OnFailure::Pause }
}
