//! The control listener's routes: what is live, how it changes, how the instance is.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use drover_model::Epoch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::peers::{PeerReply, SetsQuery};
use super::problem::{Problem, ProblemCode};
use super::{Limits, Shared};
use crate::background::in_tracked_background;
use crate::publish::{AppliedBatch, BUCKETS, Fence, OfferPage, SentBatch, Shortened};
use crate::zone::{DnsName, RecordKey, RecordSet, RecordType};

/// Everything that is live, of one snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordSetsReply {
    pub(crate) generation: u64,
    pub(crate) record_sets: Vec<RecordSet>,
    /// Those that no key that is trusted here has signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unsealed: Vec<RecordKey>,
}

/// One record set that is live.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordSetReply {
    pub(crate) generation: u64,
    pub(crate) record_set: RecordSet,
    /// No key that is trusted here has signed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_unsealed: bool,
}

/// The batches that the instance remembers, oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppliedReply {
    pub(crate) applied: Vec<AppliedBatch>,
}

/// Another store incarnation takes command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adoption {
    pub(crate) from: Option<Epoch>,
    pub(crate) to: Epoch,
}

/// The largest question of a peer: all parts of the names, and the longest name.
const PEER_BODY_BYTES_MAX: usize = 8 * 1024;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let limits = shared.limits;
    Router::new()
        .route("/v1/recordsets", get(list).put(publish))
        .route("/v1/recordsets/{name}/{rtype}", get(one))
        .route("/v1/ttls", put(shorten))
        .route("/v1/changes", get(changes))
        .route("/v1/fence", get(fence).post(adopt))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), by_the_coordinator))
        .merge(for_peers())
        .route("/livez", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, ProblemCode::NotFound, "no such path") })
        .layer(DefaultBodyLimit::max(limits.control_body_bytes_max))
        .layer(middleware::from_fn_with_state(limits, in_time))
        .layer(middleware::from_fn(only_local_names))
        .with_state(shared)
}

/// What peers ask. It changes nothing.
fn for_peers() -> Router<Arc<Shared>> {
    Router::new().route("/v1/peer", get(peer)).route("/v1/peer/sets", post(peer_sets))
}

/// For a listener of peers' own, which other machines may reach: nothing can be told there. What is shown is each record set as it was
/// signed, which is more than DNS answers: also members without weight, owners, notes, and the zone's geography.
pub(super) fn peer_router(shared: Arc<Shared>) -> Router {
    let limits = shared.limits;
    for_peers()
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, ProblemCode::NotFound, "no such path") })
        .layer(DefaultBodyLimit::max(PEER_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(limits, in_time))
        .with_state(shared)
}

/// A page in a browser on this machine must not reach us under a name of its own (DNS rebinding).
async fn only_local_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
    let is_local = authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    if is_local {
        return next.run(request).await;
    }
    let detail = "the Host header must name a loopback address or localhost";
    Problem::new(StatusCode::FORBIDDEN, ProblemCode::Forbidden, detail).into_response()
}

/// A write that runs out of time may still happen: the caller looks before it repeats.
async fn in_time(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let allowed = limits.control_request_timeout;
    match tokio::time::timeout(allowed, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request took longer than {} ms", allowed.as_millis());
            Problem::new(StatusCode::GATEWAY_TIMEOUT, ProblemCode::TimedOut, detail).into_response()
        }
    }
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<RecordSetsReply> {
    let snapshot = shared.publisher.snapshot();
    let record_sets = snapshot.record_sets().values().map(|set| set.document().clone()).collect();
    let unsealed = shared.publisher.unsealed();
    Json(RecordSetsReply { generation: snapshot.generation(), record_sets, unsealed })
}

async fn one(
    State(shared): State<Arc<Shared>>,
    Path((name, rtype)): Path<(String, String)>,
) -> Result<Json<RecordSetReply>, Problem> {
    let absent = || Problem::new(StatusCode::NOT_FOUND, ProblemCode::NotFound, "no such record set");
    let name = DnsName::parse(&name).map_err(|_| absent())?;
    let rtype = RecordType::parse(&rtype).ok_or_else(absent)?;
    let snapshot = shared.publisher.snapshot();
    let key = RecordKey::new(name, rtype);
    let record_set = snapshot.get(&key).ok_or_else(absent)?.document().clone();
    let is_unsealed = shared.publisher.is_unsealed(&key);
    Ok(Json(RecordSetReply { generation: snapshot.generation(), record_set, is_unsealed }))
}

async fn publish(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (batch, seals) = parse::<SentBatch>(&shared, body)?.into_parts();
    let worker = Arc::clone(&shared);
    let published =
        in_tracked_background(&shared.tracker, move || worker.publisher.publish_sealed(&batch, seals)).await;
    shared.counters.published(&published);
    if published.is_ok() {
        shared.readiness.published();
    }
    published.map(|published| Json(published).into_response()).map_err(Problem::of)
}

async fn shorten(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Fence>, Problem> {
    let told: Shortened = parse(&shared, body)?;
    let worker = Arc::clone(&shared);
    in_tracked_background(&shared.tracker, move || worker.publisher.shorten(&told, Instant::now()))
        .await
        .map_err(Problem::of)?;
    Ok(Json(shared.publisher.fence()))
}

async fn adopt(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Fence>, Problem> {
    let adoption: Adoption = parse(&shared, body)?;
    let worker = Arc::clone(&shared);
    in_tracked_background(&shared.tracker, move || worker.publisher.adopt(adoption.from, adoption.to))
        .await
        .map_err(Problem::of)?;
    Ok(Json(shared.publisher.fence()))
}

async fn fence(State(shared): State<Arc<Shared>>) -> Json<Fence> {
    Json(shared.publisher.fence())
}

async fn changes(State(shared): State<Arc<Shared>>) -> Json<AppliedReply> {
    Json(AppliedReply { applied: shared.publisher.applied() })
}

/// Peers come by routes of their own: whoever takes any other is the coordinator, or a person in its place.
async fn by_the_coordinator(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.counters.coordinator.note();
    next.run(request).await
}

async fn peer(State(shared): State<Arc<Shared>>) -> Result<Json<PeerReply>, Problem> {
    let state = shared.publisher.peer_state().ok_or_else(keeps_no_signatures)?;
    Ok(Json(PeerReply { state, process: Some(shared.process) }))
}

async fn peer_sets(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OfferPage>, Problem> {
    let SetsQuery { buckets, after } = parse(&shared, body)?;
    if !shared.publisher.keeps_signatures() {
        return Err(keeps_no_signatures());
    }
    if buckets.is_empty() || buckets.iter().any(|bucket| *bucket >= BUCKETS) {
        let detail = format!("`buckets` must name parts of the names, 0 to {}", BUCKETS - 1);
        return Err(Problem::new(StatusCode::BAD_REQUEST, ProblemCode::Malformed, detail));
    }
    let turn = Arc::clone(&shared.peer_pages).acquire_owned().await;
    let publisher = Arc::clone(&shared.publisher);
    let page = in_tracked_background(&shared.tracker, move || {
        let page = publisher.offers(&buckets, after.as_ref());
        drop(turn);
        page
    });
    Ok(Json(page.await))
}

fn keeps_no_signatures() -> Problem {
    let detail = "this server keeps no signatures that it could show; set `trusted_keys` in its file";
    Problem::new(StatusCode::NOT_FOUND, ProblemCode::NotFound, detail)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.counters.prometheus(&shared.publisher.load(), shared.publisher.contested());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn parse<T: DeserializeOwned>(shared: &Shared, body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the body is larger than {} bytes", shared.limits.control_body_bytes_max);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ProblemCode::TooLarge, detail)
        }
        status => Problem::new(status, ProblemCode::Malformed, rejection.body_text()),
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            ProblemCode::Malformed,
            format!("cannot read the body: {error}"),
        )
    })
}
