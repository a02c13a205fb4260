//! The loop that connects a run to a journal, to hands, to people and to time. It decides nothing: events in, effects
//! out. The only `.await` of this crate is here, and production and simulator run this very loop.

use crate::commands::Command;
use crate::error::{Refused, StandDown};
use crate::handle::{Effect, Event};
use crate::journal::{Effects, Journal, JournalError, Order};
use crate::state::Execution;
use drover_model::journal::{Record, RunState, StepFailure, StepOutcome};
use drover_model::{Epoch, Span, Timestamp};
use std::future::Future;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot, watch};

/// The journal answers within this, or the append counts as uncertain and is made again.
pub const APPEND_TIMEOUT: Span = Span::from_secs(10);
/// The longest sleep: a wall clock that is stepped forward is noticed after this at the latest.
pub const SLEEP_MAX: Span = Span::from_secs(5);

/// A command with the place for its answer, which comes once its record is durable: the state that it led to. It may
/// take as long as the journal is away. A dropped sender means that this process stopped driving the run before it
/// knew.
pub type Request = (Command, Reply);

/// Where the answer to a command goes.
pub type Reply = oneshot::Sender<Result<RunState, Refused>>;

/// How driving ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The run is over, durably.
    Finished(RunState),
    /// The run is not over, and this process does not command it any more.
    StoodDown(StandDown),
}

/// What a run is connected to.
pub struct Ports<'a, J, E, C> {
    /// Where records go.
    pub journal: &'a mut J,
    /// Hands.
    pub effects: &'a E,
    /// Commands. When the sender is gone the run goes on without.
    pub commands: mpsc::Receiver<Request>,
    /// The time now.
    pub clock: C,
    /// The run as it stands, after every event.
    pub snapshots: &'a watch::Sender<Execution>,
}

type Working<'a> = Pin<Box<dyn Future<Output = Event> + Send + 'a>>;

/// Drives `execution`, fresh or replayed, under `epoch` until it is over or belongs to somebody else. Dropping the
/// future
/// is a crash like any other: the journal says where to go on.
pub async fn drive<J, E, C>(execution: Execution, epoch: Epoch, ports: Ports<'_, J, E, C>) -> Outcome
where
    J: Journal,
    E: Effects,
    C: Fn() -> Timestamp + Send + Sync,
{
    let Ports { journal, effects, commands, clock, snapshots } = ports;
    let mut driver = Driver {
        execution,
        journal,
        effects,
        snapshots,
        working: None,
        asking: None,
        waiting: None,
        commands: Some(commands),
    };
    let mut event = Event::Start { epoch };
    loop {
        let after = driver.take(event, clock()).await;
        event = match after {
            After::Ended(outcome) => return outcome,
            After::Next(event) => event,
            After::Idle => driver.wait(clock()).await,
        };
    }
}

enum After {
    Ended(Outcome),
    Next(Event),
    Idle,
}

struct Driver<'a, J, E> {
    execution: Execution,
    journal: &'a mut J,
    effects: &'a E,
    snapshots: &'a watch::Sender<Execution>,
    /// The work under way; dropping it cancels it.
    working: Option<Working<'a>>,
    /// The command that is about to be handled.
    asking: Option<Reply>,
    /// The command whose record is on its way, and that record's sequence.
    waiting: Option<(u64, Reply)>,
    commands: Option<mpsc::Receiver<Request>>,
}

impl<J: Journal, E: Effects> Driver<'_, J, E> {
    /// Feeds one event, and does what the run wants.
    async fn take(&mut self, event: Event, now: Timestamp) -> After {
        let starts = matches!(event, Event::Start { .. });
        let asking = self.asking.take();
        let effects = match self.execution.handle(event, now) {
            Ok(effects) => effects,
            Err(refused) if starts => return After::Ended(Outcome::StoodDown(StandDown::Refused(refused))),
            Err(refused) => {
                if let Some(reply) = asking {
                    let _ = reply.send(Err(refused)); // The one who asked may have gone.
                }
                return After::Idle;
            }
        };
        if let Some(reply) = asking {
            self.waiting = Some((self.execution.next_sequence(), reply));
        }
        self.snapshots.send_replace(self.execution.clone());
        self.answer();
        self.perform(effects).await
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> After {
        let mut after = After::Idle;
        for effect in effects {
            match effect {
                Effect::Append(record) => after = After::Next(append(self.journal, &record).await),
                Effect::Act(order) => {
                    let effects = self.effects;
                    self.working = Some(Box::pin(async move { act_done(&order, effects.act(&order).await) }));
                }
                Effect::Undo(order) => {
                    let effects = self.effects;
                    self.working =
                        Some(Box::pin(async move { undo_done(&order, effects.undo(&order).await) }));
                }
                Effect::CancelAct => self.working = None,
                Effect::WakeAt(_) => {} // `wait` asks for the time of the latest one.
                Effect::Page(page) => self.effects.page(&page),
                Effect::Finished(state) => after = After::Ended(Outcome::Finished(state)),
                Effect::StandDown(why) => {
                    self.working = None;
                    after = After::Ended(Outcome::StoodDown(why));
                }
            }
        }
        after
    }

    /// Answers the command whose record is durable, once all that follows from it at once is durable too.
    fn answer(&mut self) {
        let durable = self.execution.next_sequence();
        let (gone, settling) = (self.execution.has_stood_down(), self.execution.is_settling());
        let due = |sequence: u64| gone || (sequence < durable && !settling);
        if let Some((_, reply)) = self.waiting.take_if(|(sequence, _)| due(*sequence)) {
            let run = self.execution.run().clone();
            let answer = if gone { Err(Refused::StoodDown { run }) } else { Ok(self.execution.state()) };
            let _ = reply.send(answer); // The one who asked may have gone; the record stands all the same.
        }
    }

    /// Waits for whatever comes first: the end of the work, a command, or time.
    async fn wait(&mut self, now: Timestamp) -> Event {
        let sleep = self.execution.wake_at().map_or(SLEEP_MAX, |at| at.since(now).min(SLEEP_MAX));
        tokio::select! {
            biased;
            event = finished(&mut self.working) => {
                self.working = None;
                event
            }
            Some((command, reply)) = received(&mut self.commands) => {
                self.asking = Some(reply);
                Event::Command(command)
            }
            () = tokio::time::sleep(sleep.to_duration()) => Event::Tick,
        }
    }
}

async fn append<J: Journal>(journal: &mut J, record: &Record) -> Event {
    let sequence = record.sequence;
    let result = tokio::time::timeout(APPEND_TIMEOUT.to_duration(), journal.append(record)).await;
    match result {
        Ok(Ok(())) => Event::Appended { sequence },
        Ok(Err(error)) => Event::AppendFailed { sequence, error },
        Err(_) => {
            let detail = format!("no answer within {APPEND_TIMEOUT}");
            Event::AppendFailed { sequence, error: JournalError::Unavailable { detail } }
        }
    }
}

async fn finished(working: &mut Option<Working<'_>>) -> Event {
    match working {
        Some(work) => work.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn received(commands: &mut Option<mpsc::Receiver<Request>>) -> Option<Request> {
    let request = match commands {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    };
    if request.is_none() {
        *commands = None;
    }
    request
}

fn act_done(order: &Order, result: Result<StepOutcome, StepFailure>) -> Event {
    Event::ActDone { step: order.index, attempt: order.attempt, result }
}

fn undo_done(order: &Order, result: Result<StepOutcome, StepFailure>) -> Event {
    Event::UndoDone { step: order.index, attempt: order.attempt, result }
}
