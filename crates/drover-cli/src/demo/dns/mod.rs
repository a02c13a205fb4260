//! Who answers DNS in the sample world: drover's own server, or one that is installed on this machine.

mod journal;
mod powerdns;
mod zone_server;

pub use zone_server::{ZoneServerKind, lay_out, recipe, until_it_answers};

use super::api::Api;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use clap::ValueEnum;
use drover_model::Span;
use drover_model::config::{Config, DnsServers, Rfc2136Dns, TsigAlgorithm, TsigKey, ZoneServer};
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
    /// PowerDNS Authoritative (`pdns_server`) with SQLite, by dynamic updates.
    #[value(name = "powerdns")]
    PowerDns,
}

impl DnsChoice {
    /// The server that is not drover's, if it is one.
    pub const fn other(self) -> Option<ZoneServerKind> {
        match self {
            Self::Embedded => None,
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
pub fn replace(config: &mut Config, at: &Path) -> Result<()> {
    let Some(dns) = &mut config.settings.dns else { return Ok(()) };
    let Some(own) = dns.embedded().and_then(|own| own.instances.first()) else { return Ok(()) };
    let query = free_address()?;
    let servers = vec![ZoneServer { name: own.name.clone(), query }];
    let key = TsigKey {
        name: zone_server::KEY_NAME.to_owned(),
        algorithm: TsigAlgorithm::HmacSha256,
        secret_file: zone_server::secret_file(at),
    };
    dns.servers = DnsServers::Rfc2136(Rfc2136Dns { primary: query, servers, key, timeout: TIMEOUT });
    let split = dns.split();
    config.services.values_mut().for_each(|s| s.split = split);
    Ok(())
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
    let mut applied = BTreeMap::new();
    match choice.other() {
        Some(kind) => {
            for change in journal::registered(kind, at, zone)? {
                *applied.entry(change).or_default() += 1;
            }
        }
        None => {
            for change in api.dns_changes().await?.into_iter().flat_map(|batch| batch.changes) {
                let generation = change.to_generation.unwrap_or(0);
                *applied.entry(format!("{} generation {generation}", change.key)).or_default() += 1;
            }
        }
    }
    Ok(applied)
}
