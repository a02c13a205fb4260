//! `drover coordinator`.

use super::{Process, listening};
use crate::args::{CoordinatorArgs, TlsArgs};
use crate::context::SOCKET;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::tls_files::Said;
use drover_coordinator::config_dir::ConfigDir;
use drover_coordinator::{Coordinator, CoordinatorError, Options, api, listen};
use drover_pki::{PkiError, ServerTls, TlsFiles};
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
const DEPOSED: &str =
    "this coordinator does not lead any more: another one does, or is about to; started again, it follows";

/// Runs the coordinator until it is told to stop, or another one took over.
///
/// # Errors
/// When it can't start, or no longer leads.
pub async fn run(args: &CoordinatorArgs, tls: &TlsArgs) -> Result<ExitCode> {
    // SIGHUP may come before there is a coordinator; then it reads its configuration anyway.
    let running: Arc<Mutex<Option<Arc<Coordinator>>>> = Arc::default();
    let hung_up = running.clone();
    let process = Process::begin(&args.process, move || {
        if let Some(c) = hung_up.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            c.reload_wake.notify_one();
        }
    })?;
    let files = tls_files(args, tls)?;
    let tls = files.clone().map(ServerTls::load).transpose().map_err(|e| unusable(&e))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let advertised = args.advertise.as_deref().map(an_address).transpose()?;
    let tasks = TaskTracker::new();
    let options = Options {
        config: ConfigDir { config: args.config.clone(), runbooks: args.runbooks.clone() },
        state_directory: args.state.clone(),
        listen: args.listen,
        launcher: super::launch::words()?,
        tls: files,
    };
    let coordinator =
        Coordinator::open(options, process.stop.clone(), tasks.clone()).await.map_err(|e| failure(&e))?;
    let socket = socket(args);
    // First: a coordinator that nobody could ask, or stop, must not go on with a run.
    let bound = listen::bind(coordinator.listen, &socket, tls).await.map_err(|e| failure(&e))?;
    *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(coordinator.clone());
    coordinator.advertise(advertised.unwrap_or_else(|| format!("{scheme}://{}", bound.address)));
    coordinator.start().await.map_err(|e| failure(&e))?;
    let said = Bound { role: "coordinator", pid: std::process::id(), http: bound.address, socket: &socket };
    bound.serve(api::router(coordinator.clone()), &coordinator, &process.stop, &tasks);
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
    Err(Failure::new(ExitCode::Failed, "this coordinator stopped by itself; its log says why"))
}

/// What others shall reach this one at; a slip of the pen would be found only when somebody needs the leader.
fn an_address(url: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(url);
    match parsed {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => Ok(url.to_owned()),
        _ => Err(Failure::usage(format!("`--advertise {url}` is no address of an API"))
            .hint("write http://127.0.0.1:7400")),
    }
}

/// The named socket, else one in the service manager's runtime directory, else one in the state directory.
fn socket(args: &CoordinatorArgs) -> PathBuf {
    let runtime = || std::env::var_os("RUNTIME_DIRECTORY").filter(|d| !d.is_empty()).map(PathBuf::from);
    args.socket.clone().unwrap_or_else(|| runtime().unwrap_or_else(|| args.state.clone()).join(SOCKET))
}

/// The certificates, where they are named.
fn tls_files(args: &CoordinatorArgs, said: &TlsArgs) -> Result<Option<TlsFiles>> {
    let Some(files) = Said::of(said).files(None)? else { return Ok(None) };
    if let Some(directory) = args.directories().find(|directory| is_within(&files.key, directory)) {
        let (key, directory) = (files.key.display(), directory.display());
        return Err(Failure::usage(format!(
            "{key} is a secret, and lies within {directory}, which is read, hashed, shown and copied as configuration"
        ))
        .hint("move the key to where only the coordinator may read it, such as /etc/drover/tls"));
    }
    Ok(Some(files))
}

fn is_within(file: &Path, directory: &Path) -> bool {
    // As they really lie, beyond links; what does not exist is refused by whoever reads it.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(file).starts_with(real(directory))
}

fn unusable(error: &PkiError) -> Failure {
    Failure::of(ExitCode::Usage, error).hint(match error {
        PkiError::OtherMachine { .. } | PkiError::NotAMachine { .. } => {
            "drover pki issue coordinator NAME --host HOST --out DIR"
        }
        _ => "drover pki show: has it ended? Or issue another: drover pki issue coordinator --help",
    })
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
        CoordinatorError::NotLoopback { .. } => failure.hint(
            "drover pki init, then drover pki issue coordinator NAME --host HOST --out DIR: it says how to start it with them",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_can_be_called() {
        assert_eq!(an_address("http://10.0.0.1:7400").unwrap(), "http://10.0.0.1:7400");
        for wrong in ["10.0.0.1:7400", "ftp://a", "leader", "unix:/run/a.sock"] {
            assert_eq!(an_address(wrong).unwrap_err().code, ExitCode::Usage, "{wrong}");
        }
    }
}
