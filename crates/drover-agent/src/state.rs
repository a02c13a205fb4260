//! What survives a restart: the boot number, the last probe list, and which regions were declared out of service.
//!
//! The boot number tells a coordinator which of two boots of one agent came later, so that a replayed report of the
//! earlier one is known for what it is. It is one more than the last, and never below the seconds since 1970: an agent
//! whose disk was replaced would otherwise begin at 1 again and be taken for its own replay, for ever. A clock that
//! went back changes nothing, because the counter on disk then rules.

use crate::error::AgentError;
use crate::rights::{KeptRight, Peers};
use drover_dns::lock::{FileLock, NotLocked};
use drover_model::DatasetId;
use drover_model::out_of_service::OutOfService;
use drover_model::probe::ProbeList;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const BOOT_FILE: &str = "boot.json";
const LIST_FILE: &str = "probes.json";
const DECLARATION_FILE: &str = "out-of-service.json";
const LOCK_FILE: &str = "lock";

/// Name of the file that holds where the status endpoint listens.
pub const STATUS_ADDRESS_FILE: &str = "status.address";

/// Name of the file that holds where the other members of datasets are answered.
pub const PEER_ADDRESS_FILE: &str = "peer.address";

/// Name of the file that holds where status pages are served.
pub const PAGES_ADDRESS_FILE: &str = "status-pages.address";

#[derive(Debug, Serialize, Deserialize)]
struct BootRecord {
    boot_number: u64,
}

/// The agent's directory, held by one agent at a time.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: FileLock,
}

impl StateDir {
    /// Opens, or creates, the directory and locks it for as long as the value lives.
    ///
    /// # Errors
    /// [`AgentError::StateInUse`] when another agent holds it, [`AgentError::File`] when it cannot be made.
    pub fn open(path: &Path) -> Result<Self, AgentError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| AgentError::File { what, path, source }
        };
        fs::create_dir_all(path).map_err(failed("create", path))?;
        let lock_path = path.join(LOCK_FILE);
        match FileLock::take(&lock_path) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(NotLocked::Held) => Err(AgentError::StateInUse(path.to_owned())),
            Err(NotLocked::Io(source)) => Err(AgentError::File { what: "lock", path: lock_path, source }),
        }
    }

    /// Counts this start and returns its number, durable before it is returned.
    ///
    /// A counter that cannot be understood is replaced, with a warning: a vantage is worth more than its old number, and
    /// the seconds since 1970 are above every number that was ever counted.
    ///
    /// # Errors
    /// [`AgentError::File`] when the number cannot be made durable.
    pub fn next_boot(&self, wall_seconds: u64) -> Result<u64, AgentError> {
        let last = match self.read::<BootRecord>(BOOT_FILE) {
            Ok(record) => record.map_or(0, |r| r.boot_number),
            Err(why) => {
                tracing::warn!(%why, "the boot counter was not readable and begins anew");
                0
            }
        };
        let boot_number = last.saturating_add(1).max(wall_seconds);
        self.write_json(BOOT_FILE, &BootRecord { boot_number })?;
        Ok(boot_number)
    }

    /// The list that was in force when the agent stopped. One that cannot be read is no list: the coordinator has it.
    #[must_use]
    pub fn load_list(&self) -> Option<ProbeList> {
        self.read(LIST_FILE).unwrap_or_else(|why| {
            tracing::warn!(%why, "the stored probe list was not readable and is ignored");
            None
        })
    }

    /// Keeps the list for the next start.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written; the old one then stays.
    pub fn save_list(&self, list: &ProbeList) -> Result<(), AgentError> {
        self.write_json(LIST_FILE, list)
    }

    /// What was declared when the agent stopped. What cannot be read declares nothing: unknown is not down (I6).
    #[must_use]
    pub fn load_declaration(&self) -> Option<OutOfService> {
        self.read(DECLARATION_FILE).unwrap_or_else(|why| {
            tracing::warn!(%why, "the stored declaration was not readable: every region counts as in service");
            None
        })
    }

    /// Keeps it for the next start.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written; the old one then stays.
    pub fn save_declaration(&self, declared: &OutOfService) -> Result<(), AgentError> {
        self.write_json(DECLARATION_FILE, declared)
    }

    /// Where it is kept.
    #[must_use]
    pub fn declaration_path(&self) -> PathBuf {
        self.path.join(DECLARATION_FILE)
    }

    /// What a write right's keeper must not forget; nothing before it was kept here. A seal that can't be read is no missing
    /// one: without it this agent could vouch for a right that it was sealed against.
    ///
    /// # Errors
    /// [`AgentError::SealUnreadable`].
    pub fn load_right(&self, dataset: &DatasetId) -> Result<Option<KeptRight>, AgentError> {
        self.read(&right_file(dataset))
            .map_err(|why| AgentError::SealUnreadable { dataset: dataset.clone(), why })
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written; the old one then stays.
    pub fn save_right(&self, dataset: &DatasetId, kept: &KeptRight) -> Result<(), AgentError> {
        self.write_json(&right_file(dataset), kept)
    }

    /// Where the other members of a dataset were last. What can't be read is learned again from a coordinator.
    #[must_use]
    pub fn load_peers(&self, dataset: &DatasetId) -> Peers {
        self.read(&peers_file(dataset))
            .unwrap_or_else(|why| {
                tracing::warn!(
                    why,
                    "where the other members of a dataset are is not known until a coordinator says it"
                );
                None
            })
            .unwrap_or_default()
    }

    /// Writes down where they are.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written; what was there then stays.
    pub fn save_peers(&self, dataset: &DatasetId, peers: &Peers) -> Result<(), AgentError> {
        self.write_json(&peers_file(dataset), peers)
    }

    /// Writes down where the other members of datasets are answered.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written.
    pub fn save_peer_address(&self, address: &str) -> Result<(), AgentError> {
        self.write(PEER_ADDRESS_FILE, address.as_bytes())
    }

    /// Writes down where status pages are served.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written.
    pub fn save_pages_address(&self, address: &str) -> Result<(), AgentError> {
        self.write(PAGES_ADDRESS_FILE, address.as_bytes())
    }

    /// Writes down where the status endpoint listens.
    ///
    /// # Errors
    /// [`AgentError::File`] when it cannot be written.
    pub fn save_status_address(&self, address: &str) -> Result<(), AgentError> {
        self.write(STATUS_ADDRESS_FILE, address.as_bytes())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), AgentError> {
        let bytes = serde_json::to_vec(value).map_err(|e| AgentError::File {
            what: "write",
            path: self.path.join(name),
            source: e.into(),
        })?;
        self.write(name, &bytes)
    }

    /// Whole or not at all: a new file, made durable, takes the old one's name.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AgentError> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        let durable = || {
            let mut file = File::create(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        durable().map_err(|source| AgentError::File { what: "write", path: path.clone(), source })
    }
}

fn right_file(dataset: &DatasetId) -> String {
    format!("dataset-{dataset}.json")
}

/// No dataset's name has a dot.
fn peers_file(dataset: &DatasetId) -> String {
    format!("dataset-{dataset}.peers.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_that_can_not_be_read_is_no_missing_seal() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let orders = DatasetId::new("orders").unwrap();
        assert_eq!(state.load_right(&orders).unwrap(), None);
        let kept = KeptRight {
            seal: drover_model::write_right::Seal {
                incarnation: drover_model::write_right::Incarnation(1),
                generation: drover_model::write_right::WriteGeneration(3),
            },
            intervals: drover_model::write_right::RightSettings::default(),
        };
        state.save_right(&orders, &kept).unwrap();
        assert_eq!(state.load_right(&orders).unwrap(), Some(kept));
        fs::write(dir.path().join(right_file(&orders)), b"{torn").unwrap();
        assert!(matches!(state.load_right(&orders), Err(AgentError::SealUnreadable { .. })));
    }

    #[test]
    fn each_start_has_a_higher_number_even_when_the_clock_goes_back_or_the_disk_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let boot = |seconds| StateDir::open(dir.path()).unwrap().next_boot(seconds).unwrap();
        assert_eq!(boot(1_000), 1_000);
        assert_eq!(boot(10), 1_001);
        assert_eq!(boot(0), 1_002);
        fs::remove_file(dir.path().join(BOOT_FILE)).unwrap();
        assert_eq!(boot(2_000), 2_000);
        fs::write(dir.path().join(BOOT_FILE), b"{garbage").unwrap();
        assert_eq!(boot(3_000), 3_000);
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(AgentError::StateInUse(_))));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_damaged_list_is_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.load_list(), None);
        fs::write(dir.path().join(LIST_FILE), b"{\"targets\": 7").unwrap();
        assert_eq!(state.load_list(), None);
    }
}
