//! `.drover/world.json`: how the other verbs find the sample world that `drover up` runs in this directory.

use crate::context::WORLD_FILE;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Version of the file.
pub const WORLD_FILE_SCHEMA: u16 = 1;

/// A world that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldFile {
    /// [`WORLD_FILE_SCHEMA`].
    pub schema: u16,
    /// The process that keeps it.
    pub pid: u32,
    /// Every duration of the policy was divided by this.
    pub factor: u64,
    /// The coordinator: `unix:/path`.
    pub coordinator: String,
    /// The coordinator on loopback.
    pub coordinator_http: String,
    /// Where each agent tells about itself: `unix:/path`.
    pub agents: BTreeMap<String, String>,
    /// Where DNS is answered.
    pub dns: Vec<SocketAddr>,
    /// The names that clients ask for.
    pub names: Vec<String>,
    /// Every process by name, as it was when the world came up.
    pub pids: BTreeMap<String, u32>,
    /// Where trouble is ordered from each service.
    pub services: BTreeMap<String, PathBuf>,
    /// Where `break` and `heal` order trouble from the world.
    pub control: PathBuf,
}

impl WorldFile {
    /// The world of the current directory or of the nearest one above it that has one; none when there is no file, or
    /// when the process that wrote it is gone.
    ///
    /// # Errors
    /// When there is a file that is none of ours.
    pub fn find() -> Result<Option<Self>> {
        let here = std::env::current_dir().unwrap_or_default();
        let files = here.ancestors().map(|d| d.join(WORLD_FILE)).find(|f| f.exists());
        files.map_or(Ok(None), |file| Self::read(&file))
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let what = || format!("can't read {}", path.display());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::because(ExitCode::Failed, what(), &e)),
        };
        let file: Self = serde_json::from_str(&text).map_err(|e| {
            Failure::because(ExitCode::Failed, what(), &e).hint(format!("remove it: rm {}", path.display()))
        })?;
        Ok(file.is_alive().then_some(file))
    }

    fn is_alive(&self) -> bool {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX));
        // Its control socket tells a live world from another process that was given the same number.
        nix::sys::signal::kill(pid, None).is_ok() && self.control.exists()
    }

    /// Writes it, unless another world runs in this directory.
    ///
    /// # Errors
    /// When one does, or the file can't be written.
    pub fn write(&self) -> Result<()> {
        let failed = |e| Failure::because(ExitCode::Failed, format!("can't write {WORLD_FILE}"), &e);
        if let Some(other) = Self::read(Path::new(WORLD_FILE))? {
            let message = format!("a sample world runs in this directory already (process {})", other.pid);
            return Err(Failure::new(ExitCode::Refused, message).hint("end it with Ctrl-C where it runs"));
        }
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::because(ExitCode::Internal, format!("can't write {WORLD_FILE}"), &e))?;
        let path = Path::new(WORLD_FILE);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        // Whole or not at all, since other processes read it.
        let next = path.with_extension("next");
        std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, path)).map_err(failed)
    }

    /// Removes it, and its directory if nothing else is there.
    pub fn remove() {
        let path = Path::new(WORLD_FILE);
        let _ = std::fs::remove_file(path);
        if let Some(parent) = path.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}
