//! Declares regions out of service where the records of Route 53 do not say so yet, and ends that when they do. What is decided is
//! `drover_core::out_of_service`; here it is made durable, told to the agents with the answers to their reports, and proven.
//!
//! Nothing is told that is not in the store: a coordinator that starts goes on with what its predecessor told. What the records said last is in
//! the store as well, since the API that could be asked may be what is down.

mod carried;
mod known;
mod view;

pub(crate) use carried::Carried;
pub(crate) use known::OutOfServiceLive;

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::source::Source;
use crate::traffic::record_key;
use drover_core::out_of_service::{Concerned, Facts, Records, Standing, Stays, next};
use drover_dns::provider::{Gate, ProviderError, Verification};
use drover_model::config::{Config, DECLARING_MIN};
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
        let seen = {
            let live = self.live();
            if config.health_checks().is_none() && live.out_of_service.is_quiet() {
                return Ok(vec![]);
            }
            live.out_of_service.seen()
        };
        let mut waiting = Vec::new();
        for region in self.regions_of_interest(config) {
            if let Err(Stays::NotProven { .. }) = self.step(config, &region, &seen, false).await? {
                waiting.push(region);
            }
        }
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
            let live = self.live();
            let known = &live.out_of_service;
            let is_heard = known.not_heard(config, region, self.db.epoch()) < DECLARING_MIN;
            let is_all_settled = is_proven && all_settled(config, &targets, seen);
            next(region, known.told(), Facts { concerned: &concerned, is_heard, is_all_settled })
        };
        let mut decided = decide();
        // A move of many services is one: between two of its transactions no one can say what its targets want.
        let _one_at_a_time;
        if decided.is_ok() {
            _one_at_a_time = self.shifting.lock().await;
            decided = decide();
        }
        match decided {
            Ok(Standing::Declared) if !config.leaves_by_health_check(region) => Ok(Ok(())),
            Ok(standing) => self.stand(region, standing).await.map(Ok),
            Err(stays) => {
                self.live().out_of_service.note_why(region, &stays);
                Ok(Err(stays))
            }
        }
    }

    /// Durable, then known, and with the next answers told.
    async fn stand(&self, region: &RegionId, standing: Standing) -> Result<(), CoordinatorError> {
        let kept = self.live().out_of_service.kept_with(region, standing, self.clock.now());
        self.db.put_reserved(keys::OUT_OF_SERVICE, &kept).await?;
        self.live().out_of_service.keep(kept);
        let (verb, words) = match standing {
            Standing::Declared => ("declare out of service", "its status pages say so; the records follow"),
            Standing::Withdrawing => ("declare in service", "the records say what the targets want"),
            Standing::InService => ("declare in service", "the status servers have heard it"),
        };
        tracing::warn!(%region, ?standing, "{verb}: {words}");
        self.noted(&Actor::Automatic, verb, region.as_str(), "the targets want it", words).await
    }

    /// Reads the records anew, asks whether all name servers have them, and ends what that allows.
    async fn withdraw_proven(&self, waiting: &[RegionId]) -> Result<(), CoordinatorError> {
        let Some(gate) = self.dns() else { return Ok(()) };
        let proven = match self.proven(&gate, waiting).await {
            Ok(Some(proven)) => proven,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::info!(%error, "the records can't be proven, so what is declared stays");
                return Ok(());
            }
        };
        let loaded = self.loaded();
        for region in waiting {
            if let Ok(()) = self.step(&loaded.config, region, &proven, true).await? {
                self.reconcile_wake.notify_one();
            }
        }
        Ok(())
    }

    /// The records of all services, where every name server has them.
    async fn proven(&self, gate: &Gate, waiting: &[RegionId]) -> Result<Option<Shared<Seen>>, ProviderError> {
        let loaded = self.loaded();
        let keys: Vec<_> = loaded.config.services.values().filter_map(record_key).collect();
        gate.forget(&keys);
        let compared = self.compare(gate, &loaded).await?;
        self.note_seen(&compared.observed).await;
        let concerns = |source: &Source<'_>| match source {
            Source::Service(service) => waiting.iter().any(|r| service.endpoints.contains_key(r)),
            Source::Fixed(_) | Source::Geography(..) => false,
        };
        let first = compared.sources.iter().zip(&compared.desired).find(|(source, _)| concerns(source));
        // Of a zone, all changes are everywhere when the last one is: one proof is that of all.
        if let Some((key, wanted)) = first.and_then(|(source, wanted)| Some((source.key()?, wanted))) {
            match gate.verify(&key, Some(wanted)).await? {
                Verification::Verified { .. } | Verification::Partial { .. } => {}
                Verification::Mismatch { .. } => return Ok(None),
            }
        }
        Ok(Some(self.live().out_of_service.seen()))
    }

    /// Keeps what the records say, for the time in which nobody can read them.
    pub(crate) async fn note_seen(&self, observed: &[drover_dns::provider::Observed]) {
        let loaded = self.loaded();
        if loaded.config.health_checks().is_none() {
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

/// The services that have an endpoint in `region` and a record set of drover's.
fn concerned<'a>(
    config: &'a Config,
    region: &RegionId,
    targets: &'a Shared<BTreeMap<ServiceId, TrafficState>>,
    seen: &Seen,
    is_proven: bool,
) -> Vec<Concerned<'a>> {
    let services = config.services.values().filter(|s| s.endpoints.contains_key(region));
    let one = |service: &'a drover_model::config::Service| {
        let target = &targets.get(&service.name)?.weights;
        let records = match seen.get(&service.name) {
            None => Records::Unknown,
            // Nothing of drover's stands there, so nobody is answered by it.
            Some(weights) if weights.iter().next().is_none() => return None,
            Some(weights) if is_proven => Records::Proven(weights.clone()),
            Some(weights) => Records::Seen(weights.clone()),
        };
        Some(Concerned { service: &service.name, target, records })
    };
    services.filter_map(one).collect()
}

/// Do the records of every service say what its target wants?
fn all_settled(config: &Config, targets: &BTreeMap<ServiceId, TrafficState>, seen: &Seen) -> bool {
    let is_settled = |name: &ServiceId| {
        let (Some(records), Some(target)) = (seen.get(name), targets.get(name)) else { return false };
        records.iter().all(|(region, weight)| target.weight(region) == *weight)
            && target.weights.iter().all(|(region, weight)| records.of(region) == *weight)
    };
    config.services.keys().all(is_settled)
}

#[cfg(test)]
mod tests;
