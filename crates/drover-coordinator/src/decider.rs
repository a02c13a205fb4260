//! Decides whenever something changed: runs the pure function on the world, keeps what it said with its inputs, and
//! starts or asks for what it concluded.

use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::live::LastDecision;
use crate::operator::{in_parts, takes_too_much};
use crate::outbox::NewPage;
use drover_core::decide::Plans;
use drover_core::opinion::policy_of;
use drover_core::{check, decide, plan};
use drover_exec::{Approved, Consent};
use drover_model::api::{API_SCHEMA, PlanView, Severity};
use drover_model::approvals::Approvals;
use drover_model::config::Config;
use drover_model::decision::{ActionDecision, Conclusion, DECISION_SCHEMA, DecisionBody, StoredDecision};
use drover_model::journal::Trigger;
use drover_model::plan::{Intent, Plan, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Hold};
use drover_model::{DecisionId, EndpointKey, RunId, ServiceId, Span, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Longest pause between two looks when nothing wakes the decider: guards such as a freeze end by time alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before a lapsed drain that could not be ended is tried again.
const LAPSE_RETRY: Span = Span::from_mins(15);

impl Coordinator {
    /// Decides until told to stop.
    pub(crate) async fn run_decider(self: Arc<Self>) {
        let _worlds_are_kept = self.worlds.while_deciding();
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.decide_wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if !self.acts() {
                continue;
            }
            match self.decide_once().await {
                Ok(next) => {
                    let now = self.clock.now();
                    self.note_look(now);
                    pause = next.map_or(LOOK_EVERY, |t| t.since(now).to_duration().min(LOOK_EVERY));
                    // A moment that has passed already is looked at soon, not in a busy loop.
                    pause = pause.max(Duration::from_millis(10));
                }
                Err(CoordinatorError::Fenced { what }) => {
                    tracing::error!("another coordinator leads ({what}); standing down");
                    self.stop.cancel();
                    return;
                }
                Err(e) => tracing::error!(error = &e as &dyn std::error::Error, "can't decide"),
            }
        }
    }

    async fn decide_once(self: &Arc<Self>) -> Result<Option<Timestamp>, CoordinatorError> {
        let _one_at_a_time = self.admission.lock().await;
        let now = self.clock.now();
        let mut world = Arc::new(self.world(now));
        if self.withdraw_overtaken(&world, now).await {
            world = Arc::new(self.world(now));
        }
        let (mut decisions, plans) = decide::decide_and_plan(&world, now);
        // What acts comes first, and leaving before coming back: nothing that goes wrong with writing down why nothing is
        // done may keep it waiting.
        decisions.sort_by_key(|d| match (d.conclusion, d.purpose) {
            (Conclusion::Act, Purpose::Failback) => 1,
            (Conclusion::Act, _) => 0,
            (Conclusion::Ask, _) => 2,
            (Conclusion::Hold, _) => 3,
        });
        self.stop_runs(&world, &decisions, now).await?;
        let next = decisions.iter().filter_map(|d| d.look_again_at).min();
        {
            let regions: Vec<_> = decisions.iter().map(|d| d.region.clone()).collect();
            self.live().decisions.retain(|r, _| regions.contains(r));
        }
        let mut acted = false;
        for decision in decisions {
            // One act a look: the next one must see the run that this one started.
            if acted && decision.conclusion != Conclusion::Hold {
                self.decide_wake.notify_one();
                continue;
            }
            let region = decision.region.to_string();
            let taken = self.take_decision(&world, decision, &plans, now).await;
            acted |= self.unless_fenced("take a decision", &region, taken)?;
        }
        if !acted {
            let ended = self.end_lapsed_holds(self.clock.now()).await;
            self.unless_fenced("end a drain", "past its end", ended)?;
        }
        Ok(next)
    }

    /// A full disk or a record that is too large must not stop deciding: what can't be written down is logged. Only a
    /// newer leader ends it all (I3).
    pub(crate) fn unless_fenced<T: Default>(
        &self,
        what: &str,
        about: &str,
        result: Result<T, CoordinatorError>,
    ) -> Result<T, CoordinatorError> {
        match result {
            Err(e) if !matches!(e, CoordinatorError::Fenced { .. }) => {
                tracing::error!(error = &e as &dyn std::error::Error, "can't {what} ({about})");
                Ok(T::default())
            }
            other => other,
        }
    }

    /// Is drover frozen, and was not when this world was looked at?
    pub(crate) fn frozen_since(&self, world: &World, look: Timestamp) -> bool {
        let was = world.freeze.as_ref().is_some_and(|f| f.holds_at(look));
        !was && self
            .freeze_in_force(&self.live(), self.clock.now())
            .is_some_and(|f| f.holds_at(self.clock.now()))
    }

    /// Keeps a decision if it says something new, and does what it concludes. Says whether a run was created.
    async fn take_decision(
        self: &Arc<Self>,
        world: &Arc<World>,
        decision: ActionDecision,
        plans: &Plans,
        now: Timestamp,
    ) -> Result<bool, CoordinatorError> {
        // A freeze counts from the moment it was asked for, even in the middle of a look: look again, and see it.
        if decision.conclusion != Conclusion::Hold && self.frozen_since(world, now) {
            self.decide_wake.notify_one();
            return Ok(false);
        }
        if let Reason::CheckFailed { finding } = &decision.reason {
            tracing::error!(region = %decision.region, "the plan checker found: {finding}");
        }
        let before = self.live().decisions.get(&decision.region).cloned();
        let same = before.as_ref().is_some_and(|b| {
            b.decision.conclusion == decision.conclusion
                && b.decision.reason.code() == decision.reason.code()
                && b.decision.services == decision.services
        });
        // What did not fit a second ago does not fit now.
        if same && before.as_ref().and_then(|b| b.does_not_fit.as_ref()) == Some(&self.loaded().version) {
            return Ok(false);
        }
        let plan = match decision.conclusion {
            Conclusion::Hold => None,
            Conclusion::Act | Conclusion::Ask => self.keep_plan(world, &decision, plans, now).await?,
        };
        if same && plan.is_none() {
            let id = before.and_then(|b| b.id);
            self.remember(decision, id);
            return Ok(false);
        }
        let number = self.counters.decisions.next();
        let id = DecisionId::numbered(number);
        tracing::info!(decision = %id, "{}", decide::sentence(&decision));
        // Why comes before what: a crash in between leaves a decision without its run, never a run without its decision.
        let run = plan.as_ref().map(|_| self.next_run());
        let about = decision.region.clone();
        let body = DecisionBody::Action {
            world: None, // It has a record of its own.
            region: about.clone(),
            decision: decision.clone(),
            plan: plan.as_ref().map(|p| p.id.clone()),
            run: run.clone(),
        };
        let (key, mut stored) = self.decision_record(&id, now, body);
        let kept = self.db.put(&key, &stored).await;
        if kept.is_ok() {
            self.keep_world_later(number, &decision, world);
        }
        self.unless_fenced("store a decision", about.as_str(), kept)?;
        if let (Some(plan), Some(run)) = (plan, &run)
            && let Err(e) = self.start_from(world, run, plan, &decision, &id, now).await
        {
            if let DecisionBody::Action { run, .. } = &mut stored.body {
                *run = None;
            }
            let kept = self.db.put(&key, &stored).await;
            self.unless_fenced("store a decision", about.as_str(), kept)?;
            return self.not_started(decision, id, e).await.map(|()| false);
        }
        let outcome = run.as_ref().map_or("nothing was done", |r| r.as_str());
        let sentence = decide::sentence(&decision);
        let audited = self.audit(&Actor::Automatic, "decide", about.as_str(), &sentence, outcome).await;
        self.unless_fenced("audit a decision", about.as_str(), audited)?;
        self.remember(decision, Some(id));
        Ok(run.is_some())
    }

    /// A plan that is larger than a record may be is no passing trouble: people are told, once, how to go on.
    async fn not_started(
        self: &Arc<Self>,
        decision: ActionDecision,
        id: DecisionId,
        why: CoordinatorError,
    ) -> Result<(), CoordinatorError> {
        let CoordinatorError::TooLarge { bytes, limit, .. } = why else { return Err(why) };
        let (purpose, region) = (decision.purpose, &decision.region);
        let why = takes_too_much(decision.services.len(), bytes, limit);
        let sentence = format!("{purpose} of {region} can't be begun: {why}");
        let page = NewPage {
            key: format!("does_not_fit/{id}"),
            severity: Severity::Critical,
            subject: region.to_string(),
            message: sentence.clone(),
            next: Some(in_parts(purpose, region)),
        };
        let me = self.clone();
        self.tasks.spawn(async move { me.page_until_written(page).await });
        let audited =
            self.audit(&Actor::Automatic, "decide", region.as_str(), &sentence, "nothing was done").await;
        self.unless_fenced("audit a decision", region.as_str(), audited)?;
        let last = LastDecision {
            sentence,
            id: Some(id),
            does_not_fit: Some(self.loaded().version.clone()),
            decision,
        };
        self.live().decisions.insert(last.decision.region.clone(), last);
        Ok(())
    }

    /// Ends drains whose time is over by the same path as `undrain`: planned, checked, run, validated. While frozen, or
    /// where a guard refuses, nothing moves and `status` says that the drain is past its end. One run a look, from a
    /// world of this moment: the next one must see it (I2).
    async fn end_lapsed_holds(self: &Arc<Self>, now: Timestamp) -> Result<(), CoordinatorError> {
        // Nearly always; two worlds need not be put together to learn it.
        if self.live().holds.is_empty() {
            return Ok(());
        }
        self.drop_empty_holds(&self.world(now)).await?;
        let world = self.world(now);
        if world.freeze.as_ref().is_some_and(|f| f.holds_at(now)) {
            return Ok(());
        }
        for hold in world.holds.iter().filter(|h| h.expires_at.is_some_and(|t| t <= now)) {
            let services = still_held(&world, hold);
            let working = world.runs.iter().filter(|r| !r.is_a_persons_question());
            let busy = working.flat_map(|r| &r.services).any(|s| services.contains(s));
            if busy || self.tried_lately(&hold.run, now) {
                continue;
            }
            let intent = Intent {
                purpose: Purpose::Undrain,
                services,
                region: hold.region.clone(),
                to: None,
                automatic: true,
                hold_for: None,
                reason: format!("the drain by {} ({}) is past its end", hold.by, hold.reason),
                accept: vec![],
            };
            let planned = plan::plan(&world, &intent, now);
            let Some(plan) = planned.plan.filter(|_| planned.refusals.is_empty()) else { continue };
            if !check::check(&plan, &world).is_empty() {
                continue;
            }
            let rto = self.rto_of(&plan.services);
            let approved =
                Approved::by_policy(plan).map_err(|e| CoordinatorError::store("end a lapsed drain", e))?;
            self.live().lapse_tried.insert(hold.run.clone(), now);
            let consent = Consent::Given(approved);
            let run =
                self.create_run(self.next_run(), consent, Actor::Automatic, Trigger::Command, rto).await?;
            let region = hold.region.as_str();
            return self.audit(&Actor::Automatic, "undrain", region, &intent.reason, run.as_str()).await;
        }
        Ok(())
    }

    /// Forgets drains of which nothing is left: every service came back by other ways or is not configured any more.
    async fn drop_empty_holds(&self, world: &World) -> Result<(), CoordinatorError> {
        let busy = |h: &Hold| world.runs.iter().any(|r| r.services.iter().any(|s| h.services.contains(s)));
        for hold in world.holds.iter().filter(|h| still_held(world, h).is_empty() && !busy(h)) {
            let _one_at_a_time = self.shifting.lock().await;
            self.db.delete(&keys::hold(&hold.run)).await?;
            self.live().holds.remove(&hold.run);
            let (region, why) = (hold.region.as_str(), "nothing that it drained is still out");
            self.audit(&Actor::Automatic, "end drain", region, why, hold.run.as_str()).await?;
        }
        Ok(())
    }

    /// An attempt that failed is not repeated at once; the person whose drain it was is paged meanwhile.
    fn tried_lately(&self, hold: &RunId, now: Timestamp) -> bool {
        self.live().lapse_tried.get(hold).is_some_and(|at| now.since(*at) < LAPSE_RETRY)
    }

    fn remember(&self, decision: ActionDecision, id: Option<DecisionId>) {
        let sentence = decide::sentence(&decision);
        self.live()
            .decisions
            .insert(decision.region.clone(), LastDecision { decision, sentence, id, does_not_fit: None });
    }

    /// The plan of a decision, kept as it would be shown, so that whoever is asked sees what he agrees to.
    async fn keep_plan(
        &self,
        world: &World,
        decision: &ActionDecision,
        plans: &Plans,
        now: Timestamp,
    ) -> Result<Option<Plan>, CoordinatorError> {
        let intent = decide::intent_of(decision);
        let planned = plans.made_for(&intent).cloned();
        let planned = planned.unwrap_or_else(|| plan::plan(world, &intent, now));
        let Some(plan) = planned.plan.clone() else { return Ok(None) };
        let view = PlanView { schema: API_SCHEMA, intent, planned, made_at: now };
        let kept = self.db.put(&keys::plan(&plan.id), &view).await;
        self.unless_fenced("keep a plan", plan.id.as_str(), kept)?;
        Ok(Some(plan))
    }

    async fn start_from(
        self: &Arc<Self>,
        world: &World,
        run: &RunId,
        plan: Plan,
        decision: &ActionDecision,
        id: &DecisionId,
        now: Timestamp,
    ) -> Result<RunId, CoordinatorError> {
        let rto = self.rto_of(&plan.services);
        let trigger = Trigger::Decision {
            decision: id.clone(),
            class: decision.class,
            first_failure_at: self.first_failure(decision, now),
        };
        let consent = match decision.conclusion {
            Conclusion::Act => Consent::Given(
                Approved::by_policy(plan)
                    .map_err(|e| CoordinatorError::store("start an automatic run", e))?,
            ),
            Conclusion::Ask | Conclusion::Hold => {
                let (expires, approvals) = asked_of(&world.config, &plan);
                Consent::Ask { plan, expires, approvals }
            }
        };
        self.create_run(run.clone(), consent, Actor::Automatic, trigger, rto).await
    }

    /// When the first vantage saw the first failure of what is now decided: the start of the RTO clock.
    fn first_failure(&self, decision: &ActionDecision, now: Timestamp) -> Timestamp {
        let loaded = self.loaded();
        let live = self.live();
        let mut first = now;
        for service in &decision.services {
            let Some(config) = loaded.config.services.get(service) else { continue };
            let policy = policy_of(config);
            let key = EndpointKey::new(service, &decision.region);
            for opinion in live.seen.get(&key).into_iter().flat_map(|seen| seen.opinions.values()) {
                if let Some(at) = opinion.at(now, &policy).first_failure_of_streak_at {
                    first = first.min(at);
                }
            }
        }
        first
    }

    /// A decision as it is stored, and where.
    pub(crate) fn decision_record(
        &self,
        id: &DecisionId,
        at: Timestamp,
        body: DecisionBody,
    ) -> (String, StoredDecision) {
        let stored =
            StoredDecision { schema: DECISION_SCHEMA, id: id.clone(), at, epoch: self.db.epoch(), body };
        let number = keys::number_of(id.as_str()).unwrap_or(0);
        (keys::numbered(keys::DECISIONS, number), stored)
    }

    /// Finds where the numbers of audit, decisions and runs go on.
    pub(crate) async fn find_counters(&self) -> Result<(), CoordinatorError> {
        let counters = &self.counters;
        counters.audit.recall(&self.db).await?;
        self.find_numbers().await
    }

    /// The same of decisions and runs, whoever leads.
    pub(crate) async fn find_numbers(&self) -> Result<(), CoordinatorError> {
        let counters = &self.counters;
        for (prefix, counter) in [(keys::DECISIONS, &counters.decisions), (keys::RUNS, &counters.runs)] {
            counter.continue_after(self.db.last_number_from(prefix, counter.last()).await?);
        }
        Ok(())
    }
}

/// What a drain still keeps out: services that are configured there and did not come back by other ways.
fn still_held(world: &World, hold: &Hold) -> Vec<ServiceId> {
    let configured =
        |s: &ServiceId| world.config.services.get(s).is_some_and(|c| c.endpoints.contains_key(&hold.region));
    let back = |s: &ServiceId| world.traffic.get(s).is_some_and(|t| t.is_full(&hold.region));
    hold.services.iter().filter(|s| configured(s) && !back(s)).cloned().collect()
}

/// The shortest time in which a question about this plan expires, and how many people it asks.
pub(crate) fn asked_of(config: &Config, plan: &Plan) -> (Span, Approvals) {
    let services = || plan.services.iter().filter_map(|s| config.services.get(s));
    let expires = services().map(|s| s.failover.approval_expires).min();
    (expires.unwrap_or(Span::from_mins(15)), Approvals::of(plan::approvals(services())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::PageRecord;
    use crate::testbed::{Bed, GUARD};

    #[tokio::test]
    async fn a_plan_that_fits_no_record_is_told_once_and_not_tried_at_every_look() {
        let mut bed = Bed::new().await;
        bed.refuse_as_too_large(keys::RUNS);
        let world = Arc::new(bed.world_without("eu-west"));
        let now = bed.c.clock.now();
        let (decided, plans) = decide::decide_and_plan(&world, now);
        let acts = decided.into_iter().find(|d| d.conclusion != Conclusion::Hold).expect("nothing to do");
        for _ in 0..3 {
            assert!(!bed.c.take_decision(&world, acts.clone(), &plans, now).await.unwrap());
        }
        let stored = bed.c.db.list::<StoredDecision>(keys::DECISIONS).await.unwrap();
        let [(_, StoredDecision { body: DecisionBody::Action { run: None, .. }, .. })] = &stored[..] else {
            panic!("{stored:?}")
        };
        assert_eq!(bed.c.runs.active(), []);
        let said = bed.c.live().decisions[&acts.region].sentence.clone();
        assert!(said.contains("takes 2000000 bytes, and a record may have 1048576"), "{said}");
        let pages = tokio::time::timeout(GUARD, async {
            loop {
                let pages = bed.c.db.list::<PageRecord>(keys::OUTBOX).await.unwrap();
                if !pages.is_empty() {
                    return pages;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(pages.len(), 1);
        assert_eq!(
            (&pages[0].1.message, pages[0].1.next.as_deref()),
            (&said, Some("drover failover SERVICE... --from eu-west --plan, some services at a time"))
        );
    }
}
