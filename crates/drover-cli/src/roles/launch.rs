//! `drover launch`: runs another program for a coordinator, and ends it and all that it started when that one dies. So a
//! coordinator that is killed takes the programs of its `run` steps with it, and its successor finds nothing still at
//! work (I1). The kernel would end the program alone, and leave what a script is just waiting for.

use super::with_parent;
use crate::args::LaunchArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgrp, getpid, setpgid};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitStatus;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// The words that start a program so, before its path and arguments.
///
/// # Errors
/// When this program's own file is not known.
pub fn words() -> Result<Vec<OsString>> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::because(ExitCode::Internal, "can't find this program's file", &e))?;
    let parent = format!("--parent={}", std::process::id());
    Ok(vec![own.into(), "launch".into(), parent.into(), "--".into()])
}

/// Runs the program and ends as it does.
///
/// # Errors
/// When the parent is gone already, or the program can't be started.
pub async fn run(args: &LaunchArgs) -> Result<ExitCode> {
    let failed = |e: &(dyn std::error::Error + 'static)| {
        Failure::because(ExitCode::Internal, "can't tie a program to its parent", e)
    };
    let Some((program, arguments)) = args.program.split_first() else {
        return Err(Failure::usage("there is no program to start"));
    };
    if getpgrp() != getpid() {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|e| failed(&e))?;
    }
    // Heard before it may come.
    let mut parent_died = signal(SignalKind::terminate()).map_err(|e| failed(&e))?;
    with_parent(args.parent, Signal::SIGTERM)?;
    let mut child = Command::new(program).args(arguments).spawn().map_err(|e| {
        Failure::because(ExitCode::Failed, format!("can't start {}", program.to_string_lossy()), &e)
    })?;
    tokio::select! {
        status = child.wait() => pass_on(status.map_err(|e| failed(&e))?),
        _ = parent_died.recv() => Err(end_all()),
    }
}

/// Ends as the program did.
fn pass_on(status: ExitStatus) -> Result<ExitCode> {
    if let Some(code) = status.code() {
        std::process::exit(code);
    }
    // Only another signal may tell of a signal; which one it was is in what is said last.
    let _ = writeln!(std::io::stderr(), "{status}");
    Err(end_all())
}

/// Kills the group: this process, the program, and what it started. Comes back only when that is not allowed.
fn end_all() -> Failure {
    match killpg(getpgrp(), Signal::SIGKILL) {
        Ok(()) => Failure::new(ExitCode::Failed, "the program was ended"),
        Err(e) => Failure::because(ExitCode::Internal, "can't end the program", &e),
    }
}
