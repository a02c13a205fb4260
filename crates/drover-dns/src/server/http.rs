//! HTTP/1.1 for the control listener, with bounds on connections and on slow headers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::tcp::ACCEPT_RETRY_DELAY;

/// How long a client may take to send a request's headers; also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stranger's connection is kept, in all: longer than one request may take. One who reads slowly must keep no other out.
const STRANGERS_CONNECTION_MAX: Duration = Duration::from_secs(15);

/// How many connections a stranger may have: of one address, or of one network of IPv6.
const CONNECTIONS_PER_STRANGER_MAX: usize = 8;

/// What those who connect may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    connections_max: usize,
    /// For one of them, in all.
    connection_time_max: Option<Duration>,
    per_network_max: usize,
}

impl Bounds {
    /// Of those who are on this machine.
    pub(super) const fn local(connections_max: usize) -> Self {
        Self { connections_max, connection_time_max: None, per_network_max: connections_max }
    }

    /// Of those who may be anywhere.
    pub(super) const fn of_strangers(connections_max: usize) -> Self {
        let (connection_time_max, per_network_max) =
            (Some(STRANGERS_CONNECTION_MAX), CONNECTIONS_PER_STRANGER_MAX);
        Self { connections_max, connection_time_max, per_network_max }
    }
}

/// The connections of each network.
#[derive(Debug, Default)]
struct Connected(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until it is dropped.
struct Place {
    connected: Arc<Connected>,
    network: IpAddr,
}

impl Connected {
    /// None: it has as many as it may have.
    fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Place> {
        let network = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        };
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counted.entry(network).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { connected: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.connected.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counted.entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

pub(super) async fn serve(
    listener: TcpListener,
    router: axum::Router,
    bounds: Bounds,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let (slots, connected) = (Arc::new(Semaphore::new(bounds.connections_max)), Arc::<Connected>::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, from, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let Some(place) = connected.enter(from.ip(), bounds.per_network_max) else {
            debug!(%from, "closed a control connection: too many from there");
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tracker.spawn(async move {
            let served = serve_connection(stream, router, shutdown);
            match bounds.connection_time_max {
                None => served.await,
                Some(max) if tokio::time::timeout(max, served).await.is_err() => {
                    debug!(%from, "cut a control connection that took too long");
                }
                Some(_) => {}
            }
            drop((place, slot));
        });
    }
}

/// A slot first, then the connection: clients beyond the limit wait in the kernel's backlog.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let (stream, from) = listener.accept().await.ok()?;
    Some((stream, from, slot))
}

async fn serve_connection(stream: TcpStream, router: axum::Router, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a control connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_connections_and_no_more() {
        let connected = Arc::<Connected>::default();
        let enter = |address: &str| connected.enter(address.parse().unwrap(), 2);
        let (one, two) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8:0:0:ffff::").is_none(), "of the same network");
        let elsewhere = [enter("2001:db8:0:1::1"), enter("192.0.2.1")];
        assert!(elsewhere.iter().all(Option::is_some));
        drop(one);
        assert!(enter("2001:db8::3").is_some());
        drop((two, elsewhere));
        assert!(connected.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
