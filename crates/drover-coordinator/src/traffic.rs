//! The published targets: made from configuration and shares, kept in the store, and DNS reconciled towards them for
//! ever. A run moves a target and publishes it; the reconciler repairs whatever differs after that.

use crate::config_dir::Loaded;
use crate::coordinator::{Coordinator, Dns};
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_core::plan::ttl_seconds;
use drover_core::weights::NeverDark;
use drover_dns::provider::{
    Applied, BlockedReason, Diff, DynamicUpdates, EmbeddedInstances, EmbeddedOptions, HostedZone, Instance,
    LaggingState, Observed, ProviderError, RecordSets,
};
use drover_dns::publish::{Batch, Change};
use drover_dns::zone::{DnsName, Member, RecordKey, RecordSet, RecordType};
use drover_model::api::DnsView;
use drover_model::config::{self, DnsInstance, DnsServers, DnsSettings, Service, Split, version_of};
use drover_model::traffic::TrafficState;
use drover_model::{Epoch, ServiceId, Timestamp};
use drover_store::Expect;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Owner of every record set that drover publishes.
pub const OWNER: &str = "drover";
/// Shortest time between two comparisons, however often they are asked for: each reads the whole zone.
const RECONCILE_PAUSE: Duration = Duration::from_secs(1);
/// How often DNS is compared with the targets when nothing asked for it.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// Pause after DNS showed something else than what was observed a moment ago: whoever changed it may not be done.
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

fn record_type(t: config::RecordType) -> RecordType {
    match t {
        config::RecordType::A => RecordType::A,
        config::RecordType::Aaaa => RecordType::Aaaa,
        config::RecordType::Cname => RecordType::Cname,
    }
}

/// What a service is known by in DNS; nothing when its name is none.
#[must_use]
pub fn record_key(service: &Service) -> Option<RecordKey> {
    let name: DnsName = service.dns_name.parse().ok()?;
    Some(RecordKey::new(name, record_type(service.record_type)))
}

/// The record set that a target asks for.
#[must_use]
pub fn record_set(service: &Service, target: &TrafficState, epoch: Epoch) -> RecordSet {
    RecordSet {
        name: service.dns_name.clone(),
        rtype: record_type(service.record_type),
        ttl_seconds: ttl_seconds(service),
        members: service
            .endpoints
            .values()
            .map(|e| Member {
                set_id: e.region.to_string(),
                value: e.address.clone(),
                weight: u16::from(target.weight(&e.region).0),
            })
            .collect(),
        generation: target.generation.0,
        epoch,
        owner: OWNER.to_owned(),
        note: String::new(),
    }
}

/// Digest of the parts of a service's configuration that its record set is made from: first what its weights are
/// made from, after the slash what else DNS shows. A change of the latter alone must not derive the weights afresh,
/// because that would end a move of traffic that was narrowed on purpose.
fn published_from(service: &Service) -> String {
    let weights: Vec<_> = service.endpoints.values().map(|e| (&e.region, e.weight, e.priority)).collect();
    let addresses: Vec<_> = service.endpoints.values().map(|e| (&e.region, &e.address)).collect();
    let shown = version_of(&(&service.dns_name, service.record_type, ttl_seconds(service), addresses));
    let weights = version_of(&weights);
    match service.split {
        Split::ByWeight => format!("{weights}/{shown}"),
        Split::Equally => format!("{weights}-equally/{shown}"),
    }
}

/// The target that `service` asks for, when it is another than `state`, which was made from `known`.
fn next_target(
    state: TrafficState,
    known: Option<&str>,
    service: &Service,
    now: Timestamp,
) -> Result<Option<TrafficState>, NeverDark> {
    let digest = published_from(service);
    if known == Some(digest.as_str()) {
        return Ok(None);
    }
    let weights_of = |digest: &str| digest.split_once('/').map(|(weights, _)| weights.to_owned());
    let moved = if known.and_then(weights_of) == weights_of(&digest) {
        None
    } else {
        drover_core::targets::retarget(&state, service, now)?
    };
    // Same weights, but other addresses or another TTL: a new version all the same.
    Ok(Some(moved.unwrap_or(TrafficState { generation: state.generation.next(), changed_at: now, ..state })))
}

/// Nothing where the configuration was let through with what it refuses: no instance, or a zone that is no name.
fn provider(dns: &DnsSettings) -> Option<Dns> {
    let provider: Arc<dyn RecordSets> = match &dns.servers {
        DnsServers::Embedded(own) => {
            let instance =
                |i: &DnsInstance| Instance { name: i.name.clone(), control: i.control, query: i.query };
            let instances = own.instances.iter().map(instance).collect();
            Arc::new(EmbeddedInstances::new(instances, EmbeddedOptions::default()).ok()?)
        }
        DnsServers::Rfc2136(other) => {
            Arc::new(DynamicUpdates::new(DnsName::parse(&dns.zone).ok()?, other.clone()))
        }
        DnsServers::Route53(cloud) => {
            Arc::new(HostedZone::new(DnsName::parse(&dns.zone).ok()?, cloud.clone()))
        }
    };
    Some(Dns { provider, settings: dns.clone() })
}

/// DNS beside the targets.
pub(crate) struct Compared<'l> {
    /// The services that have a target, each with what it wants in `desired`.
    pub(crate) services: Vec<&'l Service>,
    pub(crate) desired: Vec<RecordSet>,
    pub(crate) observed: Vec<Observed>,
    pub(crate) diff: Diff,
}

fn from_key(service: &ServiceId) -> String {
    format!("published-from/{service}")
}

impl Coordinator {
    /// Makes the provider of the configuration in force. The one that there is goes on where nothing of it changed: it keeps
    /// the pace of its account, and what it knows of its zone.
    pub(crate) fn connect_dns(&self) {
        let loaded = self.loaded();
        let standing = self.dns.load();
        if standing.as_ref().as_ref().map(|dns| &dns.settings) == loaded.config.settings.dns.as_ref() {
            return;
        }
        let provider = loaded.config.settings.dns.as_ref().and_then(provider);
        self.dns.store(Arc::new(provider));
    }

    /// Brings every target up to the configuration in force: new services, changed weights, addresses, TTLs.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub(crate) async fn retarget_all(&self) -> Result<(), CoordinatorError> {
        let loaded = self.loaded();
        for service in loaded.config.services.values() {
            self.retarget(service).await?;
        }
        self.reconcile_wake.notify_one();
        Ok(())
    }

    async fn retarget(&self, service: &Service) -> Result<(), CoordinatorError> {
        // A move of many services takes several transactions: a target that changed between two would make it fail half
        // way, and what it published must not be overwritten with older shares.
        let _one_at_a_time = self.shifting.lock().await;
        let key = keys::traffic(&service.name);
        let what = format!("set the target of {}", service.name);
        let now = self.clock.now();
        let standing = self.db.get::<TrafficState>(&key).await?;
        let known = self.db.get::<String>(&from_key(&service.name)).await?.map(|(d, _)| d);
        let (expect, next) = match standing {
            None => (Expect::Absent, drover_core::targets::initial_traffic(service, now)),
            Some((state, revision)) => match next_target(state, known.as_deref(), service, now) {
                Ok(Some(next)) => (Expect::ModRevision(revision), next),
                Ok(None) => return Ok(()),
                Err(dark) => {
                    tracing::error!(service = %service.name, "the old target stays: {dark}");
                    return Ok(());
                }
            },
        };
        let txn = self.db.put_op(self.db.fenced().expect(&key, expect), &key, &next)?;
        let txn = self.db.put_op(txn, &from_key(&service.name), &published_from(service))?;
        if self.db.commit(&what, txn).await?.is_none() {
            return Err(CoordinatorError::store(what, "it was changed at the same moment"));
        }
        self.live().traffic.insert(service.name.clone(), next);
        Ok(())
    }

    /// Reconciles until told to stop.
    pub(crate) async fn run_reconciler(self: Arc<Self>) {
        let mut tick = tokio::time::interval(RECONCILE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.reconcile_wake.notified() => {}
            }
            let pause = last.map_or(Duration::ZERO, |at| RECONCILE_PAUSE.saturating_sub(at.elapsed()));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            last = Some(Instant::now());
            let Some(provider) = self.dns() else { continue };
            let reconciled = tokio::select! {
                () = self.stop.cancelled() => return,
                reconciled = self.reconcile(&*provider) => reconciled,
            };
            match reconciled {
                Ok(()) => {}
                Err(ProviderError::Fenced { instance, highest, reason }) => {
                    tracing::error!(instance, %highest, "DNS refuses this coordinator's epoch: {reason}; standing down");
                    self.stop.cancel();
                    return;
                }
                Err(e) => {
                    tracing::warn!(error = &e as &dyn std::error::Error, "can't reconcile DNS");
                    self.mark_dns_unreachable(&e);
                }
            }
        }
    }

    pub(crate) async fn reconcile(&self, provider: &dyn RecordSets) -> Result<(), ProviderError> {
        let loaded = self.loaded();
        let Compared { observed, diff, .. } = self.compare(provider, &loaded).await?;
        self.note_dns(&loaded, &observed, &diff.blocked.iter().map(blocked_sentence).collect::<Vec<_>>());
        if diff.changes.is_empty() {
            return Ok(());
        }
        let mut refusals = Vec::new();
        let applied = self.apply_all(provider, &diff.changes, &mut refusals).await;
        self.note_refusals(&refusals);
        match applied {
            Err(e) if !matches!(e, ProviderError::Fenced { .. }) => {
                tracing::warn!(error = &e as &dyn std::error::Error, "can't bring DNS up to the targets");
                self.note_not_applied(&e);
                Ok(())
            }
            answer => answer,
        }
    }

    async fn apply_all(
        &self,
        provider: &dyn RecordSets,
        changes: &[Change],
        refusals: &mut Vec<ProviderError>,
    ) -> Result<(), ProviderError> {
        for some in changes.chunks(provider.capabilities().batch_changes_max) {
            match self.apply(provider, some).await {
                // One record set that a server will never take must not keep the others from it.
                Err(ProviderError::Refused { .. }) => {
                    let left = still_to_do(provider, some).await?;
                    self.apply_each(provider, &left, refusals).await?;
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Applies one by one, and keeps what is refused.
    async fn apply_each(
        &self,
        provider: &dyn RecordSets,
        changes: &[Change],
        refusals: &mut Vec<ProviderError>,
    ) -> Result<(), ProviderError> {
        for change in changes {
            match self.apply(provider, std::slice::from_ref(change)).await {
                Err(e @ ProviderError::Refused { .. }) => {
                    tracing::error!("DNS refuses a record set: {e}");
                    refusals.push(e);
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    async fn apply(&self, provider: &dyn RecordSets, changes: &[Change]) -> Result<(), ProviderError> {
        let batch = Batch {
            epoch: self.db.epoch(),
            idempotency_key: format!("reconcile-{}-{}", self.db.epoch(), version_of(&changes)),
            changes: changes.to_vec(),
        };
        match provider.apply(&batch).await {
            Ok(Applied::Changed(c)) => {
                tracing::info!(instances = ?c.instances, "DNS brought up to the targets")
            }
            Ok(Applied::Unchanged(_)) => {}
            // A run published in between: the next round sees its state.
            Err(ProviderError::Conflict { .. }) => {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(CONFLICT_PAUSE) => {}
                }
                self.reconcile_wake.notify_one();
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Shows each refusal with the server that refused.
    fn note_refusals(&self, refusals: &[ProviderError]) {
        let mut live = self.live();
        for refusal in refusals {
            let ProviderError::Refused { instance, .. } = refusal else { continue };
            // A primary that nobody asks is none of the servers; what it refuses concerns them all.
            let is_shown = live.dns_views.iter().any(|v| v.instance == *instance);
            for view in live.dns_views.iter_mut().filter(|v| !is_shown || v.instance == *instance) {
                view.behind.insert(0, refusal.to_string());
            }
        }
    }

    /// The servers were read and could not be told.
    fn note_not_applied(&self, error: &ProviderError) {
        for view in &mut self.live().dns_views {
            view.behind.insert(0, drover_model::chain(error));
        }
    }

    /// Reads DNS, and compares it with the targets.
    pub(crate) async fn compare<'l>(
        &self,
        provider: &dyn RecordSets,
        loaded: &'l Loaded,
    ) -> Result<Compared<'l>, ProviderError> {
        let services = loaded.config.services.values();
        let keys: Vec<RecordKey> = services.clone().filter_map(record_key).collect();
        let observed = provider.observe(&keys).await?;
        // Targets are read after DNS: a run that moves one in between makes DNS look behind, never ahead. Shared, so that
        // nobody waits while a thousand record sets are made.
        let traffic = self.live().traffic.clone();
        let wanted = |s: &'l Service| Some((s, record_set(s, traffic.get(&s.name)?, self.db.epoch())));
        let (services, desired): (Vec<&Service>, Vec<RecordSet>) = services.filter_map(wanted).unzip();
        let diff = provider.diff(&desired, &observed);
        Ok(Compared { services, desired, observed, diff })
    }

    fn note_dns(&self, loaded: &Loaded, observed: &[Observed], blocked: &[String]) {
        let now = self.clock.now();
        let Some(dns) = loaded.config.settings.dns.as_ref() else { return };
        let views = dns
            .answering()
            .map(|(name, query)| {
                let mut view = DnsView {
                    instance: name.to_owned(),
                    query: query.to_string(),
                    reachable: true,
                    behind: blocked.to_vec(),
                    checked_at: Some(now),
                };
                for o in observed {
                    match o.lagging.iter().find(|l| l.instance == name).map(|l| &l.state) {
                        Some(LaggingState::NotReached { reason }) => {
                            view.reachable = false;
                            view.behind = vec![reason.clone()];
                        }
                        Some(LaggingState::Earlier) => {
                            view.behind = vec!["an earlier state of the zone".to_owned()];
                        }
                        Some(LaggingState::Behind { generation }) => {
                            let shown = generation
                                .map_or_else(|| "nothing".to_owned(), |g| format!("generation {g}"));
                            view.behind.push(format!("{} shows {shown}", o.key));
                        }
                        None => {}
                    }
                }
                view
            })
            .collect();
        self.live().dns_views = views;
    }

    fn mark_dns_unreachable(&self, error: &ProviderError) {
        let now = self.clock.now();
        let loaded = self.loaded();
        let Some(dns) = loaded.config.settings.dns.as_ref() else { return };
        let views = dns
            .answering()
            .map(|(name, query)| DnsView {
                instance: name.to_owned(),
                query: query.to_string(),
                reachable: !concerns(error, name),
                behind: vec![drover_model::chain(error)],
                checked_at: Some(now),
            })
            .collect();
        self.live().dns_views = views;
    }
}

/// Does it say that this server was not reached? A primary that nobody asks may be none of the servers.
fn concerns(error: &ProviderError, server: &str) -> bool {
    match error {
        ProviderError::Unreachable { missing } => missing.iter().any(|m| m.instance == server),
        ProviderError::TimedOut { .. } => true,
        _ => false,
    }
}

/// What is left of changes that were refused together: a provider may have made those that it could.
///
/// # Errors
/// When DNS can't be read.
pub(crate) async fn still_to_do(
    provider: &dyn RecordSets,
    changes: &[Change],
) -> Result<Vec<Change>, ProviderError> {
    let put = |change: &Change| match change {
        Change::Put { record_set, .. } => Some(record_set.clone()),
        Change::Delete { .. } => None,
    };
    let desired: Vec<RecordSet> = changes.iter().filter_map(put).collect();
    let key = |set: &RecordSet| Some(RecordKey::new(set.name.parse().ok()?, set.rtype));
    let keys: Vec<RecordKey> = desired.iter().filter_map(key).collect();
    let observed = provider.observe(&keys).await?;
    Ok(provider.diff(&desired, &observed).changes)
}

pub(crate) fn blocked_sentence(b: &drover_dns::provider::Blocked) -> String {
    let why = match &b.reason {
        BlockedReason::Invalid { detail } => detail.clone(),
        BlockedReason::NotObserved => "not observed".to_owned(),
        BlockedReason::Overtaken => "a later generation is live".to_owned(),
        BlockedReason::Drifted => "it was changed by hand".to_owned(),
        BlockedReason::OwnedByOther => "it belongs to somebody else".to_owned(),
    };
    format!("{} {} can't be published: {why}", b.desired.name, b.desired.rtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Weight;
    use drover_model::config::decode::{self, SourceFile};

    fn service() -> Service {
        let files = [
            include_str!("../../../regions/eu-west.yaml"),
            include_str!("../../../regions/us-east.yaml"),
            include_str!("../../../regions/ap-south.yaml"),
            include_str!("../../../regions/witness.yaml"),
            include_str!("../../../regions/services.yaml"),
            include_str!("../../../regions/settings.yaml"),
        ];
        let files: Vec<_> =
            files.iter().enumerate().map(|(i, t)| SourceFile::new(format!("{i}.yaml"), *t)).collect();
        let config = decode::load(&files).unwrap().config;
        config.services[&ServiceId::new("checkout").unwrap()].clone()
    }

    #[test]
    fn another_address_or_ttl_keeps_the_weights_that_a_run_narrowed() {
        let now = Timestamp::from_millis(0);
        let mut service = service();
        let known = published_from(&service);
        let mut state = drover_core::targets::initial_traffic(&service, now);
        // As after `failover --to`: all of it in one region, which no derivation from shares would give.
        for (i, weight) in state.weights.values_mut().enumerate() {
            *weight = Weight(if i == 0 { 100 } else { 0 });
        }
        assert_eq!(next_target(state.clone(), Some(&known), &service, now).unwrap(), None);

        service.ttl = service.ttl.times(2);
        service.endpoints.values_mut().for_each(|e| e.address = "127.9.9.9".into());
        let next = next_target(state.clone(), Some(&known), &service, now).unwrap().unwrap();
        assert_eq!((next.weights, next.generation), (state.weights.clone(), state.generation.next()));

        service.endpoints.values_mut().for_each(|e| e.weight = Some(10));
        let next = next_target(state.clone(), Some(&known), &service, now).unwrap().unwrap();
        assert_ne!(next.weights, state.weights, "weights were changed on purpose");
    }
}
