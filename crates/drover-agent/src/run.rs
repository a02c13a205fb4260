//! Puts the parts together and keeps them running.

use crate::asking::Asker;
use crate::buffer::Buffer;
use crate::client::CoordinatorClient;
use crate::declaration::Declarations;
use crate::error::AgentError;
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::probe::Prober;
use crate::report::{Link, Reporter, Sender};
use crate::rights::Rights;
use crate::roster::Rosters;
use crate::schedule::{ScheduleStats, Scheduler};
use crate::selfcheck::{self, Sight};
use crate::state::StateDir;
use crate::status::{Desk, StatusListener};
use crate::status_pages::StatusPages;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Descriptors kept free of probes: coordinators, references, status, files, the resolver.
const DESCRIPTORS_RESERVED: u64 = 256;

/// Probes under way at once, at least, however low the descriptor limit is.
const IN_FLIGHT_MIN: usize = 16;

/// Runs the agent until `shutdown`, which it obeys within two seconds: probes under way are given up, and what waits is
/// offered to the coordinators a last time.
///
/// # Errors
/// When it cannot start: its state directory, status address or HTTP client is not to be had. Once it runs, nothing that
/// the world does ends it.
pub async fn run(identity: Identity, shutdown: CancellationToken) -> Result<(), AgentError> {
    let (nobody, _) = oneshot::channel();
    run_announced(identity, shutdown, nobody).await
}

/// As [`run`], and says once it works where it tells about itself, when it does.
///
/// # Errors
/// As [`run`].
pub async fn run_announced(
    identity: Identity,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Option<String>>,
) -> Result<(), AgentError> {
    let state = Arc::new(StateDir::open(&identity.state_dir)?);
    let wall_seconds = u64::try_from(crate::clock::wall_now().as_millis() / 1_000).unwrap_or(0);
    let boot_number = state.next_boot(wall_seconds)?;
    let boot = boot_name()?;
    let rights = Rights::open(&identity, &state, session()?).await?;
    let rosters = Arc::new(Rosters::new(identity.agent.clone(), identity.region.clone(), Arc::clone(&state)));
    let buffer = Buffer::new(identity.buffer_observations_max, identity.coordinators.len());
    let ledger = Arc::new(Ledger::new(Arc::clone(&rosters), buffer));
    let sender = Arc::new(Sender {
        agent: identity.agent.clone(),
        boot,
        boot_number,
        rosters,
        ledger,
        sight: Arc::new(Sight::default()),
        declarations: identity.status_listen.map(|_| Arc::new(Declarations::new(Arc::clone(&state)))),
    });
    let schedule = Arc::new(ScheduleStats::default());
    let mut desk = Desk {
        sender: Arc::clone(&sender),
        region: identity.region.clone(),
        schedule: Arc::clone(&schedule),
        links: Vec::new(),
        refusals: rights.as_ref().map(Rights::refusals),
    };
    let (mut reporters, mut askers) = (Vec::new(), Vec::new());
    for (reader, url) in identity.coordinators.iter().enumerate() {
        let client = CoordinatorClient::new(url, &identity)?;
        askers.push(Asker::new(CoordinatorClient::new(url, &identity)?));
        let link = Arc::new(Link::new(url.to_string(), reader));
        desk.links.push(Arc::clone(&link));
        reporters.push(Reporter::new(Arc::clone(&sender), client, link));
    }
    let listener = match &identity.status {
        Some(address) => Some(StatusListener::bind(address, &state).await?),
        None => None,
    };
    let pages = match identity.status_listen {
        Some(address) => Some(StatusPages::bind(address, &state).await?),
        None => None,
    };
    tracing::info!(agent = %identity.agent, region = %identity.region, boot_number, "the agent runs");
    // Nobody waiting is no failure.
    let _ = ready.send(listener.as_ref().and_then(StatusListener::address));
    let links = Links { reporters, askers };
    let served = Served { status: listener.map(|l| (l, Arc::new(desk))), pages, rights };
    let ended = work(&identity, sender, schedule, links, served, shutdown).await;
    tracing::info!(agent = %identity.agent, "the agent stopped");
    ended
}

/// What listens.
struct Served {
    status: Option<(StatusListener, Arc<Desk>)>,
    pages: Option<StatusPages>,
    rights: Option<Rights>,
}

/// What talks to the coordinators.
struct Links {
    reporters: Vec<Reporter>,
    askers: Vec<Asker>,
}

async fn work(
    identity: &Identity,
    sender: Arc<Sender>,
    schedule: Arc<ScheduleStats>,
    links: Links,
    served: Served,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let in_flight = in_flight_max(identity.probes_in_flight_max);
    let (rosters, ledger) = (Arc::clone(&sender.rosters), Arc::clone(&sender.ledger));
    let prober = Arc::new(Prober::default());
    let scheduler = Scheduler::new(identity.agent.clone(), prober, Arc::clone(&ledger), schedule, in_flight);
    let mut tasks = JoinSet::new();
    tasks.spawn(scheduler.run(rosters.subscribe(), shutdown.clone()));
    tasks.spawn(selfcheck::run(rosters, ledger, Arc::clone(&sender.sight), shutdown.clone()));
    for reporter in links.reporters {
        tasks.spawn(reporter.run(shutdown.clone()));
    }
    for asker in links.askers {
        tasks.spawn(asker.run(shutdown.clone()));
    }
    if let Some((pages, declarations)) = served.pages.zip(sender.declarations.clone()) {
        tasks.spawn(pages.serve(declarations, shutdown.clone()));
    }
    if let Some(rights) = served.rights {
        tasks.spawn(rights.run(shutdown.clone()));
    }
    if let Some((listener, desk)) = served.status {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = listener.serve(desk, shutdown).await {
                tracing::error!(%error, "the status endpoint broke");
            }
        });
    }
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // An agent that reports but no longer probes would be worse than none.
        if let Err(panic) = ended {
            outcome = Err(AgentError::Broken(panic.to_string()));
            shutdown.cancel();
        }
    }
    outcome
}

fn drawn() -> Result<[u8; 8], AgentError> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|e| AgentError::Random(e.to_string()))?;
    Ok(bytes)
}

fn boot_name() -> Result<String, AgentError> {
    drawn().map(hex::encode)
}

/// Tells this life of the agent from those before it; 53 bits, so that it survives any JSON reader.
fn session() -> Result<u64, AgentError> {
    drawn().map(|bytes| u64::from_le_bytes(bytes) >> 11)
}

/// As many as asked for, within what the descriptor limit allows once it is raised as far as it may be.
fn in_flight_max(wanted: usize) -> usize {
    let need = (wanted as u64).saturating_add(DESCRIPTORS_RESERVED);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let mut limit = soft;
    if soft < need && setrlimit(Resource::RLIMIT_NOFILE, need.min(hard), hard).is_ok() {
        limit = need.min(hard);
    }
    let allowed = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
    let granted = wanted.min(allowed).max(IN_FLIGHT_MIN);
    if granted < wanted {
        tracing::warn!(wanted, granted, "the descriptor limit allows fewer probes at once");
    }
    granted
}
