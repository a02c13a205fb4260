//! `run`: a program of the operator's own, started without a shell.
//!
//! What a crash in the middle of it means is for its author to say (I1), and is kept to here: what is observable is looked
//! at before anything is done, what is keyed gets the same key at every attempt, and of what is neither the outcome is
//! told as uncertain whenever it is not known. Nothing but what was approved runs: the file must still be what it was
//! when the plan was made (I9).

use super::{done, failed};
use crate::programs;
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure, StepOutcome};
use drover_model::plan::{Program, Repeatability};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

#[cfg(test)]
mod tests;

/// Where a program finds its tools. Nothing else of this process's surroundings is passed on: they may hold secrets.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of what a program says that are kept, its last ones.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// Characters of its last line that are told.
const LINE_CHARS_MAX: usize = 200;
/// After the program ended, for what it left in its pipes: a grandchild may hold them open for ever.
const OUTPUT_AFTER_EXIT: Duration = Duration::from_secs(1);
/// What `observe` ends with when it is not done yet.
const NOT_DONE: i32 = 1;

/// How a program ended.
struct Ended {
    /// Not known when somebody else waited for it.
    status: io::Result<ExitStatus>,
    last_line: String,
}

impl Ended {
    /// What it ended with by itself. One that was killed did not get to say how far it came.
    fn code(&self) -> Option<i32> {
        self.status.as_ref().ok()?.code()
    }

    fn told(&self) -> String {
        let how = match &self.status {
            Ok(status) => status.to_string(),
            Err(e) => format!("a status that nobody knows ({e})"),
        };
        match self.last_line.as_str() {
            "" => how,
            line => format!("{how}: {line}"),
        }
    }
}

pub(super) async fn act(
    launcher: &[OsString],
    order: &Order,
    command: &Program,
    repeatability: Repeatability,
    observe: Option<&Program>,
) -> Result<StepOutcome, StepFailure> {
    match (repeatability, observe) {
        (Repeatability::Observable, Some(observe)) => observed(launcher, order, command, observe).await,
        (Repeatability::Observable, None) => {
            Err(failed(FailureNature::Permanent, "it is observable, but the plan does not say how"))
        }
        (Repeatability::Keyed, _) => {
            let ended = start(launcher, order, command).await?;
            told(&ended).map_err(|m| failed(FailureNature::Retryable, m))
        }
        (Repeatability::AtMostOnce, _) => {
            let ended = start(launcher, order, command).await?;
            let nature =
                if ended.code().is_none() { FailureNature::Uncertain } else { FailureNature::Permanent };
            told(&ended).map_err(|m| failed(nature, m))
        }
    }
}

/// What it is called when a program was ended because its leader might not act any more.
pub(super) fn broken_off(repeatability: Repeatability) -> StepFailure {
    let nature = match repeatability {
        Repeatability::Observable | Repeatability::Keyed => FailureNature::Retryable,
        Repeatability::AtMostOnce => FailureNature::Uncertain,
    };
    failed(
        nature,
        "its program was ended: this coordinator could not prove that it leads, and another one may have begun it again",
    )
}

/// Looks, does what is missing, and looks again.
async fn observed(
    launcher: &[OsString],
    order: &Order,
    command: &Program,
    observe: &Program,
) -> Result<StepOutcome, StepFailure> {
    if is_done(launcher, order, observe).await? {
        return Ok(done(false, "it was done already", Vec::new()));
    }
    let ended = start(launcher, order, command).await?;
    let outcome = told(&ended).map_err(|m| failed(FailureNature::Retryable, m))?;
    if is_done(launcher, order, observe).await? {
        return Ok(outcome);
    }
    Err(failed(FailureNature::Retryable, format!("{} ended well, yet it is not done", command.path)))
}

async fn is_done(launcher: &[OsString], order: &Order, observe: &Program) -> Result<bool, StepFailure> {
    let ended = start(launcher, order, observe).await?;
    match ended.code() {
        Some(0) => Ok(true),
        Some(NOT_DONE) => Ok(false),
        _ => {
            let message =
                format!("can't tell whether it is done: {} ended with {}", observe.path, ended.told());
            Err(failed(FailureNature::Retryable, message))
        }
    }
}

fn told(ended: &Ended) -> Result<StepOutcome, String> {
    if ended.code() != Some(0) {
        return Err(format!("ended with {}", ended.told()));
    }
    let summary = if ended.last_line.is_empty() { "done" } else { ended.last_line.as_str() };
    Ok(done(true, summary, Vec::new()))
}

/// Runs a program to its end. Dropping the future ends it and all that is in its process group.
async fn start(launcher: &[OsString], order: &Order, program: &Program) -> Result<Ended, StepFailure> {
    is_as_approved(program).await?;
    let cannot =
        |e: io::Error| failed(FailureNature::Retryable, format!("can't start {}: {e}", program.path));
    let mut words = launcher.iter().cloned().chain([OsString::from(&program.path)]);
    let Some(first) = words.next() else {
        return Err(failed(FailureNature::Permanent, "there is nothing to start"));
    };
    let mut child = Command::new(first)
        .args(words)
        .args(&program.arguments)
        .env_clear()
        .envs(surroundings(order))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let group = Group::of(&child);
    let output = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child.stdout.take().map(|pipe| tokio::spawn(keep(pipe, output.clone()))),
        child.stderr.take().map(|pipe| tokio::spawn(keep(pipe, output.clone()))),
    ];
    let status = child.wait().await;
    match status.as_ref().ok().and_then(ExitStatus::code) {
        // By itself: what it left running is meant to run.
        Some(_) => group.leave(),
        None => drop(group),
    }
    for reader in readers.into_iter().flatten() {
        let mut reader = reader;
        if tokio::time::timeout(OUTPUT_AFTER_EXIT, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    let last_line = last_line(&output.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ended { status, last_line })
}

/// The file is what it was when the plan was made.
async fn is_as_approved(program: &Program) -> Result<(), StepFailure> {
    let path = PathBuf::from(&program.path);
    let read = tokio::task::spawn_blocking(move || programs::digest(&path)).await;
    let now = match read {
        Ok(Ok(digest)) => digest,
        Ok(Err(e)) => {
            return Err(failed(FailureNature::Retryable, format!("can't read {}: {e}", program.path)));
        }
        Err(e) => return Err(failed(FailureNature::Retryable, format!("can't read {}: {e}", program.path))),
    };
    if now == program.digest {
        return Ok(());
    }
    let message = format!("{} is not what it was when this plan was made and approved", program.path);
    Err(failed(FailureNature::Permanent, message))
}

/// All that a program is told.
fn surroundings(order: &Order) -> Vec<(&'static str, String)> {
    let intent = &order.plan.intent;
    let services: Vec<&str> = order.plan.services.iter().map(|s| s.as_str()).collect();
    vec![
        ("PATH", SEARCH_PATH.to_owned()),
        ("DROVER_RUN", order.run.to_string()),
        ("DROVER_STEP", order.step().id.clone()),
        ("DROVER_ATTEMPT", order.attempt.to_string()),
        ("DROVER_IDEMPOTENCY_KEY", order.key.clone()),
        ("DROVER_PURPOSE", intent.purpose.to_string()),
        ("DROVER_REGION", intent.region.to_string()),
        ("DROVER_SERVICES", services.join(",")),
    ]
}

/// A program's process group: it goes with this value, so that nothing of a cancelled attempt goes on beside the next.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// Lets it go on.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There may be nobody left in it.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Reads a pipe to its end, so that nobody waits for room in it, and keeps what came last.
async fn keep(mut pipe: impl AsyncRead + Unpin, output: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 1 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        kept.drain(..surplus);
    }
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect()
}
