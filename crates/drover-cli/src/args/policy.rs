//! Arguments of `policy`.

use clap::Subcommand;
use drover_model::Timestamp;
use std::path::PathBuf;

/// Verbs of `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Replay recorded probes through drover's own decisions: which failovers a policy would have made, true and false
    Backtest(BacktestArgs),
    /// Write a labelled history of probes to try policies on: outages, gray failures, flaps, packet loss, silence
    #[command(hide = true)]
    History(HistoryArgs),
}

/// Arguments of `policy backtest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover policy backtest year.csv\n  \
    drover policy backtest year.csv --set failure_threshold=5 --set failure_window=10m\n  \
    drover policy backtest year.csv --against regions.new --picture year.svg\n  \
    drover policy history --seed 7 --days 365 | drover policy backtest -\n  \
    drover log --observations checkout@eu-west --since 48h --limit 100000 -o json > seen.json\n  \
    drover policy backtest seen.json\n\n\
    The columns of a CSV file, the keys of --set, and what is assumed: docs/backtest.md")]
pub struct BacktestArgs {
    /// CSV files in the order of their times, or what `drover log --observations -o json` wrote; - is standard input
    #[arg(required = true, value_name = "HISTORY")]
    pub history: Vec<PathBuf>,
    /// Directory of the policy; DROVER_CONFIG, ./regions or /etc/drover/regions when absent
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// A second policy beside it, from this directory
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// A second policy beside it: this one (or that of --against) with a value changed; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Draw outages and failovers along the time into this SVG file
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
}

/// Arguments of `policy history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover policy history --seed 7 --days 365 > year.csv\n  \
    drover policy history --days 30 --config regions | drover policy backtest -")]
pub struct HistoryArgs {
    /// The same seed and configuration give the same file
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many days
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    pub days: u32,
    /// When it begins
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z")]
    pub from: Timestamp,
    /// Directory whose regions, agents and services are probed; as for `backtest`
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
}
