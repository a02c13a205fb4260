//! What is wrong with a sample service, and how it is told: one JSON line with everything that shall be wrong from now
//! on, one line back. The whole state each time, so that telling it twice changes nothing.

use super::filter;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_model::{Percent, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Bytes of one order, at most.
const ORDER_BYTES_MAX: u64 = 64 << 10;
/// An order is a write to a local process; longer means that it is stopped or dead.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that is wrong with a service. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Each answer takes so much longer.
    pub slow: Span,
    /// Share of answers that are an error.
    pub errors: Percent,
    /// Packets from here are dropped.
    pub dropped: BTreeSet<Ipv4Addr>,
}

/// What is wrong now.
pub struct Condition {
    faults: Mutex<Faults>,
    listeners: Vec<Arc<TcpListener>>,
}

impl Condition {
    /// Nothing is wrong.
    pub fn new(listeners: Vec<Arc<TcpListener>>) -> Self {
        Self { faults: Mutex::new(Faults::default()), listeners }
    }

    /// What is wrong now.
    pub fn faults(&self) -> Faults {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, faults: Faults) -> std::io::Result<()> {
        let dropped: Vec<Ipv4Addr> = faults.dropped.iter().copied().collect();
        for listener in &self.listeners {
            filter::drop_from(listener, &dropped)?;
        }
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
        Ok(())
    }
}

/// Opens the socket, taking it over from a process that was killed.
///
/// # Errors
/// When it can't be had.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let failed =
        |e| Failure::because(ExitCode::Failed, format!("can't take orders on {}", path.display()), &e);
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    UnixListener::bind(path).map_err(failed)
}

/// Takes orders, one at a time, for ever.
pub async fn serve(listener: UnixListener, condition: &Condition) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(super::ACCEPT_PAUSE).await;
            continue;
        };
        // Whoever ordered sees a broken connection and says so.
        let _ = tokio::time::timeout(ORDER_TIMEOUT, take(stream, condition)).await;
    }
}

async fn take(stream: UnixStream, condition: &Condition) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let line = read_line(&mut stream).await?;
    let said = match serde_json::from_str::<Faults>(&line) {
        Ok(faults) => match condition.set(faults) {
            Ok(()) => "ok".to_owned(),
            Err(e) => format!("can't drop packets: {e}"),
        },
        Err(e) => format!("not an order: {e}"),
    };
    stream.get_mut().write_all(format!("{said}\n").as_bytes()).await
}

/// One line, bounded.
pub async fn read_line(stream: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.take(ORDER_BYTES_MAX).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

/// Sends one line and returns the line that comes back.
///
/// # Errors
/// When nobody answers in time.
pub async fn exchange(path: &Path, line: &str) -> std::io::Result<String> {
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(path).await?);
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
        read_line(&mut stream).await
    };
    tokio::time::timeout(ORDER_TIMEOUT, talk)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Tells a service what shall be wrong with it from now on.
///
/// # Errors
/// When it does not answer or can't do so.
pub async fn order(path: &Path, faults: &Faults) -> Result<()> {
    let what = || format!("can't order trouble on {}", path.display());
    let line = serde_json::to_string(faults).map_err(|e| Failure::because(ExitCode::Internal, what(), &e))?;
    match exchange(path, &line).await {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => Err(Failure::new(ExitCode::Failed, format!("{}: {said}", what()))),
        Err(e) => Err(Failure::because(ExitCode::Failed, what(), &e)),
    }
}
