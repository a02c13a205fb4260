//! What lies where in a world's directory, and how each of its processes is started.

use super::dns::{self, DnsChoice};
use super::process::Recipe;
use super::sample;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_agent::identity::{CoordinatorUrl, Identity, StatusAddress};
use drover_model::config::{Config, RegionRole};
use drover_model::{AgentId, EndpointKey};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
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

fn dns_file(at: &Path) -> PathBuf {
    at.join("dns.yaml")
}

/// The file of `drover dns`; JSON is YAML.
#[derive(Serialize)]
struct DnsFile {
    zone: String,
    nameservers: Vec<NameServer>,
    listen: Vec<SocketAddr>,
    control: SocketAddr,
}

#[derive(Serialize)]
struct NameServer {
    name: String,
    addresses: Vec<IpAddr>,
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
    if let Some(dns) = &config.settings.dns
        && let Some(own) = dns.embedded()
        && let Some(instance) = own.instances.first()
    {
        let server =
            |(name, address): &(String, IpAddr)| NameServer { name: name.clone(), addresses: vec![*address] };
        let file = DnsFile {
            zone: dns.zone.clone(),
            nameservers: own.nameservers.iter().map(server).collect(),
            listen: vec![instance.query],
            control: instance.control,
        };
        let failed = |e| Failure::because(ExitCode::Internal, "can't write the DNS instance's file", &e);
        write(dns_file(at), serde_json::to_string_pretty(&file).map_err(failed)?)?;
    }
    let coordinator = format!("http://{}", config.settings.listen);
    for (agent, region) in config.agents() {
        let failed = |e: &(dyn std::error::Error + 'static)| {
            Failure::because(ExitCode::Internal, format!("can't make the identity of {agent}"), e)
        };
        let url: CoordinatorUrl = coordinator.parse().map_err(|e| failed(&e))?;
        let mut identity = Identity::new(agent.clone(), region, vec![url], at.join(format!("{agent}.state")));
        identity.status = Some(StatusAddress::Unix(agent_socket(at, &agent)));
        let text = serde_json::to_string_pretty(&identity).map_err(|e| failed(&e))?;
        write(identity_file(at, &agent), text)?;
    }
    Ok(())
}

/// The DNS server.
pub fn dns_server(at: &Path, choice: DnsChoice) -> Recipe {
    let own = || {
        Recipe::new("dns", at, "dns").with("--config", dns_file(at)).with("--state", at.join("dns")).tells()
    };
    dns::recipe(choice, at).unwrap_or_else(own)
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
