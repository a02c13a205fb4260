//! Asks a zone's servers what a coordinator wants to know of them, from where this agent is.
//!
//! A run waits for it, so the question must be here at once: one request to the coordinator is always open, and is answered when
//! there is something to ask. What shows something else than it should is asked again until it does not, or nobody wants to know any
//! more. The rest of the agent needs none of this: a coordinator that knows no such questions is asked again now and then.

use crate::client::CoordinatorClient;
use crate::error::AgentError;
use drover_dns::sight::ask;
use drover_model::sight::{DnsQuestion, QUESTIONS_MAX, QuestionList, Sight, SightReport};
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// For how long a coordinator may let the request for questions stand. Below the time that it has for any request.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause before what showed something else is asked again.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

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
}

impl Asker {
    /// Asks what the coordinator behind `client` wants to know.
    #[must_use]
    pub fn new(client: CoordinatorClient) -> Self {
        Self { client, list: QuestionList::default(), settled: BTreeSet::new() }
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
        let is_settled = self.open().next().is_none();
        let patience = if is_settled { PATIENCE } else { ASK_AGAIN_AFTER };
        if let Some(list) = self.client.questions(self.list.version, patience).await? {
            let kept: BTreeSet<u64> = list.questions.iter().map(|q| q.id).collect();
            self.settled.retain(|id| kept.contains(id));
            self.list = list;
        }
        let sights = self.ask_all().await;
        if sights.is_empty() {
            return Ok(());
        }
        let settled: Vec<u64> = sights.iter().filter(|s| s.is_settled()).map(|s| s.question).collect();
        self.client.sights(&SightReport { sights }).await?;
        self.settled.extend(settled);
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &DnsQuestion> {
        let questions = self.list.questions.iter().take(QUESTIONS_MAX);
        questions.filter(|q| !self.settled.contains(&q.id))
    }

    async fn ask_all(&self) -> Vec<Sight> {
        let servers = &self.list.servers;
        let asked: Vec<_> = self.open().map(|q| ask(servers, q, EXCHANGE_TIMEOUT)).collect();
        stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await
    }
}
