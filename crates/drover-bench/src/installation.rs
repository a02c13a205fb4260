//! A whole installation of the real binary: a DNS server and a coordinator with a world of a stated size. Its vantages
//! are played from here, over the same API that agents use.

use crate::certificates::Certificates;
use crate::disk;
use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::product::{self, Role};
use crate::vantage::Vantage;
use crate::world::{self, Shape};
use drover_dns::publish::PublicKey;
use drover_model::api::StatusView;
use drover_model::config::{Config, encode};
use drover_model::decision::VerdictState;
use drover_model::{AgentId, EndpointKey, RegionId};
use serde::Deserialize;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Size of one file of the configuration, about: half of what one may have.
const FILE_BYTES: usize = drover_model::config::decode::FILE_BYTES_MAX / 2;
/// A guard against hanging.
const WELL_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a DNS server says when it is ready.
#[derive(Debug, Deserialize)]
pub struct DnsSaid {
    /// Where it answers.
    pub dns: Vec<SocketAddr>,
    /// Where it takes changes.
    pub control: SocketAddr,
}

/// What a coordinator says when it is ready.
#[derive(Debug, Deserialize)]
pub struct CoordinatorSaid {
    /// Where its API answers.
    pub http: SocketAddr,
}

/// The processes and their world.
pub struct Installation {
    // Roles go before the directory in which they write.
    /// The coordinator.
    pub coordinator: Role,
    _dns: Role,
    /// The binary that they run.
    pub binary: PathBuf,
    /// Where the API answers.
    pub api: SocketAddr,
    /// Where DNS answers.
    pub query: SocketAddr,
    /// What it was configured with.
    pub config: Config,
    http: reqwest::Client,
    certificates: Option<Certificates>,
    /// Everything that it writes.
    pub directory: TempDir,
}

impl Installation {
    /// Starts it, with its API in plain text.
    pub fn start(shape: &Shape, change: impl FnOnce(&mut Config)) -> Result<Self> {
        Self::begin(shape, change, false)
    }

    /// Starts it, with its API behind mutual TLS.
    pub fn start_with_tls(shape: &Shape) -> Result<Self> {
        Self::begin(shape, |_| {}, true)
    }

    fn begin(shape: &Shape, change: impl FnOnce(&mut Config), tls: bool) -> Result<Self> {
        let binary = product::binary()?;
        let directory = disk::scratch()?;
        let (dns, said) = start_dns(&binary, directory.path())?;
        let query = said.dns.first().copied();
        let query = query.ok_or_else(|| BenchError::Unexpected("DNS answers nowhere".into()))?;
        let mut config = Shape { dns: Some(world::dns_at(said.control, query)), ..shape.clone() }.config()?;
        change(&mut config);
        let at = directory.path().join("config");
        write_config(&at, &config)?;
        let state = directory.path().join("state");
        let mut words: Vec<&OsStr> = vec![
            "coordinator".as_ref(),
            "--config".as_ref(),
            at.as_os_str(),
            "--state".as_ref(),
            state.as_os_str(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
        ];
        let certificates = tls.then(|| Certificates::new(directory.path())).transpose()?;
        let flags = certificates.as_ref().map(Certificates::flags).transpose()?.unwrap_or_default();
        words.extend(flags.iter().map(OsString::as_os_str));
        let (coordinator, said) =
            Role::drover::<CoordinatorSaid>(&binary, "coordinator", directory.path(), &words)?;
        let http = match &certificates {
            Some(certificates) => certificates.client("drover://client/bench")?,
            None => client()?,
        };
        let api = said.http;
        Ok(Self { coordinator, _dns: dns, binary, api, query, config, http, certificates, directory })
    }

    /// The URL of the API.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.api)
    }

    /// One vantage for each configured agent, with a certificate of its own where the API wants one.
    pub fn vantages(&self) -> Result<Vec<Vantage>> {
        let url = self.url();
        let vantage = |(agent, region): (AgentId, RegionId)| {
            let http = match &self.certificates {
                Some(certificates) => certificates.client(&format!("drover://agent/{region}/{agent}"))?,
                None => self.http.clone(),
            };
            Ok(Vantage::new(agent, region, &url, http))
        };
        self.config.agents().into_iter().map(vantage).collect()
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> Vec<EndpointKey> {
        let services = self.config.services.values();
        services.flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r))).collect()
    }

    /// Has every vantage see every endpoint well, and waits until the coordinator says so and DNS shows it.
    pub async fn become_well(&self, vantages: &mut [Vantage]) -> Result<()> {
        let endpoints = self.endpoints();
        for vantage in vantages {
            for some in endpoints.chunks(drover_model::probe::REPORT_OBSERVATIONS_MAX) {
                vantage.send(some.iter().map(|e| (e, true))).await?;
            }
        }
        let began = Instant::now();
        loop {
            let status = self.status().await?;
            let verdicts = || status.services.iter().flat_map(|s| &s.endpoints).map(|e| e.verdict);
            let well = verdicts().all(|v| v == VerdictState::Healthy);
            if well && status.dns.iter().all(|d| d.reachable && d.behind.is_empty() && d.checked_at.is_some())
            {
                return Ok(());
            }
            if began.elapsed() > WELL_WITHIN {
                let not = verdicts().filter(|v| *v != VerdictState::Healthy).count();
                return unexpected(format!(
                    "{not} endpoints are not healthy after {WELL_WITHIN:?}; {:?}",
                    status.dns
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The document behind `drover status`.
    pub async fn status(&self) -> Result<StatusView> {
        let text = self.get("/v1/status").await?;
        serde_json::from_slice(&text).attempt("read the status")
    }

    /// A document of the API.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.url());
        let answer = self.http.get(&url).send().await.attempt(format!("get {url}"))?;
        let answer = answer.error_for_status().attempt(format!("get {url}"))?;
        Ok(answer.bytes().await.attempt(format!("get {url}"))?.to_vec())
    }
}

/// An HTTP client that goes nowhere but where it is told to.
pub fn client() -> Result<reqwest::Client> {
    // A second installation is refused, and then one is there already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().attempt("make an HTTP client")
}

/// drover's own DNS server for the zone of these worlds.
pub fn start_dns(binary: &Path, directory: &Path) -> Result<(Role, DnsSaid)> {
    start_dns_trusting(binary, directory, &[])
}

/// The same, taking just what one of these keys signed; none: whatever comes.
pub fn start_dns_trusting(binary: &Path, directory: &Path, keys: &[PublicKey]) -> Result<(Role, DnsSaid)> {
    let file = directory.join("dns.yaml");
    let server = |n: u8| json!({"name": format!("ns{n}.{}", world::ZONE), "addresses": ["127.0.0.1"]});
    let text = json!({
        "zone": world::ZONE, "nameservers": [server(1), server(2)],
        "listen": ["127.0.0.1:0"], "control": "127.0.0.1:0", "trusted_keys": keys,
    });
    std::fs::write(&file, text.to_string()).attempt(format!("write {}", file.display()))?;
    let state = directory.join("dns");
    let words: [&OsStr; 5] =
        ["dns".as_ref(), "--config".as_ref(), file.as_os_str(), "--state".as_ref(), state.as_os_str()];
    Role::drover(binary, "dns", directory, &words)
}

/// Writes the configuration as files that each have an allowed size.
pub fn write_config(at: &Path, config: &Config) -> Result<()> {
    std::fs::create_dir_all(at).attempt(format!("make {}", at.display()))?;
    let text = encode::to_yaml(config);
    let (mut files, mut file) = (Vec::new(), String::new());
    for document in text.split("---\n").filter(|d| !d.trim().is_empty()) {
        if file.len() + document.len() > FILE_BYTES {
            files.push(std::mem::take(&mut file));
        }
        file.push_str("---\n");
        file.push_str(document);
    }
    files.push(file);
    for (number, text) in files.iter().enumerate() {
        let path = at.join(format!("{number:04}.yaml"));
        std::fs::write(&path, text).attempt(format!("write {}", path.display()))?;
    }
    Ok(())
}
