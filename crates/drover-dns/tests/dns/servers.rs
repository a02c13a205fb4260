//! BIND, Knot and PowerDNS, each with one zone that takes signed updates, on a port of its own.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use drover_dns::provider::DynamicUpdates;
use drover_dns::resolver::{QueryType, Rcode, resolve};
use drover_model::Span;
use drover_model::config::{Rfc2136Dns, TsigAlgorithm, TsigKey, WeightRecords, ZoneServer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::{GUARD, LOOPBACK, name};

pub const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const ZONE: &str = "$ORIGIN example.test.\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 30\n@ NS ns1\n@ NS ns2\n\
                    ns1 A 127.0.0.1\nns2 A 127.0.0.1\nforeign A 198.51.100.7\n";

const TAKES_UPDATES: &str = "dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\n";

/// Which server.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bind,
    Knot,
    PowerDns,
    /// PowerDNS whose answers follow weights, by LUA records.
    PowerDnsLua,
    /// PowerDNS that takes LUA records and does not run them.
    PowerDnsLame,
}

impl Kind {
    /// Those that know no weights.
    pub const PLAIN: [Self; 3] = [Self::Bind, Self::Knot, Self::PowerDns];
    pub const ALL: [Self; 4] = [Self::Bind, Self::Knot, Self::PowerDns, Self::PowerDnsLua];

    /// How weights are told to it.
    pub fn weights(self) -> Option<WeightRecords> {
        matches!(self, Self::PowerDnsLua | Self::PowerDnsLame).then_some(WeightRecords::Lua)
    }

    fn command(self, directory: &Path, port: u16) -> Command {
        let (file, config) = match self {
            Self::Bind => ("named.conf", bind(directory, port)),
            Self::Knot => ("knot.conf", knot(directory, port)),
            Self::PowerDns | Self::PowerDnsLame => ("pdns.conf", powerdns(directory, port, TAKES_UPDATES)),
            Self::PowerDnsLua => {
                let more = format!("{TAKES_UPDATES}enable-lua-records=shared\n");
                ("pdns.conf", powerdns(directory, port, &more))
            }
        };
        let path = directory.join(file);
        std::fs::write(&path, config).unwrap();
        let mut command = match self {
            Self::Bind => Command::new("/usr/sbin/named"),
            Self::Knot => Command::new("/usr/sbin/knotd"),
            Self::PowerDns | Self::PowerDnsLua | Self::PowerDnsLame => {
                fill_powerdns(directory);
                Command::new("/usr/sbin/pdns_server")
            }
        };
        match self {
            Self::Bind => command.args(["-4", "-g", "-n", "1", "-c"]).arg(&path),
            Self::Knot => command.arg("-c").arg(&path),
            Self::PowerDns | Self::PowerDnsLua | Self::PowerDnsLame => {
                let config_dir = format!("--config-dir={}", directory.display());
                command.arg(config_dir).args(["--daemon=no", "--guardian=no"])
            }
        };
        command
    }
}

fn bind(directory: &Path, port: u16) -> String {
    let d = directory.display();
    format!(
        r#"options {{ directory "{d}"; pid-file "{d}/named.pid"; session-keyfile "{d}/session.key"; recursion no;
            listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; notify no; dnssec-validation no; }};
        controls {{}};
        key "drover." {{ algorithm hmac-sha256; secret "{SECRET}"; }};
        zone "example.test" {{ type primary; file "{d}/zone"; allow-update {{ key "drover."; }}; }};"#
    )
}

fn knot(directory: &Path, port: u16) -> String {
    let d = directory.display();
    format!(
        "server:\n  rundir: {d}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 2\n  background-workers: 1\n\
         database:\n  storage: {d}/db\n\
         key:\n  - id: drover.\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         acl:\n  - id: update\n    key: drover.\n    action: update\n\
         zone:\n  - domain: example.test\n    storage: {d}\n    file: zone\n    acl: update\n"
    )
}

/// PowerDNS over the database `pdns.db`, its caches off.
pub fn powerdns(directory: &Path, port: u16, more: &str) -> String {
    let d = directory.display();
    format!(
        "launch=gsqlite3\ngsqlite3-database={d}/pdns.db\nlocal-address=127.0.0.1\nlocal-port={port}\nsocket-dir={d}\n\
         {more}security-poll-suffix=\ndisable-syslog=yes\n\
         cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\n"
    )
}

/// Its zone and key are in a database.
fn fill_powerdns(directory: &Path) {
    let run = |program: &str, words: &[&str], input: Stdio| {
        let mut command = Command::new(program);
        command.args(words).current_dir(directory).stdin(input).stdout(Stdio::null()).stderr(Stdio::piped());
        let ended =
            command.output().unwrap_or_else(|e| panic!("{program}: {e}; install it: bash tests/setup"));
        assert!(ended.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    let schema = std::fs::File::open("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
        .unwrap_or_else(|e| panic!("the backend's schema: {e}; install it: bash tests/setup"));
    run("/usr/bin/sqlite3", &["pdns.db"], schema.into());
    for words in [
        &["load-zone", "example.test", "zone"][..],
        &["import-tsig-key", "drover", "hmac-sha256", SECRET],
        &["set-meta", "example.test", "TSIG-ALLOW-DNSUPDATE", "drover"],
        &["set-meta", "example.test", "TSIG-ALLOW-AXFR", "drover"],
    ] {
        run("/usr/bin/pdnsutil", &[&["--config-dir=."], words].concat(), Stdio::null());
    }
}

/// A running server; it dies with this value.
pub struct Server {
    kind: Kind,
    child: Child,
    pub address: SocketAddr,
    directory: TempDir,
}

impl Server {
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, "").await
    }

    /// With more records in its zone.
    pub async fn start_with(kind: Kind, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("zone"), format!("{ZONE}{more}")).unwrap();
        std::fs::create_dir(directory.path().join("db")).unwrap();
        let address = free_port();
        let mut command = kind.command(directory.path(), address.port());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{kind:?}: {e}; install it: bash tests/setup"));
        let server = Self { kind, child, address, directory };
        until_it_answers(server.address).await;
        server
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub fn provider(&self) -> DynamicUpdates {
        self.provider_with(SECRET, Duration::from_secs(5))
    }

    pub fn provider_with(&self, secret: &str, timeout: Duration) -> DynamicUpdates {
        self.provider_of(vec![], secret, timeout)
    }

    /// With more servers than the primary.
    pub fn provider_of(&self, others: Vec<ZoneServer>, secret: &str, timeout: Duration) -> DynamicUpdates {
        let secret_file = self.directory.path().join("drover.secret");
        std::fs::write(&secret_file, secret).unwrap();
        DynamicUpdates::new(name("example.test"), self.settings(others, secret_file, timeout))
    }

    /// As it was before weights were told to it.
    pub fn provider_without_weights(&self) -> DynamicUpdates {
        let secret_file = self.directory.path().join("drover.secret");
        std::fs::write(&secret_file, SECRET).unwrap();
        let settings = self.settings(vec![], secret_file, GUARD);
        DynamicUpdates::new(name("example.test"), Rfc2136Dns { weights: None, ..settings })
    }

    fn settings(&self, others: Vec<ZoneServer>, secret_file: PathBuf, timeout: Duration) -> Rfc2136Dns {
        let primary = ZoneServer { name: "primary".into(), query: self.address };
        Rfc2136Dns {
            primary: self.address,
            servers: [vec![primary], others].concat(),
            key: TsigKey { name: "drover".into(), algorithm: TsigAlgorithm::HmacSha256, secret_file },
            timeout: Span::from_duration(timeout),
            weights: self.kind.weights(),
        }
    }

    /// What a hand does in the database of PowerDNS.
    pub fn by_hand(&self, statement: &str) {
        let mut command = Command::new("/usr/bin/sqlite3");
        let done = command.arg(self.directory.path().join("pdns.db")).arg(statement).output().unwrap();
        assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Server {
    /// Ends it; its files stay.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until a server is in charge of the zone.
pub async fn until_it_answers(server: SocketAddr) {
    let asked = async {
        let zone = name("example.test");
        loop {
            let answer = resolve(server, &zone, QueryType::Soa, Duration::from_millis(200)).await;
            if answer.is_ok_and(|a| a.rcode == Rcode::NOERROR && a.is_authoritative) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, asked)
        .await
        .unwrap_or_else(|_| panic!("{server} does not answer for its zone"));
}

/// A port that is free for both transports now; the server takes it in a moment.
pub fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind(LOOPBACK).unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
