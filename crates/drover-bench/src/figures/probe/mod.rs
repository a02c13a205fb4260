//! `probe`: one agent with many endpoints, a tenth of which swallow every packet.
//!
//! The agent is the real binary in a process of its own; its coordinator is played from here, and its endpoints are
//! another process of this program. The peers probe the same endpoints with the same share of black holes:
//! prometheus-blackbox-exporter, asked for one probe after the other, and a bare HTTP client on a timer.

mod blackbox;
mod coordinator;
mod loops;
pub mod targets;

pub use loops::run as bare_client;
pub use targets::run as serve_targets;

use crate::disk;
use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::product::{self, Role};
use coordinator::Played;
use drover_agent::identity::Identity;
use drover_agent::schedule::DELAY_CLASSES_MILLIS;
use drover_agent::status::AgentStatus;
use drover_model::{AgentId, RegionId};
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, Instant};
use targets::Targets;

const ENDPOINTS: usize = 10_000;
const INTERVAL: Duration = Duration::from_secs(5);
/// One of so many endpoints is black-holed.
pub const BLACK_HOLED_ONE_OF: usize = 10;
/// Rounds that are measured, after those in which the agent starts.
const ROUNDS: u32 = 12;
const ROUNDS_SMALL: u32 = 2;
const ROUNDS_BEFORE: u32 = 2;
/// For the whole exchange; long, so that only a black hole takes so long even on a machine that is busy.
pub const TIMEOUT_MILLIS: u64 = 4_000;

const MEMORY_MIB_MAX: f64 = 200.0;
const ON_TIME_MIN: f64 = 99.0;
const ON_TIME_MILLIS: u64 = 100;
const RATE_SHARE_MIN: f64 = 0.98;
const CORES_MAX: f64 = 0.35;
const OF_BLACKBOX_MAX: f64 = 0.3;
const OF_BARE_CLIENT_MAX: f64 = 1.5;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("probe", scale);
    // Looked for first, so that nobody waits a minute to be told that it is missing.
    let blackbox = blackbox::program()?;
    let scratch = disk::scratch()?;
    let targets = Targets::start(scratch.path())?;
    let size = Size {
        endpoints: scale.of(ENDPOINTS, 100),
        interval: INTERVAL,
        rounds: if scale.is_full() { ROUNDS } else { ROUNDS_SMALL },
    };
    let agent = agent(&mut figure, &targets, &size, scratch.path()).await?;
    let bare = loops::cost(&targets, &size, scratch.path())?;
    let exporter = blackbox::cost(&blackbox, &targets, &size, scratch.path()).await?;
    figure.told("peer: processor time a probe, prometheus-blackbox-exporter", exporter, "µs");
    figure.told("peer: processor time a probe, bare HTTP client", bare, "µs");
    for (peer, cost, bar) in
        [("blackbox", exporter, OF_BLACKBOX_MAX), ("the bare client", bare, OF_BARE_CLIENT_MAX)]
    {
        let what = format!("agent, processor time a probe, beside {peer}");
        figure.bar_from(what, agent, "µs", Bar::AtMost(bar * cost), format!("{bar} × {peer}"));
    }
    Ok(figure)
}

/// How much is probed, and how often.
pub struct Size {
    /// Endpoints.
    pub endpoints: usize,
    /// Between two probes of one.
    pub interval: Duration,
    /// How often each is probed while it is measured.
    pub rounds: u32,
}

impl Size {
    /// All rounds that are measured.
    pub fn measured(&self) -> Duration {
        self.interval * self.rounds
    }
}

#[derive(Debug, Deserialize)]
struct AgentSaid {
    status: Option<String>,
}

/// Runs the agent; gives its processor time a probe in microseconds.
async fn agent(figure: &mut Figure, targets: &Targets, size: &Size, directory: &Path) -> Result<f64> {
    let binary = product::binary()?;
    let (agent, region) = names()?;
    let played = Played::start(targets, size, &agent, &region).await?;
    let url = format!("http://{}", played.address).parse().attempt("make a URL")?;
    let mut identity = Identity::new(agent, region, vec![url], directory.join("agent"));
    identity.status = Some("127.0.0.1:0".parse().attempt("make a status address")?);
    let file = directory.join("agent.yaml");
    let text = serde_json::to_vec(&identity).attempt("write the agent's identity")?;
    std::fs::write(&file, text).attempt(format!("write {}", file.display()))?;
    let words = ["agent".as_ref(), "--identity".as_ref(), file.as_os_str()];
    let (role, said) = Role::drover::<AgentSaid>(&binary, "agent", directory, &words)?;
    let status = said.status.ok_or_else(|| BenchError::Unexpected("the agent tells nothing".into()))?;

    tokio::time::sleep(size.interval * ROUNDS_BEFORE).await;
    let (before, processor, began) = (ask(&status).await?, role.processor()?, Instant::now());
    tokio::time::sleep(size.measured()).await;
    let (after, took) = (ask(&status).await?, began.elapsed());
    let used = (role.processor()? - processor).as_secs_f64();
    let started = (after.schedule.started - before.schedule.started) as f64;

    figure.bar("agent, cores", used / took.as_secs_f64(), "cores", Bar::AtMost(CORES_MAX));
    figure.bar("agent, peak of its memory", role.memory_peak_mib()?, "MiB", Bar::AtMost(MEMORY_MIB_MAX));
    let on_time = on_time(&after) - on_time(&before);
    let share = 100.0 * on_time as f64 / started.max(1.0);
    let what = format!("probes begun within {ON_TIME_MILLIS} ms of their slot");
    figure.bar(what, share, "%", Bar::AtLeast(ON_TIME_MIN));
    let wanted = size.endpoints as f64 / size.interval.as_secs_f64();
    let rate = started / took.as_secs_f64();
    figure.bar("probes a second", rate, "/s", Bar::AtLeast(RATE_SHARE_MIN * wanted));
    figure.told("slots missed", (after.schedule.missed - before.schedule.missed) as f64, "");
    played.check(figure, after.dropped);
    Ok(used * 1e6 / started.max(1.0))
}

fn names() -> Result<(AgentId, RegionId)> {
    let agent = AgentId::new("region-00-agent").attempt("name the agent")?;
    Ok((agent, RegionId::new("region-00").attempt("name the region")?))
}

/// Probes that began no later than that after their slot.
fn on_time(status: &AgentStatus) -> u64 {
    let classes = DELAY_CLASSES_MILLIS.iter().zip(&status.schedule.delays);
    classes.filter(|(upper, _)| **upper <= ON_TIME_MILLIS).map(|(_, count)| count).sum()
}

async fn ask(address: &str) -> Result<AgentStatus> {
    let url = format!("http://{address}/v1/agent");
    let answer = crate::installation::client()?.get(&url).send().await.attempt(format!("get {url}"))?;
    let text = answer.bytes().await.attempt(format!("get {url}"))?;
    serde_json::from_slice(&text).attempt("read the agent's status")
}
