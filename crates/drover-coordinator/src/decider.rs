//! Decides whenever something changed: runs the pure function on the world, keeps what it said with its inputs, and
//! starts or asks for what it concluded.

use crate::audit::number_of_key;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::live::LastDecision;
use drover_core::opinion::policy_of;
use drover_core::{check, decide, plan};
use drover_exec::{Approved, Consent};
use drover_model::decision::{
    ActionDecision, Conclusion, DECISION_SCHEMA, DecisionBody, GuardResult, StoredDecision,
};
use drover_model::journal::{RunState, Trigger};
use drover_model::plan::{Finding, Intent, Plan, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use drover_model::{DecisionId, ServiceId, Span, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Longest pause between two looks when nothing wakes the decider: guards such as a freeze end by time alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before a lapsed drain that could not be ended is tried again.
const LAPSE_RETRY: Span = Span::from_mins(15);
/// Decisions handed out newest first, at most.
const RECENT_MAX: usize = 2_000;
/// Decisions waiting to be written; past this a verdict change is logged and not stored, and says so.
pub const DECISIONS_WAITING_MAX: usize = 10_000;

impl Coordinator {
    /// Decides until told to stop.
    pub(crate) async fn run_decider(self: Arc<Self>) {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.decide_wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            match self.decide_once().await {
                Ok(next) => {
                    let now = self.clock.now();
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
        let world = self.world(now);
        let decisions = decide::decide(&world, now);
        let next = decisions.iter().filter_map(|d| d.look_again_at).min();
        {
            let regions: Vec<_> = decisions.iter().map(|d| d.region.clone()).collect();
            self.live().decisions.retain(|r, _| regions.contains(r));
        }
        self.end_lapsed_holds(&world, now).await?;
        let mut acted = false;
        for decision in decisions {
            // One act a look: the next one must see the run that this one started.
            if acted && decision.conclusion != Conclusion::Hold {
                self.decide_wake.notify_one();
                continue;
            }
            acted |= self.take(&world, decision, now).await?;
        }
        Ok(next)
    }

    /// Keeps a decision if it says something new, and does what it concludes. Says whether a run was created.
    async fn take(
        self: &Arc<Self>,
        world: &World,
        mut decision: ActionDecision,
        now: Timestamp,
    ) -> Result<bool, CoordinatorError> {
        let plan = match decision.conclusion {
            Conclusion::Hold => None,
            Conclusion::Ask if self.was_answered_no(&decision, now) => None,
            Conclusion::Act | Conclusion::Ask => self.plan_for(world, &mut decision, now),
        };
        let before = self.live().decisions.get(&decision.region).cloned();
        let same = before.as_ref().is_some_and(|b| {
            b.decision.conclusion == decision.conclusion
                && b.decision.reason.code() == decision.reason.code()
                && b.decision.services == decision.services
        });
        if same && decision.conclusion != Conclusion::Act {
            let id = before.and_then(|b| b.id);
            self.remember(decision, id);
            return Ok(false);
        }
        let id = DecisionId::numbered(self.counters.decisions.next());
        tracing::info!(decision = %id, "{}", decide::sentence(&decision));
        let run = match &plan {
            Some(plan) => Some(self.start_from(world, plan.clone(), &decision, &id, now).await?),
            None => None,
        };
        let body = DecisionBody::Action {
            world: Box::new(world.narrowed(&decide::concerned(world, &decision.region))),
            region: decision.region.clone(),
            decision: decision.clone(),
            plan: plan.map(|p| p.id),
            run: run.clone(),
        };
        self.store_decision(&id, now, body).await?;
        self.audit(
            &Actor::Automatic,
            "decide",
            decision.region.as_str(),
            &decide::sentence(&decision),
            run.as_ref().map_or("nothing was done", |r| r.as_str()),
        )
        .await?;
        self.remember(decision, Some(id));
        Ok(run.is_some())
    }

    /// A person said no to the same move lately: asking again every second would be nagging. The block period of the
    /// services, or `rearm`, ends that.
    fn was_answered_no(&self, decision: &ActionDecision, now: Timestamp) -> bool {
        let loaded = self.loaded();
        let period =
            |s: &ServiceId| loaded.config.services.get(s).map_or(Span::ZERO, |c| c.failover.block_period);
        let quiet = decision.services.iter().map(period).max().unwrap_or(Span::ZERO);
        let rearmed = self.live().rearmed.clone();
        self.runs.ended_by_people().iter().any(|r| {
            r.state == RunState::Rejected
                && r.region == decision.region
                && r.services == decision.services
                && now.since(r.ended_at) < quiet
                && !r.services.iter().any(|s| rearmed.get(s).is_some_and(|at| *at >= r.ended_at))
        })
    }

    /// Ends drains whose time is over by the same path as `undrain`: planned, checked, run, validated. While frozen, or
    /// where a guard refuses, nothing moves and `status` says that the drain is past its end.
    async fn end_lapsed_holds(
        self: &Arc<Self>,
        world: &World,
        now: Timestamp,
    ) -> Result<(), CoordinatorError> {
        if world.freeze.as_ref().is_some_and(|f| f.holds_at(now)) {
            return Ok(());
        }
        for hold in world.holds.iter().filter(|h| h.expires_at.is_some_and(|t| t <= now)) {
            let busy =
                self.runs.active().iter().any(|r| r.services.iter().any(|s| hold.services.contains(s)));
            if busy || self.tried_lately(&hold.run, now) {
                continue;
            }
            let intent = Intent {
                purpose: Purpose::Undrain,
                services: hold.services.clone(),
                region: hold.region.clone(),
                to: None,
                automatic: true,
                hold_for: None,
                reason: format!("the drain by {} ({}) is past its end", hold.by, hold.reason),
            };
            let planned = plan::plan(world, &intent, now);
            let Some(plan) = planned.plan.filter(|_| planned.refusals.is_empty()) else { continue };
            if !check::check(&plan, world).is_empty() {
                continue;
            }
            let rto = self.rto_of(&plan.services);
            let approved =
                Approved::by_policy(plan).map_err(|e| CoordinatorError::store("end a lapsed drain", e))?;
            let run =
                self.create_run(Consent::Given(approved), Actor::Automatic, Trigger::Command, rto).await?;
            self.live().lapse_tried.insert(hold.run.clone(), now);
            self.audit(&Actor::Automatic, "undrain", hold.region.as_str(), &intent.reason, run.as_str())
                .await?;
        }
        Ok(())
    }

    /// An attempt that failed is not repeated at once; the person whose drain it was is paged meanwhile.
    fn tried_lately(&self, hold: &drover_model::RunId, now: Timestamp) -> bool {
        self.live().lapse_tried.get(hold).is_some_and(|at| now.since(*at) < LAPSE_RETRY)
    }

    fn remember(&self, decision: ActionDecision, id: Option<DecisionId>) {
        let sentence = decide::sentence(&decision);
        self.live().decisions.insert(decision.region.clone(), LastDecision { decision, sentence, id });
    }

    /// The plan of a decision, checked. A plan that fails its check turns the decision into a hold.
    fn plan_for(&self, world: &World, decision: &mut ActionDecision, now: Timestamp) -> Option<Plan> {
        let planned = plan::plan(world, &decide::intent_of(decision), now);
        let Some(plan) = planned.plan else {
            let reason = planned.refusals.into_iter().next().unwrap_or(Reason::NothingToDo);
            if decision.conclusion == Conclusion::Act {
                decision.guards.push(GuardResult {
                    guard: "plan".into(),
                    passed: false,
                    reason: reason.clone(),
                });
                decision.reason = reason;
                decision.conclusion = Conclusion::Hold;
            }
            return None;
        };
        // What a person is asked to overrule, the checker finds too; anything else it finds stops the question as well.
        let asked = decision.conclusion == Conclusion::Ask;
        let stops = |f: &Finding| !(asked && check::a_person_may_overrule(f));
        if let Some(f) = check::check(&plan, world).into_iter().find(stops) {
            let reason = Reason::CheckFailed { finding: format!("{}: {}", f.invariant, f.message) };
            tracing::error!(plan = %plan.id, "{reason}");
            decision.guards.push(GuardResult {
                guard: "check".into(),
                passed: false,
                reason: reason.clone(),
            });
            decision.reason = reason;
            decision.conclusion = Conclusion::Hold;
            return None;
        }
        Some(plan)
    }

    async fn start_from(
        self: &Arc<Self>,
        world: &World,
        plan: Plan,
        decision: &ActionDecision,
        id: &DecisionId,
        now: Timestamp,
    ) -> Result<drover_model::RunId, CoordinatorError> {
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
                let expires = approval_span(world, &plan);
                Consent::Ask { plan, expires }
            }
        };
        self.create_run(consent, Actor::Automatic, trigger, rto).await
    }

    /// When the first vantage saw the first failure of what is now decided: the start of the RTO clock.
    fn first_failure(&self, decision: &ActionDecision, now: Timestamp) -> Timestamp {
        let loaded = self.loaded();
        let live = self.live();
        let mut first = now;
        for service in &decision.services {
            let Some(config) = loaded.config.services.get(service) else { continue };
            let policy = policy_of(config);
            let key = drover_model::EndpointKey::new(service, &decision.region);
            for opinion in live.opinions.get(&key).into_iter().flat_map(|o| o.values()) {
                if let Some(at) = opinion.at(now, &policy).first_failure_of_streak_at {
                    first = first.min(at);
                }
            }
        }
        first
    }

    /// Writes a decision down.
    pub(crate) async fn store_decision(
        &self,
        id: &DecisionId,
        at: Timestamp,
        body: DecisionBody,
    ) -> Result<(), CoordinatorError> {
        let stored =
            StoredDecision { schema: DECISION_SCHEMA, id: id.clone(), at, epoch: self.db.epoch(), body };
        let number = keys::number_of(id.as_str()).unwrap_or(0);
        self.db.put(&keys::numbered(keys::DECISIONS, number), &stored).await
    }

    /// Writes a verdict down soon, without holding up whoever judged.
    pub(crate) fn record_later(&self, at: Timestamp, body: DecisionBody) {
        if self.recorder.try_send((at, body)).is_err() {
            tracing::error!(
                "more than {DECISIONS_WAITING_MAX} decisions wait to be stored; this one is only logged"
            );
        }
    }

    /// Writes down what was recorded until told to stop.
    pub(crate) async fn run_recorder(
        self: Arc<Self>,
        mut inbox: tokio::sync::mpsc::Receiver<(Timestamp, DecisionBody)>,
    ) {
        loop {
            let (at, body) = tokio::select! {
                () = self.stop.cancelled() => return,
                next = inbox.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let id = DecisionId::numbered(self.counters.decisions.next());
            if let Err(e) = self.store_decision(&id, at, body).await {
                tracing::error!(error = &e as &dyn std::error::Error, "can't store a decision");
            }
        }
    }

    /// The newest decisions first.
    pub(crate) async fn recent_decisions(&self) -> Result<Vec<StoredDecision>, CoordinatorError> {
        let newest = self.counters.decisions.last();
        let from = newest.saturating_sub(RECENT_MAX as u64);
        let after = keys::numbered(keys::DECISIONS, from);
        let mut all: Vec<StoredDecision> =
            self.db.list_after(keys::DECISIONS, &after).await?.into_iter().map(|(_, d)| d).collect();
        all.reverse();
        Ok(all)
    }

    /// Finds where the numbers of audit and decisions go on.
    pub(crate) async fn find_counters(&self) -> Result<(), CoordinatorError> {
        for (prefix, counter) in
            [(keys::AUDIT, &self.counters.audit), (keys::DECISIONS, &self.counters.decisions)]
        {
            counter.continue_after(self.db.last_key(prefix).await?.map_or(0, |k| number_of_key(&k)));
        }
        Ok(())
    }
}

/// The shortest time in which a question expires.
fn approval_span(world: &World, plan: &Plan) -> Span {
    let spans = plan.services.iter().filter_map(|s| world.config.services.get(s));
    spans.map(|s| s.failover.approval_expires).min().unwrap_or(Span::from_mins(15))
}
