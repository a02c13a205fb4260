//! What is known of declarations: as it is in the store, and who has heard it.

use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use crate::traffic::{OWNER, record_key};
use drover_core::out_of_service::{Standing, Stays, Told};
use drover_dns::provider::Observed;
use drover_model::config::{Config, DECLARING_MIN, HealthChecks, Service};
use drover_model::out_of_service::{HeldDeclaration, OutOfService};
use drover_model::probe::Report;
use drover_model::{
    AgentId, Epoch, Generation, RegionId, ServiceId, Shared, Span, Timestamp, Weight, Weights,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An interval of 30 s and ten answers, the most that Route 53 has.
const FOLLOWS_WITHIN_MAX: Span = Span::from_secs(330);

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
    /// Who reports another than the newest, since when.
    behind: BTreeMap<AgentId, Timestamp>,
    why: BTreeMap<RegionId, String>,
    /// What the last look went by.
    pub(super) looked_at: Option<super::LookedAt>,
    /// Why the last attempt to prove what the records say came to nothing.
    pub(super) unproven: Option<String>,
    /// Since when so few status servers may not have heard the newest word that they don't count. Known anew after a start.
    heard_since: BTreeMap<RegionId, Timestamp>,
    /// The checks as they were read last.
    pub(super) checks: Option<(Vec<drover_model::api::CheckFound>, Timestamp)>,
    /// Why they could not be read or made since.
    pub(super) trouble: Option<String>,
}

impl OutOfServiceLive {
    /// As the store has it.
    pub(crate) async fn recalled(db: &Db) -> Result<Self, CoordinatorError> {
        let kept =
            db.get_sound::<Kept>(keys::OUT_OF_SERVICE).await?.map(|(kept, _)| kept).unwrap_or_default();
        let seen = db.get_sound::<BTreeMap<ServiceId, Weights>>(keys::DNS_SEEN).await?;
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
            Stays::NotProven { .. } | Stays::NotRead => {
                let why = self.unproven.clone().unwrap_or_else(|| stays.to_string());
                self.why.insert(region.clone(), why)
            }
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
    pub(crate) fn heard(&mut self, report: &Report, epoch: Epoch, now: Timestamp) {
        match report.out_of_service {
            Some(held) => self.held.insert(report.agent.clone(), held),
            None => self.held.remove(&report.agent),
        };
        if report.out_of_service.is_none() || self.has_newest(&report.agent, epoch) {
            self.behind.remove(&report.agent);
        } else {
            self.behind.entry(report.agent.clone()).or_insert(now);
        }
    }

    /// Since when an agent reports that it holds another than the newest.
    pub(super) fn behind_since(&self, agent: &AgentId) -> Option<Timestamp> {
        self.behind.get(agent).copied()
    }

    /// Has it the newest word?
    pub(super) fn has_newest(&self, agent: &AgentId, epoch: Epoch) -> bool {
        // Of one leader a generation says one thing. Of an earlier one's, from a store that was put back since, nobody knows what.
        let is_newest =
            |held: &HeldDeclaration| held.generation == self.kept.generation && held.epoch == epoch;
        self.held.get(agent).is_some_and(is_newest)
    }

    /// Are so few status servers left which may say something earlier that they don't count, and have been for as long as Route 53's
    /// checkers may take to follow?
    pub(super) fn is_followed(
        &mut self,
        config: &Config,
        region: &RegionId,
        epoch: Epoch,
        now: Timestamp,
    ) -> bool {
        if self.not_heard(config, region, epoch) >= DECLARING_MIN {
            self.heard_since.remove(region);
            return false;
        }
        let since = *self.heard_since.entry(region.clone()).or_insert(now);
        now.since(since) >= follows_within(config)
    }

    /// So many status servers outside of the region may say something earlier.
    fn not_heard(&self, config: &Config, region: &RegionId, epoch: Epoch) -> usize {
        if config.health_checks().is_none() {
            // Who serves pages is not configured any more; whoever did may go on.
            return self.held.keys().filter(|agent| !self.has_newest(agent, epoch)).count();
        }
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
        if kept.generation != self.kept.generation {
            self.heard_since.clear();
        }
        self.kept = kept;
        self.why.clear();
    }

    /// What the records say, where that is something else than before. Of what was not observed, what was seen before stays.
    pub(super) fn next_seen(
        &self,
        config: &Config,
        observed: &[Observed],
    ) -> Option<BTreeMap<ServiceId, Weights>> {
        let was_observed: BTreeSet<_> = observed.iter().map(|o| &o.key).collect();
        let is_news = |name: &ServiceId| {
            let key = config.services.get(name).and_then(record_key);
            key.is_some_and(|key| was_observed.contains(&key))
        };
        let mut next = read_of(config, observed);
        let as_before =
            self.seen.iter().filter(|(name, _)| config.services.contains_key(*name) && !is_news(name));
        next.extend(as_before.map(|(name, weights)| (name.clone(), weights.clone())));
        (next != *self.seen).then_some(next)
    }
}

/// How long Route 53's checkers may take; where the configuration does not say so any more, the longest that it can have said.
pub(super) fn follows_within(config: &Config) -> Span {
    config.health_checks().map_or(FOLLOWS_WITHIN_MAX, HealthChecks::follows_within)
}

/// What the records of each service say that could be read and are drover's.
pub(super) fn read_of(config: &Config, observed: &[Observed]) -> BTreeMap<ServiceId, Weights> {
    let observed: BTreeMap<_, _> = observed.iter().map(|o| (&o.key, o)).collect();
    let one = |service: &Service| {
        let weights = weights_of(observed.get(&record_key(service)?)?)?;
        Some((service.name.clone(), weights))
    };
    config.services.values().filter_map(one).collect()
}

/// The weights that are live, none where nothing is. What is there and not drover's is not known: records whose owner's name was taken
/// away follow their checks as before.
fn weights_of(found: &Observed) -> Option<Weights> {
    let Some(live) = &found.current else { return Some(Weights::default()) };
    if live.owner != OWNER {
        return None;
    }
    let weight = |m: &drover_dns::zone::Member| {
        Some((RegionId::new(&m.set_id).ok()?, Weight(u8::try_from(m.weight).unwrap_or(u8::MAX))))
    };
    Some(live.members.iter().filter_map(weight).collect())
}
