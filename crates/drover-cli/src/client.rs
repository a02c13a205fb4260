//! The coordinator's API as a client sees it: typed answers, typed refusals, and commands that are safe to send twice.

use crate::context::Target;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use bytes::Bytes;
use drover_agent::identity::CoordinatorUrl;
use drover_model::access::TOKEN_PREFIX;
use drover_model::api::{AS_OF_HEADER, Page, Problem, StatusView};
use drover_pki::{Http, HttpError, TlsFiles, is_open_to_all};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time to reach a coordinator on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for one answer; the coordinator gives a request 30 s itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// Time for the first word of what is known at once: one who looks during an incident is told what is known without the
/// coordinator rather than kept waiting for one that hangs.
const GLANCE_TIMEOUT: Duration = Duration::from_secs(5);
/// A command whose connection broke is sent again under the same key, so that it is done once.
const COMMAND_ATTEMPTS: u32 = 3;
/// Pause between these.
const COMMAND_PAUSE: Duration = Duration::from_millis(300);

/// Speaks to one coordinator, or to the next one where it does not answer.
#[derive(Debug, Clone)]
pub struct Client {
    http: Arc<Http>,
    /// What shows who asks.
    authorization: Option<HeaderValue>,
    base: reqwest::Url,
    /// For messages.
    address: String,
    /// Speak to others of the same store.
    others: Vec<Client>,
}

/// Did the request never get an answer?
enum Sent<T> {
    Answered(T, Bytes),
    Lost(Failure),
}

impl Client {
    /// For the coordinator of a target.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(target: &Target) -> Result<Self> {
        let authorization = target.token_file.as_deref().map(authorization).transpose()?;
        let of = |coordinator| Self::of(coordinator, target.tls.as_ref(), authorization.clone());
        let mut first = of(&target.coordinator)?;
        let others = target.others.iter().map(of);
        first.others = others.collect::<Result<_>>()?;
        Ok(first)
    }

    fn of(
        coordinator: &CoordinatorUrl,
        tls: Option<&TlsFiles>,
        authorization: Option<HeaderValue>,
    ) -> Result<Self> {
        let (base, http) = match (coordinator, tls) {
            (CoordinatorUrl::Http(url), Some(files)) if url.starts_with("https:") => {
                let http = Http::with_certificates(files.clone(), builder, |_| Ok(()));
                (url.clone(), http)
            }
            (CoordinatorUrl::Http(url), None) if url.starts_with("https:") => {
                return Err(Failure::usage(format!("{url} wants to know who asks: there is no certificate"))
                    .hint("--ca, --certificate and --key, or `tls:` in the context; drover pki issue client NAME --out DIR makes them"));
            }
            // Loopback and sockets alone: the system's certificates would be read for nothing.
            (CoordinatorUrl::Http(url), _) => (url.clone(), Http::fixed(builder().tls_certs_only([]))),
            (CoordinatorUrl::Unix(path), _) => {
                let builder = builder().tls_certs_only([]).unix_socket(path.as_path());
                ("http://localhost".to_owned(), Http::fixed(builder))
            }
        };
        Ok(Self {
            authorization,
            http: Arc::new(http.map_err(|e| unusable(&e))?),
            base: reqwest::Url::parse(&base)
                .map_err(|e| Failure::because(ExitCode::Internal, "can't make an HTTP client", &e))?,
            address: coordinator.to_string(),
            others: Vec::new(),
        })
    }

    /// This one, then the others.
    fn doors(&self) -> impl Iterator<Item = &Self> + Clone {
        std::iter::once(self).chain(&self.others)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// When the coordinator can't be reached or refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        self.read(path, query, REQUEST_TIMEOUT).await.map(|(value, _)| value)
    }

    /// Reads the status, and gives the text of the answer as well: to keep it, nobody need write it again. It is asked for
    /// in short, from which the same is read.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn status_with_text(&self) -> Result<(StatusView, Bytes)> {
        self.read(&["status"], &[("form", "short".to_owned())], GLANCE_TIMEOUT).await
    }

    /// Waits for the beginning of an answer up to `silence`; the whole has [`REQUEST_TIMEOUT`].
    async fn read<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        silence: Duration,
    ) -> Result<(T, Bytes)> {
        let mut lost = None;
        for door in self.doors() {
            let mut url = door.url(path);
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            match door.send(door.http.client().get(url), silence).await? {
                Sent::Answered(value, text) => return Ok((value, text)),
                Sent::Lost(failure) => lost = lost.or(Some(failure)),
            }
        }
        Err(lost.unwrap_or_else(|| Failure::new(ExitCode::Internal, "no coordinator was asked")))
    }

    /// Reads up to `limit` items of a list, newest first.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list<T: DeserializeOwned>(&self, path: &[&str], limit: usize) -> Result<Vec<T>> {
        self.list_where(path, &[], limit).await
    }

    /// As [`Client::list`], of what a query asks for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list_where<T: DeserializeOwned>(
        &self,
        path: &[&str],
        asked: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut query = asked.to_vec();
            query.push(("limit", (limit - items.len()).to_string()));
            query.extend(cursor.take().map(|c| ("cursor", c)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// Sends a command. It is done once, however often a broken connection makes this send it.
    ///
    /// # Errors
    /// When the coordinator can't be reached or refuses.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &[&str], body: &B) -> Result<T> {
        let key = format!("{:032x}", fastrand::u128(..));
        // Whichever of them takes it: the key goes with it to the leader.
        let mut doors = self.doors().cycle();
        let mut attempt = 1;
        loop {
            let door = doors.next().unwrap_or(self);
            let request = door.http.client().post(door.url(path)).header("idempotency-key", &key).json(body);
            match door.send(request, REQUEST_TIMEOUT).await? {
                Sent::Answered(value, _) => return Ok(value),
                Sent::Lost(failure) if attempt >= COMMAND_ATTEMPTS => return Err(failure),
                Sent::Lost(_) => tokio::time::sleep(COMMAND_PAUSE).await,
            }
            attempt += 1;
        }
    }

    fn url(&self, path: &[&str]) -> reqwest::Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("v1").extend(path);
        }
        url
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        silence: Duration,
    ) -> Result<Sent<T>> {
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        let lost = |e: reqwest::Error| Sent::Lost(self.unreachable(&e.without_url()));
        let response = match tokio::time::timeout(silence, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Ok(lost(e)),
            Err(e) => return Ok(Sent::Lost(self.unreachable(&e))),
        };
        let status = response.status();
        say_how_old(response.headers());
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(e) => return Ok(lost(e)),
        };
        if status.is_success() {
            let read = serde_json::from_slice(&bytes);
            return read.map(|value| Sent::Answered(value, bytes)).map_err(|e| {
                Failure::because(ExitCode::Internal, format!("can't read the answer of {}", self.address), &e)
                    .hint("is it the same version? `drover doctor` compares")
            });
        }
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            // Another one may lead, or see its store; a command goes there under the same key.
            Ok(problem) if status == StatusCode::SERVICE_UNAVAILABLE => {
                return Ok(Sent::Lost(refusal(problem)));
            }
            Ok(problem) => refusal(problem),
            Err(_) => Failure::new(ExitCode::Failed, format!("{} answered {status}", self.address)),
        })
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let message = format!("can't reach the coordinator at {}", self.address);
        let mut failure = Failure::because(ExitCode::Unreachable, message, error)
            .hint("drover status shows what is known without it; another one: --context or --coordinator");
        // Of the layers between, only the innermost says something to people.
        failure.causes.drain(..failure.causes.len().saturating_sub(1));
        failure
    }
}

/// Says beside the data, once, that it is not of now: a coordinator that can't read its store shows what it read before.
fn say_how_old(headers: &HeaderMap) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let Some(as_of) = headers.get(AS_OF_HEADER).and_then(|value| value.to_str().ok()) else { return };
    if !SAID.swap(true, Ordering::Relaxed) {
        // Nobody listening is no failure.
        let _ = writeln!(
            std::io::stderr(),
            "the coordinator can't read its store: what comes from it is as of {as_of} (drover status says why)"
        );
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
}

fn unusable(error: &HttpError) -> Failure {
    match error {
        HttpError::Certificates(e) => {
            Failure::of(ExitCode::Usage, e).hint("drover pki issue client NAME --out DIR makes others")
        }
        HttpError::Client(_) => Failure::because(ExitCode::Internal, "can't make an HTTP client", error),
    }
}

/// Bytes of a token file, at most.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;

/// The header that shows the token of a file. What is in it is said in no message, nor shown when the header is printed.
fn authorization(file: &Path) -> Result<HeaderValue> {
    let wrong = |why: String| {
        Failure::usage(format!("can't use the token file {}: {why}", file.display()))
            .hint("DROVER_TOKEN_FILE or the context's `token_file` names a file with what `drover token create` printed")
    };
    let mut text = String::new();
    let opened = File::open(file).map_err(|e| wrong(e.to_string()))?;
    let meta = opened.metadata().map_err(|e| wrong(e.to_string()))?;
    if is_open_to_all(&meta) {
        let mode = meta.mode() & 0o777;
        return Err(wrong(format!("everybody on this machine may read it (mode {mode:o}): chmod 600")));
    }
    opened.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
    let token = text.trim();
    if !token.starts_with(TOKEN_PREFIX) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(format!("it has no token, which begins with {TOKEN_PREFIX}")));
    }
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| wrong("a token is printable ASCII".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A problem as a failure: its code says whether a guard refused, the request was wrong, or something broke.
fn refusal(problem: Problem) -> Failure {
    let code = match (problem.status, problem.code.as_str()) {
        (401 | 403 | 409 | 429, _) | (_, "unknown_plan") => ExitCode::Refused,
        (400 | 404 | 413 | 415 | 422, _) => ExitCode::Usage,
        (503, _) => ExitCode::Unreachable,
        // DNS could not be asked or told: not the coordinator's fault.
        (502 | 507, _) => ExitCode::Failed,
        (500.., _) => ExitCode::Internal,
        _ => ExitCode::Failed,
    };
    let mut failure = Failure::new(code, problem.detail);
    failure.causes = problem.reasons.iter().skip(1).map(ToString::to_string).collect();
    failure.hint = problem.next.or_else(|| problem.reasons.iter().find_map(|r| r.next_command()));
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::reason::Reason;

    fn problem(status: u16, code: &str) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: String::new(),
            status,
            detail: "why".into(),
            code: code.into(),
            reasons: vec![],
            next: None,
        }
    }

    #[test]
    fn an_answer_has_its_exit_code() {
        for (status, code, expected) in [
            (409, "frozen", ExitCode::Refused),
            (401, "token_unknown", ExitCode::Refused),
            (403, "role_too_small", ExitCode::Refused),
            (429, "too_many_failed_logins", ExitCode::Refused),
            (404, "unknown_plan", ExitCode::Refused),
            (404, "not_found", ExitCode::Usage),
            (422, "reason_missing", ExitCode::Usage),
            (403, "not_its_own", ExitCode::Refused),
            (503, "fenced", ExitCode::Unreachable),
            (500, "internal", ExitCode::Internal),
            (507, "no_space", ExitCode::Failed),
            (502, "dns_not_read", ExitCode::Failed),
            (408, "", ExitCode::Failed),
        ] {
            assert_eq!(refusal(problem(status, code)).code, expected, "{status} {code}");
        }
    }

    #[test]
    fn every_reason_is_told_and_the_next_command_named() {
        let mut p = problem(409, "x");
        p.reasons = vec![Reason::NothingToDo, Reason::DnsNotConfigured];
        let failure = refusal(p);
        assert_eq!(failure.causes, ["no DNS server is configured"]);
        assert!(failure.hint.unwrap().contains("drover config validate"));
    }

    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_read_from_its_file_and_said_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "drover_5ec7e7\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(authorization(&file).unwrap_err().message.contains("everybody on this machine may read it"));
        mode(0o640);
        let value = authorization(&file).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer drover_5ec7e7");
        assert!(!format!("{value:?}").contains("5ec7e7"));
        for wrong in ["5ec7e7", "", "drover_5ec7e7 drover_5ec7e7", "drover_5ec7\u{e4}"] {
            std::fs::write(&file, wrong).unwrap();
            let failure = authorization(&file).unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage);
            assert!(!format!("{failure:?}").contains("5ec7"), "{failure:?}");
        }
        assert!(authorization(&dir.path().join("none")).unwrap_err().message.contains("none"));
    }

    #[tokio::test]
    async fn nobody_there_is_exit_6() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for coordinator in ["http://127.0.0.1:1", "unix:/nonexistent/drover.sock"] {
            let surroundings = crate::context::Surroundings {
                coordinator_flag: Some(coordinator.into()),
                ..Default::default()
            };
            let client = Client::new(&surroundings.target().unwrap()).unwrap();
            let failure = client.get::<serde_json::Value>(&["status"], &[]).await.unwrap_err();
            assert_eq!(failure.code, ExitCode::Unreachable, "{coordinator}");
            assert!(failure.message.contains(coordinator));
        }
    }
}
