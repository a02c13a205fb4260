//! `drover gate`: a process beside a database that stops it when its agent can't (I5, step 5 of the write right).
//!
//! An agent may be stopped, swapped out or gone while its database goes on. So the deadline is kept here, in a process that
//! knows nothing else: it starts the database when its agent says until when it may write, and stops it when that time is over,
//! whatever the agent does. It begins with a database that does not run.
//!
//! Its agent talks to it over a Unix socket. One connection counts, the newest: what an agent before a restart still had
//! on its way is not read any more. What is decided is decided by [`Supervisor`]; here it is carried out.

mod connections;
mod program;

use crate::clock::boot_now;
use connections::{Connections, Said};
use drover_exec::write_right::{GateStep, StopReason, Supervisor};
use drover_model::DatasetId;
use drover_model::write_right::{GateAnswer, Permit};
use program::{Program, ProgramError};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks whether a database that should run still does, while nothing else happens.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(500);

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
    /// Called by the task that keeps the deadline, and by no other: who waits for it in vain knows that nothing is kept.
    alive: Box<dyn Fn() + Send + Sync>,
    config: GateConfig,
    launcher: Vec<OsString>,
    connections: Connections,
    supervisor: Supervisor,
    program: Option<Program>,
}

impl OpenGate {
    /// Listens. `launcher` starts what is started, before the program and its arguments: it must end that when this process
    /// dies. `alive` is called twice a second at least, for as long as deadlines are kept, and while a database is being killed.
    ///
    /// # Errors
    /// When the socket can't be had, or another gate has it.
    pub fn open(
        config: GateConfig,
        launcher: Vec<OsString>,
        alive: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, GateError> {
        program::adopt_orphans()?;
        let connections = Connections::listen(&config.socket)?;
        Ok(Self {
            alive: Box::new(alive),
            config,
            launcher,
            connections,
            supervisor: Supervisor::default(),
            program: None,
        })
    }

    /// Obeys its agent and the clock until told to stop, and leaves nothing running.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            (self.alive)();
            tokio::select! {
                // The clock goes before the agent: what is over is stopped before anybody is heard.
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.until_next_look()) => self.look().await,
                said = self.connections.next() => self.obey(said).await,
            }
        }
        self.stop(StopReason::GateEnds).await;
    }

    fn until_next_look(&self) -> Duration {
        let rests = self.supervisor.rests(boot_now());
        rests.map_or(LOOK_EVERY_MAX, |rests| rests.to_duration().min(LOOK_EVERY_MAX))
    }

    async fn look(&mut self) {
        let has_ended = self.program.as_ref().is_some_and(Program::has_ended);
        if let Some(why) = self.supervisor.look(has_ended, boot_now()) {
            self.stop(why).await;
        }
    }

    async fn obey(&mut self, said: Said) {
        // It may have waited behind a database that took long to stop.
        self.look().await;
        let answer = loop {
            match self.supervisor.obey(said.order, boot_now()) {
                GateStep::Stop(why) => self.stop(why).await,
                GateStep::Start(permit) => break self.start(permit),
                GateStep::Runs(generation) => break GateAnswer::Running { generation },
                GateStep::Stopped(why) => break GateAnswer::Stopped { why: why.map(|why| why.to_string()) },
            }
        };
        self.connections.answer(said.connection, &answer).await;
    }

    fn start(&mut self, permit: Permit) -> GateAnswer {
        match Program::start(&self.launcher, &self.config, permit.generation) {
            Ok(program) => {
                self.supervisor.started(permit, boot_now());
                self.program = Some(program);
                tracing::info!(dataset = %self.config.dataset, generation = %permit.generation, "the database may write");
                GateAnswer::Running { generation: permit.generation }
            }
            Err(e) => {
                let why = drover_model::chain(&e);
                tracing::error!(dataset = %self.config.dataset, error = why, "the database can't be started");
                GateAnswer::Stopped { why: Some(why) }
            }
        }
    }

    /// Comes back when nothing of it runs any more, however long that takes.
    async fn stop(&mut self, why: StopReason) {
        let (began, permit) = (boot_now(), self.supervisor.permit());
        self.supervisor.stopped(why, began);
        let (Some(program), Some(Permit { demotion: bound, .. })) = (self.program.take(), permit) else {
            return;
        };
        program::end_all(&program, &self.alive).await;
        let (took, dataset) = (boot_now().since(began), &self.config.dataset);
        if took > bound {
            tracing::error!(%dataset, %why, "the database took {took} to stop, longer than `demotion`, which is {bound}");
        } else {
            tracing::info!(%dataset, %why, "the database was stopped, in {took}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
