//! One client's resolver cache, and the sockets through which all of them ask.

use drover_dns::resolver::{QueryType, Rcode, Resolver};
use drover_dns::zone::DnsName;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Sockets shared by all clients: a question holds one for well below a millisecond.
const SOCKETS: usize = 8;
/// For one question, waiting for a socket included.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(400);
/// Without an answer the old address is used, and DNS asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The sockets.
pub struct Questions {
    resolvers: Vec<Mutex<Resolver>>,
}

impl Questions {
    /// Opens them.
    ///
    /// # Errors
    /// When the system has none.
    pub async fn open(server: SocketAddr) -> std::io::Result<Self> {
        let mut resolvers = Vec::with_capacity(SOCKETS);
        for _ in 0..SOCKETS {
            resolvers.push(Mutex::new(Resolver::connect(server).await?));
        }
        Ok(Self { resolvers })
    }

    /// An address for `name` and how long it may be kept.
    async fn ask(&self, name: &DnsName) -> Option<(IpAddr, Duration)> {
        let resolver = &self.resolvers[fastrand::usize(..self.resolvers.len())];
        let asking = async {
            let answer = resolver.lock().await.resolve(name, QueryType::A, QUESTION_TIMEOUT).await.ok()?;
            // As clients do: of several any.
            let addresses = answer.addresses();
            let address = *addresses.get(fastrand::usize(..addresses.len().max(1)))?;
            let ttl = Duration::from_secs(answer.ttl_seconds.into());
            (answer.rcode == Rcode::NOERROR).then_some((address, ttl))
        };
        tokio::time::timeout(QUESTION_TIMEOUT, asking).await.ok().flatten()
    }
}

/// One client's entry.
#[derive(Debug, Default)]
pub struct Cache {
    entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: IpAddr,
    until: Instant,
}

impl Cache {
    /// The address to use now, and whether it is stale: DNS did not answer, so that the old address must do, as resolvers
    /// do (RFC 8767). Nothing before the first answer. A client that `keeps` never asks twice.
    pub async fn address(
        &mut self,
        name: &DnsName,
        keeps: bool,
        questions: &Questions,
    ) -> Option<(IpAddr, bool)> {
        let now = Instant::now();
        if let Some(entry) = self.entry
            && (keeps || now < entry.until)
        {
            return Some((entry.address, false));
        }
        // Counted from before the question: an answer on its way grows old, too.
        match questions.ask(name).await {
            Some((address, ttl)) => {
                self.entry = Some(Entry { address, until: now + ttl });
                Some((address, false))
            }
            None => {
                let entry = self.entry.as_mut()?;
                entry.until = now + ASK_AGAIN;
                Some((entry.address, true))
            }
        }
    }
}
