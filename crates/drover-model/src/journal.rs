//! The durable record of a run: what was intended before it was done, and what came of it before anything else (I1).

use crate::approvals::{Approvals, Voice};
use crate::decision::FailureClass;
use crate::ids::{EndpointKey, PlanId, RunId};
use crate::plan::Plan;
use crate::time::{Span, Timestamp};
use crate::traffic::Actor;
use crate::units::{Epoch, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the journal record format that this build writes.
pub const JOURNAL_SCHEMA: u16 = 1;

/// Records in one run's journal, at most: 64 steps × 20 attempts × 2, and as much again for people's commands.
pub const JOURNAL_RECORDS_MAX: u64 = 8_192;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Nothing is done until a person says so.
    AwaitingApproval,
    /// Steps are being taken.
    Running,
    /// Held, by a person or by a step that said so.
    Paused,
    /// The steps that changed something are done; proof is being gathered.
    Validating,
    /// What was done is being undone.
    RollingBack,
    /// Done and proven.
    Succeeded,
    /// Done, with steps skipped or failed that the policy let pass. Never plain `succeeded` (I10).
    SucceededWithExceptions,
    /// Undone.
    RolledBack,
    /// Stopped by a person or by policy; what was done stays.
    Aborted,
    /// Only a person can go on.
    NeedsOperator,
    /// A person said no.
    Rejected,
    /// Nobody answered in time, which is not consent.
    ExpiredUnapproved,
}

impl RunState {
    /// Is it over?
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            RunState::Succeeded
                | RunState::SucceededWithExceptions
                | RunState::RolledBack
                | RunState::Aborted
                | RunState::Rejected
                | RunState::ExpiredUnapproved
        )
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RunState::AwaitingApproval => "awaiting approval",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Validating => "validating",
            RunState::RollingBack => "rolling back",
            RunState::Succeeded => "succeeded",
            RunState::SucceededWithExceptions => "succeeded with exceptions",
            RunState::RolledBack => "rolled back",
            RunState::Aborted => "aborted",
            RunState::NeedsOperator => "needs operator",
            RunState::Rejected => "rejected",
            RunState::ExpiredUnapproved => "expired unapproved",
        })
    }
}

/// What made the run begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// A person's command.
    Command,
    /// A decision of drover's own.
    Decision {
        /// Stored under this name.
        decision: crate::ids::DecisionId,
        /// What kind of failure.
        class: FailureClass,
        /// When the first failed probe of the first vantage was seen: the start of the RTO clock.
        first_failure_at: Timestamp,
    },
}

/// One number that validation looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// What, such as `error_rate checkout`.
    pub name: String,
    /// The value, in words with its unit; absent when there was none.
    pub value: Option<String>,
    /// The bound, in words.
    pub bound: String,
    /// Samples behind it.
    pub samples: u64,
    /// Pass, fail, inconclusive or error.
    pub outcome: CheckOutcome,
}

impl Measurement {
    /// What an endpoint was asked to carry of its service, beside what it did carry. It proves nothing by itself: caches
    /// that do not follow make it another number, and broken or not is told by the figures beside it.
    #[must_use]
    pub fn share(endpoint: &EndpointKey, wanted: Percent, carried: u64, of: u64) -> Self {
        Self {
            name: format!("{SHARE} {endpoint}"),
            value: (of > 0).then(|| Percent::of(carried, of).to_string()),
            bound: wanted.to_string(),
            samples: of,
            outcome: CheckOutcome::Noted,
        }
    }

    /// When an endpoint that was left was drained: measured, or assumed of the time that had passed, which proves nothing.
    #[must_use]
    pub fn drained(endpoint: &EndpointKey, at: Timestamp, bound: String, is_assumed: bool) -> Self {
        Self {
            name: format!("{DRAINED}{endpoint}"),
            value: Some(at.to_string()),
            bound,
            samples: u64::from(!is_assumed),
            outcome: if is_assumed { CheckOutcome::Noted } else { CheckOutcome::Pass },
        }
    }

    /// When an endpoint was drained, when this says so, and whether that was assumed.
    #[must_use]
    pub fn as_drained(&self) -> Option<(Timestamp, bool)> {
        self.name.strip_prefix(DRAINED)?;
        Some((self.value.as_ref()?.parse().ok()?, self.outcome == CheckOutcome::Noted))
    }

    /// The share that was measured for `endpoint`, when this is it.
    #[must_use]
    pub fn as_share_of(&self, endpoint: &EndpointKey) -> Option<(Percent, u64)> {
        let about = self.name.strip_prefix(SHARE)?.trim_start();
        if about != endpoint.to_string() {
            return None;
        }
        Some((self.value.as_ref()?.parse().ok()?, self.samples))
    }
}

/// What names of [`Measurement::share`] begin with.
const SHARE: &str = "share";

/// What names of [`Measurement::drained`] begin with.
const DRAINED: &str = "drained ";

/// Four different things (I10), and a figure that is none of them: no data is never a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// Told beside the others; proves nothing.
    Noted,
    /// Measured and good.
    Pass,
    /// Too little to say.
    Inconclusive,
    /// Could not be measured.
    Error,
    /// Measured and bad.
    Fail,
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckOutcome::Noted => "noted",
            CheckOutcome::Pass => "pass",
            CheckOutcome::Inconclusive => "inconclusive",
            CheckOutcome::Error => "error",
            CheckOutcome::Fail => "fail",
        })
    }
}

/// How a step's attempt ended well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepOutcome {
    /// Whether anything was changed, or all was there already.
    pub changed: bool,
    /// One line for people.
    pub summary: String,
    /// Numbers that were looked at.
    pub measurements: Vec<Measurement>,
    /// The DNS servers that could not be told or asked: what was published may not be answered there yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published_partial: Vec<String>,
    /// What was not as it should be and stopped nothing: the run can then end only `succeeded_with_exceptions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
}

impl StepOutcome {
    /// All went well, and nothing more is to be told of it.
    pub fn done(changed: bool, summary: impl Into<String>) -> Self {
        Self {
            changed,
            summary: summary.into(),
            measurements: vec![],
            published_partial: vec![],
            exception: None,
        }
    }
}

/// How a step's attempt ended badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailure {
    /// What kind: only `Retryable` is tried again.
    pub kind: FailureNature,
    /// What was attempted and why it failed.
    pub message: String,
    /// Numbers that were looked at.
    pub measurements: Vec<Measurement>,
}

/// What a failed attempt allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureNature {
    /// Trying again may help.
    Retryable,
    /// It will not.
    Permanent,
    /// Too little data to say: holds.
    Inconclusive,
    /// It may have been done or not, and can be neither observed nor done again (I1): only a person goes on.
    Uncertain,
    /// A newer leader commands: this process must stop.
    Fenced,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "entry", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)]
pub enum Entry {
    /// The run exists.
    Created {
        /// What it will do.
        plan: Plan,
        /// Who began it.
        by: Actor,
        /// What made it begin.
        trigger: Trigger,
        /// A person must agree first; the question expires after this.
        ask: Option<Span>,
        /// Objective.
        rto: Span,
        /// How many must agree, and who did by asking.
        #[serde(default, skip_serializing_if = "Approvals::is_default")]
        approvals: Approvals,
    },
    /// A person agreed to exactly this plan.
    Approved {
        /// Who.
        by: Actor,
        /// To what.
        plan: PlanId,
        /// Why.
        reason: String,
        /// As whom, where more than one must.
        #[serde(default, skip_serializing_if = "Voice::is_claimed")]
        voice: Voice,
    },
    /// A person said no.
    Rejected {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Nobody answered.
    Expired,
    /// An attempt is about to begin: durable before it does.
    StepStarted {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
    },
    /// It ended well.
    StepDone {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        outcome: StepOutcome,
    },
    /// It ended badly.
    StepFailed {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        failure: StepFailure,
    },
    /// A person let a step pass.
    StepSkipped {
        /// Index in the plan.
        step: u32,
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Held.
    Paused {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Going on; the step that stood is tried afresh.
    Resumed {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Stopped for good by a person; `roll_back` says what to do with what was done.
    AbortRequested {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
        /// Undo, or leave as it is.
        roll_back: bool,
    },
    /// Undoing begins because of a failed step.
    RollbackBegun {
        /// Why.
        reason: String,
    },
    /// An undo is about to begin.
    UndoStarted {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
    },
    /// It ended well.
    UndoDone {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        outcome: StepOutcome,
    },
    /// It ended badly.
    UndoFailed {
        /// Index in the plan.
        step: u32,
        /// From 1.
        attempt: u32,
        /// How.
        failure: StepFailure,
    },
    /// A new leader goes on with the run.
    TakenOver,
    /// The run needs a person, or is over.
    Ended {
        /// How.
        state: RunState,
        /// One line for people.
        summary: String,
    },
}

/// One record of a run's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Format version, [`JOURNAL_SCHEMA`].
    pub schema: u16,
    /// The run.
    pub run: RunId,
    /// From 0, without gaps.
    pub sequence: u64,
    /// For people; never used for correctness.
    pub at: Timestamp,
    /// Who commanded.
    pub epoch: Epoch,
    /// What happened.
    pub entry: Entry,
}
