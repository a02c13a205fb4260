//! The hidden `sample-service` role: one endpoint of the sample world, a real HTTP server in a process of its own.
//!
//! It answers `/health`, `/metrics`, the scripted requests of the sample services, and `/`, each with its region's name.
//! What is wrong with it is told to it on a Unix socket (see [`control`]), so that trouble can come and go without a
//! restart: slowness, a share of errors, and packets that are dropped by where they come from.

pub mod control;
mod filter;
mod metrics;

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::roles::Process;
use control::{Condition, Faults};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Metrics;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Connections that the kernel holds for us: more than all clients of the demo together.
const BACKLOG: u32 = 1_024;
/// Time to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How a sample service is started.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  drover sample-service --region eu-west --listen 127.0.0.1:8081 --control /tmp/eu.sock"
)]
pub struct SampleServiceArgs {
    /// What answers say: the service
    #[arg(long, default_value = "reference")]
    pub service: String,
    /// What answers say: the region
    #[arg(long)]
    pub region: String,
    /// Where to answer; may be given more than once
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// Unix socket on which trouble is ordered
    #[arg(long)]
    pub control: PathBuf,
    #[command(flatten)]
    pub process: crate::args::ProcessArgs,
}

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Bound {
    role: &'static str,
    pid: u32,
    listen: Vec<SocketAddr>,
}

struct Service {
    name: String,
    region: String,
    condition: Condition,
    metrics: Metrics,
}

/// Serves until the process is ended.
///
/// # Errors
/// When a socket can't be had.
pub async fn run(args: SampleServiceArgs) -> Result<()> {
    let process = Process::begin(&args.process, || ())?;
    let mut listeners = Vec::new();
    for address in &args.listen {
        let failed = |e| Failure::because(ExitCode::Failed, format!("can't answer on {address}"), &e);
        listeners.push(Arc::new(listen(*address).map_err(failed)?));
    }
    let service = Arc::new(Service {
        name: args.service,
        region: args.region,
        condition: Condition::new(listeners.clone()),
        metrics: Metrics::default(),
    });
    for listener in listeners {
        tokio::spawn(accept(listener, service.clone()));
    }
    let control = control::listen(&args.control)?;
    process.ready(
        &args.process,
        &Bound { role: "sample-service", pid: std::process::id(), listen: args.listen },
    )?;
    tokio::select! {
        () = control::serve(control, &service.condition) => {}
        () = process.stop.cancelled() => {}
    }
    Ok(())
}

/// A listener that may follow at once on one that was killed.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: Arc<TcpListener>, service: Arc<Service>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, std::convert::Infallible>(service.answer(&request).await) }
            });
            // A client that goes away is its own affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

impl Service {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/metrics" {
            // The numbers stay readable whatever else is wrong.
            return respond(StatusCode::OK, "text/plain; version=0.0.4", self.metrics.exposition());
        }
        let began = Instant::now();
        let faults = self.condition.faults();
        if faults.slow != drover_model::Span::ZERO {
            tokio::time::sleep(faults.slow.to_duration()).await;
        }
        let (status, body) = self.content(request.method(), path, &faults);
        if path != "/health" {
            self.metrics.record(status.as_u16(), began.elapsed());
        }
        respond(status, "application/json", body)
    }

    fn content(&self, method: &Method, path: &str, faults: &Faults) -> (StatusCode, String) {
        if fastrand::u32(0..10_000) < faults.errors.basis_points() {
            return (StatusCode::SERVICE_UNAVAILABLE, self.said("error", "out of order"));
        }
        match (method, path) {
            (&Method::GET, "/health") => (StatusCode::OK, self.said("status", "ok")),
            (&Method::GET, "/") => (StatusCode::OK, self.said("status", "served")),
            (&Method::GET, "/items") => {
                (StatusCode::OK, format!("{{\"items\":[1,2,3],\"region\":\"{}\"}}\n", self.region))
            }
            (&Method::POST, "/order") => (StatusCode::OK, self.said("status", "accepted")),
            (_, "/health" | "/" | "/items" | "/order") => {
                (StatusCode::METHOD_NOT_ALLOWED, self.said("error", "no such method here"))
            }
            _ => (StatusCode::NOT_FOUND, self.said("error", "no such path")),
        }
    }

    fn said(&self, key: &str, word: &str) -> String {
        format!("{{\"{key}\":\"{word}\",\"service\":\"{}\",\"region\":\"{}\"}}\n", self.name, self.region)
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
