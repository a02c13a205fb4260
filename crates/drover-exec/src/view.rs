//! A run as people see it: state, steps, timing, and what will be decided next.

use crate::progress::{Hold, Phase, Settle, StepStatus};
use crate::state::{Execution, InFlight, Work};
use drover_model::Timestamp;
use drover_model::api::{API_SCHEMA, RunSummary, RunView, StepView, TimelineEntry};
use drover_model::approvals::Voice;
use drover_model::journal::{Entry, Record, RunState, StepOutcome, Trigger};
use drover_model::plan::{Plan, StepKind};
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;

impl Execution {
    /// The start of the RTO clock: the first failure seen, or the command.
    #[must_use]
    pub fn clock_began(&self) -> Timestamp {
        match &self.origin.trigger {
            Trigger::Command => self.progress.created_at,
            Trigger::Decision { first_failure_at, .. } => *first_failure_at,
        }
    }

    /// When the run was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.progress.created_at
    }

    /// When it ended.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.progress.ended_at
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> RunSummary {
        let plan = self.plan();
        RunSummary {
            id: self.origin.run.clone(),
            purpose: plan.intent.purpose,
            region: plan.intent.region.clone(),
            services: plan.services.clone(),
            state: self.state(),
            plan: plan.id.clone(),
            by: self.origin.by.clone(),
            started_at: self.progress.created_at,
            ended_at: self.progress.ended_at,
            summary: if self.is_over() { self.progress.note.clone() } else { self.next_decision() },
        }
    }

    /// Step by step. `usual` is left for the caller, who knows earlier runs.
    #[must_use]
    pub fn step_views(&self) -> Vec<StepView> {
        let steps = self.plan().steps.iter().zip(&self.progress.steps).enumerate();
        steps
            .map(|(index, (step, progress))| {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                let stands = progress.status == StepStatus::Running || self.current_step() == Some(index);
                let summary = if stands && !self.is_over() && progress.summary.is_empty() {
                    self.next_decision()
                } else {
                    progress.summary.clone()
                };
                StepView {
                    id: step.id.clone(),
                    state: progress.status.word().to_owned(),
                    attempts: progress.attempts,
                    attempts_max: step.attempts,
                    started_at: progress.started_at,
                    ended_at: progress.ended_at,
                    usual: None,
                    summary,
                    on_failure: step.on_failure,
                    measurements: progress.measurements.clone(),
                    published_partial: progress.published_partial.clone(),
                    shares: crate::shares::of(self.plan(), index, &self.progress.steps),
                }
            })
            .collect()
    }

    /// What will be decided next, and when.
    #[must_use]
    pub fn next_decision(&self) -> String {
        if let Some(pending) = self.live.pending.as_ref().filter(|p| p.tries > 0) {
            return format!("the journal takes no records ({} attempts); trying again", pending.tries);
        }
        let id = |step: u32| self.plan().steps.get(step as usize).map_or("the end", |s| s.id.as_str());
        let cursor = self.progress.cursor;
        let note = &self.progress.note;
        match &self.progress.phase {
            Phase::Unrecorded => "begins once its first record is durable".to_owned(),
            Phase::Awaiting { expires_at } => {
                format!("{}, or it expires at {expires_at}", self.progress.approvals)
            }
            Phase::Asking { expires_at } => {
                format!("{}: {}, or it expires at {expires_at}", id(cursor), self.progress.approvals)
            }
            Phase::Ready => format!("begins {}", id(cursor)),
            Phase::Backoff { retry_at } => format!("retries {} at {retry_at}", id(cursor)),
            Phase::Stepping { attempt } => self.while_stepping(id(cursor), *attempt),
            Phase::Held { hold: Hold::Paused, .. } => format!("a person resumes, skips or aborts: {note}"),
            Phase::Held { hold: Hold::NeedsOperator, .. } => {
                format!("an operator resumes, skips or aborts: {note}")
            }
            Phase::UndoReady { step } => format!("undoes {}", id(*step)),
            Phase::UndoBackoff { step, retry_at } => {
                format!("retries the undo of {} at {retry_at}", id(*step))
            }
            Phase::Undoing { step, attempt } => format!("undoing {}, attempt {attempt}", id(*step)),
            Phase::Settling(Settle::End { state, .. }) => format!("ends {state}"),
            Phase::Settling(Settle::Pause { reason, .. }) => format!("pauses: {reason}"),
            Phase::Settling(Settle::RollBack { reason }) => format!("rolls back: {reason}"),
            Phase::Over(_) => "nothing: it is over".to_owned(),
        }
    }

    fn while_stepping(&self, id: &str, attempt: u32) -> String {
        let kind = &self.progress.step(self.progress.cursor).kind;
        match (self.live.in_flight, kind) {
            (Some(InFlight { work: Work::Wait, until, .. }), StepKind::Wait { why, .. }) => {
                format!("{id} waits until {until}: {why}")
            }
            (Some(InFlight { until, .. }), StepKind::Validate { .. }) => {
                format!("{id} validates, attempt {attempt}, until {until} at the latest")
            }
            (Some(InFlight { until, .. }), _) => format!("{id}, attempt {attempt}, is given up at {until}"),
            (None, _) => format!("{id}, attempt {attempt}, has an outcome that is not known yet"),
        }
    }

    /// The run in full, with the records that tell it. `remaining` is left for the caller, as `usual` is.
    #[must_use]
    pub fn view(&self, records: &[Record], now: Timestamp) -> RunView {
        let began = self.clock_began();
        // What was taken back is nowhere any more.
        let stands = !matches!(self.state(), RunState::RollingBack | RunState::RolledBack);
        let recovered_at = self.progress.recovered_at().filter(|_| stands);
        let drained = self.progress.drained_at().filter(|_| stands);
        let is_failover = self.plan().intent.purpose == Purpose::Failover;
        let until = self.progress.objective_ends_at().filter(|_| stands && is_failover);
        RunView {
            schema: API_SCHEMA,
            summary: self.summary(),
            trigger: self.origin.trigger.clone(),
            plan: self.plan().clone(),
            steps: self.step_views(),
            timeline: records
                .iter()
                .map(|record| TimelineEntry {
                    at: record.at,
                    after: record.at.since(began),
                    sentence: sentence(self.plan(), &record.entry),
                    entry: record.entry.clone(),
                })
                .collect(),
            rto: self.origin.rto,
            elapsed: until.or(self.progress.ended_at).unwrap_or(now).since(began),
            declared_at: self.progress.declared_at().filter(|_| stands),
            recovered_at,
            drained_at: drained.map(|(at, _)| at),
            drained_is_assumed: drained.is_some_and(|(_, assumed)| assumed),
            remaining: None,
            next_decision: self.next_decision(),
            exceptions: self.progress.exceptions.clone(),
            expires_at: self.expires_at(),
            approvals: self.progress.approvals.clone(),
        }
    }
}

fn with_reason(mut text: String, reason: &str) -> String {
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

/// What came of a step, and whom it did not reach.
fn told(outcome: &StepOutcome) -> String {
    let StepOutcome { summary, published_partial, .. } = outcome;
    if published_partial.is_empty() {
        return summary.clone();
    }
    format!("{summary}; published_partial: {} not reached", published_partial.join(", "))
}

/// One record in words.
#[must_use]
pub fn sentence(plan: &Plan, entry: &Entry) -> String {
    let id = |step: &u32| plan.steps.get(*step as usize).map_or("an unknown step", |s| s.id.as_str());
    match entry {
        Entry::Created { plan, by, ask: None, .. } => format!("{by} began {}", plan.id),
        Entry::Created { plan, by, ask: Some(span), approvals, .. } if approvals.asks_several() => {
            format!("{by} asks for approval of {} by {} people within {span}", plan.id, approvals.needed)
        }
        Entry::Created { plan, by, ask: Some(span), .. } => {
            format!("{by} asks for approval of {} within {span}", plan.id)
        }
        Entry::Approved { by, plan, reason, voice: Voice::Alone } => {
            with_reason(format!("{by} approved {plan} alone, for all who were asked"), reason)
        }
        Entry::Approved { by, plan, reason, .. } => with_reason(format!("{by} approved {plan}"), reason),
        Entry::Rejected { by, reason } => with_reason(format!("{by} rejected it"), reason),
        Entry::Expired => "nobody answered in time, which is not consent".to_owned(),
        Entry::StepStarted { step, attempt: 1 } => format!("{} began", id(step)),
        Entry::StepStarted { step, attempt } => format!("{} began, attempt {attempt}", id(step)),
        Entry::StepDone { step, outcome, .. } => with_reason(format!("{} done", id(step)), &told(outcome)),
        Entry::StepFailed { step, attempt, failure } => {
            with_reason(format!("{} failed, attempt {attempt}", id(step)), &failure.message)
        }
        Entry::StepSkipped { step, by, reason } => with_reason(format!("{by} skipped {}", id(step)), reason),
        Entry::Paused { by, reason } => with_reason(format!("paused by {by}"), reason),
        Entry::Resumed { by, reason } => with_reason(format!("resumed by {by}"), reason),
        Entry::AbortRequested { by, reason, roll_back: false } => {
            with_reason(format!("{by} aborted it"), reason)
        }
        Entry::AbortRequested { by: Actor::Automatic, reason, roll_back: true } => {
            with_reason("stopped, to be rolled back".to_owned(), reason)
        }
        Entry::AbortRequested { by, reason, roll_back: true } => {
            with_reason(format!("{by} aborted it, to be rolled back"), reason)
        }
        Entry::RollbackBegun { reason } => with_reason("rolling back".to_owned(), reason),
        Entry::UndoStarted { step, attempt: 1 } => format!("undoing {}", id(step)),
        Entry::UndoStarted { step, attempt } => format!("undoing {}, attempt {attempt}", id(step)),
        Entry::UndoDone { step, outcome, .. } => {
            with_reason(format!("{} undone", id(step)), &outcome.summary)
        }
        Entry::UndoFailed { step, attempt, failure } => {
            with_reason(format!("undo of {} failed, attempt {attempt}", id(step)), &failure.message)
        }
        Entry::TakenOver => "a new leader goes on with the run".to_owned(),
        Entry::Ended { state: RunState::NeedsOperator, summary } => {
            with_reason("needs an operator".to_owned(), summary)
        }
        Entry::Ended { state, summary } => with_reason(format!("ended {state}"), summary),
    }
}
