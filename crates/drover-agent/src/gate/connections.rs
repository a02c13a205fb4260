//! Who talks to a gate: the newest connection, an order a line.

use super::GateError;
use crate::status::bind_socket;
use drover_dns::lock::{FileLock, NotLocked};
use drover_model::write_right::{GateAnswer, GateOrder};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of one order, at most.
pub const ORDER_BYTES_MAX: u64 = 4 * 1024;

/// Orders that wait while a database stops. An agent sends one after the other's answer.
const ORDERS_WAITING_MAX: usize = 8;

/// For an answer to be taken; whoever does not read it is not waited for, since the clock is not either.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);

/// Pause after a failed accept: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An order, and on which connection it came.
pub(super) struct Said {
    pub(super) connection: u64,
    pub(super) order: GateOrder,
}

/// The socket and the one connection that counts.
pub(super) struct Connections {
    listener: UnixListener,
    _lock: FileLock,
    count: u64,
    current: Option<(OwnedWriteHalf, JoinHandle<()>)>,
    said: mpsc::Sender<Said>,
    heard: mpsc::Receiver<Said>,
}

impl Connections {
    /// Takes the socket, which its owner alone may use. What a dead gate left is taken over; a living one keeps it.
    pub(super) fn listen(path: &Path) -> Result<Self, GateError> {
        let failed = |source| GateError::Listen { path: path.to_owned(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = FileLock::take(Path::new(&name)).map_err(|e| match e {
            NotLocked::Held => GateError::InUse(path.to_owned()),
            NotLocked::Io(source) => failed(source),
        })?;
        let listener = bind_socket(path).map_err(failed)?;
        let (said, heard) = mpsc::channel(ORDERS_WAITING_MAX);
        Ok(Self { listener, _lock: lock, count: 0, current: None, said, heard })
    }

    /// The next order of the newest connection.
    pub(super) async fn next(&mut self) -> Said {
        loop {
            tokio::select! {
                // Newer connections first: what an older one said before does not count any more.
                biased;
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream.into_split()),
                    Err(e) => {
                        tracing::error!(error = %e, "can't accept a connection of the agent");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(said) = self.heard.recv() => if said.connection == self.count {
                    return said;
                },
            }
        }
    }

    fn take(&mut self, (read, write): (OwnedReadHalf, OwnedWriteHalf)) {
        self.count += 1;
        let reading = tokio::spawn(listen_to(read, self.count, self.said.clone()));
        if let Some((_, before)) = self.current.replace((write, reading)) {
            before.abort();
        }
    }

    /// Answers, unless a newer connection came meanwhile.
    pub(super) async fn answer(&mut self, connection: u64, answer: &GateAnswer) {
        let Some((write, _)) = self.current.as_mut().filter(|_| connection == self.count) else { return };
        let Ok(mut line) = serde_json::to_vec(answer) else { return };
        line.push(b'\n');
        if !matches!(tokio::time::timeout(ANSWER_WITHIN, write.write_all(&line)).await, Ok(Ok(()))) {
            tracing::warn!("the agent does not take the gate's answer; its connection is closed");
            if let Some((_, reading)) = self.current.take() {
                reading.abort();
            }
        }
    }
}

async fn listen_to(read: OwnedReadHalf, connection: u64, said: mpsc::Sender<Said>) {
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        match (&mut read).take(ORDER_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) => return tracing::warn!(error = %e, "the agent's connection broke"),
        }
        match serde_json::from_slice(&line) {
            Ok(order) => {
                if said.send(Said { connection, order }).await.is_err() {
                    return;
                }
            }
            // The clock goes on; whoever says such things is not heard any further.
            Err(e) => return tracing::error!(error = %e, "what came to the gate is no order"),
        }
    }
}
