//! One look of the leader: the world put together, decided about by the core, and what it says turned into runs. The
//! order of things is the coordinator's; the choices are all the core's.

use crate::planted::{NEXT_TO_NOTHING, Planted};
use crate::state::State;
use drover_core::decide::{Plans, Stop};
use drover_core::opinion::policy_of;
use drover_core::{check, decide, plan};
use drover_exec::{Approved, Command, Consent, Execution};
use drover_model::approvals::Approvals;
use drover_model::decision::{ActionDecision, Conclusion, FailureClass, VerdictState};
use drover_model::journal::{RunState, Trigger};
use drover_model::plan::{ActiveRun, EndedRun, Intent, Plan, World};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Block, Load, TrafficState};
use drover_model::{DecisionId, EndpointKey, Percent, RunId, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a question stands when no service says.
const APPROVAL_SPAN: Span = Span::from_mins(15);
/// Pause before a lapsed drain that could not be ended is tried again.
const LAPSE_RETRY: Span = Span::from_mins(15);
/// Objective when no service says.
const RTO: Span = Span::from_mins(30);

/// What a leader sees and would do.
pub(crate) struct Look {
    world: World,
    decisions: Vec<ActionDecision>,
    /// Those that deciding has made already.
    plans: Plans,
}

impl Look {
    /// Runs that must give way.
    fn must_stop(&self) -> Vec<Stop> {
        decide::must_stop(&self.world, &self.decisions)
    }

    /// What runs are told to do about it: questions that the world has overtaken are withdrawn, and what stands in the way
    /// of something more urgent is stopped.
    pub(crate) fn commands(&self, state: &State) -> Vec<(RunId, Command)> {
        let overtaken = state.overtaken(&self.world).into_iter();
        let withdrawn =
            overtaken.map(|(run, reason)| (run, Command::Reject { by: Actor::Automatic, reason }));
        let stopped = self.must_stop().into_iter().map(|stop| {
            let (by, reason, roll_back) = (Actor::Automatic, stop.why, stop.roll_back);
            (stop.run, Command::Abort { by, reason, roll_back })
        });
        withdrawn.chain(stopped).collect()
    }
}

/// A run that is to be created.
pub(crate) struct NewRun {
    pub(crate) run: RunId,
    pub(crate) consent: Consent,
    pub(crate) by: Actor,
    pub(crate) trigger: Trigger,
    pub(crate) rto: Span,
}

impl State {
    /// The world now, as deciding, planning and checking may read it.
    pub(crate) fn world(&self) -> World {
        let now = self.now();
        let mut config = self.loaded.config.clone();
        if self.lacks(Planted::CommonCauseBreaker) {
            config = Arc::new(self.without_breaker((*config).clone()));
        }
        let runs = self.leader.runs.values().map(|driven| driven.snapshot.borrow());
        let (mut open, mut over) = (vec![], vec![]);
        for run in runs {
            open.extend(active(&run));
            over.extend(ended(&run));
        }
        World {
            verdicts: self.leader.standing.clone(),
            vantages: self.vantage_states(now),
            traffic: self.store.traffic.clone(),
            loads: self.loads(now),
            holds: self.store.holds.values().cloned().collect(),
            held: BTreeMap::new(),
            dns_of_another_store: None,
            freeze: self.store.freeze.clone(),
            blocks: self.blocks(&over),
            runs: open,
            ended: over,
            rearmed: self.store.rearmed.clone(),
            runbooks: self.loaded.runbooks.clone(),
            heard_since_start: self
                .leader
                .gates
                .iter()
                .filter(|(_, gate)| {
                    gate.probed_since(self.leader.started_at) || self.lacks(Planted::QuietAtBoot)
                })
                .map(|(agent, _)| agent.clone())
                .collect(),
            service_versions: self.loaded.service_versions.clone(),
            config,
        }
    }

    /// Those that failovers set, and those that follow from a person having stopped one or from a return that
    /// did not get there.
    fn blocks(&self, ended: &[EndedRun]) -> Vec<Block> {
        if self.lacks(Planted::BlockPeriod) {
            return vec![];
        }
        let mut all: Vec<Block> = self.store.blocks.values().cloned().collect();
        let ended_early = |r: &&EndedRun| matches!(r.state, RunState::Aborted | RunState::RolledBack);
        let counts = |r: &&EndedRun| r.by_person || r.class == FailureClass::Recovery;
        for run in ended.iter().filter(ended_early).filter(counts) {
            for service in run.services.iter().filter_map(|s| self.loaded.config.services.get(s)) {
                let rearmed = self.store.rearmed.get(&service.name).is_some_and(|at| *at >= run.ended_at);
                if !rearmed {
                    let until = run.ended_at + service.failover.block_period;
                    let (service, class) = (service.name.clone(), run.class);
                    all.push(Block { service, class, run: run.run.clone(), until });
                }
            }
        }
        all
    }

    /// What a script said is measured; what was declared counts when it is more.
    fn loads(&self, now: Timestamp) -> BTreeMap<ServiceId, Load> {
        if self.lacks(Planted::CapacityGuard) {
            let services = self.loaded.config.services.keys();
            return services
                .map(|s| (s.clone(), Load::Measured { rate: NEXT_TO_NOTHING, at: now }))
                .collect();
        }
        let load = |name: &ServiceId, declared| match (self.truth.loads.get(name).copied(), declared) {
            (Some(measured), Some(rate)) if rate > measured => Load::Declared { rate },
            (Some(rate), _) => Load::Measured { rate, at: now },
            (None, Some(rate)) => Load::Declared { rate },
            (None, None) => Load::Unknown,
        };
        let services = self.loaded.config.services.values();
        services.map(|s| (s.name.clone(), load(&s.name, s.peak_load))).collect()
    }

    /// The world of this moment with what the core decides about it; nothing where all is well and nothing is under way,
    /// about which it decides nothing either.
    pub(crate) fn look(&self) -> Option<Look> {
        if self.is_well() && !self.is_busy() {
            return None;
        }
        let world = self.world();
        let (decisions, plans) = decide::decide_and_plan(&world, self.now());
        Some(Look { world, decisions, plans })
    }

    /// Every endpoint is healthy and carries its share, and nobody holds any back.
    fn is_well(&self) -> bool {
        let healthy = |service: &ServiceId, region| {
            let standing = self.leader.standing.get(&EndpointKey::new(service, region));
            standing.is_some_and(|s| s.verdict.state == VerdictState::Healthy)
        };
        self.store.holds.is_empty()
            && self.loaded.config.services.values().all(|service| {
                let target = self.store.traffic.get(&service.name);
                let whole = |t: &TrafficState| {
                    t.shares.keys().eq(service.endpoints.keys())
                        && t.shares.values().all(|s| s.share == Percent::FULL)
                };
                target.is_some_and(whole) && service.endpoints.keys().all(|r| healthy(&service.name, r))
            })
    }

    /// Takes what was decided about every region, and says which run is to be created: at most one a look, because the
    /// next look must see it.
    pub(crate) fn decide(&mut self, look: Option<Look>) -> Option<NewRun> {
        let Some(Look { world, mut decisions, plans }) = look else {
            self.leader.decisions.clear();
            return None;
        };
        let now = self.now();
        decisions.sort_by_key(|d| match d.conclusion {
            Conclusion::Act => 0,
            Conclusion::Ask => 1,
            Conclusion::Hold => 2,
        });
        let regions: Vec<_> = decisions.iter().map(|d| d.region.clone()).collect();
        self.leader.decisions.retain(|r, _| regions.contains(r));
        let mut created = None;
        for decision in decisions {
            if created.is_some() && decision.conclusion != Conclusion::Hold {
                continue;
            }
            let new = self.take(&world, &plans, decision, now);
            created = created.or(new);
        }
        created.or_else(|| self.end_lapsed_hold(&world))
    }

    fn take(
        &mut self,
        world: &World,
        plans: &Plans,
        decision: ActionDecision,
        now: Timestamp,
    ) -> Option<NewRun> {
        let plan = match decision.conclusion {
            Conclusion::Hold => None,
            Conclusion::Act | Conclusion::Ask => {
                let intent = decide::intent_of(&decision);
                let known = plans.made_for(&intent).cloned();
                known.unwrap_or_else(|| plan::plan(world, &intent, now)).plan
            }
        };
        let before = self.leader.decisions.insert(decision.region.clone(), decision.clone());
        self.saw_decision(&decision);
        let code = std::mem::discriminant::<Reason>;
        let same = before.is_some_and(|b| {
            (b.conclusion, code(&b.reason), &b.services)
                == (decision.conclusion, code(&decision.reason), &decision.services)
        });
        if !same || plan.is_some() {
            self.tell(decide::sentence(&decision));
        }
        let plan = plan?;
        self.store.decisions += 1;
        let trigger = Trigger::Decision {
            decision: DecisionId::numbered(self.store.decisions),
            class: decision.class,
            first_failure_at: self.first_failure(&decision, now),
        };
        let rto = self.rto_of(&plan);
        let consent = if decision.conclusion == Conclusion::Act {
            Consent::Given(Approved::by_policy(plan).ok()?)
        } else {
            let services = plan.services.iter().filter_map(|s| world.config.services.get(s));
            let expires = services.map(|s| s.failover.approval_expires).min().unwrap_or(APPROVAL_SPAN);
            Consent::Ask { plan, expires, approvals: Approvals::default() }
        };
        Some(NewRun { run: self.next_run(), consent, by: Actor::Automatic, trigger, rto })
    }

    pub(crate) fn next_run(&mut self) -> RunId {
        self.store.runs_begun += 1;
        RunId::numbered(self.store.runs_begun)
    }

    pub(crate) fn rto_of(&self, plan: &Plan) -> Span {
        let services = plan.services.iter().filter_map(|s| self.loaded.config.services.get(s));
        services.map(|s| s.rto).min().unwrap_or(RTO)
    }

    /// The start of the RTO clock: the first failure that any vantage saw of what is decided now.
    fn first_failure(&self, decision: &ActionDecision, now: Timestamp) -> Timestamp {
        let mut first = now;
        for service in decision.services.iter().filter_map(|s| self.loaded.config.services.get(s)) {
            let key = EndpointKey::new(&service.name, &decision.region);
            let opinions = self.leader.opinions.get(&key).into_iter().flat_map(BTreeMap::values);
            let seen =
                opinions.filter_map(|o| o.at(now, &policy_of(service)).first_failure_of_streak_at).min();
            first = seen.map_or(first, |at| first.min(at));
        }
        first
    }

    /// A drain whose time is over ends by the same path as `undrain`, if the guards let it.
    fn end_lapsed_hold(&mut self, world: &World) -> Option<NewRun> {
        let now = self.now();
        if world.freeze.as_ref().is_some_and(|f| f.holds_at(now)) {
            return None;
        }
        let lapsed = world.holds.iter().find(|h| {
            let busy = world.runs.iter().any(|r| r.services.iter().any(|s| h.services.contains(s)));
            let tried = self.leader.lapse_tried.get(&h.run);
            let lately = tried.is_some_and(|at| now.since(*at) < LAPSE_RETRY);
            h.expires_at.is_some_and(|t| t <= now) && !busy && !lately
        })?;
        let intent = Intent {
            purpose: Purpose::Undrain,
            services: lapsed.services.clone(),
            region: lapsed.region.clone(),
            to: None,
            automatic: true,
            hold_for: None,
            reason: format!("the drain by {} is past its end", lapsed.by),
            accept: vec![],
        };
        let planned = plan::plan(world, &intent, now);
        let plan = planned.plan.filter(|_| planned.refusals.is_empty())?;
        if !check::check(&plan, world).is_empty() {
            return None;
        }
        self.leader.lapse_tried.insert(lapsed.run.clone(), now);
        let rto = self.rto_of(&plan);
        let consent = Consent::Given(Approved::by_policy(plan).ok()?);
        Some(NewRun { run: self.next_run(), consent, by: Actor::Automatic, trigger: Trigger::Command, rto })
    }

    /// Questions of drover's own whose plan the world has overtaken, with what overtook them.
    pub(crate) fn overtaken(&self, world: &World) -> Vec<(RunId, String)> {
        let asked: Vec<_> = self
            .executions()
            .filter(|e| {
                e.state() == RunState::AwaitingApproval
                    && e.current_step().is_none()
                    && matches!(e.origin().trigger, Trigger::Decision { .. })
            })
            .collect();
        let overtaken = asked.into_iter().filter_map(|e| {
            let why = plan::overtaken(e.plan(), world, self.now())?;
            Some((e.run().clone(), format!("overtaken: {why}")))
        });
        overtaken.collect()
    }
}

/// Does it wait for an answer before anything was done?
fn is_asked(e: &Execution) -> bool {
    e.state() == RunState::AwaitingApproval && e.current_step().is_none()
}

/// A run that is under way: not over, and not merely asked for.
pub(crate) fn is_under_way(e: &Execution) -> bool {
    !e.is_over() && !is_asked(e)
}

/// A run that is not over, as deciding sees it.
pub(crate) fn active(e: &Execution) -> Option<ActiveRun> {
    (!e.is_over()).then(|| ActiveRun {
        run: e.run().clone(),
        services: e.plan().services.clone(),
        region: e.plan().intent.region.clone(),
        purpose: Some(e.plan().intent.purpose),
        rolling_back: e.progress().is_undoing(),
        by_stages: e.plan().is_by_stages(),
        by: Some(e.origin().by.clone()),
        counts_on: e.counts_on(),
        gives_way: e.gives_way(),
        awaiting_approval: is_asked(e),
    })
}

/// A run of drover's own that ended and moved nothing for good.
fn ended(e: &Execution) -> Option<EndedRun> {
    use RunState::{Aborted, ExpiredUnapproved, Rejected, RolledBack};
    let Trigger::Decision { class, .. } = &e.origin().trigger else { return None };
    let early =
        !e.was_superseded() && matches!(e.state(), Aborted | RolledBack | Rejected | ExpiredUnapproved);
    Some(EndedRun {
        run: e.run().clone(),
        region: e.plan().intent.region.clone(),
        services: e.plan().services.clone(),
        class: *class,
        state: e.state(),
        ended_at: e.ended_at().filter(|_| early)?,
        by_person: matches!(e.progress().stopped_by(), Some(Actor::Person { .. })),
    })
}
