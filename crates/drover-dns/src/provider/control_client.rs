//! One HTTP request to one instance's control listener.
//!
//! A connection per request, plain HTTP, loopback: no pool that could hold a dead connection in the minute
//! when it matters, no proxy from the environment, no redirect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::Problem;

/// The largest reply that is read.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long one may take, and how long its reply may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) time: Duration,
    pub(crate) reply_bytes: usize,
}

impl Allowed {
    const fn time(time: Duration) -> Self {
        Self { time, reply_bytes: REPLY_BYTES_MAX }
    }
}

/// Why a request brought no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The request was not sent.
    #[error("cannot connect to {address}: {reason}")]
    NotSent { address: SocketAddr, reason: String },
    /// The request may have been heard.
    #[error("the connection to {address} broke: {reason}")]
    Broken { address: SocketAddr, reason: String },
    /// No reply in time; the request may have been heard.
    #[error("no reply from {address} within {} ms", after.as_millis())]
    TimedOut { address: SocketAddr, after: Duration },
    /// The instance says no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
}

/// The driver of a connection, ended with the request.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn get<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    after: Duration,
) -> Result<T, CallError> {
    get_within(address, path, Allowed::time(after)).await
}

/// As [`get`], from somebody whose reply shall be shorter than one's own servers' may be.
pub(crate) async fn get_within<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    allowed: Allowed,
) -> Result<T, CallError> {
    in_time(address, allowed.time, call(address, Method::GET, path, vec![], allowed.reply_bytes)).await
}

pub(crate) async fn send<B: Serialize + Sync, T: DeserializeOwned>(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &B,
    after: Duration,
) -> Result<T, CallError> {
    send_within(address, method, path, body, Allowed::time(after)).await
}

/// As [`send`], to somebody whose reply shall be shorter than one's own servers' may be.
pub(crate) async fn send_within<B: Serialize + Sync, T: DeserializeOwned>(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &B,
    allowed: Allowed,
) -> Result<T, CallError> {
    let body = serde_json::to_vec(body)
        .map_err(|error| CallError::NotSent { address, reason: error.to_string() })?;
    in_time(address, allowed.time, call(address, method, path, body, allowed.reply_bytes)).await
}

async fn in_time<T: DeserializeOwned>(
    address: SocketAddr,
    after: Duration,
    call: impl Future<Output = Result<(StatusCode, Bytes), CallError>>,
) -> Result<T, CallError> {
    let (status, body) = timeout(after, call).await.map_err(|_| CallError::TimedOut { address, after })??;
    let broken =
        |error: serde_json::Error| CallError::Broken { address, reason: format!("reply {status}: {error}") };
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(broken);
    }
    let problem: Problem = serde_json::from_slice(&body).map_err(broken)?;
    Err(CallError::Problem(Box::new(problem)))
}

async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Vec<u8>,
    reply_bytes_max: usize,
) -> Result<(StatusCode, Bytes), CallError> {
    let not_sent = |error: io::Error| CallError::NotSent { address, reason: error.to_string() };
    let broken = |error: &dyn std::error::Error| CallError::Broken { address, reason: error.to_string() };
    let stream = TcpStream::connect(address).await.map_err(not_sent)?;
    stream.set_nodelay(true).map_err(not_sent)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let _driver = Driver(tokio::spawn(async move {
        // Its error comes out at the sender as well.
        let _ = connection.await;
    }));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), reply_bytes_max).collect().await;
    let body = body.map_err(|error| CallError::Broken { address, reason: error.to_string() })?;
    Ok((status, body.to_bytes()))
}
