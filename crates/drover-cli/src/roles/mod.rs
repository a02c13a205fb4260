//! The service roles: what they share of a process's manners.
//!
//! Logs go to standard error. SIGTERM or SIGINT ends a role in order within [`STOP_WITHIN`], a second one at once. The
//! service manager is told when the role is ready, that it is alive, and that it stops.

pub mod agent;
pub mod coordinator;
pub mod dns;
pub mod gate;
pub mod heartbeat;
pub mod launch;

use crate::args::{LogFormat, ProcessArgs};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use sd_notify::NotifyState;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Longest time from the first signal to the end.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
/// What a shell reports for a process that a signal ended: 128 and the number of SIGTERM.
const ENDED_BY_SIGNAL: i32 = 128 + 15;

/// A role's process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Cancelled when the role shall stop.
    pub stop: CancellationToken,
    told: Arc<AtomicBool>,
}

impl Process {
    /// Ties the process to its parent if asked to, starts logging, and listens for signals; `reload` is called for each
    /// SIGHUP.
    ///
    /// # Errors
    /// When the log filter is wrong or signals can't be listened for.
    pub fn begin(args: &ProcessArgs, reload: impl Fn() + Send + 'static) -> Result<Self> {
        if let Some(parent) = args.die_with_parent {
            with_parent(parent, nix::sys::signal::Signal::SIGKILL)?;
        }
        log(args)?;
        let process = Self { stop: CancellationToken::new(), told: Arc::new(AtomicBool::new(false)) };
        let failed = |e| Failure::because(ExitCode::Internal, "can't listen for signals", &e);
        let term = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        tokio::spawn(reload_on(hangup, reload));
        tokio::spawn(process.clone().end_on(term, interrupt));
        Ok(process)
    }

    /// Did a signal end it, and not the role itself?
    pub fn was_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Says that the role serves: to whoever waits for the file, and to the service manager.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn ready<T: Serialize>(&self, args: &ProcessArgs, bound: &T) -> Result<()> {
        self.ready_with_own_heart(args, bound)?;
        if let Some(every) = sd_notify::watchdog_enabled() {
            tokio::spawn(keep_alive(every / 2, self.stop.clone()));
        }
        Ok(())
    }

    /// The same for a role whose own task says that it lives, by a [`heartbeat`].
    ///
    /// # Errors
    /// As of [`Process::ready`].
    pub fn ready_with_own_heart<T: Serialize>(&self, args: &ProcessArgs, bound: &T) -> Result<()> {
        if let Some(path) = &args.ready_file {
            write_whole(path, bound)?;
        }
        tell(&NotifyState::Ready);
        Ok(())
    }

    async fn end_on(self, mut term: Signal, mut interrupt: Signal) {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            () = self.stop.cancelled() => {}
        }
        if !self.stop.is_cancelled() {
            self.told.store(true, Ordering::Relaxed);
            tracing::info!("stopping");
            self.stop.cancel();
        }
        tell(&NotifyState::Stopping);
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(STOP_WITHIN) => {
                tracing::error!(seconds = STOP_WITHIN.as_secs(), "not stopped in time, ending at once");
            }
        }
        // Nothing may be waited for now; what is durable is durable (I1).
        std::process::exit(ENDED_BY_SIGNAL);
    }
}

async fn reload_on(mut hangup: Signal, reload: impl Fn()) {
    while hangup.recv().await.is_some() {
        reload();
    }
}

/// Says that the runtime still turns its tasks over.
async fn keep_alive(every: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => tell(&NotifyState::Watchdog),
        }
    }
}

/// A role that can't listen, with what to do about it. `elsewhere` is where another address is given.
fn listening(failure: Failure, address: &str, source: &std::io::Error, elsewhere: &str) -> Failure {
    let port = address.parse::<std::net::SocketAddr>().map(|a| a.port());
    match (source.kind(), port) {
        (std::io::ErrorKind::AddrInUse, Ok(port)) => failure.hint(format!(
            "see who has the port: ss -lntup 'sport = :{port}'; stop that, or give another address with {elsewhere}"
        )),
        (std::io::ErrorKind::AddrInUse, Err(_)) => failure.hint(format!(
            "see who has the socket: ss -lxp src {address}; stop that, or give another one with {elsewhere}"
        )),
        (std::io::ErrorKind::PermissionDenied, Ok(port @ 1..1_024)) => failure.hint(format!(
            "port {port} needs CAP_NET_BIND_SERVICE, as the shipped unit grants; or give another address with {elsewhere}"
        )),
        (std::io::ErrorKind::AddrNotAvailable, _) => {
            failure.hint(format!("this machine does not have the address; give another one with {elsewhere}"))
        }
        _ => failure,
    }
}

fn tell(state: &NotifyState<'_>) {
    // Without a service manager there is nobody to tell.
    if let Err(e) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(error = %e, "can't tell the service manager");
    }
}

/// Starts logging to standard error.
fn log(args: &ProcessArgs) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level).map_err(|e| {
        Failure::because(ExitCode::Usage, format!("`{}` is no log level", args.log_level), &e)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match args.log_format {
        LogFormat::Json => builder.json().with_current_span(true).with_span_list(true).try_init(),
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())).try_init()
        }
    };
    set.map_err(|e| Failure::because(ExitCode::Internal, "can't start logging", e.as_ref()))
}

/// The kernel sends this process a signal when the thread that started it ends. A parent that died before is noticed by
/// its number when that was given, else by the orphan's parent being init.
#[cfg(target_os = "linux")]
fn with_parent(expected: i32, signal: nix::sys::signal::Signal) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)
        .map_err(|e| Failure::because(ExitCode::Internal, "can't tie this process to its parent", &e))?;
    let parent = nix::unistd::getppid().as_raw();
    // In a container the parent may be process 1 itself.
    let is_gone = if expected == 0 { parent == 1 } else { parent != expected };
    if is_gone {
        return Err(Failure::new(ExitCode::Failed, "the parent is gone already"));
    }
    Ok(())
}

/// Elsewhere the kernel offers no such thing; whoever starts children must end them.
#[cfg(not(target_os = "linux"))]
fn with_parent(_: i32, _: nix::sys::signal::Signal) -> Result<()> {
    Ok(())
}

/// A file that is there whole or not at all.
fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = |e: std::io::Error| {
        Failure::because(ExitCode::Failed, format!("can't write the ready file {}", path.display()), &e)
    };
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    serde_json::to_writer(&mut file, value).map_err(|e| failed(e.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
