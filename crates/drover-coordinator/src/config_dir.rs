//! The configuration directory: read whole, judged whole, and watched by its content. A poll rather than file-system
//! events, because a poll also sees a swapped symlink (as mounted configuration maps do) and a network mount.

use crate::error::CoordinatorError;
use crate::programs::{self, Stamp};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::{Config, version_of};
use drover_model::plan::LoadedRunbook;
use drover_model::runbook::Purpose;
use drover_model::{ServiceId, Shared, Timestamp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one configuration file, at most; a larger one is refused before it is parsed.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 << 20;

/// A configuration in force.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its digest.
    pub version: String,
    /// The digests of its services.
    pub service_versions: Arc<BTreeMap<ServiceId, String>>,
    /// The runbook for each purpose.
    pub runbooks: Shared<BTreeMap<Purpose, LoadedRunbook>>,
    /// Since when.
    pub loaded_at: Timestamp,
    /// What is allowed but doubtful.
    pub warnings: Vec<Diagnostic>,
}

/// The texts of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    config: Vec<(String, String)>,
    runbooks: Vec<(String, String)>,
    /// The files of the runbooks' programs, as they lie there now.
    programs: Vec<(String, Option<Stamp>)>,
}

impl Texts {
    /// Digest of everything that was read.
    #[must_use]
    pub fn digest(&self) -> String {
        version_of(&(&self.config, &self.runbooks, &self.programs))
    }
}

/// Where configuration is read from.
#[derive(Debug, Clone)]
pub struct ConfigDir {
    /// Regions, services, settings.
    pub config: PathBuf,
    /// Runbooks; the shipped ones when absent.
    pub runbooks: Option<PathBuf>,
}

/// The runbooks that ship with drover, used where no directory is named.
pub const SHIPPED_RUNBOOKS: [(&str, &str); 4] = [
    ("runbooks/failover.yaml", include_str!("../../../runbooks/failover.yaml")),
    ("runbooks/failback.yaml", include_str!("../../../runbooks/failback.yaml")),
    ("runbooks/drain.yaml", include_str!("../../../runbooks/drain.yaml")),
    ("runbooks/undrain.yaml", include_str!("../../../runbooks/undrain.yaml")),
];

impl ConfigDir {
    /// Reads every `*.yaml` and `*.yml` of the directories.
    ///
    /// # Errors
    /// When a directory or file can't be read, or a file is too large.
    pub fn read(&self) -> Result<Texts, CoordinatorError> {
        let config = read_yaml(&self.config)?;
        let runbooks = match &self.runbooks {
            Some(dir) => read_yaml(dir)?,
            None => SHIPPED_RUNBOOKS.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        };
        let programs = programs::stamps(&sources(&runbooks));
        Ok(Texts { config, runbooks, programs })
    }
}

fn read_yaml(directory: &Path) -> Result<Vec<(String, String)>, CoordinatorError> {
    let fail = |source| CoordinatorError::ReadConfig { directory: directory.to_owned(), source };
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(fail)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?
        .into_iter()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect();
    names.sort();
    let mut texts = Vec::with_capacity(names.len());
    for path in names {
        let length = std::fs::metadata(&path).map_err(fail)?.len();
        if length > CONFIG_FILE_BYTES_MAX {
            let message = format!("{} has {length} bytes, {CONFIG_FILE_BYTES_MAX} allowed", path.display());
            return Err(fail(std::io::Error::other(message)));
        }
        let bytes = std::fs::read(&path).map_err(fail)?;
        texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(texts)
}

fn sources(list: &[(String, String)]) -> Vec<SourceFile> {
    list.iter().map(|(name, text)| SourceFile { name: name.clone(), text: text.clone() }).collect()
}

/// Judges texts: a whole configuration, or every finding.
///
/// # Errors
/// Every diagnostic of configuration and runbooks together.
pub fn judge(texts: &Texts, now: Timestamp) -> Result<Loaded, Vec<Diagnostic>> {
    let config = decode::load(&sources(&texts.config));
    let files = sources(&texts.runbooks);
    let runbooks = decode::load_runbooks(&files).and_then(|books| programs::read_all(&files, books));
    match (config, runbooks) {
        (Ok(loaded), Ok(books)) => {
            let runbooks = books.into_iter().map(|book| (book.runbook.purpose, book)).collect();
            let version = loaded.config.version();
            let service_versions = Arc::new(loaded.config.service_versions());
            Ok(Loaded {
                service_versions,
                config: Arc::new(loaded.config),
                version,
                runbooks,
                loaded_at: now,
                warnings: loaded.warnings,
            })
        }
        (config, runbooks) => {
            let mut all = config.err().unwrap_or_default();
            all.extend(runbooks.err().unwrap_or_default());
            Err(all)
        }
    }
}
