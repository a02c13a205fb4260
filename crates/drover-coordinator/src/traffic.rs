//! The published targets: made from configuration and shares, kept in the store, and DNS reconciled towards them for
//! ever. A run moves a target and publishes it; the reconciler repairs whatever differs after that.

use crate::coordinator::{Coordinator, Dns};
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::source::{Source, first_target, sources};
use drover_core::plan::{ttl_seconds, whole_seconds};
use drover_core::weights::NeverDark;
use drover_dns::provider::{
    BatchSigner, BlockedReason, DynamicUpdates, EmbeddedInstances, EmbeddedOptions, Gate, HostedZone,
    Instance, ProviderError, RecordSets, WantedChecks, ZoneGenerations,
};
use drover_dns::publish::Change;
use drover_dns::zone::{AliasTarget, DnsName, Member, RecordKey, RecordSet, RecordType};
use drover_model::break_glass::HeldBy;
use drover_model::config::{
    ALIAS_TTL, Answering, DnsInstance, DnsServers, DnsSettings, Endpoint, Service, Split, version_of,
};
use drover_model::traffic::{TargetOrigin, TrafficState};
use drover_model::{Epoch, Timestamp};
use drover_store::Expect;
use std::sync::Arc;

/// Owner of every record set that drover publishes.
pub const OWNER: &str = "drover";

/// What a service is known by in DNS; nothing when its name is none.
#[must_use]
pub fn record_key(service: &Service) -> Option<RecordKey> {
    let name: DnsName = service.dns_name.parse().ok()?;
    Some(RecordKey::new(name, RecordType::from(service.record_type)))
}

/// The record set that a target asks for.
#[must_use]
pub fn record_set(service: &Service, target: &TrafficState, epoch: Epoch) -> RecordSet {
    RecordSet {
        name: service.dns_name.clone(),
        rtype: RecordType::from(service.record_type),
        ttl_seconds: kept_seconds(service),
        members: service
            .endpoints
            .values()
            .map(|e| Member {
                set_id: e.region.to_string(),
                value: value(e),
                weight: u16::from(target.weight(&e.region).0),
            })
            .collect(),
        generation: target.generation.0,
        epoch,
        owner: OWNER.to_owned(),
        note: String::new(),
        answering: service.answering,
    }
}

/// What DNS says of an endpoint.
#[must_use]
pub fn value(endpoint: &Endpoint) -> String {
    let address = || endpoint.address.clone();
    let alias = endpoint.alias.as_ref().zip(DnsName::parse(&endpoint.address).ok());
    alias.map_or_else(address, |(alias, name)| {
        let (hosted_zone, evaluates_health) = (alias.hosted_zone.clone(), alias.evaluate_target_health);
        AliasTarget { hosted_zone, name, evaluates_health }.to_string()
    })
}

/// How long answers may be kept: of aliases alone as long as their targets'.
fn kept_seconds(service: &Service) -> u32 {
    if service.endpoints.values().all(|e| e.alias.is_some()) {
        return u32::try_from(ALIAS_TTL.as_millis() / 1_000).unwrap_or_default();
    }
    ttl_seconds(service)
}

/// Digest of the parts of a service's configuration that its record set is made from: first what its weights are
/// made from, after the slash what else DNS shows. A change of the latter alone must not derive the weights afresh,
/// because that would end a move of traffic that was narrowed on purpose.
fn published_from(service: &Service) -> String {
    let weights: Vec<_> = service.endpoints.values().map(|e| (&e.region, e.weight, e.priority)).collect();
    let addresses: Vec<_> = service.endpoints.values().map(|e| (&e.region, value(e))).collect();
    let shown = (&service.dns_name, service.record_type, ttl_seconds(service), addresses);
    // As it was before services could be answered otherwise: an upgrade publishes nothing anew.
    let shown = match service.answering {
        Answering::USUAL => version_of(&shown),
        answering => version_of(&(shown, answering)),
    };
    let weights = version_of(&weights);
    match service.split {
        Split::ByWeight => format!("{weights}/{shown}"),
        Split::Equally => format!("{weights}-equally/{shown}"),
    }
}

/// Digest of what a record set is made from.
fn made_from(source: Source<'_>) -> String {
    match source {
        Source::Service(service) => published_from(service),
        Source::Fixed(record) => version_of(record),
        Source::Geography(dns, ..) => version_of(&(&dns.zone, source.lines())),
    }
}

/// The target of what is seen for the first time.
fn first(source: Source<'_>, now: Timestamp) -> TrafficState {
    match source {
        Source::Service(service) => drover_core::targets::initial_traffic(service, now),
        Source::Fixed(_) | Source::Geography(..) => first_target(source.name(), now),
    }
}

/// The target that a source asks for, when it is another than `state`, which was made from `known`.
fn next_target(
    state: TrafficState,
    known: Option<&str>,
    source: Source<'_>,
    now: Timestamp,
) -> Result<Option<TrafficState>, NeverDark> {
    let digest = made_from(source);
    if known == Some(digest.as_str()) {
        return Ok(None);
    }
    let weights_of = |digest: &str| digest.split_once('/').map(|(weights, _)| weights.to_owned());
    let moved = match source {
        Source::Service(service) if known.and_then(weights_of) != weights_of(&digest) => {
            drover_core::targets::retarget(&state, service, now)?
        }
        Source::Service(_) | Source::Fixed(_) | Source::Geography(..) => None,
    };
    // Same weights, but other addresses or another TTL: a new version all the same.
    Ok(Some(moved.unwrap_or(TrafficState {
        generation: state.generation.next(),
        changed_at: now,
        origin: TargetOrigin::Configuration,
        ..state
    })))
}

/// The provider of a configuration's zone behind its gate, for whoever works without a coordinator: record sets follow the health checks
/// that they follow. Nothing where the configuration was let through with what it refuses.
#[must_use]
pub fn gate(dns: &DnsSettings) -> Option<Arc<Gate>> {
    provider(dns, &Arc::default(), None).map(|dns| dns.gate)
}

/// Nothing where the configuration was let through with what it refuses: no instance, or a zone that is no name.
fn provider(
    dns: &DnsSettings,
    generations: &Arc<ZoneGenerations>,
    checks: Option<&WantedChecks>,
) -> Option<Dns> {
    let provider: Arc<dyn RecordSets> = match &dns.servers {
        DnsServers::Embedded(own) => {
            let instance =
                |i: &DnsInstance| Instance { name: i.name.clone(), control: i.control, query: i.query };
            let instances = own.instances.iter().map(instance).collect();
            let ttl_floor_seconds = whole_seconds(own.ttl_floor);
            let refuses_clients = dns.refuses_clients();
            let options =
                EmbeddedOptions { ttl_floor_seconds, refuses_clients, ..EmbeddedOptions::default() };
            let instances = EmbeddedInstances::new(instances, options).ok()?;
            let zone = DnsName::parse(&dns.zone).ok()?;
            let signer = own.signing_key_file.clone().map(|key_file| BatchSigner {
                key_file,
                zone,
                generations: generations.clone(),
            });
            Arc::new(match signer {
                Some(signer) => instances.signed_by(signer),
                None => instances,
            })
        }
        DnsServers::Rfc2136(other) => {
            Arc::new(DynamicUpdates::new(DnsName::parse(&dns.zone).ok()?, other.clone()))
        }
        DnsServers::Route53(cloud) => {
            Arc::new(HostedZone::with_checks(DnsName::parse(&dns.zone).ok()?, cloud.clone(), checks.cloned()))
        }
    };
    let (gate, settings) = (Arc::new(Gate::new(provider)), dns.clone());
    Some(Dns { gate, settings, checks: checks.cloned() })
}

fn from_key(source: Source<'_>) -> String {
    match source {
        Source::Service(service) => format!("{}{}", keys::MADE_FROM, service.name),
        Source::Fixed(_) | Source::Geography(..) => format!("{}{}", keys::FIXED_MADE_FROM, source.name()),
    }
}

impl Coordinator {
    /// Makes the provider of the configuration in force. The one that there is goes on where nothing of it changed: it keeps
    /// the pace of its account, and what it knows of its zone.
    pub(crate) fn connect_dns(&self) {
        let loaded = self.loaded();
        let standing = self.dns.load();
        // Which pages speak of a region depends on where agents and endpoints stand, too.
        let checks = loaded.config.health_checks().map(|checks| WantedChecks::of(&loaded.config, checks));
        let made_from = |dns: &DnsSettings, checks: &Option<WantedChecks>| {
            (dns.zone.clone(), dns.servers.clone(), dns.refuses_clients(), checks.clone())
        };
        let standing = standing.as_ref().as_ref().map(|dns| made_from(&dns.settings, &dns.checks));
        if standing == loaded.config.settings.dns.as_ref().map(|dns| made_from(dns, &checks)) {
            return;
        }
        let provider = loaded
            .config
            .settings
            .dns
            .as_ref()
            .and_then(|dns| provider(dns, &self.zone_generations, checks.as_ref()));
        self.dns.store(Arc::new(provider));
        self.checks_wake.notify_one();
    }

    /// Brings every target up to the configuration in force: new services, changed weights, addresses, TTLs.
    ///
    /// # Errors
    /// When the store fails or this coordinator no longer leads.
    pub(crate) async fn retarget_all(&self) -> Result<(), CoordinatorError> {
        let loaded = self.loaded();
        for source in sources(&loaded.config) {
            self.retarget(source).await?;
        }
        self.reconcile_wake.notify_one();
        Ok(())
    }

    /// What can't be read is left as DNS has it: nobody knows what it was to be.
    async fn retarget(&self, source: Source<'_>) -> Result<(), CoordinatorError> {
        match self.retarget_readable(source).await {
            Err(e) if e.is_of_one_record() => {
                tracing::warn!(service = %source.name(), error = &e as &dyn std::error::Error, "its target stays as it is");
                Ok(())
            }
            done => done,
        }
    }

    async fn retarget_readable(&self, source: Source<'_>) -> Result<(), CoordinatorError> {
        // A move of many services takes several transactions: a target that changed between two would make it fail half
        // way, and what it published must not be overwritten with older shares.
        let _one_at_a_time = self.shifting.lock().await;
        let key = source.target_path();
        let what = format!("set the target of {}", source.name());
        let now = self.clock.now();
        let standing = self.db.get_placed::<TrafficState>(&key).await?;
        let known = self.db.get::<String>(&from_key(source)).await?.map(|(d, _)| d);
        let (expect, next) = match standing {
            None => (Expect::Absent, first(source, now)),
            Some((state, revision)) => match next_target(state, known.as_deref(), source, now) {
                Ok(Some(next)) => (Expect::ModRevision(revision), next),
                Ok(None) => return Ok(()),
                Err(dark) => {
                    tracing::error!(service = %source.name(), "the old target stays: {dark}");
                    return Ok(());
                }
            },
        };
        let txn = self.db.put_op(self.db.fenced().expect(&key, expect), &key, &next)?;
        let txn = self.db.put_op(txn, &from_key(source), &made_from(source))?;
        if self.db.commit(&what, txn).await?.is_none() {
            return Err(CoordinatorError::store(what, "it was changed at the same moment"));
        }
        self.keep_target(source, next);
        Ok(())
    }

    /// Remembers what the store has.
    pub(crate) fn keep_target(&self, source: Source<'_>, target: TrafficState) {
        let mut live = self.live();
        let targets = match source {
            Source::Service(_) => &mut live.traffic,
            Source::Fixed(_) | Source::Geography(..) => &mut live.fixed,
        };
        targets.insert(source.name().clone(), target);
    }
}

/// What is left of changes that were refused together: a provider may have made those that it could.
///
/// # Errors
/// When DNS can't be read.
pub(crate) async fn still_to_do(gate: &Gate, changes: &[Change]) -> Result<Vec<Change>, ProviderError> {
    let desired: Vec<RecordSet> = changes.iter().filter_map(Change::put).cloned().collect();
    let keys: Vec<RecordKey> = desired.iter().filter_map(RecordSet::key).collect();
    let observed = gate.observe(&keys).await?;
    Ok(gate.diff(&desired, &observed).changes)
}

/// Who holds it by break-glass, where somebody does.
pub(crate) fn held_by(b: &drover_dns::provider::Blocked) -> Option<HeldBy> {
    let is_others = b.reason == BlockedReason::OwnedByOther;
    b.current.as_ref().filter(|_| is_others).and_then(|live| HeldBy::of_owner(&live.owner))
}

pub(crate) fn blocked_sentence(b: &drover_dns::provider::Blocked) -> String {
    let why = match &b.reason {
        BlockedReason::Invalid { detail } => detail.clone(),
        BlockedReason::NotObserved => "not observed".to_owned(),
        BlockedReason::Overtaken => "a later generation is live".to_owned(),
        BlockedReason::Drifted => "it was changed by hand".to_owned(),
        BlockedReason::OwnedByOther => match held_by(b) {
            Some(held_by) => format!("{held_by} holds it by break-glass"),
            None => "it belongs to somebody else".to_owned(),
        },
    };
    format!("{} {} can't be published: {why}", b.desired.name, b.desired.rtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::config::decode::{self, SourceFile};
    use drover_model::{ServiceId, Weight};

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
        assert_eq!(next_target(state.clone(), Some(&known), Source::Service(&service), now).unwrap(), None);

        service.ttl = service.ttl.times(2);
        service.endpoints.values_mut().for_each(|e| e.address = "127.9.9.9".into());
        let next = next_target(state.clone(), Some(&known), Source::Service(&service), now).unwrap().unwrap();
        assert_eq!((next.weights, next.generation), (state.weights.clone(), state.generation.next()));

        service.endpoints.values_mut().for_each(|e| e.weight = Some(10));
        let next = next_target(state.clone(), Some(&known), Source::Service(&service), now).unwrap().unwrap();
        assert_ne!(next.weights, state.weights, "weights were changed on purpose");
    }

    #[test]
    fn an_alias_target_is_published_in_place_of_the_name_that_is_probed() {
        let mut service = service();
        let known = published_from(&service);
        let alias =
            drover_model::config::Route53Alias { hosted_zone: "Z1".into(), evaluate_target_health: false };
        for (number, endpoint) in service.endpoints.values_mut().enumerate() {
            endpoint.address = format!("lb-{number}.example.org");
            endpoint.alias = Some(alias.clone());
        }
        let state = drover_core::targets::initial_traffic(&service, Timestamp::from_millis(0));
        let set = record_set(&service, &state, Epoch { incarnation: 1, counter: 1 });
        assert_eq!((set.members[0].value.as_str(), set.ttl_seconds), ("alias lb-0.example.org (Z1)", 60));
        // Another flag is another record, and moves nobody.
        let (weights, shown) = known.split_once('/').unwrap();
        let after = published_from(&service);
        let (weights_after, shown_after) = after.split_once('/').unwrap();
        assert!(weights == weights_after && shown != shown_after);
    }
}
