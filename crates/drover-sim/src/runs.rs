//! Runs: created with their first record, driven by the real driver, resumed after a crash, commanded by people.

use crate::hands::{Hands, MemoryJournal};
use crate::leader::NewRun;
use crate::planted::Planted;
use crate::state::{Driven, Shared, at, number_of};
use drover_core::plan;
use drover_exec::drive::Ports;
use drover_exec::{Command, Effect, Execution, Outcome, drive};
use drover_model::RunId;
use drover_model::journal::Record;
use drover_model::reason::Reason;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that wait for one run.
const COMMANDS_WAITING_MAX: usize = 8;
/// A command that is not answered after so many turns of all tasks waits for something that will not come.
const TURNS_MAX: usize = 1_000;

/// Creates a run: its first record is durable before anything drives it.
pub(crate) fn create(shared: &Shared, new: NewRun) -> Result<RunId, String> {
    let execution = {
        let mut state = shared.lock();
        let (now, epoch) = (state.now(), state.store.epoch);
        let (_, first) =
            Execution::create(new.run.clone(), new.consent, new.by, new.trigger, new.rto, epoch, now);
        let Effect::Append(record) = first else { return Err("a run without a first record".into()) };
        state.keep(&record).map_err(|e| e.to_string())?;
        Execution::replay(std::slice::from_ref(&record)).map_err(|e| e.to_string())?
    };
    drive_on(shared, execution);
    Ok(new.run)
}

/// Drives a run under the epoch of now.
pub(crate) fn drive_on(shared: &Shared, execution: Execution) {
    let run = execution.run().clone();
    let (snapshots, snapshot) = watch::channel(execution.clone());
    let (commands, inbox) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (epoch, began) = {
        let state = shared.lock();
        (state.store.epoch, state.began())
    };
    let over = execution.is_over();
    let hands = Hands { shared: shared.clone() };
    let mut journal = MemoryJournal { shared: shared.clone(), epoch };
    let name = run.clone();
    let task = async move {
        let ports = Ports {
            journal: &mut journal,
            effects: &hands,
            commands: inbox,
            clock: move || at(began),
            snapshots: &snapshots,
        };
        if let Outcome::StoodDown(why) = drive(execution, epoch, ports).await {
            hands.shared.lock().tell(format!("{name}: epoch {} stands down: {why}", epoch.counter));
        }
    };
    let task = (!over).then(|| tokio::spawn(task));
    shared.lock().leader.runs.insert(number_of(&run), Driven { snapshot, commands, task });
}

/// Goes on with every run of the store.
pub(crate) fn resume(shared: &Shared) {
    let journals: Vec<Vec<Record>> = shared.lock().store.journals.values().cloned().collect();
    for records in journals {
        match Execution::replay(&records) {
            Ok(execution) => drive_on(shared, execution),
            Err(illegal) => shared.lock().tell(format!("a journal can't be replayed: {illegal}")),
        }
    }
}

/// Sends a command, and waits until its record is durable.
pub(crate) async fn command(shared: &Shared, run: &RunId, command: Command) -> Result<String, String> {
    let (reply, mut answer) = oneshot::channel();
    {
        let state = shared.lock();
        let driven = state.leader.runs.get(&number_of(run)).ok_or_else(|| format!("no run {run}"))?;
        if let Command::Approve { .. } = &command {
            let execution = driven.snapshot.borrow().clone();
            may_begin(&state.world(), &execution, !state.lacks(Planted::StalePlanCheck))?;
        }
        if driven.snapshot.borrow().is_over() {
            return Err(format!("{run} is over"));
        }
        driven.commands.try_send((command, reply)).map_err(|e| e.to_string())?;
    }
    for _ in 0..TURNS_MAX {
        match answer.try_recv() {
            Ok(Ok(state)) => return Ok(format!("{run} is {state}")),
            Ok(Err(refused)) => return Err(refused.to_string()),
            Err(oneshot::error::TryRecvError::Empty) => tokio::task::yield_now().await,
            Err(oneshot::error::TryRecvError::Closed) => return Err(format!("nobody drives {run}")),
        }
    }
    Err(format!("{run} gives no answer"))
}

/// What stands against beginning a run that was only asked for: the world has moved on (I9), or another run works on
/// its services (I2).
fn may_begin(
    world: &drover_model::plan::World,
    execution: &Execution,
    as_planned: bool,
) -> Result<(), String> {
    if execution.current_step().is_some_and(|step| step > 0) {
        return Ok(());
    }
    let mut reasons = if as_planned { plan::stale(execution.plan(), world) } else { vec![] };
    let others = world.runs.iter().filter(|r| !r.awaiting_approval && r.run != *execution.run());
    for other in others {
        let shared = other.services.iter().find(|s| execution.plan().services.contains(s));
        reasons.extend(shared.map(|s| {
            let (run, by) = (other.run.clone(), other.by.clone());
            Reason::RunInProgress { service: s.clone(), run, by }
        }));
    }
    match reasons.first() {
        None => Ok(()),
        Some(first) => Err(first.to_string()),
    }
}
