//! `dns-failover`: from the end of a service in one region to the last answer that has its address.
//!
//! Everything is the product's own: agents that probe, a coordinator that decides, a DNS server that answers by weight. Each sample
//! is another service, whose process in one region is killed, or stops and takes no more connections. The peers check by
//! themselves and lose other services that end in the same ways. They take turns.

use super::health::{self, Addresses, CHECK_PATH, WEIGHTS};
use super::origin::{End, Origin};
use super::servers::{Server, name};
use super::watch::Watch;
use crate::disk;
use crate::error::{Attempt, Result, unexpected};
use crate::figure::{Bar, Figure, Scale};
use crate::figures::probe::targets::{Ports, Targets};
use crate::installation::Installation;
use crate::product::Role;
use crate::samples::Samples;
use crate::world::{Shape, http_check};
use drover_agent::identity::{CoordinatorUrl, Identity};
use drover_model::config::{Config, HealthCheck, HttpCheck};
use drover_model::{AgentId, RegionId, Span};
use serde::Deserialize;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const REGIONS: usize = 3;
const AGENTS: [&str; REGIONS] = ["agent-0", "agent-1", "agent-2"];
/// Services that end in each way, at each server.
const ROUNDS: usize = 11;
const INTERVAL: Span = Span::from_millis(200);
const THRESHOLD: u32 = 2;
/// Between two questions to DNS: an error that is small beside an interval.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Answers without the address for so long: it will not come back.
const QUIET: Duration = Duration::from_secs(1);

const KILLED_MS_MAX: f64 = 600.0;
/// Beyond two intervals and the timeout.
const HUNG_MS_BEYOND: f64 = 200.0;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("dns-failover", scale);
    let rounds = scale.of(ROUNDS, 1);
    let mut scenes = Scenes::start(2 * rounds).await?;
    let mut killed: [Samples; 3] = Default::default();
    let mut hung: [Samples; 3] = Default::default();
    for _ in 0..rounds {
        scenes.round(End::Killed, &mut killed).await?;
        scenes.round(End::Hung, &mut hung).await?;
    }
    let interval_ms = INTERVAL.as_millis() as f64;
    let hung_ms_max = 2.0 * interval_ms + interval_ms + HUNG_MS_BEYOND;
    for (what, samples, bar) in [("refused", &killed, KILLED_MS_MAX), ("dropped", &hung, hung_ms_max)] {
        let [drover, gdnsd, powerdns] = samples;
        let of = |what: &str| format!("to the last answer with it, connections {what}, median");
        figure.bar(of(what), drover.median_ms(), "ms", Bar::AtMost(bar));
        figure.told(format!("connections {what}, longest"), drover.percentile_ms(100.0), "ms");
        figure.told(format!("peer: gdnsd, by weight, connections {what}"), gdnsd.median_ms(), "ms");
        figure.told(
            format!("peer: PowerDNS, without weights, connections {what}"),
            powerdns.median_ms(),
            "ms",
        );
    }
    Ok(figure)
}

/// The servers, with everything that they need.
struct Scenes {
    // Roles go before the directories in which they write.
    scenes: [Scene; 3],
    _agents: Vec<Role>,
    _peers: [Server; 2],
    _world: Installation,
    _targets: Targets,
    _scratch: TempDir,
}

impl Scenes {
    async fn start(services: usize) -> Result<Self> {
        let scratch = disk::scratch()?;
        let directory = scratch.path();
        let targets = Targets::start(directory)?;
        let port = targets.ports.answers;
        let places: [Vec<Addresses>; 3] =
            [30, 31, 32].map(|net| (0..services).map(|n| addresses(net, n, targets.ports)).collect());
        // Services run before anybody looks at them.
        let mut origins = Vec::with_capacity(places.len());
        for places in &places {
            let started = places.iter().map(|at| Origin::start(directory, (at[0], port).into()));
            origins.push(started.collect::<Result<VecDeque<_>>>()?);
        }
        let [first, second, third] = places;
        let shape = Shape { regions: REGIONS, services, interval: INTERVAL, dns: None };
        let world = Installation::start(&shape, |config| place(config, &first, port))?;
        let gdnsd = health::gdnsd(directory, &second, port).await?;
        let powerdns = health::powerdns(directory, &third, port).await?;
        let agents = agents(&world, directory)?;
        world.become_well(&mut []).await?;
        let own: Vec<String> = world.config.services.values().map(|s| s.dns_name.clone()).collect();
        let theirs: Vec<String> = (0..services).map(name).collect();
        let mut origins = origins.into_iter();
        let mut scene = |query, places: Vec<Addresses>, names: &[String]| Scene {
            query,
            services: names.iter().cloned().zip(places.iter().map(|at| at[0])).collect(),
            origins: origins.next().unwrap_or_default(),
        };
        let scenes = [
            scene(world.query, first, &own),
            scene(gdnsd.address, second, &theirs),
            scene(powerdns.address, third, &theirs),
        ];
        let (_peers, _agents, _world, _targets) = ([gdnsd, powerdns], agents, world, targets);
        Ok(Self { scenes, _agents, _peers, _world, _targets, _scratch: scratch })
    }

    /// One service more ends at each server.
    async fn round(&mut self, how: End, samples: &mut [Samples; 3]) -> Result<()> {
        for (scene, samples) in self.scenes.iter_mut().zip(samples) {
            samples.add(scene.end_one(how).await?);
        }
        Ok(())
    }
}

/// A server, and the services that it answers for.
struct Scene {
    query: SocketAddr,
    /// Those that have not ended yet: names, and the address of the region that will end.
    services: VecDeque<(String, Ipv4Addr)>,
    origins: VecDeque<Origin>,
}

impl Scene {
    /// From the end of the next service to its last sighting.
    async fn end_one(&mut self, how: End) -> Result<Duration> {
        let (Some((name, address)), Some(origin)) = (self.services.pop_front(), self.origins.pop_front())
        else {
            return unexpected("no service is left");
        };
        let mut watch = Watch::new(self.query, &name, ASK_EVERY).await?;
        watch.until_seen(address).await?;
        let ended_at = Instant::now();
        let _ended = origin.end(how)?;
        let gone = watch.until_gone(address, QUIET).await?;
        Ok(gone.last_seen.saturating_duration_since(ended_at))
    }
}

/// Where service `number` is: the first region at an address of its own, the others where something always answers.
fn addresses(net: u8, number: usize, ports: Ports) -> Addresses {
    let last = u8::try_from(number).unwrap_or(u8::MAX).saturating_add(1);
    let always = |at| match ports.address(at).ip() {
        IpAddr::V4(four) => four,
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
    };
    [Ipv4Addr::new(127, 0, net, last), always(1), always(2)]
}

/// Puts the world's services there, probed as fast as the figure says.
fn place(config: &mut Config, places: &[Addresses], port: u16) {
    for (service, addresses) in config.services.values_mut().zip(places) {
        for ((endpoint, address), weight) in service.endpoints.values_mut().zip(addresses).zip(WEIGHTS) {
            (endpoint.address, endpoint.port, endpoint.weight) = (address.to_string(), port, Some(weight));
        }
        service.check = HealthCheck::Http(HttpCheck { path: CHECK_PATH.into(), ..http_check() });
        service.failover.failure_threshold = THRESHOLD;
    }
}

#[derive(Debug, Deserialize)]
struct AgentSaid {}

/// One in each region.
fn agents(world: &Installation, directory: &Path) -> Result<Vec<Role>> {
    let url: CoordinatorUrl = format!("http://{}", world.api).parse().attempt("make a URL")?;
    let start = |((agent, region), name): ((AgentId, RegionId), &'static str)| {
        let identity = Identity::new(agent, region, vec![url.clone()], directory.join(name));
        let file = directory.join(format!("{name}.yaml"));
        let text = serde_json::to_vec(&identity).attempt("write the agent's identity")?;
        std::fs::write(&file, text).attempt(format!("write {}", file.display()))?;
        let words: [&OsStr; 3] = ["agent".as_ref(), "--identity".as_ref(), file.as_os_str()];
        Role::drover::<AgentSaid>(&world.binary, name, directory, &words).map(|(role, _)| role)
    };
    world.config.agents().into_iter().zip(AGENTS).map(start).collect()
}
