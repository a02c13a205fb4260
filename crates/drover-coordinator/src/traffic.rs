//! The published targets: made from configuration and shares, kept in the store, and DNS reconciled towards them for
//! ever. A run moves a target and publishes it; the reconciler repairs whatever differs after that.

use crate::config_dir::Loaded;
use crate::coordinator::{Coordinator, Dns};
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_dns::provider::{
    Applied, BlockedReason, EmbeddedInstances, EmbeddedOptions, Instance, LaggingState, Observed,
    ProviderError, RecordSets,
};
use drover_dns::publish::Batch;
use drover_dns::zone::{DnsName, Member, RecordKey, RecordSet, RecordType};
use drover_model::api::DnsView;
use drover_model::config::{self, Service, version_of};
use drover_model::traffic::TrafficState;
use drover_model::{Epoch, ServiceId};
use std::sync::Arc;
use std::time::Duration;

/// Owner of every record set that drover publishes.
pub const OWNER: &str = "drover";
/// How often DNS is compared with the targets when nothing asked for it.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// TTL on the wire: whole seconds, rounded up, at least one.
#[must_use]
pub fn ttl_seconds(service: &Service) -> u32 {
    u32::try_from(service.ttl.as_millis().div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
}

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

/// Digest of the parts of a service's configuration that its record set is made from.
fn published_from(service: &Service) -> String {
    let endpoints: Vec<_> =
        service.endpoints.values().map(|e| (&e.region, &e.address, e.weight, e.priority)).collect();
    version_of(&(&service.dns_name, service.record_type, ttl_seconds(service), endpoints))
}

fn from_key(service: &ServiceId) -> String {
    format!("published-from/{service}")
}

impl Coordinator {
    /// Makes the provider of the configuration in force.
    pub(crate) fn connect_dns(&self) {
        let loaded = self.loaded();
        let provider = loaded.config.settings.dns.as_ref().and_then(|dns| {
            let instances = dns
                .instances
                .iter()
                .map(|i| Instance { name: i.name.clone(), control: i.control, query: i.query })
                .collect();
            let provider = EmbeddedInstances::new(instances, EmbeddedOptions::default()).ok()?;
            Some(Dns { provider: Arc::new(provider) as Arc<dyn RecordSets>, zone: dns.zone.clone() })
        });
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
        let now = self.clock.now();
        let digest = published_from(service);
        let key = keys::traffic(&service.name);
        let standing = self.db.get::<TrafficState>(&key).await?.map(|(t, _)| t);
        let known = self.db.get::<String>(&from_key(&service.name)).await?.map(|(d, _)| d);
        let next = match standing {
            None => drover_core::targets::initial_traffic(service, now),
            Some(_) if known.as_ref() == Some(&digest) => return Ok(()),
            Some(state) => match drover_core::targets::retarget(&state, service, now) {
                Ok(Some(next)) => next,
                // Same weights, but other addresses or another TTL: a new version all the same.
                Ok(None) => TrafficState { generation: state.generation.next(), changed_at: now, ..state },
                Err(dark) => {
                    tracing::error!(service = %service.name, "the old target stays: {dark}");
                    return Ok(());
                }
            },
        };
        let txn = self.db.put_op(self.db.fenced(), &key, &next)?;
        let txn = self.db.put_op(txn, &from_key(&service.name), &digest)?;
        self.db.commit(&format!("set the target of {}", service.name), txn).await?;
        self.live().traffic.insert(service.name.clone(), next);
        Ok(())
    }

    /// Reconciles until told to stop.
    pub(crate) async fn run_reconciler(self: Arc<Self>) {
        let mut tick = tokio::time::interval(RECONCILE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.reconcile_wake.notified() => {}
            }
            let Some(provider) = self.dns() else { continue };
            match self.reconcile(&*provider).await {
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

    async fn reconcile(&self, provider: &dyn RecordSets) -> Result<(), ProviderError> {
        let loaded = self.loaded();
        let keys: Vec<RecordKey> = loaded.config.services.values().filter_map(record_key).collect();
        let observed = provider.observe(&keys).await?;
        // Targets are read after DNS: a run that moves one in between makes DNS look behind, never ahead.
        let desired = self.desired(&loaded);
        let diff = provider.diff(&desired, &observed);
        self.note_dns(&loaded, &observed, &diff.blocked.iter().map(blocked_sentence).collect::<Vec<_>>());
        if diff.changes.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            epoch: self.db.epoch(),
            idempotency_key: format!("reconcile-{}-{}", self.db.epoch(), version_of(&diff.changes)),
            changes: diff.changes,
        };
        match provider.apply(&batch).await {
            Ok(Applied::Changed(c)) => {
                tracing::info!(instances = ?c.instances, "DNS brought up to the targets")
            }
            Ok(Applied::Unchanged(_)) => {}
            // A run published in between: the next round sees its state.
            Err(ProviderError::Conflict { .. }) => self.reconcile_wake.notify_one(),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn desired(&self, loaded: &Loaded) -> Vec<RecordSet> {
        let live = self.live();
        loaded
            .config
            .services
            .values()
            .filter_map(|s| live.traffic.get(&s.name).map(|t| record_set(s, t, self.db.epoch())))
            .collect()
    }

    fn note_dns(&self, loaded: &Loaded, observed: &[Observed], blocked: &[String]) {
        let now = self.clock.now();
        let Some(dns) = loaded.config.settings.dns.as_ref() else { return };
        let views = dns
            .instances
            .iter()
            .map(|i| {
                let mut view = DnsView {
                    instance: i.name.clone(),
                    query: i.query.to_string(),
                    reachable: true,
                    behind: blocked.to_vec(),
                    checked_at: Some(now),
                };
                for o in observed {
                    match o.lagging.iter().find(|l| l.instance == i.name).map(|l| &l.state) {
                        Some(LaggingState::NotReached { .. }) => view.reachable = false,
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
            .instances
            .iter()
            .map(|i| DnsView {
                instance: i.name.clone(),
                query: i.query.to_string(),
                reachable: false,
                behind: vec![error.to_string()],
                checked_at: Some(now),
            })
            .collect();
        self.live().dns_views = views;
    }
}

fn blocked_sentence(b: &drover_dns::provider::Blocked) -> String {
    let why = match &b.reason {
        BlockedReason::Invalid { detail } => detail.clone(),
        BlockedReason::NotObserved => "not observed".to_owned(),
        BlockedReason::Overtaken => "a later generation is live".to_owned(),
        BlockedReason::Drifted => "it was changed by hand".to_owned(),
        BlockedReason::OwnedByOther => "it belongs to somebody else".to_owned(),
    };
    format!("{} {} can't be published: {why}", b.desired.name, b.desired.rtype)
}
