//! The peer that does nothing but probe: a bare HTTP client on a timer, in a process of its own. It connects, asks,
//! reads the answer and closes, with the same timeout, and neither judges nor remembers nor reports anything.

use super::targets::{Ports, Targets};
use super::{Size, TIMEOUT_MILLIS};
use crate::error::{Attempt, Result, unexpected};
use crate::product::{Role, processor_of};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// The word by which this program becomes the bare client.
pub const WORD: &str = "probe-bare-client";
/// A guard against hanging, beyond the time that it is meant to run.
const SLACK: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    ports: Ports,
    endpoints: usize,
    interval: Duration,
    lasts: Duration,
    answer: PathBuf,
}

/// What it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cost {
    probes: u64,
    good: u64,
    processor: Duration,
}

/// Its processor time a probe, in microseconds.
pub fn cost(targets: &Targets, size: &Size, directory: &Path) -> Result<f64> {
    let answer = directory.join("bare.json");
    let order = Order {
        ports: targets.ports,
        endpoints: size.endpoints,
        interval: size.interval,
        lasts: size.measured(),
        answer: answer.clone(),
    };
    let file = directory.join("bare-order.json");
    let text = serde_json::to_vec(&order).attempt("write the bare client's order")?;
    std::fs::write(&file, text).attempt(format!("write {}", file.display()))?;
    let mut command = Command::new(std::env::current_exe().attempt("find this program")?);
    let _role = Role::start("bare", directory, command.arg(WORD).arg("--peer").arg(&file))?;
    let began = Instant::now();
    while began.elapsed() < order.lasts + SLACK {
        let text = std::fs::read(&answer).unwrap_or_default();
        if let Ok(cost) = serde_json::from_slice::<Cost>(&text) {
            let expected = order.endpoints - order.endpoints.div_ceil(super::BLACK_HOLED_ONE_OF);
            let share = cost.good as f64 / cost.probes.max(1) as f64;
            if (share - expected as f64 / order.endpoints as f64).abs() > 0.02 {
                return unexpected(format!(
                    "the bare client got {} answers to {} probes",
                    cost.good, cost.probes
                ));
            }
            return Ok(cost.processor.as_secs_f64() * 1e6 / cost.probes.max(1) as f64);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    unexpected("the bare client did not end")
}

/// This process becomes the bare client.
pub fn run(order: &Path) -> Result<()> {
    let text = std::fs::read(order).attempt(format!("read {}", order.display()))?;
    let order: Order = serde_json::from_slice(&text).attempt("read the order")?;
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    let (probes, good) = runtime.block_on(probe_all(&order));
    let cost = Cost { probes, good, processor: processor_of("self")? };
    let text = serde_json::to_vec(&cost).attempt("write the answer")?;
    let part = order.answer.with_extension("part");
    std::fs::write(&part, text).attempt(format!("write {}", part.display()))?;
    std::fs::rename(&part, &order.answer).attempt(format!("write {}", order.answer.display()))
}

async fn probe_all(order: &Order) -> (u64, u64) {
    let good = Arc::new(AtomicU64::new(0));
    let mut probes = tokio::task::JoinSet::new();
    let (began, gap) = (Instant::now(), order.interval.div_f64(order.endpoints.max(1) as f64));
    let mut number: u64 = 0;
    while began.elapsed() < order.lasts {
        tokio::time::sleep_until((began + gap.mul_f64(number as f64)).into()).await;
        let endpoint = usize::try_from(number).unwrap_or_default() % order.endpoints;
        let (address, good) = (order.ports.address(endpoint), good.clone());
        probes.spawn(async move {
            let timeout = Duration::from_millis(TIMEOUT_MILLIS);
            if let Ok(Ok(StatusCode::OK)) = tokio::time::timeout(timeout, probe(address)).await {
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
        number += 1;
        while probes.try_join_next().is_some() {}
    }
    while probes.join_next().await.is_some() {}
    (number, good.load(Ordering::Relaxed))
}

async fn probe(address: SocketAddr) -> Result<StatusCode> {
    let stream = TcpStream::connect(address).await.attempt("connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.attempt("begin")?;
    let request = Request::builder().method(Method::GET).uri("/health").header(HOST, address.to_string());
    let request = request.body(Empty::<Bytes>::new()).attempt("make a request")?;
    let exchange = async {
        let answer = sender.send_request(request).await.attempt("ask")?;
        let status = answer.status();
        answer.into_body().collect().await.attempt("read the answer")?;
        Ok(status)
    };
    tokio::select! {
        status = exchange => status,
        ended = connection => ended.attempt("keep the connection").and_then(|()| unexpected("it was closed")),
    }
}
