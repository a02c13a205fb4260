//! Publishing: what stands in the store goes to DNS, and DNS is asked whether it is so.

use super::failed;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::fault;
use crate::traffic::{record_key, record_set};
use drover_dns::provider::{ProviderError, RecordSets, Verification};
use drover_dns::publish::{Batch, CHANGES_PER_BATCH_MAX, Change};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure};
use drover_model::plan::TrafficChange;
use drover_model::traffic::TrafficState;
use drover_model::{Epoch, ServiceId};
use futures::stream::{StreamExt, TryStreamExt};

/// Questions asked at the same time: enough that a hundred services take a few round trips, few enough not to flood
/// a server.
pub(super) const ASKED_AT_ONCE: usize = 32;

/// A service that was planned for and is configured no longer: nothing can be published for it.
pub(super) fn gone(service: &ServiceId) -> StepFailure {
    failed(FailureNature::Permanent, format!("{service} is not configured any more"))
}

/// Publishes what stands in the store for these services and asks DNS whether it is so.
pub(super) async fn publish(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<(), StepFailure> {
    let Some(provider) = c.dns() else {
        return Err(failed(
            FailureNature::Permanent,
            "no DNS server is configured, so weights can't be published",
        ));
    };
    let loaded = c.loaded();
    let mut desired = Vec::new();
    let mut missing = None;
    for change in changes {
        let Some(service) = loaded.config.services.get(&change.service) else {
            missing = Some(gone(&change.service));
            continue;
        };
        let standing = c.db.get::<TrafficState>(&keys::traffic(&change.service)).await;
        if let Some((target, _)) = standing.map_err(super::store_failure)? {
            desired.push((record_key(service), record_set(service, &target, order.epoch)));
        }
    }
    let keys: Vec<_> = desired.iter().filter_map(|(k, _)| k.clone()).collect();
    let sets: Vec<_> = desired.iter().map(|(_, s)| s.clone()).collect();
    let observed = provider.observe(&keys).await.map_err(|e| provider_failure(&e))?;
    let diff = provider.diff(&sets, &observed);
    if let Some(blocked) = diff.blocked.first() {
        let message = format!("{} can't be published: {:?}", blocked.desired.name, blocked.reason);
        return Err(failed(FailureNature::Retryable, message));
    }
    if !diff.changes.is_empty() {
        apply(&*provider, order.epoch, &order.key, &diff.changes).await?;
    }
    // Also where the reconciler was first: DNS has it, and the step's end is not written yet.
    fault::point(|| fault::within("after-publish", order));
    let sets: Vec<_> = desired.into_iter().filter_map(|(k, s)| Some((k?, s))).collect();
    all_verified(&*provider, &sets).await?;
    c.reconcile_wake.notify_one();
    missing.map_or(Ok(()), Err)
}

/// Makes the changes live: all at once where one batch takes them. Of more, an attempt that fails half way has some live,
/// and the next sees which.
async fn apply(
    provider: &dyn RecordSets,
    epoch: Epoch,
    key: &str,
    changes: &[Change],
) -> Result<(), StepFailure> {
    for (number, some) in changes.chunks(CHANGES_PER_BATCH_MAX).enumerate() {
        let idempotency_key = if number == 0 { key.to_owned() } else { format!("{key}/{number}") };
        let batch = Batch { epoch, idempotency_key, changes: some.to_vec() };
        provider.apply(&batch).await.map_err(|e| provider_failure(&e))?;
    }
    Ok(())
}

/// As [`verified`], of many at once; one sentence each, in order. The first that fails ends it.
pub(super) async fn all_verified(
    provider: &dyn RecordSets,
    sets: &[(RecordKey, RecordSet)],
) -> Result<Vec<String>, StepFailure> {
    let questions: Vec<_> = sets.iter().map(|(key, set)| verified(provider, key, set)).collect();
    futures::stream::iter(questions).buffered(ASKED_AT_ONCE).try_collect().await
}

/// Every server that could be asked answers as expected; at least one could.
async fn verified(
    provider: &dyn RecordSets,
    key: &RecordKey,
    set: &RecordSet,
) -> Result<String, StepFailure> {
    match provider.verify(key, Some(set)).await {
        Ok(Verification::Verified { instances }) => {
            Ok(format!("{key}: {} answer generation {}", instances.join(", "), set.generation))
        }
        Ok(Verification::Partial { verified, missing }) => {
            let names: Vec<_> = missing.iter().map(|m| m.instance.as_str()).collect();
            Ok(format!(
                "{key}: {} answer generation {}, not reached: {}",
                verified.join(", "),
                set.generation,
                names.join(", ")
            ))
        }
        Ok(Verification::Mismatch { mismatches, .. }) => {
            let first =
                mismatches.first().map(|m| format!("{}: {}", m.instance, m.found)).unwrap_or_default();
            Err(failed(FailureNature::Retryable, format!("{key} is not answered as published: {first}")))
        }
        Err(e) => Err(provider_failure(&e)),
    }
}

fn provider_failure(e: &ProviderError) -> StepFailure {
    let nature = match e {
        ProviderError::Fenced { .. } => FailureNature::Fenced,
        ProviderError::Refused { .. } => FailureNature::Permanent,
        ProviderError::Conflict { .. }
        | ProviderError::Unreachable { .. }
        | ProviderError::NotNow { .. }
        | ProviderError::Unclear { .. }
        | ProviderError::TimedOut { .. } => FailureNature::Retryable,
    };
    failed(nature, drover_model::chain(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, PlayedDns};
    use drover_model::config::Service;
    use std::sync::Arc;

    /// One more than a batch takes.
    const SERVICES: usize = CHANGES_PER_BATCH_MAX + 1;

    fn services(bed: &Bed) -> Vec<Service> {
        let one = bed.c.loaded().config.services.values().next().unwrap().clone();
        let zone = bed.c.loaded().config.settings.dns.as_ref().unwrap().zone.clone();
        (0..SERVICES)
            .map(|n| {
                let name = ServiceId::new(format!("service-{n:04}")).unwrap();
                Service { dns_name: format!("{name}.{zone}"), name, ..one.clone() }
            })
            .collect()
    }

    #[tokio::test]
    async fn more_changes_than_a_batch_takes_are_published_in_several() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let sets: Vec<RecordSet> = services(&bed)
            .iter()
            .map(|s| record_set(s, &drover_core::targets::initial_traffic(s, now), bed.c.db.epoch()))
            .collect();
        let keys: Vec<RecordKey> = services(&bed).iter().filter_map(record_key).collect();
        let dns = PlayedDns::default();
        let observed = dns.observe(&keys).await.unwrap();
        let changes = dns.diff(&sets, &observed).changes;
        assert_eq!(changes.len(), SERVICES);
        apply(&dns, bed.c.db.epoch(), "run-1/shift", &changes).await.unwrap();
        assert_eq!(dns.live().len(), SERVICES);
        assert_eq!(dns.batches(), ["run-1/shift", "run-1/shift/1"]);
    }

    #[tokio::test]
    async fn the_reconciler_takes_more_changes_than_a_batch_to_dns_and_leaves_out_what_is_refused() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let mut loaded = crate::config_dir::Loaded::clone(&bed.c.loaded());
        let config = Arc::make_mut(&mut loaded.config);
        config.services = services(&bed).into_iter().map(|s| (s.name.clone(), s)).collect();
        bed.c.live().traffic = config
            .services
            .values()
            .map(|s| (s.name.clone(), drover_core::targets::initial_traffic(s, now)))
            .collect();
        let refused = config.services.values().next_back().unwrap().dns_name.clone();
        bed.c.loaded.store(Arc::new(loaded));
        let dns = PlayedDns::default();
        dns.refuse(&refused);
        bed.c.reconcile(&dns).await.unwrap();
        let live = dns.live();
        assert_eq!(live.len(), SERVICES - 1);
        assert!(live.iter().all(|set| set.name != refused));
    }
}
