//! What is probed: a process of this program that answers on many loopback addresses, and swallows on another port.
//!
//! Many addresses, because a port of the prober may be used again for another address at once. A black hole is a
//! listener whose queue is full: the kernel drops what asks for a connection, as a firewall would.

use super::BLACK_HOLED_ONE_OF;
use crate::error::{Attempt, Result, unexpected};
use crate::product::Role;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Addresses that answer: 127.0.9.1 and on.
const ADDRESSES: u8 = 64;
/// The word by which this program becomes the targets.
pub const WORD: &str = "probe-targets";
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;
/// Connections that fill a queue of the smallest size; it takes one or two.
const FILL_MAX: usize = 8;
/// A connection on loopback that is not there by then never will be.
const FULL_AFTER: Duration = Duration::from_millis(50);
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where they are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    /// Something answers there.
    pub answers: u16,
    /// Nothing ever comes back from there.
    pub swallows: u16,
}

/// The running targets.
#[derive(Debug)]
pub struct Targets {
    /// Where.
    pub ports: Ports,
    _role: Role,
}

impl Targets {
    /// Starts them.
    pub fn start(directory: &Path) -> Result<Self> {
        let ready = directory.join("targets.ready");
        let mut command = Command::new(std::env::current_exe().attempt("find this program")?);
        let role = Role::start("targets", directory, command.arg(WORD).arg("--peer").arg(&ready))?;
        let began = Instant::now();
        loop {
            let text = std::fs::read(&ready).unwrap_or_default();
            if let Ok(ports) = serde_json::from_slice(&text) {
                return Ok(Self { ports, _role: role });
            }
            if began.elapsed() > READY_WITHIN {
                return unexpected("the endpoints to probe do not answer");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Ports {
    /// Where endpoint `number` is.
    pub fn address(self, number: usize) -> SocketAddr {
        let port = if is_black_hole(number) { self.swallows } else { self.answers };
        let last = u8::try_from(number % usize::from(ADDRESSES)).unwrap_or_default() + 1;
        SocketAddr::from((ip(last), port))
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 9, last)
}

/// Does this endpoint swallow what is sent to it?
pub fn is_black_hole(number: usize) -> bool {
    number.is_multiple_of(BLACK_HOLED_ONE_OF)
}

/// This process becomes the targets; it ends when its parent kills it.
pub fn run(ready: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.attempt("start the runtime")?;
    let _guard = runtime.enter();
    let listeners = listen(BACKLOG)?;
    let holes = listen(0)?;
    let address = |l: &std::net::TcpListener| l.local_addr().attempt("ask for a port");
    let (Some(answers), Some(swallows)) = (listeners.first(), holes.first()) else {
        return unexpected("no listener");
    };
    let ports = Ports { answers: address(answers)?.port(), swallows: address(swallows)?.port() };
    // Kept for as long as the process lives.
    let _stuck: Vec<TcpStream> = fill_all(&holes)?;
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener).attempt("listen")?;
        runtime.spawn(answer(listener));
    }
    let text = serde_json::to_vec(&ports).attempt("write the ports")?;
    std::fs::write(ready, text).attempt(format!("write {}", ready.display()))?;
    runtime.block_on(std::future::pending::<Result<()>>())
}

/// One listener on each address, all with the same port.
fn listen(backlog: i32) -> Result<Vec<std::net::TcpListener>> {
    let mut port = 0;
    (1..=ADDRESSES)
        .map(|last| {
            let listener = listen_at((ip(last), port).into(), backlog)?;
            port = listener.local_addr().attempt("ask for a port")?.port();
            Ok(listener)
        })
        .collect()
}

/// A listener for whom so many connections wait.
pub fn listen_at(address: SocketAddr, backlog: i32) -> Result<std::net::TcpListener> {
    let what = || format!("listen on {address}");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).attempt(what())?;
    socket.set_nonblocking(true).attempt(what())?;
    socket.bind(&address.into()).attempt(what())?;
    socket.listen(backlog).attempt(what())?;
    Ok(socket.into())
}

/// Fills each.
fn fill_all(holes: &[std::net::TcpListener]) -> Result<Vec<TcpStream>> {
    let mut stuck = Vec::new();
    for hole in holes {
        stuck.extend(fill(hole.local_addr().attempt("ask for a port")?)?);
    }
    Ok(stuck)
}

/// Connects to a listener that takes none until no more may wait: whoever comes then is not answered, as long as what is given back
/// is kept.
pub fn fill(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut stuck = Vec::new();
    for _ in 0..FILL_MAX {
        match TcpStream::connect_timeout(&address, FULL_AFTER) {
            Ok(stream) => stuck.push(stream),
            Err(_) => return Ok(stuck),
        }
    }
    unexpected(format!("{address} takes connections without end"))
}

/// Answers whoever connects, that all is well.
pub async fn answer(listener: tokio::net::TcpListener) {
    loop {
        // Out of descriptors for a moment: the next one may do.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let service = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok\n"))))
            });
            // A prober that hangs up early is no fault of the target.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
