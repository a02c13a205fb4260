//! `drover coordinator`.

use super::{Process, listening};
use crate::args::CoordinatorArgs;
use crate::context::SOCKET;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_coordinator::config_dir::ConfigDir;
use drover_coordinator::{Coordinator, CoordinatorError, Options, api, listen};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::task::TaskTracker;

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Bound<'a> {
    role: &'static str,
    pid: u32,
    http: SocketAddr,
    socket: &'a Path,
}

/// What a coordinator says that was stopped for longer than its fellows wait.
const DEPOSED: &str = "this coordinator no longer leads: another one took over; started again, it follows";

/// Runs the coordinator until it is told to stop, or another one took over.
///
/// # Errors
/// When it can't start, or no longer leads.
pub async fn run(args: &CoordinatorArgs) -> Result<ExitCode> {
    // SIGHUP may come before there is a coordinator; then it reads its configuration anyway.
    let running: Arc<Mutex<Option<Arc<Coordinator>>>> = Arc::default();
    let hung_up = running.clone();
    let process = Process::begin(&args.process, move || {
        if let Some(c) = hung_up.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            c.reload_wake.notify_one();
        }
    })?;
    let tasks = TaskTracker::new();
    let options = Options {
        config: ConfigDir { config: args.config.clone(), runbooks: args.runbooks.clone() },
        state_directory: args.state.clone(),
        listen: args.listen,
        launcher: super::launch::words()?,
    };
    let coordinator =
        Coordinator::open(options, process.stop.clone(), tasks.clone()).await.map_err(|e| failure(&e))?;
    let socket = socket(args);
    // First: a coordinator that nobody could ask, or stop, must not go on with a run.
    let bound = listen::bind(coordinator.listen, &socket).await.map_err(|e| failure(&e))?;
    *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(coordinator.clone());
    coordinator.advertise(args.advertise.clone().unwrap_or_else(|| format!("http://{}", bound.address)));
    coordinator.start().await.map_err(|e| failure(&e))?;
    let said = Bound { role: "coordinator", pid: std::process::id(), http: bound.address, socket: &socket };
    bound.serve(api::router(coordinator.clone()), &process.stop, &tasks);
    tracing::info!(http = %said.http, socket = %socket.display(), "the API answers");
    process.ready(&args.process, &said)?;

    process.stop.cancelled().await;
    tasks.close();
    coordinator.handed_over().await;
    tasks.wait().await;
    running.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A socket that nobody answers would make every command wait for nothing.
    let _ = std::fs::remove_file(&socket);
    tracing::info!("stopped");
    if process.was_told() {
        return Ok(ExitCode::Done);
    }
    if coordinator.is_deposed() {
        return Err(Failure::new(ExitCode::Deposed, DEPOSED));
    }
    Err(Failure::new(ExitCode::Failed, "this coordinator no longer leads: another one took over"))
}

/// The named socket, else one in the service manager's runtime directory, else one in the state directory.
fn socket(args: &CoordinatorArgs) -> PathBuf {
    let runtime = || std::env::var_os("RUNTIME_DIRECTORY").filter(|d| !d.is_empty()).map(PathBuf::from);
    args.socket.clone().unwrap_or_else(|| runtime().unwrap_or_else(|| args.state.clone()).join(SOCKET))
}

fn failure(error: &CoordinatorError) -> Failure {
    let code = match error {
        CoordinatorError::ReadConfig { .. }
        | CoordinatorError::BadConfig { .. }
        | CoordinatorError::NotLoopback { .. } => ExitCode::Usage,
        _ => ExitCode::Failed,
    };
    let failure = Failure::of(code, error);
    match error {
        CoordinatorError::BadConfig { diagnostics } => {
            crate::verbs::config::refused("the configuration", diagnostics.clone())
        }
        CoordinatorError::Listen { address, source } => {
            listening(failure, address, source, "`--listen`, `--socket` or `listen` of the settings")
        }
        _ => failure,
    }
}
