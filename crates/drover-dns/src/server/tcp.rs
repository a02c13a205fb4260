//! DNS over TCP: length-prefixed messages, pipelined, with bounds on connections and on waiting (RFC 7766).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::counters::increment;
use crate::answer::{ANSWER_BYTES_USUAL, Transport};

/// After a failed accept (out of file descriptors, mostly): long enough not to spin, short enough not to be
/// missed.
pub(super) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// What is read ahead: several pipelined queries at once.
const READ_BUFFER_BYTES: usize = 4096;

pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(shared.limits.tcp_connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, client)) = accepted else {
            sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        // Closing at once lets the client go to another server; letting it wait would not.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            increment(&shared.counters.tcp_connections_refused);
            continue;
        };
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        tracker.spawn(async move {
            increment(&shared.counters.tcp_connections);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = serve_connection(stream, client, &shared) => {}
            }
            shared.counters.tcp_connections.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
}

async fn serve_connection(stream: TcpStream, client: SocketAddr, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let mut read = BufReader::with_capacity(READ_BUFFER_BYTES, read);
    let mut write = BufWriter::new(write);
    let mut random = super::seeded_random();
    let mut patience = shared.limits.tcp_first_query_timeout;
    // Ends when the client closes, waits too long in either direction, or sends what deserves no answer.
    while let Ok(Some(query)) = timeout(patience, read_query(&mut read)).await {
        patience = shared.limits.tcp_idle_timeout;
        increment(&shared.counters.queries_tcp);
        let Some(response) = answer(shared, &query, client.ip(), random.u64(..)) else { return };
        let flush = !holds_whole_query(read.buffer());
        if !matches!(timeout(patience, write_response(&mut write, &response, flush)).await, Ok(Some(()))) {
            return;
        }
    }
}

fn answer(shared: &Shared, query: &[u8], client: IpAddr, draw: u64) -> Option<Vec<u8>> {
    let moment = shared.moment();
    let buffer = Vec::with_capacity(ANSWER_BYTES_USUAL);
    moment.answer(buffer, moment.read(query).as_ref(), Transport::Tcp, client, draw)
}

async fn read_query(read: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let length = read.read_u16().await.ok()?;
    let mut query = vec![0; usize::from(length)];
    read.read_exact(&mut query).await.ok()?;
    Some(query)
}

async fn write_response(write: &mut BufWriter<OwnedWriteHalf>, response: &[u8], flush: bool) -> Option<()> {
    let length = u16::try_from(response.len()).ok()?;
    write.write_all(&length.to_be_bytes()).await.ok()?;
    write.write_all(response).await.ok()?;
    if flush {
        write.flush().await.ok()?;
    }
    Some(())
}

/// The next answer follows at once, so this one may wait for it.
fn holds_whole_query(buffered: &[u8]) -> bool {
    match buffered {
        [high, low, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}
