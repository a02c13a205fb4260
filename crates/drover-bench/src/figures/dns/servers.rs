//! The servers, each with the same names, one answer function each, on a core of their own: drover answers one of three addresses
//! by weight, as gdnsd's `weighted` does; Knot, which knows no weights, answers all three.

use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::installation::start_dns;
use crate::product::Role;
use crate::world::ZONE;
use drover_dns::provider::{EmbeddedInstances, EmbeddedOptions, Instance, RecordSets};
use drover_dns::publish::{Batch, CHANGES_PER_BATCH_MAX, Change};
use drover_dns::resolver::{QueryType, Rcode, resolve};
use drover_dns::zone::{Answering, DnsName, Member, RecordSet, RecordType};
use drover_model::Epoch;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ADDRESSES: [(&str, &str, u16); 3] =
    [("eu-west", "192.0.2.1", 50), ("us-east", "192.0.2.2", 30), ("ap-south", "192.0.2.3", 20)];
const TTL_SECONDS: u32 = 30;
/// A guard against hanging.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Another's TCP connection may have a port that is free for UDP.
const PORTS_TRIED_MAX: usize = 100;
const ASK_EVERY: Duration = Duration::from_millis(20);
const EPOCH: Epoch = Epoch { incarnation: 1, counter: 1 };

/// The name of a service.
pub fn name(number: usize) -> String {
    format!("app-{number}.{ZONE}")
}

/// A running server.
pub struct Server {
    /// What it is called.
    pub name: &'static str,
    /// Its process.
    pub role: Role,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Server {
    /// drover's own, with so many names.
    pub async fn drover(binary: &Path, directory: &Path, names: usize) -> Result<Self> {
        let (role, said) = start_dns(binary, directory)?;
        let address = said.dns.first().copied();
        let address = address.ok_or_else(|| BenchError::Unexpected("drover answers nowhere".into()))?;
        let server = Self { name: "drover", role, address };
        let instance = Instance { name: "dns-1".into(), control: said.control, query: address };
        let provider =
            EmbeddedInstances::new(vec![instance], EmbeddedOptions::default()).attempt("reach drover")?;
        let puts: Vec<Change> = (0..names).map(put).collect();
        for (number, some) in puts.chunks(CHANGES_PER_BATCH_MAX).enumerate() {
            let idempotency_key = format!("bench-{number}");
            let batch = Batch { epoch: EPOCH, idempotency_key, changes: some.to_vec() };
            provider.apply(&batch).await.attempt("publish the names")?;
        }
        server.until_it_answers().await?;
        Ok(server)
    }

    /// gdnsd with its plugin for weights.
    pub async fn gdnsd(directory: &Path, names: usize) -> Result<Self> {
        let (address, at) = (free_address()?, directory.join("gdnsd"));
        let run = at.join("run");
        let mut config = format!(
            "options => {{ listen => [ {address} ], udp_threads => 1, tcp_threads => 1, run_dir => {run}, state_dir => {run} }}\n\
             plugins => {{ weighted => {{\n",
            run = run.display()
        );
        let mut zone = head();
        let members: Vec<String> = ADDRESSES
            .iter()
            .map(|(region, value, weight)| format!("{region} => [ {value}, {weight} ]"))
            .collect();
        let _ = writeln!(config, "app => {{ {} }}", members.join(", "));
        for number in 0..names {
            let _ = writeln!(zone, "app-{number} {TTL_SECONDS} DYNA weighted!app");
        }
        config.push_str("} }\n");
        for (path, text) in [(at.join("config"), config), (at.join("zones").join(ZONE), zone)] {
            write(&path, &text)?;
        }
        std::fs::create_dir_all(&run).attempt("make gdnsd's directory")?;
        let mut command = Command::new(program("gdnsd")?);
        command.arg("-c").arg(&at).arg("start");
        Self::of("gdnsd", directory, &command, address).await
    }

    /// Knot.
    pub async fn knot(directory: &Path, names: usize) -> Result<Self> {
        let (address, at) = (free_address()?, directory.join("knot"));
        let d = at.display();
        let config = format!(
            "server:\n  rundir: {d}\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: {d}/db\n\
             zone:\n  - domain: {ZONE}\n    storage: {d}\n    file: zone\n",
            address.ip(),
            address.port()
        );
        let mut zone = head();
        for number in 0..names {
            for (_, value, _) in ADDRESSES {
                let _ = writeln!(zone, "app-{number} {TTL_SECONDS} A {value}");
            }
        }
        write(&at.join("knot.conf"), &config)?;
        write(&at.join("zone"), &zone)?;
        std::fs::create_dir_all(at.join("db")).attempt("make Knot's directory")?;
        let mut command = Command::new(program("knotd")?);
        command.arg("-c").arg(at.join("knot.conf"));
        Self::of("Knot", directory, &command, address).await
    }

    /// A program that was given all that it needs, once it answers.
    pub(super) async fn of(
        name: &'static str,
        directory: &Path,
        command: &Command,
        address: SocketAddr,
    ) -> Result<Self> {
        let role = Role::start(name, directory, command)?;
        let server = Self { name, role, address };
        server.until_it_answers().await?;
        Ok(server)
    }

    async fn until_it_answers(&self) -> Result<()> {
        let zone = DnsName::parse(ZONE).attempt("name the zone")?;
        let began = Instant::now();
        loop {
            let answer = resolve(self.address, &zone, QueryType::Ns, Duration::from_secs(1)).await;
            if answer.is_ok_and(|a| a.rcode == Rcode::NOERROR && a.is_authoritative && !a.values.is_empty()) {
                return Ok(());
            }
            if began.elapsed() > ANSWERS_WITHIN {
                return unexpected(format!(
                    "{} does not answer; see {}",
                    self.name,
                    self.role.log().display()
                ));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

fn put(number: usize) -> Change {
    let member = |(region, value, weight): (&str, &str, u16)| Member {
        set_id: region.to_owned(),
        value: value.to_owned(),
        weight,
    };
    let record_set = RecordSet {
        name: name(number),
        rtype: RecordType::A,
        ttl_seconds: TTL_SECONDS,
        members: ADDRESSES.map(member).to_vec(),
        generation: 1,
        epoch: EPOCH,
        owner: "drover".into(),
        note: String::new(),
        answering: Answering::USUAL,
    };
    Change::Put { expected_generation: None, record_set, take_over: false }
}

pub(super) fn head() -> String {
    "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 30\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.1\n".to_owned()
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).attempt(format!("make {}", parent.display()))?;
    }
    std::fs::write(path, text).attempt(format!("write {}", path.display()))
}

/// Debian keeps servers where only root's PATH looks.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let path = Path::new("/usr/sbin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(BenchError::Missing { program: name.to_owned(), command: "bash tests/setup".into() })
}

/// Free for both transports.
pub(super) fn free_address() -> Result<SocketAddr> {
    for _ in 0..PORTS_TRIED_MAX {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).attempt("find a free port")?;
        let address = udp.local_addr().attempt("find a free port")?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    unexpected(format!("none of {PORTS_TRIED_MAX} ports is free for both UDP and TCP"))
}
