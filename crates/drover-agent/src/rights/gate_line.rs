//! The agent's line to a gate: the last order is said until it is obeyed, also to a gate that was started anew.

use super::keeping::Inbox;
use drover_model::DatasetId;
use drover_model::write_right::{GateAnswer, GateOrder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Pause before a gate that did not answer is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Bytes of one answer, at most.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// So many orders in a row to run are obeyed before it counts as running: the first one starts it, and says nothing yet of a
/// program that ends at once.
const OBEYED_MIN: u32 = 2;

/// A gate that can't be reached is told this often.
const TOLD_EVERY: u32 = 50;

/// What is ordered of a gate.
pub(super) struct GateLine {
    socket: PathBuf,
    dataset: DatasetId,
    tell: mpsc::Sender<Inbox>,
    wanted: watch::Sender<(u64, GateOrder)>,
    /// Orders in a row that the gate answered with a database that runs.
    obeyed: Arc<AtomicU32>,
}

/// Orders a gate.
#[derive(Clone)]
pub(super) struct GateOrders {
    wanted: watch::Sender<(u64, GateOrder)>,
    obeyed: Arc<AtomicU32>,
}

impl GateOrders {
    /// The order that counts from now. A `Stop` is answered by [`Inbox::Stopped`] with its number.
    pub(super) fn say(&self, order: GateOrder) {
        self.wanted.send_modify(|(number, wanted)| (*number, *wanted) = (*number + 1, order));
    }

    /// The number of the order that counts. A gate may be told twice, and answer twice: what it says of an earlier order says
    /// nothing of what runs now.
    pub(super) fn number(&self) -> u64 {
        self.wanted.borrow().0
    }

    /// The gate says that the database runs, and did not only just start it.
    pub(super) fn is_obeyed(&self) -> bool {
        self.obeyed.load(Ordering::Relaxed) >= OBEYED_MIN
    }
}

impl GateLine {
    /// A line on which nothing was said yet but that nothing may run.
    pub(super) fn new(socket: PathBuf, dataset: DatasetId, tell: mpsc::Sender<Inbox>) -> Self {
        Self {
            socket,
            dataset,
            tell,
            wanted: watch::Sender::new((0, GateOrder::Stop)),
            obeyed: Arc::default(),
        }
    }

    pub(super) fn orders(&self) -> GateOrders {
        GateOrders { wanted: self.wanted.clone(), obeyed: Arc::clone(&self.obeyed) }
    }

    /// Says what is ordered until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let Some(ended) = shutdown.run_until_cancelled(self.converse(&mut failures)).await else {
                return;
            };
            if failures.is_multiple_of(TOLD_EVERY) {
                let (dataset, socket) = (&self.dataset, self.socket.display());
                tracing::error!(%dataset, %socket, error = %ended, "the gate does not answer, so that nothing can write: is `drover gate` running?");
            }
            failures = failures.saturating_add(1);
            if shutdown.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
                return;
            }
        }
    }

    /// One connection, to its end.
    async fn converse(&self, failures: &mut u32) -> std::io::Error {
        let Err(e) = self.speak(&self.socket, failures).await;
        self.obeyed.store(0, Ordering::Relaxed);
        e
    }

    async fn speak(&self, socket: &Path, failures: &mut u32) -> std::io::Result<std::convert::Infallible> {
        let (read, mut write) = UnixStream::connect(socket).await?.into_split();
        let mut read = BufReader::new(read);
        let mut wanted = self.wanted.subscribe();
        loop {
            let (number, order) = *wanted.borrow_and_update();
            let mut line = serde_json::to_vec(&order)?;
            line.push(b'\n');
            write.write_all(&line).await?;
            let answer = hear(&mut read).await?;
            *failures = 0;
            self.heard((number, order), answer).await;
            // A gate that goes away is noticed, and its successor told anew.
            tokio::select! {
                changed = wanted.changed() => changed.map_err(std::io::Error::other)?,
                unasked = hear(&mut read) => {
                    let said = unasked?;
                    return Err(std::io::Error::other(format!("the gate said {said:?} unasked")));
                }
            }
        }
    }

    async fn heard(&self, (number, order): (u64, GateOrder), answer: GateAnswer) {
        let obeyed = match answer {
            GateAnswer::Running { .. } => self.obeyed.load(Ordering::Relaxed).saturating_add(1),
            GateAnswer::Stopped { .. } => 0,
        };
        self.obeyed.store(obeyed, Ordering::Relaxed);
        match (order, answer) {
            // The keeper lives as long as this line.
            (GateOrder::Stop, GateAnswer::Stopped { .. }) => {
                drop(self.tell.send(Inbox::Stopped(number)).await)
            }
            (GateOrder::Stop, answer @ GateAnswer::Running { .. }) => {
                tracing::error!(dataset = %self.dataset, ?answer, "the gate does not stop the database");
            }
            (GateOrder::Run(_), GateAnswer::Stopped { why }) => {
                let why = why.unwrap_or_default();
                tracing::error!(dataset = %self.dataset, why, "the gate does not let the database run");
            }
            (GateOrder::Run(_), GateAnswer::Running { .. }) => {}
        }
    }
}

async fn hear(read: &mut BufReader<OwnedReadHalf>) -> std::io::Result<GateAnswer> {
    let mut line = Vec::new();
    if read.take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(std::io::Error::other)
}
