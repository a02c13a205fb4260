//! What DNS shows beside what it should, read when it is asked for; and the adoption of what somebody else has changed.
//!
//! The reconciler never overwrites a hand's work of the same generation, nor what isn't drover's. A person who has seen
//! the difference does, by name: the target becomes a generation above everything that is live, with the weights that it has.

use crate::api::problem::ApiError;
use crate::break_glass::Keeping;
use crate::coordinator::Coordinator;
use crate::operator::need_reason;
use crate::partial::not_showing;
use crate::reconciler::Compared;
use crate::short_ttls::floor_seconds;
use crate::source::{Source, source, sources};
use crate::traffic::{blocked_sentence, held_by};
use crate::views::status::dns_views;
use axum::http::StatusCode;
use drover_dns::provider::{BlockedReason, Gate, ProviderError, Right};
use drover_dns::publish::{Batch, Change};
use drover_dns::zone::{Member, RecordSet, ValidRecordSet};
use drover_model::api::{
    API_SCHEMA, AdoptRequest, Done, RecordState, RecordVersion, RecordView, ValueView, ZoneView,
};
use drover_model::break_glass::TAKEN_BACK_BY;
use drover_model::plan::ActiveRun;
use drover_model::reason::Reason;
use drover_model::traffic::{TargetOrigin, TrafficState};
use drover_model::units::Generation;
use drover_model::{RegionId, ServiceId};
use drover_store::{Expect, Revision};
use std::sync::Arc;
use std::time::Duration;

impl Coordinator {
    /// The zone as it is read now.
    ///
    /// # Errors
    /// When there is none, or nobody could be asked.
    pub(crate) async fn zone_view(&self) -> Result<ZoneView, ApiError> {
        let (gate, zone) = self.zone()?;
        let loaded = self.loaded();
        let keys: Vec<_> = sources(&loaded.config).filter_map(Source::key).collect();
        gate.forget(&keys);
        let compared = self.compare(&gate, &loaded).await.map_err(|e| not_read(&e))?;
        let of_another_store = self.look_at_dns_command(&gate).await.map_err(|e| not_read(&e))?;
        let wanted = compared.sources.iter().zip(&compared.desired);
        let withheld = self.live().dns_withheld.clone();
        let records = wanted.filter_map(|(source, set)| {
            let is_withheld = withheld.get(source.name()).is_some_and(|g| g.0 == set.generation);
            let mut view = record_view(*source, set, &compared, is_withheld)?;
            if let (RecordState::Drifted, Some(at)) = (view.state, self.put_back_at(source.name())) {
                let said = view.sentence.unwrap_or_default();
                view.sentence = Some(format!("{said}; it is put back at {at} (`dns.drift`)"));
            }
            Some(view)
        });
        Ok(ZoneView {
            schema: API_SCHEMA,
            at: self.clock.now(),
            zone,
            provider: gate.name().to_owned(),
            has_weights: gate.capabilities().has_weights,
            ttl_floor_seconds: floor_seconds(&loaded.config),
            records: records.collect(),
            servers: dns_views(&self.live(), self.clock.now()),
            of_another_store,
        })
    }

    pub(crate) fn zone(&self) -> Result<(Arc<Gate>, String), ApiError> {
        let dns = self.dns.load();
        let dns = dns.as_ref().as_ref().ok_or_else(|| ApiError::refused(vec![Reason::DnsNotConfigured]))?;
        Ok((dns.gate.clone(), dns.settings.zone.clone()))
    }

    /// Takes a service's record set, whoever changed it, and makes it what it should be.
    ///
    /// # Errors
    /// When it is as it should be already, a run works on the service, or DNS or the store can't be told.
    pub(crate) async fn adopt(&self, request: &AdoptRequest) -> Result<Done, ApiError> {
        need_reason(&request.reason)?;
        let outcome = self.adopted(&request.service, request.seen.as_ref()).await;
        let text = match &outcome {
            Ok(done) => done.sentence.clone(),
            Err(e) => format!("refused: {}", e.0.detail),
        };
        self.noted(&request.by, "dns adopt", request.service.as_str(), &request.reason, &text).await?;
        outcome.map_err(ApiError::on_record)
    }

    pub(crate) async fn adopted(
        &self,
        name: &ServiceId,
        seen: Option<&RecordVersion>,
    ) -> Result<Done, ApiError> {
        self.taken(name, seen, None).await
    }

    /// Takes it: with its target as it stands, or with what is live as its target.
    pub(crate) async fn taken(
        &self,
        name: &ServiceId,
        seen: Option<&RecordVersion>,
        keeping: Option<&Keeping>,
    ) -> Result<Done, ApiError> {
        let (gate, _) = self.zone()?;
        let loaded = self.loaded();
        let Some(source) = source(&loaded.config, name) else {
            let known = sources(&loaded.config).map(|known| known.name().to_string()).collect();
            return Err(ApiError::not_found(format!("service or record {name}"), known));
        };
        let Some(key) = source.key() else {
            return Err(ApiError::not_found(format!("DNS name of {name}"), vec![]));
        };
        let _one_at_a_time = self.shifting.lock().await;
        gate.forget(std::slice::from_ref(&key));
        let reading = gate.observe(std::slice::from_ref(&key));
        let observed = patiently(reading).await.map_err(|e| not_read(&e))?;
        let is_by_hand = observed.last().is_some_and(|o| o.is_changed_by_hand);
        let live = observed.last().and_then(|o| o.current.clone());
        let (target, revision) = self
            .db
            .get::<TrafficState>(&source.target_path())
            .await?
            .ok_or_else(|| ApiError::not_found(format!("target of {name}"), vec![]))?;
        let standing = source.record_set(&target, self.db.epoch());
        if !is_by_hand && live.as_ref().is_some_and(|live| live.same_target(&standing)) {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "nothing_to_adopt",
                format!("{key} is as it should be"),
            ));
        }
        if live.as_ref().map(version).as_ref() != seen {
            let detail = format!("{key} is not any more what was shown");
            let mut error = ApiError::new(StatusCode::CONFLICT, "changed", detail);
            error.0.next = Some(format!("drover dns show {name}"));
            return Err(error);
        }
        // What is live is topped, which would take a run's generation from under it; none begins meanwhile, for whoever
        // adopts holds the admission.
        let generation = next_generation(live.as_ref(), &target);
        if generation != target.generation {
            self.check_no_run_works_on(name)?;
        }
        let next = match keeping {
            Some(keeping) => self.kept(source, keeping, (target, revision), live.as_ref()).await?,
            None if generation == target.generation && !target.origin.is_configuration() => target,
            // Also where the velocity held back what the configuration wanted: now a person has decided it.
            None => self.retargeted(source, target, generation, revision).await?,
        };
        let change = Change::Put {
            expected_generation: live.as_ref().map(|live| live.generation),
            record_set: source.record_set(&next, self.db.epoch()),
            take_over: true,
        };
        let epoch = self.db.epoch();
        let idempotency_key = format!("adopt-{epoch}-{name}-{}", next.generation);
        let admitted = gate.admit(std::slice::from_ref(&change), &observed, Right::Shown);
        let batch = Batch { epoch, idempotency_key, changes: vec![change] };
        let told = match admitted {
            Ok(admitted) => patiently(self.give(&gate, &batch, &admitted)).await,
            Err(withheld) => Err(withheld.into()),
        };
        self.reconcile_wake.notify_one();
        told.map_err(|e| not_told(name, &e))?;
        Ok(Done { sentence: format!("{key} is drover's, at generation {}", next.generation) })
    }

    pub(crate) fn check_no_run_works_on(&self, name: &ServiceId) -> Result<(), ApiError> {
        let works = |r: &ActiveRun| !r.awaiting_approval && r.services.contains(name);
        match self.runs.active().into_iter().find(works) {
            None => Ok(()),
            Some(ActiveRun { run, by, .. }) => {
                Err(ApiError::refused(vec![Reason::RunInProgress { service: name.clone(), run, by }]))
            }
        }
    }

    /// The target under another generation, kept.
    async fn retargeted(
        &self,
        source: Source<'_>,
        target: TrafficState,
        generation: Generation,
        revision: Revision,
    ) -> Result<TrafficState, ApiError> {
        let origin = TargetOrigin::Adoption;
        let (changed_at, decided) = (self.clock.now(), generation);
        let next = TrafficState { generation, changed_at, origin, decided, ..target };
        let path = source.target_path();
        let txn =
            self.db.put_op(self.db.fenced().expect(&path, Expect::ModRevision(revision)), &path, &next)?;
        let what = format!("adopt the record set of {}", source.name());
        if self.db.commit(&what, txn).await?.is_none() {
            return Err(ApiError::new(StatusCode::CONFLICT, "changed", "it was changed at the same moment"));
        }
        self.keep_target(source, next.clone());
        Ok(next)
    }
}

/// The generation under which what is live is replaced: one that is on its way is put as it is, otherwise what is live is topped.
pub(crate) fn next_generation(live: Option<&RecordSet>, target: &TrafficState) -> Generation {
    let live = live.map_or(target.generation, |live| Generation(live.generation));
    if live < target.generation { target.generation } else { live.next() }
}

/// For reading and for telling DNS while other commands wait.
const PATIENCE: Duration = Duration::from_secs(10);

async fn patiently<T>(exchange: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    let late = |_| Err(ProviderError::TimedOut { after: PATIENCE });
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(late)
}

fn not_told(name: &ServiceId, error: &ProviderError) -> ApiError {
    let mut told = ApiError::new(StatusCode::BAD_GATEWAY, "dns_not_told", drover_model::chain(error));
    told.0.next = Some(format!("drover dns adopt {name} --reason TEXT"));
    told
}

pub(crate) fn not_read(error: &ProviderError) -> ApiError {
    let mut told = ApiError::new(StatusCode::BAD_GATEWAY, "dns_not_read", drover_model::chain(error));
    told.0.next =
        Some("drover status says since when; drover dns history, what was published last".to_owned());
    told
}

fn record_view(
    source: Source<'_>,
    wanted: &RecordSet,
    compared: &Compared<'_>,
    is_withheld: bool,
) -> Option<RecordView> {
    // As servers spell it.
    let valid = ValidRecordSet::with_aliases(wanted.clone()).ok();
    let wanted = valid.as_ref().map_or(wanted, ValidRecordSet::document);
    let Compared { observed, diff, .. } = compared;
    let key = &source.key()?;
    let found = observed.iter().find(|o| o.key == *key);
    let live = found.and_then(|o| o.current.as_ref());
    let blocked =
        diff.blocked.iter().find(|b| b.desired.name == wanted.name && b.desired.rtype == wanted.rtype);
    let (state, sentence) = match blocked {
        None if diff.in_sync.contains(key) => (RecordState::InLine, None),
        None if is_withheld => (RecordState::Withheld, Some(withheld(live, wanted))),
        None => (RecordState::Pending, Some(pending(live, wanted))),
        Some(blocked) => (state(&blocked.reason), Some(blocked_sentence(blocked))),
    };
    let mut view = RecordView {
        next: None,
        service: source.name().clone(),
        name: key.name.as_str().to_owned(),
        record_type: key.rtype.to_string(),
        state,
        sentence,
        live: live.map(version),
        wanted: version(wanted),
        published_partial: found.map(not_showing).unwrap_or_default(),
    };
    let next = || match blocked.and_then(held_by) {
        Some(_) => TAKEN_BACK_BY.to_owned(),
        None => format!("drover dns adopt {} --reason TEXT", view.service),
    };
    view.next = view.can_be_adopted().then(next);
    Some(view)
}

fn state(reason: &BlockedReason) -> RecordState {
    match reason {
        BlockedReason::Invalid { .. } | BlockedReason::NotObserved => RecordState::Invalid,
        BlockedReason::Overtaken => RecordState::Overtaken,
        BlockedReason::Drifted => RecordState::Drifted,
        BlockedReason::OwnedByOther => RecordState::Foreign,
    }
}

fn withheld(live: Option<&RecordSet>, wanted: &RecordSet) -> String {
    let (shown, waits) = (shown(live), wanted.generation);
    format!(
        "{shown} is live, generation {waits} waits: the configuration changed more than may be published unasked \
         (`dns.velocity`)"
    )
}

fn pending(live: Option<&RecordSet>, wanted: &RecordSet) -> String {
    format!("{} is live, generation {} is on its way", shown(live), wanted.generation)
}

fn shown(live: Option<&RecordSet>) -> String {
    live.map_or_else(|| "nothing".to_owned(), |live| format!("generation {}", live.generation))
}

/// As the API shows a record set.
#[must_use]
pub fn version(set: &RecordSet) -> RecordVersion {
    let value = |m: &Member| ValueView {
        region: RegionId::new(&m.set_id).ok(),
        value: m.value.clone(),
        weight: m.weight,
    };
    RecordVersion {
        generation: set.generation,
        owner: set.owner.clone(),
        ttl_seconds: set.ttl_seconds,
        values: set.members.iter().map(value).collect(),
        answering: set.answering,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::coordinator::Dns;
    use crate::testbed::{Bed, PlayedDns, send};
    use axum::http::Method;
    use drover_dns::publish::SigningKey;
    use drover_model::config::{DnsServers, DnsVelocity};
    use drover_model::traffic::Actor;
    use drover_model::{RunId, Weight};

    /// A coordinator whose only zone is played, with every target published.
    pub(crate) async fn published() -> (Bed, Arc<PlayedDns>) {
        published_on(Bed::new().await).await
    }

    async fn published_on(bed: Bed) -> (Bed, Arc<PlayedDns>) {
        bed.c.retarget_all().await.unwrap();
        let dns = Arc::new(PlayedDns::default());
        let settings = bed.c.loaded().config.settings.dns.clone().unwrap();
        let gate = Arc::new(Gate::new(dns.clone()));
        bed.c.dns.store(Arc::new(Some(Dns { gate, settings, checks: None })));
        reconcile(&bed).await;
        (bed, dns)
    }

    pub(crate) async fn reconcile(bed: &Bed) {
        bed.c.reconcile(&bed.c.dns().unwrap()).await.unwrap();
    }

    pub(crate) fn asked(service: &str, seen: Option<RecordVersion>) -> AdoptRequest {
        let by = Actor::Person { name: "ada".into(), host: "here".into() };
        let service = ServiceId::new(service).unwrap();
        AdoptRequest { by, reason: "mended by hand last night".into(), service, seen }
    }

    pub(crate) async fn record(bed: &Bed, service: &str) -> RecordView {
        let records = bed.c.zone_view().await.unwrap().records;
        records.into_iter().find(|r| r.service.as_str() == service).unwrap()
    }

    pub(crate) fn of(dns: &PlayedDns, name: &str) -> RecordSet {
        dns.live().into_iter().find(|set| set.name.starts_with(name)).unwrap()
    }

    #[tokio::test]
    async fn a_key_that_can_not_be_used_is_told_before_anything_is_to_be_published() {
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("dns-signing.key");
        let configured = file.clone();
        let (bed, _dns) = published_on(
            Bed::with(move |c| match &mut c.settings.dns.as_mut().unwrap().servers {
                DnsServers::Embedded(own) => own.signing_key_file = Some(configured),
                DnsServers::Rfc2136(_) | DnsServers::Route53(_) => panic!("the shipped zone is drover's own"),
            })
            .await,
        )
        .await;
        let view = bed.c.status_view();
        assert!(view.dns.iter().all(|d| d.behind[0].contains("dns-signing.key")), "{:?}", view.dns);
        assert!(
            view.attention.iter().any(|a| a.sentence.contains("dns-signing.key")),
            "{:?}",
            view.attention
        );
        SigningKey::create(&file).unwrap();
        reconcile(&bed).await;
        assert!(bed.c.status_view().dns.iter().all(|d| d.behind.is_empty()));
    }

    #[tokio::test]
    async fn what_a_hand_changed_is_shown_left_alone_and_adopted_by_name() {
        let (bed, dns) = published().await;
        assert_eq!(record(&bed, "checkout").await.state, RecordState::InLine);
        let mut by_hand = of(&dns, "checkout");
        by_hand.members[0].value = "192.0.2.99".into();
        dns.change_by_hand(by_hand.clone());
        reconcile(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "nobody overwrites it unasked");
        let shown = record(&bed, "checkout").await;
        assert_eq!(shown.state, RecordState::Drifted);
        assert_eq!(shown.next.unwrap(), "drover dns adopt checkout --reason TEXT");
        assert_eq!(shown.live.as_ref().unwrap().values[0].value, "192.0.2.99");
        let other = RecordVersion { ttl_seconds: 7, ..shown.live.clone().unwrap() };
        let overtaken = bed.c.adopt(&asked("checkout", Some(other))).await.unwrap_err();
        assert_eq!((overtaken.0.code.as_str(), of(&dns, "checkout")), ("changed", by_hand));
        // As the command does, with what a command holds while it is done.
        let (api, body) = (bed.serve().await, serde_json::to_vec(&asked("checkout", shown.live)).unwrap());
        let (status, _, said) = send(Method::POST, api, "/v1/dns/adopt", Some(body)).await;
        assert!(status == 200 && said.contains("generation 2"), "{status}: {said}");
        assert_ne!(of(&dns, "checkout").members[0].value, "192.0.2.99");
        assert_eq!(record(&bed, "checkout").await.state, RecordState::InLine);
        assert_eq!(record(&bed, "catalog").await.wanted.generation, 1, "nothing else moved");
    }

    #[tokio::test]
    async fn what_a_configuration_changes_at_once_waits_for_a_person_above_the_velocity() {
        let (bed, dns) = published().await;
        // One of the sample's two may change.
        let (gate, before) = (bed.c.dns().unwrap(), dns.live());
        let one = DnsVelocity { at_least: 1, ..DnsVelocity::default() };
        let is_told = |bed: &Bed| {
            let attention = bed.c.status_view().attention;
            attention.into_iter().any(|a| {
                a.code == "dns_behind"
                    && a.sentence.contains("2 record sets that are live would change, and 1 of 2 may")
            })
        };
        bed.rewrite(|c| {
            c.settings.dns.as_mut().unwrap().velocity = one;
            c.services.values_mut().for_each(|s| s.ttl = s.ttl.times(2));
        });
        bed.c.reload_now().await.unwrap();
        assert!(Arc::ptr_eq(&gate, &bed.c.dns().unwrap()), "what changed lately stays known");
        reconcile(&bed).await;
        assert_eq!(dns.live(), before);
        assert!(is_told(&bed));
        let shown = record(&bed, "checkout").await;
        assert_eq!((shown.state, shown.wanted.generation), (RecordState::Withheld, 2));
        assert_eq!(shown.next.as_deref(), Some("drover dns adopt checkout --reason TEXT"));
        // A person takes one. That sets the other free no sooner than the window ends.
        bed.c.adopt(&asked("checkout", shown.live)).await.unwrap();
        reconcile(&bed).await;
        assert_eq!(record(&bed, "checkout").await.state, RecordState::InLine);
        assert_eq!(record(&bed, "catalog").await.state, RecordState::Withheld);
        let decided = bed.c.live().traffic[&ServiceId::new("checkout").unwrap()].origin.clone();
        assert_eq!(decided, TargetOrigin::Adoption, "no configuration alone");
        // A higher limit does, at once.
        bed.rewrite(|c| c.settings.dns.as_mut().unwrap().velocity.at_least = 2);
        bed.c.reload_now().await.unwrap();
        reconcile(&bed).await;
        assert_eq!(record(&bed, "catalog").await.state, RecordState::InLine);
        assert!(!is_told(&bed));
    }

    #[tokio::test]
    async fn what_a_run_decided_is_put_whatever_the_velocity() {
        let (bed, dns) = published().await;
        bed.rewrite(|c| c.settings.dns.as_mut().unwrap().velocity.at_least = 0);
        bed.c.reload_now().await.unwrap();
        let run = RunId::numbered(7);
        for target in bed.c.live().traffic.values_mut() {
            target.generation = target.generation.next();
            target.weights = target.weights.keys().map(|r| (r.clone(), Weight(1))).collect();
            target.origin = TargetOrigin::Run { run: run.clone() };
            target.decided = target.generation;
        }
        reconcile(&bed).await;
        assert!(dns.live().iter().all(|set| set.generation == 2), "{:?}", dns.live());
        // Moved and not published yet when the configuration changes: what it adds does not hold the move up.
        for target in bed.c.live().traffic.values_mut() {
            target.decided = target.generation.next();
            target.generation = target.decided.next();
            target.weights = target.weights.keys().map(|r| (r.clone(), Weight(2))).collect();
            target.origin = TargetOrigin::Configuration;
        }
        reconcile(&bed).await;
        assert!(dns.live().iter().all(|set| set.generation == 4), "{:?}", dns.live());
        // What it changes after that waits.
        for target in bed.c.live().traffic.values_mut() {
            target.generation = target.generation.next();
            target.weights = target.weights.keys().map(|r| (r.clone(), Weight(3))).collect();
        }
        reconcile(&bed).await;
        assert!(dns.live().iter().all(|set| set.generation == 4), "{:?}", dns.live());
    }

    #[tokio::test]
    async fn an_edit_that_waits_keeps_no_new_name_from_dns() {
        let (bed, dns) = published().await;
        let gone = of(&dns, "catalog");
        dns.lose(&gone);
        bed.rewrite(|c| c.settings.dns.as_mut().unwrap().velocity.at_least = 0);
        bed.c.reload_now().await.unwrap();
        for target in bed.c.live().traffic.values_mut() {
            target.generation = target.generation.next();
            target.weights = target.weights.keys().map(|r| (r.clone(), Weight(1))).collect();
        }
        reconcile(&bed).await;
        assert_eq!((of(&dns, "catalog").generation, of(&dns, "checkout").generation), (2, 1));
        assert_eq!(record(&bed, "checkout").await.state, RecordState::Withheld);
        assert_eq!(record(&bed, "catalog").await.state, RecordState::InLine);
    }

    #[tokio::test]
    async fn a_set_of_somebody_else_and_a_later_one_are_adopted_above_their_generation() {
        let (bed, dns) = published().await;
        for (owner, state) in [("terraform", RecordState::Foreign), ("drover", RecordState::Overtaken)] {
            let before = of(&dns, "checkout");
            let theirs = RecordSet { generation: before.generation + 40, owner: owner.into(), ..before };
            dns.change_by_hand(theirs.clone());
            let shown = record(&bed, "checkout").await;
            assert_eq!(shown.state, state, "{owner}");
            bed.c.adopt(&asked("checkout", shown.live)).await.unwrap();
            let live = of(&dns, "checkout");
            assert_eq!((live.generation, live.owner.as_str()), (theirs.generation + 1, "drover"));
        }
    }

    #[tokio::test]
    async fn a_hands_work_under_a_generation_that_is_overtaken_is_left_alone_too() {
        let (bed, dns) = published().await;
        let mut by_hand = of(&dns, "checkout");
        by_hand.members[0].weight += 1;
        dns.change_by_hand(by_hand.clone());
        // As a run does: a new target, which its step could not publish.
        let name = ServiceId::new("checkout").unwrap();
        let loaded = bed.c.loaded();
        let source = source(&loaded.config, &name).unwrap();
        let standing = bed.c.db.get::<TrafficState>(&source.target_path()).await.unwrap();
        let (target, revision) = standing.unwrap();
        let next = target.generation.next();
        bed.c.retargeted(source, target, next, revision).await.unwrap();
        reconcile(&bed).await;
        assert_eq!(of(&dns, "checkout"), by_hand, "nobody overwrites it unasked");
        let shown = record(&bed, "checkout").await;
        assert_eq!((shown.state, shown.wanted.generation), (RecordState::Drifted, next.0));
        // Adopted as the run wants it, whose generation stays.
        bed.c.adopt(&asked("checkout", shown.live)).await.unwrap();
        assert_eq!(of(&dns, "checkout").generation, next.0);
        assert_eq!(record(&bed, "checkout").await.state, RecordState::InLine);
    }

    /// As a health check that was attached, of which the record set itself shows nothing.
    #[tokio::test]
    async fn what_a_hand_changed_without_a_trace_in_the_set_is_adopted_too() {
        let (bed, dns) = published().await;
        dns.change_by_hand(of(&dns, "checkout"));
        let shown = record(&bed, "checkout").await;
        assert_eq!(shown.state, RecordState::Drifted);
        bed.c.adopt(&asked("checkout", shown.live)).await.unwrap();
        assert_eq!(
            (of(&dns, "checkout").generation, record(&bed, "checkout").await.state),
            (2, RecordState::InLine)
        );
    }

    #[tokio::test]
    async fn what_is_in_line_is_no_ones_to_adopt() {
        let (bed, _dns) = published().await;
        let shown = record(&bed, "checkout").await.live;
        let refused = bed.c.adopt(&asked("checkout", shown)).await.unwrap_err();
        assert_eq!(refused.0.code, "nothing_to_adopt");
        let nobody = bed.c.adopt(&asked("nothing", None)).await.unwrap_err();
        assert_eq!(nobody.0.status, 404);
        let unexplained = AdoptRequest { reason: " ".into(), ..asked("checkout", None) };
        assert_eq!(bed.c.adopt(&unexplained).await.unwrap_err().0.code, "reason_missing");
    }
}
