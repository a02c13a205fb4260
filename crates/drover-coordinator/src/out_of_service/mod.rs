//! Declares regions out of service where the records of Route 53 do not say so yet, and ends that when they do. What is decided is
//! `drover_core::out_of_service`; here it is made durable, told to the agents with the answers to their reports, and proven.
//!
//! Nothing is told that is not in the store: a coordinator that starts goes on with what its predecessor told. What the records said last is in
//! the store as well, since the API that could be asked may be what is down.

mod carried;
mod known;
mod view;

pub(crate) use carried::{Carried, Ended};
use known::read_of;
pub(crate) use known::{Kept, OutOfServiceLive};

use crate::config_dir::Loaded;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::source::Source;
use crate::text::list;
use crate::traffic::record_key;
use drover_core::out_of_service::{
    Concerned, Facts, Records, Standing, Stays, concerns, next, says_the_same,
};
use drover_dns::provider::{Gate, ProviderError, Verification};
use drover_dns::zone::RecordKey;
use drover_model::config::Config;
use drover_model::traffic::{Actor, TrafficState};
use drover_model::{RegionId, ServiceId, Shared, Weights};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks when nothing asked for one.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts to prove that the records took over: each reads the zone.
const PROVE_EVERY: Duration = Duration::from_secs(5);

type Seen = BTreeMap<ServiceId, Weights>;

/// What a look went by.
#[derive(Debug)]
struct LookedAt {
    loaded: Arc<Loaded>,
    traffic: Shared<BTreeMap<ServiceId, TrafficState>>,
    seen: Shared<Seen>,
}

impl LookedAt {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.loaded, &other.loaded)
            && self.traffic.is(&other.traffic)
            && self.seen.is(&other.seen)
    }
}

impl Coordinator {
    /// Looks until told to stop.
    pub(crate) async fn run_out_of_service(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut proved_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.out_of_service_wake.notified() => {}
            }
            let look = async {
                let waiting = self.look_out_of_service().await?;
                if !waiting.is_empty() && proved_at.is_none_or(|at| at.elapsed() >= PROVE_EVERY) {
                    let proved = self.withdraw_proven(&waiting).await;
                    proved_at = Some(Instant::now());
                    proved?;
                }
                Ok::<(), CoordinatorError>(())
            };
            match self.stop.run_until_cancelled(look).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "can't declare, or end it");
                }
            }
        }
    }

    /// Declares what is to be declared, as far as what is known allows, and says whose end only a proof is wanting for.
    pub(crate) async fn look_out_of_service(&self) -> Result<Vec<RegionId>, CoordinatorError> {
        let loaded = self.loaded();
        let config = &loaded.config;
        let (looked_at, was_quiet) = {
            let live = self.live();
            let known = &live.out_of_service;
            let looked_at =
                LookedAt { loaded: loaded.clone(), traffic: live.traffic.clone(), seen: known.seen() };
            // Where nobody is out, nothing else decides: of what was looked at once, nothing new comes.
            let is_known = known.looked_at.as_ref().is_some_and(|last| last.is(&looked_at));
            if known.is_quiet() && (config.health_checks().is_none() || is_known) {
                return Ok(vec![]);
            }
            (looked_at, known.is_quiet())
        };
        let mut waiting = Vec::new();
        for region in self.regions_of_interest(config) {
            if let Err(Stays::NotProven { .. } | Stays::NotRead) =
                self.step(config, &region, &looked_at.seen, false).await?
            {
                waiting.push(region);
            }
        }
        let mut live = self.live();
        let known = &mut live.out_of_service;
        // Who came back in this very look may let another go.
        known.looked_at = (was_quiet && known.is_quiet()).then_some(looked_at);
        Ok(waiting)
    }

    fn regions_of_interest(&self, config: &Config) -> Vec<RegionId> {
        let mut all = self.live().out_of_service.told().may_be_out();
        all.extend(config.regions.keys().cloned());
        all.into_iter().collect()
    }

    /// One transition of one region, if there is one. Inside: why it stays.
    async fn step(
        &self,
        config: &Config,
        region: &RegionId,
        seen: &Seen,
        is_proven: bool,
    ) -> Result<Result<(), Stays>, CoordinatorError> {
        let decide = || {
            let targets = self.live().traffic.clone();
            let concerned = concerned(config, region, &targets, seen, is_proven);
            let mut live = self.live();
            let known = &mut live.out_of_service;
            let facts = Facts {
                concerned: &concerned,
                can_be_left: config.leaves_by_health_check(region),
                is_followed: known.is_followed(config, region, self.db.epoch(), self.clock.now()),
                is_proven,
                is_all_settled: is_proven && all_settled(config, &targets, seen),
            };
            next(region, known.told(), facts)
        };
        let mut decided = decide();
        // A move of many services is one: between two of its transactions no one can say what its targets want.
        let _one_at_a_time;
        if decided.is_ok() {
            _one_at_a_time = self.shifting.lock().await;
            decided = decide();
        }
        match decided {
            Ok(standing) => self.stand(region, standing).await.map(Ok),
            Err(stays) => {
                self.live().out_of_service.note_why(region, &stays);
                Ok(Err(stays))
            }
        }
    }

    /// Why such a target would have nobody surely answered: health checks may still leave out all that it gives weight, and Route 53 would
    /// answer its reserve, of which nothing is known to be well.
    pub(crate) fn out_by_checks(&self, service: &ServiceId, target: &Weights) -> Option<String> {
        let live = self.live();
        let told = live.out_of_service.told();
        if live.out_of_service.is_quiet() || told.leaves_some(target) {
            return None;
        }
        let out: Vec<&RegionId> = target.iter().filter(|(_, weight)| weight.0 > 0).map(|(r, _)| r).collect();
        Some(format!(
            "{service} would have {} alone, which health checks may still leave out, so that Route 53 answers whom the target gives nothing; \
             wait until it is in service, or leave some weight with another region (`drover dns checks`)",
            list(&out)
        ))
    }

    /// Durable, then known, and with the next answers told.
    async fn stand(&self, region: &RegionId, standing: Standing) -> Result<(), CoordinatorError> {
        let kept = self.live().out_of_service.kept_with(region, standing, self.clock.now());
        self.db.put_reserved(keys::OUT_OF_SERVICE, &kept).await?;
        self.live().out_of_service.keep(kept);
        let (verb, words) = match standing {
            Standing::Declared => ("declare out of service", "its status pages say so; the records follow"),
            Standing::Withdrawing => ("declare in service", "the records say what the targets want"),
            Standing::InService => {
                ("declare in service", "the status servers have heard it, and the checkers followed")
            }
        };
        tracing::warn!(%region, ?standing, "{verb}: {words}");
        self.noted(&Actor::Automatic, verb, region.as_str(), "the targets want it", words).await
    }

    /// Reads the records anew, asks whether all name servers have them, and ends what that allows.
    async fn withdraw_proven(&self, waiting: &[RegionId]) -> Result<(), CoordinatorError> {
        let Some(gate) = self.dns() else { return Ok(()) };
        let proven = self.proven(&gate, waiting).await;
        let proven = match proven.unwrap_or_else(|error| Err(drover_model::chain(&error))) {
            Ok(proven) => proven,
            Err(why) => {
                tracing::info!(why, "the records are not proven, so what is declared stays");
                self.live().out_of_service.unproven = Some(why);
                return Ok(());
            }
        };
        self.live().out_of_service.unproven = None;
        let loaded = self.loaded();
        for region in waiting {
            if let Ok(()) = self.step(&loaded.config, region, &proven, true).await? {
                self.reconcile_wake.notify_one();
            }
        }
        Ok(())
    }

    /// The records of all services, where every name server has them and nobody else's hand was there. Inside: why that is no proof.
    async fn proven(
        &self,
        gate: &Gate,
        waiting: &[RegionId],
    ) -> Result<Result<Shared<Seen>, String>, ProviderError> {
        let loaded = self.loaded();
        let keys: Vec<_> = loaded.config.services.values().filter_map(record_key).collect();
        gate.forget(&keys);
        let compared = self.compare(gate, &loaded).await?;
        self.note_seen(&compared.observed).await;
        // What was read just now, whether or not it could be kept.
        let read = read_of(&loaded.config, &compared.observed);
        let by_hand =
            |key: &RecordKey| compared.observed.iter().any(|o| o.key == *key && o.is_changed_by_hand);
        let (mut first, mut any) = (None, None);
        for (source, wanted) in compared.sources.iter().zip(&compared.desired) {
            let (Source::Service(service), Some(key)) = (source, source.key()) else { continue };
            any = any.or_else(|| Some((key.clone(), wanted)));
            let records = known_of(&read, &service.name, true);
            if !waiting.iter().any(|r| concerns(r, service.endpoints.contains_key(r), &records)) {
                continue;
            }
            if by_hand(&key) {
                return Ok(Err(format!("the records of {} were changed by hand", service.name)));
            }
            first = first.or(Some((key, wanted)));
        }
        // Of a zone, all changes are everywhere when the last one is: one proof is that of all. It is asked of each server, since after a
        // restart nobody knows which change is still on its way.
        if let Some((key, wanted)) = first.or(any) {
            match gate.verify(&key, Some(wanted)).await? {
                Verification::Verified { .. } => {}
                Verification::Partial { missing, .. } => {
                    let silent: Vec<&String> = missing.iter().map(|one| &one.instance).collect();
                    return Ok(Err(format!(
                        "{} could not be asked whether the records are there",
                        list(&silent)
                    )));
                }
                Verification::Mismatch { .. } => {
                    return Ok(Err(format!("not every name server answers {key} as it was published")));
                }
            }
        }
        Ok(Ok(read.into()))
    }

    /// Keeps what the records say, for the time in which nobody can read them.
    pub(crate) async fn note_seen(&self, observed: &[drover_dns::provider::Observed]) {
        let loaded = self.loaded();
        // Also where the configuration has no checks any more: what was declared by them ends on what the records say.
        if loaded.config.health_checks().is_none() && self.live().out_of_service.is_quiet() {
            return;
        }
        let Some(seen) = self.live().out_of_service.next_seen(&loaded.config, observed) else { return };
        if let Err(error) = self.db.put_reserved(keys::DNS_SEEN, &seen).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "can't keep what the records say");
            return;
        }
        self.live().out_of_service.set_seen(seen);
        self.out_of_service_wake.notify_one();
    }
}

/// What is known of a service's records.
fn known_of(seen: &Seen, service: &ServiceId, is_proven: bool) -> Records {
    match seen.get(service) {
        None => Records::Unknown,
        Some(weights) if is_proven => Records::Proven(weights.clone()),
        Some(weights) => Records::Seen(weights.clone()),
    }
}

/// The services that may be answered with `region`.
fn concerned<'a>(
    config: &'a Config,
    region: &RegionId,
    targets: &'a Shared<BTreeMap<ServiceId, TrafficState>>,
    seen: &Seen,
    is_proven: bool,
) -> Vec<Concerned<'a>> {
    let one = |service: &'a drover_model::config::Service| {
        let records = known_of(seen, &service.name, is_proven);
        // Nothing stands there, so nobody is answered by it.
        let is_empty = records.weights().is_some_and(|weights| weights.iter().next().is_none());
        if is_empty || !concerns(region, service.endpoints.contains_key(region), &records) {
            return None;
        }
        let target = &targets.get(&service.name)?.weights;
        Some(Concerned { service: &service.name, target, records })
    };
    config.services.values().filter_map(one).collect()
}

/// Do the records of every service say what its target wants?
fn all_settled(config: &Config, targets: &BTreeMap<ServiceId, TrafficState>, seen: &Seen) -> bool {
    let is_settled = |name: &ServiceId| {
        let (Some(records), Some(target)) = (seen.get(name), targets.get(name)) else { return false };
        says_the_same(records, &target.weights)
    };
    config.services.keys().all(is_settled)
}

#[cfg(test)]
mod tests;
