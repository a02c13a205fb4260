//! Asks a server the same question again and again, until an address is gone from its answers.

use crate::error::{Attempt, Result, unexpected};
use drover_dns::resolver::{QueryType, Resolver};
use drover_dns::zone::DnsName;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A guard against hanging.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// One name at one server.
pub struct Watch {
    resolver: Resolver,
    name: DnsName,
    /// Between two questions; none: the next as soon as one is answered.
    every: Duration,
}

/// How an address went.
pub struct Gone {
    /// When the last answer that had it came.
    pub last_seen: Instant,
    /// When the first answer after that one came.
    pub after: Instant,
}

impl Watch {
    /// Asks `server` for the addresses of `name`.
    pub async fn new(server: SocketAddr, name: &str, every: Duration) -> Result<Self> {
        let resolver = Resolver::connect(server).await.attempt("open a socket to DNS")?;
        Ok(Self { resolver, name: DnsName::parse(name).attempt("name a service")?, every })
    }

    /// Asks until it is answered with `address`.
    pub async fn until_seen(&mut self, address: Ipv4Addr) -> Result<()> {
        let began = Instant::now();
        while !self.answers(address).await? {
            if began.elapsed() > GONE_WITHIN {
                return unexpected(format!("{} is not answered with {address}", self.name.as_str()));
            }
            self.pause().await;
        }
        Ok(())
    }

    /// Asks until no answer has had `address` for as long as `quiet`.
    pub async fn until_gone(&mut self, address: Ipv4Addr, quiet: Duration) -> Result<Gone> {
        let began = Instant::now();
        let mut gone = Gone { last_seen: began, after: began };
        loop {
            let is_seen = self.answers(address).await?;
            let now = Instant::now();
            if is_seen {
                gone = Gone { last_seen: now, after: now };
            } else if gone.after == gone.last_seen {
                gone.after = now;
            } else if now - gone.last_seen > quiet {
                return Ok(gone);
            }
            if began.elapsed() > GONE_WITHIN {
                return unexpected(format!("{} is still answered with {address}", self.name.as_str()));
            }
            self.pause().await;
        }
    }

    /// Does one answer have this address? One without any is no answer.
    async fn answers(&mut self, address: Ipv4Addr) -> Result<bool> {
        let answer = self.resolver.resolve(&self.name, QueryType::A, ASK_TIMEOUT).await.attempt("ask DNS")?;
        let addresses = answer.addresses();
        if addresses.is_empty() {
            return unexpected(format!("{} is answered with nothing", self.name.as_str()));
        }
        Ok(addresses.contains(&address.into()))
    }

    async fn pause(&self) {
        if !self.every.is_zero() {
            tokio::time::sleep(self.every).await;
        }
    }
}
