//! Who answers DNS in the sample world: drover's own server, or one that is installed on this machine.

mod hosted;
mod journal;
mod powerdns;
mod zone_server;

use super::api::Api;
use super::process::Recipe;
use zone_server::ZoneServerKind;

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use clap::ValueEnum;
use drover_dns::publish::AppliedChange;
use drover_model::Span;
use drover_model::config::{
    Config, DnsServers, Rfc2136Dns, Route53Dns, TsigAlgorithm, TsigKey, WeightRecords, ZoneServer,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

/// For one exchange with a server on this machine.
const TIMEOUT: Span = Span::from_secs(2);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DnsChoice {
    /// Drover's own server.
    Embedded,
    /// BIND (`named`), by dynamic updates.
    Bind,
    /// Knot DNS (`knotd`), by dynamic updates.
    Knot,
    /// PowerDNS Authoritative (`pdns_server`) with SQLite, by dynamic updates of LUA records.
    #[value(name = "powerdns")]
    PowerDns,
    /// Amazon Route 53, played by moto, with PowerDNS as its name server.
    Route53,
}

impl DnsChoice {
    /// Do its servers answer by weight?
    pub const fn has_weights(self) -> bool {
        matches!(self, Self::Embedded | Self::PowerDns | Self::Route53)
    }

    /// The server that takes dynamic updates, if it is one.
    const fn zone_server(self) -> Option<ZoneServerKind> {
        match self {
            Self::Embedded | Self::Route53 => None,
            Self::Bind => Some(ZoneServerKind::Bind),
            Self::Knot => Some(ZoneServerKind::Knot),
            Self::PowerDns => Some(ZoneServerKind::PowerDns),
        }
    }
}

/// Puts another server where drover's own would be.
///
/// # Errors
/// When no port is free.
pub fn replace(choice: DnsChoice, config: &mut Config, at: &Path) -> Result<()> {
    let Some(dns) = &mut config.settings.dns else { return Ok(()) };
    let Some(own) = dns.embedded().and_then(|own| own.instances.first()) else { return Ok(()) };
    let query = free_address()?;
    let servers = vec![ZoneServer { name: own.name.clone(), query }];
    dns.servers = match choice {
        DnsChoice::Embedded => return Ok(()),
        DnsChoice::Route53 => DnsServers::Route53(hosted::settings(servers, free_address()?, at)),
        DnsChoice::Bind | DnsChoice::Knot | DnsChoice::PowerDns => {
            let key = TsigKey {
                name: zone_server::KEY_NAME.to_owned(),
                algorithm: TsigAlgorithm::HmacSha256,
                secret_file: zone_server::secret_file(at),
            };
            let weights = (choice == DnsChoice::PowerDns).then_some(WeightRecords::Lua);
            DnsServers::Rfc2136(Rfc2136Dns { primary: query, servers, key, timeout: TIMEOUT, weights })
        }
    };
    let split = dns.split();
    config.services.values_mut().for_each(|s| s.split = split);
    Ok(())
}

/// Writes what the server reads, where it is not drover's.
///
/// # Errors
/// When a file can't be written, or a server is not installed.
pub fn lay_out(choice: DnsChoice, config: &Config, at: &Path) -> Result<()> {
    match (choice, choice.zone_server()) {
        (DnsChoice::Route53, _) => hosted::lay_out(config, at),
        (_, Some(kind)) => zone_server::lay_out(kind, at, config),
        (_, None) => Ok(()),
    }
}

/// What changes go through on their way to the server, where it is a process of its own; to be started before.
pub fn provider(choice: DnsChoice, config: &Config, at: &Path) -> Option<Recipe> {
    (choice == DnsChoice::Route53).then(|| hosted::api(config, at))
}

/// How a server that is not drover's is started.
pub fn recipe(choice: DnsChoice, at: &Path) -> Option<Recipe> {
    match choice {
        DnsChoice::Route53 => Some(hosted::name_server(at)),
        _ => choice.zone_server().map(|kind| zone_server::recipe(kind, at)),
    }
}

/// Waits until a server that is not drover's answers for the zone.
///
/// # Errors
/// When it does not in time.
pub async fn until_it_answers(choice: DnsChoice, config: &Config) -> Result<()> {
    let kind =
        if choice == DnsChoice::Route53 { Some(ZoneServerKind::PowerDns) } else { choice.zone_server() };
    match kind {
        Some(kind) => zone_server::until_it_answers(kind.program(), config).await,
        None => Ok(()),
    }
}

/// An address that is free for UDP and TCP now; the server takes it in a moment. BIND listens on addresses that an interface
/// has, which of 127.0.0.0/8 is one.
fn free_address() -> Result<SocketAddr> {
    const DRAWS_MAX: usize = 100;
    let drawn = || {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let address = udp.local_addr().ok()?;
        TcpListener::bind(address).is_ok().then_some(address)
    };
    let found = std::iter::repeat_with(drawn).take(DRAWS_MAX).flatten().next();
    found.ok_or_else(|| Failure::new(ExitCode::Internal, "no port is free for a DNS server"))
}

/// How often each generation of each record set was applied, by the server's own account.
///
/// # Errors
/// When it gives none.
pub async fn applied(choice: DnsChoice, api: &Api, at: &Path, zone: &str) -> Result<BTreeMap<String, u32>> {
    let changes = match choice {
        DnsChoice::Route53 => hosted::applied(at)?,
        DnsChoice::Embedded => {
            let changes = api.dns_changes().await?.into_iter().flat_map(|batch| batch.changes);
            let told = |c: AppliedChange| format!("{} generation {}", c.key, c.to_generation.unwrap_or(0));
            changes.map(told).collect()
        }
        DnsChoice::Bind | DnsChoice::Knot | DnsChoice::PowerDns => match choice.zone_server() {
            Some(kind) => journal::registered(kind, at, zone)?,
            None => vec![],
        },
    };
    let mut applied = BTreeMap::new();
    for change in changes {
        *applied.entry(change).or_default() += 1;
    }
    Ok(applied)
}
