//! A running sample world: its processes, and the trouble that can be made in it.
//!
//! Fourteen processes: six services, the references, four agents, two DNS servers, and a coordinator under its supervisor.
//! Everything lives in one temporary directory, which goes with the world.

use super::api::Api;
use super::dns::{self, DnsChoice};
use super::layout::{self, REFERENCES};
use super::process::{Recipe, Role};
use super::sample::{self, Wanted};
use super::service::control::{self, Faults};
use super::supervisor::Supervisor;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_model::config::{Config, DnsInstance, Region, RegionRole};
use drover_model::{AgentId, EndpointKey, Percent, RegionId, Span};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// A running world.
#[derive(Debug)]
pub struct World {
    /// What it is configured as.
    pub config: Config,
    /// Where it can be asked.
    pub api: Api,
    directory: TempDir,
    choice: DnsChoice,
    /// What DNS is told through, where that is a process of its own.
    provider: Option<Role>,
    dns: Vec<Role>,
    references: Role,
    reference_faults: Faults,
    services: BTreeMap<EndpointKey, Endpoint>,
    agents: BTreeMap<AgentId, Role>,
    /// Absent where whoever plays starts coordinators and agents himself.
    supervisor: Option<Supervisor>,
}

#[derive(Debug)]
struct Endpoint {
    recipe: Recipe,
    faults: Faults,
    /// Absent while it is dead.
    role: Option<Role>,
}

impl World {
    /// Starts a world and waits until all of it answers.
    ///
    /// # Errors
    /// When any process does not come up; nothing is left running then.
    pub async fn start(wanted: impl FnOnce(&Path) -> Wanted) -> Result<Self> {
        let failed = |e| Failure::because(ExitCode::Internal, "can't make a directory for the world", &e);
        let directory = tempfile::Builder::new().prefix("drover-").tempdir().map_err(failed)?;
        let at = directory.path().to_owned();
        let wanted = wanted(&at);
        let mut config = sample::world(&wanted)?;
        let control = instance(&config)?.control;
        dns::replace(wanted.dns, &mut config, &at)?;
        layout::make_key(&at, &mut config)?;
        layout::lay_out(&at, &config, wanted.dns)?;

        let mut provider =
            dns::provider(wanted.dns, &config, &at).map(|recipe| recipe.start()).transpose()?;
        if let Some(provider) = &mut provider {
            provider.ready().await?;
        }
        let recipes = layout::dns_servers(&at, &config, wanted.dns);
        let mut dns = recipes.iter().map(Recipe::start).collect::<Result<Vec<Role>>>()?;
        let mut references = layout::references(&at, &config).start()?;
        let mut services = BTreeMap::new();
        for service in config.services.values() {
            for region in service.endpoints.keys() {
                let key = EndpointKey::new(&service.name, region);
                let recipe = layout::service(&at, &config, &key);
                let role = Some(recipe.start()?);
                services.insert(key, Endpoint { recipe, faults: Faults::default(), role });
            }
        }
        for server in &mut dns {
            server.ready().await?;
        }
        if let Err(e) = dns::until_it_answers(wanted.dns, &config).await {
            return Err(dns.iter().fold(e, |e, server| server.complained(e)));
        }
        references.ready().await?;
        for endpoint in services.values_mut() {
            if let Some(role) = &mut endpoint.role {
                role.ready().await?;
            }
        }
        let mut supervisor = None;
        let mut agents = BTreeMap::new();
        if !wanted.only_services {
            let coordinator = layout::coordinator(&at, wanted.runbooks.as_deref());
            supervisor = Some(Supervisor::start(coordinator).await?);
            for agent in config.agents().keys() {
                agents.insert(agent.clone(), layout::agent(&at, agent).start()?);
            }
        }
        let api = Api { coordinator: config.settings.listen, dns: control };
        let reference_faults = Faults::default();
        let choice = wanted.dns;
        Ok(Self {
            config,
            api,
            directory,
            choice,
            provider,
            dns,
            references,
            reference_faults,
            services,
            agents,
            supervisor,
        })
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The coordinator's socket.
    pub fn coordinator_socket(&self) -> PathBuf {
        layout::coordinator_socket(self.directory.path())
    }

    /// Where an agent tells about itself.
    pub fn agent_status(&self, agent: &AgentId) -> String {
        format!("unix:{}", layout::agent_socket(self.directory.path(), agent).display())
    }

    /// Where trouble is ordered from a service.
    pub fn service_control(&self, key: &EndpointKey) -> PathBuf {
        layout::control_socket(self.directory.path(), &layout::service_name(key))
    }

    /// Where it answers DNS.
    ///
    /// # Errors
    /// When it has no DNS.
    pub fn dns_address(&self) -> Result<SocketAddr> {
        let answering = self.config.settings.dns.as_ref().and_then(|dns| dns.answering().next());
        answering.map(|(_, address)| address).ok_or_else(no_dns)
    }

    /// How often each generation of each record set was applied, by the DNS server's own account.
    ///
    /// # Errors
    /// When it gives none.
    pub async fn dns_changes(&self) -> Result<BTreeMap<String, u32>> {
        let zone = self.config.settings.dns.as_ref().map_or("", |dns| dns.zone.as_str());
        dns::applied(self.choice, &self.api, self.directory(), zone).await
    }

    /// Every process by name.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let services = self.services.values().filter_map(|e| e.role.as_ref());
        let roles = services
            .chain(self.agents.values())
            .chain(&self.dns)
            .chain([&self.references])
            .chain(&self.provider);
        let mut pids: BTreeMap<String, u32> = roles.map(|r| (r.name.clone(), r.pid)).collect();
        pids.extend(
            self.supervisor.as_ref().and_then(Supervisor::pid).map(|pid| ("coordinator".to_owned(), pid)),
        );
        pids
    }

    /// The coordinator's supervisor.
    ///
    /// # Errors
    /// When this world has no coordinator.
    pub fn supervisor(&self) -> Result<&Supervisor> {
        let none = || Failure::new(ExitCode::Internal, "this world has no coordinator of its own");
        self.supervisor.as_ref().ok_or_else(none)
    }

    /// The coordinator's configuration.
    pub fn config_directory(&self) -> PathBuf {
        layout::config_directory(self.directory.path())
    }

    /// A serving region by its name.
    ///
    /// # Errors
    /// When there is none, with those that there are.
    pub fn region(&self, name: &str) -> Result<RegionId> {
        self.named(name, |r| r.role == RegionRole::Serving)
    }

    /// A region by its name, the witness's too.
    ///
    /// # Errors
    /// When there is none, with those that there are.
    pub fn any_region(&self, name: &str) -> Result<RegionId> {
        self.named(name, |_| true)
    }

    fn named(&self, name: &str, of: impl Fn(&Region) -> bool) -> Result<RegionId> {
        let regions: Vec<&RegionId> =
            self.config.regions.values().filter(|r| of(r)).map(|r| &r.name).collect();
        match regions.iter().find(|r| r.as_str() == name) {
            Some(region) => Ok((*region).clone()),
            None => {
                let known: Vec<&str> = regions.iter().map(|r| r.as_str()).collect();
                let failure = Failure::usage(format!("the sample world has no such region as `{name}`"));
                Err(failure.hint(format!("it has {}", known.join(", "))))
            }
        }
    }

    /// Makes the waits of a failback shorter; the coordinator takes it within a second.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub fn hasten(&mut self, times: u64) -> Result<()> {
        sample::hasten(&mut self.config, times);
        layout::replace_config(self.directory.path(), &self.config)
    }

    /// SIGKILL to everything in a region: services and agents.
    pub async fn kill_region(&mut self, region: &RegionId) {
        let mut dying: Vec<Role> = Vec::new();
        for (key, endpoint) in &mut self.services {
            if key.region == *region {
                dying.extend(endpoint.role.take());
            }
        }
        for agent in self.agents_of(region) {
            dying.extend(self.agents.remove(&agent));
        }
        // All at once; waiting for one before killing the next would be no region failure.
        dying.iter_mut().for_each(Role::kill);
        for role in dying {
            role.end().await;
        }
    }

    /// Starts whatever is dead, and ends all other trouble in these regions; in all without a name.
    ///
    /// # Errors
    /// When a process does not come up.
    pub async fn heal(&mut self, region: Option<&RegionId>) -> Result<()> {
        let meant = |r: &RegionId| region.is_none_or(|wanted| wanted == r);
        let sources: Vec<Ipv4Addr> = region.map(|r| self.sources(r)).unwrap_or_default();
        for (key, endpoint) in &mut self.services {
            if meant(&key.region) {
                endpoint.faults = Faults::default();
                if endpoint.role.is_none() {
                    let mut role = endpoint.recipe.start()?;
                    role.ready().await?;
                    endpoint.role = Some(role);
                }
            } else {
                endpoint.faults.dropped.retain(|source| !sources.contains(source));
            }
        }
        self.reference_faults.dropped.retain(|source| region.is_some() && !sources.contains(source));
        let agents: Vec<AgentId> =
            self.config.agents().into_iter().filter(|(_, r)| meant(r)).map(|(a, _)| a).collect();
        for agent in agents.into_iter().filter(|_| self.supervisor.is_some()) {
            if !self.agents.contains_key(&agent) {
                let role = layout::agent(self.directory.path(), &agent).start()?;
                self.agents.insert(agent, role);
            }
        }
        self.order().await
    }

    /// Packets between two regions are dropped, both ways.
    ///
    /// # Errors
    /// When a service does not obey.
    pub async fn break_link(&mut self, a: &RegionId, b: &RegionId) -> Result<()> {
        self.drop_sources(&self.sources(a), |key| key.region == *b);
        self.drop_sources(&self.sources(b), |key| key.region == *a);
        self.order().await
    }

    /// What one region's vantages send to another region is dropped; the other way stays open.
    ///
    /// # Errors
    /// When a service does not obey.
    pub async fn cut_view(&mut self, vantage: &RegionId, of: &RegionId) -> Result<()> {
        self.drop_sources(&self.sources(vantage), |key| key.region == *of);
        self.order().await
    }

    /// A region's vantages reach nothing outside, neither services nor references.
    ///
    /// # Errors
    /// When a service does not obey.
    pub async fn blind(&mut self, vantage: &RegionId) -> Result<()> {
        let sources = self.sources(vantage);
        self.drop_sources(&sources, |key| key.region != *vantage);
        self.reference_faults.dropped.extend(sources);
        self.order().await
    }

    /// Every answer of a region takes so much longer.
    ///
    /// # Errors
    /// When a service does not obey.
    pub async fn slow(&mut self, region: &RegionId, by: Span) -> Result<()> {
        self.services.iter_mut().filter(|(k, _)| k.region == *region).for_each(|(_, e)| e.faults.slow = by);
        self.order().await
    }

    /// A share of a region's answers are errors.
    ///
    /// # Errors
    /// When a service does not obey.
    pub async fn errors(&mut self, region: &RegionId, share: Percent) -> Result<()> {
        self.services
            .iter_mut()
            .filter(|(k, _)| k.region == *region)
            .for_each(|(_, e)| e.faults.errors = share);
        self.order().await
    }

    /// Ends every process and waits until all are gone.
    pub async fn end(self) {
        let Self { provider, dns, references, services, agents, supervisor, directory, .. } = self;
        if let Some(supervisor) = supervisor {
            supervisor.end().await;
        }
        let services = services.into_values().filter_map(|e| e.role);
        let others = agents.into_values().chain(dns).chain([references]).chain(provider);
        let mut roles: Vec<Role> = services.chain(others).collect();
        roles.iter_mut().for_each(Role::kill);
        for role in roles {
            role.end().await;
        }
        drop(directory);
    }

    /// Ends every process, but leaves what they wrote for whoever wants to know.
    pub async fn end_and_keep(mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        let path = self.directory.path().to_owned();
        self.end().await;
        path
    }

    fn agents_of(&self, region: &RegionId) -> Vec<AgentId> {
        self.config
            .regions
            .get(region)
            .map(|r| r.agents.iter().map(|a| a.name.clone()).collect())
            .unwrap_or_default()
    }

    /// Where a region's probes come from.
    fn sources(&self, region: &RegionId) -> Vec<Ipv4Addr> {
        let agents = self.config.regions.get(region).map(|r| r.agents.as_slice()).unwrap_or_default();
        let v4 = |a: IpAddr| if let IpAddr::V4(v4) = a { Some(v4) } else { None };
        agents.iter().filter_map(|a| a.source_address.and_then(v4)).collect()
    }

    fn drop_sources(&mut self, sources: &[Ipv4Addr], at: impl Fn(&EndpointKey) -> bool) {
        let meant = self.services.iter_mut().filter(|(key, _)| at(key));
        meant.for_each(|(_, e)| e.faults.dropped.extend(sources));
    }

    /// Tells every living service what is wrong with it.
    async fn order(&self) -> Result<()> {
        let living = self.services.iter().filter(|(_, e)| e.role.is_some());
        let orders = living.map(|(key, e)| (self.service_control(key), &e.faults));
        let references = layout::control_socket(self.directory.path(), REFERENCES);
        let orders: Vec<_> = orders.chain([(references, &self.reference_faults)]).collect();
        // At once, as one event in the world.
        let mut told = JoinSet::new();
        for (path, faults) in orders {
            let faults = faults.clone();
            told.spawn(async move { control::order(&path, &faults).await });
        }
        while let Some(told) = told.join_next().await {
            told.map_err(|e| Failure::because(ExitCode::Internal, "can't order trouble", &e))??;
        }
        Ok(())
    }
}

fn instance(config: &Config) -> Result<&DnsInstance> {
    let dns = config.settings.dns.as_ref().and_then(|d| d.embedded()?.instances.first());
    dns.ok_or_else(no_dns)
}

fn no_dns() -> Failure {
    Failure::new(ExitCode::Internal, "the sample world has no DNS server")
}
