//! Runs under way: created with their first record, driven by one task each, resumed after a restart, commanded by
//! people. I2 is kept here: two runs never touch the same service, because creation is serialised and looks first.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::journal::StoreJournal;
use crate::outbox::NewPage;
use crate::steps::Hands;
use crate::views::budget;
use axum::http::StatusCode;
use drover_exec::drive::{Ports, Request};
use drover_exec::{
    Command, Consent, Effect, Execution, Journal, JournalError, Outcome, Refused, StandDown, drive,
};
use drover_model::api::{RunSummary, RunView, Severity};
use drover_model::approvals::Approvals;
use drover_model::journal::{Record, RunState, Trigger};
use drover_model::plan::{ActiveRun, EndedRun, StepKind, World};
use drover_model::reason::Reason;
use drover_model::traffic::Actor;
use drover_model::{RunId, ServiceId, Span, Timestamp};
use drover_store::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands waiting for one run; a further one is answered `busy`.
const COMMANDS_WAITING_MAX: usize = 8;
/// Ended runs kept in memory, for block periods and the usual times of steps; all of them stay in the store.
pub(crate) const ENDED_RUNS_KEPT: usize = 200;
/// A command's record is durable within this, or the answer says that it is not known.
const COMMAND_TIMEOUT: Span = Span::from_secs(20);
/// Looks at the store after an append whose outcome is not known, before this coordinator gives up.
const LOOKS_AFTER_DOUBT: u32 = 5;
/// Pause between two of them.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Code of an answer that passes by itself.
pub(crate) const BUSY: &str = "busy";

struct Handle {
    snapshot: watch::Receiver<Execution>,
    commands: mpsc::Sender<Request>,
}

/// Every run that this coordinator knows.
#[derive(Default)]
pub struct RunTable {
    runs: Mutex<BTreeMap<u64, Handle>>,
    /// Runs that are not over and whose journal can't be read or replayed: nobody drives them.
    left_alone: Mutex<BTreeSet<RunId>>,
}

/// The run of this very name: only its number is looked up, and `break-glass-0000000a-1` must not find `run-1`.
fn handle_of<'r>(runs: &'r BTreeMap<u64, Handle>, run: &RunId) -> Option<&'r Handle> {
    let number = keys::number_of(run.as_str())?;
    runs.get(&number).filter(|_| RunId::numbered(number) == *run)
}

impl RunTable {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<u64, Handle>) -> T) -> T {
        f(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One line a run, newest first.
    #[must_use]
    pub fn summaries(&self) -> Vec<RunSummary> {
        self.with(|runs| runs.values().rev().map(|h| h.snapshot.borrow().summary()).collect())
    }

    /// Runs that are not over.
    #[must_use]
    pub fn active(&self) -> Vec<ActiveRun> {
        self.with(|runs| {
            let open = runs.values().map(|h| h.snapshot.borrow()).filter(|e| !e.is_over());
            open.map(|e| ActiveRun {
                run: e.run().clone(),
                services: e.plan().services.clone(),
                region: e.plan().intent.region.clone(),
                purpose: Some(e.plan().intent.purpose),
                rolling_back: e.progress().is_undoing(),
                by_stages: e.plan().is_by_stages(),
                by: Some(e.origin().by.clone()),
                counts_on: e.counts_on(),
                gives_way: e.gives_way(),
                awaiting_approval: e.state() == RunState::AwaitingApproval && e.current_step().is_none(),
            })
            .collect()
        })
    }

    /// Runs of drover's own that ended and moved nothing for good, oldest first.
    #[must_use]
    pub fn ended(&self) -> Vec<EndedRun> {
        self.with(|runs| {
            runs.values()
                .filter_map(|h| {
                    let e = h.snapshot.borrow();
                    let Trigger::Decision { class, .. } = &e.origin().trigger else { return None };
                    let early = !e.was_superseded()
                        && matches!(
                            e.state(),
                            RunState::Aborted
                                | RunState::RolledBack
                                | RunState::Rejected
                                | RunState::ExpiredUnapproved
                        );
                    Some(EndedRun {
                        run: e.run().clone(),
                        region: e.plan().intent.region.clone(),
                        services: e.plan().services.clone(),
                        class: *class,
                        state: e.state(),
                        ended_at: e.ended_at().filter(|_| early)?,
                        by_person: matches!(e.progress().stopped_by(), Some(Actor::Person { .. })),
                    })
                })
                .collect()
        })
    }

    fn snapshot(&self, run: &RunId) -> Option<Execution> {
        self.with(|runs| Some(handle_of(runs, run)?.snapshot.borrow().clone()))
    }

    /// Sequence of the next record of a run that is under way.
    pub(crate) fn next_sequence(&self, run: &RunId) -> Option<u64> {
        self.with(|runs| Some(handle_of(runs, run)?.snapshot.borrow().next_sequence()))
    }

    /// Open questions whether a run begins.
    fn questions(&self) -> Vec<Execution> {
        self.with(|runs| {
            let open = runs.values().map(|h| h.snapshot.borrow());
            let open = open.filter(|e| e.state() == RunState::AwaitingApproval && e.current_step().is_none());
            open.map(|e| e.clone()).collect()
        })
    }

    /// Who must still agree to what a run asks, while it asks.
    pub(crate) fn question(&self, run: &RunId) -> Option<Approvals> {
        let execution = self.snapshot(run)?;
        execution.expires_at().map(|_| execution.approvals().clone())
    }

    /// Forgets what is not over, before it is read from the store again to be driven. What is over stays as it is.
    pub(crate) fn forget_open(&self) {
        self.with(|runs| runs.retain(|_, h| h.snapshot.borrow().is_over()));
    }

    /// Takes a run in that somebody else drives; none of its commands is taken here.
    fn show(&self, execution: Execution) {
        let run = execution.run().clone();
        let (commands, _) = mpsc::channel(1);
        let (_, snapshot) = watch::channel(execution);
        self.insert(&run, Handle { snapshot, commands });
    }

    fn insert(&self, run: &RunId, handle: Handle) {
        let Some(number) = keys::number_of(run.as_str()) else { return };
        self.with(|runs| {
            runs.insert(number, handle);
            let ended: Vec<u64> =
                runs.iter().filter(|(_, h)| h.snapshot.borrow().is_over()).map(|(n, _)| *n).collect();
            for n in ended.iter().take(ended.len().saturating_sub(ENDED_RUNS_KEPT)) {
                runs.remove(n);
            }
        });
    }
}

mod resuming;

impl Coordinator {
    /// A name that no run has had, not even one whose creation failed: what may have landed is never written over.
    pub(crate) fn next_run(&self) -> RunId {
        RunId::numbered(self.counters.runs.next())
    }

    /// Creates a run and starts it. The caller holds the admission lock, and has `run` from [`Self::next_run`].
    ///
    /// # Errors
    /// When the journal can't be written or this coordinator no longer leads.
    pub(crate) async fn create_run(
        self: &Arc<Self>,
        run: RunId,
        consent: Consent,
        by: Actor,
        trigger: Trigger,
        rto: Span,
    ) -> Result<RunId, CoordinatorError> {
        self.create_run_with(run, consent, by, trigger, rto, Vec::new()).await
    }

    /// As [`Self::create_run`]; `also` is written if and only if the run is.
    ///
    /// # Errors
    /// As [`Self::create_run`].
    pub(crate) async fn create_run_with(
        self: &Arc<Self>,
        run: RunId,
        consent: Consent,
        by: Actor,
        trigger: Trigger,
        rto: Span,
        also: Vec<Op>,
    ) -> Result<RunId, CoordinatorError> {
        let what = format!("create {run}");
        let now = self.clock.now();
        let (_, first) = Execution::create(run.clone(), consent, by, trigger, rto, self.db.epoch(), now);
        let Effect::Append(record) = first else {
            return Err(CoordinatorError::store(what, "the run has no first record"));
        };
        let mut journal = StoreJournal::new(self.db.clone());
        match journal.begin(&record, also).await {
            Ok(()) => {}
            Err(JournalError::Fenced { .. }) => return Err(CoordinatorError::Fenced { what }),
            Err(JournalError::TooLarge { bytes, limit }) => {
                return Err(CoordinatorError::TooLarge { what, bytes, limit });
            }
            Err(e @ JournalError::Unavailable { .. }) => {
                if !self.stands_after_doubt(&mut journal, &record).await? {
                    return Err(CoordinatorError::store(what, e));
                }
            }
            Err(e) => return Err(CoordinatorError::store(what, e)),
        }
        let replayed =
            Execution::replay(std::slice::from_ref(&record)).map_err(|e| CoordinatorError::store(what, e))?;
        self.drive_run(replayed);
        Ok(run)
    }

    /// Did the first record land although its append failed? A run that nobody drives must not stay behind: where the
    /// store does not say, this coordinator stops, and the next one reads it.
    async fn stands_after_doubt(
        &self,
        journal: &mut StoreJournal,
        record: &Record,
    ) -> Result<bool, CoordinatorError> {
        let mut looks = 0;
        loop {
            looks += 1;
            match journal.load(&record.run).await {
                Ok(found) => return Ok(found.first() == Some(record)),
                Err(e) if looks >= LOOKS_AFTER_DOUBT => {
                    tracing::error!(run = %record.run, "it is not known whether the run was created; stopping");
                    self.stop.cancel();
                    return Err(CoordinatorError::store(format!("look for {}", record.run), e));
                }
                Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    fn drive_run(self: &Arc<Self>, execution: Execution) {
        let run = execution.run().clone();
        let over = execution.is_over();
        let (snapshots, snapshot) = watch::channel(execution.clone());
        let (commands, inbox) = mpsc::channel(COMMANDS_WAITING_MAX);
        self.runs.insert(&run, Handle { snapshot, commands });
        if over {
            return;
        }
        let me = self.clone();
        let span = tracing::info_span!("run", id = %run);
        let task = async move {
            let mut journal = StoreJournal::of(me.db.clone(), execution.summary(), me.shifting.clone());
            let hands = Hands { coordinator: me.clone() };
            let clock = me.clock;
            let ports = Ports {
                journal: &mut journal,
                effects: &hands,
                commands: inbox,
                clock: move || clock.now(),
                snapshots: &snapshots,
            };
            let epoch = me.db.epoch();
            let outcome = tokio::select! {
                () = me.stop.cancelled() => return,
                outcome = drive(execution, epoch, ports) => outcome,
            };
            match outcome {
                Outcome::Finished(state) => tracing::info!(%run, %state, "run is over"),
                Outcome::StoodDown(why) => me.stood_down(&run, &why).await,
            }
            me.decide_wake.notify_one();
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(e) = tokio::spawn(tracing::Instrument::instrument(task, span)).await {
                // Nobody drives the run now; a fresh start reads its journal and goes on.
                tracing::error!("the driver of a run ended by itself ({e}); stopping");
                stop.cancel();
            }
        });
    }

    /// This process does not command the run any more: a newer leader does, or nobody, and then people must know.
    async fn stood_down(&self, run: &RunId, why: &StandDown) {
        let why_in_full = drover_model::chain(why);
        tracing::error!(%run, "stood down: {why_in_full}");
        if matches!(why, StandDown::Fenced(_)) {
            self.stop.cancel();
            return;
        }
        let page = NewPage {
            key: format!("stood_down/{run}"),
            severity: Severity::Critical,
            subject: run.to_string(),
            message: format!("{run} is not driven any more: {why_in_full}"),
            next: Some("drover doctor".into()),
        };
        if let Err(e) = self.page(page).await {
            tracing::error!(error = &e as &dyn std::error::Error, "can't write a page down");
        }
    }

    /// Takes back questions whose plan the world has overtaken: nobody can say yes to them, and while they stand they
    /// keep a better one from being asked. Says whether there were any.
    pub(crate) async fn withdraw_overtaken(&self, world: &World, now: Timestamp) -> bool {
        let mut any = false;
        for question in self.runs.questions() {
            let Some(why) = drover_core::plan::overtaken(question.plan(), world, now) else { continue };
            let command = Command::Reject { by: Actor::Automatic, reason: format!("overtaken: {why}") };
            match self.send_command(question.run(), command).await {
                Ok(()) => any = true,
                Err(e) => tracing::warn!(run = %question.run(), "can't withdraw a question: {}", e.0.detail),
            }
        }
        any
    }

    /// Sends a command and waits until its record is durable.
    pub(crate) async fn send_command(&self, run: &RunId, command: Command) -> Result<(), ApiError> {
        let word = command.word().to_owned();
        let wrong = |state: String| {
            ApiError::refused(vec![Reason::WrongState { run: run.clone(), state, command: word.clone() }])
        };
        let Some(snapshot) = self.runs.snapshot(run) else {
            if let Some(ended) = self.ended_run(run).await? {
                return Err(wrong(ended.state.to_string()));
            }
            let known = self.runs.summaries().iter().take(10).map(|r| r.id.to_string()).collect();
            return Err(ApiError::not_found(run.to_string(), known));
        };
        if snapshot.is_over() {
            return Err(wrong(snapshot.state().to_string()));
        }
        if let Command::Approve { .. } = &command {
            self.check_approval(&snapshot)?;
        }
        let (reply, answer) = oneshot::channel();
        let sent = self
            .runs
            .with(|runs| handle_of(runs, run).is_some_and(|h| h.commands.try_send((command, reply)).is_ok()));
        if !sent {
            return Err(busy(format!("{run} is busy with other commands, or ending")));
        }
        match tokio::time::timeout(COMMAND_TIMEOUT.to_duration(), answer).await {
            Ok(Ok(Ok(_))) => {
                self.decide_wake.notify_one();
                Ok(())
            }
            Ok(Ok(Err(refused))) => Err(refused_error(run, &refused)),
            Ok(Err(_)) => Err(wrong("no longer driven by this coordinator".into())),
            Err(_) => Err(ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "not_durable_yet",
                format!(
                    "the command to {run} is not durable after {COMMAND_TIMEOUT}; look at the run before repeating it"
                ),
            )),
        }
    }

    /// An approval is for the world that was shown: if an object that the plan read has moved, a new plan is needed (I9).
    /// It begins a run, so nothing else may work on its services (I2).
    fn check_approval(&self, snapshot: &Execution) -> Result<(), ApiError> {
        if snapshot.current_step().is_some_and(|s| s > 0) {
            return Ok(());
        }
        let world = self.world(self.clock.now());
        let mut reasons: Vec<_> =
            working_on(&world, &snapshot.plan().services, Some(snapshot.run())).collect();
        reasons.extend(drover_core::plan::stale(snapshot.plan(), &world));
        if reasons.is_empty() { Ok(()) } else { Err(ApiError::refused(reasons)) }
    }

    /// A run in one line.
    pub(crate) async fn run_summary(&self, run: &RunId) -> Result<Option<RunSummary>, CoordinatorError> {
        match self.runs.snapshot(run) {
            Some(execution) => Ok(Some(execution.summary())),
            None => self.ended_run(run).await,
        }
    }

    /// The records of a run from a sequence on.
    pub(crate) async fn journal_from(&self, run: &RunId, from: u64) -> Result<Vec<Record>, CoordinatorError> {
        let all: Vec<(String, Record)> = self.db.list_whole(&keys::journal_of(run)).await?;
        Ok(all.into_iter().map(|(_, r)| r).filter(|r| r.sequence >= from).collect())
    }

    /// A run in full.
    pub(crate) async fn run_view(&self, run: &RunId) -> Result<Option<RunView>, CoordinatorError> {
        let records: Vec<Record> =
            self.db.list_whole(&keys::journal_of(run)).await?.into_iter().map(|(_, r)| r).collect();
        if records.is_empty() {
            return Ok(None);
        }
        let execution = match self.runs.snapshot(run) {
            Some(e) => e,
            None => Execution::replay(&records)
                .map_err(|e| CoordinatorError::store(format!("replay {run}"), e))?,
        };
        let mut view = execution.view(&records, self.clock.now());
        let usual = self.usual_step_times(run).await?;
        for (shown, step) in view.steps.iter_mut().zip(&view.plan.steps) {
            shown.usual = usual.get(&alike(&step.kind)).copied();
        }
        view.remaining = budget::remaining(&view, self.clock.now());
        Ok(Some(view))
    }

    /// Median time of steps that are alike, in earlier runs that succeeded.
    async fn usual_step_times(&self, but: &RunId) -> Result<BTreeMap<String, Span>, CoordinatorError> {
        let mut times: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        self.runs.with(|runs| {
            for h in runs.values() {
                let e = h.snapshot.borrow();
                if e.run() == but || e.state() != RunState::Succeeded {
                    continue;
                }
                for (step, progress) in e.plan().steps.iter().zip(e.progress().steps()) {
                    if let (Some(began), Some(ended)) = (progress.started_at, progress.ended_at) {
                        times.entry(alike(&step.kind)).or_default().push(ended.since(began));
                    }
                }
            }
        });
        Ok(times
            .into_iter()
            .map(|(word, mut spans)| {
                spans.sort();
                let middle = spans[spans.len() / 2];
                (word, middle)
            })
            .collect())
    }
}

/// What steps must have in common for their times to be compared: a drain's wait says nothing of a soak.
fn alike(kind: &StepKind) -> String {
    match kind {
        StepKind::Wait { span, why } => format!("wait {span} {why}"),
        kind => kind.word().to_owned(),
    }
}

/// A reason for each run other than `but` that works on one of these services.
pub(crate) fn working_on<'a>(
    world: &'a World,
    services: &'a [ServiceId],
    but: Option<&'a RunId>,
) -> impl Iterator<Item = Reason> + 'a {
    let others = world.runs.iter().filter(move |r| !r.awaiting_approval && Some(&r.run) != but);
    others.flat_map(move |r| {
        let shared = r.services.iter().filter(move |s| services.contains(s));
        shared.map(move |s| Reason::RunInProgress {
            service: s.clone(),
            run: r.run.clone(),
            by: r.by.clone(),
        })
    })
}

/// It passes by itself; the same command may be sent again.
fn busy(detail: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, BUSY, detail)
}

fn refused_error(run: &RunId, refused: &Refused) -> ApiError {
    match refused {
        Refused::Busy { .. } => busy(refused.to_string()),
        Refused::State(reason) => ApiError::refused(vec![reason.clone()]),
        Refused::NotProven { .. } | Refused::SamePerson { .. } | Refused::NotSkipped { .. } => {
            let mut e = ApiError::new(StatusCode::CONFLICT, &refused.code(), refused.to_string());
            e.0.next = refused.next_command();
            e
        }
        other => {
            let mut e = ApiError::new(StatusCode::CONFLICT, "refused", other.to_string());
            e.0.next = Some(format!("drover run show {run}"));
            e
        }
    }
}
