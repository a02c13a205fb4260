//! `drover gate`: a process beside a database that stops it when its agent can't (I5, step 5 of the write right).
//!
//! An agent may be stopped, swapped out or gone while its database goes on. So the deadline is kept here, in a process that
//! knows nothing else: it starts the database when its agent says until when it may write, and stops it when that time is over,
//! whatever the agent does. It begins with a database that does not run.
//!
//! Its agent talks to it over a Unix socket. One connection counts, the newest: what an agent before a restart still had
//! on its way is not read any more.

mod connections;
mod program;

use crate::clock::boot_now;
use connections::{Connections, Said};
use drover_exec::write_right::{Gate, GateLook};
use drover_model::write_right::{BootTime, GateAnswer, GateOrder, Permit, WriteGeneration};
use drover_model::{DatasetId, Span};
use program::{Program, ProgramError};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks whether a database that should run still does, while nothing else happens.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(500);

/// Before a program that ended by itself is started again: so long after the first time, twice as long after each further one,
/// and never longer than the other. One that starts again at once would do so at every renewal, and hide that nothing is written.
const RESTART_PAUSE_MIN: Span = Span::from_secs(1);
const RESTART_PAUSE_MAX: Span = Span::from_secs(30);

/// The gate's file.
///
/// ```yaml
/// dataset: orders
/// socket: /run/drover-gate/orders.sock
/// command: [/usr/bin/orders-register, --data, /var/lib/orders]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// The dataset, as the configuration has it.
    pub dataset: DatasetId,
    /// Where its agent talks to it.
    pub socket: PathBuf,
    /// The database's program with its arguments. It stays in the foreground, and finds the generation in
    /// `DROVER_GENERATION`.
    pub command: Vec<String>,
}

/// Why a gate can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Its file can't be read.
    #[error("cannot read the gate's file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing to start.
    #[error("`command` names no program")]
    NoCommand,
    /// Another gate answers there.
    #[error("another gate has the socket {}", .0.display())]
    InUse(PathBuf),
    /// The socket can't be had.
    #[error("cannot listen on the gate's socket {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not let it see what it started.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl GateConfig {
    /// Reads a gate's file.
    ///
    /// # Errors
    /// When it can't be read or is not what it should be.
    pub fn load(path: &Path) -> Result<Self, GateError> {
        let wrong = |source| GateError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.into()))?;
        let config: Self = serde_saphyr::from_str(&text).map_err(|e| wrong(Box::new(e)))?;
        if config.command.is_empty() { Err(GateError::NoCommand) } else { Ok(config) }
    }
}

/// A gate that listens, with its database stopped.
pub struct OpenGate {
    config: GateConfig,
    launcher: Vec<OsString>,
    connections: Connections,
    running: Option<Running>,
    ended: Option<EndedByItself>,
}

struct Running {
    gate: Gate,
    program: Program,
    began: BootTime,
}

/// A program that ended and had not been told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndedByItself {
    generation: WriteGeneration,
    at: BootTime,
    /// Before it is started again.
    pause: Span,
}

impl EndedByItself {
    /// One that ran for longer than the longest pause begins anew, and so does another generation.
    fn after(before: Option<Self>, generation: WriteGeneration, began: BootTime, at: BootTime) -> Self {
        let lived = at.since(began);
        let again = before.filter(|b| b.generation == generation && lived < RESTART_PAUSE_MAX);
        let pause = again.map_or(RESTART_PAUSE_MIN, |before| before.pause.times(2).min(RESTART_PAUSE_MAX));
        Self { generation, at, pause }
    }

    /// How long it still must not be started for this generation; nothing where it may.
    fn left(&self, generation: WriteGeneration, now: BootTime) -> Option<Span> {
        let left = self.pause.minus(now.since(self.at));
        (self.generation == generation && left > Span::ZERO).then_some(left)
    }
}

impl OpenGate {
    /// Listens. `launcher` starts what is started, before the program and its arguments: it must end that when this process
    /// dies.
    ///
    /// # Errors
    /// When the socket can't be had, or another gate has it.
    pub fn open(config: GateConfig, launcher: Vec<OsString>) -> Result<Self, GateError> {
        program::adopt_orphans()?;
        let connections = Connections::listen(&config.socket)?;
        Ok(Self { config, launcher, connections, running: None, ended: None })
    }

    /// Obeys its agent and the clock until told to stop, and leaves nothing running.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                // The clock goes before the agent: what is over is stopped before anybody is heard.
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.until_next_look()) => self.look().await,
                said = self.connections.next() => self.obey(said).await,
            }
        }
        self.stop("the gate ends").await;
    }

    /// To the last look that is sure not to come too late, and no longer than a tick.
    fn until_next_look(&self) -> Duration {
        let Some(running) = &self.running else { return LOOK_EVERY_MAX };
        let permit = running.gate.permit();
        let last = permit.until.since(boot_now()).minus(permit.gate_tick);
        last.min(permit.gate_tick).max(Span::from_millis(1)).to_duration().min(LOOK_EVERY_MAX)
    }

    async fn look(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.gate.look(boot_now()) == GateLook::Stop {
            self.stop("its right to write is over").await;
        } else if running.program.has_ended() {
            let (generation, began) = (running.gate.permit().generation, running.began);
            self.ended = Some(EndedByItself::after(self.ended, generation, began, boot_now()));
            // What it left behind must not write either.
            self.stop("its program ended by itself").await;
        }
    }

    async fn obey(&mut self, said: Said) {
        // It may have waited behind a database that took long to stop.
        self.look().await;
        let answer = match said.order {
            GateOrder::Stop => {
                self.stop("its agent says so").await;
                GateAnswer::Stopped { why: None }
            }
            GateOrder::Run(permit) => self.permit(permit).await,
        };
        self.connections.answer(said.connection, &answer).await;
    }

    async fn permit(&mut self, permit: Permit) -> GateAnswer {
        let stopped = |why: String| GateAnswer::Stopped { why: Some(why) };
        if Gate::open(permit).look(boot_now()) == GateLook::Stop {
            self.stop("the right that came is over already").await;
            return stopped("the right is over, or ends before the next look".to_owned());
        }
        if self.running.as_ref().is_some_and(|r| r.gate.permit().generation != permit.generation) {
            self.stop("its generation is over").await;
        }
        if let Some(running) = &mut self.running {
            running.gate.extend(permit);
            return GateAnswer::Running { generation: permit.generation };
        }
        let pause = self.ended.and_then(|ended| ended.left(permit.generation, boot_now()));
        if let Some(pause) = pause {
            return stopped(format!(
                "its program ended by itself, and is started again in {pause} at the earliest"
            ));
        }
        match Program::start(&self.launcher, &self.config, permit.generation) {
            Ok(program) => {
                // Before anything else, which could fail: what runs is stopped by this alone.
                self.running = Some(Running { gate: Gate::open(permit), program, began: boot_now() });
                tracing::info!(dataset = %self.config.dataset, generation = %permit.generation, "the database may write");
                GateAnswer::Running { generation: permit.generation }
            }
            Err(e) => {
                tracing::error!(dataset = %self.config.dataset, error = %drover_model::chain(&e), "the database can't be started");
                stopped(drover_model::chain(&e))
            }
        }
    }

    /// Comes back when nothing of it runs any more, however long that takes.
    async fn stop(&mut self, why: &str) {
        let Some(running) = self.running.take() else { return };
        let began = boot_now();
        program::end_all(&running.program).await;
        let (took, bound) = (boot_now().since(began), running.gate.permit().demotion);
        let dataset = &self.config.dataset;
        if took > bound {
            tracing::error!(%dataset, why, "the database took {took} to stop, longer than `demotion`, which is {bound}");
        } else {
            tracing::info!(%dataset, why, "the database was stopped, in {took}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_again_and_again_is_started_less_and_less_often() {
        let at = |seconds| BootTime::after_boot(Span::from_secs(seconds));
        let (first, next) = (WriteGeneration(1), WriteGeneration(2));
        let mut ended = EndedByItself::after(None, first, at(10), at(11));
        assert_eq!((ended.left(first, at(11)), ended.left(first, at(12))), (Some(RESTART_PAUSE_MIN), None));
        assert_eq!(ended.left(next, at(11)), None, "another right starts at once");
        for pause in [2, 4, 8, 16, 30, 30] {
            ended = EndedByItself::after(Some(ended), first, at(20), at(21));
            assert_eq!(ended.pause, Span::from_secs(pause));
        }
        assert_eq!(EndedByItself::after(Some(ended), next, at(20), at(21)).pause, RESTART_PAUSE_MIN);
        assert_eq!(EndedByItself::after(Some(ended), first, at(20), at(50)).pause, RESTART_PAUSE_MIN);
    }

    #[test]
    fn a_gate_s_file_says_what_it_guards_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.yaml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            GateConfig::load(&path).map_err(|e| drover_model::chain(&e))
        };
        let base = "dataset: orders\nsocket: /run/g.sock\n";
        let config = load(&format!("{base}command: [/bin/db, -x]\n")).unwrap();
        assert_eq!((config.dataset.as_str(), config.command.len()), ("orders", 2));
        for (rest, why) in [
            ("command: []", "names no program"),
            ("command: [a]\ncolour: red", "colour"),
            ("command: a", "sequence"),
            ("", "command"),
        ] {
            let error = load(&format!("{base}{rest}\n")).unwrap_err();
            assert!(error.contains(why), "{rest:?} gave {error:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(GateConfig::load(&path).is_err());
    }
}
