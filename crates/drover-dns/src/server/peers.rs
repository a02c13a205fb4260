//! Asks other instances what they have, at the start and then again and again, so that an instance that missed a publication
//! catches up when no coordinator is there to repeat it.
//!
//! Whom it can't ask it goes on without: nothing here withdraws an answer, and nothing waits for a peer but a start, for
//! [`PEERS_AT_START_MAX`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drover_model::Epoch;
use futures::future::join_all;
use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::counters::{PeerCounters, increment};
use super::readiness::Has;
use crate::background::in_tracked_background;
use crate::provider::control_client::{self, Allowed, CallError};
use crate::publish::{
    BUCKETS, GONE_KEPT_MAX, PeerState, PublicKey, ReadPage, RefusedOffer, TRUSTED_KEYS_MAX, Taken,
    TrustedKeys, UnreadPage, WhyRefused,
};
use crate::zone::{RECORD_SETS_MAX, RecordKey};

/// How long a start waits for peers, at most: longer than any round trip on Earth takes, shorter than a resolver's patience.
pub const PEERS_AT_START_MAX: Duration = Duration::from_secs(2);

/// The most peers of an instance.
pub const PEERS_MAX: usize = 32;

/// How often peers are asked, where nothing else is configured.
pub const PEER_INTERVAL: Duration = Duration::from_secs(2);

/// How often they may be asked: below the first they are busy with it, above the second nobody would notice that it works.
pub const PEER_INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));

/// For one request to a peer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// For all that one round asks of a peer: a zone of 100,000 record sets is some 500 requests.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);

/// Of the time of a round the pages may take this part, so that what they brought is taken within it.
const FETCHING: f64 = 0.75;

/// One reply of a peer, at most: a page is 1 MiB, or one record set as large as a batch can be.
const REPLY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// So many pages are taken together: names that are new cost a look at the whole zone each time.
const PAGES_AT_ONCE: usize = 16;

/// What an instance can hold; a peer that has more leads in circles.
const OFFERS_MAX: usize = RECORD_SETS_MAX + GONE_KEPT_MAX;

/// What is refused is logged one by one up to here; of more in one round, how many they are.
const REFUSALS_LOGGED_MAX: usize = 4;

/// Another instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name, for messages.
    pub name: String,
    /// Its listener for peers, or its control listener where that can be reached.
    pub control: SocketAddr,
}

/// Whose signatures an instance trusts, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peering {
    /// The keys; none: whatever comes by the control listener is taken, and peers are not asked.
    pub trusted_keys: Vec<PublicKey>,
    /// The other instances.
    pub peers: Vec<Peer>,
    /// How often they are asked. Each pause is up to a quarter longer or shorter, so that many don't ask one at once.
    pub interval: Duration,
    /// Where peers on other machines ask this one; none: on the control listener only, which is this machine's.
    pub listen: Option<SocketAddr>,
}

impl Default for Peering {
    fn default() -> Self {
        Self { trusted_keys: vec![], peers: vec![], interval: PEER_INTERVAL, listen: None }
    }
}

/// Why an instance can't be run with these keys and peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeeringError {
    /// Whatever a peer says would have to be believed.
    #[error(
        "`peers` and `peer_listen` need `trusted_keys`: without a key nothing that a peer says could be believed"
    )]
    NoKeys,
    /// Too many keys.
    #[error("{found} keys are trusted, at most {TRUSTED_KEYS_MAX} can be")]
    TooManyKeys {
        /// How many.
        found: usize,
    },
    /// Too many peers.
    #[error("there are {found} peers, at most {PEERS_MAX} can be")]
    TooManyPeers {
        /// How many.
        found: usize,
    },
    /// It stands in metrics, and in the log of what was applied.
    #[error("a peer's name has 1 to 63 letters, digits, `-`, `_` and `.`, and {name:?} is none")]
    Name {
        /// What was given.
        name: String,
    },
    /// Two of the same name, or at the same place.
    #[error("the peer {name} is given twice")]
    Twice {
        /// Whose.
        name: String,
    },
    /// Too often or too seldom.
    #[error(
        "peers can't be asked every {} ms: between {} ms and {} s", found.as_millis(),
        PEER_INTERVAL_BOUNDS.0.as_millis(), PEER_INTERVAL_BOUNDS.1.as_secs()
    )]
    Interval {
        /// How often.
        found: Duration,
    },
}

impl Peering {
    /// The keys, where any are trusted.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn check(&self) -> Result<Option<TrustedKeys>, PeeringError> {
        let (keys, peers) = (self.trusted_keys.len(), self.peers.len());
        if keys > TRUSTED_KEYS_MAX {
            return Err(PeeringError::TooManyKeys { found: keys });
        }
        if peers > PEERS_MAX {
            return Err(PeeringError::TooManyPeers { found: peers });
        }
        if !(PEER_INTERVAL_BOUNDS.0..=PEER_INTERVAL_BOUNDS.1).contains(&self.interval) {
            return Err(PeeringError::Interval { found: self.interval });
        }
        for (place, peer) in self.peers.iter().enumerate() {
            let is_of_names = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !(1..=63).contains(&peer.name.len()) || !peer.name.chars().all(is_of_names) {
                return Err(PeeringError::Name { name: peer.name.clone() });
            }
            let others = &self.peers[..place];
            if others.iter().any(|other| other.name == peer.name || other.control == peer.control) {
                return Err(PeeringError::Twice { name: peer.name.clone() });
            }
        }
        let trusted = TrustedKeys::new(self.trusted_keys.clone());
        if trusted.is_none() && (peers > 0 || self.listen.is_some()) {
            return Err(PeeringError::NoKeys);
        }
        Ok(trusted)
    }
}

/// Which record sets a peer wants to see.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetsQuery {
    pub(super) buckets: Vec<usize>,
    pub(super) after: Option<RecordKey>,
}

/// What an instance says of itself to another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PeerReply {
    #[serde(flatten)]
    pub(super) state: PeerState,
    /// A random number of this process; an earlier version says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<u64>,
}

/// [`SetsQuery`] as it is sent: where the last page ended, as the peer said it.
#[derive(Debug, Serialize)]
struct SentQuery {
    buckets: Vec<usize>,
    after: Option<serde_json::Value>,
}

/// What is remembered of a peer between two rounds.
#[derive(Debug, Default)]
struct Known {
    /// Parts of the names that were compared and brought nothing: theirs and ours. They are not fetched again until one of the two changes.
    compared: BTreeMap<usize, (u64, u64)>,
    /// Under which epoch, ours and theirs: another one may take what was refused.
    compared_under: (Option<Epoch>, Option<Epoch>),
    is_failing: bool,
    /// It is this server.
    is_itself: bool,
    /// Held while something of this peer's is taken, also when nobody waits for it any more.
    taking: Arc<Mutex<()>>,
}

/// All peers, each with what is known of it.
#[derive(Debug)]
pub(super) struct Asking {
    peers: Vec<(Peer, Known)>,
    interval: Duration,
}

impl Asking {
    pub(super) fn new(peering: Peering) -> Self {
        let peers = peering.peers.into_iter().map(|peer| (peer, Known::default())).collect();
        Self { peers, interval: peering.interval }
    }

    /// Before the first answer: what happened while this instance was away.
    pub(super) async fn at_start(&mut self, shared: &Arc<Shared>) {
        if self.peers.is_empty() {
            return;
        }
        let (begun, before) = (Instant::now(), shared.publisher.load().generation());
        let in_time =
            timeout(PEERS_AT_START_MAX, self.round(shared, begun + PEERS_AT_START_MAX.mul_f64(FETCHING)));
        let in_time = in_time.await.is_ok();
        let answered = shared.counters.peers.iter().filter(|peer| peer.has_answered()).count();
        info!(
            answered,
            peers = self.peers.len(),
            in_time,
            took_ms = begun.elapsed().as_millis() as u64,
            generation_on_disk = before,
            generation = shared.publisher.load().generation(),
            "asked the peers what was published meanwhile"
        );
    }

    /// Each peer by itself: one that is slow holds up no other.
    pub(super) async fn run(self, shared: Arc<Shared>, shutdown: CancellationToken) {
        let (shared, interval) = (&shared, self.interval);
        let loops = self.peers.into_iter().zip(&shared.counters.peers).map(
            |((peer, mut known), counters)| async move {
                let mut random = super::seeded_random();
                loop {
                    tokio::time::sleep(interval.mul_f64(0.75 + random.f64() / 2.0)).await;
                    let until = Instant::now() + ROUND_TIMEOUT.mul_f64(FETCHING);
                    ask_and_tell(shared, &peer, &mut known, counters, until).await;
                }
            },
        );
        shutdown.run_until_cancelled(join_all(loops)).await;
    }

    async fn round(&mut self, shared: &Arc<Shared>, until: Instant) {
        let peers = self.peers.iter_mut().zip(&shared.counters.peers);
        let asked = peers.map(|((peer, known), counters)| ask_and_tell(shared, peer, known, counters, until));
        join_all(asked).await;
    }
}

async fn ask_and_tell(
    shared: &Arc<Shared>,
    peer: &Peer,
    known: &mut Known,
    counters: &PeerCounters,
    until: Instant,
) {
    let mut all = Taken::default();
    let asked = timeout(ROUND_TIMEOUT, ask(shared, peer, known, counters, until, &mut all)).await;
    tell(shared, peer, counters, &all);
    let failed = match asked {
        Ok(Ok(has)) => {
            // Where nothing of it could be taken, nothing is known either.
            if has != Has::Something || !shared.publisher.is_blank() {
                shared.readiness.heard_all_of(&peer.name, has);
            }
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("more than {} s", ROUND_TIMEOUT.as_secs())),
    };
    increment(if failed.is_none() { &counters.answered } else { &counters.failed });
    // Said when it begins and when it ends: a region may be gone for days.
    let is_failing = failed.is_some();
    match failed {
        Some(error) if !known.is_failing => warn!(peer = peer.name, error, "a peer can't be asked"),
        None if known.is_failing => info!(peer = peer.name, "a peer answers again"),
        _ => {}
    }
    known.is_failing = is_failing;
}

/// Takes from one peer what is newer there, and says whether it has anything at all.
async fn ask(
    shared: &Arc<Shared>,
    peer: &Peer,
    known: &mut Known,
    counters: &PeerCounters,
    until: Instant,
    all: &mut Taken,
) -> Result<Has, CallError> {
    let allowed = Allowed { time: REQUEST_TIMEOUT, reply_bytes: REPLY_BYTES_MAX };
    let reply: PeerReply = control_client::get_within(peer.control, "/v1/peer", allowed).await?;
    let theirs = reply.state;
    counters.contact.note();
    if reply.process == Some(shared.process) {
        if !std::mem::replace(&mut known.is_itself, true) {
            warn!(peer = peer.name, at = %peer.control, "this peer is this server itself, and counts for nothing");
        }
        return Ok(Has::Itself);
    }
    let has = if theirs.buckets.iter().all(|bucket| *bucket == 0) { Has::Nothing } else { Has::Something };
    let Some(ours) = shared.publisher.peer_state() else { return Ok(has) };
    let under = (ours.highest_epoch, theirs.highest_epoch);
    if known.compared_under != under {
        known.compared_under = under;
        known.compared.clear();
    }
    let pairs = || theirs.buckets.iter().copied().zip(ours.buckets.iter().copied()).enumerate().take(BUCKETS);
    let differs =
        |(bucket, pair): &(usize, (u64, u64))| pair.0 != pair.1 && known.compared.get(bucket) != Some(pair);
    let buckets: Vec<usize> = pairs().filter(differs).map(|(bucket, _)| bucket).collect();
    if buckets.is_empty() {
        return Ok(has);
    }
    let mut query = SentQuery { buckets, after: None };
    fetch(shared, peer, known, &mut query, until, all).await?;
    if all.taken == 0 {
        let fetched = pairs().filter(|(bucket, _)| query.buckets.contains(bucket));
        known.compared.extend(fetched);
    }
    Ok(has)
}

/// Page by page. What came before it broke off is taken all the same.
async fn fetch(
    shared: &Arc<Shared>,
    peer: &Peer,
    known: &Known,
    query: &mut SentQuery,
    until: Instant,
    all: &mut Taken,
) -> Result<(), CallError> {
    let (mut fetched, mut pages, mut offers) = (ReadPage::default(), 0, 0);
    loop {
        let page = match next_page(peer, query, until).await {
            Ok(page) => page,
            Err(error) => {
                take(shared, peer, known, fetched, all).await?;
                return Err(error);
            }
        };
        let (next, page) = page;
        offers += page.page.offers.len() + page.unreadable;
        fetched.append(page);
        pages += 1;
        if next.is_none() || pages % PAGES_AT_ONCE == 0 {
            take(shared, peer, known, std::mem::take(&mut fetched), all).await?;
        }
        if next.is_none() {
            return Ok(());
        }
        if offers > OFFERS_MAX {
            take(shared, peer, known, fetched, all).await?;
            return Err(broken(peer, format!("it shows more than {OFFERS_MAX} record sets")));
        }
        query.after = next;
    }
}

/// Where the one behind it begins, and the page.
async fn next_page(
    peer: &Peer,
    query: &SentQuery,
    until: Instant,
) -> Result<(Option<serde_json::Value>, ReadPage), CallError> {
    let time = until.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
    let allowed = Allowed { time, reply_bytes: REPLY_BYTES_MAX };
    let page: UnreadPage =
        control_client::send_within(peer.control, Method::POST, "/v1/peer/sets", query, allowed).await?;
    let next = page.next.clone();
    let read = page.read().map_err(|error| broken(peer, error.to_string()))?;
    Ok((next, read))
}

fn broken(peer: &Peer, reason: String) -> CallError {
    CallError::Broken { address: peer.control, reason }
}

/// Writing waits for the disk: off the threads that answer queries.
async fn take(
    shared: &Arc<Shared>,
    peer: &Peer,
    known: &Known,
    read: ReadPage,
    all: &mut Taken,
) -> Result<(), CallError> {
    let ReadPage { page, unreadable, reason } = read;
    if unreadable > 0 {
        warn!(
            peer = peer.name,
            record_sets = unreadable,
            reason,
            "can't read what a peer has; if that is a later version, upgrade this server"
        );
        all.unreadable += unreadable;
    }
    if page.offers.is_empty() {
        return Ok(());
    }
    let (publisher, name) = (Arc::clone(&shared.publisher), peer.name.clone());
    let turn = Arc::clone(&known.taking).lock_owned().await;
    let taken = in_tracked_background(&shared.tracker, move || {
        let taken = publisher.take_from_peer(&name, &page);
        drop(turn);
        taken
    });
    all.append(taken.await.map_err(|error| {
        broken(peer, format!("what it has can't be taken: {}", drover_model::chain(&error)))
    })?);
    Ok(())
}

fn tell(shared: &Shared, peer: &Peer, counters: &PeerCounters, all: &Taken) {
    counters.took(all);
    if all.taken > 0 {
        let generation = shared.publisher.load().generation();
        info!(peer = peer.name, record_sets = all.taken, generation, "caught up by a peer");
    }
    // That a peer is behind is no news: it asks us.
    let is_news = |refused: &&RefusedOffer| !matches!(refused.why, WhyRefused::Backwards { .. });
    let news: Vec<&RefusedOffer> = all.refused.iter().filter(is_news).collect();
    for RefusedOffer { key, why } in news.iter().take(REFUSALS_LOGGED_MAX) {
        warn!(peer = peer.name, record_set = %key, %why, "refused what a peer has");
    }
    if news.len() > REFUSALS_LOGGED_MAX {
        warn!(peer = peer.name, record_sets = news.len(), "refused more of what a peer has");
    }
    let behind = all.refused.len() - news.len();
    if behind > 0 {
        debug!(peer = peer.name, record_sets = behind, "a peer is behind");
    }
}
