//! A world without threads or clocks: a journal, hands with a script, and lives of leaders that may be cut short at any
//! append. It checks, at every effect, that the intent is durable and that the run is not over.

use crate::fixtures::{fresh, measurement, person};
use crate::receiver::Receiver;
use drover_exec::{Command, Effect, Event, Execution, Order, PageOrder};
use drover_model::approvals::Voice;
use drover_model::journal::{CheckOutcome, Entry, FailureNature, Record, RunState, StepFailure, StepOutcome};
use drover_model::plan::Plan;
use drover_model::{Epoch, Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the hands say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// It was there before the run began.
    Unchanged,
    Unmeasured,
    Retryable,
    Permanent,
    Inconclusive,
    Fenced,
    /// Nothing, until the attempt is given up.
    Hangs,
    /// It works, and says that it did not.
    HalfDone,
}

impl Answer {
    fn result(self) -> Option<Result<StepOutcome, StepFailure>> {
        let fail = |kind, message: &str| {
            Some(Err(StepFailure { kind, message: message.into(), measurements: vec![] }))
        };
        let done = |changed, measurements| {
            Some(Ok(StepOutcome { measurements, ..StepOutcome::done(changed, "as planned") }))
        };
        match self {
            Answer::Done => done(true, vec![measurement(CheckOutcome::Pass)]),
            Answer::Unchanged => done(false, vec![measurement(CheckOutcome::Pass)]),
            Answer::Unmeasured => done(true, vec![]),
            Answer::Retryable | Answer::HalfDone => fail(FailureNature::Retryable, "provider busy"),
            Answer::Permanent => fail(FailureNature::Permanent, "provider refused"),
            Answer::Inconclusive => fail(FailureNature::Inconclusive, "3 samples, 10 needed"),
            Answer::Fenced => fail(FailureNature::Fenced, "epoch 2 commands"),
            Answer::Hangs => None,
        }
    }
}

/// Answers by step, for acts (`false`) and undos (`true`): these first, then `Done` for ever.
pub type Script = BTreeMap<(bool, u32), Vec<Answer>>;

/// Where a leader dies: at which append of its life, and whether that record is durable.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub append: u64,
    pub durable: bool,
}

/// What people do when the run asks or stands still: decided from the journal alone, so that a crash changes nothing.
pub type People = fn(&Execution, &[Record]) -> Option<Command>;

pub struct World {
    pub journal: Vec<Record>,
    /// Steps whose effect is there.
    pub landed: BTreeSet<u32>,
    /// Where effects arrive.
    pub receiver: Receiver,
    /// Attempts begun: undo?, step, attempt.
    pub orders: Vec<(bool, u32, u32)>,
    pub keys: BTreeSet<String>,
    pub pages: Vec<PageOrder>,
    pub stood_down: bool,
    pub now: Timestamp,
    pub script: Script,
    people: People,
}

pub fn nobody(_: &Execution, _: &[Record]) -> Option<Command> {
    None
}

pub fn count(journal: &[Record], what: impl Fn(&Entry) -> bool) -> usize {
    journal.iter().filter(|r| what(&r.entry)).count()
}

/// Approves, resumes once, then gives up and rolls back, or leaves it when that is not possible.
pub fn patient(execution: &Execution, journal: &[Record]) -> Option<Command> {
    let (by, reason) = (person(), "test".to_owned());
    let resumed = count(journal, |e| matches!(e, Entry::Resumed { .. }));
    let rolled = count(journal, |e| {
        matches!(e, Entry::RollbackBegun { .. } | Entry::AbortRequested { roll_back: true, .. })
    });
    match execution.state() {
        RunState::AwaitingApproval => {
            Some(Command::Approve { by, reason, plan: execution.plan().id.clone(), voice: Voice::Claimed })
        }
        _ if resumed == 0 => Some(Command::Resume { by, reason }),
        _ => Some(Command::Abort { by, reason, roll_back: rolled == 0 }),
    }
}

impl World {
    pub fn new(script: Script, people: People) -> Self {
        Self {
            journal: vec![],
            landed: BTreeSet::new(),
            receiver: Receiver::default(),
            orders: vec![],
            keys: BTreeSet::new(),
            pages: vec![],
            stood_down: false,
            now: crate::fixtures::at(0),
            script,
            people,
        }
    }

    /// Runs `plan` over as many leaders as there are crashes, and returns the last one's view.
    pub fn live(&mut self, plan: &Plan, ask: Option<Span>, crashes: &[Crash]) -> Execution {
        let lives = crashes.iter().copied().map(Some).chain([None]);
        for (counter, crash) in (1..).zip(lives) {
            let execution = if self.journal.is_empty() {
                fresh(plan, ask)
            } else {
                Execution::replay(&self.journal).expect("what was written can be read")
            };
            let epoch = Epoch { incarnation: 1, counter };
            if let Some(execution) = self.one_life(execution, epoch, crash) {
                return execution;
            }
        }
        unreachable!("the last life has no crash")
    }

    /// Lives until the run is over, stands still with nobody to act, is stood down, or the leader dies (`None`).
    pub fn one_life(
        &mut self,
        mut execution: Execution,
        epoch: Epoch,
        crash: Option<Crash>,
    ) -> Option<Execution> {
        let mut appends = 0;
        let mut work: Option<(bool, Order)> = None;
        let mut events = VecDeque::from([Event::Start { epoch }]);
        loop {
            let Some(event) = events.pop_front().or_else(|| self.next_event(&execution, work.take())) else {
                self.check(&execution);
                return Some(execution);
            };
            for effect in execution.handle(event, self.now).expect("the world tells only what applies") {
                match effect {
                    Effect::Append(record) => {
                        assert!(work.is_none(), "a record while work is under way");
                        let dies = crash.filter(|c| c.append == appends);
                        appends += 1;
                        if dies.is_none_or(|c| c.durable) {
                            self.journal.push(record.clone());
                        }
                        if dies.is_some() {
                            return None;
                        }
                        events.push_back(Event::Appended { sequence: record.sequence });
                    }
                    Effect::Act(order) => work = Some((false, self.ordered(false, order))),
                    Effect::Undo(order) => work = Some((true, self.ordered(true, order))),
                    Effect::CancelAct => work = None,
                    Effect::WakeAt(_) => {}
                    Effect::Page(page) => self.pages.push(page),
                    Effect::Finished(state) => {
                        let ended = Entry::Ended { state, summary: execution.note().to_owned() };
                        assert_eq!(self.journal.last().unwrap().entry, ended, "told before it was durable");
                    }
                    Effect::StandDown(_) => self.stood_down = true,
                }
            }
            if self.stood_down {
                return Some(execution);
            }
        }
    }

    /// I1: the intent is the newest record when the work begins.
    fn ordered(&mut self, undo: bool, order: Order) -> Order {
        let (step, attempt) = (order.index, order.attempt);
        let intent =
            if undo { Entry::UndoStarted { step, attempt } } else { Entry::StepStarted { step, attempt } };
        assert_eq!(self.journal.last().unwrap().entry, intent, "work without a durable intent");
        assert!(!self.orders.contains(&(undo, step, attempt)), "one attempt ordered twice");
        self.orders.push((undo, step, attempt));
        self.keys.insert(order.key.clone());
        order
    }

    /// What the world does next: work ends, people act, or time passes.
    fn next_event(&mut self, execution: &Execution, work: Option<(bool, Order)>) -> Option<Event> {
        if let Some((undo, order)) = work {
            let (step, attempt) = (order.index, order.attempt);
            let told = count(&self.journal, |e| match e {
                Entry::StepDone { step: s, .. } | Entry::StepFailed { step: s, .. } => !undo && *s == step,
                Entry::UndoDone { step: s, .. } | Entry::UndoFailed { step: s, .. } => undo && *s == step,
                _ => false,
            });
            let answers = self.script.get(&(undo, step));
            let answer = answers.and_then(|a| a.get(told)).copied().unwrap_or(Answer::Done);
            if let Some(mut result) = answer.result() {
                if result.is_ok() || answer == Answer::HalfDone {
                    if undo { self.receiver.undo(&order) } else { self.receiver.act(&order) }
                }
                // Hands that observe first: what is there already is not changed again.
                if let Ok(outcome) = &mut result {
                    outcome.changed &= match (undo, order.keeps) {
                        (false, _) => self.landed.insert(step),
                        (true, false) => self.landed.remove(&step),
                        (true, true) => false, // What was good stays.
                    };
                }
                return Some(if undo {
                    Event::UndoDone { step, attempt, result }
                } else {
                    Event::ActDone { step, attempt, result }
                });
            }
        }
        let stands = matches!(
            execution.state(),
            RunState::AwaitingApproval | RunState::Paused | RunState::NeedsOperator
        );
        if let Some(command) = stands.then(|| (self.people)(execution, &self.journal)).flatten() {
            return Some(Event::Command(command));
        }
        self.now = self.now.max(execution.wake_at()?);
        Some(Event::Tick)
    }

    /// Who reads the journal knows what who lived it knows; and nothing follows the end.
    fn check(&self, execution: &Execution) {
        let read = Execution::replay(&self.journal).unwrap();
        assert_eq!(read.progress(), execution.progress());
        let ends = count(&self.journal, |e| matches!(e, Entry::Ended { state, .. } if state.is_final()));
        assert!(ends <= 1);
    }

    pub fn words(&self) -> Vec<String> {
        self.journal.iter().map(|r| drover_exec::view::sentence(&plan_of(&self.journal), &r.entry)).collect()
    }
}

pub fn plan_of(journal: &[Record]) -> Plan {
    match &journal[0].entry {
        Entry::Created { plan, .. } => plan.clone(),
        other => panic!("no plan in {other:?}"),
    }
}
