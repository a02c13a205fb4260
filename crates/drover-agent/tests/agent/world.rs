//! Endpoints that misbehave on purpose, and what a test needs to probe them.

use drover_agent::probe::{ProbeResult, Prober};
use drover_agent::target::{Target, Watch};
use drover_model::config::{HealthCheck, HttpCheck, TcpCheck, TlsOptions};
use drover_model::probe::{FailureKind, OpinionPolicy, ProbeTarget};
use drover_model::{Percent, Span};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Hang guard: ten times what the slowest test needs.
pub const HANG_GUARD: Duration = Duration::from_secs(60);

/// How an endpoint answers.
#[derive(Clone)]
pub enum Script {
    /// Writes this and closes.
    Say(Vec<u8>),
    /// Reads and never answers.
    Silence,
    /// Writes this at once, then the rest byte by byte.
    Drip(&'static str, &'static str, Duration),
    /// Reads the request and resets the connection.
    Reset,
    /// Writes this and resets the connection.
    SayAndReset(&'static str),
    /// Writes this head and then zeros for as long as somebody reads, at most so many bytes.
    Flood(&'static str, usize),
}

/// What an endpoint saw.
#[derive(Default)]
pub struct Seen {
    pub requests: Mutex<Vec<(SocketAddr, String)>>,
    pub bytes_written: AtomicUsize,
    pub open: AtomicUsize,
    pub open_max: AtomicUsize,
    pub accepted: AtomicUsize,
}

impl Seen {
    pub fn last_request(&self) -> (SocketAddr, String) {
        self.requests.lock().unwrap().last().cloned().expect("a request came")
    }
}

/// An answer with a body and its length.
pub fn answer(status: &str, body: &str) -> Script {
    Script::Say(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

pub async fn endpoint(script: Script) -> (SocketAddr, Arc<Seen>) {
    endpoint_on("127.0.0.1:0", script).await
}

pub async fn endpoint_on(address: &str, script: Script) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let watcher = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let (script, seen) = (script.clone(), Arc::clone(&watcher));
            tokio::spawn(async move {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
                seen.open_max.fetch_max(open, Ordering::SeqCst);
                play(stream, peer, script, &seen).await;
                seen.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, seen)
}

async fn play(mut stream: TcpStream, peer: SocketAddr, script: Script, seen: &Seen) {
    let reset = matches!(script, Script::Reset | Script::SayAndReset(_));
    converse(&mut stream, peer, script, seen).await;
    if reset {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Reads one request and follows the script.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    peer: SocketAddr,
    script: Script,
    seen: &Seen,
) {
    let Some(request) = read_head(stream).await else { return };
    seen.requests.lock().unwrap().push((peer, request));
    match script {
        Script::Say(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Script::Silence => {
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        }
        Script::Drip(head, rest, gap) => {
            let _ = stream.write_all(head.as_bytes()).await;
            for byte in rest.bytes() {
                tokio::time::sleep(gap).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Script::Reset => {}
        Script::SayAndReset(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            // The peer must have read it before the reset throws it away.
            let mut rest = [0; 64];
            let _ = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut rest)).await;
        }
        Script::Flood(head, limit) => {
            let _ = stream.write_all(head.as_bytes()).await;
            let zeros = vec![b'0'; 16 * 1024];
            while seen.bytes_written.load(Ordering::SeqCst) < limit && stream.write_all(&zeros).await.is_ok()
            {
                seen.bytes_written.fetch_add(zeros.len(), Ordering::SeqCst);
            }
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn http_check() -> HttpCheck {
    HttpCheck {
        tls: false,
        path: "/health".to_owned(),
        expect_status: vec![200],
        expect_body: None,
        max_latency: None,
        host: None,
        tls_options: TlsOptions::default(),
        secret_header: None,
    }
}

pub fn policy() -> OpinionPolicy {
    OpinionPolicy {
        failure_threshold: 3,
        failure_window: Span::from_secs(60),
        gray_failure_share: Percent::from_basis_points(5_000),
        gray_min_samples: 1_000,
        recovery_threshold: 3,
        stale_after: Span::from_secs(60),
    }
}

/// A target at `address`; its timeout is short where a test waits for it.
pub fn spec(endpoint: &str, address: SocketAddr, check: HealthCheck) -> ProbeTarget {
    ProbeTarget {
        endpoint: endpoint.parse().unwrap(),
        address: address.ip().to_string(),
        port: address.port(),
        host: "shop.example".to_owned(),
        check,
        interval: Span::from_millis(100),
        timeout: Span::from_secs(10),
        policy: policy(),
    }
}

pub fn http_spec(address: SocketAddr, check: HttpCheck) -> ProbeTarget {
    spec("shop@us-east", address, HealthCheck::Http(check))
}

pub fn tcp_spec(address: SocketAddr) -> ProbeTarget {
    spec("shop@us-east", address, HealthCheck::Tcp(TcpCheck { max_latency: None }))
}

pub fn target(spec: ProbeTarget, source: Option<IpAddr>) -> Target {
    Target::new(spec, &"eu-west".parse().unwrap(), source, Arc::new(Watch::default()))
}

pub async fn probe(spec: ProbeTarget) -> ProbeResult {
    probe_from(spec, None).await
}

pub async fn probe_from(spec: ProbeTarget, source: Option<IpAddr>) -> ProbeResult {
    let probing = async { Prober::default().probe(&target(spec, source)).await };
    tokio::time::timeout(HANG_GUARD, probing).await.expect("a probe ends")
}

/// The probe failed in this way, and says why in these words.
#[track_caller]
pub fn assert_failed(result: &ProbeResult, kind: FailureKind, words: &str) {
    let failure = result.outcome.as_ref().expect_err("it failed");
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.detail.contains(words), "{failure:?} does not say {words:?}");
    assert!(failure.detail.len() <= 200);
}
