//! The port at which members ask each other, when no coordinator answers (steps 4 and 6).
//!
//! With `tls:` both sides show their agent's certificate, and each must be the machine that the other one means: a host's name is
//! asked for nowhere, so that tunnels and translations are of no concern. Without, there is plain text, on loopback alone.

mod admission;
mod asking;
mod crowd;
mod refusals;
#[cfg(test)]
mod tests;

use super::Asked;
use super::coordinators::ANSWER_WITHIN;
use super::keeping::Inbox;
use super::known::Known;
use crate::error::AgentError;
use crate::identity::Identity;
use crate::state::StateDir;
use admission::Caller;
pub(super) use asking::PeerClient;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use crowd::{Crowd, Place};
use drover_model::write_right::{Ask, PeerAnswer};
use drover_model::{AgentId, DatasetId};
use drover_pki::{NoHandshake, ServerTls};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub use refusals::Refusals;
pub(crate) use refusals::Said;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Bytes of one question or answer, at most.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a question's headers, at most: hyper takes no smaller number.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Connections of those that have not proven who they are, at most; without certificates, of all.
const STRANGERS_MAX: usize = 64;

/// Connections of one agent, at most. It needs one.
const PER_AGENT_MAX: usize = 4;

/// Time for a handshake. Whoever asks waits no longer than [`ANSWER_WITHIN`] for all of it.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Time to send headers, and for which a connection is kept that asks nothing: a holder asks once in a retry.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Time for a whole question, its body included, and its answer.
const QUESTION_WITHIN: Duration = Duration::from_secs(3);

/// Whoever asks for longer does so on another connection, on which both certificates are looked at anew.
const CONNECTION_LASTS_MAX: Duration = Duration::from_secs(60);

/// Pause after a failed accept (no descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A dataset as it is reached from this port.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) inbox: mpsc::Sender<Inbox>,
    pub(super) known: Known,
}

/// Every dataset of this agent.
pub(super) type Doors = Arc<BTreeMap<DatasetId, Door>>;

/// A bound port for members.
pub(super) struct PeerListener {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    refusals: Arc<Refusals>,
}

impl PeerListener {
    /// Binds `address`, and writes down in `state` where that turned out to be.
    pub(super) async fn bind(
        address: SocketAddr,
        identity: &Identity,
        state: &StateDir,
        refusals: Arc<Refusals>,
    ) -> Result<Self, AgentError> {
        let tls = match &identity.tls {
            Some(files) => {
                let made = ServerTls::load_of(files.clone(), identity.machine());
                Some(Arc::new(made.map_err(AgentError::PeerTls)?))
            }
            None if address.ip().is_loopback() => None,
            None => return Err(AgentError::PeerNotLoopback(address)),
        };
        let failed = |source| AgentError::PeerListen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        state.save_peer_address(&listener.local_addr().map_err(failed)?.to_string())?;
        Ok(Self { listener, tls, refusals })
    }

    /// Answers until told to stop.
    pub(super) async fn serve(self, doors: Doors, shutdown: CancellationToken) {
        let router = Router::new()
            .route("/v1/datasets/{dataset}/ask", post(answer))
            .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
            .layer(from_fn(in_time))
            .with_state(Desk { doors, refusals: Arc::clone(&self.refusals) });
        let port = Arc::new(Port {
            router,
            tls: self.tls,
            refusals: self.refusals,
            strangers: Crowd::of(STRANGERS_MAX),
            agents: Mutex::default(),
            shutdown: shutdown.clone(),
        });
        loop {
            let accepted = tokio::select! {
                // Nobody is waited for: whoever asks asks again.
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(Arc::clone(&port).connection(stream))),
                Err(error) => {
                    if port.refusals.note(Said::There, "accept") {
                        tracing::error!(%error, "can't accept a connection of another member");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What stands behind the port.
struct Port {
    router: Router,
    tls: Option<Arc<ServerTls>>,
    refusals: Arc<Refusals>,
    strangers: Arc<Crowd>,
    /// Those who have proven who they are, as many as the installation has agents at most.
    agents: Mutex<BTreeMap<String, Arc<Crowd>>>,
    shutdown: CancellationToken,
}

impl Port {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let place = self.place_in(&self.strangers);
        let Some(tls) = self.tls.clone() else { return self.converse(stream, place, None).await };
        let handshake = tokio::select! {
            ended = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => ended,
            () = place.evicted.cancelled() => return,
            () = self.shutdown.cancelled() => return,
        };
        match handshake {
            Ok(Ok((stream, presented))) => {
                let proven = presented.machine.as_ref().ok().map(|peer| peer.identity.to_string());
                let place = proven.map_or(place, |machine| self.place_in(&self.crowd_of(machine)));
                self.converse(stream, place, Some(Arc::new(Caller { tls, presented }))).await;
            }
            Ok(Err(e)) => {
                let why = NoHandshake::in_chain(&e).unwrap_or(NoHandshake::Other);
                self.refused(why.as_str(), &e.to_string());
            }
            Err(_) => self.refused("too_slow", "the handshake took too long"),
        }
    }

    fn crowd_of(&self, machine: String) -> Arc<Crowd> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(agents.entry(machine).or_insert_with(|| Crowd::of(PER_AGENT_MAX)))
    }

    fn place_in(&self, crowd: &Arc<Crowd>) -> Place {
        let (place, is_full) = crowd.enter();
        if is_full {
            self.refused("too_many_connections", "the one that was there for the longest is closed");
        }
        place
    }

    fn refused(&self, reason: &'static str, why: &str) {
        if self.refusals.note(Said::There, reason) {
            tracing::warn!(
                reason,
                why,
                "a connection of another member was refused; the same within a minute is not told"
            );
        }
    }

    async fn converse<S>(&self, stream: S, place: Place, caller: Option<Arc<Caller>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = TowerToHyperService::new(self.router.clone());
        let answer = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(caller.clone());
            router.call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(served);
        tokio::select! {
            // How it ended is of no interest: whoever has no answer asks again.
            _ = served.as_mut() => {}
            () = tokio::time::sleep(CONNECTION_LASTS_MAX) => {
                served.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(QUESTION_WITHIN, served).await;
            }
            () = place.evicted.cancelled() => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// What answers.
#[derive(Clone)]
struct Desk {
    doors: Doors,
    refusals: Arc<Refusals>,
}

/// Stands before every question, its body included.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(QUESTION_WITHIN, next.run(request)).await {
        Ok(answered) => answered,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn answer(
    State(desk): State<Desk>,
    Extension(caller): Extension<Option<Arc<Caller>>>,
    Path(dataset): Path<String>,
    Json(ask): Json<Ask>,
) -> Result<Json<PeerAnswer>, (StatusCode, String)> {
    let door = DatasetId::new(&dataset).ok().and_then(|id| desk.doors.get(&id));
    let door = door.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no dataset `{dataset}` is here")))?;
    may_ask(&desk, caller.as_deref(), door, &ask.from)?;
    let busy = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
    let (tell, answered) = oneshot::channel();
    let asked: Asked = (ask, tell);
    door.inbox.try_send(Inbox::Asked(Box::new(asked))).map_err(|_| busy("too much waits here"))?;
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        _ => Err(busy("nothing is known of it here yet, or its disk is slow")),
    }
}

/// Without TLS, which is on loopback, who may ask is the operating system's business.
fn may_ask(
    desk: &Desk,
    caller: Option<&Caller>,
    door: &Door,
    from: &AgentId,
) -> Result<(), (StatusCode, String)> {
    let Some(caller) = caller else { return Ok(()) };
    caller.may_ask(from, &door.known.now()).map_err(|refusal| {
        if desk.refusals.note(Said::There, refusal.code()) {
            tracing::warn!(reason = refusal.code(), why = %refusal, "a question of another member was refused; the same within a minute is not told");
        }
        (StatusCode::FORBIDDEN, refusal.to_string())
    })
}
