//! What is known of declarations: as it is in the store, and who has heard it.

use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use crate::traffic::{OWNER, record_key};
use drover_core::out_of_service::{Standing, Stays, Told};
use drover_dns::provider::Observed;
use drover_model::config::Config;
use drover_model::out_of_service::{HeldDeclaration, OutOfService};
use drover_model::probe::Report;
use drover_model::{AgentId, Epoch, Generation, RegionId, ServiceId, Shared, Timestamp, Weight, Weights};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the agents are told (store key `out-of-service`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Raised by every change of what is declared.
    pub(super) generation: Generation,
    pub(super) told: Told,
    /// Since when a region stands as it does.
    pub(super) since: BTreeMap<RegionId, Timestamp>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct OutOfServiceLive {
    kept: Kept,
    seen: Shared<BTreeMap<ServiceId, Weights>>,
    held: BTreeMap<AgentId, HeldDeclaration>,
    why: BTreeMap<RegionId, String>,
    /// The checks as they were read last.
    pub(super) checks: Option<(Vec<drover_model::api::CheckFound>, Timestamp)>,
    /// Why they could not be read or made since.
    pub(super) trouble: Option<String>,
}

impl OutOfServiceLive {
    /// As the store has it.
    pub(crate) async fn recalled(db: &Db) -> Result<Self, CoordinatorError> {
        let kept = db.get::<Kept>(keys::OUT_OF_SERVICE).await?.map(|(kept, _)| kept).unwrap_or_default();
        let seen = db.get::<BTreeMap<ServiceId, Weights>>(keys::DNS_SEEN).await?;
        Ok(Self { kept, seen: seen.map(|(seen, _)| seen).unwrap_or_default().into(), ..Self::default() })
    }

    /// Was nothing ever declared that anybody could still say?
    pub(super) fn is_quiet(&self) -> bool {
        self.kept.told.may_be_out().is_empty()
    }

    pub(super) const fn told(&self) -> &Told {
        &self.kept.told
    }

    pub(super) const fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(super) fn seen(&self) -> Shared<BTreeMap<ServiceId, Weights>> {
        self.seen.clone()
    }

    pub(super) fn set_seen(&mut self, seen: BTreeMap<ServiceId, Weights>) {
        self.seen = seen.into();
    }

    pub(super) fn why(&self, region: &RegionId) -> Option<&String> {
        self.why.get(region)
    }

    pub(super) fn note_why(&mut self, region: &RegionId, stays: &Stays) {
        match stays {
            Stays::NothingToDo | Stays::NotAllLeave { .. } => self.why.remove(region),
            stays => self.why.insert(region.clone(), stays.to_string()),
        };
    }

    /// What agents are told; nothing where there was never anything to say.
    pub(crate) fn said(&self, epoch: Epoch, config: &Config) -> Option<OutOfService> {
        let is_of_use = config.health_checks().is_some() || !self.kept.generation.is_none();
        is_of_use.then(|| OutOfService {
            epoch,
            generation: self.kept.generation,
            regions: self.kept.told.declared(),
        })
    }

    /// What an agent's status pages say.
    pub(crate) fn heard(&mut self, report: &Report) {
        match report.out_of_service {
            Some(held) => self.held.insert(report.agent.clone(), held),
            None => self.held.remove(&report.agent),
        };
    }

    /// Has it the newest word?
    pub(super) fn has_newest(&self, agent: &AgentId, epoch: Epoch) -> bool {
        let is_newest = |held: &HeldDeclaration| {
            held.generation == self.kept.generation && held.epoch.incarnation == epoch.incarnation
        };
        self.held.get(agent).is_some_and(is_newest)
    }

    /// So many status servers outside of the region may say something earlier.
    pub(super) fn not_heard(&self, config: &Config, region: &RegionId, epoch: Epoch) -> usize {
        let servers = config.status_servers_outside(region);
        servers.filter(|server| !self.has_newest(&server.agent, epoch)).count()
    }

    /// As it is to be kept when a region stands otherwise.
    pub(super) fn kept_with(&self, region: &RegionId, standing: Standing, now: Timestamp) -> Kept {
        let told = self.kept.told.with(region, standing);
        let mut since = self.kept.since.clone();
        since.insert(region.clone(), now);
        since.retain(|r, _| told.standing(r) != Standing::InService);
        let is_said_anew = told.declared() != self.kept.told.declared();
        let generation = if is_said_anew { self.kept.generation.next() } else { self.kept.generation };
        Kept { generation, told, since }
    }

    pub(super) fn keep(&mut self, kept: Kept) {
        self.kept = kept;
        self.why.clear();
    }

    /// What the records say, where that is something else than before. Of what was not observed, what was seen before stays.
    pub(super) fn next_seen(
        &self,
        config: &Config,
        observed: &[Observed],
    ) -> Option<BTreeMap<ServiceId, Weights>> {
        let observed: BTreeMap<_, _> = observed.iter().map(|o| (&o.key, o)).collect();
        let mut next = BTreeMap::new();
        for service in config.services.values() {
            let found = record_key(service).and_then(|key| observed.get(&key).copied());
            match found {
                Some(found) => drop(next.insert(service.name.clone(), weights_of(found))),
                None => next.extend(self.seen.get(&service.name).map(|w| (service.name.clone(), w.clone()))),
            }
        }
        (next != *self.seen).then_some(next)
    }
}

/// The weights that are live; none where nothing of drover's is.
fn weights_of(found: &Observed) -> Weights {
    let Some(live) = found.current.as_ref().filter(|live| live.owner == OWNER) else {
        return Weights::default();
    };
    let weight = |m: &drover_dns::zone::Member| {
        Some((RegionId::new(&m.set_id).ok()?, Weight(u8::try_from(m.weight).unwrap_or(u8::MAX))))
    };
    live.members.iter().filter_map(weight).collect()
}
