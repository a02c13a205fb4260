//! `takeover`: from the end of the coordinator that leads to another one that commands.
//!
//! Two coordinators share one etcd; played vantages tell both what they see. The leader is killed, or told to end, and the
//! other one is asked until it leads; then it is given a command. What agents told the follower must be what the leader
//! concludes from, with nobody reporting meanwhile.

use crate::disk;
use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::{CoordinatorSaid, client, start_dns, write_config};
use crate::product::{self, Role};
use crate::samples::Samples;
use crate::vantage::Vantage;
use crate::world::{self, Shape};
use drover_model::api::StatusView;
use drover_model::config::{Config, EtcdSettings, StoreSettings};
use drover_model::decision::VerdictState;
use drover_model::{EndpointKey, Span};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// As shipped.
const BOUND: Span = Span::from_secs(3);
const KILLED_MS_MAX: f64 = 4_000.0;
const TOLD_MS_MAX: f64 = 500.0;
const ROUNDS: usize = 10;
const REGIONS: usize = 3;
const SERVICES: usize = 20;
const ETCD: &str = "/usr/bin/etcd";
/// Guards against hanging.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.attempt("start the runtime")?.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("takeover", scale);
    let mut scene = Scene::start().await?;
    figure.told("part: the time without a sign of life that is waited for", BOUND.as_secs_f64() * 1e3, "ms");
    let ways = [(Signal::SIGKILL, "killed", KILLED_MS_MAX), (Signal::SIGTERM, "told to end", TOLD_MS_MAX)];
    for (signal, what, bar) in ways {
        let (mut samples, mut kept) = (Samples::new(), 0);
        for _ in 0..scale.of(ROUNDS, 1) {
            let (took, all_known) = scene.round(signal).await?;
            samples.add(took);
            kept += usize::from(all_known);
        }
        let of = format!("the leader is {what}: to another one that commands, the longest");
        figure.bar(of, samples.percentile_ms(100.0), "ms", Bar::AtMost(bar));
        let found = format!("{kept} of {} takeovers", samples.len());
        figure.check(format!("{what}: every opinion is kept"), kept == samples.len(), found);
    }
    Ok(figure)
}

struct Member {
    name: &'static str,
    role: Role,
    api: SocketAddr,
}

struct Scene {
    // Roles go before the directory in which they write.
    members: Vec<Member>,
    _dns: Role,
    _etcd: Role,
    binary: PathBuf,
    config: Config,
    http: reqwest::Client,
    commands: u32,
    directory: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Result<Self> {
        let (binary, directory) = (product::binary()?, disk::scratch()?);
        let (etcd, endpoint) = start_etcd(directory.path())?;
        let (dns, said) = start_dns(&binary, directory.path())?;
        let query = said.dns.first().copied();
        let query = query.ok_or_else(|| BenchError::Unexpected("DNS answers nowhere".into()))?;
        let dns_settings = Some(world::dns_at(said.control, query));
        let interval = Span::from_mins(5);
        let mut config =
            Shape { regions: REGIONS, services: SERVICES, interval, dns: dns_settings }.config()?;
        let etcd_settings = EtcdSettings {
            endpoints: vec![endpoint],
            prefix: "/drover".into(),
            keep_history: Span::from_hours(24),
            leader_lost_after: BOUND,
        };
        config.settings.store = Some(StoreSettings { etcd: etcd_settings });
        write_config(&directory.path().join("config"), &config)?;
        let mut scene = Self {
            members: Vec::new(),
            _dns: dns,
            _etcd: etcd,
            binary,
            config,
            http: client()?,
            commands: 0,
            directory,
        };
        for name in ["coordinator-a", "coordinator-b"] {
            let member = scene.member(name)?;
            scene.members.push(member);
        }
        Ok(scene)
    }

    fn member(&self, name: &'static str) -> Result<Member> {
        let at = self.directory.path();
        let (config, state) = (at.join("config"), at.join(name));
        // Of the one before it.
        let _ = std::fs::remove_file(at.join(format!("{name}.ready")));
        let words: [&OsStr; 7] = [
            "coordinator".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "--state".as_ref(),
            state.as_os_str(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
        ];
        let (role, said) = Role::drover::<CoordinatorSaid>(&self.binary, name, at, &words)?;
        Ok(Member { name, role, api: said.http })
    }

    /// Ends the leader so. How long it took until the other one had done a command, and whether it knew all.
    async fn round(&mut self, signal: Signal) -> Result<(Duration, bool)> {
        let leader = self.both_know_who_leads().await?;
        let follower = 1 - leader;
        for member in &self.members {
            self.all_is_well(member.api).await?;
        }
        self.until(follower, knows_all).await?;
        let began = Instant::now();
        self.members[leader].role.signal(signal)?;
        let status = self.until(follower, |s| leads(s) == Some(true)).await?;
        self.command(self.members[follower].api).await?;
        let took = began.elapsed();
        let name = self.members[leader].name;
        // The one before must be gone: its state directory has one owner.
        let gone = self.members.remove(leader);
        drop(gone);
        let again = self.member(name)?;
        self.members.insert(leader, again);
        Ok((took, knows_all(&status)))
    }

    /// Waits until one leads and the other one has seen that.
    async fn both_know_who_leads(&self) -> Result<usize> {
        let began = Instant::now();
        loop {
            let (a, b) = (self.status(0).await?, self.status(1).await?);
            let heard = |s: &StatusView| s.coordinator.leadership.as_ref().is_some_and(|l| l.heard.is_some());
            match (leads(&a), leads(&b)) {
                (Some(true), Some(false)) if heard(&b) => return Ok(0),
                (Some(false), Some(true)) if heard(&a) => return Ok(1),
                _ if began.elapsed() > WITHIN => return unexpected("nobody leads"),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn all_is_well(&self, api: SocketAddr) -> Result<()> {
        let services = self.config.services.values();
        let endpoints: Vec<EndpointKey> =
            services.flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r))).collect();
        for (agent, region) in self.config.agents() {
            let mut vantage = Vantage::new(agent, region, &format!("http://{api}"), self.http.clone());
            for some in endpoints.chunks(drover_model::probe::REPORT_OBSERVATIONS_MAX) {
                vantage.send(some.iter().map(|e| (e, true))).await?;
            }
        }
        Ok(())
    }

    async fn status(&self, member: usize) -> Result<StatusView> {
        let url = format!("http://{}/v1/status", self.members[member].api);
        let answer = self.http.get(&url).send().await.attempt(format!("get {url}"))?;
        let text = answer.bytes().await.attempt(format!("get {url}"))?;
        serde_json::from_slice(&text).attempt("read the status")
    }

    async fn until(&self, member: usize, holds: impl Fn(&StatusView) -> bool) -> Result<StatusView> {
        let began = Instant::now();
        loop {
            let status = self.status(member).await?;
            if holds(&status) {
                return Ok(status);
            }
            if began.elapsed() > WITHIN {
                return unexpected(format!("{:?} after {WITHIN:?}", status.coordinator.leadership));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A command that any leader takes.
    async fn command(&mut self, api: SocketAddr) -> Result<()> {
        let url = format!("http://{api}/v1/rearm");
        let by = serde_json::json!({"kind": "person", "name": "bench", "host": "here"});
        let body = serde_json::json!({"by": by, "reason": "a takeover", "service": null});
        self.commands += 1;
        let key = format!("takeover-{}", self.commands);
        let sent = self.http.post(&url).header("idempotency-key", key).json(&body).send().await;
        let answer = sent.attempt(format!("post {url}"))?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        if status.is_success() { Ok(()) } else { unexpected(format!("{url} answered {status}: {text}")) }
    }
}

fn knows_all(status: &StatusView) -> bool {
    let mut verdicts = status.services.iter().flat_map(|s| &s.endpoints).map(|e| e.verdict).peekable();
    verdicts.peek().is_some() && verdicts.all(|v| v == VerdictState::Healthy)
}

fn leads(status: &StatusView) -> Option<bool> {
    status.coordinator.leadership.as_ref().map(|l| l.leads)
}

/// One member, with its data where everything else of this figure is.
fn start_etcd(directory: &Path) -> Result<(Role, String)> {
    if !Path::new(ETCD).exists() {
        let command = "apt-get install -y --no-install-recommends etcd-server".into();
        return Err(BenchError::Missing { program: "etcd".into(), command });
    }
    let port = || -> Result<(TcpListener, u16)> {
        let held = TcpListener::bind("127.0.0.1:0").attempt("find a free port")?;
        let port = held.local_addr().attempt("find a free port")?.port();
        Ok((held, port))
    };
    let (client_held, peer_held) = (port()?, port()?);
    let port = client_held.1;
    let (endpoint, peer) =
        (format!("http://127.0.0.1:{}", client_held.1), format!("http://127.0.0.1:{}", peer_held.1));
    drop((client_held, peer_held));
    let mut command = Command::new(ETCD);
    command.arg("--data-dir").arg(directory.join("etcd")).args([
        "--name",
        "a",
        "--listen-client-urls",
        &endpoint,
        "--advertise-client-urls",
        &endpoint,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("a={peer}"),
    ]);
    let role = Role::start("etcd", directory, &command)?;
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > WITHIN {
            return unexpected(format!("etcd does not answer after {WITHIN:?}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok((role, endpoint))
}
