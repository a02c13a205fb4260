//! The few bytes that tests put on the wire themselves: an HTTP request, a DNS question, an order to a sample service.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A local answer takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer over UDP.
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// One request on a connection of its own; status and body.
///
/// # Errors
/// When nobody answers.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let (status, body) = http_within(TIMEOUT, address, method, path, body)?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

/// The same in so much time, with the body as it came.
///
/// # Errors
/// When nobody answers.
pub fn http_within(
    allowed: Duration,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, allowed)?;
    stream.set_read_timeout(Some(allowed))?;
    exchange(stream, &address.to_string(), method, path, body)
}

/// A GET on a Unix socket; status and body.
pub fn over_socket(socket: &Path, path: &str) -> (u16, String) {
    socket_within(TIMEOUT, socket, "GET", path, "").unwrap_or_else(|e| panic!("{}: {e}", socket.display()))
}

/// A request on a Unix socket in so much time.
///
/// # Errors
/// When nobody answers.
pub fn socket_within(
    allowed: Duration,
    socket: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(allowed))?;
    exchange(stream, "localhost", method, path, body)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    // A command needs a key, and nobody here asks for the same one twice.
    let key = fastrand::u128(..);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         idempotency-key: {key:x}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// The addresses that a server answers with for a name.
pub fn addresses(server: SocketAddr, name: &str) -> Vec<Ipv4Addr> {
    ask(server, name, TIMEOUT).unwrap().addresses
}

/// What a DNS server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 where there is such a name (RFC 1035, 4.1.1).
    pub code: u8,
    pub addresses: Vec<Ipv4Addr>,
}

/// One question for addresses, over UDP.
///
/// # Errors
/// When nobody answers in time.
pub fn ask(server: SocketAddr, name: &str, allowed: Duration) -> std::io::Result<Answer> {
    let any = if server.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(allowed))?;
    socket.connect(server)?;
    // A random id, recursion desired, one question.
    let id = fastrand::u16(..).to_be_bytes();
    let mut question = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question)?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    assert_eq!(answer[..2], id, "an answer to another question");
    Ok(Answer { code: answer[3] & 0xf, addresses: records(&answer, question.len()) })
}

/// The A records that follow on the question.
fn records(answer: &[u8], after_question: usize) -> Vec<Ipv4Addr> {
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    let (mut at, mut found) = (after_question, Vec::new());
    for _ in 0..count {
        // The owner: labels, ended by an empty one or by a pointer.
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += usize::from(answer[at]) + 1;
        }
        at += if answer[at] == 0 { 1 } else { 2 };
        let kind = u16::from_be_bytes([answer[at], answer[at + 1]]);
        let length = usize::from(u16::from_be_bytes([answer[at + 8], answer[at + 9]]));
        let data = &answer[at + 10..at + 10 + length];
        if let (1, [a, b, c, d]) = (kind, data) {
            found.push(Ipv4Addr::new(*a, *b, *c, *d));
        }
        at += 10 + length;
    }
    found
}

/// Tells a sample service what is wrong with it from now on.
pub fn order(control: &Path, faults: &Value) {
    let mut stream = UnixStream::connect(control).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    writeln!(stream, "{faults}").unwrap();
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).unwrap();
    assert_eq!(said.trim_end(), "ok", "{faults} at {}", control.display());
}
