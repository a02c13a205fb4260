//! `status`: how long the on-call waits for everything at a glance: the real command against the real coordinator. The
//! peer is the bare document over a connection that is open already.

use crate::error::{Attempt, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::Installation;
use crate::samples::Samples;
use crate::world::Shape;
use drover_model::Span;
use std::process::{Command, Output};

const REGIONS: usize = 10;
const SERVICES: usize = 1_000;
const RUNS: usize = 20;
const BAR_MS: f64 = 50.0;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("status", scale);
    let services = scale.of(SERVICES, 10);
    let shape = Shape { regions: REGIONS, services, interval: Span::from_mins(5), dns: None };
    let world = Installation::start(&shape, |_| {})?;
    world.become_well(&mut world.vantages()?).await?;

    let (mut command, mut document) = (Samples::new(), Samples::new());
    let mut bytes = 0;
    for _ in 0..scale.of(RUNS, 3) {
        let said = command.time(|| said(&world, &["status"]))?;
        let text = String::from_utf8_lossy(&said.stdout);
        let well = said.status.success() && text.contains("all is well");
        if !well {
            let found = text.lines().nth(2).unwrap_or_default().to_owned();
            figure.check("it says that all is well", false, found);
            return Ok(figure);
        }
        let began = std::time::Instant::now();
        bytes = world.get("/v1/status").await?.len();
        document.add(began.elapsed());
    }
    let what = format!("`drover status` on {services} services in {REGIONS} regions, median");
    figure.bar(what, command.median_ms(), "ms", Bar::AtMost(BAR_MS));
    figure.told("peer: the document alone, median", document.median_ms(), "ms");
    figure.told("size of the document", bytes as f64 / 1024.0, "KiB");
    figure.check("it says that all is well", command.len() > 0, format!("{} times", command.len()));
    let json = said(&world, &["status", "-o", "json"])?;
    let view: drover_model::api::StatusView =
        serde_json::from_slice(&json.stdout).attempt("read the status")?;
    let shown = view.services.iter().map(|s| s.endpoints.len()).sum::<usize>();
    let wanted = shape.endpoints();
    figure.check("every endpoint is in it", shown == wanted, format!("{shown} of {wanted}"));
    Ok(figure)
}

/// Runs the command as a person does, with its files in the installation's directory.
fn said(world: &Installation, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(&world.binary);
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, world.directory.path());
    }
    command.args(words).arg("--coordinator").arg(format!("http://{}", world.api));
    command.current_dir(world.directory.path()).output().attempt("run drover status")
}
