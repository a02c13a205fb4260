//! The command line. Every verb has examples in its help.

mod break_glass;
mod dataset;
mod moves;
mod people;
mod pki;
mod policy;
mod roles;
mod runs;
mod simulate;

pub use break_glass::{
    BreakGlassDns, BreakGlassVerb, GlassPlace, GlassSetArgs, GlassShowArgs, ReconcileArgs,
};
pub use dataset::{DatasetMoveArgs, DatasetVerb};
pub use moves::{
    ApplyArgs, ConsentArgs, DrainArgs, FailbackArgs, FailoverArgs, FreezeArgs, PlanFlag, RearmArgs,
    ReasonArgs, UndrainArgs,
};
pub use people::{AuditVerb, AuditVerifyArgs, TokenCreateArgs, TokenVerb};
pub use pki::{
    InitArgs, InviteArgs, InviteVerb, IssueArgs, IssueVerb, JoinArgs, PkiPlace, PkiVerb, RevokeArgs,
    RotateArgs, TlsArgs,
};
pub use policy::{BacktestArgs, HistoryArgs, PolicyVerb};
pub use roles::{
    AdoptArgs, AgentArgs, CoordinatorArgs, DnsArgs, DnsServerArgs, DnsVerb, GateArgs, KeygenArgs, LaunchArgs,
    LogFormat, ProcessArgs, VerifyArgs,
};
pub use runs::{AnswerArgs, ApproveArgs, RunVerb, SureArgs};
pub use simulate::SimulateArgs;

use crate::demo;
use crate::exit::ExitCode;
use crate::output::Format;
use clap::{Parser, Subcommand};
use drover_model::{EndpointKey, Span};
use std::path::PathBuf;

/// Keeps services alive across regions: watches, decides, fails over, and proves that it worked.
#[derive(Debug, Parser)]
#[command(name = "drover", version, propagate_version = false, after_help = short_footer(), after_long_help = long_footer())]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 110)]
pub struct Args {
    /// For every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// For every verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Context of the contexts file to use (also: DROVER_CONTEXT)
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "coordinator",
        help_heading = "Everywhere"
    )]
    pub context: Option<String>,
    /// Where the coordinator listens: unix:/path, https://HOST:PORT or http://127.0.0.1:PORT; of several all, with commas
    /// between (also: DROVER_COORDINATOR)
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub coordinator: Option<String>,
    /// How to write the result
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Everywhere"
    )]
    #[arg(hide_possible_values = true, value_name = "table|json|yaml")]
    pub output: Format,
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What is not normal, where traffic goes, what runs
    Status(StatusArgs),
    /// Why a region, service, endpoint, run or decision is as it is
    Explain(ExplainArgs),
    /// Take traffic off a region that failed
    Failover(FailoverArgs),
    /// Bring a region back by a ramp
    Failback(FailbackArgs),
    /// Take traffic off a healthy region, reversibly
    Drain(DrainArgs),
    /// End a drain
    Undrain(UndrainArgs),
    /// Run a plan that was shown
    Apply(ApplyArgs),
    /// Agree to what a run asks
    Approve(ApproveArgs),
    /// Say no to what a run asks
    Reject(AnswerArgs),
    /// Stop automatic action
    Freeze(FreezeArgs),
    /// Allow automatic action again
    Unfreeze(ReasonArgs),
    /// End block periods after an automatic failover
    Rearm(RearmArgs),
    /// Runs: list, show, follow, pause, resume, skip, abort
    #[command(subcommand)]
    Run(RunVerb),
    /// Configuration: validate, show, schema, diff
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Runbooks: list, lint, show
    #[command(subcommand)]
    Runbook(RunbookVerb),
    /// Policies: backtest one on a history, or two side by side
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// What would happen if regions were lost: drover's own decisions in a world as yours is configured
    Simulate(SimulateArgs),
    /// DNS: show, verify, drift, adopt, history, export, checks, keygen; without one of these words, answer for the services' names
    Dns(DnsArgs),
    /// Who may write which dataset: status, move, abort
    #[command(subcommand)]
    Dataset(DatasetVerb),
    /// Without any coordinator: DNS by its provider's credentials alone, recorded
    #[command(subcommand)]
    BreakGlass(BreakGlassVerb),
    /// Certificates by which machines prove who they are: init, issue, rotate, revoke, show
    #[command(subcommand)]
    Pki(PkiVerb),
    /// Check everything that failover depends on
    Doctor(DoctorArgs),
    /// Commands, decisions and refusals, newest first
    Log(LogArgs),
    /// The audit of all that was commanded, decided and refused: verify, head
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Tokens of people: create, list, revoke
    #[command(subcommand)]
    Token(TokenVerb),
    /// See failovers happen: the sample world on this machine, with its scenes
    Demo(demo::DemoArgs),
    /// Keep the sample world running, to play with
    Up(demo::UpArgs),
    /// Break something in the sample world
    Break(demo::BreakArgs),
    /// Mend what was broken in the sample world
    Heal(demo::HealArgs),
    /// Probe from this region and report what is seen
    #[command(hide = true)]
    Agent(AgentArgs),
    /// Decide, execute and record
    #[command(hide = true)]
    Coordinator(CoordinatorArgs),
    /// Stop a database when its right to write is over, whatever its agent does
    #[command(hide = true)]
    Gate(GateArgs),
    /// One service of the sample world
    #[command(hide = true, after_help = "Example:\n  drover up starts these")]
    SampleService(demo::SampleServiceArgs),
    /// Start a program that ends with its parent
    #[command(
        hide = true,
        after_help = "Example:\n  drover coordinator starts the programs of `run` steps by this"
    )]
    Launch(LaunchArgs),
    /// Look after a store
    #[command(hide = true, subcommand)]
    Store(StoreVerb),
    /// Completions for a shell
    #[command(
        hide = true,
        after_help = "Example:\n  drover completions bash > ~/.local/share/bash-completion/completions/drover"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Manual pages
    #[command(
        hide = true,
        after_help = "Examples:\n  drover man | man -l -\n  drover man --dir /usr/share/man/man1"
    )]
    Man {
        /// Write one page a verb into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover status\n  drover status --all\n  drover status --watch\n  \
                        drover status --exit-code -o json || page-me")]
pub struct StatusArgs {
    /// Show what is normal, too
    #[arg(long)]
    pub all: bool,
    /// Look again every two seconds
    #[arg(long)]
    pub watch: bool,
    /// Exit with 8 when something needs attention
    #[arg(long)]
    pub exit_code: bool,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover explain eu-west\n  drover explain checkout@eu-west\n  drover explain run-7\n  \
                        drover explain --replay decision-42"
)]
pub struct ExplainArgs {
    /// Region, service, SERVICE@REGION, run-N or decision-N
    #[arg(required_unless_present = "replay", value_name = "X")]
    pub subject: Option<String>,
    /// Run a stored decision again on its stored inputs, and compare; exit 4 when the result differs
    #[arg(long, value_name = "DECISION", conflicts_with = "subject")]
    pub replay: Option<String>,
}

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a directory without a coordinator; every error with its source line
    #[command(
        after_help = "Examples:\n  drover config validate regions\n  drover config validate /etc/drover/regions --runbooks runbooks"
    )]
    Validate {
        /// Directory of YAML documents; DROVER_CONFIG, ./regions or /etc/drover/regions when absent
        dir: Option<PathBuf>,
        /// Check these runbooks, too
        #[arg(long, value_name = "DIR")]
        runbooks: Option<PathBuf>,
    },
    /// The configuration in force, every default filled in
    #[command(after_help = "Example:\n  drover config show > as-it-is.yaml")]
    Show,
    /// JSON Schema of the files, for an editor
    #[command(
        after_help = "Examples:\n  drover config schema > drover.schema.json\n  drover config schema --runbook"
    )]
    Schema {
        /// Of runbooks
        #[arg(long)]
        runbook: bool,
    },
    /// What a directory would change of the configuration in force; exit 8 when anything
    #[command(after_help = "Example:\n  drover config diff regions")]
    Diff {
        /// Directory of YAML documents; DROVER_CONFIG, ./regions or /etc/drover/regions when absent
        dir: Option<PathBuf>,
    },
}

/// Verbs of `runbook`.
#[derive(Debug, Subcommand)]
pub enum RunbookVerb {
    /// The runbooks in force
    #[command(after_help = "Examples:\n  drover runbook list\n  drover runbook list --dir runbooks")]
    List {
        /// Of a directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Check runbook files without a coordinator
    #[command(after_help = "Example:\n  drover runbook lint runbooks")]
    Lint {
        /// Directory; ./runbooks when there is one, else the shipped runbooks
        dir: Option<PathBuf>,
    },
    /// One runbook, step by step
    #[command(after_help = "Example:\n  drover runbook show failover")]
    Show {
        /// Its name
        name: String,
        /// Of a directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  drover doctor || echo 'not everything is in order'")]
pub struct DoctorArgs {}

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover log\n  drover log --limit 500 -o json\n  \
                        drover log --observations checkout@eu-west --since 2h")]
pub struct LogArgs {
    /// Lines, at most
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// Raw observations of this endpoint instead: what each vantage saw, and whether it counted
    #[arg(long, value_name = "SERVICE@REGION")]
    pub observations: Option<EndpointKey>,
    /// How far back, such as 90s or 2h
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "observations")]
    pub since: Span,
}

/// Verbs of `store`.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Verify every record of a store that no coordinator has open
    #[command(after_help = "Examples:\n  drover store check --state /var/lib/drover\n  \
                            drover store check --etcd http://10.0.0.1:2379,http://10.0.1.1:2379")]
    Check {
        /// Which
        #[command(flatten)]
        place: StorePlace,
    },
    /// Write every record into a file that people can read and a store can be rebuilt from
    Export(ExportArgs),
    /// Rebuild a store, of either kind, from such a file
    Import(ImportArgs),
    /// Remove one record that can't be read, and keep what it was in a file; a record that makes sense is never removed
    Remove(RemoveArgs),
}

/// Which store.
#[derive(Debug, clap::Args)]
pub struct StorePlace {
    /// The embedded store in this state directory of a coordinator
    #[arg(long, value_name = "DIR", required_unless_present = "etcd", conflicts_with = "etcd")]
    pub state: Option<PathBuf>,
    /// The store in an etcd cluster with these client URLs
    #[arg(long, value_name = "URL,URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// What stands before every key of the installation in etcd
    #[arg(long, value_name = "PREFIX", default_value = drover_model::config::defaults::ETCD_PREFIX)]
    pub prefix: String,
}

/// Arguments of `store export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover store export --etcd http://10.0.0.1:2379 --to drover.jsonl\n  \
                        drover store export --state /var/lib/drover --retire --to drover.jsonl")]
pub struct ExportArgs {
    /// Which store
    #[command(flatten)]
    pub place: StorePlace,
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Depose the store's leader first, and let no coordinator start on the store any more: for moving it
    #[arg(long)]
    pub retire: bool,
    /// Read a store that was restored from a snapshot of etcd into another cluster
    #[arg(long, requires = "etcd", conflicts_with = "retire")]
    pub restored: bool,
}

/// Arguments of `store import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  drover store import --etcd http://10.0.0.1:2379,http://10.0.1.1:2379 drover.jsonl"
)]
pub struct ImportArgs {
    /// Which store, empty or not there yet
    #[command(flatten)]
    pub place: StorePlace,
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `store remove`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover store remove holds/run-7 --etcd http://10.0.0.1:2379 --save run-7.bad\n  \
                  drover store remove open/000000000007 --state /var/lib/drover --save open.bad\n\n\
                  `drover status` and `drover store check` name such records. What follows is said before anything is changed."
)]
pub struct RemoveArgs {
    /// The record's key
    #[arg(value_name = "KEY")]
    pub record: String,
    /// Which store
    #[command(flatten)]
    pub place: StorePlace,
    /// Where to put what the record was, a file that must not be there yet
    #[arg(long, value_name = "FILE")]
    pub save: PathBuf,
    /// Do it without being asked
    #[arg(long)]
    pub yes: bool,
}

fn short_footer() -> String {
    "Examples:\n  drover demo                                   see it work, on this machine alone\n  \
     drover status                                 what is not normal\n  \
     drover failover --all --from eu-west --plan   what would happen\n\n\
     `drover VERB --help` has examples for each verb; `drover --help` lists exit codes and service roles."
        .to_owned()
}

fn long_footer() -> String {
    let codes: Vec<String> =
        ExitCode::ALL.iter().map(|c| format!("  {}  {}", c.number(), c.meaning())).collect();
    format!(
        "{}\n\nExit codes:\n{}\n\nService roles and tools, not listed above:\n  \
         agent, coordinator, dns, gate    run by the service manager\n  \
         store                            check, export, import and mend a store\n  \
         completions, man                 for packagers",
        short_footer(),
        codes.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_help_lists_what_people_use_and_hides_the_rest() {
        let help = Args::command().render_help().to_string();
        let listed: Vec<&str> = help
            .lines()
            .skip_while(|l| *l != "Commands:")
            .skip(1)
            .take_while(|l| !l.is_empty())
            .filter_map(|l| l.strip_prefix("  ").and_then(|l| l.split(' ').next()).filter(|w| !w.is_empty()))
            .collect();
        let expected = "status explain failover failback drain undrain apply approve reject freeze unfreeze rearm run \
                        config runbook policy simulate dns dataset break-glass pki doctor log audit token demo up break heal help";
        assert_eq!(listed.join(" "), expected);
        let long = Args::command().render_long_help().to_string();
        assert!(
            long.contains("6  coordinator unreachable") && long.contains("agent, coordinator, dns"),
            "{long}"
        );
    }

    #[test]
    fn every_verb_has_examples() {
        fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
                let name = format!("{path} {}", sub.get_name());
                let footer = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                if sub.get_subcommands().next().is_none() && !footer.contains("Example") {
                    missing.push(name.clone());
                }
                walk(sub, &name, missing);
            }
        }
        let mut missing = Vec::new();
        walk(&Args::command(), "drover", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }
}
