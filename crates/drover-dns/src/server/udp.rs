//! DNS over UDP: a few threads on one socket, each taking what has arrived in one call and answering it in another.
//!
//! Threads and not tasks: the kernel wakes one waiting thread for each arrival and no more, and most of a query's cost is the
//! two calls, which many queries then share.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Shared;
use super::counters::add;
use super::send_many::{Datagram, send_many};
use crate::answer::{ANSWER_BYTES_USUAL, Asked, Transport};

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
/// When the socket can't be made to wait, or no thread can be had.
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
        let running = tracker.token();
        std::thread::Builder::new().name("dns-udp".into()).spawn(move || {
            serve(&socket, &shared, &shutdown);
            // First what this thread had: whoever waits for it may lock the same directory at once.
            drop((socket, shared));
            drop(running);
        })?;
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

/// What a thread takes and answers at once.
struct Turn {
    queries: Vec<[u8; QUERY_BYTES_MAX]>,
    arriving: MultiHeaders<SockaddrStorage>,
    /// The length of each query that came, and from where.
    arrived: Vec<(usize, Option<SockaddrStorage>)>,
    answers: Vec<Datagram>,
    /// What answers were written in, to be written in again.
    spare: Vec<Vec<u8>>,
}

impl Turn {
    fn new() -> Self {
        Self {
            queries: vec![[0; QUERY_BYTES_MAX]; AT_ONCE],
            arriving: MultiHeaders::preallocate(AT_ONCE, None),
            arrived: Vec::with_capacity(AT_ONCE),
            answers: Vec::with_capacity(AT_ONCE),
            spare: Vec::with_capacity(AT_ONCE),
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
        let messages = self.arrived.iter().zip(&self.queries).map(|((length, _), query)| &query[..*length]);
        let mut asked: SmallVec<[_; AT_ONCE]> = messages.map(|message| moment.read(message)).collect();
        Asked::look_up_together(&mut asked);
        self.spare.extend(self.answers.drain(..).map(|answer| answer.bytes));
        for ((_, client), asked) in self.arrived.iter().zip(&asked) {
            let Some((to, ip)) = client.and_then(|client| Some((client, ip(&client)?))) else { continue };
            let buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(ANSWER_BYTES_USUAL));
            if let Some(bytes) = moment.answer(buffer, asked.as_ref(), Transport::Udp, ip, random.u64(..)) {
                self.answers.push(Datagram { to, bytes });
            }
        }
    }

    fn send(&mut self, socket: &UdpSocket, shared: &Shared) {
        let mut left = self.answers.as_slice();
        while !left.is_empty() {
            let done = match send_many(socket, left) {
                Ok(sent) => sent,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    // The client asks again; waiting here would hold up the others. When there is no room, there is none for
                    // the next either.
                    let lost = if error == Errno::EAGAIN { left.len() } else { 1 };
                    add(&shared.counters.send_errors, lost);
                    lost
                }
            };
            left = left.get(done..).unwrap_or_default();
        }
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
}
