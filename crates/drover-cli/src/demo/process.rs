//! The world's processes: the real program in its other roles, ended by their number, none left behind.
//!
//! Three nets under each child: it is killed when its handle is dropped, it asked the kernel for its own end when the
//! thread that started it ends (so even a SIGKILL of the demo leaves nothing), and it is in a process group of its own,
//! so that Ctrl-C reaches only the demo, which then ends the world in order.

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A role answers within milliseconds; longer means that it never will.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at a ready file.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One running role.
#[derive(Debug)]
pub struct Role {
    /// Its name in messages and in the names of its files.
    pub name: String,
    /// Its process.
    pub pid: u32,
    child: Child,
    ready: Option<PathBuf>,
    log: PathBuf,
}

/// How a role is started.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    /// This program when absent.
    program: Option<&'static str>,
    arguments: Vec<OsString>,
    directory: PathBuf,
    tells: bool,
}

impl Recipe {
    /// `drover WORD …`, with its files in `directory`.
    pub fn new(name: impl Into<String>, directory: &Path, word: &str) -> Self {
        Self {
            name: name.into(),
            program: None,
            // With our number, so that a child that comes to life after our end sees it.
            arguments: vec![word.into(), format!("--die-with-parent={}", std::process::id()).into()],
            directory: directory.to_owned(),
            tells: false,
        }
    }

    /// Another program, which knows nothing of us: the kernel ends it with the thread that starts it.
    pub fn of_program(name: impl Into<String>, directory: &Path, program: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            program: Some("/usr/bin/setpriv"),
            arguments: ["--pdeathsig", "KILL", "--"]
                .map(OsString::from)
                .into_iter()
                .chain([program.into()])
                .collect(),
            directory: directory.to_owned(),
            tells: false,
        }
    }

    /// With these words.
    #[must_use]
    pub fn words(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(OsString::from));
        self
    }

    /// With an option and its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        self.arguments.extend([option.into(), value.into()]);
        self
    }

    /// It writes a file once it answers.
    #[must_use]
    pub fn tells(mut self) -> Self {
        self.tells = true;
        let path = self.ready_file();
        self.with("--ready-file", path)
    }

    fn ready_file(&self) -> PathBuf {
        self.directory.join(format!("{}.ready", self.name))
    }

    /// Starts it. Must be called on a thread that lives as long as the world: the kernel ends the child with that thread.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self) -> Result<Role> {
        let failed = |e: std::io::Error| {
            Failure::because(ExitCode::Internal, format!("can't start {}", self.name), &e)
        };
        let program = match self.program {
            Some(program) => PathBuf::from(program),
            None => std::env::current_exe().map_err(failed)?,
        };
        if self.tells {
            match std::fs::remove_file(self.ready_file()) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
        let log = self.directory.join(format!("{}.log", self.name));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let child = Command::new(program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child
            .id()
            .ok_or_else(|| Failure::new(ExitCode::Internal, format!("{} has no process", self.name)))?;
        let ready = self.tells.then(|| self.ready_file());
        Ok(Role { name: self.name.clone(), pid, child, ready, log })
    }
}

impl Role {
    /// Waits until it has said that it answers.
    ///
    /// # Errors
    /// When it ended instead, or said nothing in time; with the last line of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let Some(path) = self.ready.clone() else { return Ok(()) };
        let began = Instant::now();
        while !path.exists() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.complain(&format!("{} ended at once ({status})", self.name)));
            }
            if began.elapsed() > READY_WITHIN {
                let message = format!("{} does not answer after {} s", self.name, READY_WITHIN.as_secs());
                return Err(self.complain(&message));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn complain(&self, message: &str) -> Failure {
        self.complained(Failure::new(ExitCode::Failed, message))
    }

    /// The failure with what it said last.
    pub fn complained(&self, mut failure: Failure) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        failure.causes.extend(log.lines().rev().find(|l| !l.trim().is_empty()).map(str::to_owned));
        failure
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends SIGKILL, as a power failure would: nothing is finished, nothing is said.
    pub fn kill(&mut self) {
        // It fails only for a child that has ended already.
        let _ = self.child.start_kill();
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn end(mut self) {
        self.kill();
        let _ = self.child.wait().await;
    }
}
