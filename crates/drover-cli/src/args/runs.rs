//! Arguments of the verbs about runs.

use super::ReasonArgs;
use clap::Subcommand;
use drover_model::PlanId;

/// Verbs of `run`.
#[derive(Debug, Subcommand)]
pub enum RunVerb {
    /// Runs, newest first
    #[command(after_help = "Examples:\n  drover run list\n  drover run list --limit 200 -o json")]
    List {
        /// Runs, at most
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// One run: steps, numbers, timeline
    #[command(
        after_help = "Examples:\n  drover run show run-7\n  drover run show run-7 -o markdown   for the incident's page"
    )]
    Show {
        /// The run
        run: String,
    },
    /// Watch a run until it comes to rest; the exit code says how
    #[command(after_help = "Example:\n  drover run follow run-7")]
    Follow {
        /// The run
        run: String,
    },
    /// Hold a run at the next step
    #[command(after_help = "Example:\n  drover run pause run-7 --reason 'looking at us-east first'")]
    Pause(RunReasonArgs),
    /// Go on with a run; the step that stood is tried afresh
    #[command(after_help = "Example:\n  drover run resume run-7 --reason 'us-east is fine'")]
    Resume(RunReasonArgs),
    /// Let the current step pass; the run can then end only with exceptions
    #[command(
        after_help = "Example:\n  drover run skip run-7 --reason 'metrics source is down, checked by hand'"
    )]
    Skip(SureArgs),
    /// Stop a run for good
    #[command(after_help = "Examples:\n  drover run abort run-7 --reason 'false alarm'\n  \
                            drover run abort run-7 --roll-back --reason 'false alarm'")]
    Abort {
        #[command(flatten)]
        run: SureArgs,
        /// Undo what was done
        #[arg(long)]
        roll_back: bool,
    },
}

/// A run and why.
#[derive(Debug, clap::Args)]
pub struct RunReasonArgs {
    /// The run
    pub run: String,
    #[command(flatten)]
    pub reason: ReasonArgs,
}

/// A run, why, and that it is meant: what can't be taken back is asked about.
#[derive(Debug, clap::Args)]
pub struct SureArgs {
    #[command(flatten)]
    pub run: RunReasonArgs,
    /// The run's plan; refused when the run has another one
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Don't ask; needed without a terminal, with `--plan ID`
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover approve run-7 --reason 'capacity was added'\n  \
    drover approve run-7 --reason ok --yes --plan plan-0a1b2c3d4e5f\n  \
    drover approve run-7 --alone --reason 'nobody answers the pager'")]
pub struct ApproveArgs {
    #[command(flatten)]
    pub answer: AnswerArgs,
    /// Answer for everybody, where more than one must agree and nobody else is there; an admin's, and everybody is paged
    #[arg(long)]
    pub alone: bool,
}

/// Arguments of `approve` and `reject`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  drover reject run-7 --reason 'false alarm'")]
pub struct AnswerArgs {
    /// The run that asks
    pub run: String,
    /// Why; goes into the audit and the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The plan that was shown; refused when the run asks for another one
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Don't ask; without a terminal an approval needs `--plan ID` as well
    #[arg(long)]
    pub yes: bool,
}

impl AnswerArgs {
    /// The plan that was named.
    pub fn plan_id(&self) -> Option<PlanId> {
        self.plan.as_deref().map(PlanId::from_text)
    }
}
