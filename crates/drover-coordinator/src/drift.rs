//! What a hand changed in DNS and left so: put back, where the settings say so (`dns.drift: repair`), by the same path as a person's
//! adoption.
//!
//! It is an automatic act: a freeze stops it, a run that is not over keeps it from its services, and where hands changed more than may
//! change unasked (`dns.velocity`) nothing is put back, because then somebody moved traffic on purpose. One record set a round, so that no decision
//! waits for more than that.

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use crate::outbox::NewPage;
use crate::reconciler::Compared;
use crate::source::{Source, by_record};
use crate::zone::{next_generation, version};
use drover_dns::provider::{Blocked, BlockedReason, Gate, ProviderError, Right};
use drover_dns::publish::Change;
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::api::Severity;
use drover_model::config::{DnsSettings, DriftPolicy};
use drover_model::decision::VerdictState;
use drover_model::traffic::{Actor, TargetOrigin, TrafficState};
use drover_model::units::Generation;
use drover_model::{EndpointKey, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;

/// Values of it that a page tells, at most: a geography has thousands.
const VALUES_TOLD: usize = 16;

/// A record set that a hand changed, as it has been since.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drift {
    seen: RecordSet,
    since: Timestamp,
}

/// What would put one back.
struct Repair<'l> {
    source: Source<'l>,
    drift: Drift,
    change: Change,
}

impl Coordinator {
    /// When a service's record set is put back, where it drifted and that is the policy.
    pub(crate) fn put_back_at(&self, service: &ServiceId) -> Option<Timestamp> {
        let loaded = self.loaded();
        let dns = loaded.config.settings.dns.as_ref().filter(|dns| dns.drift == DriftPolicy::Repair)?;
        let is_frozen = self.is_frozen(self.clock.now());
        self.live().drifted.get(service).filter(|_| !is_frozen).map(|drift| drift.since + dns.drift_hold)
    }

    fn is_frozen(&self, now: Timestamp) -> bool {
        self.freeze_in_force(&self.live(), now).is_some_and(|f| f.holds_at(now))
    }

    /// Notes what drifted, and puts one of it back that stood for its time.
    pub(crate) async fn mend_drift(
        &self,
        gate: &Gate,
        compared: &Compared<'_>,
        dns: &DnsSettings,
    ) -> Result<(), ProviderError> {
        let now = self.clock.now();
        self.note_drift(compared, now);
        // While anything may be failing decisions come first, and a hand may be what keeps a service alive.
        if dns.drift == DriftPolicy::Report || self.is_frozen(now) || !self.live().suspects.is_empty() {
            return Ok(());
        }
        // No run begins meanwhile. Who holds it now is served first; the next round is soon.
        let Ok(_admission) = self.admission.try_lock() else { return Ok(()) };
        let due = self.due(compared, dns.drift_hold, now);
        let Some(first) = due.first() else { return Ok(()) };
        // All of them are counted before the first is put back.
        let changes: Vec<Change> = due.iter().map(|repair| repair.change.clone()).collect();
        gate.would_admit(&changes, &compared.observed, Right::Unattended(dns.velocity))?;
        if let Err(e) = self.put_back(first, now).await {
            tracing::error!(error = &e as &dyn std::error::Error, "can't tell what was put back");
        }
        Ok(())
    }

    fn note_drift(&self, compared: &Compared<'_>, now: Timestamp) {
        let mut live = self.live();
        let before = std::mem::take(&mut live.drifted);
        for (source, seen) in drifted(compared) {
            let known = before.get(source.name()).filter(|drift| drift.seen == *seen).cloned();
            let drift = known.unwrap_or_else(|| Drift { seen: seen.clone(), since: now });
            live.drifted.insert(source.name().clone(), drift);
        }
    }

    fn due<'l>(&self, compared: &Compared<'l>, hold: Span, now: Timestamp) -> Vec<Repair<'l>> {
        let noted = self.live().drifted.clone();
        let active = self.runs.active();
        let is_free = |name: &ServiceId| active.iter().all(|run| !run.services.contains(name));
        let due = drifted(compared).into_iter().filter_map(|(source, seen)| {
            let drift = noted.get(source.name()).filter(|drift| now.since(drift.since) >= hold)?;
            let target = compared.targets.of(source).filter(|_| is_free(source.name()))?;
            // What the velocity holds back is not published by way of a repair.
            if !self.is_well(source) || target.is_unasked_beyond(Generation(seen.generation)) {
                return None;
            }
            let generation = next_generation(Some(seen), target);
            let origin = TargetOrigin::Adoption;
            let next = TrafficState { generation, origin, decided: generation, ..target.clone() };
            let change = Change::Put {
                expected_generation: Some(seen.generation),
                record_set: source.record_set(&next, self.db.epoch()),
                take_over: true,
            };
            Some(Repair { source, drift: drift.clone(), change })
        });
        due.collect()
    }

    /// Is each of its endpoints found healthy? Else the target may send traffic where nobody answers, and the hand may have mended that.
    /// What no traffic moves has none.
    fn is_well(&self, source: Source<'_>) -> bool {
        let Source::Service(service) = source else { return true };
        let live = self.live();
        service.endpoints.keys().all(|region| {
            let standing = live.standing.get(&EndpointKey::new(&service.name, region));
            standing.is_some_and(|standing| standing.verdict.state == VerdictState::Healthy)
        })
    }

    /// Puts one back, and tells.
    async fn put_back(&self, repair: &Repair<'_>, now: Timestamp) -> Result<(), CoordinatorError> {
        let Repair { source, drift: Drift { seen, since }, .. } = repair;
        let name = source.name();
        let reason = format!("changed by hand, and so for {}", now.since(*since));
        let done = self.adopted(name, Some(&version(seen))).await;
        let outcome = match &done {
            Ok(done) => done.sentence.clone(),
            Err(e) => format!("refused: {}", e.0.detail),
        };
        self.audit(&Actor::Automatic, "dns repair", name.as_str(), &reason, &outcome).await?;
        if done.is_err() {
            // As if it were new: the next attempt has its own time.
            if let Some(drift) = self.live().drifted.get_mut(name) {
                drift.since = now;
            }
            return Ok(());
        }
        let answered: Vec<String> =
            seen.members.iter().take(VALUES_TOLD).map(|m| format!("{} {}", m.value, m.weight)).collect();
        let what = format!("{} {}", seen.name, seen.rtype);
        let answered = answered.join(", ");
        self.page(NewPage {
            key: format!("dns-repair/{}/{}/{}", name, seen.generation, since.as_millis()),
            severity: Severity::Warning,
            subject: name.to_string(),
            message: format!("{what} was {reason}, and is put back (`dns.drift`). By hand it was {answered}"),
            next: Some(format!("drover dns history {}", name)),
        })
        .await
    }
}

/// What of it a hand changed, with what is live.
fn drifted<'c, 'l>(compared: &'c Compared<'l>) -> Vec<(Source<'l>, &'c RecordSet)> {
    if compared.diff.blocked.is_empty() {
        return vec![];
    }
    let sources: BTreeMap<RecordKey, Source<'l>> = by_record(compared.sources.iter().copied());
    let one = |blocked: &'c Blocked| {
        let source = sources.get(&blocked.desired.key()?)?;
        let live = blocked.current.as_ref().filter(|_| blocked.reason == BlockedReason::Drifted)?;
        Some((*source, live))
    };
    compared.diff.blocked.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::db::keys;
    use crate::outbox::PageRecord;
    use crate::testbed::{Bed, GUARD, PlayedDns, person};
    use crate::zone::tests::{of, published, reconcile, record};
    use drover_model::api::RecordState;
    use drover_model::decision::Verdict;
    use drover_model::plan::StandingVerdict;
    use drover_model::reason::Reason;
    use drover_model::traffic::Freeze;
    use std::time::Duration;

    fn policy(bed: &Bed, drift: DriftPolicy, drift_hold: Span) {
        bed.rewrite(|c| {
            let dns = c.settings.dns.as_mut().unwrap();
            (dns.drift, dns.drift_hold) = (drift, drift_hold);
        });
    }

    /// Every endpoint of a service is found so.
    fn found(bed: &Bed, service: &str, state: VerdictState) {
        let loaded = bed.c.loaded();
        let service = &loaded.config.services[&service.parse::<ServiceId>().unwrap()];
        for region in service.endpoints.keys() {
            let verdict = Verdict {
                state,
                failing: 0,
                unconfirmed: 0,
                healthy: 3,
                abstaining: 0,
                configured: 3,
                need: 2,
                suspect: false,
                reason: Reason::SeenHealthy { healthy: 3, configured: 3 },
            };
            let standing = StandingVerdict { verdict, since: bed.c.clock.now(), recent_changes: vec![] };
            bed.c.live().standing.insert(EndpointKey::new(&service.name, region), standing);
        }
    }

    async fn drifted(drift: DriftPolicy, hold: Span) -> (Bed, std::sync::Arc<PlayedDns>, RecordSet) {
        let (bed, dns) = published().await;
        for service in ["checkout", "catalog"] {
            found(&bed, service, VerdictState::Healthy);
        }
        policy(&bed, drift, hold);
        bed.c.reload_now().await.unwrap();
        let mut by_hand = of(&dns, "checkout");
        by_hand.members[0].value = "192.0.2.99".into();
        dns.change_by_hand(by_hand.clone());
        reconcile(&bed).await;
        (bed, dns, by_hand)
    }

    /// Rounds of the reconciler until it is as it should be.
    async fn until_in_line(bed: &Bed) {
        let rounds = async {
            while record(bed, "checkout").await.state != RecordState::InLine {
                tokio::time::sleep(Duration::from_millis(1)).await;
                reconcile(bed).await;
            }
        };
        tokio::time::timeout(GUARD, rounds).await.expect("it is put back");
    }

    /// A round after the hold has surely passed.
    async fn a_round_later(bed: &Bed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        reconcile(bed).await;
    }

    const SOON: Span = Span::from_millis(1);

    #[tokio::test]
    async fn what_stood_for_its_time_is_put_back_audited_and_told() {
        let (bed, dns, by_hand) = drifted(DriftPolicy::Repair, Span::from_hours(1)).await;
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "its time is not over");
        let sentence = record(&bed, "checkout").await.sentence.unwrap();
        assert!(sentence.contains("it is put back at 20"), "{sentence}");
        policy(&bed, DriftPolicy::Repair, SOON);
        bed.c.reload_now().await.unwrap();
        until_in_line(&bed).await;
        assert_ne!(of(&dns, "checkout").members[0].value, "192.0.2.99");
        let audit = bed.c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap();
        let repairs: Vec<_> = audit.iter().filter(|(_, r)| r.verb == "dns repair").collect();
        assert_eq!((repairs.len(), &repairs[0].1.by), (1, &Actor::Automatic));
        let pages = bed.c.db.list::<PageRecord>(keys::OUTBOX).await.unwrap();
        let page = pages.iter().find(|(_, p)| p.key.starts_with("dns-repair/checkout/")).unwrap();
        assert!(page.1.message.contains("192.0.2.99 "), "{}", page.1.message);
        assert_eq!(record(&bed, "catalog").await.wanted.generation, 1, "nothing else moved");
    }

    #[tokio::test]
    async fn a_hand_that_is_not_done_begins_the_hold_anew() {
        let (bed, dns, mut by_hand) = drifted(DriftPolicy::Repair, Span::from_hours(1)).await;
        let first = bed.c.put_back_at(&"checkout".parse().unwrap()).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        reconcile(&bed).await;
        assert_eq!(bed.c.put_back_at(&"checkout".parse().unwrap()), Some(first));
        by_hand.members[0].weight += 1;
        dns.change_by_hand(by_hand);
        reconcile(&bed).await;
        assert!(bed.c.put_back_at(&"checkout".parse().unwrap()).unwrap() > first);
    }

    #[tokio::test]
    async fn nothing_is_put_back_where_it_is_reported_frozen_or_somebody_elses() {
        let (bed, dns, by_hand) = drifted(DriftPolicy::Report, SOON).await;
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "reported");

        policy(&bed, DriftPolicy::Repair, SOON);
        bed.c.reload_now().await.unwrap();
        let since = bed.c.clock.now();
        bed.c.live().freeze = Some(Freeze { by: person(), reason: "a test".into(), since, expires_at: None });
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "frozen");

        bed.c.live().freeze = None;
        found(&bed, "checkout", VerdictState::Down);
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "it may be what keeps the service alive");
        found(&bed, "checkout", VerdictState::Healthy);
        bed.c.live().suspects.insert("catalog@eu-west".parse().unwrap());
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "something else may be failing");
        bed.c.live().suspects.clear();
        let theirs = RecordSet { owner: "terraform".into(), ..by_hand };
        dns.change_by_hand(theirs.clone());
        a_round_later(&bed).await;
        a_round_later(&bed).await;
        assert_eq!(of(&dns, "checkout"), theirs, "somebody else's");
    }

    #[tokio::test]
    async fn where_hands_changed_more_than_may_change_unasked_nothing_is_put_back() {
        let (bed, dns, by_hand) = drifted(DriftPolicy::Repair, SOON).await;
        bed.rewrite(|c| c.settings.dns.as_mut().unwrap().velocity.at_least = 1);
        bed.c.reload_now().await.unwrap();
        let mut other = of(&dns, "catalog");
        other.members[0].weight += 1;
        dns.change_by_hand(other.clone());
        // The first round notes the second, the next finds both due.
        bed.c.live().drifted.clear();
        a_round_later(&bed).await;
        a_round_later(&bed).await;
        assert_eq!((of(&dns, "checkout"), of(&dns, "catalog")), (by_hand, other));
        let attention = bed.c.status_view().attention;
        let told = attention.iter().find(|a| a.code == "dns_behind").unwrap();
        assert!(told.sentence.contains("1 of 2 may change unasked"), "{}", told.sentence);
    }
}
