//! Arguments of the service roles.

use clap::Subcommand;
use drover_model::ServiceId;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// For every role.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessArgs {
    /// How to write logs to standard error
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Level, or levels by target such as info,drover_dns=debug
    #[arg(long, env = "DROVER_LOG", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Be killed when the process that started this one dies; its id may be given to close the race at the start
    #[arg(long, hide = true, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub die_with_parent: Option<i32>,
    /// Write the bound addresses there as JSON once ready
    #[arg(long, hide = true, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// Arguments of `agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  drover agent --identity /etc/drover/agent.yaml")]
pub struct AgentArgs {
    /// File that says who this agent is and whom it reports to
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Arguments of `gate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  drover gate --config /etc/drover/gate-orders.yaml\n\n\
    The file:\n  dataset: orders\n  socket: /run/drover-gate/orders.sock\n  command: [/usr/local/bin/orders, --foreground]\n\n\
    The agent's identity file names the socket (docs/write-rights.md).")]
pub struct GateArgs {
    /// File that says which dataset it guards, where its agent talks to it, and how the database is started
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Arguments of `coordinator`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover coordinator --config /etc/drover/regions --state /var/lib/drover\n  \
    drover coordinator --config /etc/drover/regions --state /var/lib/drover --listen 10.0.0.1:7400 --ca /etc/drover/tls/ca.pem \\\n    \
    --certificate /etc/drover/tls/certificate.pem --key /etc/drover/tls/key.pem --crl /etc/drover/tls/crl.pem"
)]
pub struct CoordinatorArgs {
    /// Directory of regions, services and settings
    #[arg(long, value_name = "DIR")]
    pub config: PathBuf,
    /// Directory of runbooks; the shipped ones when absent
    #[arg(long, value_name = "DIR")]
    pub runbooks: Option<PathBuf>,
    /// Directory for the store and the history
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Address of the API, instead of the one in the settings; port 0 takes a free one. Beyond loopback it needs --certificate, --key and --ca
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where other coordinators reach this one's API, to hand on what it must do when it leads; the address that it listens
    /// at when absent
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,
    /// Socket of the API; drover.sock in $RUNTIME_DIRECTORY, else in the state directory
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl CoordinatorArgs {
    /// What is read as configuration.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.config).chain(&self.runbooks)
    }
}

/// Arguments of `dns`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DnsArgs {
    /// What to do about the zone
    #[command(subcommand)]
    pub verb: Option<DnsVerb>,
    /// Answer for it
    #[command(flatten)]
    pub server: DnsServerArgs,
}

/// Verbs of `dns`.
#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// What DNS shows of the services beside what it should
    #[command(after_help = "Examples:\n  drover dns show\n  drover dns show checkout -o json")]
    Show {
        /// Only these services
        #[arg(value_name = "SERVICE")]
        services: Vec<ServiceId>,
    },
    /// Only what differs; exit 8 when anything does
    #[command(after_help = "Example:\n  drover dns drift || page-me")]
    Drift,
    /// What was published, when, and which run or configuration decided it
    #[command(
        after_help = "Examples:\n  drover dns history\n  drover dns history checkout --limit 500 -o json"
    )]
    History {
        /// Only this service
        #[arg(value_name = "SERVICE")]
        service: Option<ServiceId>,
        /// Lines, at most
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Ask every server of the zone, from here, whether it answers what should be; exit 8 when one does not
    #[command(after_help = "Examples:\n  drover dns verify\n  drover dns verify checkout --draws 2000\n\n\
                      Over UDP and TCP; and many answers are compared with the weights (chi-square).")]
    Verify(VerifyArgs),
    /// Write the records as a zone file, to serve by other means what is wanted now
    #[command(after_help = "Example:\n  drover dns export > drover.zone")]
    Export,
    /// The health checks that records of Route 53 follow, and who declares which region out of service; exit 8 when one is not in line
    #[command(after_help = "Examples:\n  drover dns checks\n  drover dns checks -o json")]
    Checks,
    /// Take a record set that was changed by hand, is somebody else's or is withheld, and make it what it should be
    #[command(
        after_help = "Examples:\n  drover dns adopt checkout --reason 'was mended by hand at night'\n  \
                            drover dns adopt --all --reason 'the zone moved to drover'\n  \
                            drover dns adopt --command --reason 'etcd was lost, and made anew from the export'"
    )]
    Adopt(AdoptArgs),
    /// Make the key that signs what is published, and print the public key that servers must trust
    #[command(after_help = "Examples:\n  drover dns keygen --out /etc/drover/dns-signing.key\n  \
                            drover dns keygen --show /etc/drover/dns-signing.key\n\n\
                            The file goes to the coordinator (`dns.signing_key_file` of its settings), the public key to every server's file\n\
                            (`trusted_keys: [..]`). To change keys: let servers trust both, change the coordinator's, let them trust the new one.")]
    Keygen(KeygenArgs),
}

/// Arguments of `dns keygen`.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// New file for the private key, which its owner alone may read
    #[arg(long, value_name = "FILE", required_unless_present = "show")]
    pub out: Option<PathBuf>,
    /// File with a private key, to print its public key only
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub show: Option<PathBuf>,
}

/// Arguments of `dns verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<ServiceId>,
    /// Answers that are drawn of each server for each record set
    #[arg(long, value_name = "NUMBER", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub draws: u32,
}

/// Arguments of `dns adopt`.
#[derive(Debug, clap::Args)]
pub struct AdoptArgs {
    /// Whose record sets
    #[arg(value_name = "SERVICE", required_unless_present_any = ["all", "command"])]
    pub services: Vec<ServiceId>,
    /// All that were changed by hand, are somebody else's or are withheld, as when a zone comes to drover
    #[arg(long, conflicts_with = "services")]
    pub all: bool,
    /// The command itself, of servers that obey another store which is lost for good
    #[arg(long, conflicts_with_all = ["services", "all"])]
    pub command: bool,
    /// Why; goes into the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `dns` without a verb: the server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  drover dns --config /etc/drover/dns.yaml --state /var/lib/drover-dns\n\n\
    The file:\n  zone: drover.test\n  nameservers:\n    - {name: ns1.drover.test, addresses: [192.0.2.1]}\n    \
    - {name: ns2.drover.test, addresses: [192.0.2.2]}\n  listen: ['192.0.2.1:53']\n  control: 127.0.0.1:7410\n\n\
    With others that keep each other up to date (docs/dns.md):\n  trusted_keys: [PUBLIC KEY of `drover dns keygen`]\n  \
    peers: [{name: dns-2, control: 198.51.100.53:7411}]\n  peer_listen: 192.0.2.1:7411"
)]
pub struct DnsServerArgs {
    /// File with zone, name servers and addresses
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Directory for the record sets as last published
    #[arg(long, value_name = "DIR", required = true)]
    pub state: Option<PathBuf>,
    /// Answer there instead; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<SocketAddr>,
    /// Take changes at this loopback address instead
    #[arg(long, value_name = "ADDR")]
    pub control: Option<SocketAddr>,
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Arguments of `launch`.
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// Process that the program must not outlive
    #[arg(long, value_name = "PID")]
    pub parent: i32,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}
