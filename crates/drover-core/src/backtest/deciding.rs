//! From verdicts to what would have been done: the real decision and its real plan, carried out at once.

use super::Backtest;
use super::findings::{Event, EventKind};
use crate::decide::{self, Plans};
use crate::plan;
use crate::plan::overtaken;
use drover_model::decision::{ActionDecision, Conclusion};
use drover_model::journal::RunState;
use drover_model::plan::{ActiveRun, EndedRun, Intent, Plan, StepKind, shares_with_run};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Block, TargetOrigin, TrafficState};
use drover_model::{EndpointKey, RegionId, RunId, ServiceId, Span, Timestamp};
use std::collections::BTreeSet;

/// Between two looks while something is not well. What time alone changes says when ([`ActionDecision::look_again_at`]);
/// this is for what does not.
const LOOK_EVERY: Span = Span::from_secs(15);

/// Moves at one moment, at most: a world of more regions than that does not fail over at once, and the next look goes on.
const MOVES_AT_ONCE_MAX: usize = 64;

/// Ended questions that are remembered, at most: the pauses between questions grow no longer after three.
const ENDED_MAX: usize = 64;

/// How long a question stands when no service says.
const APPROVAL_SPAN: Span = Span::from_mins(15);

/// A question that nobody has answered.
pub(super) struct Question {
    plan: Plan,
    decision: ActionDecision,
    run: RunId,
    expires_at: Timestamp,
}

/// A failover, and who has not come back from it. At most as many as events are kept.
pub(super) struct Left {
    /// Which of the events it is.
    event: usize,
    region: RegionId,
    out: BTreeSet<ServiceId>,
}

impl Backtest {
    /// Looks until there is nothing more to do at this moment: each move is decided in the world that the one before made.
    pub(super) fn look(&mut self) {
        for _ in 0..MOVES_AT_ONCE_MAX {
            if !self.look_once() {
                return;
            }
        }
    }

    /// Says whether anything was moved.
    fn look_once(&mut self) -> bool {
        self.close_questions();
        let (mut decisions, plans) = decide::decide_and_plan(&self.world, self.now);
        decisions.sort_by_key(|d| match (d.conclusion, d.purpose) {
            (Conclusion::Act, Purpose::Failback) => 1,
            (Conclusion::Act, _) => 0,
            (Conclusion::Ask, _) => 2,
            (Conclusion::Hold, _) => 3,
        });
        let again = decisions.iter().filter_map(|d| d.look_again_at).filter(|at| *at > self.now);
        let every = (!decisions.is_empty()).then(|| self.now + LOOK_EVERY);
        let unanswered = self.questions.iter().map(|q| q.expires_at);
        self.look_at = again.chain(every).chain(unanswered).min();
        for decision in decisions {
            let moved = match decision.conclusion {
                Conclusion::Act => self.act(&decision, &plans),
                Conclusion::Ask => self.ask(decision, &plans),
                Conclusion::Hold => self.bring_back(&decision.reason),
            };
            if moved {
                return true;
            }
        }
        false
    }

    fn plan_of(&self, decision: &ActionDecision, plans: &Plans) -> Option<Plan> {
        let intent = decide::intent_of(decision);
        let planned = plans.made_for(&intent).cloned();
        planned.unwrap_or_else(|| plan::plan(&self.world, &intent, self.now)).plan
    }

    fn act(&mut self, decision: &ActionDecision, plans: &Plans) -> bool {
        let Some(plan) = self.plan_of(decision, plans) else { return false };
        let run = self.next_run();
        if decision.purpose == Purpose::Failover {
            self.tell(EventKind::Failover, decision, &plan.services);
            self.block(decision, &plan.services, &run);
        } else {
            self.tell_back(&decision.region, &plan.services);
        }
        self.carry_out(&plan, &run)
    }

    /// After an automatic failover, none of its class for a while (I8).
    fn block(&mut self, decision: &ActionDecision, services: &[ServiceId], run: &RunId) {
        let now = self.now;
        self.world.blocks.retain(|b| now < b.until);
        for service in services {
            let Some(config) = self.config.services.get(service) else { continue };
            self.world.blocks.retain(|b| b.service != *service || b.class != decision.class);
            self.world.blocks.push(Block {
                service: service.clone(),
                class: decision.class,
                run: run.clone(),
                until: now + config.failover.block_period,
            });
        }
    }

    /// Keeps the question open. It moves nothing, and yet the next look must see it.
    fn ask(&mut self, decision: ActionDecision, plans: &Plans) -> bool {
        let Some(plan) = self.plan_of(&decision, plans) else { return false };
        let run = self.next_run();
        self.tell(EventKind::Question, &decision, &plan.services);
        let spans = plan.services.iter().filter_map(|s| self.config.services.get(s));
        let span = spans.map(|s| s.failover.approval_expires).min().unwrap_or(APPROVAL_SPAN);
        self.world.runs.push(ActiveRun {
            run: run.clone(),
            services: plan.services.clone(),
            region: decision.region.clone(),
            purpose: Some(decision.purpose),
            rolling_back: false,
            by_stages: false,
            by: Some(Actor::Automatic),
            counts_on: BTreeSet::new(),
            gives_way: false,
            awaiting_approval: true,
        });
        self.questions.push(Question { plan, decision, run, expires_at: self.now + span });
        true
    }

    /// Ends the questions that expired, and those to which nobody can say yes any more.
    fn close_questions(&mut self) {
        let now = self.now;
        for question in std::mem::take(&mut self.questions) {
            let state = if now >= question.expires_at {
                RunState::ExpiredUnapproved
            } else if overtaken(&question.plan, &self.world, now).is_some() {
                RunState::Rejected
            } else {
                self.questions.push(question);
                continue;
            };
            self.world.runs.retain(|r| r.run != question.run);
            self.world.ended.push(EndedRun {
                run: question.run,
                region: question.decision.region,
                services: question.plan.services,
                class: question.decision.class,
                state,
                ended_at: now,
                by_person: false,
            });
            let surplus = self.world.ended.len().saturating_sub(ENDED_MAX);
            self.world.ended.drain(..surplus);
        }
    }

    /// What is offered is taken: a person brings it back.
    fn bring_back(&mut self, reason: &Reason) -> bool {
        let Reason::FailbackOffered { services, region, .. } = reason else { return false };
        let intent = Intent {
            purpose: Purpose::Failback,
            services: services.clone(),
            region: region.clone(),
            to: None,
            automatic: false,
            hold_for: None,
            reason: "as offered".into(),
            accept: vec![],
        };
        let planned = plan::plan(&self.world, &intent, self.now);
        let Some(plan) = planned.plan.filter(|_| planned.refusals.is_empty()) else { return false };
        let run = self.next_run();
        self.tell_back(region, &plan.services);
        self.carry_out(&plan, &run)
    }

    /// Every change of the plan, one after the other, as its steps would publish them. Says whether there was any.
    fn carry_out(&mut self, plan: &Plan, run: &RunId) -> bool {
        let mut any = false;
        for step in &plan.steps {
            let StepKind::ShiftTraffic { changes } = &step.kind else { continue };
            for change in changes {
                let Some(before) = self.world.traffic.get(&change.service) else { continue };
                let target = TrafficState {
                    service: change.service.clone(),
                    generation: change.to_generation,
                    shares: shares_with_run(&before.shares, &change.shares_after, run, &plan.intent),
                    weights: change.weights_after.clone(),
                    changed_at: self.now,
                    origin: TargetOrigin::Run { run: run.clone() },
                    decided: change.to_generation,
                };
                any |= target.weights != before.weights;
                self.world.traffic.insert(change.service.clone(), target);
            }
        }
        self.note_traffic(&plan.services);
        any
    }

    fn note_traffic(&mut self, services: &[ServiceId]) {
        for service in services.iter().filter_map(|s| self.config.services.get(s)) {
            for region in service.endpoints.keys() {
                let endpoint = EndpointKey::new(&service.name, region);
                self.truth.carries(&endpoint, self.now, self.carries(&endpoint));
            }
        }
    }

    fn next_run(&mut self) -> RunId {
        self.runs += 1;
        RunId::numbered(self.runs)
    }

    fn tell(&mut self, kind: EventKind, decision: &ActionDecision, services: &[ServiceId]) {
        let windows = services.iter().filter_map(|s| self.config.services.get(s));
        let grace = windows.map(|s| s.failover.failure_window).max().unwrap_or_default();
        let endpoints = services.iter().map(|s| EndpointKey::new(s, &decision.region));
        let rightness = self.truth.judge(kind, endpoints, self.now, grace);
        let kept = self.findings.keep_event(Event {
            at: self.now,
            kind,
            region: decision.region.clone(),
            services: services.to_vec(),
            class: decision.class,
            code: decision.reason.code().to_owned(),
            because: decision.reason.to_string(),
            rightness,
            back_at: None,
        });
        if let Some(event) = kept.filter(|_| kind == EventKind::Failover) {
            let out = services.iter().cloned().collect();
            self.left.push(Left { event, region: decision.region.clone(), out });
        }
    }

    /// These services are back. A failover is over when the last of those that it moved is.
    fn tell_back(&mut self, region: &RegionId, services: &[ServiceId]) {
        self.findings.totals.failbacks += 1;
        let (now, events) = (self.now, &mut self.findings.events);
        self.left.retain_mut(|left| {
            if left.region == *region {
                left.out.retain(|service| !services.contains(service));
            }
            let over = left.out.is_empty();
            if let Some(event) = events.get_mut(left.event).filter(|_| over) {
                event.back_at = Some(now);
            }
            !over
        });
    }
}
