//! What must never happen, looked for after every record, every effect and every change of DNS.
//!
//! The counting here is its own: evidence is counted from what vantages have seen and told, capacity from what is true, and
//! nothing asks a verdict, a guard or the planner. So a mistake there shows here.

use crate::agent::Sent;
use crate::leader;
use crate::state::{Answers, State};
use drover_exec::{Execution, Order};
use drover_model::config::Service;
use drover_model::decision::FailureClass;
use drover_model::journal::{Entry, Record, RunState, Trigger};
use drover_model::plan::{Plan, StepKind, TrafficChange};
use drover_model::runbook::Purpose;
use drover_model::units::WEIGHT_SUM;
use drover_model::{AgentId, EndpointKey, Generation, Percent, RunId, ServiceId, Span, Timestamp, Weights};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Results that are remembered of one vantage and endpoint: a day of them at the default interval is more than any
/// window holds.
const EVIDENCE_MAX: usize = 3_000;

/// What arrived of one vantage.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) at: Timestamp,
    /// It could speak, by the last of its reports that arrived.
    pub(crate) may_speak: bool,
    /// That report's number, and those before it that have not arrived.
    newest: u64,
    missing: BTreeSet<u64>,
    /// The longest that a report of it was on its way: by so much too young may be what is held of it.
    longest_way: Span,
    /// When the youngest probe of each endpoint that it has told of began, as it had to be taken for when that was told.
    looked: BTreeMap<EndpointKey, Timestamp>,
}

impl Heard {
    /// Is it the first time that this report arrives?
    fn arrives(&mut self, number: u64) -> bool {
        let newer = number > self.newest;
        if newer {
            self.missing.extend(self.newest + 1..number);
            self.newest = number;
        }
        newer || self.missing.remove(&number)
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Results that the gate let into an opinion.
    pub(crate) evidence: BTreeMap<(AgentId, EndpointKey), VecDeque<(Timestamp, bool)>>,
    pub(crate) heard: BTreeMap<AgentId, Heard>,
    /// What drover moved by itself, and when.
    acted: Vec<(ServiceId, FailureClass, Timestamp)>,
    pub(crate) violations: Vec<String>,
}

impl Watch {
    /// A result arrived, was current, and its sender may speak.
    pub(crate) fn evidence(&mut self, agent: &AgentId, endpoint: &EndpointKey, at: Timestamp, good: bool) {
        let seen = self.evidence.entry((agent.clone(), endpoint.clone())).or_default();
        seen.push_back((at, good));
        if seen.len() > EVIDENCE_MAX {
            seen.pop_front();
        }
    }

    /// A report arrived. One that arrived before says nothing, and one that was overtaken says nothing of whether its sender
    /// may speak.
    pub(crate) fn heard(&mut self, sent: &Sent, now: Timestamp, may_speak: bool) {
        let report = &sent.report;
        let heard = self.heard.entry(report.agent.clone()).or_default();
        let newer = sent.number > heard.newest;
        if !heard.arrives(sent.number) {
            return;
        }
        heard.at = now;
        heard.longest_way = heard.longest_way.max(now.since(sent.at));
        if newer {
            heard.may_speak = may_speak;
        }
        let seen = report.observations.iter().filter(|o| !o.blind).map(|o| (&o.endpoint, o.age));
        let told = report.opinions.iter().map(|o| (&o.endpoint, o.last_probe_age));
        for (endpoint, age) in seen.chain(told) {
            match heard.looked.get_mut(endpoint) {
                Some(looked) => *looked = (*looked).max(now - age),
                None => _ = heard.looked.insert(endpoint.clone(), now - age),
            }
        }
    }
}

/// The way a run was let begin.
fn begins(record: &Record) -> bool {
    matches!(record.entry, Entry::Created { ask: None, .. } | Entry::Approved { .. })
}

impl State {
    fn violated(&mut self, invariant: &str, what: String) {
        let line = format!("{invariant} is violated: {what}");
        self.tell(line.clone());
        self.watch.violations.push(line);
    }

    pub(crate) fn demand(&mut self, invariant: &str, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(invariant, what());
        }
    }

    /// After a record became durable.
    pub(crate) fn check_record(&mut self, record: &Record) {
        let leads = self.store.epoch;
        self.demand("I3", record.epoch >= leads, || {
            format!("epoch {} writes to {} while {} leads", record.epoch.counter, record.run, leads.counter)
        });
        let first = self.store.journals.get(&record.run).and_then(|journal| journal.first());
        let Some(Entry::Created { plan, ask, trigger, .. }) = first.map(|r| &r.entry) else {
            self.violated("I1", format!("{} does not begin with what it is", record.run));
            return;
        };
        let succeeded = matches!(record.entry, Entry::Ended { state: RunState::Succeeded, .. });
        if !begins(record) && !succeeded {
            return;
        }
        let (plan, ask, trigger) = (plan.clone(), *ask, trigger.clone());
        if begins(record) {
            self.check_alone(&record.run, &plan);
        }
        if let (Entry::Created { .. }, Trigger::Decision { class, .. }) = (&record.entry, trigger)
            && ask.is_none()
        {
            if plan.intent.purpose == Purpose::Failback {
                self.check_may_return(&plan);
            } else {
                self.check_may_act(&plan);
                self.check_believable(&plan);
                self.check_bounded(&plan, class);
            }
        }
        if succeeded {
            self.check_proven(&record.run, &plan);
        }
    }

    /// I2: nothing else that has begun touches these services.
    fn check_alone(&mut self, run: &RunId, plan: &Plan) {
        let busy = |e: &Execution| {
            e.run() != run
                && leader::is_under_way(e)
                && e.plan().services.iter().any(|s| plan.services.contains(s))
        };
        let other = self.executions().find(|e| busy(e)).map(|e| e.run().clone());
        if let Some(other) = other {
            self.violated("I2", format!("{run} begins while {other} works on the same service"));
        }
    }

    /// I6: enough outside vantages that may speak have really seen enough failures, and each of them has looked again since
    /// this leader began. One whose own opinion this leader was told, and that has not probed it since, is none of them.
    ///
    /// What a vantage has seen is counted where it was seen, and counts once a report has told its opinion of it. So it does not matter
    /// by which way the leader knows: by results that its gate let in, or by that opinion alone, where the results were overtaken on
    /// their way, came too late, or from a clock that was wrong then.
    fn check_may_act(&mut self, plan: &Plan) {
        let config = self.loaded.config.clone();
        let outside = config.outside_vantages(&plan.intent.region);
        let (of, need) = (outside.len(), (outside.len() / 2 + 1).max(2));
        for service in plan.services.iter().filter_map(|name| config.services.get(name)) {
            let endpoint = EndpointKey::new(&service.name, &plan.intent.region);
            let agree = outside.iter().filter(|agent| self.has_cause(agent, service, &endpoint)).count();
            self.demand("I6", agree >= need, || {
                format!("{endpoint} is left by itself: {agree} of {of} vantages have cause since the takeover, {need} needed")
            });
        }
    }

    fn has_cause(&self, agent: &AgentId, service: &Service, endpoint: &EndpointKey) -> bool {
        let now = self.now();
        let Some(heard) = self.watch.heard.get(agent).filter(|h| h.may_speak) else { return false };
        let fresh = now.since(heard.at) < self.loaded.config.settings.vantage.silent_after;
        let looked = heard.looked.get(endpoint).is_some_and(|at| *at > self.leader.started_at);
        let least = service.failover.failure_threshold.min(service.failover.gray_min_samples);
        let window = service.failover.failure_window.plus(service.stale_after()).plus(heard.longest_way);
        let saw = self.agents.get(agent).and_then(|a| a.saw.get(endpoint)).into_iter().flatten();
        let told = saw.filter(|s| s.told_in <= heard.newest);
        let bad = told.filter(|s| !s.good && now.since(s.began_at) < window).count();
        fresh && looked && bad >= least as usize
    }

    /// I9: what a run moves stands as it did when its plan was made.
    pub(crate) fn check_planned(&mut self, order: &Order, change: &TrafficChange, stands: Generation) {
        let from = change.from_generation;
        self.demand("I9", stands == from, || {
            format!("{} moves {} from generation {stands}, planned from {from}", order.run, change.service)
        });
    }

    /// I8: nothing comes back by itself while frozen, inside of a block period, or against its policy.
    fn check_may_return(&mut self, plan: &Plan) {
        let now = self.now();
        let frozen = self.store.freeze.as_ref().is_some_and(|f| f.holds_at(now));
        self.demand("I8", !frozen, || "drover brings something back while it is frozen".to_owned());
        let config = self.loaded.config.clone();
        for service in plan.services.iter().filter_map(|name| config.services.get(name)) {
            let name = &service.name;
            let says_so = service.failover.failback.automatic;
            self.demand("I8", says_so, || {
                format!("{name} comes back by itself, which its policy does not say")
            });
            let rearmed = self.store.rearmed.get(name).copied();
            // A return that got there blocks nothing.
            let lately = self.watch.acted.iter().any(|(s, class, at)| {
                let over = rearmed.is_some_and(|r| r >= *at) || *class == FailureClass::Recovery;
                s == name && now.since(*at) < service.failover.block_period && !over
            });
            self.demand("I8", !lately, || format!("{name} comes back inside of a block period"));
        }
    }

    /// I8: not while frozen, not twice in a block period, not beyond the regions that may be out.
    fn check_bounded(&mut self, plan: &Plan, class: FailureClass) {
        let now = self.now();
        let frozen = self.store.freeze.as_ref().is_some_and(|f| f.holds_at(now));
        self.demand("I8", !frozen, || "drover acts while it is frozen".to_owned());
        let config = self.loaded.config.clone();
        for name in &plan.services {
            let Some(service) = config.services.get(name) else { continue };
            let rearmed = self.store.rearmed.get(name).copied();
            let lately = self.watch.acted.iter().any(|(s, c, at)| {
                let again = rearmed.is_some_and(|r| r >= *at);
                s == name && *c == class && now.since(*at) < service.failover.block_period && !again
            });
            self.demand("I8", !lately, || format!("a second {class} failover of {name} in its block period"));
            let shares = self.store.traffic.get(name).map(|t| t.shares.clone()).unwrap_or_default();
            let left = |r, s: Percent| s == Percent::ZERO || r == &plan.intent.region;
            let out = shares.iter().filter(|(r, s)| left(*r, s.share)).count();
            let max = service.failover.max_unavailable_regions as usize;
            self.demand("I8", out <= max, || format!("{out} regions of {name} would be out, {max} may be"));
        }
    }

    /// I10: plain success means that every proof was passed and nothing skipped.
    fn check_proven(&mut self, run: &RunId, plan: &Plan) {
        let journal = self.store.journals.get(run);
        let done: BTreeSet<u32> = journal
            .into_iter()
            .flatten()
            .filter_map(|r| if let Entry::StepDone { step, .. } = r.entry { Some(step) } else { None })
            .collect();
        let unproven = (0..).zip(&plan.steps).find(|(index, _)| !done.contains(index));
        if let Some((_, step)) = unproven {
            self.violated("I10", format!("{run} succeeded without {}", step.id));
        }
    }

    /// I1: the newest record of the run is the intent of just this attempt.
    pub(crate) fn check_act(&mut self, order: &Order) {
        let newest = self.store.journals.get(&order.run).and_then(|j| j.last()).map(|r| r.entry.clone());
        let intent = Entry::StepStarted { step: order.index, attempt: order.attempt };
        self.demand("I1", newest == Some(intent), || {
            format!("{} acts at {} without a durable intent", order.run, order.step().id)
        });
        if !matches!(order.step().kind, StepKind::ShiftTraffic { .. }) {
            return;
        }
        self.check_alone(&order.run, &order.plan);
    }

    /// After targets moved: drover's own moves count from then, however often DNS has to be told.
    pub(crate) fn note_moved(&mut self, order: &Order) {
        if let (Trigger::Decision { class, .. }, None) = (&order.origin.trigger, order.origin.ask) {
            let now = self.now();
            let acted = order.plan.services.iter().map(|s| (s.clone(), *class, now));
            self.watch.acted.extend(acted);
            self.saw_move(*class);
        }
    }

    /// After DNS answers something else.
    pub(crate) fn check_published(&mut self, service: &ServiceId, before: Option<&Answers>) {
        let Some(is) = self.dns.answers.get(service).cloned() else { return };
        let sum: u32 = is.weights.values().map(|w| u32::from(w.0)).sum();
        self.demand("I4", sum == u32::from(WEIGHT_SUM), || {
            format!("the weights of {service} sum up to {sum}")
        });
        let older = before.is_some_and(|b| b.generation >= is.generation && *b != is);
        self.demand("I3", !older, || format!("{service} went back to generation {}", is.generation));
    }

    /// I7: where drover leaves a region by itself, what takes more can carry it with its headroom as the target moves. DNS follows
    /// the target whenever it can be told, and has no part in the decision.
    pub(crate) fn check_capacity(
        &mut self,
        order: &Order,
        name: &ServiceId,
        before: &Weights,
        after: &Weights,
    ) {
        let intent = &order.plan.intent;
        let automatic = order.origin.ask.is_none() && intent.automatic && intent.purpose == Purpose::Failover;
        let config = self.loaded.config.clone();
        let (Some(service), true) = (config.services.get(name), automatic) else { return };
        let declared = service.peak_load.unwrap_or_default();
        let load = self.truth.load(&config, name).max(declared);
        for (region, weight) in after.iter().filter(|(r, w)| before.get(r) < Some(*w)) {
            let capacity = service.endpoints.get(region).map_or(0, |e| e.capacity.0);
            let headroom = service.failover.headroom.basis_points();
            let asked = u128::from(load.0) * u128::from(weight.0) * 10_000;
            let usable = u128::from(capacity) * u128::from(10_000 - headroom) * 100;
            self.demand("I7", asked <= usable, || format!("{region} can't carry {} of {name}", weight.0));
        }
    }

    /// After every step of time.
    pub(crate) fn check_always(&mut self) {
        if self.is_busy() {
            self.check_no_two();
        }
        let dark = self.dns.answers.iter().find(|(_, a)| a.weights.values().all(|w| w.0 == 0));
        if let Some(service) = dark.map(|(s, _)| s.clone()) {
            self.violated("I4", format!("{service} answers nothing"));
        }
    }

    /// I2.
    fn check_no_two(&mut self) {
        let begun: Vec<_> = self.executions().filter(|e| leader::is_under_way(e)).collect();
        let mut taken: BTreeSet<&ServiceId> = BTreeSet::new();
        let twice = begun.iter().flat_map(|e| &e.plan().services).find(|s| !taken.insert(s)).cloned();
        drop(begun);
        if let Some(service) = twice {
            self.violated("I2", format!("two runs work on {service}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_once_in_whatever_order() {
        let mut heard = Heard::default();
        let arrivals = [
            (1, true),
            (2, true),
            (5, true),
            (5, false),
            (3, true),
            (3, false),
            (1, false),
            (6, true),
            (4, true),
        ];
        for (number, first) in arrivals {
            assert_eq!(heard.arrives(number), first, "report {number}");
        }
        assert_eq!((heard.newest, heard.missing.len()), (6, 0));
    }
}
