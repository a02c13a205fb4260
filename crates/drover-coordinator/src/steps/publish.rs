//! Publishing: what stands in the store goes to DNS, and DNS is asked whether it is so.

use super::failed;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::fault;
use crate::partial::names;
use crate::traffic::{blocked_sentence, held_by, record_key, record_set, still_to_do};
use drover_dns::provider::{
    Admitted, Blocked, BlockedReason, Diff, Gate, Observed, ProviderError, Right, Verification,
};
use drover_dns::publish::{Batch, Change, FenceReason};
use drover_dns::zone::{DnsName, RecordKey, RecordSet};
use drover_exec::Order;
use drover_model::journal::{FailureNature, StepFailure};
use drover_model::plan::TrafficChange;
use drover_model::traffic::TrafficState;
use drover_model::{Epoch, ServiceId};
use futures::stream::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;

/// Questions asked at the same time: enough that a hundred services take a few round trips, few enough not to flood
/// a server.
pub(crate) const ASKED_AT_ONCE: usize = 32;

/// A service that was planned for and is configured no longer: nothing can be published for it.
pub(super) fn gone(service: &ServiceId) -> StepFailure {
    failed(FailureNature::Permanent, format!("{service} is not configured any more"))
}

/// What stands in the store for some services, beside what is live.
struct Compared {
    desired: Vec<(RecordKey, RecordSet)>,
    observed: Vec<Observed>,
    diff: Diff,
    /// A service that is not configured any more.
    missing: Option<StepFailure>,
}

/// What came of publishing.
pub(super) struct Published {
    /// Somebody else's work: it stops what concerns it, and nothing that concerns the others.
    pub(super) left_alone: Vec<Blocked>,
    /// The servers that could not be told or asked.
    pub(super) missing: BTreeSet<String>,
}

/// Publishes what stands in the store for these services and asks DNS whether it is so.
pub(super) async fn publish(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<Published, StepFailure> {
    let Some(gate) = c.dns() else {
        return Err(failed(
            FailureNature::Permanent,
            "no DNS server is configured, so weights can't be published",
        ));
    };
    let mut not_told = BTreeSet::new();
    let Compared { mut desired, observed, diff, missing } = compare(c, &gate, order.epoch, changes).await?;
    if !diff.changes.is_empty() {
        let right = Right::Planned { record_sets: order.plan.services.len() };
        let admitted = gate.admit(&diff.changes, &observed, right);
        let admitted = admitted.map_err(|e| provider_failure(&e.into()))?;
        not_told = apply(c, &gate, order.epoch, &order.key, &diff.changes, &admitted).await?;
    }
    // Also where the reconciler was first: DNS has it, and the step's end is not written yet.
    fault::point(|| fault::within("after-publish", order));
    desired.retain(|(key, _)| diff.blocked.iter().all(|blocked| !concerns(blocked, key)));
    let verified = all_verified(&gate, &desired).await?;
    c.reconcile_wake.notify_one();
    let missing = missing.map_or(Ok(not_told), Err)?;
    let not_asked = verified.into_iter().flat_map(|verified| verified.missing);
    Ok(Published { left_alone: diff.blocked, missing: missing.into_iter().chain(not_asked).collect() })
}

/// The record sets of these services that somebody else has changed or owns, before anything is published.
pub(super) async fn left_alone(
    c: &Coordinator,
    order: &Order,
    changes: &[TrafficChange],
) -> Result<Vec<Blocked>, StepFailure> {
    let Some(gate) = c.dns() else { return Ok(vec![]) };
    Ok(compare(c, &gate, order.epoch, changes).await?.diff.blocked)
}

async fn compare(
    c: &Coordinator,
    gate: &Gate,
    epoch: Epoch,
    changes: &[TrafficChange],
) -> Result<Compared, StepFailure> {
    let loaded = c.loaded();
    let (mut desired, mut missing) = (Vec::new(), None);
    for change in changes {
        let Some(service) = loaded.config.services.get(&change.service) else {
            missing = Some(gone(&change.service));
            continue;
        };
        let standing = c.db.get_placed::<TrafficState>(&keys::traffic(&change.service)).await;
        if let Some((target, _)) = standing.map_err(super::store_failure)? {
            desired.extend(record_key(service).zip(Some(record_set(service, &target, epoch))));
        }
    }
    let (keys, sets): (Vec<_>, Vec<_>) = desired.iter().cloned().unzip();
    let observe = async || gate.observe(&keys).await.map_err(|e| provider_failure(&e));
    let mut observed = observe().await?;
    let mut diff = gate.diff(&sets, &observed);
    if !diff.blocked.is_empty() {
        // Somebody may have mended it since the provider read it.
        let blocked = keys.iter().filter(|key| diff.blocked.iter().any(|b| concerns(b, key)));
        gate.forget(&blocked.cloned().collect::<Vec<_>>());
        observed = observe().await?;
        diff = gate.diff(&sets, &observed);
    }
    Ok(Compared { desired, observed, diff, missing })
}

/// Names may be spelled in other ways where a set is desired.
fn concerns(blocked: &Blocked, key: &RecordKey) -> bool {
    blocked.desired.rtype == key.rtype
        && blocked.desired.name.parse().is_ok_and(|name: DnsName| name == key.name)
}

/// The failure of a step that can't publish these; nothing where there are none.
pub(super) fn not_published(blocked: &[Blocked]) -> Option<StepFailure> {
    let first = blocked.first()?;
    let mut message = blocked_sentence(first);
    if blocked.len() > 1 {
        message.push_str(&format!(", nor can {} more", blocked.len() - 1));
    }
    let needs_a_person =
        |b: &Blocked| !matches!(b.reason, BlockedReason::NotObserved | BlockedReason::Invalid { .. });
    if !blocked.iter().any(needs_a_person) {
        return Some(failed(FailureNature::Retryable, message));
    }
    message.push_str(match held_by(first) {
        Some(_) => "; `drover break-glass reconcile FILE` gives it back to drover",
        None => "; `drover dns drift` shows what it is, `drover dns adopt` takes it",
    });
    Some(failed(FailureNature::Permanent, message))
}

/// Makes the changes live: all at once where one batch takes them. Of more, an attempt that fails half way has some live,
/// and the next sees which.
async fn apply(
    c: &Coordinator,
    gate: &Gate,
    epoch: Epoch,
    key: &str,
    changes: &[Change],
    admitted: &Admitted,
) -> Result<BTreeSet<String>, StepFailure> {
    let mut missing = BTreeSet::new();
    for (number, some) in changes.chunks(gate.capabilities().batch_changes_max).enumerate() {
        let idempotency_key = if number == 0 { key.to_owned() } else { format!("{key}/{number}") };
        let batch = Batch { epoch, idempotency_key, changes: some.to_vec() };
        match c.give(gate, &batch, admitted).await {
            Ok(applied) => missing.extend(names(&applied.coverage().missing)),
            // One that will never be taken must not keep the others from moving.
            Err(ProviderError::Refused { .. }) if some.len() > 1 => {
                missing.extend(apply_each(c, gate, &batch, admitted).await?);
            }
            Err(e) => return Err(provider_failure(&e)),
        }
    }
    Ok(missing)
}

/// What is left of it one by one, to the end; then the first refusal.
async fn apply_each(
    c: &Coordinator,
    gate: &Gate,
    batch: &Batch,
    admitted: &Admitted,
) -> Result<BTreeSet<String>, StepFailure> {
    let (mut refused, mut missing) = (None, BTreeSet::new());
    let left = still_to_do(gate, &batch.changes).await.map_err(|e| provider_failure(&e))?;
    c.keep_published_but(batch, &left, admitted);
    for (number, change) in left.iter().enumerate() {
        let idempotency_key = format!("{}/one-{number}", batch.idempotency_key);
        let one = Batch { epoch: batch.epoch, idempotency_key, changes: vec![change.clone()] };
        match c.give(gate, &one, admitted).await {
            Ok(applied) => missing.extend(names(&applied.coverage().missing)),
            Err(e @ ProviderError::Refused { .. }) => refused = refused.or(Some(e)),
            Err(e) => return Err(provider_failure(&e)),
        }
    }
    refused.map_or(Ok(missing), |e| Err(provider_failure(&e)))
}

/// That a record set is answered as it was published.
pub(super) struct Verified {
    /// By whom, in words.
    pub(super) sentence: String,
    /// The servers that could not be asked.
    pub(super) missing: BTreeSet<String>,
}

/// As [`verified`], of many at once, in order. The first that fails ends it.
pub(super) async fn all_verified(
    gate: &Gate,
    sets: &[(RecordKey, RecordSet)],
) -> Result<Vec<Verified>, StepFailure> {
    let questions: Vec<_> = sets.iter().map(|(key, set)| verified(gate, key, set)).collect();
    futures::stream::iter(questions).buffered(ASKED_AT_ONCE).try_collect().await
}

/// Every server that could be asked answers as expected; at least one could.
async fn verified(gate: &Gate, key: &RecordKey, set: &RecordSet) -> Result<Verified, StepFailure> {
    match gate.verify(key, Some(set)).await {
        Ok(Verification::Verified { instances }) => {
            let sentence = format!("{key}: {} answer generation {}", instances.join(", "), set.generation);
            Ok(Verified { sentence, missing: BTreeSet::new() })
        }
        Ok(Verification::Partial { verified, missing }) => {
            let missing = names(&missing);
            let sentence = format!(
                "{key}: {} answer generation {}, not reached: {}",
                verified.join(", "),
                set.generation,
                missing.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            );
            Ok(Verified { sentence, missing })
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
        // Of another store: no newer leader of this one drives the run. It waits for a person, as everything does until then.
        ProviderError::Fenced { reason: FenceReason::OtherIncarnation, .. } => FailureNature::Permanent,
        ProviderError::Fenced { .. } => FailureNature::Fenced,
        ProviderError::Refused { .. } | ProviderError::Withheld(_) => FailureNature::Permanent,
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
    use drover_dns::publish::CHANGES_PER_BATCH_MAX;
    use drover_model::config::Service;
    use std::sync::Arc;

    /// One more than a batch takes.
    const SERVICES: usize = CHANGES_PER_BATCH_MAX + 1;

    fn played() -> (Arc<PlayedDns>, Gate) {
        let dns = Arc::new(PlayedDns::default());
        (dns.clone(), Gate::new(dns))
    }

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
        let (dns, gate) = played();
        let observed = gate.observe(&keys).await.unwrap();
        let changes = gate.diff(&sets, &observed).changes;
        assert_eq!(changes.len(), SERVICES);
        let admitted = gate.admit(&changes, &observed, Right::Planned { record_sets: SERVICES }).unwrap();
        apply(&bed.c, &gate, bed.c.db.epoch(), "run-1/shift", &changes, &admitted).await.unwrap();
        assert_eq!(dns.live().len(), SERVICES);
        assert_eq!(dns.batches(), ["run-1/shift", "run-1/shift/1"]);
    }

    #[tokio::test]
    async fn of_what_was_refused_together_only_what_is_left_is_tried_one_by_one() {
        let bed = Bed::new().await;
        let now = bed.c.clock.now();
        let some = &services(&bed)[..20];
        let set =
            |s: &Service| record_set(s, &drover_core::targets::initial_traffic(s, now), bed.c.db.epoch());
        let sets: Vec<RecordSet> = some.iter().map(set).collect();
        let keys: Vec<RecordKey> = some.iter().filter_map(record_key).collect();
        // A provider may make what it can of a batch, or none of it.
        for (makes_the_rest, batches) in [(true, 1), (false, 19)] {
            let (dns, gate) = played();
            dns.refuse(&some[7].dns_name);
            dns.make_the_rest(makes_the_rest);
            let observed = gate.observe(&keys).await.unwrap();
            let changes = gate.diff(&sets, &observed).changes;
            let admitted = gate.admit(&changes, &observed, Right::Planned { record_sets: 20 }).unwrap();
            let applied = apply(&bed.c, &gate, bed.c.db.epoch(), "run-1/shift", &changes, &admitted);
            let refused = applied.await.unwrap_err();
            assert_eq!(refused.kind, FailureNature::Permanent, "{}", refused.message);
            assert_eq!((dns.live().len(), dns.batches().len()), (19, batches));
        }
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
        let (dns, gate) = played();
        dns.refuse(&refused);
        bed.c.reconcile(&gate).await.unwrap();
        let live = dns.live();
        assert_eq!(live.len(), SERVICES - 1);
        assert!(live.iter().all(|set| set.name != refused));
    }
}
