//! `drover dns`.

use super::{Process, listening};
use crate::args::DnsServerArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_dns::publish::PublicKey;
use drover_dns::server::{Limits, PEER_INTERVAL, Peer, Peering, RateLimitConfig, ServerConfig, StartError};
use drover_dns::zone::{DnsName, NameServer, ZoneConfig};
use drover_model::Span;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The file that says what an instance answers for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsFile {
    /// Zone apex.
    pub zone: DnsName,
    /// Its name servers with their addresses, at least two.
    pub nameservers: Vec<NameServer>,
    /// Where to answer.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// Where to take changes: loopback.
    #[serde(default)]
    pub control: Option<SocketAddr>,
    /// How many like answers one network gets.
    #[serde(default)]
    pub rate_limit: Option<RateLimitConfig>,
    /// Is it looked at whom a resolver asks for?
    #[serde(default)]
    pub client_subnet: bool,
    /// Public keys; with any, only what one of them signed is taken.
    #[serde(default)]
    pub trusted_keys: Vec<PublicKey>,
    /// The zone's other instances, which are asked for what this one missed.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// How often they are asked.
    #[serde(default)]
    pub peer_interval: Option<Span>,
    /// Where they ask this one, from other machines.
    #[serde(default)]
    pub peer_listen: Option<SocketAddr>,
}

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Bound<'a> {
    role: &'static str,
    pid: u32,
    dns: &'a [SocketAddr],
    control: SocketAddr,
}

/// Answers until told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(args: &DnsServerArgs) -> Result<ExitCode> {
    let process = Process::begin(&args.process, || tracing::info!("the DNS role has nothing to reload"))?;
    let config = configured(args)?;
    let running = drover_dns::server::run(config, process.stop.clone()).await.map_err(|e| failure(&e))?;
    let (dns, control) = (running.dns.as_slice(), running.control);
    process.ready(&args.process, &Bound { role: "dns", pid: std::process::id(), dns, control })?;
    running.finished().await;
    tracing::info!("stopped");
    Ok(ExitCode::Done)
}

fn read(path: &Path) -> Result<DnsFile> {
    let failed = |e: &(dyn std::error::Error + 'static)| {
        Failure::because(ExitCode::Usage, format!("can't read {}", path.display()), e)
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    serde_saphyr::from_str(&text).map_err(|e| failed(&e).hint("drover dns --help shows the file"))
}

/// File and flags together; a flag wins.
fn configured(args: &DnsServerArgs) -> Result<ServerConfig> {
    // The command line asks for both where no verb is given.
    let (Some(path), Some(state)) = (&args.config, &args.state) else {
        return Err(Failure::usage("a DNS server needs --config and --state"));
    };
    let file = read(path)?;
    let zone = ZoneConfig::new(file.zone, file.nameservers).map_err(|e| Failure::of(ExitCode::Usage, &e))?;
    let listen = if args.listen.is_empty() { file.listen } else { args.listen.clone() };
    let Some(control) = args.control.or(file.control) else {
        let message = format!("{} does not say `control`, where changes are taken", path.display());
        return Err(Failure::usage(message).hint("add control: 127.0.0.1:7410, or give --control"));
    };
    let (rate_limit, client_subnet) = (file.rate_limit, file.client_subnet);
    let limits = Limits { rate_limit, client_subnet, ..Limits::default() };
    let interval = file.peer_interval.map_or(PEER_INTERVAL, |span| Duration::from_millis(span.as_millis()));
    let peering =
        Peering { trusted_keys: file.trusted_keys, peers: file.peers, interval, listen: file.peer_listen };
    Ok(ServerConfig { listen, control, state_dir: state.clone(), zone, limits, peering })
}

fn failure(error: &StartError) -> Failure {
    let code = match error {
        StartError::ControlNotLoopback { .. } | StartError::NoListener | StartError::Peering(_) => {
            ExitCode::Usage
        }
        _ => ExitCode::Failed,
    };
    let failure = Failure::of(code, error);
    match error {
        StartError::Peering(_) => {
            failure.hint("drover dns keygen --help says how servers come to trust a key")
        }
        StartError::Listen { address, source, .. } => {
            listening(failure, &address.to_string(), source, "`--listen`, `--control` or the instance's file")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Verb};
    use clap::Parser;

    const FILE: &str = "zone: drover.test\nnameservers:\n  - {name: ns1.drover.test, addresses: [192.0.2.1]}\n  \
                        - {name: ns2.drover.test, addresses: [192.0.2.2]}\nlisten: ['127.0.0.1:53']\n";

    fn with(text: &str, flags: &[&str]) -> Result<ServerConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dns.yaml");
        std::fs::write(&path, text).unwrap();
        let line = ["drover", "dns", "--state", "/s", "--config", path.to_str().unwrap()];
        let Verb::Dns(args) = Args::try_parse_from(line.iter().chain(flags)).unwrap().verb else {
            panic!("not dns")
        };
        configured(&args.server)
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let config = with(FILE, &["--control", "127.0.0.1:7410"]).unwrap();
        assert_eq!((config.listen[0].port(), config.control.port()), (53, 7410));
        let config = with(&format!("{FILE}control: 127.0.0.1:1\n"), &["--listen", "127.0.0.1:54"]).unwrap();
        assert_eq!((config.listen[0].port(), config.control.port()), (54, 1));
    }

    #[test]
    fn the_sample_that_is_installed_is_what_a_server_wants() {
        let config = with(include_str!("../../../../deploy/etc/dns.yaml"), &[]).unwrap();
        assert_eq!((config.listen[0].port(), config.control.port()), (53, 7410));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let failure = with(FILE, &[]).unwrap_err();
        assert!(failure.message.contains("`control`") && failure.code == ExitCode::Usage, "{failure:?}");
        let limited =
            with(&format!("{FILE}control: 127.0.0.1:1\nrate_limit: {{answers_per_second: 50}}\n"), &[])
                .unwrap();
        let limit = limited.limits.rate_limit.unwrap();
        assert_eq!((limit.answers_per_second.get(), limit.exempt_loopback), (50, true));
        assert!(with(&format!("{FILE}rate_limit: {{answers_per_second: 0}}\n"), &[]).is_err());
        let control = "control: 127.0.0.1:1\n";
        let peers = "peers: [{name: dns-2, control: '127.0.0.1:2'}]\n";
        let key = format!("trusted_keys: [{}]\n", "ab".repeat(32));
        let config = with(&format!("{FILE}{control}{peers}{key}peer_interval: 5s\n"), &[]).unwrap();
        assert_eq!((config.peering.interval.as_secs(), config.peering.peers.len()), (5, 1));
        assert!(config.peering.check().unwrap().is_some());
        let without = with(&format!("{FILE}{control}{peers}"), &[]).unwrap();
        assert!(without.peering.check().unwrap_err().to_string().contains("trusted_keys"));
        assert!(with(&format!("{FILE}{control}trusted_keys: [abc]\n"), &[]).is_err());
        let failure = with(&format!("{FILE}colour: red\n"), &[]).unwrap_err();
        assert!(failure.causes[0].contains("colour"), "{failure:?}");
    }
}
