//! The users: many independent resolver caches, each of which honours the TTL, and real requests all the time.
//!
//! Each client has a cache entry of its own, asks the world's DNS instance when it runs out, and sends a real request over
//! a new connection to the address that it holds. Nothing is shared but a few sockets for the questions: an answer that
//! one client gets is not seen by another. So traffic follows DNS the way it does outside, by caches running out one
//! after the other.
//!
//! Beside them the control group: clients that keep their first address for ever, as if nobody had changed DNS. What
//! happens to them is what would have happened to all, in the same minutes.

mod cache;
mod ledger;

pub use ledger::{Counts, Group, Ledger, Shot};

use super::exchange::{Ask, ask};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use cache::{Cache, Questions};
use drover_dns::zone::DnsName;
use drover_model::RegionId;
use drover_model::config::{Config, Service};
use hyper::Method;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Clients that follow DNS.
pub const FOLLOWERS: usize = 520;
/// Clients of the control group.
pub const CONTROLS: usize = 120;
/// Mean pause between two requests of a client; each pause is drawn from half of it to one and a half of it. All clients
/// together send each service 270 requests a second, a little less than its declared peak of 300. Two regions may carry
/// 450: a machine that stops for half a second, after which late requests come with new ones, is no overload.
const PERIOD: Duration = Duration::from_millis(1_200);
/// A user's patience.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What a client needs to know of a service.
struct Target {
    name: DnsName,
    host: String,
    port: u16,
    regions: BTreeMap<IpAddr, RegionId>,
}

impl Target {
    fn of(service: &Service) -> Result<Self> {
        let failed = |e: &(dyn std::error::Error + 'static)| {
            Failure::because(ExitCode::Internal, format!("can't make clients of {}", service.name), e)
        };
        let name = service.dns_name.parse().map_err(|e: drover_dns::zone::InvalidName| failed(&e))?;
        let port = service.endpoints.values().next().map_or(0, |e| e.port);
        let mut regions = BTreeMap::new();
        for endpoint in service.endpoints.values() {
            let address = endpoint.address.parse().map_err(|e: std::net::AddrParseError| failed(&e))?;
            regions.insert(address, endpoint.region.clone());
        }
        Ok(Self { name, host: service.dns_name.clone(), port, regions })
    }
}

/// All clients of a world. They end when this is dropped.
pub struct Crowd {
    /// What happened to them.
    pub ledger: Arc<Ledger>,
    targets: Vec<Arc<Target>>,
    questions: Arc<Questions>,
    followers: JoinSet<()>,
    controls: JoinSet<()>,
}

impl Crowd {
    /// Lets the clients loose, evenly over services and over their first period.
    ///
    /// # Errors
    /// When they can't be made.
    pub async fn start(config: &Config, dns: SocketAddr) -> Result<Self> {
        let targets: Vec<Arc<Target>> =
            config.services.values().map(|s| Target::of(s).map(Arc::new)).collect::<Result<_>>()?;
        let failed =
            |e| Failure::because(ExitCode::Internal, "can't open sockets for the clients' questions", &e);
        let questions = Arc::new(Questions::open(dns).await.map_err(failed)?);
        let (followers, controls) = (JoinSet::new(), JoinSet::new());
        let mut crowd = Self { ledger: Arc::new(Ledger::default()), targets, questions, followers, controls };
        crowd.admit(Group::Follower, FOLLOWERS);
        crowd.admit(Group::Control, CONTROLS);
        Ok(crowd)
    }

    /// The control group ends, and so many more clients that follow DNS come.
    pub fn turn_over(&mut self, more: usize) {
        self.controls.abort_all();
        self.admit(Group::Follower, more);
    }

    /// Lets clients loose, evenly over services and over their first period.
    fn admit(&mut self, group: Group, clients: usize) {
        let tasks = if group == Group::Control { &mut self.controls } else { &mut self.followers };
        for (number, target) in (0..clients).zip(self.targets.iter().cycle()) {
            let client = Client { group, target: target.clone(), cache: Cache::default() };
            let share = u32::try_from(number).unwrap_or(0);
            let first = PERIOD * share / u32::try_from(clients).unwrap_or(1);
            tasks.spawn(client.live(first, self.questions.clone(), self.ledger.clone()));
        }
    }
}

struct Client {
    group: Group,
    target: Arc<Target>,
    cache: Cache,
}

impl Client {
    async fn live(mut self, first: Duration, questions: Arc<Questions>, ledger: Arc<Ledger>) {
        tokio::time::sleep(first).await;
        loop {
            let pause = PERIOD.mul_f64(0.5 + fastrand::f64());
            let next = tokio::time::Instant::now() + pause;
            // Without any address yet there is nobody to ask; no request was made, so that none has failed.
            if let Some(shot) = self.once(&questions).await {
                ledger.record(shot);
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn once(&mut self, questions: &Questions) -> Option<Shot> {
        let keeps = self.group == Group::Control;
        let (address, stale) = self.cache.address(&self.target.name, keeps, questions).await?;
        let region = self.target.regions.get(&address)?.clone();
        let at = crate::output::now();
        let asked = Ask {
            address: SocketAddr::new(address, self.target.port),
            host: &self.target.host,
            method: &Method::GET,
            path: "/",
            body: "",
            key: None,
            timeout: TIMEOUT,
        };
        let ok = ask(asked).await.is_ok_and(|(status, _)| status.is_success());
        Some(Shot { at, ended_at: crate::output::now(), region, group: self.group, ok, stale })
    }
}
