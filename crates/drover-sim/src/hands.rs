//! The store's journal and the hands of a leader, as the driver of runs wants them. A leader that has died keeps what
//! it holds for ever: nothing of it returns.

use crate::planted::Planted;
use crate::publishing;
use crate::state::{CrashPoint, CrashRecord, Shared, State};
use crate::stepping_back;
use crate::validating;
use drover_core::predicates;
use drover_exec::view::sentence;
use drover_exec::{Effects, Journal, JournalError, Order, PageAbout, PageOrder};
use drover_model::journal::{Entry, FailureNature, Measurement, Record, StepFailure, StepOutcome};
use drover_model::plan::{AppCheckTarget, DrainTarget, Predicate, Reversal, StepKind};
use drover_model::{Epoch, RunId, Span};

pub(crate) fn failed(kind: FailureNature, message: impl Into<String>) -> StepFailure {
    StepFailure { kind, message: message.into(), measurements: vec![] }
}

/// The journal as one leader holds it.
pub(crate) struct MemoryJournal {
    pub(crate) shared: Shared,
    pub(crate) epoch: Epoch,
}

impl MemoryJournal {
    /// What becomes of a record; nothing when the leader dies over it.
    fn try_append(&self, record: &Record) -> Option<Result<(), JournalError>> {
        let mut state = self.shared.lock();
        state.happenings += 1;
        if self.epoch < state.store.epoch && !state.lacks(Planted::EpochCheck) {
            let detail = format!("epoch {} leads", state.store.epoch.counter);
            return Some(Err(JournalError::Fenced { detail }));
        }
        if state.leader_died {
            return None;
        }
        let point = state.crashes_at(record);
        if point.as_ref().is_some_and(|p| !p.durable) {
            state.die();
            return None;
        }
        let kept = state.keep_in_order(record);
        if point.is_some() {
            state.die();
            return None;
        }
        Some(kept)
    }
}

impl Journal for MemoryJournal {
    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        match self.try_append(record) {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    async fn load(&mut self, run: &RunId) -> Result<Vec<Record>, JournalError> {
        Ok(self.shared.lock().store.journals.get(run).cloned().unwrap_or_default())
    }
}

impl State {
    /// The crash that fate has ready, if this record is its.
    fn crashes_at(&mut self, record: &Record) -> Option<CrashPoint> {
        let point = self.crash_at.clone()?;
        match &point.record {
            CrashRecord::OfStep { entry, step } => self.is_of_step(record, entry, step).then_some(point),
            CrashRecord::After(0) => Some(point),
            CrashRecord::After(others) => {
                let record = CrashRecord::After(others - 1);
                self.crash_at = Some(CrashPoint { record, ..point });
                None
            }
        }
    }

    fn is_of_step(&self, record: &Record, entry: &str, step: &str) -> bool {
        let (word, index) = match &record.entry {
            Entry::StepStarted { step, .. } => ("started", *step),
            Entry::StepDone { step, .. } => ("done", *step),
            Entry::StepFailed { step, .. } => ("failed", *step),
            _ => return false,
        };
        let plan = self.store.journals.get(&record.run).and_then(|records| plan_of(records));
        let kind = plan.and_then(|p| p.steps.get(index as usize)).map(|s| s.kind.word());
        entry == word && kind == Some(step)
    }
}

fn plan_of(records: &[Record]) -> Option<&drover_model::plan::Plan> {
    match records.first().map(|r| &r.entry) {
        Some(Entry::Created { plan, .. }) => Some(plan),
        _ => None,
    }
}

impl State {
    fn die(&mut self) {
        self.crash_at = None;
        self.leader_died = true;
    }

    /// Where intents are not waited for, each becomes durable with the record after it.
    fn keep_in_order(&mut self, record: &Record) -> Result<(), JournalError> {
        if let Some(late) = self.late.take() {
            self.keep(&late)?;
        }
        if self.lacks(Planted::JournalFirst) && matches!(record.entry, Entry::StepStarted { .. }) {
            self.late = Some(record.clone());
            return Ok(());
        }
        self.keep(record)
    }

    /// Makes a record durable: the next of its run, or the very one that stands there already.
    pub(crate) fn keep(&mut self, record: &Record) -> Result<(), JournalError> {
        let records = self.store.journals.entry(record.run.clone()).or_default();
        let next = records.len() as u64;
        if record.sequence != next {
            let stands = usize::try_from(record.sequence).ok().and_then(|at| records.get(at));
            let same = stands == Some(record);
            return if same { Ok(()) } else { Err(JournalError::Conflict { sequence: record.sequence }) };
        }
        records.push(record.clone());
        self.tell_record(record);
        self.check_record(record);
        Ok(())
    }

    /// What people want to hear of a run, where no page says it.
    fn tell_record(&mut self, record: &Record) {
        let Some(plan) = self.store.journals.get(&record.run).and_then(|r| plan_of(r)) else { return };
        let run = &record.run;
        let told = match &record.entry {
            Entry::Created { by, ask: None, .. } => {
                let services: Vec<_> = plan.services.iter().map(ToString::to_string).collect();
                let (services, intent) = (services.join(", "), &plan.intent);
                format!("{run} begins: {} of {services}, {} (by {by})", intent.purpose, intent.region)
            }
            Entry::Approved { .. }
            | Entry::StepFailed { .. }
            | Entry::StepSkipped { .. }
            | Entry::Resumed { .. }
            | Entry::RollbackBegun { .. }
            | Entry::UndoFailed { .. }
            | Entry::TakenOver => format!("{run}: {}", sentence(plan, &record.entry)),
            _ => return,
        };
        self.tell(told);
    }
}

/// The hands of one leader.
pub(crate) struct Hands {
    pub(crate) shared: Shared,
}

impl Hands {
    fn alive(&self) -> bool {
        let mut state = self.shared.lock();
        state.happenings += 1;
        !state.leader_died
    }
}

impl Effects for Hands {
    async fn act(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        if !self.alive() {
            std::future::pending::<()>().await;
        }
        self.shared.lock().check_act(order);
        match &order.step().kind {
            StepKind::Preflight { predicates } => preflight(&self.shared.lock(), predicates),
            StepKind::VerifyApp { targets } => verify_app(&self.shared.lock(), targets),
            StepKind::ShiftTraffic { changes } => publishing::shift(&mut self.shared.lock(), order, changes),
            kind @ StepKind::VerifyDns { .. } => match order.plan.expected_by(kind) {
                Some(expected) => publishing::verify(&self.shared.lock(), expected),
                None => Err(failed(FailureNature::Permanent, "the plan does not say what DNS must answer")),
            },
            StepKind::Validate { targets } => validating::act(&self.shared, targets).await,
            StepKind::Drained { targets, quiet } => drained(&self.shared, order, targets, *quiet).await,
            StepKind::Notify { message } => {
                let (key, run) = (order.key.clone(), order.run.clone());
                let page = PageOrder { key, run, about: PageAbout::Holds, message: message.clone() };
                self.page(&page);
                Ok(StepOutcome::done(true, "told"))
            }
            // The planner names programs by what is in their files, and this world has none.
            StepKind::Run { command, .. } => {
                Err(failed(FailureNature::Permanent, format!("{} is not there", command.path)))
            }
            StepKind::Wait { .. } | StepKind::Approve { .. } => Ok(StepOutcome::done(false, "nothing to do")),
        }
    }

    async fn undo(&self, order: &Order) -> Result<StepOutcome, StepFailure> {
        if !self.alive() {
            std::future::pending::<()>().await;
        }
        match &order.step().reversal {
            Reversal::Nothing => Ok(StepOutcome::done(false, "nothing to undo")),
            Reversal::RestoreWeights { changes } => publishing::undo(&mut self.shared.lock(), order, changes),
            Reversal::StepBack { changes, out } => {
                stepping_back::undo(&self.shared, order, changes, out).await
            }
            Reversal::ForwardOnly | Reversal::AskOperator => {
                Err(failed(FailureNature::Permanent, "drover can't undo this step"))
            }
        }
    }

    fn page(&self, page: &PageOrder) {
        let mut state = self.shared.lock();
        if state.store.pages.insert(page.key.clone()) {
            state.tell(format!("page: {}", page.message));
        }
    }
}

fn preflight(state: &State, all: &[Predicate]) -> Result<StepOutcome, StepFailure> {
    let world = state.world();
    let unplanned =
        |p: &&Predicate| matches!(p, Predicate::TrafficAt { .. }) && state.lacks(Planted::StalePlanCheck);
    let asked = all.iter().filter(|p| !unplanned(p));
    let broken: Vec<String> =
        asked.filter_map(|p| predicates::evaluate(p, &world).err()).map(|r| r.to_string()).collect();
    if broken.is_empty() {
        return Ok(StepOutcome::done(false, format!("{} conditions hold", all.len())));
    }
    Err(failed(FailureNature::Retryable, broken.join("; ")))
}

/// A scripted request succeeds where a user's would.
fn verify_app(state: &State, targets: &[AppCheckTarget]) -> Result<StepOutcome, StepFailure> {
    let fails = |t: &&AppCheckTarget| {
        let condition = state.truth.condition(&t.endpoint);
        condition.dead || condition.errors_percent >= 100 || condition.latency >= t.check.timeout
    };
    match targets.iter().find(fails) {
        Some(t) => {
            Err(failed(FailureNature::Retryable, format!("{} {}: no answer", t.endpoint, t.check.name)))
        }
        None => Ok(StepOutcome::done(
            false,
            format!("{} scripted request(s) answered as expected", targets.len()),
        )),
    }
}

/// Nobody counts requests of the region that was left here: it is drained by the time that has passed.
async fn drained(
    shared: &Shared,
    order: &Order,
    targets: &[DrainTarget],
    quiet: Span,
) -> Result<StepOutcome, StepFailure> {
    let now = shared.lock().now();
    let at = order.declared_at.unwrap_or(now) + quiet;
    tokio::time::sleep(at.since(now).to_duration()).await;
    let bound = || format!("assumed: {quiet} after DNS");
    let measurements = targets.iter().map(|t| Measurement::drained(&t.endpoint, at, bound(), true)).collect();
    let summary = format!("assumed drained {quiet} after DNS");
    Ok(StepOutcome { measurements, ..StepOutcome::done(false, summary) })
}
