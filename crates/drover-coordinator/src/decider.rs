//! Decides whenever something changed: runs the pure function on the world, keeps what it said with its inputs, and
//! starts or asks for what it concluded.

use crate::audit::number_of_key;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::live::LastDecision;
use crate::runs::EndedEarly;
use drover_core::opinion::policy_of;
use drover_core::{check, decide, plan};
use drover_exec::{Approved, Consent};
use drover_model::config::Service;
use drover_model::decision::{
    ActionDecision, Conclusion, DECISION_SCHEMA, DecisionBody, GuardResult, StoredDecision,
};
use drover_model::journal::{RunState, Trigger};
use drover_model::plan::{Finding, Intent, Plan, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Hold};
use drover_model::{DecisionId, RunId, ServiceId, Span, Timestamp};
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
        let mut world = self.world(now);
        if self.withdraw_overtaken(&world).await {
            world = self.world(now);
        }
        let mut decisions = decide::decide(&world, now);
        // What acts comes first: nothing that goes wrong with writing down why nothing is done may keep it waiting.
        decisions.sort_by_key(|d| match d.conclusion {
            Conclusion::Act => 0,
            Conclusion::Ask => 1,
            Conclusion::Hold => 2,
        });
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
            let taken = self.take_decision(&world, decision, now).await;
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

    /// Keeps a decision if it says something new, and does what it concludes. Says whether a run was created.
    async fn take_decision(
        self: &Arc<Self>,
        world: &World,
        mut decision: ActionDecision,
        now: Timestamp,
    ) -> Result<bool, CoordinatorError> {
        if let Some(reason) = self.too_soon(&decision, now) {
            hold_back(&mut decision, "repeat", reason);
        }
        let plan = match decision.conclusion {
            Conclusion::Hold => None,
            Conclusion::Act | Conclusion::Ask => self.plan_for(world, &mut decision, now),
        };
        let before = self.live().decisions.get(&decision.region).cloned();
        let same = before.as_ref().is_some_and(|b| {
            b.decision.conclusion == decision.conclusion
                && b.decision.reason.code() == decision.reason.code()
                && b.decision.services == decision.services
        });
        if same && plan.is_none() {
            let id = before.and_then(|b| b.id);
            self.remember(decision, id);
            return Ok(false);
        }
        let id = DecisionId::numbered(self.counters.decisions.next());
        tracing::info!(decision = %id, "{}", decide::sentence(&decision));
        // Why comes before what: a crash in between leaves a decision without its run, never a run without its decision.
        let run = plan.as_ref().map(|_| self.next_run());
        let about = decision.region.to_string();
        let mut body = DecisionBody::Action {
            world: Box::new(world.narrowed(&decide::concerned(world, &decision.region))),
            region: decision.region.clone(),
            decision: decision.clone(),
            plan: plan.as_ref().map(|p| p.id.clone()),
            run: run.clone(),
        };
        let stored = self.store_decision(&id, now, body.clone()).await;
        self.unless_fenced("store a decision", &about, stored)?;
        if let (Some(plan), Some(run)) = (plan, &run)
            && let Err(e) = self.start_from(world, run, plan, &decision, &id, now).await
        {
            if let DecisionBody::Action { run, .. } = &mut body {
                *run = None;
            }
            let stored = self.store_decision(&id, now, body).await;
            self.unless_fenced("store a decision", &about, stored)?;
            return Err(e);
        }
        let outcome = run.as_ref().map_or("nothing was done", |r| r.as_str());
        let sentence = decide::sentence(&decision);
        let audited = self.audit(&Actor::Automatic, "decide", &about, &sentence, outcome).await;
        self.unless_fenced("audit a decision", &about, audited)?;
        self.remember(decision, Some(id));
        Ok(run.is_some())
    }

    /// Why a move that would be made or asked about has to wait a little, when it has.
    fn too_soon(&self, decision: &ActionDecision, now: Timestamp) -> Option<Reason> {
        if decision.conclusion == Conclusion::Hold {
            return None;
        }
        // A freeze counts from the moment it was asked for, even in the middle of a look.
        if let Some(f) = self.live().freeze.as_ref().filter(|f| f.holds_at(now)) {
            let (by, why) = (f.by.to_string(), f.reason.clone());
            return Some(Reason::Frozen { by, why, until: f.expires_at });
        }
        let asking = decision.conclusion == Conclusion::Ask;
        self.answered_no(decision, now).filter(|_| asking).or_else(|| self.ended_by_itself(decision, now))
    }

    /// A person said no to the same move lately: asking again every second would be nagging. The block period of the
    /// services, or `rearm`, ends that.
    fn answered_no(&self, decision: &ActionDecision, now: Timestamp) -> Option<Reason> {
        let quiet = self.longest(decision, |s| s.failover.block_period);
        let rearmed = self.live().rearmed.clone();
        let mut ended = self.runs.ended_by_people().into_iter().rev();
        let run = ended.find(|r| {
            r.state == RunState::Rejected
                && r.region == decision.region
                && r.services == decision.services
                && now.since(r.ended_at) < quiet
                && !r.services.iter().any(|s| rearmed.get(s).is_some_and(|at| *at >= r.ended_at))
        })?;
        blocked(run, quiet)
    }

    /// The last run for this found something else than was planned and ended without touching anything. What it found
    /// may pass, so the next attempt comes after one failure window, not at once and not in a block period.
    fn ended_by_itself(&self, decision: &ActionDecision, now: Timestamp) -> Option<Reason> {
        let quiet = self.longest(decision, |s| s.failover.failure_window);
        let mut ended = self.runs.ended_by_policy().into_iter().rev();
        let run = ended.find(|r| {
            r.region == decision.region && r.services == decision.services && now.since(r.ended_at) < quiet
        })?;
        blocked(run, quiet)
    }

    fn longest(&self, decision: &ActionDecision, of: impl Fn(&Service) -> Span) -> Span {
        let loaded = self.loaded();
        let services = decision.services.iter().filter_map(|s| loaded.config.services.get(s));
        services.map(of).max().unwrap_or(Span::ZERO)
    }

    /// Ends drains whose time is over by the same path as `undrain`: planned, checked, run, validated. While frozen, or
    /// where a guard refuses, nothing moves and `status` says that the drain is past its end. One run a look, from a
    /// world of this moment: the next one must see it (I2).
    async fn end_lapsed_holds(self: &Arc<Self>, now: Timestamp) -> Result<(), CoordinatorError> {
        self.drop_empty_holds(&self.world(now)).await?;
        let world = self.world(now);
        if world.freeze.as_ref().is_some_and(|f| f.holds_at(now)) {
            return Ok(());
        }
        for hold in world.holds.iter().filter(|h| h.expires_at.is_some_and(|t| t <= now)) {
            let services = still_held(&world, hold);
            let busy = world.runs.iter().any(|r| r.services.iter().any(|s| services.contains(s)));
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
        self.live().decisions.insert(decision.region.clone(), LastDecision { decision, sentence, id });
    }

    /// The plan of a decision, checked. Without a plan that passes, there is nothing to do or to ask: a hold.
    fn plan_for(&self, world: &World, decision: &mut ActionDecision, now: Timestamp) -> Option<Plan> {
        let planned = plan::plan(world, &decide::intent_of(decision), now);
        let Some(plan) = planned.plan else {
            let reason = planned.refusals.into_iter().next().unwrap_or(Reason::NothingToDo);
            hold_back(decision, "plan", reason);
            return None;
        };
        // What a person is asked to overrule, the checker finds too; anything else it finds stops the question as well.
        let asked = decision.conclusion == Conclusion::Ask;
        let stops = |f: &Finding| !(asked && check::a_person_may_overrule(f));
        if let Some(f) = check::check(&plan, world).into_iter().find(stops) {
            let reason = Reason::CheckFailed { finding: format!("{}: {}", f.invariant, f.message) };
            tracing::error!(plan = %plan.id, "{reason}");
            hold_back(decision, "check", reason);
            return None;
        }
        Some(plan)
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
                let expires = approval_span(world, &plan);
                Consent::Ask { plan, expires }
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

/// What would have been done or asked is not, for this reason.
fn hold_back(decision: &mut ActionDecision, guard: &str, reason: Reason) {
    decision.guards.push(GuardResult { guard: guard.into(), passed: false, reason: reason.clone() });
    decision.reason = reason;
    decision.conclusion = Conclusion::Hold;
}

fn blocked(run: EndedEarly, quiet: Span) -> Option<Reason> {
    let service = run.services.into_iter().next()?;
    Some(Reason::Blocked { service, class: run.class, run: run.run, until: run.ended_at + quiet })
}

/// What a drain still keeps out: services that are configured there and did not come back by other ways.
fn still_held(world: &World, hold: &Hold) -> Vec<ServiceId> {
    let configured =
        |s: &ServiceId| world.config.services.get(s).is_some_and(|c| c.endpoints.contains_key(&hold.region));
    let back = |s: &ServiceId| world.traffic.get(s).is_some_and(|t| t.is_full(&hold.region));
    hold.services.iter().filter(|s| configured(s) && !back(s)).cloned().collect()
}

/// The shortest time in which a question expires.
fn approval_span(world: &World, plan: &Plan) -> Span {
    let spans = plan.services.iter().filter_map(|s| world.config.services.get(s));
    spans.map(|s| s.failover.approval_expires).min().unwrap_or(Span::from_mins(15))
}
