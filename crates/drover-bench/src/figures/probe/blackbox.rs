//! The peer that people use today: prometheus-blackbox-exporter, asked for one probe after the other.

use super::targets::Targets;
use super::{Size, TIMEOUT_MILLIS};
use crate::error::{Attempt, BenchError, Result, unexpected};
use crate::product::Role;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PROGRAM: &str = "prometheus-blackbox-exporter";
const INSTALL: &str = "apt-get install -y --no-install-recommends prometheus-blackbox-exporter";
/// Probes that it is asked for; it is asked at a rate that it bears, and its cost a probe hardly depends on it.
const PROBES: usize = 5_000;
const PROBES_SMALL: usize = 200;
const PROBES_A_SECOND: f64 = 250.0;
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where it is.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|d| d.join(PROGRAM)).find(|p| p.is_file());
    found.ok_or_else(|| BenchError::Missing { program: PROGRAM.into(), command: INSTALL.into() })
}

/// Its processor time a probe, in microseconds.
pub async fn cost(program: &Path, targets: &Targets, size: &Size, directory: &Path) -> Result<f64> {
    let config = directory.join("blackbox.yml");
    let text = format!(
        "modules:\n  bench:\n    prober: http\n    timeout: {TIMEOUT_MILLIS}ms\n    http:\n      \
         preferred_ip_protocol: ip4\n      ip_protocol_fallback: false\n"
    );
    std::fs::write(&config, text).attempt(format!("write {}", config.display()))?;
    let address = free_address()?;
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={address}"));
    let role = Role::start("blackbox", directory, &command)?;
    let http = crate::installation::client()?;
    wait_for(&http, &address).await?;

    let full = size.endpoints >= PROBES;
    let count = if full { PROBES } else { PROBES_SMALL };
    let (processor, began) = (role.processor()?, Instant::now());
    let mut asked = JoinSet::new();
    for number in 0..count {
        let due = began + Duration::from_secs_f64(number as f64 / PROBES_A_SECOND);
        tokio::time::sleep_until(due.into()).await;
        let target = targets.ports.address(number);
        let url = format!("http://{address}/probe?module=bench&target=http://{target}/health");
        let http = http.clone();
        asked.spawn(async move { succeeded(&http, &url).await });
    }
    let mut good = 0;
    while let Some(ended) = asked.join_next().await {
        good += usize::from(ended.attempt("ask for a probe")??);
    }
    let used = role.processor()? - processor;
    let wanted = (0..count).filter(|n| !super::targets::is_black_hole(*n)).count();
    if good != wanted {
        return unexpected(format!("{PROGRAM} saw {good} endpoints well and not {wanted}"));
    }
    Ok(used.as_secs_f64() * 1e6 / count as f64)
}

async fn succeeded(http: &reqwest::Client, url: &str) -> Result<bool> {
    let answer = http.get(url).send().await.attempt(format!("get {url}"))?;
    let text = answer.text().await.attempt(format!("get {url}"))?;
    Ok(text.lines().any(|l| l == "probe_success 1"))
}

async fn wait_for(http: &reqwest::Client, address: &str) -> Result<()> {
    let began = Instant::now();
    while http.get(format!("http://{address}/-/healthy")).send().await.is_err() {
        if began.elapsed() > READY_WITHIN {
            return unexpected(format!("{PROGRAM} does not answer"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// It can't pick a free port by itself.
fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").attempt("find a free port")?;
    Ok(listener.local_addr().attempt("find a free port")?.to_string())
}
