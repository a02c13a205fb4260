//! Asks a zone's servers what a coordinator wants to know of them, from where this agent is.
//!
//! A run waits for it, so the question must be here at once: one request to the coordinator is always open, and is answered when
//! there is something to ask. What shows something else than it should is asked again until it does not, or nobody wants to know any
//! more. What still reaches its own region it counts once a second, as long as somebody wants to know. The rest of the agent needs none of this: a coordinator that knows no such questions is asked again now and then.

use crate::client::CoordinatorClient;
use crate::error::AgentError;
use crate::meter::Meter;
use drover_dns::sight::{Silent, ask};
use drover_model::sight::{
    DnsQuestion, QUESTIONS_MAX, QuestionList, SightReport, TrafficLevel, TrafficQuestion, TrafficSight,
};
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// For how long a coordinator may let the request for questions stand. Below the time that it has for any request.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause before what showed something else is asked again.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Pause between two counts of traffic: a rate over less would jump.
pub const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A count that takes longer is unknown, as one of a file system that is gone.
pub const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// Who asks for longer looks whether there is something else to ask by now.
const LOOKS_AFTER: Duration = Duration::from_millis(200);

/// For one exchange with one server, its repetitions included.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Record sets that are asked for together: few beside what one server answers in a second.
pub const ASKED_AT_ONCE: usize = 32;

/// First wait after a coordinator did not answer; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Asks for one coordinator.
#[derive(Debug)]
pub struct Asker {
    client: CoordinatorClient,
    list: QuestionList,
    /// What showed what it should, or nothing: not asked again.
    settled: BTreeSet<u64>,
    meter: Meter,
    /// A count that has not ended.
    counting: Option<JoinHandle<(Meter, Vec<TrafficSight>)>>,
}

impl Asker {
    /// Asks what the coordinator behind `client` wants to know.
    #[must_use]
    pub fn new(client: CoordinatorClient) -> Self {
        let (list, settled) = (QuestionList::default(), BTreeSet::new());
        Self { client, list, settled, meter: Meter::default(), counting: None }
    }

    /// Asks until told to stop.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let Some(turned) = shutdown.run_until_cancelled(self.turn()).await else { return };
            match turned {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) => {
                    // Whether the coordinator answers at all is told by the link that reports to it.
                    let (coordinator, error) = (self.client.name(), drover_model::chain(&error));
                    tracing::debug!(coordinator, error, "no questions about DNS");
                    // Another process may count anew.
                    self.forget();
                    if shutdown.run_until_cancelled(sleep(backoff)).await.is_none() {
                        return;
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn forget(&mut self) {
        self.list = QuestionList::default();
        self.settled.clear();
    }

    /// Waits for questions, asks them, and tells.
    async fn turn(&mut self) -> Result<(), AgentError> {
        let patience = match (self.open().next().is_some(), self.list.traffic.is_empty()) {
            (true, _) => ASK_AGAIN_AFTER,
            (false, false) => COUNT_EVERY,
            (false, true) => PATIENCE,
        };
        let mut news = self.client.questions(self.list.version, patience).await?;
        loop {
            if let Some(list) = news {
                let kept: BTreeSet<u64> = list.questions.iter().map(|q| q.id).collect();
                self.settled.retain(|id| kept.contains(id));
                self.list = list;
            }
            self.tell_counts().await?;
            news = self.ask_all().await?;
            if news.is_none() {
                return Ok(());
            }
        }
    }

    fn open(&self) -> impl Iterator<Item = &DnsQuestion> {
        open(&self.list, &self.settled)
    }

    async fn tell_counts(&mut self) -> Result<(), AgentError> {
        let traffic = self.count().await;
        if traffic.is_empty() {
            return Ok(());
        }
        self.client.sights(&SightReport { sights: vec![], traffic }).await
    }

    /// Off the runtime's threads: tables and logs may be large, and a file system may be gone. Then what began is waited for, and
    /// nothing else is begun beside it.
    async fn count(&mut self) -> Vec<TrafficSight> {
        let questions: Vec<_> = self.list.traffic.iter().take(QUESTIONS_MAX).cloned().collect();
        if questions.is_empty() && self.counting.is_none() {
            self.meter = Meter::default();
            return vec![];
        }
        // One that is late already keeps nobody waiting again.
        let within = if self.counting.is_some() { Duration::ZERO } else { COUNT_WITHIN };
        let mut counting = self.counting.take().unwrap_or_else(|| {
            let (mut meter, questions) = (std::mem::take(&mut self.meter), questions.clone());
            tokio::task::spawn_blocking(move || {
                let counted = meter.read(&questions);
                (meter, counted)
            })
        });
        let Ok(ended) = tokio::time::timeout(within, &mut counting).await else {
            self.counting = Some(counting);
            let why = format!("it has not been counted within {} ms", COUNT_WITHIN.as_millis());
            let unknown = |q: &TrafficQuestion| TrafficSight {
                question: q.id,
                level: TrafficLevel::Unknown { why: why.clone() },
            };
            return questions.iter().map(unknown).collect();
        };
        // A panic there costs one count.
        let (meter, counted) = ended.unwrap_or_default();
        self.meter = meter;
        counted
    }

    /// Asks the newest first, since a run waits for those, and tells as answers come: a server that is silent must not keep back what
    /// the others say. Other questions break it off, and are returned.
    async fn ask_all(&mut self) -> Result<Option<QuestionList>, AgentError> {
        let Self { client, list, settled, .. } = self;
        let silent = Silent::default();
        let mut newest: Vec<&DnsQuestion> = open(list, settled).collect();
        newest.sort_by_key(|q| std::cmp::Reverse(q.id));
        let asked: Vec<_> =
            newest.into_iter().map(|q| ask(&list.servers, q, EXCHANGE_TIMEOUT, &silent)).collect();
        let parts = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).ready_chunks(ASKED_AT_ONCE);
        let mut parts = pin!(parts);
        let looks_from = Instant::now() + LOOKS_AFTER;
        let mut news = pin!(look(client, list.version, LOOKS_AFTER));
        loop {
            tokio::select! {
                biased;
                found = &mut news => match found? {
                    Some(list) => return Ok(Some(list)),
                    None => news.set(look(client, list.version, Duration::ZERO)),
                },
                part = parts.next() => {
                    let Some(sights) = part else { break };
                    let done: Vec<u64> = sights.iter().filter(|s| s.is_settled()).map(|s| s.question).collect();
                    client.sights(&SightReport { sights, traffic: vec![] }).await?;
                    settled.extend(done);
                }
            }
        }
        // A request that stands is not broken off: it would take its connection with it.
        if Instant::now() < looks_from { Ok(None) } else { news.await }
    }
}

fn open<'l>(list: &'l QuestionList, settled: &BTreeSet<u64>) -> impl Iterator<Item = &'l DnsQuestion> {
    list.questions.iter().take(QUESTIONS_MAX).filter(|q| !settled.contains(&q.id))
}

/// Other questions than those of version `have`, should there be any in a moment.
async fn look(
    client: &CoordinatorClient,
    have: u64,
    after: Duration,
) -> Result<Option<QuestionList>, AgentError> {
    sleep(after).await;
    client.questions(have, ASK_AGAIN_AFTER).await
}
