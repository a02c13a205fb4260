//! Peers that check services themselves: gdnsd, which answers by weight, and PowerDNS, whose records look for what is up and know
//! no weights. Both as fast as they can be set: gdnsd's shortest interval is 2 s, that of PowerDNS 1 s.

use super::servers::{Server, free_address, head, name, program, write};
use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::world::ZONE;
use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

/// What is asked of every service.
pub const CHECK_PATH: &str = "/health";
/// Shares of a service's regions.
pub const WEIGHTS: [u8; 3] = [50, 30, 20];

/// Where a service is: a region's address each, all with one port.
pub type Addresses = [Ipv4Addr; 3];

const TTL_SECONDS: u32 = 30;
/// What the database of PowerDNS is made with.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
const DATABASE: &str = "pdns.db";

/// gdnsd, with one name for each service.
pub async fn gdnsd(directory: &Path, services: &[Addresses], port: u16) -> Result<Server> {
    let (address, at) = (free_address()?, directory.join("gdnsd"));
    let run = at.join("run");
    // By default it answers all again when less than half of the weight is left.
    let mut config = format!(
        "options => {{ listen => [ {address} ], udp_threads => 1, tcp_threads => 1, run_dir => {run}, state_dir => {run} }}\n\
         service_types => {{ web => {{ plugin => http_status, port => {port}, url_path => {CHECK_PATH}, \
         interval => 2, timeout => 1, up_thresh => 1, ok_thresh => 1, down_thresh => 1 }} }}\n\
         plugins => {{ weighted => {{ service_types => web, up_thresh => 0.01,\n",
        run = run.display()
    );
    let mut zone = head();
    for (number, addresses) in services.iter().enumerate() {
        let members = addresses.iter().zip(WEIGHTS).enumerate();
        let members = members.map(|(at, (address, weight))| format!("r{at} => [ {address}, {weight} ]"));
        let _ = writeln!(config, "app-{number} => {{ {} }}", members.collect::<Vec<_>>().join(", "));
        let _ = writeln!(zone, "app-{number} {TTL_SECONDS} DYNA weighted!app-{number}");
    }
    config.push_str("} }\n");
    write(&at.join("config"), &config)?;
    write(&at.join("zones").join(ZONE), &zone)?;
    std::fs::create_dir_all(&run).attempt("make gdnsd's directory")?;
    let mut command = Command::new(program("gdnsd")?);
    command.arg("-c").arg(&at).arg("start");
    Server::of("gdnsd", directory, &command, address).await
}

/// PowerDNS, with one name for each service.
pub async fn powerdns(directory: &Path, services: &[Addresses], port: u16) -> Result<Server> {
    let (address, at) = (free_address()?, directory.join("powerdns"));
    let d = at.display();
    let mut zone = head();
    for (number, addresses) in services.iter().enumerate() {
        let addresses: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
        let url = format!("http://{}:{port}{CHECK_PATH}", name(number));
        let _ = writeln!(
            zone,
            "app-{number} {TTL_SECONDS} IN LUA A \"ifurlup('{url}', {{{{{}}}}}, {{timeout=1}})\"",
            addresses.join(", ")
        );
    }
    let config = config(&d.to_string(), address);
    write(&at.join("pdns.conf"), &config)?;
    write(&at.join("zone"), &format!("$ORIGIN {ZONE}.\n{zone}"))?;
    let schema = File::open(SCHEMA).map_err(|_| BenchError::Missing {
        program: SCHEMA.to_owned(),
        command: "bash tests/setup".into(),
    })?;
    run(&at, Command::new("/usr/bin/sqlite3").arg(DATABASE).stdin(schema))?;
    run(&at, Command::new("/usr/bin/pdnsutil").args(["--config-dir=.", "load-zone", ZONE, "zone"]))?;
    let mut command = Command::new(program("pdns_server")?);
    command.arg(format!("--config-dir={d}"));
    Server::of("PowerDNS", directory, &command, address).await
}

fn run(directory: &Path, command: &mut Command) -> Result<()> {
    let what = format!("run {}", command.get_program().display());
    let output = command.current_dir(directory).output().attempt(what.clone())?;
    if output.status.success() {
        return Ok(());
    }
    unexpected(format!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Its caches are off: they would answer what was before.
fn config(directory: &str, address: SocketAddr) -> String {
    format!(
        "launch=gsqlite3\ngsqlite3-database={directory}/{DATABASE}\nsocket-dir={directory}\n\
         local-address={}\nlocal-port={}\ndaemon=no\nguardian=no\ndisable-syslog=yes\nsecurity-poll-suffix=\n\
         enable-lua-records=shared\nlua-health-checks-interval=1\n\
         cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\n",
        address.ip(),
        address.port()
    )
}
