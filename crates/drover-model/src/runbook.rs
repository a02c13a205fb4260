//! Runbooks: YAML files of typed steps. A runbook says what kind of step comes when; the planner fills in the exact
//! effects, so that nothing is left to decide when the plan runs.

use crate::plan::Repeatability;
use crate::time::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What a runbook is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Take traffic off a region that failed.
    Failover,
    /// Bring it back, by a ramp.
    Failback,
    /// Take traffic off a healthy region, reversibly.
    Drain,
    /// End a drain.
    Undrain,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Purpose::Failover => "failover",
            Purpose::Failback => "failback",
            Purpose::Drain => "drain",
            Purpose::Undrain => "undrain",
        })
    }
}

/// What follows when a step has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Stop; what was done stays, and a person is called.
    Abort,
    /// Undo what was done, in reverse order. Never back to a region that is down: then it pauses.
    RollBack,
    /// Hold and call a person.
    Pause,
    /// Note the exception and go on; the run can then end only `succeeded_with_exceptions`.
    Continue,
}

/// How long a wait step waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// Until answers with the old weights have left the caches: the longest TTL moved, plus a margin of half of it.
    Drain,
    /// The service's `soak`.
    Soak,
    /// A fixed time.
    Fixed(Span),
}

/// What undoing a program means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunUndo {
    /// Its effect may stay.
    Nothing,
    /// Only a person can say: a rollback stops there.
    Ask,
}

/// A program that a runbook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunStep {
    /// The program with its whole path, and its arguments. No shell.
    pub command: Vec<String>,
    /// May it be run again after a crash (I1)?
    pub repeatability: Repeatability,
    /// For what is `observable`: a program that ends with 0 when it is done, and with 1 when it is not.
    pub observe: Option<Vec<String>>,
    /// What undoing it means.
    pub undo: RunUndo,
}

/// A typed step, before planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunbookStepKind {
    /// Evaluate every guard again on live facts.
    Preflight,
    /// Run the service's scripted requests against every target endpoint.
    VerifyApp,
    /// Publish the new weights.
    ShiftTraffic,
    /// Ask every DNS instance and compare.
    VerifyDns,
    /// Let time pass.
    Wait(WaitFor),
    /// Measure what still reaches the region that was left.
    Drained,
    /// Judge error rate, latency and availability over the validation window.
    Validate,
    /// Ask a person; the text is shown.
    Approve(String),
    /// Page people; the text is sent.
    Notify(String),
    /// Run a program.
    Run(RunStep),
    /// The inner steps once for each share of the service's ramp.
    Ramp(Vec<RunbookStep>),
}

impl RunbookStepKind {
    /// The word used in files and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            RunbookStepKind::Preflight => "preflight",
            RunbookStepKind::VerifyApp => "verify_app",
            RunbookStepKind::ShiftTraffic => "shift_traffic",
            RunbookStepKind::VerifyDns => "verify_dns",
            RunbookStepKind::Wait(_) => "wait",
            RunbookStepKind::Validate => "validate",
            RunbookStepKind::Drained => "drained",
            RunbookStepKind::Approve(_) => "approve",
            RunbookStepKind::Notify(_) => "notify",
            RunbookStepKind::Run(_) => "run",
            RunbookStepKind::Ramp(_) => "ramp",
        }
    }
}

/// One step of a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunbookStep {
    /// What it does.
    pub kind: RunbookStepKind,
    /// Time for one attempt; for `wait` and `validate` it is added to the time that they take by design.
    pub timeout: Span,
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Pause before the second attempt, doubled for each further one.
    pub backoff: Span,
    /// What follows when the last attempt failed.
    pub on_failure: OnFailure,
}

/// A runbook file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runbook {
    /// Its name, as the file says.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// One sentence for people.
    pub description: String,
    /// The steps in order.
    pub steps: Vec<RunbookStep>,
}

impl Runbook {
    /// The file of every program that it runs or observes by, each once, in order.
    #[must_use]
    pub fn programs(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        programs_of(&self.steps, &mut found);
        found
    }
}

fn programs_of<'r>(steps: &'r [RunbookStep], into: &mut BTreeSet<&'r str>) {
    for step in steps {
        match &step.kind {
            RunbookStepKind::Run(run) => {
                let lines = [Some(&run.command), run.observe.as_ref()];
                into.extend(lines.into_iter().flatten().filter_map(|l| l.first()).map(String::as_str));
            }
            RunbookStepKind::Ramp(inner) => programs_of(inner, into),
            _ => {}
        }
    }
}
