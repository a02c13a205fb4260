//! BIND, Knot or PowerDNS for the sample world's zone, with a key that may update it, on a port of its own.

use super::super::process::Recipe;
use super::powerdns;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_dns::resolver::{QueryType, Rcode, resolve};
use drover_dns::zone::DnsName;
use drover_model::config::{Config, DnsServers, DnsSettings, Rfc2136Dns};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the key is called, here and there.
pub const KEY_NAME: &str = "drover";
/// Digits of a secret. A hexadecimal digit is one of base64, too: 64 of them are 48 bytes, more than the digest has.
const SECRET_DIGITS: usize = 64;
/// Ten times what such a server takes to read one small zone.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneServerKind {
    /// `named`
    Bind,
    /// `knotd`
    Knot,
    /// `pdns_server`
    PowerDns,
}

impl ZoneServerKind {
    /// Its program. Debian keeps it where only root's PATH looks.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Bind => "/usr/sbin/named",
            Self::Knot => "/usr/sbin/knotd",
            Self::PowerDns => "/usr/sbin/pdns_server",
        }
    }

    /// What Debian calls the packages that it needs.
    pub(super) const fn packages(self) -> &'static str {
        match self {
            Self::Bind => "bind9",
            Self::Knot => "knot",
            Self::PowerDns => "pdns-server pdns-backend-sqlite3 sqlite3",
        }
    }

    /// What to do about one that is missing.
    pub(super) fn to_install(self) -> String {
        format!("apt-get install -y --no-install-recommends {}", self.packages())
    }

    /// The name of its file; PowerDNS insists on one.
    pub(super) const fn config_name(self) -> &'static str {
        match self {
            Self::Bind | Self::Knot => "server.conf",
            Self::PowerDns => "pdns.conf",
        }
    }
}

/// The secret, in base64.
pub fn secret_file(at: &Path) -> PathBuf {
    at.join("tsig.secret")
}

/// Where such a server keeps its zone, and what it writes.
pub(super) fn directory(at: &Path) -> PathBuf {
    at.join("zone-server")
}

/// What it is started with.
fn config_file(kind: ZoneServerKind, at: &Path) -> PathBuf {
    directory(at).join(kind.config_name())
}

/// Writes the server's files and the secret.
///
/// # Errors
/// When one can't be written, or the server is not installed.
pub fn lay_out(kind: ZoneServerKind, at: &Path, config: &Config) -> Result<()> {
    let program = kind.program();
    if !Path::new(program).exists() {
        let failure = Failure::new(ExitCode::Failed, format!("{program} is not installed"));
        return Err(failure.hint(kind.to_install()));
    }
    let failed = |e| Failure::because(ExitCode::Internal, format!("can't write {program}'s files"), &e);
    let secret: String = (0..SECRET_DIGITS).map(|_| fastrand::digit(16)).collect();
    let Some((dns, other)) = other(config) else {
        return Err(Failure::new(ExitCode::Internal, "the world's zone has no other server"));
    };
    let directory = directory(at);
    std::fs::create_dir_all(directory.join("db")).map_err(failed)?;
    std::fs::write(directory.join("zone"), zone(dns)).map_err(failed)?;
    let text = match kind {
        ZoneServerKind::Bind => bind(&directory, dns, other, &secret),
        ZoneServerKind::Knot => knot(&directory, dns, other, &secret),
        ZoneServerKind::PowerDns => powerdns::config(&directory, other.primary, powerdns::TAKES_UPDATES),
    };
    std::fs::write(config_file(kind, at), text).map_err(failed)?;
    if kind == ZoneServerKind::PowerDns {
        powerdns::fill(&directory, &dns.zone, &secret)?;
    }
    std::fs::write(secret_file(at), secret).map_err(failed)
}

fn other(config: &Config) -> Option<(&DnsSettings, &Rfc2136Dns)> {
    let dns = config.settings.dns.as_ref()?;
    match &dns.servers {
        DnsServers::Rfc2136(other) => Some((dns, other)),
        DnsServers::Embedded(_) | DnsServers::Route53(_) => None,
    }
}

/// How it is started.
pub fn recipe(kind: ZoneServerKind, at: &Path) -> Recipe {
    let recipe = Recipe::of_program("dns", at, kind.program());
    match kind {
        ZoneServerKind::Bind => recipe.words(&["-4", "-g", "-n", "1"]).with("-c", config_file(kind, at)),
        ZoneServerKind::Knot => recipe.with("-c", config_file(kind, at)),
        ZoneServerKind::PowerDns => {
            let directory = format!("--config-dir={}", directory(at).display());
            recipe.words(&["--daemon=no", "--guardian=no", &directory])
        }
    }
}

fn zone(dns: &DnsSettings) -> String {
    format!(
        "$ORIGIN {}.\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 1\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.1\n",
        dns.zone
    )
}

fn bind(directory: &Path, dns: &DnsSettings, other: &Rfc2136Dns, secret: &str) -> String {
    let (d, port, address) = (directory.display(), other.primary.port(), other.primary.ip());
    format!(
        r#"options {{
  directory "{d}"; pid-file "{d}/named.pid"; session-keyfile "{d}/session.key";
  listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};
  recursion no; notify no; dnssec-validation no;
}};
controls {{}};
key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{}" {{ type primary; file "{d}/zone"; allow-update {{ key "{KEY_NAME}"; }}; }};
"#,
        dns.zone
    )
}

fn knot(directory: &Path, dns: &DnsSettings, other: &Rfc2136Dns, secret: &str) -> String {
    let (d, port, address) = (directory.display(), other.primary.port(), other.primary.ip());
    format!(
        "server:\n  rundir: {d}\n  listen: {address}@{port}\n  udp-workers: 1\n  tcp-workers: 2\n  background-workers: 1\n\
         database:\n  storage: {d}/db\n\
         key:\n  - id: {KEY_NAME}\n    algorithm: hmac-sha256\n    secret: {secret}\n\
         acl:\n  - id: update\n    key: {KEY_NAME}\n    action: update\n\
         zone:\n  - domain: {}\n    storage: {d}\n    file: zone\n    acl: update\n",
        dns.zone
    )
}

/// Waits until a server is in charge of the zone.
///
/// # Errors
/// When it is not in time.
pub async fn until_it_answers(program: &str, config: &Config) -> Result<()> {
    let began = Instant::now();
    while let Some(dns) = &config.settings.dns
        && let Some((_, query)) = dns.answering().next()
    {
        let zone: DnsName = dns
            .zone
            .parse()
            .map_err(|e| Failure::because(ExitCode::Internal, "the world's zone has no name", &e))?;
        let answer = resolve(query, &zone, QueryType::Soa, Duration::from_secs(1)).await;
        if answer.is_ok_and(|a| a.rcode == Rcode::NOERROR && a.is_authoritative) {
            break;
        }
        if began.elapsed() > ANSWERS_WITHIN {
            let seconds = ANSWERS_WITHIN.as_secs();
            let message = format!("{program} does not answer for {zone} after {seconds} s");
            return Err(Failure::new(ExitCode::Failed, message));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// What a tool of such a server says.
///
/// # Errors
/// When it is not installed, or fails.
pub(super) fn run(
    kind: ZoneServerKind,
    directory: &Path,
    program: &str,
    words: &[&str],
    input: Stdio,
) -> Result<String> {
    let ended = Command::new(program).args(words).current_dir(directory).stdin(input).output();
    let ended = ended.map_err(|e| {
        let failure = Failure::because(ExitCode::Failed, format!("can't run {program}"), &e);
        failure.hint(kind.to_install())
    })?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(Failure::new(ExitCode::Failed, format!("{program} failed: {said}")))
}
