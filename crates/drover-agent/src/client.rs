//! HTTP to one coordinator.

use crate::error::AgentError;
use crate::identity::{CoordinatorUrl, Identity};
use crate::rights::ANSWER_WITHIN;
use drover_model::probe::{ProbeList, Report, ReportAck};
use drover_model::sight::{QuestionList, SightReport};
use drover_model::write_right::{RenewAnswer, RenewRequest, RightForAgent, Sealed};
use drover_model::{AgentId, DatasetId};
use drover_pki::{Http, HttpError, TlsFiles, must_be_of};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::sync::Arc;
use std::time::Duration;

/// Time for a coordinator to take a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a report and its answer.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a probe list.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest probe list, in bytes: 100,000 targets of some 600 bytes.
pub const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest list of questions about DNS, in bytes: a thousand of some kilobytes.
pub const QUESTIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest answer to a report, in bytes.
pub const ACK_BYTES_MAX: usize = 64 * 1024;

/// Longest list of write rights, in bytes: each has some hundred for every member.
pub const RIGHTS_BYTES_MAX: usize = 1024 * 1024;

/// How much of an unexpected answer is quoted, in characters.
const QUOTED_CHARS: usize = 200;

/// A coordinator, as this agent talks to it.
#[derive(Debug)]
pub struct CoordinatorClient {
    name: String,
    base: String,
    agent: AgentId,
    http: Http,
}

impl CoordinatorClient {
    /// A client of this agent for `url`. The proxy environment is ignored and redirects are not followed.
    ///
    /// # Errors
    /// [`AgentError::Client`] when the HTTP client cannot be made, as of certificates that are another machine's.
    pub fn new(url: &CoordinatorUrl, identity: &Identity) -> Result<Self, AgentError> {
        let name = url.to_string();
        let (base, http) = match (url, &identity.tls) {
            (CoordinatorUrl::Http(base), Some(files)) if base.starts_with("https:") => {
                (base.clone(), certified(files, identity))
            }
            (CoordinatorUrl::Http(base), _) => {
                (base.clone(), Http::fixed(with_system_roots(builder(), base)))
            }
            (CoordinatorUrl::Unix(path), _) => {
                let builder = with_system_roots(builder().unix_socket(path.as_path()), "");
                ("http://coordinator".to_owned(), Http::fixed(builder))
            }
        };
        let http = http.map_err(|source| AgentError::Client { url: name.clone(), source })?;
        Ok(Self { name, base, agent: identity.agent.clone(), http })
    }

    /// The coordinator, as the identity file has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a report.
    ///
    /// # Errors
    /// When no answer came in time, or another than an acknowledgement.
    pub async fn report(&self, report: &Report) -> Result<ReportAck, AgentError> {
        let what = "report to";
        let url = format!("{}/v1/agents/{}/reports", self.base, self.agent);
        let request = self.http.client().post(url).timeout(REPORT_TIMEOUT).json(report);
        let response = self.send(what, request).await?;
        let body = self.body(what, response, ACK_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|source| self.unreadable(source))
    }

    /// Pulls the probe list, unless it is the one of version `have`.
    ///
    /// # Errors
    /// When no answer came in time, or another than a list.
    pub async fn probes(&self, have: &str) -> Result<Option<ProbeList>, AgentError> {
        let what = "pull the probe list from";
        let url = format!("{}/v1/agents/{}/probes", self.base, self.agent);
        let request = self.http.client().get(url).timeout(LIST_TIMEOUT).query(&[("have", have)]);
        let response = self.send(what, request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let body = self.body(what, response, LIST_BYTES_MAX).await?;
        serde_json::from_slice(&body).map(Some).map_err(|source| self.unreadable(source))
    }

    /// Waits for at most `patience` until there are other questions about DNS than those of version `have`.
    ///
    /// # Errors
    /// When no answer came in time, or another than a list.
    pub async fn questions(&self, have: u64, patience: Duration) -> Result<Option<QuestionList>, AgentError> {
        let what = "pull questions about DNS from";
        let url = format!("{}/v1/agents/{}/questions", self.base, self.agent);
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let request = self.http.client().get(url).timeout(patience + REPORT_TIMEOUT);
        let request = request.query(&[("have", have), ("patience_millis", millis)]);
        let response = self.send(what, request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let body = self.body(what, response, QUESTIONS_BYTES_MAX).await?;
        serde_json::from_slice(&body).map(Some).map_err(|source| self.unreadable(source))
    }

    /// Tells what was seen.
    ///
    /// # Errors
    /// When no answer came in time, or another than that it was taken.
    pub async fn sights(&self, report: &SightReport) -> Result<(), AgentError> {
        let url = format!("{}/v1/agents/{}/sights", self.base, self.agent);
        let request = self.http.client().post(url).timeout(REPORT_TIMEOUT).json(report);
        self.send("tell what DNS showed to", request).await.map(drop)
    }

    /// How the rights of the datasets stand of which this agent is a member.
    ///
    /// # Errors
    /// When no answer came in time, or another.
    pub async fn rights(&self) -> Result<Vec<RightForAgent>, AgentError> {
        let what = "read write rights from";
        let url = format!("{}/v1/agents/{}/datasets", self.base, self.agent);
        let request = self.http.client().get(url).timeout(ANSWER_WITHIN);
        let response = self.send(what, request).await?;
        let body = self.body(what, response, RIGHTS_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|source| self.unreadable(source))
    }

    /// Renews a right.
    ///
    /// # Errors
    /// When no answer came in time, or another.
    pub async fn renew(&self, dataset: &DatasetId, renew: &RenewRequest) -> Result<RenewAnswer, AgentError> {
        let what = "renew a write right with";
        let url = format!("{}/v1/agents/{}/datasets/{dataset}/renew", self.base, self.agent);
        let request = self.http.client().post(url).timeout(ANSWER_WITHIN).json(renew);
        let response = self.send(what, request).await?;
        let body = self.body(what, response, ACK_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|source| self.unreadable(source))
    }

    /// Says that this agent is sealed.
    ///
    /// # Errors
    /// When no answer came in time, or another than that it was heard.
    pub async fn sealed(&self, dataset: &DatasetId, sealed: &Sealed) -> Result<(), AgentError> {
        let url = format!("{}/v1/agents/{}/datasets/{dataset}/sealed", self.base, self.agent);
        let request = self.http.client().post(url).timeout(ANSWER_WITHIN).json(sealed);
        self.send("tell of a seal", request).await.map(drop)
    }

    async fn send(&self, what: &'static str, request: RequestBuilder) -> Result<Response, AgentError> {
        let response = request.send().await.map_err(|e| self.broken(what, e))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = self.body(what, response, ACK_BYTES_MAX).await.unwrap_or_default();
        Err(AgentError::Answer { url: self.name.clone(), status: status.as_u16(), detail: quoted(&body) })
    }

    async fn body(
        &self,
        what: &'static str,
        response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, AgentError> {
        let too_long = || AgentError::AnswerTooLong { url: self.name.clone(), limit_bytes: limit };
        body_within(response, limit).await.map_err(|e| self.broken(what, e))?.ok_or_else(too_long)
    }

    fn broken(&self, what: &'static str, source: reqwest::Error) -> AgentError {
        AgentError::Exchange { what, url: self.name.clone(), source: source.without_url() }
    }

    fn unreadable(&self, source: serde_json::Error) -> AgentError {
        AgentError::AnswerUnreadable { url: self.name.clone(), source }
    }
}

pub(crate) fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("drover-agent/", env!("CARGO_PKG_VERSION")))
}

/// A client with the agent's own certificate. Another's, that a renewal brings, stays out of use.
fn certified(files: &TlsFiles, identity: &Identity) -> Result<Http, HttpError> {
    let own = identity.machine();
    Http::with_certificates(files.clone(), builder, move |files| must_be_of(files, &own))
}

/// A whole body; nothing where it is longer than `limit` bytes.
pub(crate) async fn body_within(
    mut response: Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The beginning of what was said, for an error.
pub(crate) fn quoted(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTED_CHARS).collect()
}

/// The system's roots where they are needed. Elsewhere none, because reading them takes time and memory.
pub(crate) fn with_system_roots(http: ClientBuilder, url: &str) -> ClientBuilder {
    let mut roots = RootCertStore::empty();
    if url.starts_with("https:") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    match tls.with_safe_default_protocol_versions() {
        Ok(tls) => http.tls_backend_preconfigured(tls.with_root_certificates(roots).with_no_client_auth()),
        Err(_) => http,
    }
}
