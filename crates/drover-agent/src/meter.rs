//! Counts what still reaches an endpoint of the agent's own region.
//!
//! It counts where the traffic arrives, because nobody else can: a client that kept an old answer asks no DNS server and shows in no
//! other region. What can't be counted is told as unknown, never as nothing.

use drover_model::sight::{TrafficCount, TrafficLevel, TrafficQuestion, TrafficSight};
use procfs::net::{TcpNetEntry, TcpState};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
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
        let one = |q: &TrafficQuestion| {
            let counted = match &q.how {
                TrafficCount::Connections => connections(&q.address, q.port).map(Some),
                TrafficCount::AccessLog { path } => {
                    self.lines(q.id, path).map_err(|e| format!("cannot read {}: {e}", path.display()))
                }
            };
            let level = match counted {
                Ok(None) => return None,
                Ok(Some(thousandths)) => TrafficLevel::Counted { thousandths },
                Err(why) => TrafficLevel::Unknown { why },
            };
            Some(TrafficSight { question: q.id, level })
        };
        questions.iter().filter_map(one).collect()
    }

    /// Thousandths of a line a second since the last look.
    fn lines(&mut self, id: u64, path: &Path) -> io::Result<Option<u64>> {
        let Some(tail) = self.tails.get_mut(&id) else {
            let mut file = File::open(path)?;
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

impl Tail {
    fn count(&mut self, path: &Path) -> io::Result<u64> {
        let mut lines = self.appended()?;
        let mut now = File::open(path)?;
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

/// Thousandths of an established connection to a port. Where the address is this machine's own, of that alone; else it is a balancer's or
/// translated, and the port on any address counts.
fn connections(address: &str, port: u16) -> Result<u64, String> {
    let own = address.parse::<IpAddr>().ok().filter(|ip| UdpSocket::bind((*ip, 0)).is_ok());
    let of_v4 = procfs::net::tcp().map_err(|e| format!("cannot read /proc/net/tcp: {e}"))?;
    // A kernel without IPv6 has no such table.
    let of_v6 = procfs::net::tcp6().unwrap_or_default();
    let counts = |entry: &&TcpNetEntry| {
        let at: SocketAddr = entry.local_address;
        let is_there = at.port() == port && own.is_none_or(|ip| at.ip().to_canonical() == ip);
        entry.state == TcpState::Established && is_there
    };
    Ok(of_v4.iter().chain(&of_v6).filter(counts).count() as u64 * 1_000)
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
        drop((clients, served));
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
