//! The database's processes: how they are started, and how it is made sure that none is left.
//!
//! Whoever starts a process group of its own (as PostgreSQL's do) is out of reach of a signal to the group. So this process takes
//! in what its descendants leave behind, and kills until it has no child any more: that, and nothing less, is stopped.

use super::GateConfig;
use drover_model::write_right::WriteGeneration;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between two looks whether what was killed is gone.
const GONE_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Any child, to `waitpid`.
const ANY_CHILD: Pid = Pid::from_raw(-1);

/// What can't be done with processes.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// What the database leaves behind would be out of reach.
    #[error("cannot take in orphaned processes")]
    Subreaper(#[source] Errno),
    /// There is nothing to start.
    #[error("there is no program to start")]
    Nothing,
    /// It does not start.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// From now on what descendants leave behind becomes a child of this process.
pub(super) fn adopt_orphans() -> Result<(), ProgramError> {
    set_child_subreaper(true).map_err(ProgramError::Subreaper)
}

/// The database's first process.
pub(super) struct Program(Pid);

impl Program {
    pub(super) fn start(
        launcher: &[OsString],
        config: &GateConfig,
        generation: WriteGeneration,
    ) -> Result<Self, ProgramError> {
        let mut words = launcher.iter().cloned().chain(config.command.iter().map(OsString::from));
        let first = words.next().ok_or(ProgramError::Nothing)?;
        let child = Command::new(first)
            .args(words)
            .env("DROVER_DATASET", config.dataset.as_str())
            .env("DROVER_GENERATION", generation.to_string())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ProgramError::Start { program: config.command.join(" "), source })?;
        // Its number is no other process's before it was waited for, which is done here alone.
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        Ok(Self(Pid::from_raw(pid)))
    }

    /// Did it end by itself?
    pub(super) fn has_ended(&self) -> bool {
        reap().ended.contains(&self.0)
    }
}

/// Kills every descendant until there is none. Whoever waits hears all the while that it is done: a gate that was ended in the middle
/// would be followed by one that knows of no descendant and says that nothing runs.
pub(super) async fn end_all(program: &Program, alive: impl Fn()) {
    if !program.has_ended() {
        // Most are in its group, and this needs no look at `/proc`.
        let _ = killpg(program.0, Signal::SIGKILL);
    }
    while !reap().nothing_left {
        alive();
        if let Err(e) = kill_descendants() {
            tracing::error!(error = %e, "can't see what the database left behind");
        }
        tokio::time::sleep(GONE_LOOK_EVERY).await;
    }
}

struct Reaped {
    ended: Vec<Pid>,
    nothing_left: bool,
}

fn reap() -> Reaped {
    let mut ended = Vec::new();
    loop {
        match waitpid(ANY_CHILD, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => ended.push(pid),
            Ok(WaitStatus::StillAlive) => return Reaped { ended, nothing_left: false },
            Err(Errno::ECHILD) => return Reaped { ended, nothing_left: true },
            Ok(_) | Err(_) => {}
        }
    }
}

/// One pass; what is born meanwhile is found by the next.
fn kill_descendants() -> procfs::ProcResult<()> {
    let all = procfs::process::all_processes()?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in all.filter_map(|process| process.ok()?.stat().ok()) {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let mut found = vec![nix::unistd::getpid().as_raw()];
    while let Some(parent) = found.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            // One that has ended meanwhile is one less.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            found.push(child);
        }
    }
    Ok(())
}
