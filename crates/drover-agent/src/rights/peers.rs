//! The port at which members ask each other, when no coordinator answers (steps 4 and 6).

use super::Asked;
use super::coordinators::ANSWER_WITHIN;
use super::keeping::Inbox;
use crate::client::CONNECT_TIMEOUT;
use crate::error::AgentError;
use crate::state::StateDir;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use drover_model::DatasetId;
use drover_model::write_right::{Ask, PeerAnswer};
use drover_pki::HttpError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Bytes of one question, at most.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Asks other members.
#[derive(Debug)]
pub(super) struct PeerClient(reqwest::Client);

impl PeerClient {
    pub(super) fn new() -> Result<Self, AgentError> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_WITHIN)
            .build();
        client.map(Self).map_err(|e| AgentError::Client {
            url: "the other members of datasets".to_owned(),
            source: HttpError::Client(e),
        })
    }

    /// One member's answer.
    pub(super) async fn ask(
        &self,
        at: SocketAddr,
        dataset: &DatasetId,
        ask: &Ask,
    ) -> Result<PeerAnswer, reqwest::Error> {
        let sent = self.0.post(format!("http://{at}/v1/datasets/{dataset}/ask")).json(ask).send().await?;
        sent.error_for_status()?.json().await
    }
}

/// A bound port for members.
pub(super) struct PeerListener(TcpListener);

type Inboxes = Arc<BTreeMap<DatasetId, mpsc::Sender<Inbox>>>;

impl PeerListener {
    /// Binds `address`, and writes down in `state` where that turned out to be.
    pub(super) async fn bind(address: SocketAddr, state: &StateDir) -> Result<Self, AgentError> {
        if !address.ip().is_loopback() {
            return Err(AgentError::PeerNotLoopback(address));
        }
        let failed = |source| AgentError::PeerListen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        state.save_peer_address(&listener.local_addr().map_err(failed)?.to_string())?;
        Ok(Self(listener))
    }

    /// Answers until told to stop.
    pub(super) async fn serve(self, inboxes: Inboxes, shutdown: CancellationToken) {
        let router = Router::new()
            .route("/v1/datasets/{dataset}/ask", post(answer))
            .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
            .with_state(inboxes);
        let told = shutdown.clone().cancelled_owned();
        tokio::select! {
            ended = async { axum::serve(self.0, router).with_graceful_shutdown(told).await } => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the port for other members broke");
                }
            }
            // Nobody is waited for: whoever asks asks again.
            () = shutdown.cancelled() => {}
        }
    }
}

async fn answer(
    State(inboxes): State<Inboxes>,
    Path(dataset): Path<String>,
    Json(ask): Json<Ask>,
) -> Result<Json<PeerAnswer>, StatusCode> {
    let inbox = DatasetId::new(&dataset).ok().and_then(|id| inboxes.get(&id)).ok_or(StatusCode::NOT_FOUND)?;
    let (tell, answered) = oneshot::channel();
    let asked: Asked = (ask, tell);
    inbox.try_send(Inbox::Asked(Box::new(asked))).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
