//! The sample world as this run of it has it: the shipped files, every duration divided by one factor, addresses and ports
//! of its own.
//!
//! The shipped addresses say `127.0.A.B`; a run draws a number R and lives on `127.R.A.B`, on ports that were free a
//! moment ago. So two demos, or a demo and whatever else uses the shipped ports, do not meet.

use super::dns::DnsChoice;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::{Config, DnsInstance, DnsSettings, encode};
use drover_model::{RequestsPerSecond, ServiceId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

/// The shipped files, so that a world can be made anywhere.
const FILES: [(&str, &str); 6] = [
    ("regions/ap-south.yaml", include_str!("../../../../regions/ap-south.yaml")),
    ("regions/eu-west.yaml", include_str!("../../../../regions/eu-west.yaml")),
    ("regions/services.yaml", include_str!("../../../../regions/services.yaml")),
    ("regions/settings.yaml", include_str!("../../../../regions/settings.yaml")),
    ("regions/us-east.yaml", include_str!("../../../../regions/us-east.yaml")),
    ("regions/witness.yaml", include_str!("../../../../regions/witness.yaml")),
];

/// Every duration of the shipped policy is divided by this: 30 s between probes become 1 s, a TTL of 30 s the 1 s that DNS
/// can still say.
pub const FACTOR: u64 = 30;

/// Past this the probes' timeouts (5 s) are shorter than a busy machine's hiccups.
pub const FACTOR_MAX: u64 = 50;

/// Ports are drawn from here: below what the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Draws until a free port must have been among them.
const DRAWS_MAX: usize = 200;

/// What a world is made with.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The factor.
    pub factor: u64,
    /// Endpoints of this service get another capacity.
    pub capacity: Option<(ServiceId, RequestsPerSecond)>,
    /// Command that takes pages.
    pub on_page: Option<Vec<String>>,
    /// Directory of other runbooks than those that are shipped.
    pub runbooks: Option<PathBuf>,
    /// Who answers DNS.
    pub dns: DnsChoice,
    /// Neither coordinator nor agents.
    pub only_services: bool,
}

/// The shipped world, as it is written.
///
/// # Errors
/// Only if this build ships files that are wrong.
pub fn shipped() -> Result<Config> {
    let files: Vec<SourceFile> = FILES.iter().map(|(name, text)| SourceFile::new(*name, *text)).collect();
    match decode::load(&files) {
        Ok(loaded) => Ok(loaded.config),
        Err(diagnostics) => {
            let mut failure = Failure::new(ExitCode::Internal, "the shipped sample world is wrong");
            failure.diagnostics = diagnostics;
            Err(failure)
        }
    }
}

/// Divides the waits of a failback (stable hold and soak) by `times` more than everything else, and its validation window by
/// half of that. Nothing that counts or compares is changed, and nothing that recurs: the same probes, samples and bounds.
pub fn hasten(config: &mut Config, times: u64) {
    for service in config.services.values_mut() {
        let policy = &mut service.failover;
        for wait in [&mut policy.failback.stable_hold, &mut policy.soak] {
            *wait = wait.divided_by(times);
        }
        service.validation.window = service.validation.window.divided_by(times / 2);
    }
}

/// A world of this kind, on addresses and ports of its own.
///
/// # Errors
/// When no free ports are found.
pub fn world(wanted: &Wanted) -> Result<Config> {
    let mut config = drover_model::config::scale(&shipped()?, wanted.factor);
    if let Some((service, capacity)) = &wanted.capacity
        && let Some(service) = config.services.get_mut(service)
    {
        service.endpoints.values_mut().for_each(|e| e.capacity = *capacity);
    }
    config.settings.paging.on_page.clone_from(&wanted.on_page);
    if wanted.dns == DnsChoice::Embedded {
        add_server(&mut config);
    }
    settle(&mut config)?;
    Ok(config)
}

/// A second DNS server, which keeps the first company: two that catch up with each other.
fn add_server(config: &mut Config) {
    let Some(own) = config.settings.dns.as_mut().and_then(DnsSettings::embedded_mut) else { return };
    let Some(first) = own.instances.first() else { return };
    let beside = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
    let (control, query) = (beside(first.control), beside(first.query));
    own.instances.push(DnsInstance { name: "dns-2".into(), control, query });
}

/// The written form, for the coordinator's directory.
pub fn text(config: &Config) -> String {
    encode::to_yaml(config)
}

/// Moves the whole world to `127.R` and to free ports.
fn settle(config: &mut Config) -> Result<()> {
    let mut settler = Settler { base: fastrand::u8(1..=254), ports: BTreeMap::new(), taken: BTreeSet::new() };
    for agent in config.regions.values_mut().flat_map(|r| r.agents.iter_mut()) {
        if let Some(address) = &mut agent.source_address {
            *address = settler.address(*address);
        }
    }
    for service in config.services.values_mut() {
        let mut addresses = Vec::new();
        for endpoint in service.endpoints.values_mut() {
            if let Ok(address) = endpoint.address.parse() {
                let moved = settler.address(address);
                endpoint.address = moved.to_string();
                addresses.push((moved, endpoint.port));
            }
        }
        // Clients know one port a service, so that it must be free wherever that service is.
        for endpoint in service.endpoints.values_mut() {
            let there: Vec<IpAddr> =
                addresses.iter().filter(|(_, port)| *port == endpoint.port).map(|(a, _)| *a).collect();
            endpoint.port = settler.port(endpoint.port, &there)?;
        }
    }
    let settings = &mut config.settings;
    settings.listen = settler.socket(settings.listen)?;
    for reference in &mut settings.vantage.references {
        *reference = settler.socket(*reference)?;
    }
    if let Some(dns) = settings.dns.as_mut().and_then(DnsSettings::embedded_mut) {
        for (_, address) in &mut dns.nameservers {
            *address = settler.address(*address);
        }
        for instance in &mut dns.instances {
            instance.control = settler.socket(instance.control)?;
            instance.query = settler.socket(instance.query)?;
        }
    }
    Ok(())
}

struct Settler {
    base: u8,
    /// Shipped port to the one that stands for it.
    ports: BTreeMap<u16, u16>,
    taken: BTreeSet<u16>,
}

impl Settler {
    fn address(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => {
                let [_, _, a, b] = v4.octets();
                IpAddr::V4(Ipv4Addr::new(127, self.base, a, b))
            }
            other => other,
        }
    }

    fn socket(&mut self, address: SocketAddr) -> Result<SocketAddr> {
        let ip = self.address(address.ip());
        Ok(SocketAddr::new(ip, self.port(address.port(), &[ip])?))
    }

    fn port(&mut self, shipped: u16, addresses: &[IpAddr]) -> Result<u16> {
        if let Some(port) = self.ports.get(&shipped) {
            return Ok(*port);
        }
        for _ in 0..DRAWS_MAX {
            let port = fastrand::u16(PORTS);
            if !self.taken.contains(&port) && addresses.iter().all(|a| is_free(SocketAddr::new(*a, port))) {
                self.taken.insert(port);
                self.ports.insert(shipped, port);
                return Ok(port);
            }
        }
        let message = format!("no free port among {DRAWS_MAX} drawn from {} to {}", PORTS.start, PORTS.end);
        Err(Failure::new(ExitCode::Failed, message))
    }
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Span;

    fn wanted() -> Wanted {
        Wanted {
            factor: FACTOR,
            capacity: None,
            on_page: None,
            runbooks: None,
            dns: DnsChoice::Embedded,
            only_services: false,
        }
    }

    #[test]
    fn a_world_is_what_is_shipped_but_for_time_and_place() {
        let (shipped, world) = (shipped().unwrap(), world(&wanted()).unwrap());
        for (before, after) in shipped.services.values().zip(world.services.values()) {
            assert_eq!(after.interval, Span::from_secs(1));
            assert_eq!(after.ttl, Span::from_secs(1));
            let (b, a) = (&before.failover, &after.failover);
            assert_eq!(
                (a.automatic, a.failure_threshold, a.max_unavailable_regions, a.headroom),
                (b.automatic, b.failure_threshold, b.max_unavailable_regions, b.headroom),
                "a guard was weakened"
            );
            let ports: BTreeSet<u16> = after.endpoints.values().map(|e| e.port).collect();
            assert_eq!(ports.len(), 1, "clients know one port a service");
            for endpoint in after.endpoints.values() {
                let agents = &world.regions[&endpoint.region].agents;
                assert_eq!(agents[0].source_address.unwrap().to_string(), endpoint.address);
            }
        }
    }

    #[test]
    fn a_world_is_written_and_read_again_as_it_is() {
        let mut wanted = wanted();
        wanted.capacity = Some((ServiceId::new("checkout").unwrap(), RequestsPerSecond(150)));
        wanted.on_page = Some(vec!["tee".into(), "/tmp/pages".into()]);
        let config = world(&wanted).unwrap();
        let again = decode::load(&[SourceFile::new("world.yaml", text(&config))]).unwrap();
        assert_eq!(again.config, config);
    }

    #[test]
    fn the_largest_factor_still_is_a_valid_world() {
        let config = world(&Wanted { factor: FACTOR_MAX, ..wanted() }).unwrap();
        assert!(decode::load(&[SourceFile::new("world.yaml", text(&config))]).is_ok());
    }
}
