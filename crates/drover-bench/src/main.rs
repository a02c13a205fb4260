//! The figures that drover must hold, one subcommand each, with the peer measured in the same run.
//!
//! A figure is printed with its bar. The program ends with 1 when one falls short, and with 2 when one could not be
//! measured. Bars are judged at full size only; what must be right at any size is judged always.
#![allow(clippy::print_stdout, clippy::print_stderr)] // Printing is what this program is for.

mod certificates;
mod disk;
mod error;
mod figure;
mod figures;
mod installation;
mod machine;
mod product;
mod samples;
mod vantage;
mod world;

use clap::{Parser, ValueEnum};
use drover_coordinator::allocator::Jemalloc;
use error::{Attempt, Result};
use figure::{Figure, Scale};
use std::path::PathBuf;
use std::process::ExitCode;

/// What runs inside this program must be measured with the allocator that `drover` has.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures what drover must hold.
#[derive(Debug, Parser)]
#[command(name = "drover-bench", after_help = "Example:\n  cargo run --release -p drover-bench -- plan")]
struct Args {
    /// Which figure
    name: Name,
    /// How to write it
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Output,
    /// Size in percent of the stated one; below 100 bars are not judged
    #[arg(long, default_value_t = 100, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
    /// A file for the processes that a figure starts
    #[arg(long, hide = true, value_name = "PATH")]
    peer: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// One object, or a list of them for `all`.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Evacuating a region, planned and checked
    Plan,
    /// Appends, and the start with many records
    Store,
    /// What grows with the world, and what must not
    Scale,
    /// `drover status` on a large world
    Status,
    /// From the completing report to DNS without the endpoint
    Reaction,
    /// Reports at full rate through the API
    Ingest,
    /// What mutual TLS costs a report
    Tls,
    /// One agent with many endpoints
    Probe,
    /// From the leader's end to the next one that commands
    Takeover,
    /// A failover of many record sets in Route 53
    Route53,
    /// What drover's own DNS server costs a query
    DnsQps,
    /// From telling a DNS server to every answer new
    DnsPublish,
    /// From a service's end to the last answer with its address
    DnsFailover,
    /// What the simulator plays in a second
    Sim,
    /// Failovers from packet loss alone
    FalseAlarms,
    /// Every figure, one after the other
    All,
    /// This process becomes what `probe` probes
    #[value(hide = true)]
    ProbeTargets,
    /// This process becomes a peer of `probe`
    #[value(hide = true)]
    ProbeBareClient,
    /// This process becomes a service that `dns-failover` ends
    #[value(hide = true)]
    DnsOrigin,
}

impl Name {
    const EACH: [Name; 15] = [
        Name::Plan,
        Name::Store,
        Name::Scale,
        Name::Status,
        Name::Reaction,
        Name::Ingest,
        Name::Tls,
        Name::Probe,
        Name::Takeover,
        Name::Route53,
        Name::DnsQps,
        Name::DnsPublish,
        Name::DnsFailover,
        Name::Sim,
        Name::FalseAlarms,
    ];

    /// The figure of this name; nothing for what is none.
    fn measure(self, scale: Scale) -> Result<Option<Figure>> {
        let figure = match self {
            Name::Plan => figures::plan::measure(scale)?,
            Name::Store => figures::store::measure(scale)?,
            Name::Scale => figures::scale::measure(scale)?,
            Name::Status => figures::status::measure(scale)?,
            Name::Reaction => figures::reaction::measure(scale)?,
            Name::Ingest => figures::ingest::measure(scale)?,
            Name::Tls => figures::tls::measure(scale)?,
            Name::Probe => figures::probe::measure(scale)?,
            Name::Takeover => figures::takeover::measure(scale)?,
            Name::Route53 => figures::route53::measure(scale)?,
            Name::DnsQps => figures::dns::qps(scale)?,
            Name::DnsPublish => figures::dns::publish(scale)?,
            Name::DnsFailover => figures::dns::failover(scale)?,
            Name::Sim => figures::sim::measure(scale)?,
            Name::FalseAlarms => figures::false_alarms::measure(scale)?,
            Name::All | Name::ProbeTargets | Name::ProbeBareClient | Name::DnsOrigin => return Ok(None),
        };
        Ok(Some(figure))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("drover-bench: {}", e.chain());
            ExitCode::from(2)
        }
    }
}

/// Measures and prints; says whether everything holds.
fn run(args: &Args) -> Result<bool> {
    match (args.name, &args.peer) {
        (Name::ProbeTargets, Some(peer)) => return figures::probe::serve_targets(peer).map(|()| true),
        (Name::ProbeBareClient, Some(peer)) => return figures::probe::bare_client(peer).map(|()| true),
        (Name::DnsOrigin, Some(peer)) => return figures::dns::serve_origin(peer).map(|()| true),
        (Name::ProbeTargets | Name::ProbeBareClient | Name::DnsOrigin, None) => {
            return error::unexpected("--peer is missing");
        }
        _ => {}
    }
    let scale = Scale::new(args.scale);
    let names: &[Name] = if args.name == Name::All { &Name::EACH } else { std::slice::from_ref(&args.name) };
    let mut figures = Vec::new();
    if args.output == Output::Text {
        println!("{}\n", machine::describe());
    }
    for name in names {
        let measured = name.measure(scale)?;
        if let Some(figure) = measured.as_ref().filter(|_| args.output == Output::Text) {
            println!("{}", figure.text());
        }
        figures.extend(measured);
    }
    if args.output == Output::Json {
        let text = match figures.as_slice() {
            [one] if args.name != Name::All => serde_json::to_string_pretty(one),
            all => serde_json::to_string_pretty(all),
        };
        println!("{}", text.attempt("write the figures as JSON")?);
    }
    Ok(figures.iter().all(|f| f.holds))
}
