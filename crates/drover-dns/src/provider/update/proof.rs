//! Do the servers of a zone run the programs of LUA records? PowerDNS takes such records whether it does or not, and one that
//! doesn't answers nothing at all for a name of theirs. So before a name's first one is put, every server must answer one that nobody
//! depends on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use drover_model::config::ZoneServer;
use futures::future::join_all;

use super::DynamicUpdates;
use super::live::Live;
use super::lua::{PROOF, proof, proof_name};
use super::message::{Records, Step};
use crate::provider::ProviderError;
use crate::provider::marks::FENCE_TTL_SECONDS;
use crate::provider::wanted::Wanted;
use crate::resolver::{QueryType, resolve};
use crate::zone::DnsName;

/// Between two questions to a server that has not followed yet.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What a server showed.
enum Shown {
    Runs,
    DoesNot,
    Silent,
}

/// Will this name be answered by a program for the first time?
pub(super) fn is_first(wanted: &Wanted<'_>, live: &Live) -> bool {
    wanted.set.is_some() && live.programs.is_some() && live.own_programs().is_empty()
}

/// What makes the record of the proof stand; nothing, where it does.
pub(super) fn step(stands: Records) -> Option<Step> {
    let to = proof(stands.name.clone(), FENCE_TTL_SECONDS);
    (stands.rdata != to.rdata).then_some(Step { from: stands, to })
}

impl DynamicUpdates {
    /// Every server that can be asked runs programs, and one at least can be.
    pub(super) async fn check_programs(&self) -> Result<(), ProviderError> {
        let name = proof_name(&self.zone).map_err(|e| self.refused("invalid", &e))?;
        let servers = &self.settings.servers;
        let asked = servers.iter().map(async |server| (server, self.shown(server.query, &name).await));
        let shown = join_all(asked).await;
        let called = |(server, _): &(&ZoneServer, Shown)| server.name.clone();
        let lame: Vec<String> =
            shown.iter().filter(|(_, s)| matches!(s, Shown::DoesNot)).map(called).collect();
        if !lame.is_empty() {
            return Err(self.not_now(format!(
                "{} does not answer {name} TXT, so it runs no LUA records and would answer nothing: it needs \
                 enable-lua-records=shared, and to follow the primary",
                lame.join(", ")
            )));
        }
        if shown.iter().all(|(_, s)| matches!(s, Shown::Silent)) {
            return Err(self.not_now("no server can be asked whether it runs LUA records"));
        }
        Ok(())
    }

    /// What one shows, once it has followed the primary, or the time for one exchange is over.
    async fn shown(&self, server: SocketAddr, name: &DnsName) -> Shown {
        let (began, timeout) = (Instant::now(), self.primary.timeout);
        loop {
            match resolve(server, name, QueryType::Txt, timeout).await {
                Ok(answer) if answer.values.iter().any(|text| text == PROOF) => return Shown::Runs,
                Ok(_) if began.elapsed() < timeout && server != self.primary.server => {
                    tokio::time::sleep(ASK_EVERY).await;
                }
                Ok(_) => return Shown::DoesNot,
                Err(_) => return Shown::Silent,
            }
        }
    }
}
