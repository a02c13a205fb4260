//! The loop with a journal that fails and hands that take time, on a clock that stands still unless waited on.

use crate::fixtures::*;
use drover_exec::{
    Command, Effects, Execution, Journal, JournalError, Order, Outcome, PageOrder, Ports, Request, StandDown,
    drive,
};
use drover_model::journal::{CheckOutcome, Entry, FailureNature, Record, RunState, StepFailure, StepOutcome};
use drover_model::plan::Plan;
use drover_model::runbook::OnFailure::{Pause, RollBack};
use drover_model::{Epoch, RunId, Span, Timestamp};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant};

/// What an append answers; afterwards all is well.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Fine,
    Unavailable,
    /// Written, but the answer is lost.
    AnswerLost,
    Fenced,
    Conflict,
    Hangs,
}

#[derive(Default, Clone)]
struct FakeJournal {
    records: Arc<Mutex<Vec<Record>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Journal for FakeJournal {
    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::Fine);
        let unavailable = || JournalError::Unavailable { detail: "connection lost".into() };
        match fault {
            Fault::Fine | Fault::AnswerLost => {}
            Fault::Unavailable => return Err(unavailable()),
            Fault::Fenced => return Err(JournalError::Fenced { detail: "1/2".into() }),
            Fault::Conflict => return Err(JournalError::Conflict { sequence: record.sequence }),
            Fault::Hangs => std::future::pending().await,
        }
        let mut records = self.records.lock().unwrap();
        match records.get(usize::try_from(record.sequence).unwrap()) {
            Some(there) if there == record => {}
            Some(_) => return Err(JournalError::Conflict { sequence: record.sequence }),
            None => records.push(record.clone()),
        }
        if matches!(fault, Fault::AnswerLost) { Err(unavailable()) } else { Ok(()) }
    }

    async fn load(&mut self, _: &RunId) -> Result<Vec<Record>, JournalError> {
        Ok(self.records.lock().unwrap().clone())
    }
}

/// Hands that take a second for each attempt, count those that were not cancelled, and look at the journal first.
#[derive(Default, Clone)]
struct FakeEffects {
    journal: FakeJournal,
    begun: Arc<Mutex<Vec<(u32, u32)>>>,
    finished: Arc<Mutex<Vec<(u32, u32)>>>,
    pages: Arc<Mutex<Vec<PageOrder>>>,
    /// Steps that never come back.
    hangs: Vec<u32>,
    fenced: bool,
}

impl Effects for FakeEffects {
    async fn act(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        let intent = Entry::StepStarted { step: order.index, attempt: order.attempt };
        assert_eq!(self.journal.records.lock().unwrap().last().unwrap().entry, intent);
        self.begun.lock().unwrap().push((order.index, order.attempt));
        if self.hangs.contains(&order.index) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.finished.lock().unwrap().push((order.index, order.attempt));
        if self.fenced {
            let message = "epoch 1/2 commands".into();
            return Err(StepFailure { kind: FailureNature::Fenced, message, measurements: vec![] });
        }
        let measurements = vec![measurement(CheckOutcome::Pass)];
        Ok(StepOutcome { measurements, ..StepOutcome::done(true, String::new()) })
    }

    async fn undo(&self, _: &Order) -> Result<StepOutcome, StepFailure> {
        Ok(StepOutcome::done(true, String::new()))
    }

    fn page(&self, page: &PageOrder) {
        self.pages.lock().unwrap().push(page.clone());
    }
}

struct Rig {
    effects: FakeEffects,
    outcome: tokio::task::JoinHandle<Outcome>,
    commands: mpsc::Sender<Request>,
    snapshots: watch::Receiver<Execution>,
}

/// Starts a driver as its own task, which it must be fit for.
fn rig(execution: Execution, epoch: Epoch, effects: FakeEffects) -> Rig {
    let (sender, commands) = mpsc::channel(4);
    let (snapshots, receiver) = watch::channel(execution.clone());
    let hands = effects.clone();
    let outcome = tokio::spawn(async move {
        let began = Instant::now();
        let clock = move || Timestamp::from_millis(i64::try_from(began.elapsed().as_millis()).unwrap());
        let mut journal = hands.journal.clone();
        let ports = Ports { journal: &mut journal, effects: &hands, commands, clock, snapshots: &snapshots };
        drive(execution, epoch, ports).await
    });
    Rig { effects, outcome, commands: sender, snapshots: receiver }
}

fn with_faults(faults: &[Fault]) -> FakeEffects {
    let effects = FakeEffects::default();
    effects.journal.faults.lock().unwrap().extend(faults);
    effects
}

fn sample() -> Plan {
    plan(vec![preflight(Pause, 1), shift(RollBack, 1), wait(30), validate(Pause, 1)])
}

impl Rig {
    async fn send(&self, command: Command) -> Result<RunState, drover_exec::Refused> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((command, reply)).await.unwrap();
        answer.await.unwrap()
    }

    async fn until(&mut self, what: impl FnMut(&Execution) -> bool) {
        self.snapshots.wait_for(what).await.unwrap();
    }

    fn records(&self) -> Vec<Record> {
        self.effects.journal.records.lock().unwrap().clone()
    }
}

const SUCCEEDED: Outcome = Outcome::Finished(RunState::Succeeded);

#[tokio::test(start_paused = true)]
async fn a_run_is_driven_to_its_end() {
    let began = Instant::now();
    let mut rig = rig(fresh(&sample(), None), EPOCH, FakeEffects::default());
    rig.until(|e| e.state() == RunState::Validating).await;
    assert_eq!((&mut rig.outcome).await.unwrap(), SUCCEEDED);
    assert_eq!(*rig.effects.finished.lock().unwrap(), [(0, 1), (1, 1), (3, 1)]);
    assert_eq!(began.elapsed().as_secs(), 33);
    assert!(rig.snapshots.borrow().is_over());
    assert_eq!(rig.effects.pages.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lost_appends_and_lost_answers_are_made_good() {
    use Fault::*;
    let faults = [Unavailable, Fine, AnswerLost, Fine, Unavailable, AnswerLost, Unavailable, Fine, Hangs];
    let rig = rig(fresh(&sample(), None), EPOCH, with_faults(&faults));
    let records = rig.effects.journal.records.clone();
    let pages = rig.effects.pages.clone();
    assert_eq!(rig.outcome.await.unwrap(), SUCCEEDED);
    assert_eq!(records.lock().unwrap().len(), 10, "nothing was written twice");
    assert_eq!(pages.lock().unwrap().len(), 1, "no page about the journal");
}

#[tokio::test(start_paused = true)]
async fn a_lost_journal_holds_the_run_and_people_hear_of_it_once() {
    cov_mark::check!(a_lost_journal_holds_the_run);
    let faults = [&[Fault::Fine; 2][..], &[Fault::Unavailable; 9]].concat();
    let mut rig = rig(fresh(&sample(), None), EPOCH, with_faults(&faults));
    rig.until(|e| e.next_decision().contains("(6 attempts)")).await;
    let pages = rig.effects.pages.lock().unwrap().clone();
    assert_eq!(pages.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["run-7/journal/2"]);
    let refused = rig.send(Command::Pause { by: person(), reason: "?".into() }).await.unwrap_err();
    assert_eq!(refused.code(), "journal_busy");
    assert_eq!(*rig.effects.begun.lock().unwrap(), [(0, 1)], "work began without a journal");
    assert_eq!(rig.outcome.await.unwrap(), SUCCEEDED);
}

#[tokio::test(start_paused = true)]
async fn a_newer_leader_or_another_writer_ends_it_at_once() {
    for fault in [Fault::Fenced, Fault::Conflict] {
        let rig = rig(fresh(&sample(), None), EPOCH, with_faults(&[Fault::Fine, Fault::Fine, fault]));
        let effects = rig.effects.clone();
        let outcome = rig.outcome.await.unwrap();
        let Outcome::StoodDown(why) = outcome else { panic!("{outcome:?}") };
        assert_eq!(matches!(why, StandDown::Fenced(_)), matches!(fault, Fault::Fenced), "{why:?}");
        assert_eq!(effects.journal.records.lock().unwrap().len(), 2);
        assert_eq!(effects.begun.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_hand_ends_it_without_a_record() {
    let effects = FakeEffects { fenced: true, ..FakeEffects::default() };
    let rig = rig(fresh(&sample(), None), EPOCH, effects.clone());
    assert!(matches!(rig.outcome.await.unwrap(), Outcome::StoodDown(StandDown::Fenced(_))));
    assert_eq!(effects.journal.records.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn commands_are_answered_once_durable_and_a_pause_cancels() {
    let mut rig = rig(fresh(&sample(), None), EPOCH, FakeEffects::default());
    rig.until(|e| e.current_step() == Some(1) && e.next_decision().contains("given up at")).await;
    let pause = Command::Pause { by: person(), reason: "look".into() };
    assert_eq!(rig.send(pause.clone()).await, Ok(RunState::Paused));
    assert!(matches!(rig.records().last().unwrap().entry, Entry::Paused { .. }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*rig.effects.finished.lock().unwrap(), [(0, 1)], "the work went on");
    assert_eq!(rig.send(pause).await.unwrap_err().code(), "wrong_state");
    let resume = Command::Resume { by: person(), reason: "looked".into() };
    assert_eq!(rig.send(resume).await, Ok(RunState::Running));
    rig.until(|e| e.current_step() == Some(2)).await;
    let abort = Command::Abort { by: person(), reason: "enough".into(), roll_back: false };
    assert_eq!(rig.send(abort).await, Ok(RunState::Aborted));
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Finished(RunState::Aborted));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_hand_is_dropped_at_its_deadline() {
    let effects = FakeEffects { hangs: vec![0], ..FakeEffects::default() };
    let mut rig = rig(fresh(&sample(), None), EPOCH, effects);
    rig.until(|e| e.state() == RunState::Paused).await;
    assert_eq!(rig.snapshots.borrow().note(), "1-preflight failed: timed out after 30s");
    rig.outcome.abort();
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_and_the_question_expires() {
    let rig = rig(fresh(&sample(), Some(Span::from_mins(10))), EPOCH, FakeEffects::default());
    drop(rig.commands);
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Finished(RunState::ExpiredUnapproved));
}

#[tokio::test(start_paused = true)]
async fn a_successor_goes_on_where_the_driver_was_dropped() {
    let mut first = rig(fresh(&sample(), None), EPOCH, FakeEffects::default());
    first.until(|e| e.current_step() == Some(1) && e.next_decision().contains("given up at")).await;
    first.outcome.abort();
    assert!((&mut first.outcome).await.unwrap_err().is_cancelled());
    let effects = FakeEffects { journal: first.effects.journal.clone(), ..FakeEffects::default() };
    let replayed = Execution::replay(&first.effects.journal.clone().load(&run()).await.unwrap()).unwrap();
    let stale = rig(replayed.clone(), Epoch { incarnation: 1, counter: 0 }, effects.clone());
    assert!(matches!(stale.outcome.await.unwrap(), Outcome::StoodDown(StandDown::Refused(_))));
    let second = rig(replayed, Epoch { incarnation: 1, counter: 2 }, effects.clone());
    assert_eq!(second.outcome.await.unwrap(), SUCCEEDED);
    assert_eq!(*effects.finished.lock().unwrap(), [(1, 2), (3, 1)]);
}
