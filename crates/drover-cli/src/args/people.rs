//! Arguments of the verbs about the audit.

use clap::Subcommand;
use drover_model::audit::AuditHead;
use std::path::PathBuf;

/// Verbs of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Check that no record was changed, dropped, put in or moved; exit 9 when one was
    Verify(AuditVerifyArgs),
    /// The last record as HASH@NUMBER, to keep where this installation can't change it
    #[command(after_help = "Example:\n  drover audit head >> /mnt/elsewhere/drover-heads")]
    Head,
}

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover audit verify\n  \
    drover audit verify --head \"$(tail -n1 /mnt/elsewhere/drover-heads)\"\n  \
    drover audit verify --export drover.jsonl\n  zcat drover.jsonl.gz | drover audit verify --export -")]
pub struct AuditVerifyArgs {
    /// A head that was kept: also find records cut off since, or all written anew; may be given several times
    #[arg(long = "head", value_name = "HASH@NUMBER")]
    pub heads: Vec<AuditHead>,
    /// Of a file of `drover store export` instead, without a coordinator; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}
