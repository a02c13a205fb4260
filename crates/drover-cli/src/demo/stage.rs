//! What every scene plays on: a fresh world with its clients, the strip, and a clock that begins with the trouble.

use super::crowd::Crowd;
use super::report::{Moment, SceneReport};
use super::sample::Wanted;
use super::screen::Screen;
use super::strip::{Source, Strip};
use super::watch::Watcher;
use super::world::World;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::paint::Tone;
use drover_model::api::{RunSummary, RunView, StatusView};
use drover_model::config::RegionRole;
use drover_model::decision::{VantageState, VerdictState};
use drover_model::traffic::Load;
use drover_model::{RegionId, ServiceId, Span, Timestamp};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// For a world to come up and settle; on an idle machine it takes four seconds.
const STEADY_WITHIN: Duration = Duration::from_secs(30);
/// Shown before the trouble begins.
const NORMAL: Duration = Duration::from_millis(1_500);

/// One scene's world.
pub struct Stage {
    /// The world.
    pub world: World,
    /// Its clients.
    pub crowd: Crowd,
    /// What the coordinator says.
    pub watcher: Watcher,
    /// Where to talk.
    pub screen: Screen,
    /// What is found.
    pub report: SceneReport,
    zero: watch::Sender<Timestamp>,
    strip: Option<Strip>,
}

impl Stage {
    /// Builds it and lets the clients loose.
    ///
    /// # Errors
    /// When a process does not come up.
    pub async fn build(
        screen: &Screen,
        report: SceneReport,
        wanted: impl FnOnce(&Path) -> Wanted,
    ) -> Result<Self> {
        let world = World::start(wanted).await?;
        let query = world.dns_address()?;
        let crowd = Crowd::start(&world.config, query).await?;
        let (zero, clock) = watch::channel(Timestamp::default());
        let watcher = Watcher::start(world.api, screen.clone(), clock);
        Ok(Self { world, crowd, watcher, screen: screen.clone(), report, zero, strip: None })
    }

    /// Waits until all is well, and shows it for a moment.
    ///
    /// # Errors
    /// When it does not become well.
    pub async fn settle(&mut self) -> Result<()> {
        let Some(()) = self.watcher.until(STEADY_WITHIN, |s| is_steady(s).then_some(())).await else {
            let last = self.watcher.last().map(|s| what_is_missing(&s)).unwrap_or_default();
            let message = format!("the world is not steady after {} s", STEADY_WITHIN.as_secs());
            let mut failure = Failure::new(ExitCode::Failed, message);
            failure.causes.push(last);
            return Err(failure);
        };
        self.raise().await
    }

    /// Begins the strip and shows for a moment how it stands.
    ///
    /// # Errors
    /// When there is nothing to show.
    pub async fn raise(&mut self) -> Result<()> {
        let planned = crate::output::now() + Span::from_duration(NORMAL);
        self.zero.send_replace(planned);
        let service = self.services().into_iter().next();
        let service =
            service.ok_or_else(|| Failure::new(ExitCode::Internal, "the sample world has no services"))?;
        let source = Source {
            regions: self.regions(),
            service,
            ledger: self.crowd.ledger.clone(),
            seen: self.watcher.seen(),
            zero: self.zero.subscribe(),
        };
        self.strip = Some(Strip::start(source, self.screen.clone()));
        tokio::time::sleep(NORMAL).await;
        Ok(())
    }

    /// Was another scene played in this world before?
    pub fn is_played_on(&self) -> bool {
        self.zero() != Timestamp::default()
    }

    /// The trouble begins now.
    pub fn trouble(&mut self, what: &str) {
        self.begin(Tone::Bad, what);
    }

    /// What the scene is about begins now.
    pub fn begin(&mut self, tone: Tone, what: &str) {
        self.zero.send_replace(crate::output::now());
        self.screen.event(0, tone, what);
        self.moment(what, self.zero());
    }

    /// Something happens on stage.
    pub fn happens(&mut self, what: &str) {
        let now = crate::output::now();
        self.screen.event(now.as_millis() - self.zero().as_millis(), Tone::Strong, what);
        self.moment(what, now);
    }

    /// When the trouble began.
    pub fn zero(&self) -> Timestamp {
        *self.zero.borrow()
    }

    /// Adds to the timeline.
    pub fn moment(&mut self, event: &str, at: Timestamp) {
        let after_milliseconds = at.as_millis() - self.zero().as_millis();
        self.report.timeline.push(Moment { event: event.to_owned(), at, after_milliseconds });
    }

    /// The strip ends.
    pub fn curtain(&mut self) {
        self.strip = None;
        self.report.timeline.sort_by_key(|m| m.at);
    }

    /// Goes on to another scene in the same world; what was found in this one comes back.
    pub fn turn(&mut self, next: SceneReport) -> SceneReport {
        std::mem::replace(&mut self.report, next)
    }

    /// Takes it down: the clients end, the world is left to be ended.
    pub fn strike(self) -> (World, SceneReport) {
        (self.world, self.report)
    }

    /// Serving regions by name.
    pub fn regions(&self) -> Vec<RegionId> {
        let regions = self.world.config.regions.values();
        regions.filter(|r| r.role == RegionRole::Serving).map(|r| r.name.clone()).collect()
    }

    /// Services, the most important first.
    pub fn services(&self) -> Vec<ServiceId> {
        let mut services: Vec<_> = self.world.config.services.values().collect();
        services.sort_by_key(|s| s.priority);
        services.into_iter().map(|s| s.name.clone()).collect()
    }

    /// The longest TTL on the wire.
    pub fn ttl(&self) -> Span {
        let seconds = self.world.config.services.values().map(|s| s.ttl.as_millis().div_ceil(1_000)).max();
        Span::from_secs(seconds.unwrap_or(1))
    }

    /// The longest time until a vantage holds an endpoint for failed.
    pub fn detection(&self) -> Span {
        let services = self.world.config.services.values();
        let spans =
            services.map(|s| s.interval.times(u64::from(s.failover.failure_threshold)).plus(s.timeout));
        spans.max().unwrap_or_default()
    }

    /// Waits until there is a run about `region` of which `is` holds.
    pub async fn run_about(
        &self,
        region: &RegionId,
        within: Duration,
        is: impl Fn(&RunSummary) -> bool,
    ) -> Option<RunSummary> {
        self.watcher.until(within, |s| s.runs.iter().find(|r| r.region == *region && is(r)).cloned()).await
    }

    /// Waits until `region` carries nothing and every run about it has come to rest.
    pub async fn moved_off(&self, region: &RegionId, within: Duration) -> bool {
        let moved = |s: &StatusView| {
            let rest = s.runs.iter().filter(|r| r.region == *region).all(|r| r.state.is_final());
            (rest && total_weight(s, region) == 0).then_some(())
        };
        self.watcher.until(within, moved).await.is_some()
    }

    /// Every run about a region in full, oldest first.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn runs_about(&self, region: &RegionId) -> Result<Vec<RunView>> {
        let mut views = Vec::new();
        for run in self.world.api.status().await?.runs.iter().filter(|r| r.region == *region) {
            views.push(self.world.api.run(&run.id).await?);
        }
        views.sort_by_key(|v| v.summary.started_at);
        Ok(views)
    }
}

/// What `region` carries of all services together.
pub fn total_weight(status: &StatusView, region: &RegionId) -> u64 {
    let endpoints = status.services.iter().flat_map(|s| &s.endpoints);
    endpoints.filter(|e| e.region == *region).map(|e| u64::from(e.weight.0)).sum()
}

/// All is well, and enough is known to act.
fn is_steady(status: &StatusView) -> bool {
    what_is_missing(status).is_empty()
}

/// What keeps the world from being steady, in words.
fn what_is_missing(status: &StatusView) -> String {
    let mut missing: Vec<String> = Vec::new();
    let vantages = status.vantages.iter().filter(|v| v.state != VantageState::Reporting);
    missing.extend(vantages.map(|v| format!("{} is {}", v.agent, v.state)));
    for service in &status.services {
        let endpoints = service.endpoints.iter().filter(|e| e.verdict != VerdictState::Healthy);
        missing.extend(endpoints.map(|e| format!("{} in {} is {}", service.name, e.region, e.verdict)));
        if service.load == Load::Unknown {
            missing.push(format!("the load of {} is not known", service.name));
        }
    }
    let dns = status.dns.iter().filter(|d| !d.reachable || !d.behind.is_empty());
    missing
        .extend(dns.map(|d| format!("{} does not answer as it should: {}", d.instance, d.behind.join(", "))));
    if status.dns.is_empty() {
        missing.push("DNS was not asked yet".to_owned());
    }
    missing.join("; ")
}
