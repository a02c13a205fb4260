//! `route53`: a failover of 5,000 weighted records, through the provider, in a hosted zone that moto serves on loopback with
//! the real one's rules for changes.
//!
//! One region gives its weight to the other, in one move as a run makes it: looked at, compared, applied. The API itself keeps
//! the account: when each request came, and of which kind. The peer is the account's own pace: what so many requests take at
//! least, whoever sends them.

use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::figure::{Bar, Figure, Scale};
use drover_dns::provider::{HostedZone, ProviderError, RecordSets};
use drover_dns::publish::{Batch, Change};
use drover_dns::zone::{Answering, DnsName, Member, RecordKey, RecordSet, RecordType};
use drover_model::config::{Route53Dns, ZoneServer};
use drover_model::{Epoch, Span};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Weighted records.
const RECORDS: usize = 5_000;
/// Of each set; the fewer, the more sets.
const REGIONS: usize = 2;
const CALLS_MAX: f64 = 12.0;
const REQUESTS_PER_SECOND: u32 = 5;
const SECONDS_MAX: f64 = 5.0;
/// How often GetChange says PENDING before it does not.
const PENDING_TIMES: usize = 3;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/servers/route53.py");
/// Below the home directory, where `tests/setup` puts it.
const PYTHON: &str = ".cache/drover-tests/moto-5.2.5/bin/python";
const ZONE: &str = "example.test";
const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("route53", scale);
    let api = Api::start(refusing().await?)?;
    let sets = scale.of(RECORDS, 200) / REGIONS;
    // As fast as it goes: this is not what is measured.
    api.provider(u32::MAX)?.apply(&batch(sets, 1)).await.attempt("publish the first weights")?;

    let provider = api.provider(REQUESTS_PER_SECOND)?;
    let keys: Vec<RecordKey> = (0..sets).map(key).collect::<Result<_>>()?;
    provider.observe(&keys).await.attempt("read the zone")?;
    let before = api.log().await?.len();
    let began = Instant::now();
    let observed = provider.observe(&keys).await.attempt("look at the zone")?;
    let wanted: Vec<RecordSet> = (0..sets).map(|n| set(n, 2)).collect();
    let changes = provider.diff(&wanted, &observed).changes;
    let moved = changes.len();
    let failover = Batch { epoch: EPOCH, idempotency_key: "failover".into(), changes };
    provider.apply(&failover).await.attempt("fail over")?;
    let took = began.elapsed().as_secs_f64();
    let published = api.log().await?.split_off(before);

    api.knobs(&format!("{{\"pending\": {PENDING_TIMES}}}")).await?;
    in_sync(&provider, &keys[0], &wanted[0]).await?;
    let since = api.log().await?.split_off(before);
    told(&mut figure, took, &published, &since);
    figure.check("every set was to move", moved == sets, format!("{moved} of {sets}"));
    // As a coordinator that has just begun, or whose last whole reading is old.
    let (cold, began) = (api.provider(REQUESTS_PER_SECOND)?, Instant::now());
    let after = cold.observe(&keys).await.attempt("read the zone again")?;
    figure.told("reading the zone first, where it is not in memory", began.elapsed().as_secs_f64(), "s");
    let right = provider.diff(&wanted, &after).in_sync.len();
    figure.check(
        "every set is as it was wanted, by another's reading",
        right == sets,
        format!("{right} of {sets}"),
    );
    Ok(figure)
}

/// A name server that is in charge of nothing: what answers say is no part of this figure.
async fn refusing() -> Result<SocketAddr> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.attempt("open a socket")?;
    let address = socket.local_addr().attempt("open a socket")?;
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            if length > 3 {
                (buffer[2], buffer[3]) = (buffer[2] | 0x80, 5);
                let _ = socket.send_to(&buffer[..length], client).await;
            }
        }
    });
    Ok(address)
}

/// GetChange until it says INSYNC; then the name server is asked, which is in charge of nothing.
async fn in_sync(provider: &HostedZone, key: &RecordKey, wanted: &RecordSet) -> Result<()> {
    match provider.verify(key, Some(wanted)).await {
        Err(ProviderError::Unreachable { .. }) => Ok(()),
        other => unexpected(format!("the name server was taken at its word: {other:?}")),
    }
}

fn told(figure: &mut Figure, took: f64, published: &[Asked], since: &[Asked]) {
    let calls: Vec<&Asked> = published.iter().filter(|asked| asked.changes > 0).collect();
    figure.bar(
        "from looking to the last change taken, with the zone in memory",
        took,
        "s",
        Bar::AtMost(SECONDS_MAX),
    );
    figure.bar("change calls", calls.len() as f64, "", Bar::AtMost(CALLS_MAX));
    let most = in_any_second(since, |_| true);
    figure.bar(
        "requests in any second, at most",
        most as f64,
        "",
        Bar::AtMost(f64::from(REQUESTS_PER_SECOND)),
    );
    let polls = in_any_second(since, Asked::is_poll);
    figure.bar("of these GetChange", polls as f64, "", Bar::AtMost(1.0));
    let largest = calls.iter().map(|asked| asked.changes).max().unwrap_or_default();
    figure.told("changes of the largest call", largest as f64, "");
    let all = published.len().saturating_sub(1) as f64;
    figure.told(
        "peer: these requests at the account's pace, and nothing else",
        all / f64::from(REQUESTS_PER_SECOND),
        "s",
    );
    let asked = since.iter().filter(|asked| asked.is_poll()).count();
    let found = format!("{asked} times, {PENDING_TIMES} of them PENDING");
    figure.check("GetChange was asked until it said INSYNC", asked == PENDING_TIMES + 1, found);
}

/// The most of these that came within one second.
fn in_any_second(log: &[Asked], counts: impl Fn(&Asked) -> bool) -> usize {
    let mut at: Vec<f64> = log.iter().filter(|asked| counts(asked)).map(|asked| asked.at).collect();
    at.sort_by(f64::total_cmp);
    let within = |from: &f64| at.iter().filter(|at| (0.0..1.0).contains(&(*at - from))).count();
    at.iter().map(within).max().unwrap_or_default()
}

fn key(n: usize) -> Result<RecordKey> {
    let name = DnsName::parse(&format!("service-{n}.{ZONE}")).attempt("name a service")?;
    Ok(RecordKey::new(name, RecordType::A))
}

/// In odd generations the even regions have the weight, in even ones the odd.
fn set(n: usize, generation: u64) -> RecordSet {
    let member = |region: usize| Member {
        set_id: format!("region-{region}"),
        value: format!("198.18.{region}.{}", n % 250),
        weight: if (region as u64 + generation) % 2 == 1 { 100 } else { 0 },
    };
    RecordSet {
        name: format!("service-{n}.{ZONE}"),
        rtype: RecordType::A,
        ttl_seconds: 30,
        members: (0..REGIONS).map(member).collect(),
        generation,
        epoch: EPOCH,
        owner: "drover".into(),
        note: String::new(),
        answering: Answering::USUAL,
    }
}

fn batch(sets: usize, generation: u64) -> Batch {
    let put = |n| Change::Put { expected_generation: None, record_set: set(n, generation), take_over: false };
    Batch { epoch: EPOCH, idempotency_key: "first".into(), changes: (0..sets).map(put).collect() }
}

/// A request that the API was sent.
#[derive(Debug, Deserialize)]
struct Asked {
    /// Seconds of a clock that never jumps.
    at: f64,
    path: String,
    changes: usize,
}

impl Asked {
    fn is_poll(&self) -> bool {
        self.path.contains("/change/")
    }
}

/// moto with one hosted zone; it ends with this value.
struct Api {
    child: Child,
    address: SocketAddr,
    name_server: SocketAddr,
    hosted_zone: String,
    directory: tempfile::TempDir,
    client: reqwest::Client,
}

impl Api {
    fn start(name_server: SocketAddr) -> Result<Self> {
        let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
        let python = PathBuf::from(home).join(PYTHON);
        if !python.exists() {
            return Err(BenchError::Missing { program: "moto".into(), command: "bash tests/setup".into() });
        }
        let mut child = Command::new(python)
            .args([SCRIPT, "--zone", ZONE, "--while-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .attempt("start moto")?;
        let mut ready = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut ready).attempt("hear of moto")?;
        }
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ready", port, hosted_zone] = words.as_slice() else {
            return unexpected(format!("moto did not start: {ready}"));
        };
        let directory = tempfile::tempdir().attempt("make a directory")?;
        let key = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n";
        std::fs::write(directory.path().join("aws"), key).attempt("write the credentials")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().attempt("read moto's port")?));
        let client = crate::installation::client()?;
        Ok(Self { child, address, name_server, hosted_zone: (*hosted_zone).to_owned(), directory, client })
    }

    fn provider(&self, requests_per_second: u32) -> Result<HostedZone> {
        let servers = vec![ZoneServer { name: "ns-1".into(), query: self.name_server }];
        let settings = Route53Dns {
            hosted_zone: self.hosted_zone.clone(),
            servers,
            credentials_file: Some(self.directory.path().join("aws")),
            endpoint: Some(format!("http://{}", self.address)),
            requests_per_second,
            timeout: Span::from_secs(10),
            in_sync_within: Span::from_secs(60),
            health_checks: None,
        };
        Ok(HostedZone::new(DnsName::parse(ZONE).attempt("name the zone")?, settings))
    }

    async fn log(&self) -> Result<Vec<Asked>> {
        let asked = self.client.get(format!("http://{}/drover/log", self.address)).send().await;
        asked.attempt("ask for the log")?.json().await.attempt("read the log")
    }

    async fn knobs(&self, knobs: &str) -> Result<()> {
        let order = self.client.post(format!("http://{}/drover/knobs", self.address)).body(knobs.to_owned());
        order.send().await.attempt("set the knobs")?.error_for_status().attempt("set the knobs").map(drop)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
