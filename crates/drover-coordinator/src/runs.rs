//! Runs under way: created with their first record, driven by one task each, resumed after a restart, commanded by
//! people. I2 is kept here: two runs never touch the same service, because creation is serialised and looks first.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use crate::journal::StoreJournal;
use crate::outbox::NewPage;
use crate::steps::Hands;
use axum::http::StatusCode;
use drover_exec::drive::{Ports, Request};
use drover_exec::{Command, Consent, Effect, Execution, Journal, Outcome, Refused, drive};
use drover_model::api::{RunSummary, RunView, Severity};
use drover_model::decision::FailureClass;
use drover_model::journal::{Record, RunState, Trigger};
use drover_model::plan::ActiveRun;
use drover_model::reason::Reason;
use drover_model::traffic::Actor;
use drover_model::{RegionId, RunId, ServiceId, Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Commands waiting for one run; a further one is answered `busy`.
const COMMANDS_WAITING_MAX: usize = 8;
/// Ended runs kept in memory for lists; all of them stay in the store.
const ENDED_RUNS_KEPT: usize = 200;
/// A command's record is durable within this, or the answer says that it is not known.
const COMMAND_TIMEOUT: Span = Span::from_secs(20);

struct Handle {
    snapshot: watch::Receiver<Execution>,
    commands: mpsc::Sender<Request>,
}

/// An automatic run that a person stopped or refused.
#[derive(Debug, Clone)]
pub struct EndedByPerson {
    /// Which.
    pub run: RunId,
    /// The region.
    pub region: RegionId,
    /// The services.
    pub services: Vec<ServiceId>,
    /// What kind of failure it was about.
    pub class: FailureClass,
    /// How it ended.
    pub state: RunState,
    /// When.
    pub ended_at: Timestamp,
}

/// Every run that this coordinator knows.
#[derive(Default)]
pub struct RunTable {
    runs: Mutex<BTreeMap<u64, Handle>>,
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
                awaiting_approval: e.state() == RunState::AwaitingApproval && e.current_step().is_none(),
            })
            .collect()
        })
    }

    /// Automatic runs that a person stopped or refused, newest last.
    #[must_use]
    pub fn ended_by_people(&self) -> Vec<EndedByPerson> {
        self.with(|runs| {
            runs.values()
                .filter_map(|h| {
                    let e = h.snapshot.borrow();
                    let state = e.state();
                    let Trigger::Decision { class, .. } = &e.origin().trigger else { return None };
                    let by_person =
                        matches!(state, RunState::Aborted | RunState::RolledBack | RunState::Rejected);
                    let ended_at = e.ended_at().filter(|_| by_person)?;
                    Some(EndedByPerson {
                        run: e.run().clone(),
                        region: e.plan().intent.region.clone(),
                        services: e.plan().services.clone(),
                        class: *class,
                        state,
                        ended_at,
                    })
                })
                .collect()
        })
    }

    fn snapshot(&self, run: &RunId) -> Option<Execution> {
        let number = keys::number_of(run.as_str())?;
        self.with(|runs| runs.get(&number).map(|h| h.snapshot.borrow().clone()))
    }

    fn next_number(&self) -> u64 {
        self.with(|runs| runs.keys().next_back().map_or(1, |n| n + 1))
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

impl Coordinator {
    /// Creates a run and starts it. The caller holds the admission lock or is the decider, which takes it.
    ///
    /// # Errors
    /// When the journal can't be written or this coordinator no longer leads.
    pub(crate) async fn create_run(
        self: &Arc<Self>,
        consent: Consent,
        by: Actor,
        trigger: Trigger,
        rto: Span,
    ) -> Result<RunId, CoordinatorError> {
        let run = RunId::numbered(self.runs.next_number());
        let now = self.clock.now();
        let (execution, first) =
            Execution::create(run.clone(), consent, by, trigger, rto, self.db.epoch(), now);
        let Effect::Append(record) = first else {
            return Err(CoordinatorError::store(format!("create {run}"), "the run has no first record"));
        };
        let mut journal = StoreJournal::new(self.db.clone());
        journal.append(&record).await.map_err(|e| CoordinatorError::store(format!("create {run}"), e))?;
        drop(execution);
        let replayed = Execution::replay(std::slice::from_ref(&record))
            .map_err(|e| CoordinatorError::store(format!("create {run}"), e))?;
        self.drive_run(replayed);
        Ok(run)
    }

    /// Goes on with every run of the store that is not over.
    pub(crate) async fn resume_runs(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        let records: Vec<(String, Record)> = self.db.list(keys::RUNS).await?;
        let mut by_run: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        for (_, record) in records {
            by_run.entry(keys::number_of(record.run.as_str()).unwrap_or(0)).or_default().push(record);
        }
        for (number, records) in by_run {
            match Execution::replay(&records) {
                Ok(execution) => {
                    if !execution.is_over() {
                        tracing::info!(run = %execution.run(), state = %execution.state(), "going on with a run");
                    }
                    self.drive_run(execution);
                }
                Err(e) => {
                    tracing::error!(run = number, error = %e, "a journal can't be replayed; its run is left alone");
                    let page = NewPage {
                        key: format!("illegal_journal/{number}"),
                        severity: Severity::Critical,
                        subject: RunId::numbered(number).to_string(),
                        message: format!("the journal can't be replayed, the run is left alone: {e}"),
                        next: Some("drover doctor".into()),
                    };
                    self.page(page).await?;
                }
            }
        }
        Ok(())
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
            let mut journal = StoreJournal::new(me.db.clone());
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
                Outcome::StoodDown(why) => tracing::error!(%run, "stood down: {why:?}"),
            }
            me.decide_wake.notify_one();
        };
        self.tasks.spawn(tracing::Instrument::instrument(task, span));
    }

    /// Sends a command and waits until its record is durable.
    pub(crate) async fn send_command(&self, run: &RunId, command: Command) -> Result<(), ApiError> {
        let word = command.word().to_owned();
        let Some(snapshot) = self.runs.snapshot(run) else {
            let known = self.runs.summaries().iter().take(10).map(|r| r.id.to_string()).collect();
            return Err(ApiError::not_found(run.to_string(), known));
        };
        let wrong = |state: String| {
            ApiError::refused(vec![Reason::WrongState { run: run.clone(), state, command: word.clone() }])
        };
        if snapshot.is_over() {
            return Err(wrong(snapshot.state().to_string()));
        }
        if let Command::Approve { plan, .. } = &command {
            self.check_approval(&snapshot, plan)?;
        }
        let (reply, answer) = oneshot::channel();
        let number = keys::number_of(run.as_str()).unwrap_or(0);
        let sent = self.runs.with(|runs| runs.get(&number).map(|h| h.commands.try_send((command, reply))));
        if !matches!(sent, Some(Ok(()))) {
            return Err(wrong("busy with other commands, or ending".into()));
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
    fn check_approval(&self, snapshot: &Execution, _named: &drover_model::PlanId) -> Result<(), ApiError> {
        if snapshot.current_step().is_some_and(|s| s > 0) {
            return Ok(());
        }
        let world = self.world(self.clock.now());
        let reasons = drover_core::plan::stale(snapshot.plan(), &world);
        if reasons.is_empty() { Ok(()) } else { Err(ApiError::refused(reasons)) }
    }

    /// A run in one line.
    pub(crate) async fn run_summary(&self, run: &RunId) -> Result<Option<RunSummary>, CoordinatorError> {
        Ok(self.runs.snapshot(run).map(|e| e.summary()))
    }

    /// A run in full.
    pub(crate) async fn run_view(&self, run: &RunId) -> Result<Option<RunView>, CoordinatorError> {
        let records: Vec<Record> =
            self.db.list(&keys::journal_of(run)).await?.into_iter().map(|(_, r)| r).collect();
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
        for step in &mut view.steps {
            let word = step.id.split_once('-').map_or(step.id.as_str(), |(_, w)| w);
            step.usual = usual.get(word).copied();
        }
        Ok(Some(view))
    }

    /// Median time of each step kind in earlier runs that succeeded.
    async fn usual_step_times(&self, but: &RunId) -> Result<BTreeMap<String, Span>, CoordinatorError> {
        let mut times: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        self.runs.with(|runs| {
            for h in runs.values() {
                let e = h.snapshot.borrow();
                if e.run() == but || !e.is_over() {
                    continue;
                }
                for (step, progress) in e.plan().steps.iter().zip(e.progress().steps()) {
                    if let (Some(began), Some(ended)) = (progress.started_at, progress.ended_at) {
                        times.entry(step.kind.word().to_owned()).or_default().push(ended.since(began));
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

fn refused_error(run: &RunId, refused: &Refused) -> ApiError {
    match refused {
        Refused::State(reason) => ApiError::refused(vec![reason.clone()]),
        other => {
            let mut e = ApiError::new(StatusCode::CONFLICT, "refused", other.to_string());
            e.0.next = Some(format!("drover run show {run}"));
            e
        }
    }
}
