//! The agent's coordinator, played: it hands out the list, takes every report, and compares what was seen with what is.

use super::targets::{Targets, is_black_hole};
use super::{Size, TIMEOUT_MILLIS};
use crate::error::{Attempt, Result};
use crate::figure::Figure;
use crate::world;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use drover_model::config::HealthCheck;
use drover_model::probe::{OpinionPolicy, ProbeList, ProbeTarget, Report, ReportAck};
use drover_model::{AgentId, EndpointKey, Percent, RegionId, ServiceId, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const VERSION: &str = "bench";
/// Far more than an agent sends at once.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Where it listens, and what it heard.
pub struct Played {
    /// Where.
    pub address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    list: ProbeList,
    black_holes: BTreeMap<EndpointKey, bool>,
    heard: AtomicU64,
    endpoints: Mutex<BTreeSet<EndpointKey>>,
    wrong: AtomicU64,
    first_wrong: Mutex<Option<String>>,
}

impl Played {
    /// Starts it, with a list of all targets.
    pub async fn start(targets: &Targets, size: &Size, agent: &AgentId, region: &RegionId) -> Result<Self> {
        let mut black_holes = BTreeMap::new();
        let mut list = Vec::with_capacity(size.endpoints);
        for number in 0..size.endpoints {
            let target = target(number, targets, size)?;
            black_holes.insert(target.endpoint.clone(), is_black_hole(number));
            list.push(target);
        }
        let list = ProbeList {
            config_version: VERSION.into(),
            agent: agent.clone(),
            region: region.clone(),
            source_address: None,
            targets: list,
            references: Vec::new(),
            reference_interval: Span::from_secs(10),
            report_interval: Span::from_secs(1),
        };
        let desk = Arc::new(Desk {
            list,
            black_holes,
            heard: AtomicU64::new(0),
            endpoints: Mutex::default(),
            wrong: AtomicU64::new(0),
            first_wrong: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.attempt("listen for the agent")?;
        let address = listener.local_addr().attempt("listen for the agent")?;
        let router = Router::new()
            .route(
                "/v1/agents/{agent}/probes",
                get(|State(d): State<Arc<Desk>>| async move { Json(d.list.clone()) }),
            )
            .route("/v1/agents/{agent}/reports", post(take))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(desk.clone());
        tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, router).await {
                eprintln!("drover-bench: the played coordinator ended: {e}");
            }
        });
        Ok(Self { address, desk })
    }

    /// Adds what must be right.
    pub fn check(&self, figure: &mut Figure, dropped: u64) {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let (heard, wrong) = (get(&self.desk.heard), get(&self.desk.wrong));
        let first = self.desk.first_wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
        figure.check(
            "what was reported is what is",
            wrong == 0 && heard > 0,
            format!("{wrong} of {heard} wrong{}", first.map(|w| format!(": {w}")).unwrap_or_default()),
        );
        let seen = self.desk.endpoints.lock().unwrap_or_else(PoisonError::into_inner).len();
        let all = self.desk.list.targets.len();
        figure.check("every endpoint was heard of", seen == all, format!("{seen} of {all}"));
        figure.check("no observation was dropped", dropped == 0, format!("{dropped} dropped"));
    }
}

async fn take(State(desk): State<Arc<Desk>>, Json(report): Json<Report>) -> Json<ReportAck> {
    desk.endpoints
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(report.observations.iter().map(|seen| seen.endpoint.clone()));
    for seen in &report.observations {
        desk.heard.fetch_add(1, Ordering::Relaxed);
        if desk.black_holes.get(&seen.endpoint) == Some(&seen.outcome.is_good()) {
            desk.wrong.fetch_add(1, Ordering::Relaxed);
            let mut first = desk.first_wrong.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("{}: {:?}", seen.endpoint, seen.outcome));
        }
    }
    Json(ReportAck {
        accepted: u32::try_from(report.observations.len()).unwrap_or(u32::MAX),
        history_only: 0,
        replayed: 0,
        acknowledged_sequence: report.observations.last().map_or(0, |o| o.sequence),
        config_version: VERSION.into(),
        out_of_service: None,
    })
}

fn target(number: usize, targets: &Targets, size: &Size) -> Result<ProbeTarget> {
    let service = ServiceId::new(format!("service-{number:05}")).attempt("name a service")?;
    let region = RegionId::new("region-01").attempt("name a region")?;
    let address = targets.ports.address(number);
    Ok(ProbeTarget {
        host: format!("{service}.{}", world::ZONE),
        endpoint: EndpointKey::new(&service, &region),
        address: address.ip().to_string(),
        port: address.port(),
        check: HealthCheck::Http(world::http_check()),
        interval: Span::from_duration(size.interval),
        timeout: Span::from_millis(TIMEOUT_MILLIS),
        policy: OpinionPolicy {
            failure_threshold: 3,
            failure_window: Span::from_mins(5),
            gray_failure_share: Percent::whole(50),
            gray_min_samples: 6,
            recovery_threshold: 10,
            stale_after: Span::from_duration(size.interval * 4),
        },
    })
}
