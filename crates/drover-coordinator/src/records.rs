//! Where the records are: in a file of this machine, or in an etcd cluster.
//!
//! Which of the two is in the configuration, and a wrong word there must not look like a new installation: a coordinator
//! that begins with an empty store takes every region for untouched. So each kind leaves in the state directory what
//! keeps the other one from beginning.

#[cfg(test)]
mod tests;

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use drover_model::Span;
use drover_model::config::{EtcdSettings, StoreSettings, defaults};
use drover_store::{Alarm, EmbeddedStore, EtcdOptions, EtcdReport, EtcdStore, ReadError, Revision, Store};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The embedded store's file in a state directory.
pub const STORE_FILE: &str = "drover.redb";
/// Says in a state directory that the records are in etcd, and where.
pub const ELSEWHERE_FILE: &str = "store-is-in-etcd";
/// How often a cluster's history is looked after: a few times in the shortest that may be kept.
const UPKEEP_EVERY: Duration = Duration::from_secs(120);

/// The opened store.
pub(crate) enum Records {
    Embedded(Arc<EmbeddedStore>),
    Etcd {
        store: Arc<EtcdStore>,
        settings: EtcdSettings,
        cluster_id: String,
    },
    /// Any store, which several coordinators of one test share.
    #[cfg(test)]
    Shared(Arc<dyn Store>, Span),
}

/// What the coordinator's own machine remembers of a store in etcd. A cluster that is put back to a snapshot knows
/// nothing of what came after it, and may have the same id as before; whoever was away meanwhile would go on with it.
#[derive(Debug, Serialize, Deserialize)]
struct Elsewhere {
    /// As messages name it.
    store: String,
    cluster_id: String,
    /// The latest that was seen.
    revision: Revision,
}

impl Elsewhere {
    fn read(directory: &Path) -> Result<Option<Self>, CoordinatorError> {
        let path = directory.join(ELSEWHERE_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(path.display(), e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(path.display(), e)),
        }
    }

    /// Refuses another cluster, and this one as it was before.
    fn check(self, directory: &Path, name: &str, now: &EtcdReport) -> Result<(), CoordinatorError> {
        if self.cluster_id != now.cluster_id {
            return Err(CoordinatorError::StoreElsewhere {
                wanted: format!("{name} (cluster {})", now.cluster_id),
                found: format!("{} (cluster {})", self.store, self.cluster_id),
                next: format!(
                    "correct the endpoints; if the records were moved there, remove {}",
                    directory.join(ELSEWHERE_FILE).display()
                ),
            });
        }
        if now.revision < self.revision {
            return Err(CoordinatorError::StoreWentBack {
                place: name.to_owned(),
                seen: self.revision.0,
                now: now.revision.0,
            });
        }
        Ok(())
    }
}

/// How to reach the cluster that the settings name.
#[must_use]
pub fn etcd_options(settings: &EtcdSettings) -> EtcdOptions {
    EtcdOptions::new(settings.endpoints.clone(), settings.prefix.clone())
}

impl Records {
    pub(crate) async fn open(
        directory: &Path,
        settings: Option<&StoreSettings>,
    ) -> Result<Self, CoordinatorError> {
        std::fs::create_dir_all(directory).map_err(|e| failed(directory.display(), e))?;
        match settings {
            None => Self::embedded(directory),
            Some(StoreSettings { etcd }) => Self::etcd(directory, etcd).await,
        }
    }

    fn embedded(directory: &Path) -> Result<Self, CoordinatorError> {
        if let Some(elsewhere) = Elsewhere::read(directory)? {
            return Err(CoordinatorError::StoreElsewhere {
                wanted: directory.join(STORE_FILE).display().to_string(),
                found: elsewhere.store,
                next: format!(
                    "give the settings their `store` again; if that store is not used any more, remove {}",
                    directory.join(ELSEWHERE_FILE).display()
                ),
            });
        }
        // Its size is judged by `status`, with the history and by the configuration in force.
        let options =
            drover_store::Options { size_alarm_bytes: u64::MAX, ..drover_store::Options::default() };
        let (store, report) = EmbeddedStore::open(directory.join(STORE_FILE), options)
            .map_err(|e| failed(directory.display(), e))?;
        tracing::info!(?report, "store verified");
        Ok(Self::Embedded(Arc::new(store)))
    }

    async fn etcd(directory: &Path, settings: &EtcdSettings) -> Result<Self, CoordinatorError> {
        let options = etcd_options(settings);
        let (embedded, name) = (directory.join(STORE_FILE), options.name());
        if embedded.exists() {
            return Err(CoordinatorError::StoreElsewhere {
                wanted: name,
                found: embedded.display().to_string(),
                next: format!(
                    "take `store` out of the settings; if that file's records are not needed any more, move it away: mv {0} {0}.old",
                    embedded.display()
                ),
            });
        }
        let before = Elsewhere::read(directory)?;
        let opened = match &before {
            // It was there, so that its absence is no beginning.
            Some(_) => EtcdStore::open_existing(options).await,
            None => EtcdStore::open(options).await.map(Some),
        };
        let Some((store, report)) = opened.map_err(|e| failed(&name, e))? else {
            return Err(CoordinatorError::NoStore { place: name });
        };
        if let Some(before) = before {
            before.check(directory, &name, &report)?;
        }
        tracing::info!(?report, store = name, "store opened");
        let (store, settings) = (Arc::new(store), settings.clone());
        let records = Self::Etcd { store, settings, cluster_id: report.cluster_id };
        records.note(directory)?;
        Ok(records)
    }

    /// Writes down where the records are, and how far they were seen.
    fn note(&self, directory: &Path) -> Result<(), CoordinatorError> {
        let Self::Etcd { store, cluster_id, .. } = self else { return Ok(()) };
        let (store, revision) = (store.name().to_owned(), store.seen());
        let now = Elsewhere { store, cluster_id: cluster_id.clone(), revision };
        let part = directory.join(format!("{ELSEWHERE_FILE}.part"));
        let text = serde_json::to_string(&now).map_err(|e| failed(directory.display(), e))?;
        std::fs::write(&part, text + "\n").map_err(|e| failed(directory.display(), e))?;
        std::fs::rename(part, directory.join(ELSEWHERE_FILE)).map_err(|e| failed(directory.display(), e))
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Etcd { store, .. } => store.clone(),
            #[cfg(test)]
            Self::Shared(store, _) => store.clone(),
        }
    }

    /// After how long without a sign of life a leader is lost, where several coordinators may share the store.
    pub(crate) fn shared_bound(&self) -> Option<Span> {
        match self {
            Self::Embedded(_) => None,
            Self::Etcd { settings, .. } => Some(settings.leader_lost_after),
            #[cfg(test)]
            Self::Shared(_, bound) => Some(*bound),
        }
    }

    /// How the command line names them.
    pub(crate) fn command_line(&self, state: &Path) -> String {
        match self.settings() {
            Some(StoreSettings { etcd }) => {
                let prefix = match etcd.prefix == defaults::ETCD_PREFIX {
                    true => String::new(),
                    false => format!(" --prefix {}", etcd.prefix),
                };
                format!("--etcd {}{prefix}", etcd.endpoints.join(","))
            }
            None => format!("--state {}", state.display()),
        }
    }

    /// The settings that would lead here.
    pub(crate) fn settings(&self) -> Option<StoreSettings> {
        match self {
            Self::Embedded(_) => None,
            Self::Etcd { settings, .. } => Some(StoreSettings { etcd: settings.clone() }),
            #[cfg(test)]
            Self::Shared(..) => None,
        }
    }

    /// Bytes on this machine's disk, and what is wrong. Of a cluster neither is known without asking it.
    pub(crate) fn stats(&self) -> Result<(u64, Option<Alarm>), ReadError> {
        match self {
            Self::Embedded(store) => store.stats().map(|stats| (stats.bytes, stats.alarm)),
            Self::Etcd { .. } => Ok((0, None)),
            #[cfg(test)]
            Self::Shared(..) => Ok((0, None)),
        }
    }
}

fn failed(
    place: impl ToString,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CoordinatorError {
    CoordinatorError::OpenStore { place: place.to_string(), source: source.into() }
}

impl Coordinator {
    /// Keeps the history of a cluster to what is asked for, until told to stop.
    pub(crate) async fn run_upkeep(self: Arc<Self>) {
        let Records::Etcd { store, settings, .. } = &self.records else {
            return self.stop.cancelled().await;
        };
        let keep = settings.keep_history.to_duration();
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(e) = self.records.note(&self.options.state_directory) {
                tracing::warn!(
                    error = &e as &dyn std::error::Error,
                    "can't write down how far the records were seen"
                );
            }
            if !self.db.is_leader() {
                continue;
            }
            match store.compact(keep).await {
                Ok(done) => tracing::debug!(?done, "etcd's history was looked after"),
                Err(e) => {
                    tracing::warn!(error = &e as &dyn std::error::Error, "can't compact etcd's history")
                }
            }
        }
    }
}
