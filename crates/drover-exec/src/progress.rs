//! Where a run stands: all that its records say, and nothing else. Two processes that read the same journal hold equal
//! [`Progress`].

use crate::approved::Approved;
use drover_model::approvals::Approvals;
use drover_model::journal::{Measurement, RunState};
use drover_model::plan::{Plan, Step, StepKind};
use drover_model::traffic::Actor;
use drover_model::{Epoch, Timestamp};
use std::sync::Arc;

/// Where one step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// An attempt is under way, or its outcome is not known.
    Running,
    /// The last attempt failed, or was stopped by a person.
    Failed,
    /// Done.
    Done,
    /// A person let it pass.
    Skipped,
    /// Undone.
    Undone,
}

impl StepStatus {
    /// The word used in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            StepStatus::Pending => "pending",
            StepStatus::Running => "running",
            StepStatus::Failed => "failed",
            StepStatus::Done => "done",
            StepStatus::Skipped => "skipped",
            StepStatus::Undone => "undone",
        }
    }
}

/// What one step did to the world, as far as the journal can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Touched {
    /// Nothing.
    No,
    /// An attempt failed or was cut short, so that its effect may be there in part.
    Maybe,
    /// Changed.
    Yes,
}

/// One step's history.
#[derive(Debug, Clone, PartialEq)]
pub struct StepProgress {
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts begun, over all leaders and resumptions.
    pub attempts: u32,
    /// When the first attempt was begun.
    pub started_at: Option<Timestamp>,
    /// When the last attempt ended.
    pub ended_at: Option<Timestamp>,
    /// What came of the last attempt, in words.
    pub summary: String,
    /// Numbers that the last attempt looked at.
    pub measurements: Vec<Measurement>,
    /// The DNS servers that what it published did not reach.
    pub published_partial: Vec<String>,
    /// Attempts at undoing it.
    pub undo_attempts: u32,
    pub(crate) touched: Touched,
    /// Failed attempts since the step was last begun afresh: what the attempt budget counts. A takeover is not a
    /// failure of the step.
    pub(crate) failures: u32,
    /// Takeovers that cut this step short since it was last begun afresh.
    pub(crate) takeovers: u32,
}

impl StepProgress {
    fn new() -> Self {
        Self {
            status: StepStatus::Pending,
            attempts: 0,
            started_at: None,
            ended_at: None,
            summary: String::new(),
            measurements: Vec::new(),
            published_partial: Vec::new(),
            undo_attempts: 0,
            touched: Touched::No,
            failures: 0,
            takeovers: 0,
        }
    }

    /// A new round with the whole attempt budget.
    pub(crate) fn begin_afresh(&mut self) {
        self.failures = 0;
        self.takeovers = 0;
    }

    pub(crate) fn touch(&mut self, touched: Touched) {
        self.touched = self.touched.max(touched);
    }
}

/// What a standing run stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The step at the cursor.
    Step,
    /// The undo of this step.
    Undo(u32),
}

/// Why a run stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Paused,
    NeedsOperator,
}

/// What follows from the record before, and must be written next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settle {
    /// The run needs a person, or is over.
    End { state: RunState, summary: String, at: Standing },
    /// The run holds.
    Pause { reason: String, at: Standing },
    /// What was done is undone.
    RollBack { reason: String },
}

/// The state of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Created in memory; the first record is not durable.
    Unrecorded,
    /// A person is asked about the whole plan.
    Awaiting { expires_at: Timestamp },
    /// The step at the cursor is next.
    Ready,
    /// It failed and is tried again later.
    Backoff { retry_at: Timestamp },
    /// It was begun.
    Stepping { attempt: u32 },
    /// It is a question, and a person is asked.
    Asking { expires_at: Timestamp },
    /// The run stands still.
    Held { hold: Hold, at: Standing },
    /// This step is the next to be undone.
    UndoReady { step: u32 },
    /// Undoing it failed and is tried again later.
    UndoBackoff { step: u32, retry_at: Timestamp },
    /// Its undo was begun.
    Undoing { step: u32, attempt: u32 },
    /// One record must come next.
    Settling(Settle),
    /// The end.
    Over(RunState),
}

/// One person's answer for all who were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alone {
    /// Of its record; names its page.
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
    pub(crate) reason: String,
}

/// All that a journal says about its run.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub(crate) plan: Arc<Plan>,
    pub(crate) approved: Option<Approved<Plan>>,
    pub(crate) phase: Phase,
    /// The step that stands or comes next.
    pub(crate) cursor: u32,
    pub(crate) steps: Vec<StepProgress>,
    pub(crate) exceptions: Vec<String>,
    /// Undos that a person let pass: such a run was not rolled back.
    pub(crate) left_in_place: Vec<String>,
    /// Why undoing began.
    pub(crate) cause: Option<String>,
    /// The way back ends at the last stage of a ramp that was good; otherwise everything is undone.
    pub(crate) to_last_good: bool,
    /// Where that way back led, in words.
    pub(crate) led_to: Option<String>,
    /// Who rejected it or asked for its end; absent when its own policy ended it.
    pub(crate) stopped_by: Option<Actor>,
    /// The newest pause was a person's.
    pub(crate) held_by_person: bool,
    /// Who must agree to the question that is asked, and did.
    pub(crate) approvals: Approvals,
    /// A person agreed to it, or to a step of it.
    pub(crate) approved_by_person: bool,
    /// Who answered alone where several were asked.
    pub(crate) alone: Vec<Alone>,
    /// Sequence of the next record.
    pub(crate) sequence: u64,
    /// Of the newest record.
    pub(crate) epoch: Epoch,
    pub(crate) created_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// The latest thing worth telling: why it holds, or how it ended.
    pub(crate) note: String,
    /// Sequence of the record that made the run ask, hold or end; names its page.
    pub(crate) noted_at: u64,
}

impl Progress {
    pub(crate) fn new(plan: Arc<Plan>, epoch: Epoch, created_at: Timestamp) -> Self {
        let steps = plan.steps.iter().map(|_| StepProgress::new()).collect();
        Self {
            plan,
            approved: None,
            phase: Phase::Unrecorded,
            cursor: 0,
            steps,
            exceptions: Vec::new(),
            left_in_place: Vec::new(),
            cause: None,
            to_last_good: false,
            led_to: None,
            stopped_by: None,
            held_by_person: false,
            approvals: Approvals::default(),
            approved_by_person: false,
            alone: Vec::new(),
            sequence: 0,
            epoch,
            created_at,
            ended_at: None,
            note: String::new(),
            noted_at: 0,
        }
    }

    pub(crate) fn step(&self, index: u32) -> &Step {
        &self.plan.steps[index as usize]
    }

    pub(crate) fn step_mut(&mut self, index: u32) -> &mut StepProgress {
        &mut self.steps[index as usize]
    }

    /// Did any step change the world, or may it have?
    pub(crate) fn anything_touched(&self) -> bool {
        self.steps.iter().any(|s| s.touched != Touched::No)
    }

    /// When the last step of this kind ended well.
    fn last_done(&self, is_it: fn(&StepKind) -> bool) -> Option<&StepProgress> {
        let last = self.plan.steps.iter().rposition(|s| is_it(&s.kind))?;
        self.steps.get(last).filter(|s| s.status == StepStatus::Done)
    }

    /// When what the run moved was live in DNS and verified everywhere.
    pub(crate) fn declared_at(&self) -> Option<Timestamp> {
        self.last_done(|k| matches!(k, StepKind::VerifyDns { .. }))?.ended_at
    }

    /// When it was proven besides that the services work where they are now.
    pub(crate) fn recovered_at(&self) -> Option<Timestamp> {
        let validated = self.last_done(|k| matches!(k, StepKind::Validate { .. }))?.ended_at?;
        Some(validated.max(self.declared_at()?))
    }

    /// Where the objective ends: recovered, or declared where nothing validates. What caches keep counts to neither.
    pub(crate) fn objective_ends_at(&self) -> Option<Timestamp> {
        let validates = self.plan.steps.iter().any(|s| matches!(s.kind, StepKind::Validate { .. }));
        if validates { self.recovered_at() } else { self.declared_at() }
    }

    /// When the traffic had left, and whether that is assumed of any of the services.
    pub(crate) fn drained_at(&self) -> Option<(Timestamp, bool)> {
        let step = self.last_done(|k| matches!(k, StepKind::Drained { .. }))?;
        let all = step.measurements.iter().filter_map(Measurement::as_drained);
        all.reduce(|(at, assumed), (other, of_other)| (at.max(other), assumed || of_other))
    }

    /// Who rejected the run or asked for its end; absent when it ended by itself.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&Actor> {
        self.stopped_by.as_ref()
    }

    /// Was the way back begun?
    #[must_use]
    pub fn is_undoing(&self) -> bool {
        self.cause.is_some()
    }

    /// Step by step, in the plan's order.
    #[must_use]
    pub fn steps(&self) -> &[StepProgress] {
        &self.steps
    }

    /// The state that people see.
    #[must_use]
    pub fn state(&self) -> RunState {
        match &self.phase {
            Phase::Awaiting { .. } | Phase::Asking { .. } => RunState::AwaitingApproval,
            Phase::Held { hold: Hold::Paused, .. } => RunState::Paused,
            Phase::Held { hold: Hold::NeedsOperator, .. } => RunState::NeedsOperator,
            Phase::Over(state) => *state,
            Phase::UndoReady { .. } | Phase::UndoBackoff { .. } | Phase::Undoing { .. } => {
                RunState::RollingBack
            }
            Phase::Settling(Settle::RollBack { .. }) => RunState::RollingBack,
            Phase::Settling(_) if self.cause.is_some() => RunState::RollingBack,
            Phase::Unrecorded if self.approved.is_none() => RunState::AwaitingApproval,
            Phase::Settling(_) if self.approved.is_none() => RunState::AwaitingApproval,
            Phase::Unrecorded
            | Phase::Ready
            | Phase::Backoff { .. }
            | Phase::Stepping { .. }
            | Phase::Settling(_) => self.forward_state(),
        }
    }

    /// Running, until only proof is left to gather.
    fn forward_state(&self) -> RunState {
        let proof = |s: &Step| {
            matches!(
                s.kind,
                StepKind::Validate { .. }
                    | StepKind::Notify { .. }
                    | StepKind::VerifyApp { .. }
                    | StepKind::VerifyDns { .. }
                    | StepKind::Drained { .. }
            )
        };
        let rest = self.plan.steps.iter().skip(self.cursor as usize);
        if rest.into_iter().all(proof) { RunState::Validating } else { RunState::Running }
    }

    /// Where the machine stands, in words for errors.
    pub(crate) fn words(&self) -> String {
        let step = |i: u32| self.plan.steps.get(i as usize).map_or("the end", |s| s.id.as_str());
        let at = |standing: Standing| match standing {
            Standing::Step => step(self.cursor).to_owned(),
            Standing::Undo(i) => format!("the undo of {}", step(i)),
        };
        match &self.phase {
            Phase::Unrecorded => "not recorded".to_owned(),
            Phase::Awaiting { .. } => "awaiting approval".to_owned(),
            Phase::Ready => format!("about to begin {}", step(self.cursor)),
            Phase::Backoff { .. } => format!("about to retry {}", step(self.cursor)),
            Phase::Stepping { attempt } => format!("in attempt {attempt} at {}", step(self.cursor)),
            Phase::Asking { .. } => format!("awaiting approval at {}", step(self.cursor)),
            Phase::Held { hold: Hold::Paused, at: s } => format!("paused at {}", at(*s)),
            Phase::Held { hold: Hold::NeedsOperator, at: s } => {
                format!("in need of an operator at {}", at(*s))
            }
            Phase::UndoReady { step: i } => format!("about to undo {}", step(*i)),
            Phase::UndoBackoff { step: i, .. } => format!("about to retry the undo of {}", step(*i)),
            Phase::Undoing { step: i, attempt } => {
                format!("in attempt {attempt} at the undo of {}", step(*i))
            }
            Phase::Settling(Settle::End { state, .. }) => format!("about to end {state}"),
            Phase::Settling(Settle::Pause { .. }) => "about to pause".to_owned(),
            Phase::Settling(Settle::RollBack { .. }) => "about to roll back".to_owned(),
            Phase::Over(state) => format!("over ({state})"),
        }
    }
}
