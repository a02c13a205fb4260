//! Is it the world that is dark, or am I blind?
//!
//! The agent connects to references: addresses that have nothing to do with the services. When no reference answers and
//! no endpoint outside the own region did either, the agent says that it is blind, and a blind vantage is no witness.
//! One answer from anywhere outside is enough to see. Endpoints of the own region do not count, because they are reached
//! without the network that is in doubt.
//!
//! Without references the agent never claims to be blind: an agent that watches one dead region and nothing else could
//! not be told from one that lost its network, and its evidence counts as any other does, one voice of a quorum.
//!
//! The check runs on its interval, and at once when the last light outside goes out: otherwise an agent that just lost
//! its network could report three failures before it looks at itself.

use crate::ledger::Ledger;
use crate::probe::connect::reach;
use crate::roster::{Roster, Rosters};
use drover_model::probe::SelfCheck;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Time for a reference to accept a connection.
pub const REFERENCE_TIMEOUT: Duration = Duration::from_secs(1);

/// References looked at in one round, at most.
pub const REFERENCES_MAX: usize = 32;

/// Time between two rounds, at least, however suspicious things look.
pub const SELF_CHECK_GAP_MIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    references: u32,
    reached: u32,
}

/// What the last round of references gave.
#[derive(Debug, Default)]
pub struct Sight {
    last: Mutex<Round>,
}

impl Sight {
    /// The self-check as it stands, with what the probes saw meanwhile.
    #[must_use]
    pub fn now(&self, ledger: &Ledger) -> SelfCheck {
        let round = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        SelfCheck {
            references_reached: round.reached,
            references: round.references,
            blind: ledger.is_blind(),
        }
    }

    fn set(&self, round: Round) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = round;
    }
}

/// Checks for as long as the agent runs.
pub async fn run(rosters: Arc<Rosters>, ledger: Arc<Ledger>, sight: Arc<Sight>, shutdown: CancellationToken) {
    let mut lists = rosters.subscribe();
    loop {
        let roster = lists.borrow_and_update().clone();
        let began = Instant::now();
        let next = match &roster {
            Some(roster) => {
                let round = look(roster).await;
                sight.set(round);
                ledger.set_dark(round.references > 0 && round.reached == 0);
                Some(began + roster.list.reference_interval.to_duration().max(SELF_CHECK_GAP_MIN))
            }
            None => None,
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = lists.changed() => if changed.is_err() { return },
            () = until(next) => {}
            () = lights_out(&ledger, began) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Not while it stays dark: the references are other people's machines.
async fn lights_out(ledger: &Ledger, last_round: Instant) {
    ledger.lights_out().await;
    sleep_until(last_round + SELF_CHECK_GAP_MIN).await;
}

async fn look(roster: &Roster) -> Round {
    let source = roster.list.source_address;
    let mut asked = JoinSet::new();
    for &reference in roster.list.references.iter().take(REFERENCES_MAX) {
        asked.spawn(answers(reference, source));
    }
    let references = u32::try_from(asked.len()).unwrap_or(u32::MAX);
    let answers = asked.join_all().await;
    let reached = answers.into_iter().filter(|&a| a).count();
    Round { references, reached: u32::try_from(reached).unwrap_or(u32::MAX) }
}

/// A refusal is no answer: this machine's own packet filter may have sent it.
async fn answers(reference: SocketAddr, source: Option<IpAddr>) -> bool {
    match timeout(REFERENCE_TIMEOUT, reach(reference, source)).await {
        Ok(Ok(())) => true,
        Ok(Err(failure)) => {
            tracing::debug!(%reference, detail = %failure.detail, "a reference did not answer");
            false
        }
        Err(_) => false,
    }
}
