//! The zone's apex: its name, start of authority and name servers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{DnsName, NEGATIVE_TTL_SECONDS_MAX, TTL_SECONDS_MAX};

/// The fewest name servers of a zone: with one, its loss takes every name with it, and resolvers that serve
/// stale answers would freeze the old routing.
pub const NAME_SERVERS_MIN: usize = 2;

/// The most name servers of a zone, and addresses of one.
pub const NAME_SERVERS_MAX: usize = 13;

/// One name server of the zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameServer {
    /// Its name, inside the zone or outside.
    pub name: DnsName,
    /// Its addresses (glue): needed if the name is inside the zone, refused otherwise.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// The timers of the start of authority, in seconds. Nobody transfers this zone; they are for checkers' sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoaTimers {
    /// How often a secondary would ask for changes.
    pub refresh_seconds: u32,
    /// How soon it would ask again.
    pub retry_seconds: u32,
    /// When it would give up.
    pub expire_seconds: u32,
}

impl Default for SoaTimers {
    fn default() -> Self {
        // 4 h, 1 h, 14 d: the least that delegation checks are content with (Zonemaster's ZONE02 and ZONE04).
        Self { refresh_seconds: 4 * 3600, retry_seconds: 3600, expire_seconds: 14 * 24 * 3600 }
    }
}

/// What one zone is, apart from its record sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// The zone's name.
    pub origin: DnsName,
    /// The mailbox of whoever answers for it, written as a name.
    pub mailbox: DnsName,
    /// Its name servers, at least two; the first is the primary of the start of authority.
    pub name_servers: Vec<NameServer>,
    /// How long resolvers may keep the apex records, in seconds.
    pub ttl_seconds: u32,
    /// How long resolvers may keep "no such name", in seconds; at most 30.
    pub negative_ttl_seconds: u32,
    /// The start of authority's timers.
    #[serde(default)]
    pub soa: SoaTimers,
}

/// Why a zone can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidZone {
    /// Too few or too many name servers.
    #[error(
        "cannot serve zone {origin}: {found} name servers, need {NAME_SERVERS_MIN} to {NAME_SERVERS_MAX}"
    )]
    NameServers {
        /// Which zone.
        origin: DnsName,
        /// How many there are.
        found: usize,
    },
    /// One name server twice.
    #[error("cannot serve zone {origin}: name server {name} appears twice")]
    DuplicateNameServer {
        /// Which zone.
        origin: DnsName,
        /// Which name server.
        name: DnsName,
    },
    /// Glue is missing, out of place, or too much.
    #[error(
        "cannot serve zone {origin}: name server {name} has {found} addresses; one inside the zone \
         needs 1 to {NAME_SERVERS_MAX}, one outside none, and the zone's own name can't be one"
    )]
    Glue {
        /// Which zone.
        origin: DnsName,
        /// Which name server.
        name: DnsName,
        /// How many addresses it has.
        found: usize,
    },
    /// A time to live out of range.
    #[error("cannot serve zone {origin}: {field} is {seconds} s, at most {limit_seconds} s")]
    Ttl {
        /// Which zone.
        origin: DnsName,
        /// Which field.
        field: &'static str,
        /// Its value.
        seconds: u32,
        /// The most that is allowed.
        limit_seconds: u32,
    },
}

impl ZoneConfig {
    /// A zone with the usual times to live (apex 1 h, negative 30 s) and mailbox `hostmaster.<origin>`.
    ///
    /// # Errors
    /// As [`ZoneConfig::check`].
    pub fn new(origin: DnsName, name_servers: Vec<NameServer>) -> Result<Self, InvalidZone> {
        let mailbox = DnsName::parse(&format!("hostmaster.{origin}")).unwrap_or_else(|_| origin.clone());
        let zone = Self {
            origin,
            mailbox,
            name_servers,
            ttl_seconds: 3600,
            negative_ttl_seconds: NEGATIVE_TTL_SECONDS_MAX,
            soa: SoaTimers::default(),
        };
        zone.check()?;
        Ok(zone)
    }

    /// Can the zone be served?
    ///
    /// # Errors
    /// The first thing found that forbids it.
    pub fn check(&self) -> Result<(), InvalidZone> {
        let origin = || self.origin.clone();
        let found = self.name_servers.len();
        if !(NAME_SERVERS_MIN..=NAME_SERVERS_MAX).contains(&found) {
            return Err(InvalidZone::NameServers { origin: origin(), found });
        }
        let mut names = BTreeSet::new();
        for server in &self.name_servers {
            let name = server.name.clone();
            if !names.insert(&server.name) {
                return Err(InvalidZone::DuplicateNameServer { origin: origin(), name });
            }
            let inside = self.is_inside(&server.name);
            let found = server.addresses.len();
            if inside == (found == 0) || found > NAME_SERVERS_MAX || server.name == self.origin {
                return Err(InvalidZone::Glue { origin: origin(), name, found });
            }
        }
        for (field, seconds, limit_seconds) in [
            ("ttl_seconds", self.ttl_seconds, TTL_SECONDS_MAX),
            ("negative_ttl_seconds", self.negative_ttl_seconds, NEGATIVE_TTL_SECONDS_MAX),
        ] {
            if seconds > limit_seconds {
                return Err(InvalidZone::Ttl { origin: origin(), field, seconds, limit_seconds });
            }
        }
        Ok(())
    }

    /// Is a name the zone's or below it?
    #[must_use]
    pub fn is_inside(&self, name: &DnsName) -> bool {
        name.is_at_or_below(&self.origin)
    }
}
