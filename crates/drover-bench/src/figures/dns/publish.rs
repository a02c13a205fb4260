//! `dns-publish`: from telling a server that a name is to be answered otherwise to the first of the answers that are all new.
//!
//! Each is told by what its users have for it: drover by its control listener, signed, gdnsd by its file of forced states, Knot by a
//! signed dynamic update. One client asks meanwhile, the next question as soon as one is answered.

use super::servers::{Server, free_address, head, name, program, write};
use super::watch::Watch;
use crate::disk;
use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::start_dns_trusting;
use crate::product;
use crate::samples::Samples;
use crate::world::ZONE;
use drover_dns::provider::{
    BatchSigner, DynamicUpdates, EmbeddedInstances, EmbeddedOptions, Instance, RecordSets,
};
use drover_dns::publish::{Batch, Change, SigningKey};
use drover_dns::zone::{Answering, DnsName, Member, RecordSet, RecordType};
use drover_model::config::{Rfc2136Dns, TsigAlgorithm, TsigKey, ZoneServer};
use drover_model::{Epoch, Span};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;
const ROUNDS_MIN: usize = 3;
/// gdnsd takes seconds.
const ROUNDS_GDNSD: usize = 5;
/// Answers without the old address for so long: it will not come back.
const QUIET: Duration = Duration::from_millis(20);
const P99_MS_MAX: f64 = 10.0;
const TTL_SECONDS: u32 = 30;
const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };
/// The one that is answered, and the one that is then.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const REGIONS: [&str; 2] = ["eu-west", "us-east"];
const SECRET: &str = "ZHJvdmVyLWJlbmNoLWRyb3Zlci1iZW5jaC1kcm92ZXI=";

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("dns-publish", scale);
    let scratch = disk::scratch()?;
    let mut servers =
        [drover(scratch.path()).await?, gdnsd(scratch.path()).await?, knot(scratch.path()).await?];
    let mut times: [Samples; 3] = Default::default();
    for round in 0..scale.of(ROUNDS, ROUNDS_MIN) {
        for (told, samples) in servers.iter_mut().zip(&mut times) {
            if round < told.rounds_max {
                samples.add(told.round().await?);
            }
        }
    }
    let [drover, gdnsd, knot] = &times;
    let what = "told to every answer new";
    figure.bar(format!("{what}, 99 %"), drover.percentile_ms(99.0), "ms", Bar::AtMost(P99_MS_MAX));
    figure.told(format!("{what}, median"), drover.median_ms(), "ms");
    figure.told("peer: Knot by a signed update, median", knot.median_ms(), "ms");
    figure.told("peer: Knot by a signed update, 99 %", knot.percentile_ms(99.0), "ms");
    figure.told("peer: gdnsd by its file of forced states, median", gdnsd.median_ms(), "ms");
    Ok(figure)
}

/// How a server is told.
enum Way {
    Provider(Box<dyn RecordSets>),
    /// The file of forced states.
    File(PathBuf),
}

/// A server that is told.
struct Told {
    _server: Server,
    teller: Teller,
    watch: Watch,
    rounds_max: usize,
}

impl Told {
    async fn new(server: Server, way: Way, rounds_max: usize) -> Result<Self> {
        let watch = Watch::new(server.address, &name(0), Duration::ZERO).await?;
        let mut told = Self { _server: server, teller: Teller { way, generation: 0 }, watch, rounds_max };
        // Provisioned, as a name is long before it moves.
        told.teller.tell().await?;
        Ok(told)
    }

    /// From telling to every answer new.
    async fn round(&mut self) -> Result<Duration> {
        let old = self.teller.current();
        self.watch.until_seen(old).await?;
        let began = Instant::now();
        let (told, gone) = tokio::join!(self.teller.tell(), self.watch.until_gone(old, QUIET));
        told?;
        Ok(gone?.after.saturating_duration_since(began))
    }
}

/// Whoever tells it.
struct Teller {
    way: Way,
    /// Changes so far.
    generation: u64,
}

impl Teller {
    /// The address that was told last.
    fn current(&self) -> Ipv4Addr {
        ADDRESSES[(self.generation % 2) as usize]
    }

    async fn tell(&mut self) -> Result<()> {
        let from = self.generation;
        self.generation += 1;
        let to = self.current();
        match &self.way {
            Way::Provider(provider) => {
                let change = Change::Put {
                    expected_generation: (from > 0).then_some(from),
                    record_set: record_set(self.generation, to),
                    take_over: false,
                };
                let idempotency_key = format!("bench-{}", self.generation);
                let batch = Batch { epoch: EPOCH, idempotency_key, changes: vec![change] };
                provider.apply(&batch).await.attempt("publish")?;
            }
            Way::File(path) => {
                let others = ADDRESSES.iter().filter(|address| **address != to);
                let text: String = others.map(|address| format!("{address}/up => DOWN\n")).collect();
                let part = path.with_extension("part");
                write(&part, &text)?;
                std::fs::rename(&part, path).attempt(format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// All weight on one of the two.
fn record_set(generation: u64, to: Ipv4Addr) -> RecordSet {
    let member = |(region, address): (&str, Ipv4Addr)| Member {
        set_id: region.to_owned(),
        value: address.to_string(),
        weight: if address == to { 100 } else { 0 },
    };
    RecordSet {
        name: name(0),
        rtype: RecordType::A,
        ttl_seconds: TTL_SECONDS,
        members: REGIONS.into_iter().zip(ADDRESSES).map(member).collect(),
        generation,
        epoch: EPOCH,
        owner: "drover".into(),
        note: String::new(),
        answering: Answering::USUAL,
    }
}

async fn drover(directory: &Path) -> Result<Told> {
    // Signed, as an installation of several servers has it.
    let key_file = directory.join("signing.key");
    let key = SigningKey::create(&key_file).attempt("make a key")?;
    let (role, said) = start_dns_trusting(&product::binary()?, directory, &[key.public()])?;
    let address = said.dns.first().copied();
    let address = address.ok_or_else(|| BenchError::Unexpected("drover answers nowhere".into()))?;
    let instance = Instance { name: "dns-1".into(), control: said.control, query: address };
    let provider = EmbeddedInstances::new(vec![instance], EmbeddedOptions::default());
    let zone = DnsName::parse(ZONE).attempt("name the zone")?;
    let signer = BatchSigner { key_file, zone, generations: Arc::default() };
    let provider = provider.attempt("reach drover")?.signed_by(signer);
    Told::new(Server { name: "drover", role, address }, Way::Provider(Box::new(provider)), ROUNDS).await
}

async fn gdnsd(directory: &Path) -> Result<Told> {
    let (address, at) = (free_address()?, directory.join("gdnsd"));
    let run = at.join("run");
    let members =
        REGIONS.iter().zip(ADDRESSES).map(|(region, address)| format!("{region} => [ {address}, 100 ]"));
    // By default it answers both again when less than half of the weight is left.
    let config = format!(
        "options => {{ listen => [ {address} ], udp_threads => 1, tcp_threads => 1, run_dir => {run}, state_dir => {run} }}\n\
         plugins => {{ weighted => {{ app => {{ up_thresh => 0.01, {members} }} }} }}\n",
        run = run.display(),
        members = members.collect::<Vec<_>>().join(", ")
    );
    write(&at.join("config"), &config)?;
    write(&at.join("zones").join(ZONE), &format!("{}app-0 {TTL_SECONDS} DYNA weighted!app\n", head()))?;
    std::fs::create_dir_all(&run).attempt("make gdnsd's directory")?;
    let mut command = Command::new(program("gdnsd")?);
    command.arg("-c").arg(&at).arg("start");
    let server = Server::of("gdnsd", directory, &command, address).await?;
    Told::new(server, Way::File(run.join("admin_state")), ROUNDS_GDNSD).await
}

async fn knot(directory: &Path) -> Result<Told> {
    let (address, at) = (free_address()?, directory.join("knot"));
    let d = at.display();
    let config = format!(
        "server:\n  rundir: {d}\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: {d}/db\n\
         key:\n  - id: drover\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         acl:\n  - id: drover\n    key: drover\n    action: update\n\
         zone:\n  - domain: {ZONE}\n    storage: {d}\n    file: zone\n    acl: drover\n",
        address.ip(),
        address.port()
    );
    let secret_file = at.join("secret");
    write(&at.join("knot.conf"), &config)?;
    write(&at.join("zone"), &format!("{}app-1 {TTL_SECONDS} A {}\n", head(), ADDRESSES[0]))?;
    write(&secret_file, SECRET)?;
    std::fs::create_dir_all(at.join("db")).attempt("make Knot's directory")?;
    let mut command = Command::new(program("knotd")?);
    command.arg("-c").arg(at.join("knot.conf"));
    let server = Server::of("Knot", directory, &command, address).await?;
    let settings = Rfc2136Dns {
        primary: address,
        servers: vec![ZoneServer { name: "knot".into(), query: address }],
        key: TsigKey { name: "drover".into(), algorithm: TsigAlgorithm::HmacSha256, secret_file },
        timeout: Span::from_secs(5),
        weights: None,
    };
    let zone = DnsName::parse(ZONE).attempt("name the zone")?;
    Told::new(server, Way::Provider(Box::new(DynamicUpdates::new(zone, settings))), ROUNDS).await
}
