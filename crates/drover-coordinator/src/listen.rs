//! HTTP/1.1 on a Unix socket and on loopback, with bounds on connections, on slow headers and on whole requests.

use crate::error::CoordinatorError;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections held at once; further ones wait in the kernel's backlog.
pub const API_CONNECTIONS_MAX: usize = 512;
/// Time to send a request's headers, and for which an idle connection is kept.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A living socket is connected to at once; one that is not answers nobody.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept (no descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both listeners, bound and not answered yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: TcpListener,
    unix: UnixListener,
    /// On loopback.
    pub address: SocketAddr,
}

/// Opens both listeners. Before anything else of a coordinator runs: what can't be asked must not act either.
///
/// # Errors
/// When an address is not loopback or can't be bound, or somebody answers on the socket.
pub async fn bind(address: SocketAddr, socket: &Path) -> Result<Listeners, CoordinatorError> {
    if !address.ip().is_loopback() {
        return Err(CoordinatorError::NotLoopback { address: address.to_string() });
    }
    let tcp = TcpListener::bind(address)
        .await
        .map_err(|source| CoordinatorError::Listen { address: address.to_string(), source })?;
    let fail = |source| CoordinatorError::Listen { address: socket.display().to_string(), source };
    // Whoever answers there lives, also one that hangs; only what a dead one left is taken over.
    let answered = tokio::time::timeout(SOCKET_TIMEOUT, UnixStream::connect(socket)).await;
    if !matches!(answered, Ok(Err(_))) {
        return Err(fail(std::io::ErrorKind::AddrInUse.into()));
    }
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let unix = UnixListener::bind(socket).map_err(fail)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let address = tcp.local_addr().map_err(fail)?;
    Ok(Listeners { tcp, unix, address })
}

impl Listeners {
    /// Answers until told to stop.
    pub fn serve(self, router: Router, stop: &CancellationToken, tasks: &TaskTracker) {
        let Self { tcp, unix, .. } = self;
        let slots = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
        let (r, s, t, sl) = (router.clone(), stop.clone(), tasks.clone(), slots.clone());
        tasks.spawn(async move {
            accept_loop(sl, s, t, r, || async { tcp.accept().await.map(|(stream, _)| stream) }).await;
        });
        let (s, t) = (stop.clone(), tasks.clone());
        tasks.spawn(async move {
            accept_loop(slots, s, t, router, || async { unix.accept().await.map(|(stream, _)| stream) }).await;
        });
    }
}

async fn accept_loop<S, F, Fut>(
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
    router: Router,
    mut accept: F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: FnMut() -> Fut,
    Fut: Future<Output = std::io::Result<S>>,
{
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    connection(stream, router, stop).await;
                    drop(slot);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(API_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(served);
    let end = tokio::select! {
        end = served.as_mut() => end,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(e) = end {
        tracing::debug!(error = %e, "a connection ended early");
    }
}
