//! A database for tests of write rights: it acknowledges numbered writes, and keeps when. Not shipped.
//!
//! `drover-test-register ADDRESS FILE` writes at the generation of `DROVER_GENERATION` for as long as it runs. What stops it is its
//! gate. A client sends a number a line, and reads `GENERATION NUMBER` once it is on disk.

use std::env;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The one before it may have its last connections still.
const BIND_AGAIN: Duration = Duration::from_millis(20);

fn main() -> io::Result<()> {
    let mut words = env::args().skip(1);
    let wrong = || io::Error::other("drover-test-register ADDRESS FILE, with DROVER_GENERATION");
    let (address, file) = words.next().zip(words.next()).ok_or_else(wrong)?;
    let generation: u64 =
        env::var("DROVER_GENERATION").ok().and_then(|g| g.parse().ok()).ok_or_else(wrong)?;
    let log = Arc::new(Mutex::new(File::options().create(true).append(true).open(file)?));
    let listener = loop {
        match TcpListener::bind(&address) {
            Ok(listener) => break listener,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => thread::sleep(BIND_AGAIN),
            Err(e) => return Err(e),
        }
    };
    for stream in listener.incoming() {
        let (stream, log) = (stream?, Arc::clone(&log));
        // A client that goes away is no trouble of the others.
        thread::spawn(move || serve(&stream, generation, &log));
    }
    Ok(())
}

fn serve(stream: &TcpStream, generation: u64, log: &Mutex<File>) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        let number: u64 = line?.trim().parse().map_err(io::Error::other)?;
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(log, "write {generation} {number} {}", nanoseconds())?;
            log.sync_all()?;
            writeln!(log, "acknowledged {generation} {number} {}", nanoseconds())?;
        }
        let mut stream = stream;
        writeln!(stream, "{generation} {number}")?;
    }
    Ok(())
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
