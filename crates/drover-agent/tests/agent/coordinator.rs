//! A coordinator as an agent meets it: it listens, acknowledges, hands out lists, and can be cut off.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use drover_model::out_of_service::OutOfService;
use drover_model::probe::{ProbeList, Report, ReportAck};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// What the coordinator holds and how it behaves.
pub struct Desk {
    pub reports: Mutex<Vec<Report>>,
    pub list: Mutex<ProbeList>,
    pub cut_off: AtomicBool,
    /// Takes reports, but the acknowledgement is lost on the way.
    pub loses_answers: AtomicBool,
    pub pulls: AtomicUsize,
    /// What it declares.
    pub out_of_service: Mutex<Option<OutOfService>>,
}

impl Desk {
    pub fn new(list: ProbeList) -> Arc<Self> {
        Arc::new(Self {
            reports: Mutex::default(),
            list: Mutex::new(list),
            cut_off: AtomicBool::new(false),
            loses_answers: AtomicBool::new(false),
            pulls: AtomicUsize::new(0),
            out_of_service: Mutex::default(),
        })
    }

    pub fn cut_off(&self, yes: bool) {
        self.cut_off.store(yes, Ordering::SeqCst);
    }

    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    /// Sequence numbers of everything received, in the order of arrival.
    pub fn sequences(&self) -> Vec<u64> {
        self.reports().iter().flat_map(|r| &r.observations).map(|o| o.sequence).collect()
    }

    /// Waits until `wanted` gives something from the reports.
    #[track_caller]
    pub fn wait_for<T>(
        self: &Arc<Self>,
        what: &'static str,
        mut wanted: impl FnMut(&[Report]) -> Option<T>,
    ) -> impl Future<Output = T> {
        let desk = Arc::clone(self);
        async move {
            let waiting = async {
                loop {
                    if let Some(found) = wanted(&desk.reports()) {
                        return found;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let Ok(found) = tokio::time::timeout(crate::world::HANG_GUARD, waiting).await else {
                panic!("never came: {what}");
            };
            found
        }
    }
}

async fn report(State(desk): State<Arc<Desk>>, Json(report): Json<Report>) -> Response {
    if desk.cut_off.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let config_version = desk.list.lock().unwrap().config_version.clone();
    let acknowledged_sequence = report.observations.last().map_or(0, |o| o.sequence);
    let accepted = u32::try_from(report.observations.len()).unwrap();
    desk.reports.lock().unwrap().push(report);
    if desk.loses_answers.load(Ordering::SeqCst) {
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    let out_of_service = desk.out_of_service.lock().unwrap().clone();
    Json(ReportAck {
        accepted,
        history_only: 0,
        replayed: 0,
        acknowledged_sequence,
        config_version,
        out_of_service,
    })
    .into_response()
}

async fn probes(State(desk): State<Arc<Desk>>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    desk.pulls.fetch_add(1, Ordering::SeqCst);
    let list = desk.list.lock().unwrap().clone();
    if query["have"] == list.config_version {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    Json(list).into_response()
}

fn router(desk: &Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/agents/{agent}/reports", post(report))
        .route("/v1/agents/{agent}/probes", get(probes))
        .with_state(Arc::clone(desk))
}

/// Serves on loopback and returns the URL.
pub async fn serve(desk: &Arc<Desk>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = router(desk);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Serves on a Unix socket and returns the URL.
pub fn serve_unix(desk: &Arc<Desk>, path: &Path) -> String {
    let listener = UnixListener::bind(path).unwrap();
    let router = router(desk);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("unix:{}", path.display())
}
