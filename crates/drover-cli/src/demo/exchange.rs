//! One HTTP request on one new connection: what the demo's clients send to services, and what the demo itself asks of
//! coordinator and DNS. A new connection each time, because a user who was sent elsewhere does not come back on the old.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whom.
    pub address: SocketAddr,
    /// `Host` header.
    pub host: &'a str,
    /// `GET` or `POST`.
    pub method: &'a Method,
    /// Request target.
    pub path: &'a str,
    /// JSON body; empty for none.
    pub body: &'a str,
    /// `Idempotency-Key`, for commands.
    pub key: Option<&'a str>,
    /// For everything, from connect to the last byte.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing came in time.
    #[error("no answer from {address} within {} ms", timeout.as_millis())]
    TimedOut {
        /// Who was asked.
        address: SocketAddr,
        /// How long was waited.
        timeout: Duration,
    },
    /// No connection.
    #[error("can't connect to {address}")]
    Connect {
        /// To whom.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The request can't be written down.
    #[error("not a request")]
    Request(#[from] hyper::http::Error),
    /// The exchange broke.
    #[error("the exchange broke")]
    Broken(#[from] hyper::Error),
}

/// Asks, and reads the whole answer.
///
/// # Errors
/// See [`AskError`]. A status other than 200 is an answer, not an error.
pub async fn ask(ask: Ask<'_>) -> Result<(StatusCode, Bytes), AskError> {
    let (address, timeout) = (ask.address, ask.timeout);
    match tokio::time::timeout(timeout, exchange(ask)).await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::TimedOut { address, timeout }),
    }
}

async fn exchange(ask: Ask<'_>) -> Result<(StatusCode, Bytes), AskError> {
    let address = ask.address;
    let stream = TcpStream::connect(address).await.map_err(|source| AskError::Connect { address, source })?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .header(header::HOST, ask.host)
        .header(header::CONNECTION, "close");
    if let Some(key) = ask.key {
        request = request.header("idempotency-key", key);
    }
    if !ask.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(ask.body.to_owned())))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((status, body))
    };
    // The connection is driven here and not by a task of its own, so that giving up drops it.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => Ok(answer?),
        driven = connection => match driven {
            Ok(()) => Ok(answer.await?),
            Err(e) => Err(e.into()),
        },
    }
}
