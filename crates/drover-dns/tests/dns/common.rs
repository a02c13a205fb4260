//! A small zone, an instance that serves it, and a client that trusts nothing of drover's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use drover_dns::Epoch;
use drover_dns::provider::Instance;
use drover_dns::publish::{Batch, Change, PublicKey, Published};
use drover_dns::server::{Limits, Peering, Running, ServerConfig, run};
use drover_dns::zone::{
    Answering, DnsName, Member, NameServer, RecordKey, RecordSet, RecordType, ZoneConfig,
};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType as QueryType};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// Ten times more than any exchange on loopback needs: a guard against hanging, not a measure.
pub const GUARD: Duration = Duration::from_secs(10);

pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

pub fn key(text: &str, rtype: RecordType) -> RecordKey {
    RecordKey::new(name(text), rtype)
}

pub const fn epoch(counter: u64) -> Epoch {
    Epoch { incarnation: 0x5eed, counter }
}

pub fn zone() -> ZoneConfig {
    let server = |host: &str, address: &str| NameServer {
        name: name(host),
        addresses: vec![address.parse().unwrap()],
    };
    let mut zone = ZoneConfig::new(
        name("example.test"),
        vec![server("ns1.example.test", "127.0.0.1"), server("ns2.example.test", "127.0.0.2")],
    )
    .unwrap();
    zone.name_servers[1].addresses.push("::1".parse().unwrap());
    zone
}

/// A record set of `(region, value, weight)`.
pub fn set(text: &str, rtype: RecordType, generation: u64, members: &[(&str, &str, u16)]) -> RecordSet {
    let member = |(set_id, value, weight): &(&str, &str, u16)| Member {
        set_id: (*set_id).to_owned(),
        value: (*value).to_owned(),
        weight: *weight,
    };
    RecordSet {
        name: text.to_owned(),
        rtype,
        ttl_seconds: 30,
        members: members.iter().map(member).collect(),
        generation,
        epoch: epoch(1),
        owner: "drover".to_owned(),
        note: String::new(),
        answering: Answering::USUAL,
    }
}

/// The service that most tests speak of: half, a third, a fifth, and a drained region.
pub fn app(generation: u64) -> RecordSet {
    set(
        "app.example.test",
        RecordType::A,
        generation,
        &[
            ("eu-west", "192.0.2.1", 50),
            ("us-east", "192.0.2.2", 30),
            ("ap-south", "192.0.2.3", 20),
            ("sa-east", "192.0.2.4", 0),
        ],
    )
}

/// All that the behaviour matrix asks about.
pub fn record_sets() -> Vec<RecordSet> {
    vec![
        app(1),
        set("example.test", RecordType::A, 1, &[("eu-west", "192.0.2.9", 1)]),
        set("dual.example.test", RecordType::A, 4, &[("eu-west", "192.0.2.5", 1)]),
        set("dual.example.test", RecordType::Aaaa, 7, &[("eu-west", "2001:db8::5", 1)]),
        set("www.example.test", RecordType::Cname, 1, &[("eu-west", "app.example.test", 1)]),
        set(
            "out.example.test",
            RecordType::Cname,
            1,
            &[("eu-west", "lb.example.org", 1), ("us-east", "lb.example.net", 0)],
        ),
        set("dangling.example.test", RecordType::Cname, 1, &[("eu-west", "gone.example.test", 1)]),
        set("loop-a.example.test", RecordType::Cname, 1, &[("eu-west", "loop-b.example.test", 1)]),
        set("loop-b.example.test", RecordType::Cname, 1, &[("eu-west", "loop-a.example.test", 1)]),
        set("deep.below.empty.example.test", RecordType::A, 1, &[("eu-west", "192.0.2.6", 1)]),
    ]
}

pub fn put(expected_generation: Option<u64>, record_set: RecordSet) -> Change {
    Change::Put { expected_generation, record_set, take_over: false }
}

pub fn batch(counter: u64, changes: Vec<Change>) -> Batch {
    Batch { epoch: epoch(counter), idempotency_key: format!("key-{counter}"), changes }
}

/// A running instance; ends with its token.
pub struct Served {
    pub running: Running,
    pub shutdown: CancellationToken,
}

impl Served {
    pub fn dns(&self) -> SocketAddr {
        self.running.dns[0]
    }

    pub fn instance(&self, name: &str) -> Instance {
        Instance { name: name.to_owned(), control: self.running.control, query: self.dns() }
    }

    pub fn publish_all(&self, record_sets: Vec<RecordSet>) {
        let changes = record_sets.into_iter().map(|set| put(None, set)).collect();
        let published = self.running.publisher().publish(&batch(1, changes)).unwrap();
        assert!(matches!(published, Published::Changed { .. }), "{published:?}");
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(GUARD, self.running.finished()).await.expect("the instance ends");
    }
}

pub fn config(directory: &Path, limits: Limits) -> ServerConfig {
    ServerConfig {
        listen: vec![LOOPBACK],
        control: LOOPBACK,
        state_dir: directory.to_owned(),
        zone: zone(),
        limits,
        peering: Peering::default(),
    }
}

pub async fn serve(directory: &Path) -> Served {
    serve_with(directory, Limits::default()).await
}

pub async fn serve_with(directory: &Path, limits: Limits) -> Served {
    let shutdown = CancellationToken::new();
    let running = run(config(directory, limits), shutdown.clone()).await.unwrap();
    Served { running, shutdown }
}

/// One that takes only what this key signed.
pub async fn serve_trusting(directory: &Path, key: PublicKey) -> Served {
    let mut config = config(directory, Limits::default());
    config.peering.trusted_keys = vec![key];
    let shutdown = CancellationToken::new();
    Served { running: run(config, shutdown.clone()).await.unwrap(), shutdown }
}

/// A query with an OPT record, or without.
pub fn query(text: &str, qtype: QueryType, payload: Option<u16>) -> Message {
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), qtype));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

pub async fn exchange_bytes(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(GUARD, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    buffer.truncate(received);
    buffer
}

pub async fn exchange(server: SocketAddr, message: &Message) -> Message {
    let bytes = exchange_bytes(server, &message.to_vec().unwrap()).await;
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(!answer.metadata.recursion_available);
    answer
}

/// One HTTP request, by hand: method, path, body; returns status and body.
pub async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    http_as(address, &address.to_string(), method, path, body).await
}

pub async fn http_as(address: SocketAddr, host: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refused body may be cut off while it is being sent.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    };
    let reply = tokio::time::timeout(GUARD, exchange).await.expect("a reply");
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = reply.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    (status, body)
}

pub fn app_key() -> RecordKey {
    key("app.example.test", RecordType::A)
}

pub fn drained(generation: u64) -> RecordSet {
    let mut set = app(generation);
    set.members[0].weight = 0;
    set
}
