//! DNS over UDP: a few tasks on one socket, each answering whatever has arrived.

use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::counters::increment;
use super::{Shared, answer_one};
use crate::answer::Transport;

/// The largest query that is read: more than any client sends, whole.
const QUERY_BYTES_MAX: usize = 4096;

/// How many queries are answered before other tasks get their turn.
const QUERIES_PER_TURN: usize = 64;

/// Tasks per socket, at most: they wait on the kernel together, beyond the cores they only get in each
/// other's way.
const TASKS_MAX: usize = 8;

pub(super) fn spawn(
    socket: UdpSocket,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) {
    let socket = Arc::new(socket);
    let tasks = std::thread::available_parallelism().map_or(1, usize::from).min(TASKS_MAX);
    for _ in 0..tasks {
        tracker.spawn(serve(Arc::clone(&socket), Arc::clone(shared), shutdown.clone()));
    }
}

async fn serve(socket: Arc<UdpSocket>, shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut random = super::seeded_random();
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            ready = socket.readable() => {
                if let Err(error) = ready {
                    warn!(%error, "the UDP socket failed");
                    return;
                }
            }
        }
        for _ in 0..QUERIES_PER_TURN {
            if !answer_next(&socket, &shared, &mut random, &mut buffer) {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// False: there is nothing to read any more.
fn answer_next(socket: &UdpSocket, shared: &Shared, random: &mut fastrand::Rng, buffer: &mut [u8]) -> bool {
    let (length, client) = match socket.try_recv_from(buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
        // An earlier client's port is closed, as the kernel tells us now; no reason to stop reading.
        Err(_) => return true,
    };
    increment(&shared.counters.queries_udp);
    if let Some(response) = answer_one(shared, &buffer[..length], Transport::Udp, client.ip(), random.u64(..))
        && socket.try_send_to(&response, client).is_err()
    {
        // The client asks again; waiting here would hold up the others.
        increment(&shared.counters.send_errors);
    }
    true
}
