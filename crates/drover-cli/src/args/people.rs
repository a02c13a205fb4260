//! Arguments of the verbs about people: who may do what, and who did.

use clap::Subcommand;
use drover_model::access::Role;
use drover_model::audit::AuditHead;
use drover_model::{Span, TokenName};
use std::path::PathBuf;

/// Verbs of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Check that no record was changed, dropped, put in or moved; exit 10 when one was
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

/// Verbs of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token for somebody; it is printed once, and nowhere kept
    Create(TokenCreateArgs),
    /// All tokens, without what opens anything
    #[command(after_help = "Examples:\n  drover token list\n  drover token list -o json")]
    List,
    /// End a token at once
    #[command(after_help = "Example:\n  drover token revoke ann --reason 'laptop stolen'")]
    Revoke {
        /// Whose
        name: TokenName,
        /// Why; goes into the audit
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  (umask 077; drover token create ann --role operator --valid-for 90d > ann.token)\n  \
    DROVER_TOKEN_FILE=ann.token drover status"
)]
pub struct TokenCreateArgs {
    /// Whose: the name that the audit will show. It is given once
    pub name: TokenName,
    /// What it allows: viewer reads, operator commands, admin makes tokens and adopts, too
    #[arg(long, value_name = "viewer|operator|admin")]
    pub role: Role,
    /// How long, such as 90d; until it is revoked when absent
    #[arg(long, value_name = "TIME")]
    pub valid_for: Option<Span>,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}
