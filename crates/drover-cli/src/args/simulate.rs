//! Arguments of `simulate`.

use drover_model::Span;
use std::path::PathBuf;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover simulate\n  drover simulate --kill eu-west\n  \
    drover simulate --kill eu-west --kill us-east --svg loss.svg\n  \
    drover simulate --partition eu-west,us-east --for 20m\n  \
    drover simulate --kill eu-west --runs 50 -o json\n\n\
    What is assumed, and what the verdicts mean: docs/simulate.md")]
pub struct SimulateArgs {
    /// A region of which nothing is left, agents included; may be given several times
    #[arg(long, value_name = "REGION")]
    pub kill: Vec<String>,
    /// Two regions between which nothing passes; may be given several times
    #[arg(long, value_name = "A,B")]
    pub partition: Vec<String>,
    /// When that happens, after the begin
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    pub at: Span,
    /// How long it is watched from there
    #[arg(long = "for", value_name = "SPAN", default_value = "10m")]
    pub lasts: Span,
    /// Of the moment between two probes at which it happens, in each run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// So many times, each at another moment between two probes; the first is told in full
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub runs: u32,
    /// Directory of the configuration; DROVER_CONFIG, ./regions or /etc/drover/regions when absent
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Directory of the runbooks; those that ship with drover when absent
    #[arg(long, value_name = "DIR")]
    pub runbooks: Option<PathBuf>,
    /// Draw what each region carries along the time into this SVG file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}
