//! `simulate`: what would happen to this configuration. Needs no coordinator, and touches nothing.

mod picture;

use super::config::{directory, read_directory, refused};
use super::runbook;
use crate::args::SimulateArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use crate::render;
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::suggest;
use drover_model::config::{Config, RegionRole, encode};
use drover_model::{RegionId, ServiceId, Span};
use drover_sim::WorldFiles;
use drover_sim::what_if::{Answer, Moment, Question, Survival, Traffic, ask, each_loss, survival};
use fastrand::Rng;
use serde::Serialize;

/// Longest time that is watched: a day of the slowest policy's way back.
const WATCHED_MAX: Span = Span::from_hours(24);

/// What `simulate` says.
#[derive(Debug, Serialize)]
pub struct Simulated {
    /// Whether the losses can be survived as far as capacity goes.
    pub verdicts: Vec<Survival>,
    /// How each service came through, over all runs.
    pub services: Vec<ServiceOutcome>,
    /// What happened in the first run.
    pub timeline: Vec<Moment>,
    /// Where traffic went in it, at each change.
    pub traffic: Vec<Traffic>,
    /// What was lost, and when.
    pub lost_at: Option<Span>,
    /// Runs.
    pub runs: u32,
}

/// How one service came through.
#[derive(Debug, Serialize)]
pub struct ServiceOutcome {
    /// The service.
    pub service: ServiceId,
    /// Its users asked what was lost, in so many runs.
    pub affected: u32,
    /// It was moved away in so many.
    pub moved: u32,
    /// Estimated recovery times of those that were moved.
    pub rta: Option<Estimate>,
    /// The objective.
    pub rto: Span,
}

/// Of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Least.
    pub least: Span,
    /// Half of the runs are below.
    pub median: Span,
    /// Most.
    pub most: Span,
}

/// `simulate`.
///
/// # Errors
/// When the configuration is wrong, a region is none of it, or the picture can't be written.
pub fn run(out: &Out, args: &SimulateArgs) -> Result<ExitCode> {
    let dir = directory(args.config.clone());
    let name = dir.display().to_string();
    let config = decode::load(&read_directory(&dir)?).map_err(|found| refused(&name, found))?.config;
    let question = question(args, &config)?;
    if question.kill.is_empty() && question.partition.is_empty() {
        let simulated = Simulated {
            verdicts: each_loss(&config),
            services: vec![],
            timeline: vec![],
            traffic: vec![],
            lost_at: None,
            runs: 0,
        };
        if args.svg.is_some() {
            return Err(Failure::usage("there is nothing to draw without a loss")
                .hint("drover simulate --kill REGION --svg FILE"));
        }
        return show(out, &simulated);
    }
    let files = files(args)?;
    let answers = play(&files, &config, &question, args)?;
    let Some(first) = answers.first() else { return Err(Failure::usage("no run was asked for")) };
    if let Some(broken) = answers.iter().flat_map(|a| &a.violations).next() {
        return Err(Failure::new(ExitCode::Internal, format!("drover did what it never may: {broken}"))
            .hint("keep the configuration and the command line, and report them"));
    }
    let verdicts = if question.kill.is_empty() { vec![] } else { vec![survival(&config, &question.kill)] };
    let simulated = Simulated {
        verdicts,
        services: outcomes(&answers),
        timeline: first.timeline.clone(),
        traffic: first.traffic.clone(),
        lost_at: Some(question.at),
        runs: args.runs,
    };
    if let Some(path) = &args.svg {
        picture::write(path, &simulated, question.at.plus(question.lasts))?;
    }
    show(out, &simulated)
}

/// A loss that can't be survived, or a service that was not moved, wants attention.
fn show(out: &Out, simulated: &Simulated) -> Result<ExitCode> {
    out.show(&Versioned::of(simulated), |look| render::simulate::render(simulated, look))?;
    let stuck = simulated.services.iter().any(|s| s.moved < s.affected);
    let lost = simulated.verdicts.iter().any(|v| !v.survivable);
    Ok(if stuck || lost { ExitCode::Attention } else { ExitCode::Done })
}

fn question(args: &SimulateArgs, config: &Config) -> Result<Question> {
    if args.at.plus(args.lasts) > WATCHED_MAX {
        return Err(Failure::usage(format!("--at and --for are {WATCHED_MAX} together at most")));
    }
    let kill: Vec<RegionId> = args.kill.iter().map(|name| region(config, name)).collect::<Result<_>>()?;
    if let Some(idle) =
        kill.iter().find(|r| config.regions.get(*r).is_some_and(|r| r.role != RegionRole::Serving))
    {
        return Err(Failure::usage(format!("{idle} is a witness: it serves nothing that could be lost"))
            .hint("to see what it is good for: drover doctor"));
    }
    let partition = args.partition.iter().map(|text| pair(config, text)).collect::<Result<_>>()?;
    Ok(Question { kill, partition, at: args.at, lasts: args.lasts, later: Span::ZERO })
}

fn pair(config: &Config, text: &str) -> Result<(RegionId, RegionId)> {
    let (a, b) = text.split_once(',').ok_or_else(|| {
        Failure::usage(format!("--partition {text}: two regions are needed")).hint("--partition A,B")
    })?;
    Ok((region(config, a.trim())?, region(config, b.trim())?))
}

fn region(config: &Config, name: &str) -> Result<RegionId> {
    let known = config.regions.keys().map(RegionId::as_str);
    let found = config.regions.keys().find(|r| r.as_str() == name);
    found.cloned().ok_or_else(|| {
        let known_names = known.clone().collect::<Vec<_>>().join(", ");
        let close = suggest(name, known).unwrap_or_else(|| format!("there are: {known_names}"));
        Failure::usage(format!("there is no region {name}")).hint(close)
    })
}

fn files(args: &SimulateArgs) -> Result<WorldFiles> {
    let books: Vec<SourceFile> = match &args.runbooks {
        Some(dir) => read_directory(dir)?,
        None => runbook::shipped(),
    };
    let name = args.runbooks.as_ref().map_or("the shipped set".to_owned(), |d| d.display().to_string());
    decode::load_runbooks(&books).map_err(|found| refused(&name, found))?;
    let runbooks = books.into_iter().map(|file| (file.name, file.text)).collect();
    Ok(WorldFiles { runbooks, ..WorldFiles::default() })
}

/// Every run, in a thread of its own: the world has a clock of its own, which can't stand inside of another.
fn play(
    files: &WorldFiles,
    config: &Config,
    question: &Question,
    args: &SimulateArgs,
) -> Result<Vec<Answer>> {
    let yaml = encode::to_yaml(config);
    let interval = config.services.values().map(|s| s.interval).max().unwrap_or_default();
    let mut chance = Rng::with_seed(args.seed);
    // The first as it is asked for, so that one run is the same whatever the seed.
    let later = std::iter::once(Span::ZERO)
        .chain(std::iter::repeat_with(move || Span::from_millis(chance.u64(0..interval.as_millis().max(1)))));
    let questions: Vec<Question> =
        later.take(args.runs as usize).map(|later| Question { later, ..question.clone() }).collect();
    let played = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            questions.iter().map(|q| ask(files, &yaml, q)).collect::<std::result::Result<Vec<_>, _>>()
        });
        work.join()
    });
    let played = played.map_err(|_| Failure::new(ExitCode::Internal, "the simulation broke off"))?;
    played.map_err(|e| Failure::because(ExitCode::Usage, "can't simulate this configuration", &e))
}

fn outcomes(answers: &[Answer]) -> Vec<ServiceOutcome> {
    let Some(first) = answers.first() else { return vec![] };
    let outcome = |n: usize| {
        let all: Vec<_> = answers.iter().filter_map(|a| a.services.get(n)).collect();
        let mut times: Vec<Span> = all.iter().filter_map(|r| r.rta).collect();
        times.sort_unstable();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let rta = times.first().zip(times.last()).map(|(least, most)| Estimate {
            least: *least,
            median: times[times.len() / 2],
            most: *most,
        });
        let affected = count(all.iter().filter(|r| r.affected).count());
        let of = &first.services[n];
        ServiceOutcome { service: of.service.clone(), affected, moved: count(times.len()), rta, rto: of.rto }
    };
    (0..first.services.len()).map(outcome).collect()
}
