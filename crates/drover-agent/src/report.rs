//! One link to each coordinator: reports out, acknowledgements and probe lists back.
//!
//! Every coordinator gets every report, each at its own pace, so that whichever of them leads has it all. A report goes
//! out when the interval is over (an empty one says that the agent lives), when a batch is worth it, and at once when an
//! opinion changed, because the time to detect a failure is counted from there.
//!
//! A coordinator that answers again after silence may be another one, or have forgotten: it is told every opinion anew.
//! What waited in the buffer follows oldest first, in batches without pause; it is history by then, and the opinions in
//! the very first batch already say what is true now.
//!
//! Two coordinators may disagree about the configuration for a while. A list is pulled when what *one* coordinator says
//! changes, not when two differ; otherwise the agent would swing between them with every report.

use crate::client::CoordinatorClient;
use crate::clock::wall_now;
use crate::declaration::Declarations;
use crate::error::AgentError;
use crate::ledger::{Batch, Ledger};
use crate::roster::Rosters;
use crate::selfcheck::Sight;
use drover_model::AgentId;
use drover_model::probe::{REPORT_SCHEMA, Report};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How often to report while there is no list that says so.
pub const REPORT_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// Time between the beginnings of two reports, at least: opinions that change together travel together.
pub const REPORT_GAP_MIN: Duration = Duration::from_millis(10);

/// First wait after a coordinator did not answer; doubled each time.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait. A coordinator that returns is found within it, at the price of one refused connection each time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Time for a last report when the agent stops.
pub const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What all links share.
#[derive(Debug)]
pub struct Sender {
    /// Who reports.
    pub agent: AgentId,
    /// Random name of this boot.
    pub boot: String,
    /// Its number.
    pub boot_number: u64,
    /// Lists.
    pub rosters: Arc<Rosters>,
    /// Results and opinions.
    pub ledger: Arc<Ledger>,
    /// The self-check.
    pub sight: Arc<Sight>,
    /// Which regions are declared out of service; nothing where no status pages are served.
    pub declarations: Option<Arc<Declarations>>,
}

/// How one link does, as the status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// The coordinator.
    pub url: String,
    /// Time since it last answered, in milliseconds; absent when it never did.
    pub last_ok_ms_ago: Option<u64>,
    /// Why it did not answer last time, when it did not.
    pub error: Option<String>,
    /// Observations that it has not acknowledged.
    pub pending: u64,
    /// Observations dropped before it acknowledged them.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct LinkState {
    last_ok: Option<Instant>,
    error: Option<String>,
}

/// One coordinator's link, as others see it.
#[derive(Debug)]
pub struct Link {
    url: String,
    reader: usize,
    state: Mutex<LinkState>,
}

impl Link {
    /// A link to `url`, which reads the buffer as number `reader`.
    #[must_use]
    pub fn new(url: String, reader: usize) -> Self {
        Self { url, reader, state: Mutex::default() }
    }

    /// As it stands.
    #[must_use]
    pub fn view(&self, ledger: &Ledger) -> LinkView {
        let (pending, cursor) = {
            let buffer = ledger.buffer();
            (buffer.pending(self.reader), buffer.cursor(self.reader))
        };
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        LinkView {
            url: self.url.clone(),
            last_ok_ms_ago: state.last_ok.map(millis),
            error: state.error.clone(),
            pending,
            dropped: cursor.dropped,
        }
    }

    fn answered(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last_ok = Some(Instant::now());
        if state.error.take().is_some() {
            tracing::info!(coordinator = %self.url, "the coordinator answers again");
        }
    }

    fn failed(&self, error: &AgentError) {
        let error = drover_model::chain(error);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.error.as_ref() != Some(&error) {
            tracing::warn!(coordinator = %self.url, %error, "the coordinator did not take a report");
        }
        state.error = Some(error);
    }
}

/// Sends reports over one link.
#[derive(Debug)]
pub struct Reporter {
    sender: Arc<Sender>,
    client: CoordinatorClient,
    link: Arc<Link>,
    changes_told: u64,
    /// What this coordinator last announced and the agent took over.
    version_taken: Option<String>,
    backoff: Duration,
}

/// What follows a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// More waits that could not go along.
    AtOnce,
    /// Nothing waits.
    InTime,
    /// No answer.
    AfterBackoff,
}

impl Reporter {
    /// A reporter that talks through `client`.
    #[must_use]
    pub fn new(sender: Arc<Sender>, client: CoordinatorClient, link: Arc<Link>) -> Self {
        Self { sender, client, link, changes_told: 0, version_taken: None, backoff: BACKOFF_MIN }
    }

    /// Reports until told to stop, and a last time then.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut wakes = self.sender.ledger.wakes();
        loop {
            let began = Instant::now();
            wakes.mark_unchanged();
            let Some(next) = self.turn_unless(&shutdown).await else { return };
            let stopped = tokio::select! {
                biased;
                () = shutdown.cancelled() => true,
                () = self.rest(next, began, &mut wakes) => false,
            };
            if stopped {
                let _ = timeout(FAREWELL_MAX, self.turn()).await;
                return;
            }
        }
    }

    /// A turn; `None` when told to stop meanwhile. The answer that is under way is then waited for, since a report whose
    /// answer was not heard would only be sent again, and what came up after it is sent along.
    async fn turn_unless(&mut self, shutdown: &CancellationToken) -> Option<Next> {
        let deadline = {
            let mut turn = pin!(self.turn());
            tokio::select! {
                biased;
                next = &mut turn => return Some(next),
                () = shutdown.cancelled() => {}
            }
            let deadline = Instant::now() + FAREWELL_MAX;
            timeout_at(deadline, turn).await.ok()?;
            deadline
        };
        let _ = timeout_at(deadline, self.turn()).await;
        None
    }

    async fn rest(&mut self, next: Next, began: Instant, wakes: &mut watch::Receiver<u64>) {
        match next {
            Next::AtOnce => {}
            Next::AfterBackoff => {
                let wait = self.backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                sleep(wait).await;
            }
            Next::InTime => {
                let interval = self.interval();
                tokio::select! {
                    () = sleep_until(began + interval) => {}
                    woken = wakes.changed() => match woken {
                        Ok(()) => sleep_until(began + REPORT_GAP_MIN).await,
                        Err(_) => sleep(interval).await,
                    }
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        let asked = self.sender.rosters.current().map(|r| r.list.report_interval.to_duration());
        asked.unwrap_or(REPORT_INTERVAL_DEFAULT).max(REPORT_GAP_MIN)
    }

    /// One report, and the list when the answer announces another.
    async fn turn(&mut self) -> Next {
        match self.exchange().await {
            Ok(next) => {
                self.backoff = BACKOFF_MIN;
                next
            }
            Err(e) => {
                self.link.failed(&e);
                self.changes_told = 0;
                Next::AfterBackoff
            }
        }
    }

    async fn exchange(&mut self) -> Result<Next, AgentError> {
        let batch = self.sender.ledger.batch(self.link.reader, self.changes_told);
        let (changes, more_opinions) = (batch.changes_up_to, batch.more_opinions);
        let (first, last) = match (batch.observations.first(), batch.observations.last()) {
            (Some(first), Some(last)) => (first.sequence, last.sequence),
            _ => (0, 0),
        };
        let report = self.report_of(batch);
        let ack = self.client.report(&report).await?;
        self.changes_told = changes;
        let left = {
            let mut buffer = self.sender.ledger.buffer();
            buffer.acknowledge(self.link.reader, ack.acknowledged_sequence.min(last));
            buffer.pending(self.link.reader)
        };
        if let (Some(declarations), Some(said)) = (&self.sender.declarations, ack.out_of_service) {
            declarations.take(said).await;
        }
        self.follow(&ack.config_version).await?;
        self.link.answered();
        // Without progress more of the same would only be refused again.
        let progress = first > 0 && ack.acknowledged_sequence >= first;
        let worth = left >= drover_model::probe::REPORT_OBSERVATIONS_MAX as u64 / 2;
        Ok(if more_opinions || (progress && worth) { Next::AtOnce } else { Next::InTime })
    }

    fn report_of(&self, batch: Batch) -> Report {
        let sender = &self.sender;
        Report {
            schema: REPORT_SCHEMA,
            agent: sender.agent.clone(),
            boot: sender.boot.clone(),
            boot_number: sender.boot_number,
            sent_at: wall_now(),
            config_version: sender.rosters.config_version(),
            observations: batch.observations,
            opinions: batch.opinions,
            self_check: sender.sight.now(&sender.ledger),
            dropped: batch.dropped,
            out_of_service: sender.declarations.as_ref().and_then(|declarations| declarations.held()),
        }
    }

    async fn follow(&mut self, announced: &str) -> Result<(), AgentError> {
        if self.version_taken.as_deref() == Some(announced) {
            return Ok(());
        }
        let have = self.sender.rosters.config_version();
        if have != announced || self.sender.rosters.current().is_none() {
            match self.client.probes(&have).await? {
                Some(list) => {
                    let version = list.config_version.clone();
                    self.sender.rosters.install(list).await?;
                    self.version_taken = Some(version);
                    return Ok(());
                }
                None => tracing::debug!(coordinator = %self.link.url, "the list did not change after all"),
            }
        }
        self.version_taken = Some(announced.to_owned());
        Ok(())
    }
}
