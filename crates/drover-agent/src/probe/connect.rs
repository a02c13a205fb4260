//! From an address or a name to a connection, from the source address that was asked for.
//!
//! Two traps. A bound source address makes the kernel pick the port before it knows the destination, so that some 28,000
//! connections in `TIME_WAIT` would use up all ports at once: `IP_BIND_ADDRESS_NO_PORT` puts that off until connect.
//! And a connect to a local port that nobody listens on can, by chance, be given that very port as its own and then
//! meet itself: a dead endpoint would look alive. Such a connection is `Refused`.

use crate::probe::failure::Failure;
use crate::probe::{Phase, Progress};
use drover_model::probe::FailureKind;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Name resolutions under way at once. Each holds a thread until the system's resolver gives up, which is long after
/// the probe did; probes that find none free wait inside their own timeout.
pub const RESOLUTIONS_IN_FLIGHT_MAX: usize = 64;

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Pinned.
    Address(SocketAddr),
    /// Resolved anew for every probe.
    Name(Arc<str>, u16),
}

impl Place {
    /// An IP address, with or without the brackets of a URL, is pinned; anything else is a name.
    #[must_use]
    pub fn new(address: &str, port: u16) -> Self {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Place::Address(SocketAddr::new(ip, port)),
            Err(_) => Place::Name(address.into(), port),
        }
    }
}

/// The system's resolver, with a bound on how many threads it may hold.
#[derive(Debug)]
pub struct Resolver {
    slots: Arc<Semaphore>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(RESOLUTIONS_IN_FLIGHT_MAX)) }
    }
}

impl Resolver {
    async fn lookup(&self, name: &Arc<str>, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| Failure::local("the resolver is shut down"))?;
        let host = Arc::clone(name);
        let resolved = tokio::task::spawn_blocking(move || {
            let found = (&*host, port).to_socket_addrs().map(Vec::from_iter);
            drop(slot);
            found
        });
        let unresolved = |why: &str| Failure::new(FailureKind::Resolve, &format!("{name}: {why}"));
        let addresses = resolved
            .await
            .map_err(|_| Failure::local("the resolver is shut down"))?
            .map_err(|e| unresolved(&e.to_string()))?;
        if addresses.is_empty() { Err(unresolved("no address")) } else { Ok(addresses) }
    }
}

/// Connects to `place`, to the first of a name's addresses that lets it. A name's addresses share the time that is left,
/// so that a black hole in front does not hide a live one behind.
///
/// # Errors
/// The last address's failure.
pub async fn connect(
    place: &Place,
    source: Option<IpAddr>,
    resolver: &Resolver,
    deadline: Instant,
    progress: &Progress,
) -> Result<TcpStream, Failure> {
    let (name, port) = match place {
        Place::Address(address) => {
            progress.enter(Phase::Connect);
            return connect_to(*address, source).await;
        }
        Place::Name(name, port) => (name, *port),
    };
    progress.enter(Phase::Resolve);
    let mut addresses = resolver.lookup(name, port).await?;
    if let Some(source) = source {
        addresses.retain(|a| a.is_ipv4() == source.is_ipv4());
    }
    progress.enter(Phase::Connect);
    let mut failure = Failure::local(&format!("{name} has no address of the source address's family"));
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let now = Instant::now();
        let turn = now + deadline.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(1);
        match timeout_at(turn, connect_to(address, source)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(f)) => failure = f,
            Err(_) => {
                failure = Failure::new(FailureKind::TimedOut, &format!("connecting to {address}: no answer"));
            }
        }
    }
    Err(failure)
}

async fn connect_to(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Failure> {
    let failed = |e: &io::Error| Failure::from_io("connecting", e);
    let stream = match source {
        None => TcpStream::connect(address).await.map_err(|e| failed(&e))?,
        Some(source) if source.is_ipv4() != address.is_ipv4() => {
            return Err(Failure::local(&format!(
                "source address {source} cannot reach {address}: other family"
            )));
        }
        Some(source) => {
            bound(source).map_err(|e| local(source, &e))?.connect(address).await.map_err(|e| failed(&e))?
        }
    };
    refuse_itself(stream, address)
}

fn refuse_itself(stream: TcpStream, address: SocketAddr) -> Result<TcpStream, Failure> {
    if stream.local_addr().is_ok_and(|local| local == address) {
        return Err(Failure::new(
            FailureKind::Refused,
            "connecting: nobody listens (the connection met itself)",
        ));
    }
    Ok(stream)
}

fn local(source: IpAddr, error: &io::Error) -> Failure {
    Failure::local(&format!("probing from {source}: {error}"))
}

fn bound(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Without it the source still works, for fewer connections.
    let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

/// Connects once, for a reference of the self-check.
///
/// # Errors
/// Why it could not.
pub async fn reach(address: SocketAddr, source: Option<IpAddr>) -> Result<(), Failure> {
    connect_to(address, source).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_pinned_and_a_name_is_not() {
        assert_eq!(Place::new("::1", 80), Place::Address("[::1]:80".parse().unwrap()));
        assert_eq!(Place::new("[::1]", 80), Place::Address("[::1]:80".parse().unwrap()));
        assert_eq!(Place::new("127.0.0.2", 80), Place::Address("127.0.0.2:80".parse().unwrap()));
        assert_eq!(Place::new("a.example", 80), Place::Name("a.example".into(), 80));
    }

    /// The kernel hands the destination's own port out as source port once in a while; here it has no other choice left,
    /// because the probe's port is bound beforehand.
    #[tokio::test]
    async fn a_connection_that_meets_itself_is_told_from_a_listener() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stream = socket.connect(address).await.unwrap();
        assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap(), "it met itself");
        assert_eq!(refuse_itself(stream, address).unwrap_err().kind, FailureKind::Refused);
    }
}
