//! Asks a zone's servers what a coordinator wants to know of them, from where this agent is.
//!
//! A run waits for it, so the question must be here at once: one request to the coordinator is always open, and is answered when
//! there is something to ask. What shows something else than it should is asked again until it does not, or nobody wants to know any
//! more. What still reaches its own region it counts once a second, as long as somebody wants to know. The rest of the agent needs none of this: a coordinator that knows no such questions is asked again now and then.

use crate::client::CoordinatorClient;
use crate::error::AgentError;
use crate::meter::Meter;
use drover_dns::sight::ask;
use drover_model::sight::{DnsQuestion, QUESTIONS_MAX, QuestionList, Sight, SightReport, TrafficSight};
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// For how long a coordinator may let the request for questions stand. Below the time that it has for any request.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause before what showed something else is asked again.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Pause between two counts of traffic: a rate over less would jump.
pub const COUNT_EVERY: Duration = Duration::from_secs(1);

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
}

impl Asker {
    /// Asks what the coordinator behind `client` wants to know.
    #[must_use]
    pub fn new(client: CoordinatorClient) -> Self {
        Self { client, list: QuestionList::default(), settled: BTreeSet::new(), meter: Meter::default() }
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
        if let Some(list) = self.client.questions(self.list.version, patience).await? {
            let kept: BTreeSet<u64> = list.questions.iter().map(|q| q.id).collect();
            self.settled.retain(|id| kept.contains(id));
            self.list = list;
        }
        let (sights, traffic) = (self.ask_all().await, self.count().await);
        if sights.is_empty() && traffic.is_empty() {
            return Ok(());
        }
        let settled: Vec<u64> = sights.iter().filter(|s| s.is_settled()).map(|s| s.question).collect();
        self.client.sights(&SightReport { sights, traffic }).await?;
        self.settled.extend(settled);
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &DnsQuestion> {
        let questions = self.list.questions.iter().take(QUESTIONS_MAX);
        questions.filter(|q| !self.settled.contains(&q.id))
    }

    /// Off the runtime's threads: tables and logs may be large.
    async fn count(&mut self) -> Vec<TrafficSight> {
        let questions: Vec<_> = self.list.traffic.iter().take(QUESTIONS_MAX).cloned().collect();
        if questions.is_empty() {
            self.meter = Meter::default();
            return vec![];
        }
        let mut meter = std::mem::take(&mut self.meter);
        let counting = tokio::task::spawn_blocking(move || {
            let counted = meter.read(&questions);
            (meter, counted)
        });
        // A panic there costs one count.
        let (meter, counted) = counting.await.unwrap_or_default();
        self.meter = meter;
        counted
    }

    async fn ask_all(&self) -> Vec<Sight> {
        let servers = &self.list.servers;
        let asked: Vec<_> = self.open().map(|q| ask(servers, q, EXCHANGE_TIMEOUT)).collect();
        stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await
    }
}
