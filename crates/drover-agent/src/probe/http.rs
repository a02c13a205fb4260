//! One HTTP exchange over a fresh connection.
//!
//! The answer is good when the status is one of those expected and the body, read to its end or to 64 KiB, holds what
//! it should. The body is read even where its text does not matter: a server that sends a status and then hangs is not
//! well, and users see it hang. A redirect is a status like any other; following it would probe somebody else.

use crate::probe::failure::Failure;
use crate::probe::{Phase, Progress};
use bytes::Bytes;
use drover_model::config::HttpCheck;
use drover_model::probe::FailureKind;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// How much of a body is read.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How much of status line and headers is accepted.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Headers accepted.
pub const HEADERS_MAX: usize = 100;

const AGENT_NAME: &str = concat!("drover-agent/", env!("CARGO_PKG_VERSION"));

/// A check turned into what is sent, once for each probe list.
#[derive(Debug)]
pub struct HttpPlan {
    check: HttpCheck,
    uri: Uri,
    headers: HeaderMap,
    secret_name: Option<HeaderName>,
    server_name: Option<ServerName<'static>>,
}

impl HttpPlan {
    /// Makes the request that `check` describes, for the service `host` on `port`.
    ///
    /// # Errors
    /// A local failure when the check cannot be sent as it is: its path, host or header name is not legal.
    pub fn new(check: &HttpCheck, host: &str, port: u16) -> Result<Self, Failure> {
        let illegal = |what: &str, text: &str| Failure::local(&format!("`{text}` cannot be sent as {what}"));
        let uri: Uri = check.path.parse().map_err(|_| illegal("a path", &check.path))?;
        let host_text = check.host.clone().unwrap_or_else(|| host_header(host, port, check.tls));
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(HOST, HeaderValue::from_str(&host_text).map_err(|_| illegal("a host", &host_text))?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let secret_name = match &check.secret_header {
            Some((name, _)) => Some(name.parse().map_err(|_| illegal("a header name", name))?),
            None => None,
        };
        let server_name = if check.tls {
            let name = check.tls_options.sni.as_deref().or(check.host.as_deref()).unwrap_or(host);
            Some(tls_name(name).ok_or_else(|| illegal("a TLS server name", name))?)
        } else {
            None
        };
        Ok(Self { check: check.clone(), uri, headers, secret_name, server_name })
    }

    /// The check that this was made of.
    #[must_use]
    pub fn check(&self) -> &HttpCheck {
        &self.check
    }

    /// The name to ask for and to check; `None` without TLS.
    #[must_use]
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    fn request(&self, secret: Option<HeaderValue>) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let (Some(name), Some(value)) = (&self.secret_name, secret) {
            request.headers_mut().insert(name.clone(), value);
        }
        request
    }
}

/// As a client writes it: an IPv6 address in brackets, and the port unless it is the scheme's own.
fn host_header(host: &str, port: u16, tls: bool) -> String {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    };
    if port == if tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
}

/// A host with a port after it is still that host.
fn tls_name(text: &str) -> Option<ServerName<'static>> {
    let bare = text.strip_prefix('[').and_then(|t| t.split_once(']')).map(|(host, _)| host);
    let host = match bare {
        Some(host) => host,
        None if text.matches(':').count() == 1 => text.split(':').next().unwrap_or(text),
        None => text,
    };
    ServerName::try_from(host.to_owned()).ok()
}

enum Broken {
    Client(hyper::Error),
    Judged(Failure),
}

/// Sends the request and judges the answer.
///
/// # Errors
/// `Status`, `Body`, `Protocol` or `Reset`, as it was.
pub async fn exchange<S>(
    stream: S,
    plan: &HttpPlan,
    secret: Option<HeaderValue>,
    progress: &Progress,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    progress.enter(Phase::Request);
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).max_buf_size(BODY_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Failure::from_hyper("sending the request", &e))?;
    let mut connection = pin!(connection);
    let mut talk = pin!(async {
        let response = sender.send_request(plan.request(secret)).await.map_err(Broken::Client)?;
        judge(response, &plan.check, progress).await
    });
    // The connection is driven by this task rather than by one of its own: a probe then is one task, and ends as one.
    let torn = tokio::select! {
        biased;
        judged = &mut talk => return judged.map_err(|b| explain(b, None, progress)),
        ended = &mut connection => ended.err(),
    };
    talk.await.map_err(|b| explain(b, torn.as_ref(), progress))
}

async fn judge(
    response: http::Response<hyper::body::Incoming>,
    check: &HttpCheck,
    progress: &Progress,
) -> Result<(), Broken> {
    progress.enter(Phase::Body);
    let status = response.status().as_u16();
    progress.set_status(status);
    if !check.expect_status.contains(&status) {
        let expected: Vec<String> = check.expect_status.iter().map(u16::to_string).collect();
        let detail = format!("status {status}, expected {}", expected.join(", "));
        return Err(Broken::Judged(Failure::new(FailureKind::Status, &detail)));
    }
    let mut body = response.into_body();
    let mut held = Vec::new();
    let mut seen = 0;
    while seen < BODY_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(Broken::Client)?.into_data() else { continue };
        if check.expect_body.is_some() {
            held.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - seen)]);
        }
        seen += data.len();
    }
    match &check.expect_body {
        Some(wanted) if !String::from_utf8_lossy(&held).contains(wanted.as_str()) => {
            let detail = format!("the first {} bytes of the body do not hold `{wanted}`", held.len());
            Err(Broken::Judged(Failure::new(FailureKind::Body, &detail)))
        }
        _ => Ok(()),
    }
}

/// Where the exchange only learnt that the connection is gone, the connection knows why.
fn explain(broken: Broken, torn: Option<&hyper::Error>, progress: &Progress) -> Failure {
    let what = progress.phase().doing();
    match (broken, torn) {
        (Broken::Judged(failure), _) => failure,
        (Broken::Client(e), Some(torn)) if e.is_canceled() || e.is_closed() => {
            Failure::from_hyper(what, torn)
        }
        (Broken::Client(e), _) => Failure::from_hyper(what, &e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_is_what_a_client_would_send() {
        assert_eq!(host_header("a.example", 80, false), "a.example");
        assert_eq!(host_header("a.example", 443, true), "a.example");
        assert_eq!(host_header("a.example", 443, false), "a.example:443");
        assert_eq!(host_header("::1", 8080, false), "[::1]:8080");
    }

    #[test]
    fn the_tls_name_leaves_the_port_out() {
        for (text, name) in [("a.example:8443", "a.example"), ("a.example", "a.example")] {
            assert_eq!(tls_name(text), Some(ServerName::try_from(name.to_owned()).unwrap()));
        }
        assert_eq!(tls_name("[::1]:8443"), Some(ServerName::try_from("::1").unwrap()));
        assert_eq!(tls_name("not a name"), None);
    }
}
