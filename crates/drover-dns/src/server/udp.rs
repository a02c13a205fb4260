//! DNS over UDP: a few threads on one socket, each taking what has arrived in one call and answering it in another.
//!
//! Threads and not tasks: the kernel wakes one waiting thread for each arrival and no more, and most of a query's cost is the
//! two calls, which many queries then share.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Shared;
use super::counters::add;
use crate::answer::Transport;

/// The largest query that is read: more than any client sends, whole.
const QUERY_BYTES_MAX: usize = 4096;

/// Queries that are taken in one call.
const AT_ONCE: usize = 64;

/// Threads per socket, at most: they wait on the kernel together, beyond the cores they only get in each
/// other's way.
const THREADS_MAX: usize = 8;

/// How long a thread waits for a query before it looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After a call that failed for another reason than that nothing came, so that a broken socket doesn't take a core.
const PAUSE: Duration = Duration::from_millis(10);

/// Answers on this socket until told to stop.
///
/// # Errors
/// When the socket can't be made to wait.
pub(super) fn spawn(
    socket: UdpSocket,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    let socket = Arc::new(socket);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    for _ in 0..threads {
        let (socket, shared, shutdown) = (Arc::clone(&socket), Arc::clone(shared), shutdown.clone());
        tracker.spawn_blocking(move || serve(&socket, &shared, &shutdown));
    }
    Ok(())
}

fn serve(socket: &UdpSocket, shared: &Shared, shutdown: &CancellationToken) {
    let mut random = super::seeded_random();
    let mut turn = Turn::new();
    let mut has_failed = false;
    while !shutdown.is_cancelled() {
        match turn.take(socket) {
            Ok(()) => {
                turn.answer(shared, &mut random);
                turn.send(socket, shared);
                has_failed = false;
            }
            // Nothing came, or a signal did.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // An earlier client's port is closed, as the kernel tells us now; no reason to stop reading.
            Err(Errno::ECONNREFUSED) => {}
            Err(error) => {
                if !has_failed {
                    warn!(%error, "the UDP socket failed");
                }
                has_failed = true;
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// A datagram to be sent.
struct Answer {
    to: Option<SockaddrStorage>,
    bytes: Vec<u8>,
}

/// What a thread takes and answers at once.
struct Turn {
    queries: Vec<[u8; QUERY_BYTES_MAX]>,
    arriving: MultiHeaders<SockaddrStorage>,
    leaving: MultiHeaders<SockaddrStorage>,
    /// The length of each query that came, and from where.
    arrived: Vec<(usize, Option<SockaddrStorage>)>,
    answers: Vec<Answer>,
}

impl Turn {
    fn new() -> Self {
        Self {
            queries: vec![[0; QUERY_BYTES_MAX]; AT_ONCE],
            arriving: MultiHeaders::preallocate(AT_ONCE, None),
            leaving: MultiHeaders::preallocate(AT_ONCE, None),
            arrived: Vec::with_capacity(AT_ONCE),
            answers: Vec::with_capacity(AT_ONCE),
        }
    }

    /// Waits for one query, and takes all that have come by then.
    fn take(&mut self, socket: &UdpSocket) -> Result<(), Errno> {
        self.arrived.clear();
        let mut slices: Vec<_> = self.queries.iter_mut().map(|query| [IoSliceMut::new(query)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let came = recvmmsg(socket.as_raw_fd(), &mut self.arriving, slices.iter_mut(), flags, None)?;
        self.arrived.extend(came.map(|message| (message.bytes, message.address)));
        Ok(())
    }

    fn answer(&mut self, shared: &Shared, random: &mut fastrand::Rng) {
        add(&shared.counters.queries_udp, self.arrived.len());
        let moment = shared.moment();
        self.answers.clear();
        for ((length, client), query) in self.arrived.iter().zip(&self.queries) {
            let Some(ip) = client.as_ref().and_then(ip) else { continue };
            if let Some(bytes) = moment.answer(&query[..*length], Transport::Udp, ip, random.u64(..)) {
                self.answers.push(Answer { to: *client, bytes });
            }
        }
    }

    fn send(&mut self, socket: &UdpSocket, shared: &Shared) {
        let to: Vec<Option<SockaddrStorage>> = self.answers.iter().map(|answer| answer.to).collect();
        let slices: Vec<_> = self.answers.iter().map(|answer| [IoSlice::new(&answer.bytes)]).collect();
        let mut done = 0;
        while done < slices.len() {
            let (some, flags) = (slices[done..].iter(), MsgFlags::MSG_DONTWAIT);
            match sendmmsg(socket.as_raw_fd(), &mut self.leaving, some, &to[done..], [], flags) {
                Ok(sent) => done += sent.count().max(1),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // The client asks again; waiting here would hold up the others. When there is no room, there is none for
                    // the next either.
                    let left = if error == Errno::EAGAIN { slices.len() - done } else { 1 };
                    add(&shared.counters.send_errors, left);
                    done += left;
                }
            }
        }
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
}
