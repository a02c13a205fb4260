//! A load of DNS questions over UDP from one core. dnsperf saturates before these servers do, and on two cores would be what is
//! measured: this takes and sends many datagrams in one call.

use crate::error::{Attempt, Result, unexpected};
use crate::samples::Samples;
use domain::base::iana::Rtype;
use domain::base::name::Name;
use domain::base::{MessageBuilder, StaticCompressor};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Sockets, each another client of the server.
const SOCKETS: usize = 8;
/// Questions on their way from one socket, when as many are sent as are answered.
const WINDOW: usize = 20;
/// Datagrams in one call.
const AT_ONCE: usize = 32;
const ANSWER_BYTES_MAX: usize = 1500;
/// No answer for so long: what was on its way is lost.
const LOST_AFTER: Duration = Duration::from_millis(400);
/// How long a resolver waits before it asks again.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between two questions of a client at leisure.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// What is offered by EDNS, as resolvers do.
const PAYLOAD_BYTES: u16 = 1232;
/// Result code and "is an answer" are in these bytes of the header.
const FLAGS: usize = 2;
const CODE: usize = 3;

/// Keeps this thread, and what it starts, to one core.
pub fn keep_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).attempt("choose a core")?;
    sched_setaffinity(Pid::from_raw(0), &set).attempt(format!("keep to core {core}"))
}

/// An address question for a name, with EDNS; its first two bytes are to be set.
pub fn question(name: &str) -> Result<Vec<u8>> {
    let name: Name<Vec<u8>> = name.parse().attempt(format!("ask for {name}"))?;
    let builder =
        MessageBuilder::from_target(StaticCompressor::new(Vec::new())).attempt("make a question")?;
    let mut builder = builder.question();
    builder.push((&name, Rtype::A)).attempt("make a question")?;
    let mut builder = builder.additional();
    let opt = builder.opt(|opt| {
        opt.set_udp_payload_size(PAYLOAD_BYTES);
        Ok(())
    });
    opt.attempt("make a question")?;
    Ok(builder.finish().into_target())
}

/// A client that asks one question again and again, at leisure: the share that is answered at the first try.
pub fn share_answered(server: SocketAddr, question: &[u8], length: Duration) -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).attempt("open a socket")?;
    socket.connect(server).attempt(format!("connect to {server}"))?;
    socket.set_read_timeout(Some(PATIENCE)).attempt("set a timeout")?;
    let (mut asked, mut answered, mut id) = (0_u64, 0_u64, 0_u16);
    let (mut question, mut answer) = (question.to_vec(), [0; ANSWER_BYTES_MAX]);
    let began = Instant::now();
    while began.elapsed() < length {
        id = id.wrapping_add(1);
        question[..FLAGS].copy_from_slice(&id.to_be_bytes());
        socket.send(&question).attempt("ask")?;
        asked += 1;
        // A late answer to an earlier question counts for nothing.
        while let Ok(bytes) = socket.recv(&mut answer) {
            if bytes > CODE && answer[..FLAGS] == id.to_be_bytes() {
                answered += u64::from(answer[CODE] & 0x0f == 0);
                break;
            }
        }
        std::thread::sleep(ASK_EVERY);
    }
    Ok(answered as f64 / asked.max(1) as f64)
}

/// What came of a load.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    /// Answers with the result code that was expected.
    pub good: u64,
    /// Others.
    pub bad: u64,
    /// Questions without an answer.
    pub lost: u64,
    /// For how long.
    pub seconds: f64,
}

impl Counted {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.good as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// One client.
struct Client {
    socket: UdpSocket,
    arriving: MultiHeaders<()>,
    leaving: MultiHeaders<()>,
    answers: Vec<[u8; ANSWER_BYTES_MAX]>,
    questions: Vec<Vec<u8>>,
    next_id: u16,
    on_the_way: usize,
    heard_at: Instant,
    /// By id, while a load keeps to a rate.
    sent_at: Vec<Option<Instant>>,
}

/// Clients of one server.
pub struct Load<'q> {
    clients: Vec<Client>,
    /// What is asked, in turn.
    questions: &'q [Vec<u8>],
    asked: usize,
    /// The result code of a good answer.
    code: u8,
    counted: Counted,
    samples: Samples,
}

impl<'q> Load<'q> {
    /// Clients of `server`, which ask these questions in turn.
    pub fn new(server: SocketAddr, questions: &'q [Vec<u8>], code: u8) -> Result<Self> {
        if questions.is_empty() {
            return unexpected("there is nothing to ask");
        }
        let clients = (0..SOCKETS).map(|_| Client::new(server)).collect::<Result<_>>()?;
        Ok(Self { clients, questions, asked: 0, code, counted: Counted::default(), samples: Samples::new() })
    }

    /// As many as are answered, for so long.
    pub fn saturate(&mut self, length: Duration) -> Result<Counted> {
        self.counted = Counted::default();
        let began = Instant::now();
        while began.elapsed() < length {
            for at in 0..self.clients.len() {
                // What came while this thread had no core is taken before anything is called lost.
                let looked_at = Instant::now();
                self.receive(at)?;
                let client = &mut self.clients[at];
                if client.on_the_way > 0 && looked_at.saturating_duration_since(client.heard_at) > LOST_AFTER
                {
                    self.counted.lost += client.on_the_way as u64;
                    client.on_the_way = 0;
                }
                let room = (WINDOW - self.clients[at].on_the_way.min(WINDOW)).min(AT_ONCE);
                self.send(at, room, None)?;
            }
        }
        self.counted.seconds = began.elapsed().as_secs_f64();
        Ok(self.counted)
    }

    /// So many a second, whatever comes back; gives the times from when a question was due to its answer, where they are wanted.
    pub fn keep_rate(&mut self, rate: f64, length: Duration, times: bool) -> Result<(Counted, Samples)> {
        (self.counted, self.samples) = (Counted::default(), Samples::new());
        let began = Instant::now();
        let mut sent = 0_u64;
        while began.elapsed() < length {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            for at in 0..self.clients.len() {
                self.receive(at)?;
            }
            let room = usize::try_from(due - sent).unwrap_or(usize::MAX).min(AT_ONCE);
            if room > 0 {
                let at = (sent / AT_ONCE as u64) as usize % self.clients.len();
                let due = began + Duration::from_secs_f64(sent as f64 / rate);
                self.send(at, room, times.then_some(due))?;
                sent += room as u64;
            }
        }
        let last = Instant::now();
        while last.elapsed() < LOST_AFTER {
            for at in 0..self.clients.len() {
                self.receive(at)?;
            }
        }
        self.counted.seconds = length.as_secs_f64();
        self.counted.lost = sent.saturating_sub(self.counted.good + self.counted.bad);
        Ok((self.counted, std::mem::take(&mut self.samples)))
    }

    fn receive(&mut self, at: usize) -> Result<()> {
        let client = &mut self.clients[at];
        let mut slices: Vec<_> = client.answers.iter_mut().map(|a| [IoSliceMut::new(a)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = client.socket.as_raw_fd();
        let lengths: Vec<usize> = match recvmmsg(fd, &mut client.arriving, slices.iter_mut(), flags, None) {
            Ok(came) => came.map(|message| message.bytes).collect(),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error).attempt("receive answers"),
        };
        client.heard_at = Instant::now();
        client.on_the_way = client.on_the_way.saturating_sub(lengths.len());
        for (answer, length) in client.answers.iter().zip(lengths) {
            let is_answer = length > CODE && answer[FLAGS] & 0x80 != 0;
            if !is_answer || answer[CODE] & 0x0f != self.code {
                self.counted.bad += 1;
                continue;
            }
            self.counted.good += 1;
            let id = u16::from_be_bytes([answer[0], answer[1]]);
            if let Some(sent) = client.sent_at[usize::from(id)].take() {
                self.samples.add(sent.elapsed());
            }
        }
        Ok(())
    }

    fn send(&mut self, at: usize, count: usize, due: Option<Instant>) -> Result<()> {
        let client = &mut self.clients[at];
        for n in 0..count {
            let id = client.next_id;
            client.next_id = id.wrapping_add(1);
            client.sent_at[usize::from(id)] = due;
            let buffer = &mut client.questions[n];
            buffer.clear();
            buffer.extend_from_slice(&self.questions[self.asked % self.questions.len()]);
            buffer[..FLAGS].copy_from_slice(&id.to_be_bytes());
            self.asked += 1;
        }
        let slices: Vec<_> = client.questions[..count].iter().map(|q| [IoSlice::new(q)]).collect();
        let (fd, to) = (client.socket.as_raw_fd(), vec![None; count]);
        let mut done = 0;
        while done < count {
            let some = slices[done..].iter();
            match sendmmsg(fd, &mut client.leaving, some, &to[done..], [], MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => done += sent.count(),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).attempt("send questions"),
            }
        }
        client.on_the_way += count;
        Ok(())
    }
}

impl Client {
    fn new(server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).attempt("open a socket")?;
        socket.connect(server).attempt(format!("connect to {server}"))?;
        Ok(Self {
            socket,
            arriving: MultiHeaders::preallocate(AT_ONCE, None),
            leaving: MultiHeaders::preallocate(AT_ONCE, None),
            answers: vec![[0; ANSWER_BYTES_MAX]; AT_ONCE],
            questions: vec![Vec::new(); AT_ONCE],
            next_id: 0,
            on_the_way: 0,
            heard_at: Instant::now(),
            sent_at: vec![None; usize::from(u16::MAX) + 1],
        })
    }
}
