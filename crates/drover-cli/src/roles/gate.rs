//! `drover gate`.

use super::heartbeat::Heartbeat;
use super::{Process, launch};
use crate::args::GateArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_agent::gate::{GateConfig, GateError, OpenGate};
use serde::Serialize;
use std::path::PathBuf;

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Bound {
    role: &'static str,
    pid: u32,
    socket: PathBuf,
}

/// Guards a database until it is told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(args: &GateArgs) -> Result<ExitCode> {
    let process = Process::begin(&args.process, || tracing::info!("a gate has nothing to reload"))?;
    let config = GateConfig::load(&args.config).map_err(|e| failure(&e))?;
    let socket = config.socket.clone();
    let heart = Heartbeat::of_service();
    let gate = OpenGate::open(config, launch::words()?, move || heart.beat()).map_err(|e| failure(&e))?;
    process.ready_with_own_heart(&args.process, &Bound { role: "gate", pid: std::process::id(), socket })?;
    gate.run(process.stop.clone()).await;
    Ok(ExitCode::Done)
}

fn failure(error: &GateError) -> Failure {
    match error {
        GateError::File { .. } | GateError::NoCommand => {
            Failure::of(ExitCode::Usage, error).hint("drover gate --help shows the file")
        }
        GateError::InUse(socket) => Failure::of(ExitCode::Failed, error).hint(format!(
            "see who has it: ss -lxp src {}; one gate guards a dataset on a machine",
            socket.display()
        )),
        _ => Failure::of(ExitCode::Failed, error),
    }
}
