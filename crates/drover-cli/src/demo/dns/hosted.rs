//! Route 53 in the sample world: moto with the real one's rules for changes, and PowerDNS, which answers by weight what stands
//! in the hosted zone.

use super::super::process::Recipe;
use super::powerdns::{self, DATABASE};
use super::zone_server::{ZoneServerKind, directory};
use super::{DnsServers, Route53Dns, TIMEOUT, ZoneServer};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_model::Span;
use drover_model::config::Config;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The hosted zone's API.
const SCRIPT: &str = include_str!("../../../../../tests/servers/route53.py");
const MOTO: &str = "moto[server]==5.2.5";
/// Below the home directory: where `tests/setup` keeps it.
const PYTHON: &str = ".cache/drover-tests/moto-5.2.5";
const HOSTED_ZONE: &str = "ZSAMPLEWORLD";
/// moto takes every key.
const CREDENTIALS: &str = "[default]\naws_access_key_id = sample\naws_secret_access_key = sample\n";

fn environment() -> PathBuf {
    dirs::home_dir().unwrap_or_default().join(PYTHON)
}

fn python() -> PathBuf {
    environment().join("bin/python")
}

fn script(at: &Path) -> PathBuf {
    directory(at).join("route53.py")
}

fn credentials_file(at: &Path) -> PathBuf {
    at.join("aws-credentials")
}

/// As a user would write them, but for the place of the API.
pub(super) fn settings(servers: Vec<ZoneServer>, api: SocketAddr, at: &Path) -> Route53Dns {
    Route53Dns {
        hosted_zone: HOSTED_ZONE.to_owned(),
        servers,
        credentials_file: Some(credentials_file(at)),
        endpoint: Some(format!("http://{api}")),
        requests_per_second: 5,
        timeout: TIMEOUT,
        in_sync_within: Span::from_secs(10),
        health_checks: None,
    }
}

/// Writes the script, the name server's files and the credentials.
///
/// # Errors
/// When one can't be written, or moto or PowerDNS is not installed.
pub(super) fn lay_out(config: &Config, at: &Path) -> Result<()> {
    let server = ZoneServerKind::PowerDns;
    if !Path::new(server.program()).exists() {
        let failure = Failure::new(ExitCode::Failed, format!("{} is not installed", server.program()));
        return Err(failure.hint(server.to_install()));
    }
    if !python().exists() {
        let (place, failure) = (environment(), Failure::new(ExitCode::Failed, "moto is not installed"));
        let place = place.display();
        return Err(failure.hint(format!("python3 -m venv {place} && {place}/bin/pip install '{MOTO}'")));
    }
    let query = config.settings.dns.as_ref().and_then(|dns| dns.answering().next().map(|(_, query)| query));
    let Some(query) = query else {
        return Err(Failure::new(ExitCode::Internal, "the world's zone has no server"));
    };
    let failed = |e| Failure::because(ExitCode::Internal, "can't write the hosted zone's files", &e);
    let directory = directory(at);
    std::fs::create_dir_all(&directory).map_err(failed)?;
    std::fs::write(script(at), SCRIPT).map_err(failed)?;
    std::fs::write(credentials_file(at), CREDENTIALS).map_err(failed)?;
    let text = powerdns::config(&directory, query, "enable-lua-records=yes\n");
    std::fs::write(directory.join(server.config_name()), text).map_err(failed)
}

/// The API; it makes the name server's database.
pub(super) fn api(config: &Config, at: &Path) -> Recipe {
    let recipe = Recipe::of_program("route53", at, python()).with("-u", script(at));
    let dns = config.settings.dns.as_ref();
    let zone = dns.map_or("", |dns| dns.zone.as_str());
    let endpoint = dns.and_then(|dns| match &dns.servers {
        DnsServers::Route53(cloud) => cloud.endpoint.as_deref(),
        DnsServers::Embedded(_) | DnsServers::Rfc2136(_) => None,
    });
    let port = endpoint.and_then(|e| e.rsplit_once(':')).map_or("", |(_, port)| port);
    recipe
        .with("--zone", zone)
        .with("--port", port)
        .with("--hosted-zone", HOSTED_ZONE)
        .with("--powerdns", directory(at).join(DATABASE))
        .tells()
}

/// Its name server.
pub(super) fn name_server(at: &Path) -> Recipe {
    super::zone_server::recipe(ZoneServerKind::PowerDns, at)
}

/// Which generation of which record set was created, in order, by the hosted zone's own account.
///
/// # Errors
/// When it can't be read.
pub(super) fn applied(at: &Path) -> Result<Vec<String>> {
    let told = powerdns::asked(&directory(at), "SELECT what FROM applied ORDER BY number")?;
    Ok(told.lines().map(str::to_owned).collect())
}
