//! HTTP/1.1 on a Unix socket and on a port, with bounds on connections, on slow handshakes and headers, and on whole requests.
//! Beyond loopback the port speaks TLS, and whoever connects must show a certificate.
//!
//! Port and socket have places of their own: whoever floods the port does not lock out who sits at the machine.

use crate::access::Peer;
use crate::api::admission::Caller;
use crate::api::problem::ApiError;
use crate::connections::{Connections, Place, TooMany};
use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use drover_pki::{HANDSHAKE_TIMEOUT, ServerTls};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections held at once on loopback. A further one takes the place of the one that asked nothing for the longest.
pub const API_CONNECTIONS_MAX: usize = 512;
/// The same on the Unix socket: people and scripts of one machine.
pub const API_SOCKET_CONNECTIONS_MAX: usize = 64;
/// Connections that the kernel holds for us; a client that finds no room there tries again after a second.
const API_BACKLOG: u32 = 1_024;
/// Fewer on loopback than this are not worth serving, however few descriptors there are.
const API_CONNECTIONS_MIN: usize = 16;
/// Descriptors that connections leave to everything else: store, DNS, metrics of services, pages, configuration.
const DESCRIPTORS_RESERVED: u64 = 256 + API_SOCKET_CONNECTIONS_MAX as u64;
/// Time to send a request's headers, and for which an idle connection is kept.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's headers, at most. With all connections at it they take 32 MiB.
pub const API_HEADER_BYTES_MAX: usize = 64 << 10;
/// A living socket is connected to at once; one that is not answers nobody.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept (no descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A flood is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Both listeners, bound and not answered yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: TcpListener,
    unix: UnixListener,
    tls: Option<Arc<ServerTls>>,
    /// Of the port.
    pub address: SocketAddr,
}

/// Opens both listeners. Before anything else of a coordinator runs: what can't be asked must not act either.
///
/// # Errors
/// When an address is beyond loopback and there is no TLS, or can't be bound, or somebody answers on the socket.
pub async fn bind(
    address: SocketAddr,
    socket: &Path,
    tls: Option<ServerTls>,
) -> Result<Listeners, CoordinatorError> {
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(CoordinatorError::NotLoopback { address: address.to_string() });
    }
    let tcp = listen(address)
        .map_err(|source| CoordinatorError::Listen { address: address.to_string(), source })?;
    let fail = |source| CoordinatorError::Listen { address: socket.display().to_string(), source };
    is_free(socket).await.map_err(fail)?;
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let unix = UnixListener::bind(socket).map_err(fail)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let address = tcp.local_addr().map_err(fail)?;
    Ok(Listeners { tcp, unix, tls: tls.map(Arc::new), address })
}

/// Only what a dead one left may be taken over. Whoever answers lives, and so does one that hangs: who is stopped with
/// connections waiting has no room for another, which is an error as well.
async fn is_free(socket: &Path) -> std::io::Result<()> {
    match tokio::time::timeout(SOCKET_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Err(e)) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Ok(Err(e)) if e.kind() != ErrorKind::WouldBlock => Err(e),
        Ok(_) | Err(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old connections' last minutes.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(API_BACKLOG)
}

impl Listeners {
    /// Answers until told to stop.
    pub fn serve(
        self,
        router: Router,
        coordinator: &Arc<Coordinator>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let Self { tcp, unix, tls, .. } = self;
        let door = Door {
            router,
            coordinator: coordinator.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            tls,
            refused: Arc::default(),
            too_many: Arc::default(),
        };
        let port = door.clone();
        tasks.spawn(async move {
            let places = Connections::new(connections_max());
            let accept = || async { tcp.accept().await.map(|(stream, from)| (stream, Peer::Tcp(from))) };
            port.accept_all(places, accept).await;
        });
        // Who may use the socket is what its file says.
        let socket = Door { tls: None, ..door };
        tasks.spawn(async move {
            let places = Connections::new(API_SOCKET_CONNECTIONS_MAX);
            let accept = || async { unix.accept().await.map(|(stream, _)| (stream, Peer::Socket)) };
            socket.accept_all(places, accept).await;
        });
    }
}

/// What descriptors allow, once their limit is raised as far as it may be and is needed.
fn connections_max() -> usize {
    let need = API_CONNECTIONS_MAX as u64 + DESCRIPTORS_RESERVED;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return API_CONNECTIONS_MAX };
    let raised = need.min(hard);
    let limit =
        if soft < need && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() { raised } else { soft };
    let allowed = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
    let granted = allowed.clamp(API_CONNECTIONS_MIN, API_CONNECTIONS_MAX);
    if granted < API_CONNECTIONS_MAX {
        tracing::warn!(
            limit,
            granted,
            wanted = API_CONNECTIONS_MAX,
            "the descriptor limit allows fewer connections; raise it (LimitNOFILE= of the unit, or ulimit -n)"
        );
    }
    granted
}

/// Says something of which there may be thousands at most once in [`LOG_EVERY`].
#[derive(Debug, Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// What stands behind one listener.
#[derive(Clone)]
struct Door {
    router: Router,
    coordinator: Arc<Coordinator>,
    stop: CancellationToken,
    tasks: TaskTracker,
    tls: Option<Arc<ServerTls>>,
    /// When a handshake that failed was told last.
    refused: Arc<Mutex<Rarely>>,
    /// The same of machines that had too many connections.
    too_many: Arc<Mutex<Rarely>>,
}

impl Door {
    async fn accept_all<S, F, Fut>(self, places: Arc<Connections>, mut accept: F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::io::Result<(S, Peer)>>,
    {
        let (mut crowded, mut failing) = (Rarely::default(), Rarely::default());
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    if failing.due() {
                        tracing::error!(error = %e, "can't accept a connection to the API; closing idle ones");
                    }
                    // Of all that holds descriptors an idle connection is missed the least.
                    places.evict();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (place, evicting) = tokio::select! {
                () = self.stop.cancelled() => return,
                admitted = places.admit() => admitted,
            };
            if evicting && crowded.due() {
                tracing::warn!(
                    "too many connections to the API: those that ask nothing for the longest are closed"
                );
            }
            self.tasks.spawn(self.clone().connection((stream, peer), place));
        }
    }

    async fn connection<S>(self, (stream, peer): (S, Peer), place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = self.tls.clone() else { return self.converse((stream, peer), place, None).await };
        // Until it is over the connection has asked nothing, and goes first when there are too many.
        let handshake = tokio::select! {
            ended = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => ended,
            () = place.evicted.cancelled() => return,
            () = self.stop.cancelled() => return,
        };
        match handshake {
            Ok(Ok((stream, presented))) => {
                let machine = presented.machine.as_ref().ok().map(|peer| &peer.identity);
                let most = self.coordinator.connections_per_machine();
                match place.prove(machine, most) {
                    Ok(()) => {
                        let caller = Arc::new(Caller { tls, presented });
                        self.converse((stream, peer), place, Some(caller)).await;
                    }
                    Err(TooMany { most }) => {
                        let who = machine.map(ToString::to_string).unwrap_or_default();
                        self.tell_too_many(&who, most);
                        let router = too_many(who, most);
                        Self { router, ..self }.converse((stream, peer), place, None).await;
                    }
                }
            }
            Ok(Err(e)) => self.tell_refused(&e.to_string()),
            Err(_) => self.tell_refused("the handshake took too long"),
        }
    }

    fn tell_too_many(&self, who: &str, most: usize) {
        self.coordinator.access.connections_refused.fetch_add(1, Ordering::Relaxed);
        if self.too_many.lock().unwrap_or_else(PoisonError::into_inner).due() {
            tracing::warn!(
                machine = who,
                most,
                "a machine has all the connections that one may have; further refusals within a minute are not told"
            );
        }
    }

    fn tell_refused(&self, why: &str) {
        if self.refused.lock().unwrap_or_else(PoisonError::into_inner).due() {
            tracing::warn!(
                why,
                "a TLS connection to the API was refused; further ones within a minute are not told"
            );
        }
    }

    async fn converse<S>(self, (stream, peer): (S, Peer), place: Place, caller: Option<Arc<Caller>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, held) = (TowerToHyperService::new(self.router), &place);
        let answer = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            let (work, answered) = (held.work(), router.call(request));
            async move {
                let answered = answered.await;
                drop(work);
                answered
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(API_HEADER_TIMEOUT)
            .max_buf_size(API_HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(served);
        let end = tokio::select! {
            end = served.as_mut() => end,
            () = place.evicted.cancelled() => return,
            () = self.stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(e) = end {
            tracing::debug!(error = %e, "a connection ended early");
        }
    }
}

/// Says why a connection is of no use, whatever it is asked, and ends it.
fn too_many(who: String, most: usize) -> Router {
    Router::new().fallback(move || async move {
        let detail = format!("{who} has {most} connections, all of them at work, and a machine may have no more");
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", detail);
        error.0.next = Some(
            "find what keeps them open there; `access: {connections_per_machine: N}` in the settings allows more"
                .to_owned(),
        );
        let mut answer = error.into_response();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixSocket;

    #[tokio::test]
    async fn the_socket_of_one_that_hangs_is_not_taken_and_that_of_a_dead_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("drover.sock");
        let hangs = UnixSocket::new_stream().unwrap();
        hangs.bind(&socket).unwrap();
        let hangs = hangs.listen(1).unwrap();
        // It accepts nobody, until there is no room for another.
        let mut waiting = Vec::new();
        let full = loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => waiting.push(stream),
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let refused = bind(([127, 0, 0, 1], 0).into(), &socket, None).await.unwrap_err();
        let CoordinatorError::Listen { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.kind(), ErrorKind::AddrInUse);
        waiting.clear();
        drop(hangs);
        assert!(socket.exists(), "its owner's, and left behind");
        bind(([127, 0, 0, 1], 0).into(), &socket, None).await.unwrap();
    }
}
