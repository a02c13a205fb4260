//! Counts what still reaches an endpoint of the agent's own region.
//!
//! It counts where the traffic arrives, because nobody else can: a client that kept an old answer asks no DNS server and shows in no
//! other region. What can't be counted is told as unknown, never as nothing.

use drover_model::sight::{TrafficCount, TrafficLevel, TrafficQuestion, TrafficSight};
use nix::fcntl::OFlag;
use procfs::ProcError;
use procfs::net::{TcpNetEntry, TcpState};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// Bytes of a log that are counted at once, at most. More in one second is far above any threshold.
const COUNTED_BYTES_MAX: u64 = 64 << 20;
const READ_BYTES: usize = 64 << 10;

/// Counts for one coordinator.
#[derive(Debug, Default)]
pub struct Meter {
    tails: BTreeMap<u64, Tail>,
}

/// A log up to where it was counted.
#[derive(Debug)]
struct Tail {
    file: File,
    inode: u64,
    offset: u64,
    at: Instant,
}

impl Meter {
    /// Counts once. A log gives nothing at its first look: a rate needs two.
    pub fn read(&mut self, questions: &[TrafficQuestion]) -> Vec<TrafficSight> {
        self.tails.retain(|id, _| questions.iter().any(|q| q.id == *id));
        // Read once for all questions: on a busy machine it is some megabytes.
        let sockets = questions.iter().any(|q| q.how == TrafficCount::Connections).then(Sockets::read);
        let one = |q: &TrafficQuestion| {
            let level = match (&q.how, &sockets) {
                (TrafficCount::Connections, Some(Ok(sockets))) => sockets.level(&q.address, q.port),
                (TrafficCount::Connections, Some(Err(why))) => TrafficLevel::Unknown { why: why.clone() },
                (TrafficCount::Connections, None) => return None,
                (TrafficCount::AccessLog { path }, _) => match self.lines(q.id, path) {
                    Ok(None) => return None,
                    Ok(Some(thousandths)) => TrafficLevel::Counted { thousandths },
                    Err(e) => TrafficLevel::Unknown { why: format!("cannot read {}: {e}", path.display()) },
                },
            };
            Some(TrafficSight { question: q.id, level })
        };
        questions.iter().filter_map(one).collect()
    }

    /// Thousandths of a line a second since the last look.
    fn lines(&mut self, id: u64, path: &Path) -> io::Result<Option<u64>> {
        let Some(tail) = self.tails.get_mut(&id) else {
            let mut file = log(path)?;
            let offset = file.seek(SeekFrom::End(0))?;
            let inode = file.metadata()?.ino();
            self.tails.insert(id, Tail { file, inode, offset, at: Instant::now() });
            return Ok(None);
        };
        let counted = tail.count(path);
        if counted.is_err() {
            // Should it be there again, it is counted from its end.
            self.tails.remove(&id);
        }
        counted.map(Some)
    }
}

/// Opens a log. Whoever opens a pipe waits for its writer, and what is read from it is gone for its reader.
fn log(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

impl Tail {
    fn count(&mut self, path: &Path) -> io::Result<u64> {
        let mut lines = self.appended()?;
        let mut now = log(path)?;
        let inode = now.metadata()?.ino();
        if inode != self.inode {
            // Rotated: what came into the old file since is counted, and all of the new one.
            std::mem::swap(&mut self.file, &mut now);
            (self.inode, self.offset) = (inode, 0);
            lines += self.appended()?;
        }
        let took = self.at.elapsed().as_millis().max(1);
        self.at = Instant::now();
        Ok(u64::try_from(u128::from(lines) * 1_000_000 / took).unwrap_or(u64::MAX))
    }

    /// Lines that were appended since.
    fn appended(&mut self) -> io::Result<u64> {
        let end = self.file.metadata()?.len();
        if end < self.offset {
            // Cut off, as `copytruncate` does.
            self.offset = 0;
        }
        self.file.seek(SeekFrom::Start(self.offset))?;
        let wanted = (end - self.offset).min(COUNTED_BYTES_MAX);
        let (mut lines, mut buffer) = (0, vec![0; READ_BYTES]);
        let mut rest = (&mut self.file).take(wanted);
        loop {
            let n = rest.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.offset = end;
        Ok(lines)
    }
}

/// The machine's TCP sockets.
struct Sockets(Vec<TcpNetEntry>);

impl Sockets {
    fn read() -> Result<Self, String> {
        let mut all = procfs::net::tcp().map_err(|e| format!("cannot read /proc/net/tcp: {e}"))?;
        match procfs::net::tcp6() {
            Ok(of_v6) => all.extend(of_v6),
            // A kernel without IPv6 has no such table.
            Err(ProcError::NotFound(_)) => {}
            Err(e) => return Err(format!("cannot read /proc/net/tcp6: {e}")),
        }
        Ok(Self(all))
    }

    /// Established connections to a port. Where the address is this machine's own, to that alone; else it is a balancer's or
    /// translated, and the port on any address counts. Where nothing listens nobody can connect, and no connection is no news.
    fn level(&self, address: &str, port: u16) -> TrafficLevel {
        let own = address.parse::<IpAddr>().ok().filter(|ip| UdpSocket::bind((*ip, 0)).is_ok());
        let of = |state: TcpState| {
            self.0.iter().filter(move |entry| {
                let at: SocketAddr = entry.local_address;
                let ip = at.ip().to_canonical();
                let takes_any = state == TcpState::Listen && ip.is_unspecified();
                entry.state == state && at.port() == port && (takes_any || own.is_none_or(|own| own == ip))
            })
        };
        // The kernel writes the table piece by piece, and a socket can be in two of them when others come and go meanwhile.
        let connections: BTreeSet<(SocketAddr, SocketAddr)> =
            of(TcpState::Established).map(|entry| (entry.local_address, entry.remote_address)).collect();
        let established = connections.len() as u64;
        if established == 0 && of(TcpState::Listen).next().is_none() {
            return TrafficLevel::NotHere;
        }
        TrafficLevel::Counted { thousandths: established * 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    fn question(how: TrafficCount, port: u16) -> TrafficQuestion {
        TrafficQuestion { id: 1, address: "127.0.0.1".to_owned(), port, how }
    }

    fn level(meter: &mut Meter, q: &TrafficQuestion) -> Option<TrafficLevel> {
        meter.read(std::slice::from_ref(q)).pop().map(|sight| sight.level)
    }

    #[track_caller]
    fn counted(meter: &mut Meter, q: &TrafficQuestion) -> u64 {
        match level(meter, q) {
            Some(TrafficLevel::Counted { thousandths }) => thousandths,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn established_connections_are_counted_and_listening_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let q = question(TrafficCount::Connections, listener.local_addr().unwrap().port());
        let mut meter = Meter::default();
        assert_eq!(counted(&mut meter, &q), 0);
        let clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let served: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(counted(&mut meter, &q), 3_000);
        let mut seen_twice = Sockets::read().unwrap();
        seen_twice.0.extend_from_within(..);
        assert_eq!(seen_twice.level(&q.address, q.port), TrafficLevel::Counted { thousandths: 3_000 });
        drop((clients, served));
    }

    #[test]
    fn where_nothing_listens_nothing_is_counted() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let q = question(TrafficCount::Connections, free);
        assert_eq!(level(&mut Meter::default(), &q), Some(TrafficLevel::NotHere));
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let q = question(TrafficCount::Connections, any.local_addr().unwrap().port());
        assert_eq!(counted(&mut Meter::default(), &q), 0, "who listens to any address takes this one, too");
    }

    #[test]
    fn a_log_that_is_a_pipe_is_unknown_and_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let q = question(TrafficCount::AccessLog { path }, 80);
        let Some(TrafficLevel::Unknown { why }) = level(&mut Meter::default(), &q) else { panic!("counted") };
        assert!(why.ends_with("it is no regular file"), "{why}");
    }

    #[test]
    fn a_log_is_counted_from_its_end_across_rotation_and_truncation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let append = |text: &str| {
            let file = File::options().create(true).append(true).open(&path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("old\n");
        let q = question(TrafficCount::AccessLog { path: path.clone() }, 80);
        let mut meter = Meter::default();
        assert_eq!(level(&mut meter, &q), None, "a rate needs two looks");
        assert_eq!(counted(&mut meter, &q), 0, "what was there before is no traffic");
        append("one\n");
        assert!(counted(&mut meter, &q) > 0);
        append("two\n");
        std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        append("three\n");
        let tail = meter.tails.get_mut(&1).unwrap();
        assert_eq!((tail.appended().unwrap(), tail.offset), (1, 12));
        assert!(counted(&mut meter, &q) > 0, "the new file counts from its beginning");
        assert_eq!(counted(&mut meter, &q), 0);
        File::create(&path).unwrap();
        append("4\n");
        assert!(counted(&mut meter, &q) > 0, "a file that was cut off begins anew");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(level(&mut meter, &q), Some(TrafficLevel::Unknown { .. })));
    }
}
