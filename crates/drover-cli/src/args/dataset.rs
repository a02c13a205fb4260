//! Arguments of `dataset`.

use clap::Subcommand;
use drover_model::DatasetId;

/// Verbs of `dataset`.
#[derive(Debug, Subcommand)]
pub enum DatasetVerb {
    /// Who may write each dataset, since when, and who could take over; exit 8 where nobody may
    #[command(after_help = "Examples:\n  drover dataset status\n  drover dataset status orders -o json")]
    Status {
        /// Only this one
        #[arg(value_name = "DATASET")]
        dataset: Option<DatasetId>,
    },
    /// Move the right to write to another member: the holder stops first, then the other one writes
    Move(DatasetMoveArgs),
    /// Give the right back to its holder, where a move has not granted it yet
    #[command(after_help = "Example:\n  drover dataset abort orders --reason 'the target is behind'")]
    Abort {
        /// Which dataset
        #[arg(value_name = "DATASET")]
        dataset: DatasetId,
        /// Why; goes into the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Arguments of `dataset move`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover dataset move orders --to us-east --reason 'planned switchover'\n  \
    drover dataset move orders --to us-east --reason 'eu-west burns' --yes\n\n\
    A holder that answers is stopped at once. One that does not is waited for until its last right is over by every clock, and \
    nothing shortens that."
)]
pub struct DatasetMoveArgs {
    /// Which dataset
    #[arg(value_name = "DATASET")]
    pub dataset: DatasetId,
    /// The region, or the agent, to move to
    #[arg(long, value_name = "REGION")]
    pub to: String,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}
