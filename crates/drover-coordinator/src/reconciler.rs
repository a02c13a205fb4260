//! The reconciler: DNS is brought to the targets for ever. What a run or a person decided is put whatever it is; what the
//! configuration alone changed has a velocity, and waits for a person above it.

use crate::config_dir::Loaded;
use crate::coordinator::Coordinator;
use crate::source::{Source, Targets, by_record, sources};
use crate::traffic::{blocked_sentence, held_by, still_to_do};
use drover_dns::provider::{
    Admitted, Applied, Diff, Gate, Lagging, LaggingState, Observed, ProviderError, Right, Withheld,
};
use drover_dns::publish::{Batch, Change, FenceReason, SigningKey};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::ServiceId;
use drover_model::api::DnsView;
use drover_model::config::{DnsServers, Draws, version_of};
use drover_model::traffic::TrafficState;
use drover_model::units::Generation;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two comparisons, however often they are asked for: each reads the whole zone.
const RECONCILE_PAUSE: Duration = Duration::from_secs(1);
/// How often DNS is compared with the targets when nothing asked for it.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// Pause after DNS showed something else than what was observed a moment ago: whoever changed it may not be done.
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

/// DNS beside the targets.
pub(crate) struct Compared<'l> {
    /// What has a target, each with what it wants in `desired`.
    pub(crate) sources: Vec<Source<'l>>,
    pub(crate) desired: Vec<RecordSet>,
    /// What each of them is made from.
    pub(crate) targets: Targets,
    pub(crate) observed: Vec<Observed>,
    pub(crate) diff: Diff,
}

/// What is to change, by who decided it.
#[derive(Default)]
struct ByOrigin {
    /// Runs and persons; and what nobody sees: new names, and servers that missed a version.
    decided: Vec<Change>,
    /// Nobody: the configuration changed. With the target's generation.
    unasked: Vec<Change>,
    services: BTreeMap<ServiceId, Generation>,
    /// What is live of these, once more for the servers that missed it, should it have to stay.
    standing: Vec<Change>,
}

impl Compared<'_> {
    /// The services whose record set is as it should be, with its generation.
    fn in_line(&self) -> BTreeMap<ServiceId, Generation> {
        let sources = by_record(self.sources.iter().copied());
        let named = self.diff.in_sync.iter().filter_map(|key| sources.get(key));
        let at = |source: &Source<'_>| Some((source.name().clone(), self.targets.of(*source)?.generation));
        named.filter_map(at).collect()
    }

    fn by_origin(&self) -> ByOrigin {
        let mut sorted = ByOrigin::default();
        if self.diff.changes.is_empty() {
            return sorted;
        }
        let sources = by_record(self.sources.iter().copied());
        let observed: BTreeMap<&RecordKey, &Observed> = self.observed.iter().map(|o| (&o.key, o)).collect();
        for change in &self.diff.changes {
            let key = change.key();
            let target = key.as_ref().and_then(|key| self.targets.of(*sources.get(key)?));
            let observed = key.as_ref().and_then(|key| observed.get(key)).copied();
            match (target, observed.and_then(|o| o.current.as_ref())) {
                (Some(target), Some(live)) if is_unasked(target, live, change) => {
                    sorted.unasked.push(change.clone());
                    sorted.services.insert(target.service.clone(), target.generation);
                    sorted.standing.extend(observed.and_then(|o| once_more(o, live)));
                }
                _ => sorted.decided.push(change.clone()),
            }
        }
        sorted
    }
}

/// Would somebody see something else, and was nobody asked about it? A run's move that DNS does not show yet was asked about, whatever the
/// configuration added to it since.
fn is_unasked(target: &TrafficState, live: &RecordSet, change: &Change) -> bool {
    let sees_the_same = change.put().is_some_and(|set| live.same_answers(set));
    target.is_unasked_beyond(Generation(live.generation)) && !sees_the_same
}

/// What is live, for the servers that are behind it.
fn once_more(observed: &Observed, live: &RecordSet) -> Option<Change> {
    let is_behind =
        |lagging: &Lagging| matches!(lagging.state, LaggingState::Behind { .. } | LaggingState::Unsigned);
    observed.lagging.iter().any(is_behind).then(|| Change::Put {
        expected_generation: live.generation.checked_sub(1).filter(|before| *before > 0),
        record_set: live.clone(),
        take_over: false,
    })
}

/// Why nothing can be signed, where what is published must be. Looked for at each pass: a failover is no time to find out.
async fn unusable_key(loaded: &Loaded) -> Option<String> {
    let DnsServers::Embedded(own) = &loaded.config.settings.dns.as_ref()?.servers else { return None };
    let file = own.signing_key_file.clone()?;
    let read = tokio::task::spawn_blocking(move || SigningKey::read(&file)).await.ok()?;
    read.err().map(|e| format!("nothing can be published there: {}", drover_model::chain(&e)))
}

/// A server that has no geography refuses nobody, and answers everybody by weight.
fn without_geography(loaded: &Loaded, in_line: &BTreeMap<ServiceId, Generation>) -> Option<String> {
    let geography = loaded.config.settings.dns.as_ref()?.geography.as_ref()?;
    let services = loaded.config.services.values();
    let nearest = services.filter(|s| s.answering.draws == Draws::Nearest).count();
    let is_told = nearest > 0 && !in_line.contains_key(&geography.id);
    is_told.then(|| {
        format!("the geography that is configured is not live: {nearest} service(s) are answered as nearest without it")
    })
}

impl Coordinator {
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
            let Some(gate) = self.dns().filter(|_| self.acts()) else { continue };
            let reconciled = tokio::select! {
                () = self.stop.cancelled() => return,
                reconciled = self.reconcile(&gate) => reconciled,
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

    pub(crate) async fn reconcile(&self, gate: &Gate) -> Result<(), ProviderError> {
        let loaded = self.loaded();
        let compared = self.compare(gate, &loaded).await?;
        self.note_seen(&compared.observed).await;
        self.note_held(&compared);
        // What somebody holds is told once, and not by each server.
        let blocked = compared.diff.blocked.iter().filter(|b| held_by(b).is_none());
        let blocked: Vec<String> = blocked.map(blocked_sentence).collect();
        if let Some(dns) = &loaded.config.settings.dns {
            self.settle_missed(dns, &compared.observed);
        }
        self.note_dns(&loaded, &compared.observed, &blocked);
        let in_line = compared.in_line();
        let without = without_geography(&loaded, &in_line);
        for trouble in without.into_iter().chain(unusable_key(&loaded).await) {
            self.live().dns_views.iter_mut().for_each(|view| view.behind.insert(0, trouble.clone()));
        }
        self.live().dns_in_line = in_line;
        let ByOrigin { decided, unasked, services, standing } = compared.by_origin();
        let Some(dns) = loaded.config.settings.dns.as_ref() else { return Ok(()) };
        if !self.is_dns_ours(gate).await? {
            return Ok(());
        }
        let mut applied = self.put(gate, &decided, &compared.observed, Right::Decided).await;
        if applied.is_ok() {
            applied = self.put(gate, &unasked, &compared.observed, Right::Unattended(dns.velocity)).await;
        }
        let is_withheld = matches!(applied, Err(ProviderError::Withheld(Withheld::TooFast { .. })));
        self.live().dns_withheld = if is_withheld { services } else { BTreeMap::new() };
        if is_withheld {
            // An edit that waits must not keep a server from what the others answer meanwhile.
            let put = self.put(gate, &standing, &compared.observed, Right::Decided).await;
            applied = put.and(applied);
        }
        if applied.is_ok() || is_withheld {
            let mended = self.mend_drift(gate, &compared, dns).await;
            applied = applied.and(mended);
        }
        let trouble = applied.as_ref().err().map(|e| drover_model::chain(e));
        // Said once: an edit may wait for days.
        let is_news = {
            let mut live = self.live();
            let before = std::mem::replace(&mut live.dns_trouble, trouble);
            before != live.dns_trouble
        };
        match applied {
            // No newer leader of this store.
            Err(ProviderError::Fenced { instance, highest, reason: FenceReason::OtherIncarnation }) => {
                self.note_dns_command(vec![(instance, highest)]);
                Ok(())
            }
            Err(e) if !matches!(e, ProviderError::Fenced { .. }) => {
                if is_news {
                    tracing::warn!(error = &e as &dyn std::error::Error, "can't bring DNS up to the targets");
                }
                self.note_not_applied(&e);
                Ok(())
            }
            answer => answer,
        }
    }

    /// Puts what may be put by this right: all of it or nothing.
    async fn put(
        &self,
        gate: &Gate,
        changes: &[Change],
        observed: &[Observed],
        right: Right,
    ) -> Result<(), ProviderError> {
        if changes.is_empty() {
            return Ok(());
        }
        let admitted = gate.admit(changes, observed, right)?;
        let mut refusals = Vec::new();
        let applied = self.apply_all(gate, changes, &admitted, &mut refusals).await;
        self.note_refusals(&refusals);
        applied
    }

    async fn apply_all(
        &self,
        gate: &Gate,
        changes: &[Change],
        admitted: &Admitted,
        refusals: &mut Vec<ProviderError>,
    ) -> Result<(), ProviderError> {
        for some in changes.chunks(gate.capabilities().batch_changes_max) {
            match self.apply(gate, some, admitted).await {
                // One record set that a server will never take must not keep the others from it.
                Err(ProviderError::Refused { .. }) => {
                    let left = still_to_do(gate, some).await?;
                    self.keep_published_but(&self.batch(some), &left, admitted);
                    self.apply_each(gate, &left, admitted, refusals).await?;
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Applies one by one, and keeps what is refused.
    async fn apply_each(
        &self,
        gate: &Gate,
        changes: &[Change],
        admitted: &Admitted,
        refusals: &mut Vec<ProviderError>,
    ) -> Result<(), ProviderError> {
        for change in changes {
            match self.apply(gate, std::slice::from_ref(change), admitted).await {
                Err(e @ ProviderError::Refused { .. }) => {
                    tracing::error!("DNS refuses a record set: {e}");
                    refusals.push(e);
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    async fn apply(&self, gate: &Gate, changes: &[Change], admitted: &Admitted) -> Result<(), ProviderError> {
        match self.give(gate, &self.batch(changes), admitted).await {
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

    fn batch(&self, changes: &[Change]) -> Batch {
        Batch {
            epoch: self.db.epoch(),
            idempotency_key: format!("reconcile-{}-{}", self.db.epoch(), version_of(&changes)),
            changes: changes.to_vec(),
        }
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
        gate: &Gate,
        loaded: &'l Loaded,
    ) -> Result<Compared<'l>, ProviderError> {
        let all = sources(&loaded.config);
        let keys: Vec<RecordKey> = all.clone().filter_map(Source::key).collect();
        let observed = gate.observe(&keys).await?;
        // Targets are read after DNS: a run that moves one in between makes DNS look behind, never ahead. Shared, so that
        // nobody waits while a thousand record sets are made.
        let targets = self.live().targets();
        let wanted = |s: Source<'l>| Some((s, s.record_set(targets.of(s)?, self.db.epoch())));
        let (sources, desired): (Vec<Source<'_>>, Vec<RecordSet>) = all.filter_map(wanted).unzip();
        let diff = gate.diff(&desired, &observed);
        Ok(Compared { sources, desired, targets, observed, diff })
    }

    fn note_dns(&self, loaded: &Loaded, observed: &[Observed], blocked: &[String]) {
        let now = self.clock.now();
        let Some(dns) = loaded.config.settings.dns.as_ref() else { return };
        let missed = |name: &str| self.live().missed.count(name);
        // It may be there, and refuse: no key that it trusts has signed.
        let why_missed =
            |name: &str| self.live().missed.reason(name).map(|reason| format!("it was not told: {reason}"));
        let views = dns
            .answering()
            .map(|(name, query)| {
                let mut view = DnsView {
                    instance: name.to_owned(),
                    query: query.to_string(),
                    reachable: true,
                    behind: blocked.to_vec(),
                    checked_at: Some(now),
                    published_partial: missed(name),
                    contradictions: vec![],
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
                        Some(LaggingState::Unsigned) => {
                            view.behind.push(format!("{} is not signed yet", o.key));
                        }
                        None => {}
                    }
                }
                if view.reachable && !view.behind.is_empty() {
                    view.behind.splice(0..0, why_missed(name));
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
                published_partial: self.live().missed.count(name),
                checked_at: Some(now),
                contradictions: vec![],
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

#[cfg(test)]
mod tests {
    use super::*;
    use drover_dns::zone::{Answering, Member};

    #[test]
    fn what_is_live_is_put_once_more_where_a_server_is_behind_it() {
        let live = RecordSet {
            name: "app.example.test".into(),
            rtype: drover_dns::zone::RecordType::A,
            ttl_seconds: 30,
            members: vec![Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 }],
            generation: 7,
            epoch: drover_model::Epoch { incarnation: 1, counter: 1 },
            owner: "drover".into(),
            note: String::new(),
            answering: Answering::USUAL,
        };
        let observed = |state: Option<LaggingState>| Observed {
            key: RecordKey::new("app.example.test".parse().unwrap(), live.rtype),
            current: Some(live.clone()),
            is_changed_by_hand: false,
            lagging: state.map(|state| Lagging { instance: "dns-2".into(), state }).into_iter().collect(),
        };
        assert_eq!(once_more(&observed(None), &live), None);
        let unreached = LaggingState::NotReached { reason: "connection refused".into() };
        assert_eq!(once_more(&observed(Some(unreached)), &live), None);
        let behind = observed(Some(LaggingState::Behind { generation: Some(3) }));
        let Some(Change::Put { expected_generation, record_set, take_over }) = once_more(&behind, &live)
        else {
            panic!("nothing is put");
        };
        assert_eq!((expected_generation, record_set, take_over), (Some(6), live.clone(), false));
    }
}
