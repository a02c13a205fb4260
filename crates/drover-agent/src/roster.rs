//! The probe list in force, and the targets made of it.

use crate::error::AgentError;
use crate::state::StateDir;
use crate::target::{Target, Watch};
use drover_model::probe::ProbeList;
use drover_model::{AgentId, EndpointKey, RegionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Targets of one agent, at most.
pub const TARGETS_MAX: usize = 100_000;

/// A probe list and its targets.
#[derive(Debug)]
pub struct Roster {
    /// The list as it was pulled.
    pub list: ProbeList,
    /// Its targets, by endpoint.
    pub targets: Vec<Arc<Target>>,
}

/// Holds the roster, replaces it whole, and tells whoever works by it.
#[derive(Debug)]
pub struct Rosters {
    agent: AgentId,
    region: RegionId,
    state: Arc<StateDir>,
    installing: Mutex<()>,
    current: watch::Sender<Option<Arc<Roster>>>,
}

impl Rosters {
    /// No list yet, except the one that `state` kept.
    #[must_use]
    pub fn new(agent: AgentId, region: RegionId, state: Arc<StateDir>) -> Self {
        let (current, _) = watch::channel(None);
        let rosters = Self { agent, region, state, installing: Mutex::new(()), current };
        if let Some(list) = rosters.state.load_list() {
            match rosters.check(&list) {
                Ok(()) => {
                    cov_mark::hit!(i12_agent_keeps_its_list);
                    drop(rosters.current.send_replace(Some(rosters.roster_of(list))));
                }
                Err(e) => {
                    tracing::warn!(error = %drover_model::chain(&e), "the stored probe list is ignored")
                }
            }
        }
        rosters
    }

    /// The roster in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Roster>> {
        self.current.borrow().clone()
    }

    /// Its configuration version; empty without a list.
    #[must_use]
    pub fn config_version(&self) -> String {
        self.current.borrow().as_ref().map(|r| r.list.config_version.clone()).unwrap_or_default()
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Roster>>> {
        self.current.subscribe()
    }

    /// Puts `list` in force and keeps it for the next start. What is probed as before keeps its opinion.
    ///
    /// # Errors
    /// When the list is for somebody else or too long. A list that cannot be kept on disk is in force all the same.
    pub async fn install(&self, list: ProbeList) -> Result<(), AgentError> {
        self.check(&list)?;
        let _one_at_a_time = self.installing.lock().await;
        if self.current.borrow().as_ref().is_some_and(|r| r.list == list) {
            return Ok(());
        }
        let (state, kept) = (Arc::clone(&self.state), list.clone());
        let saved = tokio::task::spawn_blocking(move || state.save_list(&kept)).await;
        if let Ok(Err(e)) = saved {
            tracing::warn!(error = %drover_model::chain(&e), "the probe list is in force but would not survive a restart");
        }
        tracing::info!(config_version = %list.config_version, targets = list.targets.len(), "new probe list");
        self.current.send_replace(Some(self.roster_of(list)));
        Ok(())
    }

    fn check(&self, list: &ProbeList) -> Result<(), AgentError> {
        if list.agent != self.agent || list.region != self.region {
            return Err(AgentError::ForeignList { agent: list.agent.clone(), region: list.region.clone() });
        }
        if list.targets.len() > TARGETS_MAX {
            return Err(AgentError::ListTooLong { targets: list.targets.len(), limit: TARGETS_MAX });
        }
        Ok(())
    }

    fn roster_of(&self, list: ProbeList) -> Arc<Roster> {
        let old = self.current();
        let mut former: BTreeMap<&EndpointKey, &Arc<Target>> =
            old.iter().flat_map(|r| &r.targets).map(|t| (&t.spec().endpoint, t)).collect();
        let mut targets = BTreeMap::new();
        for spec in &list.targets {
            let same = former.get(&spec.endpoint).filter(|t| t.probes_the_same_as(spec));
            let watch = same.map_or_else(|| Arc::new(Watch::default()), |t| Arc::clone(t.watch()));
            if same.is_some() {
                former.remove(&spec.endpoint);
            }
            let target = Target::new(spec.clone(), &self.region, list.source_address, watch);
            targets.insert(spec.endpoint.clone(), Arc::new(target));
        }
        for gone in former.values() {
            gone.watch().retire();
        }
        Arc::new(Roster { list, targets: targets.into_values().collect() })
    }
}
