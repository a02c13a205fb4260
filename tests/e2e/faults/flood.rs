//! Whoever floods the API gets 4xx or is cut off; everybody else is served meanwhile, from bounded memory.

use super::role::{Role, Site, descriptors};
use crate::wire;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How much a request sends that is far too large.
const GARBAGE_BYTES: usize = 10 << 20;
/// So many of each kind at once.
const GARBAGE_CLIENTS: usize = 3;
/// What a flood may add to the coordinator's memory at its peak: two kinds of garbage have bodies, each read up to its
/// bound of 4 MiB, or 512 connections have 64 KiB of headers each; and half as much again for what surrounds them.
const GROWTH_BYTES_MAX: u64 = 48 << 20;
/// Connections that ask nothing.
const IDLE_CONNECTIONS: usize = 5_000;
/// Connections that send a byte of their request now and then.
const SLOW_CONNECTIONS: usize = 200;
/// Connections that send headers without end: all of them kept would be more than may be added.
const HEADER_CONNECTIONS: usize = 400;
/// What each of them sends.
const HEADER_BYTES: usize = 300 << 10;
/// Descriptors that this process needs for all of them.
const DESCRIPTORS_NEEDED: u64 = (IDLE_CONNECTIONS + SLOW_CONNECTIONS + HEADER_CONNECTIONS + 500) as u64;
/// Commands that must get through during the flood.
const COMMANDS: usize = 5;
/// For a server that does not read: longer than any answer takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The most memory that a process had so far.
fn peak_bytes(role: &Role) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", role.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

#[track_caller]
fn bounded(role: &Role, before: u64) {
    let grown = peak_bytes(role).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more, {GROWTH_BYTES_MAX} allowed");
}

/// Sends `head` and then garbage until it is all sent or nobody listens; the status of the answer, or nothing when the
/// connection was cut.
fn send(api: SocketAddr, head: &str, garbage: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(garbage));
    if let Err(e) = sent {
        let cut = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(cut.contains(&e.kind()), "the server neither reads nor hangs up: {e}");
    }
    let mut answer = Vec::new();
    if let Err(e) = stream.read_to_end(&mut answer) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset, "no end of the answer");
    }
    let text = String::from_utf8_lossy(&answer);
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok())
}

#[test]
fn ten_mebibytes_of_garbage_are_refused_from_bounded_memory() {
    let site = Site::new();
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    let api = coordinator.api();
    let before = peak_bytes(&coordinator);
    let mut random = fastrand::Rng::with_seed(10);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(GARBAGE_BYTES).collect();
    let post =
        "POST /v1/freeze HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-type: application/json\r\n";
    let with_length = format!("{post}content-length: {GARBAGE_BYTES}\r\n\r\n");
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n{GARBAGE_BYTES:x}\r\n");
    let header = "GET /v1/status HTTP/1.1\r\nhost: x\r\nx-garbage: ";
    // All that is no text is no header either, and would be refused for that.
    let long = vec![b'a'; GARBAGE_BYTES];
    std::thread::scope(|scope| {
        let clients = (0..GARBAGE_CLIENTS).flat_map(|_| {
            [
                ("", &garbage, 400),
                (with_length.as_str(), &garbage, 413),
                (chunked.as_str(), &garbage, 413),
                (header, &long, 431),
            ]
        });
        let sent: Vec<_> = clients
            .map(|(head, body, code)| (head, code, scope.spawn(move || send(api, head, body))))
            .collect();
        for (head, code, answer) in sent {
            let answer = answer.join().unwrap();
            // A reset may overtake the answer: the rest of the garbage was on its way to a closed connection.
            assert!(answer.is_none_or(|a| a == code), "{answer:?} and not {code} to {head:?}");
        }
    });
    let (code, said) = site.ask(&format!("http://{api}"), &["status", "-o", "json"]);
    assert_eq!(code, 0, "{said}");
    let (_, status) = wire::http(api, "GET", "/v1/status", "").unwrap();
    assert!(status["freeze"].is_null(), "garbage was taken for a command");
    bounded(&coordinator, before);
}

/// Room for the flood's own ends of its connections.
fn raise_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard >= DESCRIPTORS_NEEDED,
        "{DESCRIPTORS_NEEDED} descriptors are needed: ulimit -Hn {DESCRIPTORS_NEEDED}"
    );
    if soft < DESCRIPTORS_NEEDED {
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS_NEEDED, hard).unwrap();
    }
}

/// All that people and agents do is served, on the port and on the socket.
#[track_caller]
fn served(site: &Site, api: SocketAddr) {
    let socket = format!("unix:{}", site.path("c.sock").display());
    for address in [&format!("http://{api}"), &socket] {
        for _ in 0..COMMANDS {
            let (code, said) = site.ask(address, &["status", "-o", "json"]);
            assert_eq!(code, 0, "at {address}: {said}");
        }
    }
    let (code, said) = site.ask(&socket, &["freeze", "--for", "1h", "--reason", "we are being flooded"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn five_thousand_connections_that_ask_nothing_and_some_that_ask_slowly_keep_nobody_out() {
    raise_descriptors();
    let site = Site::new();
    let mut coordinator = site.coordinator("c", &[], "127.0.0.1:0", &site.path("state"));
    let api = coordinator.api();
    let before = peak_bytes(&coordinator);
    let idle: Vec<TcpStream> = (0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(api).unwrap()).collect();
    let mut slow: Vec<TcpStream> = (0..SLOW_CONNECTIONS).map(|_| TcpStream::connect(api).unwrap()).collect();
    served(&site, api);
    // A byte at a time keeps none of them longer than one that sends nothing.
    for byte in "GET /v1/status HT".bytes() {
        // Those that were cut off already can't send it.
        slow.iter_mut().for_each(|s| drop(s.write_all(&[byte])));
        served_once(api);
    }
    let headers: Vec<TcpStream> = (0..HEADER_CONNECTIONS).map(|_| long_headers(api)).collect();
    served(&site, api);
    assert!(descriptors(coordinator.pid()) < IDLE_CONNECTIONS / 2, "it holds them all");
    bounded(&coordinator, before);
    let said = coordinator.log();
    let times = said.matches("too many connections to the API").count();
    assert_eq!(times, 1, "a flood is said, and does not flood the log: {said}");
    drop((idle, slow, headers));
    assert!(coordinator.is_alive());
}

/// A request whose headers don't end.
fn long_headers(api: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    let head = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx-garbage: {}", "a".repeat(HEADER_BYTES));
    // Refused before it is all sent, it can't be sent.
    let _ = stream.write_all(head.as_bytes());
    stream
}

#[track_caller]
fn served_once(api: SocketAddr) {
    let (status, _) = wire::http(api, "GET", "/livez", "").unwrap();
    assert_eq!(status, 200);
}
