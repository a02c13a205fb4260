//! `policy …`: what a policy would have done about a history. Needs no coordinator.

mod bounded;
pub mod history;
mod incidents;
mod observations;
mod picture;
mod set;
mod table;

use super::config::{directory, read_directory, refused};
use super::runbook;
use crate::args::BacktestArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use crate::render;
use drover_core::backtest::{Backtest, Delays, Findings, Row};
use drover_model::config::decode;
use drover_model::config::{Config, RegionRole};
use drover_model::plan::LoadedRunbook;
use drover_model::runbook::Purpose;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// What one policy would have done.
#[derive(Debug, Serialize)]
pub struct Tested {
    /// Its name: the directory, and what was set.
    pub policy: String,
    /// Digest of the whole configuration.
    pub version: String,
    /// From the begin of an outage to the failover.
    pub delays: Option<Delays>,
    /// All of it.
    #[serde(flatten)]
    pub findings: Findings,
}

/// One policy, or two beside each other.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order in which they were named.
    pub policies: Vec<Tested>,
}

/// The configuration of a directory, with its name.
fn load(dir: Option<PathBuf>) -> Result<(String, Config)> {
    let dir = directory(dir);
    let name = dir.display().to_string();
    let loaded = decode::load(&read_directory(&dir)?).map_err(|found| refused(&name, found))?;
    Ok((name, loaded.config))
}

fn shipped_runbooks() -> Result<BTreeMap<Purpose, LoadedRunbook>> {
    let books =
        decode::load_runbooks(&runbook::shipped()).map_err(|found| refused("the shipped set", found))?;
    Ok(books.into_iter().map(|book| (book.runbook.purpose, book)).collect())
}

/// The policies that are asked for, the first one first.
fn policies(args: &BacktestArgs) -> Result<Vec<(String, Config)>> {
    let first = load(args.config.clone())?;
    let other = match &args.against {
        Some(dir) => Some(load(Some(dir.clone()))?),
        None if args.set.is_empty() => None,
        None => Some(first.clone()),
    };
    let other = other.map(|(name, config)| {
        if args.set.is_empty() {
            return Ok((name, config));
        }
        let config = set::apply(&config, &args.set)?;
        Ok::<_, Failure>((format!("{name} with {}", args.set.join(", ")), config))
    });
    Ok(std::iter::once(first).chain(other.transpose()?).collect())
}

/// `policy backtest`.
///
/// # Errors
/// When the configuration or the history is wrong, or the picture can't be written.
pub fn backtest(out: &Out, args: &BacktestArgs) -> Result<ExitCode> {
    let policies = policies(args)?;
    let runbooks = shipped_runbooks()?;
    let mut tests: Vec<Backtest> =
        policies.iter().map(|(_, config)| Backtest::new(config.clone(), runbooks.clone())).collect();
    replay(&args.history, &mut |row| tests.iter_mut().for_each(|test| test.take(row)))?;
    let mut report = Report { policies: Vec::new() };
    for ((policy, config), test) in policies.iter().zip(tests) {
        let findings = test.finish();
        if findings.rows == 0 {
            return Err(nothing_counted(policy, config, findings.ignored));
        }
        if findings.ignored > 0 {
            out.talk(&format!(
                "{policy}: {} of {} rows are about vantages or endpoints that it does not have, and count for nothing",
                findings.ignored,
                findings.ignored + findings.rows
            ));
        }
        if let Some(first) = findings.unseen.first() {
            let rest = match findings.unseen.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            out.talk(&format!(
                "{policy}: no row is about {first}{rest}: unknown, so that nothing is moved there"
            ));
        }
        let (policy, version, delays) = (policy.clone(), config.version(), findings.delays());
        report.policies.push(Tested { policy, version, delays, findings });
    }
    if let Some(path) = &args.picture {
        picture::write(path, &report)?;
    }
    out.show(&Versioned::of(&report), |look| render::backtest::render(&report, look))?;
    Ok(ExitCode::Done)
}

fn nothing_counted(policy: &str, config: &Config, ignored: u64) -> Failure {
    let some = |names: Vec<&str>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let agents = config.agents();
    let serving = config.regions.values().filter(|r| r.role == RegionRole::Serving);
    let known = format!(
        "the configuration {policy} has the services {}, the regions {}, the vantages {}",
        some(config.services.keys().map(|s| s.as_str()).collect()),
        some(serving.map(|r| r.name.as_str()).collect()),
        some(agents.keys().map(|a| a.as_str()).collect())
    );
    if ignored == 0 {
        return Failure::usage("there is no probe in the history")
            .hint("drover policy history --days 30 writes one to try it on");
    }
    Failure::usage(format!("none of the {ignored} rows is about a vantage and an endpoint that {policy} has"))
        .hint(format!("{known}; name the configuration that the history was made with: --config DIR"))
}

/// Every row of all files, in order.
fn replay(files: &[PathBuf], take: &mut dyn FnMut(&Row)) -> Result<()> {
    let (mut kept, mut last, mut rows, mut tables) = (Vec::new(), None, 0, 0);
    for path in files {
        let (name, mut input) = open(path)?;
        let first = input.fill_buf().map_err(|e| unreadable(&name, &e))?;
        if first.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{') {
            observations::read(&name, input, &mut kept)?;
        } else {
            tables += 1;
            table::read(&name, input, &mut last, &mut rows, take)?;
        }
        if tables > 0 && !kept.is_empty() {
            return Err(Failure::usage("CSV and JSON histories can't be put in order together")
                .hint("replay them one at a time"));
        }
    }
    observations::in_order(kept).iter().for_each(take);
    Ok(())
}

fn open(path: &Path) -> Result<(String, Box<dyn BufRead>)> {
    if path.as_os_str() == "-" {
        return Ok(("standard input".into(), Box::new(BufReader::new(std::io::stdin()))));
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| unreadable(&name, &e))?;
    Ok((name, Box::new(BufReader::new(file))))
}

fn unreadable(name: &str, e: &std::io::Error) -> Failure {
    Failure::because(ExitCode::Usage, format!("can't read {name}"), e)
        .hint("drover policy history --days 30 > FILE writes a history to try it on")
}
