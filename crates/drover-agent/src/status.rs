//! What the agent says about itself, so that `drover status` can ask it when no coordinator answers.
//!
//! `GET /v1/agent` as JSON, `GET /metrics` for Prometheus. Loopback or a Unix socket only: it asks nobody who they are.

use crate::declaration::DeclarationView;
use crate::error::AgentError;
use crate::identity::StatusAddress;
use crate::ledger::Ledger;
use crate::report::{Link, LinkView, Sender};
use crate::rights::{Refusals, Said};
use crate::schedule::{DELAY_CLASSES_MILLIS, ScheduleStats, ScheduleView};
use crate::state::StateDir;
use axum::extract::State;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use drover_model::probe::{AgentOpinion, SelfCheck};
use drover_model::{AgentId, RegionId, Timestamp};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

/// Version of the status format.
pub const STATUS_SCHEMA: u16 = 1;

/// Time for the answers that are under way when the agent stops.
pub const STATUS_SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// The agent, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// [`STATUS_SCHEMA`].
    pub schema: u16,
    /// Who.
    pub agent: AgentId,
    /// Where.
    pub region: RegionId,
    /// Version of the program.
    pub version: String,
    /// Random name of this boot.
    pub boot: String,
    /// Its number.
    pub boot_number: u64,
    /// When this was true.
    pub at: Timestamp,
    /// Configuration that it works by; empty without a list.
    pub config_version: String,
    /// Endpoints on its list.
    pub targets: u64,
    /// What it holds, in the order of its last changes.
    pub opinions: Vec<AgentOpinion>,
    /// The self-check.
    pub self_check: SelfCheck,
    /// Observations made since boot.
    pub observations: u64,
    /// Observations that wait for a coordinator.
    pub buffered: u64,
    /// Observations that no coordinator ever got.
    pub dropped: u64,
    /// How the schedule is kept.
    pub schedule: ScheduleView,
    /// Its links.
    pub coordinators: Vec<LinkView>,
    /// What its status pages say; absent where it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_service: Option<DeclarationView>,
}

/// What a status is made of.
#[derive(Debug)]
pub struct Desk {
    /// Who reports, by which list, holding what.
    pub sender: Arc<Sender>,
    /// The agent's region.
    pub region: RegionId,
    /// The schedule.
    pub schedule: Arc<ScheduleStats>,
    /// The links.
    pub links: Vec<Arc<Link>>,
    /// How often members of datasets did not come together, where the agent is one.
    pub refusals: Option<Arc<Refusals>>,
}

impl Desk {
    /// The status as it stands.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let sender = &self.sender;
        let ledger: &Ledger = &sender.ledger;
        let (observations, buffered, dropped) = {
            let buffer = ledger.buffer();
            (buffer.last_sequence(), buffer.len() as u64, buffer.lost())
        };
        AgentStatus {
            schema: STATUS_SCHEMA,
            agent: sender.agent.clone(),
            region: self.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: sender.boot.clone(),
            boot_number: sender.boot_number,
            at: crate::clock::wall_now(),
            config_version: sender.rosters.config_version(),
            targets: sender.rosters.current().map_or(0, |r| r.targets.len() as u64),
            opinions: ledger.opinions(),
            self_check: sender.sight.now(ledger),
            observations,
            buffered,
            dropped,
            schedule: self.schedule.view(),
            coordinators: self.links.iter().map(|l| l.view(ledger)).collect(),
            out_of_service: sender.declarations.as_ref().map(|declarations| declarations.view()),
        }
    }

    /// The status as Prometheus text.
    ///
    /// # Errors
    /// Only when a text cannot grow.
    pub fn metrics(&self) -> Result<String, std::fmt::Error> {
        let status = self.status();
        let mut registry = Registry::with_prefix("drover_agent");
        counters(&mut registry, &status);
        gauges(&mut registry, &status);
        links(&mut registry, &status.coordinators);
        if let Some(refusals) = &self.refusals {
            peers(&mut registry, refusals);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn counters(registry: &mut Registry, status: &AgentStatus) {
    for (name, help, value) in [
        ("observations", "Probes that gave a result", status.observations),
        ("dropped", "Observations that no coordinator ever got", status.dropped),
        ("probes_started", "Probes begun", status.schedule.started),
        (
            "probes_overlapping",
            "Probes not begun because the last one was under way",
            status.schedule.skipped_overlaps,
        ),
        ("slots_missed", "Slots that passed unused", status.schedule.missed),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let delays = Family::<Vec<(String, String)>, Counter>::default();
    let classes = DELAY_CLASSES_MILLIS.iter().map(ToString::to_string).chain(["more".to_owned()]);
    for (class, &count) in classes.zip(&status.schedule.delays) {
        delays.get_or_create(&vec![("up_to_ms".to_owned(), class)]).inc_by(count);
    }
    registry.register("probe_starts", "Probes begun, by milliseconds after their slot", delays);
}

fn gauges(registry: &mut Registry, status: &AgentStatus) {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for (name, help, value) in [
        ("targets", "Endpoints on the probe list", whole(status.targets)),
        ("buffered", "Observations that wait for a coordinator", whole(status.buffered)),
        ("probes_in_flight", "Probes under way", whole(status.schedule.in_flight)),
        ("references", "References configured", i64::from(status.self_check.references)),
        ("references_reached", "References that answered", i64::from(status.self_check.references_reached)),
        ("blind", "1 when nothing at all answers", i64::from(status.self_check.blind)),
        ("boot_number", "Number of this boot", whole(status.boot_number)),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let opinions = Family::<Vec<(String, String)>, Gauge>::default();
    for state in ["healthy", "failing", "unknown"] {
        let count = status.opinions.iter().filter(|o| o.state.to_string() == state).count();
        opinions.get_or_create(&vec![("state".to_owned(), state.to_owned())]).set(whole(count as u64));
    }
    registry.register("opinions", "Endpoints by opinion", opinions);
}

fn links(registry: &mut Registry, links: &[LinkView]) {
    let (up, pending, dropped) = (
        Family::<Vec<(String, String)>, Gauge>::default(),
        Family::<Vec<(String, String)>, Gauge>::default(),
        Family::<Vec<(String, String)>, Counter>::default(),
    );
    for link in links {
        let label = vec![("coordinator".to_owned(), link.url.clone())];
        up.get_or_create(&label).set(i64::from(link.error.is_none() && link.last_ok_ms_ago.is_some()));
        pending.get_or_create(&label).set(i64::try_from(link.pending).unwrap_or(i64::MAX));
        dropped.get_or_create(&label).inc_by(link.dropped);
    }
    registry.register("coordinator_up", "1 when the coordinator took the last report", up);
    registry.register("coordinator_pending", "Observations not acknowledged", pending);
    registry.register("coordinator_dropped", "Observations dropped before they were acknowledged", dropped);
}

fn peers(registry: &mut Registry, refusals: &Refusals) {
    for (side, name, help) in [
        (
            Said::There,
            "peer_refused",
            "Connections and questions of other members that were refused, by reason",
        ),
        (Said::Here, "peer_unanswered", "Questions to other members without an answer, by reason"),
    ] {
        let counts = Family::<Vec<(String, String)>, Counter>::default();
        for (reason, number) in refusals.of(side) {
            counts.get_or_create(&vec![("reason".to_owned(), reason.to_owned())]).inc_by(number);
        }
        registry.register(name, help, counts);
    }
}

async fn agent(State(desk): State<Arc<Desk>>) -> Json<AgentStatus> {
    Json(desk.status())
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    match desk.metrics() {
        Ok(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A bound status address.
#[derive(Debug)]
pub enum StatusListener {
    /// Loopback.
    Tcp(TcpListener),
    /// A socket.
    Unix(UnixListener),
}

impl StatusListener {
    /// Binds `address`, and writes down in `state` where that turned out to be.
    ///
    /// # Errors
    /// [`AgentError::StatusListen`] when the address is taken or forbidden.
    pub async fn bind(address: &StatusAddress, state: &StateDir) -> Result<Self, AgentError> {
        let failed = |source| AgentError::StatusListen { address: address.to_string(), source };
        let (listener, bound) = match address {
            StatusAddress::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                (StatusListener::Tcp(listener), StatusAddress::Tcp(bound))
            }
            StatusAddress::Unix(path) => {
                (StatusListener::Unix(bind_socket(path).map_err(failed)?), StatusAddress::Unix(path.clone()))
            }
        };
        state.save_status_address(&bound.to_string())?;
        Ok(listener)
    }

    /// Where it listens, as an identity file would say it.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match self {
            StatusListener::Tcp(l) => l.local_addr().ok().map(|a| StatusAddress::Tcp(a).to_string()),
            StatusListener::Unix(l) => {
                let bound = l.local_addr().ok()?;
                bound.as_pathname().map(|p| StatusAddress::Unix(p.to_owned()).to_string())
            }
        }
    }

    /// Answers until told to stop.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, desk: Arc<Desk>, shutdown: CancellationToken) -> std::io::Result<()> {
        let router =
            Router::new().route("/v1/agent", get(agent)).route("/metrics", get(metrics)).with_state(desk);
        let told = shutdown.clone().cancelled_owned();
        let serving = async {
            match self {
                StatusListener::Tcp(l) => axum::serve(l, router).with_graceful_shutdown(told).await,
                StatusListener::Unix(l) => axum::serve(l, router).with_graceful_shutdown(told).await,
            }
        };
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STATUS_SHUTDOWN_MAX).await;
        };
        tokio::select! {
            served = serving => served,
            () = patience => Ok(()),
        }
    }
}

/// A socket that an earlier boot left behind is taken over: the state directory's lock says that no other agent lives.
pub(crate) fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
