//! One instance as a process runs it: DNS sockets, control listener, and their end.

mod control;
mod counters;
mod http;
mod peers;
mod problem;
mod rate;
mod readiness;
mod send_many;
mod sockets;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub(crate) use control::{Adoption, AppliedReply, RecordSetReply, RecordSetsReply};
pub use counters::{Counters, RcodeCount};
pub use peers::{PEER_INTERVAL, PEERS_AT_START_MAX, PEERS_MAX, Peer, Peering, PeeringError};
pub(crate) use problem::{Problem, ProblemCode};

use self::http::Bounds;
use self::peers::Asking;
use self::rate::{RateLimit, Verdict};
use self::readiness::Readiness;
use crate::answer::{AnswerKind, Asked, Context, CookieContext, Response, Transport};
use crate::background::in_background;
use crate::publish::{OpenError, Publisher};
use crate::zone::{Snapshot, ZoneConfig};

/// How often it is tried again to put on disk what is served.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// So many pages are made for peers at once; whoever asks for more waits.
const PEER_PAGES_AT_ONCE: usize = 2;

/// How long open connections get to finish when the instance ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What an instance is to do.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to answer DNS, UDP and TCP; port 0 takes a free one, the same for both.
    pub listen: Vec<SocketAddr>,
    /// Where to take changes: a loopback address; port 0 takes a free one.
    pub control: SocketAddr,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// The zone that is served.
    pub zone: ZoneConfig,
    /// The bounds of what clients may take.
    pub limits: Limits,
    /// Whose signatures count, and who else may know what was published.
    pub peering: Peering,
}

/// The bounds of what clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open DNS connections over TCP, per listening address; more are closed at once.
    pub tcp_connections_max: usize,
    /// How long a new connection may take to send its first query.
    pub tcp_first_query_timeout: Duration,
    /// How long a connection may stay without a query, and an answer may wait to be taken.
    pub tcp_idle_timeout: Duration,
    /// Open control connections; more wait.
    pub control_connections_max: usize,
    /// How long one control request may take.
    pub control_request_timeout: Duration,
    /// The largest body of a control request.
    pub control_body_bytes_max: usize,
    /// How many like answers one network gets over UDP; none: as many as it asks for.
    pub rate_limit: Option<RateLimitConfig>,
    /// Is it looked at whom a resolver asks for (EDNS client subnet, RFC 7871)?
    pub client_subnet: bool,
}

/// How many like answers one network gets over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// A second, and at once; of one name, of "no such name", and of errors, each; and ten times as many of all together. At
    /// most 100,000 count.
    pub answers_per_second: NonZeroU32,
    /// Is this machine left out? Nobody can forge its address from outside.
    #[serde(default = "yes")]
    pub exempt_loopback: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_connections_max: 256,
            tcp_first_query_timeout: Duration::from_secs(5),
            tcp_idle_timeout: Duration::from_secs(10),
            control_connections_max: 64,
            control_request_timeout: Duration::from_secs(10),
            control_body_bytes_max: 4 * 1024 * 1024,
            rate_limit: None,
            client_subnet: false,
        }
    }
}

/// Why an instance can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Until there is authentication, only this machine may change what is served.
    #[error("cannot take changes on {control}: only a loopback address is allowed")]
    ControlNotLoopback {
        /// The configured address.
        control: SocketAddr,
    },
    /// The keys and peers make no sense.
    #[error("cannot ask other DNS instances")]
    Peering(#[source] PeeringError),
    /// No address to answer on.
    #[error("cannot answer DNS: no address to listen on")]
    NoListener,
    /// The state can't be had.
    #[error("cannot start the DNS instance")]
    State(#[source] OpenError),
    /// A socket can't be had.
    #[error("cannot listen on {address} for {purpose}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// DNS or control.
        purpose: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The machine gives no randomness.
    #[error("cannot read random bytes for the cookie secret")]
    Randomness(#[source] io::Error),
}

/// A running instance.
#[derive(Debug)]
pub struct Running {
    /// Where DNS is answered, in the order of the configuration, with the real ports.
    pub dns: Vec<SocketAddr>,
    /// Where changes are taken.
    pub control: SocketAddr,
    /// Where peers on other machines ask, if they can.
    pub peers: Option<SocketAddr>,
    /// The counters.
    pub counters: Arc<Counters>,
    publisher: Arc<Publisher>,
    ended: JoinHandle<()>,
    /// Who drops it ends it.
    _stop: DropGuard,
}

impl Running {
    /// What the instance serves and remembers.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Waits until the instance has ended, after its token was cancelled.
    pub async fn finished(mut self) {
        if let Err(error) = (&mut self.ended).await {
            warn!(%error, "the DNS instance ended badly");
        }
    }
}

/// What the transports share.
#[derive(Debug)]
struct Shared {
    publisher: Arc<Publisher>,
    counters: Arc<Counters>,
    cookie_secret: [u8; 16],
    limits: Limits,
    rate_limit: Option<RateLimit>,
    readiness: Readiness,
    /// Who may go through the zone for a peer.
    peer_pages: Arc<Semaphore>,
    /// By which it knows itself among its peers: one list of them may lie on every machine.
    process: u64,
    /// All that must be over before this server is: whoever starts anew needs the state's directory for itself.
    tracker: TaskTracker,
}

/// Starts an instance: reads its state, binds its sockets, answers until `shutdown` is cancelled.
///
/// # Errors
/// Everything that forbids to serve; nothing runs then.
pub async fn run(config: ServerConfig, shutdown: CancellationToken) -> Result<Running, StartError> {
    if !config.control.ip().is_loopback() {
        return Err(StartError::ControlNotLoopback { control: config.control });
    }
    if config.listen.is_empty() {
        return Err(StartError::NoListener);
    }
    let ServerConfig { listen, control, state_dir, zone, limits, peering } = config;
    let trusted = peering.check().map_err(StartError::Peering)?;
    let opened = in_background(move || Publisher::open_trusting(&state_dir, zone, trusted));
    let publisher = opened.await.map_err(StartError::State)?;
    let counters = Counters::of_peers(peering.peers.iter().map(|peer| peer.name.clone()));
    let waits_for = peering.peers.iter().map(|peer| peer.name.clone()).filter(|_| publisher.is_blank());
    let readiness = Readiness::waiting_for(waits_for.collect());
    let shared = Arc::new(Shared::new(publisher, counters, limits, readiness)?);
    let peer_listen = peering.listen;
    let mut asking = Asking::new(peering);
    asking.at_start(&shared).await;

    let shutdown = shutdown.child_token();
    let stop = shutdown.clone().drop_guard();
    let tracker = shared.tracker.clone();
    let mut bound = Vec::with_capacity(listen.len());
    for address in listen {
        let pair = sockets::bind_pair(address).map_err(|source| listen_error(address, "DNS", source))?;
        bound.push(pair);
    }
    let (control_listener, control) = bind(control, "control").await?;
    let peer_listener = match peer_listen {
        Some(address) => Some(bind(address, "peers").await?),
        None => None,
    };
    let mut dns = Vec::with_capacity(bound.len());
    for pair in bound {
        dns.push(pair.address);
        let failed = |source| listen_error(pair.address, "DNS", source);
        udp::spawn(pair.udp, &shared, &shutdown, &tracker).map_err(failed)?;
        tracker.spawn(tcp::serve(pair.tcp, Arc::clone(&shared), shutdown.clone(), tracker.clone()));
    }
    let serve = |listener, router, bounds| {
        tracker.spawn(http::serve(listener, router, bounds, shutdown.clone(), tracker.clone()));
    };
    let connections_max = limits.control_connections_max;
    let peers = peer_listener.map(|(listener, address)| {
        serve(listener, control::peer_router(Arc::clone(&shared)), Bounds::of_strangers(connections_max));
        address
    });
    serve(control_listener, control::router(Arc::clone(&shared)), Bounds::local(connections_max));
    tracker.spawn(asking.run(Arc::clone(&shared), shutdown.clone()));
    tracker.spawn(settle(Arc::clone(&shared.publisher), shutdown.clone()));
    info!(?dns, %control, generation = shared.publisher.load().generation(), "DNS instance serves");
    let ended = tokio::spawn(end(shutdown, tracker));
    let (publisher, counters) = (Arc::clone(&shared.publisher), Arc::clone(&shared.counters));
    Ok(Running { dns, control, peers, counters, publisher, ended, _stop: stop })
}

async fn bind(address: SocketAddr, purpose: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| listen_error(address, purpose, source);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Puts on disk what could not be put there when it was published, as soon as the disk lets it; and ends what lasts for a while.
async fn settle(publisher: Arc<Publisher>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(SETTLE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let publisher = Arc::clone(&publisher);
        let settled = tokio::task::spawn_blocking(move || {
            publisher.lapse(Instant::now());
            publisher.settle()
        });
        match settled.await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => info!("what was served without being known to be on disk is there now"),
            Ok(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "what is served is not on disk yet")
            }
            Err(error) => warn!(%error, "putting on disk what is served broke off"),
        }
    }
}

async fn end(shutdown: CancellationToken, tracker: TaskTracker) {
    shutdown.cancelled().await;
    tracker.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, tracker.wait()).await.is_err() {
        warn!(
            grace_seconds = SHUTDOWN_GRACE.as_secs(),
            "connections were cut at the end of the grace period"
        );
    }
}

const fn listen_error(address: SocketAddr, purpose: &'static str, source: io::Error) -> StartError {
    StartError::Listen { address, purpose, source }
}

/// What is served, and the time, while a few messages are answered.
struct Moment<'s> {
    shared: &'s Shared,
    snapshot: arc_swap::Guard<Arc<Snapshot>>,
    cookie: CookieContext,
}

impl Shared {
    fn new(
        publisher: Publisher,
        counters: Counters,
        limits: Limits,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let randomness = |error: getrandom::Error| StartError::Randomness(error.into());
        let mut cookie_secret = [0; 16];
        getrandom::fill(&mut cookie_secret).map_err(randomness)?;
        let rate_limit = match limits.rate_limit {
            None => None,
            Some(config) => {
                let key = (getrandom::u64().map_err(randomness)?, getrandom::u64().map_err(randomness)?);
                Some(RateLimit::new(config.answers_per_second.get(), key))
            }
        };
        let (publisher, counters) = (Arc::new(publisher), Arc::new(counters));
        let peer_pages = Arc::new(Semaphore::new(PEER_PAGES_AT_ONCE));
        let process = getrandom::u64().map_err(randomness)?;
        let tracker = TaskTracker::new();
        Ok(Self {
            publisher,
            counters,
            cookie_secret,
            limits,
            rate_limit,
            readiness,
            peer_pages,
            process,
            tracker,
        })
    }

    fn moment(&self) -> Moment<'_> {
        let cookie = CookieContext { secret: self.cookie_secret, now_unix_seconds: unix_seconds() };
        Moment { shared: self, snapshot: self.publisher.load(), cookie }
    }
}

impl Moment<'_> {
    /// See [`Asked::read`].
    fn read<'m>(&self, message: &'m [u8]) -> Option<Asked<'m, '_>> {
        Asked::read(&self.snapshot, message, self.shared.limits.client_subnet)
    }

    /// The path of every message, whatever it came by.
    fn answer(
        &self,
        buffer: Vec<u8>,
        asked: Option<&Asked<'_, '_>>,
        transport: Transport,
        client: IpAddr,
        draw: u64,
    ) -> Option<Vec<u8>> {
        let reads_client_subnet = self.shared.limits.client_subnet;
        let context = Context { transport, client, draw, reads_client_subnet, cookie: Some(self.cookie) };
        let counters = &self.shared.counters;
        let answered = |asked: &Asked<'_, '_>| match self.shared.readiness.is_waiting() {
            false => asked.answer(buffer, &context),
            true => asked.not_ready(buffer, &context),
        };
        let Some((asked, response)) = asked.and_then(|asked| Some((asked, answered(asked)?))) else {
            counters::increment(&counters.unanswered);
            return None;
        };
        match self.judge(asked.name(), &response, &context) {
            Verdict::Send => {
                counters.answered(&response);
                Some(response.bytes)
            }
            // An error is small, and no other transport makes it an answer.
            Verdict::Hint if response.kind == AnswerKind::Refusal => {
                counters.answered(&response);
                Some(response.bytes)
            }
            Verdict::Hint => {
                counters::increment(&counters.sent_to_tcp);
                asked.come_over_tcp(&context)
            }
            Verdict::Drop => {
                counters::increment(&counters.rate_limited);
                None
            }
        }
    }

    fn judge(&self, name: &[u8], response: &Response, context: &Context) -> Verdict {
        let Some(limit) = &self.shared.rate_limit else { return Verdict::Send };
        let exempts = self.shared.limits.rate_limit.is_some_and(|config| config.exempt_loopback);
        let is_exempt = response.is_client_known || (exempts && context.client.is_loopback());
        // Over TCP a client has proven its address by the handshake.
        if is_exempt || context.transport == Transport::Tcp {
            return Verdict::Send;
        }
        limit.judge(context.client, response.kind, name, context.draw)
    }
}

/// Cookie time stamps compare modulo 2³² (RFC 9018).
fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() & u64::from(u32::MAX)) as u32
}

/// Seeded by the operating system: with one seed for all, every server would answer the same sequence.
fn seeded_random() -> fastrand::Rng {
    getrandom::u64().map_or_else(|_| fastrand::Rng::new(), fastrand::Rng::with_seed)
}
