//! Arguments of `pki`, and the files by which a machine proves who it is.

use clap::Subcommand;
use drover_model::machine::MachineIdentity;
use drover_model::{AgentId, MachineName, RegionId, Span};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Verbs of `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiVerb {
    /// Make the authority that every machine of this installation trusts
    #[command(after_help = "Example:\n  drover pki init --pki /root/drover-pki\n\n\
                            Whoever has ca.key is any machine: keep the directory where secrets are kept, off the machines that drover runs on.")]
    Init(InitArgs),
    /// Issue a certificate with a new key
    #[command(subcommand)]
    Issue(IssueVerb),
    /// Let a new machine in, which makes its key itself: prints a token, and waits for the machine
    #[command(subcommand)]
    Invite(InviteVerb),
    /// Join with the token of an invitation, on the new machine
    #[command(after_help = "Examples:\n  drover pki join 10.0.0.5:7443 --out /etc/drover/tls\n  \
                            drover pki join 10.0.0.5:7443 --out /etc/drover/tls < token\n\n\
                            The key is made here and goes nowhere. After an interruption the same command goes on.")]
    Join(JoinArgs),
    /// Issue another certificate, with another key, in the place of each of these
    #[command(
        after_help = "Examples:\n  drover pki rotate eu-west-1/\n  drover pki rotate --if-ends-soon machines/*/\n\n\
                            Nothing is restarted: coordinators, agents and commands read their files again when they change."
    )]
    Rotate(RotateArgs),
    /// Let a machine's certificates not count any more
    #[command(after_help = "Examples:\n  \
                            drover pki revoke drover://agent/eu-west/eu-west-1 --reason 'the machine was stolen'\n  \
                            drover pki revoke drover://client/ann --serial 4f… --reason 'key in a ticket'\n\n\
                            Then bring crl.pem to every coordinator, which reads it again when it changes.")]
    Revoke(RevokeArgs),
    /// What was issued, when it ends, what was revoked; exit 8 when something ends soon
    #[command(after_help = "Examples:\n  drover pki show\n  drover pki show -o json")]
    Show(PkiPlace),
}

/// Where the authority is.
#[derive(Debug, Clone, clap::Args)]
pub struct PkiPlace {
    /// Directory of the authority
    #[arg(long, env = "DROVER_PKI", value_name = "DIR", default_value = "pki")]
    pub pki: PathBuf,
}

/// Arguments of `pki init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub place: PkiPlace,
    /// What the authority is called in certificates
    #[arg(long, value_name = "TEXT", default_value = "drover")]
    pub name: String,
    /// How long it counts; its end ends everything that it issued
    #[arg(long, value_name = "TIME", default_value_t = drover_pki::authority::AUTHORITY_LIFETIME)]
    pub valid_for: Span,
}

/// To whom a certificate is issued.
#[derive(Debug, Subcommand)]
pub enum IssueVerb {
    /// To an agent: may report as this one, from this region, and nothing else
    #[command(
        after_help = "Example:\n  drover pki issue agent eu-west-1 --region eu-west --out machines/eu-west-1"
    )]
    Agent {
        /// Its name, as the configuration has it
        #[arg(value_name = "AGENT")]
        agent: AgentId,
        /// Its region
        #[arg(long, value_name = "REGION")]
        region: RegionId,
        #[command(flatten)]
        how: IssueArgs,
    },
    /// To a coordinator: may serve the API under these names
    #[command(
        after_help = "Example:\n  drover pki issue coordinator c-1 --host c-1.example.net --host 10.0.0.1 --out machines/c-1"
    )]
    Coordinator {
        /// Its name
        #[arg(value_name = "NAME")]
        name: MachineName,
        /// DNS name or address that agents and people call it by; may be given several times
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
        #[command(flatten)]
        how: IssueArgs,
    },
    /// To a machine where a person or a script works: may do what a person may
    #[command(after_help = "Example:\n  drover pki issue client ann --out ~/.config/drover/tls")]
    Client {
        /// Its name
        #[arg(value_name = "NAME")]
        name: MachineName,
        #[command(flatten)]
        how: IssueArgs,
    },
}

/// Who is invited.
#[derive(Debug, Subcommand)]
pub enum InviteVerb {
    /// An agent: may report as this one, from this region, and nothing else
    #[command(
        after_help = "Example:\n  drover pki invite agent eu-west-1 --region eu-west --listen 10.0.0.5:7443 --for 15m"
    )]
    Agent {
        /// Its name, as the configuration has it
        #[arg(value_name = "AGENT")]
        agent: AgentId,
        /// Its region
        #[arg(long, value_name = "REGION")]
        region: RegionId,
        #[command(flatten)]
        how: InviteArgs,
    },
    /// A coordinator: may serve the API under these names
    #[command(
        after_help = "Example:\n  drover pki invite coordinator c-2 --host c-2.example.net --listen 10.0.0.5:7443"
    )]
    Coordinator {
        /// Its name
        #[arg(value_name = "NAME")]
        name: MachineName,
        /// DNS name or address that agents and people call it by; may be given several times
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
        #[command(flatten)]
        how: InviteArgs,
    },
    /// A machine where a person or a script works
    #[command(after_help = "Example:\n  drover pki invite client ann --listen 10.0.0.5:7443")]
    Client {
        /// Its name
        #[arg(value_name = "NAME")]
        name: MachineName,
        #[command(flatten)]
        how: InviteArgs,
    },
}

/// How a machine is invited.
#[derive(Debug, clap::Args)]
pub struct InviteArgs {
    #[command(flatten)]
    pub place: PkiPlace,
    /// Where the machine reaches this one, for as long as the invitation stands
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// How long the invitation stands
    #[arg(long = "for", value_name = "TIME", default_value_t = Span::from_mins(15))]
    pub lasts: Span,
    /// How long the certificate counts
    #[arg(long, value_name = "TIME", default_value_t = drover_pki::authority::CERTIFICATE_LIFETIME)]
    pub valid_for: Span,
}

/// Arguments of `pki join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// Where the invitation is served
    #[arg(value_name = "ADDR:PORT")]
    pub address: String,
    /// Directory for certificate.pem, key.pem, ca.pem and crl.pem
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// File with the token; left out, it is asked for, or read from standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// How a certificate is issued.
#[derive(Debug, clap::Args)]
pub struct IssueArgs {
    #[command(flatten)]
    pub place: PkiPlace,
    /// Directory for certificate.pem, key.pem, ca.pem and crl.pem
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How long it counts
    #[arg(long, value_name = "TIME", default_value_t = drover_pki::authority::CERTIFICATE_LIFETIME)]
    pub valid_for: Span,
}

/// Arguments of `pki rotate`.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    #[command(flatten)]
    pub place: PkiPlace,
    /// Directories that `drover pki issue` wrote
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
    /// Only those that have less than a third of their life left: for a timer
    #[arg(long)]
    pub if_ends_soon: bool,
    /// How long the new ones count
    #[arg(long, value_name = "TIME", default_value_t = drover_pki::authority::CERTIFICATE_LIFETIME)]
    pub valid_for: Span,
}

/// Arguments of `pki revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    pub place: PkiPlace,
    /// Whose: drover://agent/REGION/AGENT, drover://coordinator/NAME or drover://client/NAME
    #[arg(value_name = "MACHINE")]
    pub machine: MachineIdentity,
    /// Only the certificate with this serial number, as `drover pki show` has it
    #[arg(long, value_name = "HEX")]
    pub serial: Option<String>,
    /// Why; kept in the ledger
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// By which files this machine proves who it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// Certificates of the authorities to trust (also: DROVER_CA)
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", help_heading = "Everywhere")]
    pub ca: Option<PathBuf>,
    /// This machine's certificate (also: DROVER_CERTIFICATE)
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", help_heading = "Everywhere")]
    pub certificate: Option<PathBuf>,
    /// Its private key (also: DROVER_KEY)
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", help_heading = "Everywhere")]
    pub key: Option<PathBuf>,
    /// What was revoked (also: DROVER_CRL)
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", help_heading = "Everywhere")]
    pub crl: Option<PathBuf>,
}
