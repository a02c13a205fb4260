//! What lies where in a world's directory, and how each of its processes is started.

use super::dns::{self, DnsChoice};
use super::process::Recipe;
use super::sample;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_agent::identity::{CoordinatorUrl, Identity, StatusAddress};
use drover_dns::publish::{PublicKey, SigningKey};
use drover_dns::server::Peer;
use drover_model::config::{Config, DnsInstance, DnsSettings, RegionRole};
use drover_model::{AgentId, EndpointKey};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The name of the process that is the references.
pub const REFERENCES: &str = "references";

/// The coordinator's configuration directory.
pub fn config_directory(at: &Path) -> PathBuf {
    at.join("config")
}

fn config_file(at: &Path) -> PathBuf {
    config_directory(at).join("world.yaml")
}

/// Replaces the coordinator's configuration, which is never seen half written.
///
/// # Errors
/// When it can't be written.
pub fn replace_config(at: &Path, config: &Config) -> Result<()> {
    let (new, file) = (at.join("world.new"), config_file(at));
    let failed = |e| Failure::because(ExitCode::Internal, format!("can't replace {}", file.display()), &e);
    std::fs::write(&new, sample::text(config)).map_err(failed)?;
    std::fs::rename(&new, &file).map_err(failed)
}

fn coordinator_state(at: &Path) -> PathBuf {
    at.join("coordinator")
}

/// The coordinator's socket.
pub fn coordinator_socket(at: &Path) -> PathBuf {
    at.join("coordinator.sock")
}

/// Where an agent tells about itself.
pub fn agent_socket(at: &Path, agent: &AgentId) -> PathBuf {
    at.join(format!("{agent}.sock"))
}

fn identity_file(at: &Path, agent: &AgentId) -> PathBuf {
    at.join(format!("{agent}.yaml"))
}

/// What an endpoint's process is called.
pub fn service_name(key: &EndpointKey) -> String {
    format!("{}-{}", key.service, key.region)
}

/// Where trouble is ordered from a service.
pub fn control_socket(at: &Path, name: &str) -> PathBuf {
    at.join(format!("{name}.control"))
}

/// What the process of a DNS server is called, and its files: the first is just `dns`.
fn dns_name(number: usize) -> String {
    if number == 0 { "dns".to_owned() } else { format!("dns-{}", number + 1) }
}

fn dns_file(at: &Path, number: usize) -> PathBuf {
    at.join(format!("{}.yaml", dns_name(number)))
}

/// What the coordinator signs with.
fn signing_key_file(at: &Path) -> PathBuf {
    at.join("dns-signing.key")
}

/// The file of `drover dns`; JSON is YAML.
#[derive(Serialize)]
struct DnsFile {
    zone: String,
    nameservers: Vec<NameServer>,
    listen: Vec<SocketAddr>,
    control: SocketAddr,
    trusted_keys: Vec<PublicKey>,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct NameServer {
    name: String,
    addresses: Vec<IpAddr>,
}

/// Makes the key by which DNS servers know what the coordinator published, where they are drover's own.
///
/// # Errors
/// When it can't be written.
pub fn make_key(at: &Path, config: &mut Config) -> Result<()> {
    let Some(own) = config.settings.dns.as_mut().and_then(DnsSettings::embedded_mut) else { return Ok(()) };
    let file = signing_key_file(at);
    SigningKey::create(&file).map_err(|e| Failure::of(ExitCode::Internal, &e))?;
    own.signing_key_file = Some(file);
    Ok(())
}

/// Writes every file that the processes read.
///
/// # Errors
/// When a file can't be written.
pub fn lay_out(at: &Path, config: &Config, choice: DnsChoice) -> Result<()> {
    let write = |path: PathBuf, text: String| {
        let failed = |e| Failure::because(ExitCode::Internal, format!("can't write {}", path.display()), &e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&path, text).map_err(failed)
    };
    write(config_file(at), sample::text(config))?;
    dns::lay_out(choice, config, at)?;
    for (number, file) in dns_files(config)?.into_iter().enumerate() {
        write(dns_file(at, number), file)?;
    }
    let coordinator = format!("http://{}", config.settings.listen);
    for (agent, region) in config.agents() {
        let failed = |e: &(dyn std::error::Error + 'static)| {
            Failure::because(ExitCode::Internal, format!("can't make the identity of {agent}"), e)
        };
        let url: CoordinatorUrl = coordinator.parse().map_err(|e| failed(&e))?;
        let mut identity = Identity::new(agent.clone(), region, vec![url], at.join(format!("{agent}.state")));
        identity.status = Some(StatusAddress::Unix(agent_socket(at, &agent)));
        // Where Route 53's health checks would read them; which port it is they write down.
        let is_hosted = config.settings.dns.as_ref().is_some_and(|dns| dns.route53().is_some());
        identity.status_listen = is_hosted.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let text = serde_json::to_string_pretty(&identity).map_err(|e| failed(&e))?;
        write(identity_file(at, &agent), text)?;
    }
    Ok(())
}

/// What each of drover's own DNS servers reads.
fn dns_files(config: &Config) -> Result<Vec<String>> {
    let Some(dns) = &config.settings.dns else { return Ok(vec![]) };
    let Some(own) = dns.embedded() else { return Ok(vec![]) };
    let key = own.signing_key_file.as_deref().map(SigningKey::read).transpose();
    let key = key.map_err(|e| Failure::of(ExitCode::Internal, &e))?;
    let server =
        |(name, address): &(String, IpAddr)| NameServer { name: name.clone(), addresses: vec![*address] };
    let file = |instance: &DnsInstance| {
        let others = own.instances.iter().filter(|other| key.is_some() && other.name != instance.name);
        let file = DnsFile {
            zone: dns.zone.clone(),
            nameservers: own.nameservers.iter().map(server).collect(),
            listen: vec![instance.query],
            control: instance.control,
            trusted_keys: key.iter().map(SigningKey::public).collect(),
            peers: others.map(|other| Peer { name: other.name.clone(), control: other.control }).collect(),
        };
        let failed = |e| Failure::because(ExitCode::Internal, "can't write the DNS instance's file", &e);
        serde_json::to_string_pretty(&file).map_err(failed)
    };
    own.instances.iter().map(file).collect()
}

/// The DNS servers: drover's own, or the one that stands in their place.
pub fn dns_servers(at: &Path, config: &Config, choice: DnsChoice) -> Vec<Recipe> {
    let own = |number| {
        let name = dns_name(number);
        let state = at.join(&name);
        Recipe::new(name, at, "dns").with("--config", dns_file(at, number)).with("--state", state).tells()
    };
    let instances = config.settings.dns.as_ref().and_then(|dns| dns.embedded());
    let instances = instances.map_or(0, |own| own.instances.len());
    dns::recipe(choice, at).map_or_else(|| (0..instances).map(own).collect(), |recipe| vec![recipe])
}

/// The coordinator.
pub fn coordinator(at: &Path, runbooks: Option<&Path>) -> Recipe {
    let recipe = Recipe::new("coordinator", at, "coordinator")
        .with("--config", config_directory(at))
        .with("--state", coordinator_state(at))
        .with("--socket", coordinator_socket(at))
        .tells();
    match runbooks {
        Some(runbooks) => recipe.with("--runbooks", runbooks),
        None => recipe,
    }
}

/// An agent. Nobody waits for it: it is heard when it reports.
pub fn agent(at: &Path, agent: &AgentId) -> Recipe {
    Recipe::new(agent.as_str(), at, "agent").with("--identity", identity_file(at, agent))
}

/// One endpoint.
pub fn service(at: &Path, config: &Config, key: &EndpointKey) -> Recipe {
    let name = service_name(key);
    let endpoint = config.services.get(&key.service).and_then(|s| s.endpoints.get(&key.region));
    let listen = endpoint.map(|e| format!("{}:{}", e.address, e.port)).unwrap_or_default();
    Recipe::new(name.as_str(), at, "sample-service")
        .with("--service", key.service.as_str())
        .with("--region", key.region.as_str())
        .with("--listen", listen)
        .with("--control", control_socket(at, &name))
        .tells()
}

/// The references: somebody else's machines, of which the world's services know nothing.
pub fn references(at: &Path, config: &Config) -> Recipe {
    let witness = config.regions.values().find(|r| r.role == RegionRole::Witness);
    let recipe = Recipe::new(REFERENCES, at, "sample-service")
        .with("--region", witness.map_or("elsewhere", |r| r.name.as_str()))
        .with("--control", control_socket(at, REFERENCES))
        .tells();
    config
        .settings
        .vantage
        .references
        .iter()
        .fold(recipe, |r, address| r.with("--listen", address.to_string()))
}
