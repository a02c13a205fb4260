//! `drover demo`, `up`, `break`, `heal`: the sample world on this machine, as real processes on loopback.
//!
//! Nothing is simulated: services, agents, DNS and coordinator are this program in its other roles, clients send real
//! requests, and what dies gets a SIGKILL. Only time is faster, by one factor for every duration of the policy.

mod api;
mod crowd;
mod dns;
mod exchange;
mod layout;
mod order;
mod process;
mod report;
mod sample;
mod scene;
mod screen;
pub mod service;
mod stage;
mod strip;
mod supervisor;
mod up;
mod watch;
mod world;
pub mod world_file;

pub use order::{BreakArgs, HealArgs, run_break, run_heal};
pub use service::SampleServiceArgs;
pub use up::{UpArgs, run_up};

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::words::count;
use crate::output::{Format, Out};
use dns::DnsChoice;
use report::{DEMO_SCHEMA, DemoReport};
use sample::{FACTOR, FACTOR_MAX};
use scene::Scene;
use screen::{Screen, seconds};
use stage::Stage;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drover demo\n  drover demo --scene 2\n  drover demo --pause\n  \
                        drover demo -o json > demo.json\n\nExit status: 0 if every expectation was met, else 4.")]
pub struct DemoArgs {
    /// Play only this scene; may be given several times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub scene: Vec<u8>,
    /// Wait for Enter between scenes
    #[arg(long)]
    pub pause: bool,
    /// Divide every duration of the policy by this
    #[arg(long, value_name = "N", default_value_t = FACTOR, value_parser = clap::value_parser!(u64).range(1..=FACTOR_MAX))]
    pub factor: u64,
    /// Who answers DNS; the others must be installed
    #[arg(long, value_enum, default_value_t = DnsChoice::Embedded)]
    pub dns: DnsChoice,
}

/// Plays the scenes.
///
/// # Errors
/// When the world can't be built, or a signal ended it.
pub async fn run_demo(args: DemoArgs, out: &Out) -> Result<ExitCode> {
    if !matches!(out.format, Format::Table | Format::Json | Format::Yaml) {
        return Err(Failure::usage("`demo` writes table, json or yaml"));
    }
    let screen = Screen::new(out, told_to_end());
    let began = Instant::now();
    introduce(&screen, args.factor);
    let mut report = DemoReport {
        schema: DEMO_SCHEMA,
        factor: args.factor,
        met: true,
        took_seconds: 0.0,
        scenes: Vec::new(),
    };
    let scenes = chosen(&args)?;
    let mut standing: Option<Stage> = None;
    for (index, scene) in scenes.iter().enumerate() {
        if index > 0
            && args.pause
            && let Err(stopped) = pause(&screen).await
        {
            end(standing).await;
            return Err(stopped);
        }
        let goes_on = scenes.get(index + 1).is_some_and(|next| next.goes_on_after(*scene));
        let played = play(*scene, standing.take(), goes_on, &screen, &args).await?;
        report.met &= played.report.met;
        report.scenes.push(played.report);
        standing = played.left;
    }
    report.took_seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    conclude(&screen, &report, args.dns);
    if out.format != Format::Table {
        out.show(&report, |_| String::new())?;
    }
    Ok(if report.met { ExitCode::Done } else { ExitCode::Failed })
}

fn introduce(screen: &Screen, factor: u64) {
    screen.title("drover demo");
    screen.say(&format!(
        "The sample world of regions/ on loopback: three regions, two services, four agents, a coordinator under a \
         supervisor, DNS, and {} clients that are resolver caches of their own and honour the TTL. The shipped policy, \
         every duration divided by {factor}, no guard off.",
        crowd::FOLLOWERS
    ));
    screen.say(&format!(
        "{} more clients never look at DNS again: the column \"no action\" shows how they fare, which is what the same \
         seconds would have been with nobody acting.",
        crowd::CONTROLS
    ));
}

/// The scenes to play: all that the servers can show, or those that were asked for.
fn chosen(args: &DemoArgs) -> Result<Vec<Scene>> {
    let asked = |scene: &Scene| args.scene.contains(&scene.number());
    if let Some(scene) = Scene::ALL.iter().find(|s| asked(s) && !shows(args.dns, s)) {
        let message = format!("scene {} needs weights, which these DNS servers don't know", scene.number());
        return Err(Failure::usage(message).hint(format!("drover demo --scene {}", scene.number())));
    }
    let is_played = |s: &Scene| shows(args.dns, s) && (args.scene.is_empty() || asked(s));
    Ok(Scene::ALL.into_iter().filter(is_played).collect())
}

fn shows(dns: DnsChoice, scene: &Scene) -> bool {
    dns.has_weights() || !scene.needs_weights()
}

/// A scene that was played.
struct Played {
    report: report::SceneReport,
    /// Its world, when the next scene goes on in it.
    left: Option<Stage>,
}

/// One scene, from an empty machine or from where the one before ended, to an empty machine or to where the next goes on.
async fn play(
    scene: Scene,
    standing: Option<Stage>,
    goes_on: bool,
    screen: &Screen,
    args: &DemoArgs,
) -> Result<Played> {
    scene.introduce(screen);
    let mut stage = match standing {
        Some(mut stage) => {
            scene.go_on(&mut stage);
            stage
        }
        None => tokio::select! {
            stage = scene.build(screen, args.factor, args.dns) => stage?,
            why = interrupted(screen) => return Err(why),
        },
    };
    let played = tokio::select! {
        played = scene.play(&mut stage) => played,
        why = interrupted(screen) => Err(why),
    };
    let ended = match played {
        Err(failure) if failure.message == INTERRUPTED || failure.message.is_empty() => Err(failure),
        Err(failure) => {
            let causes: String = failure.causes.iter().map(|c| format!(": {c}")).collect();
            let report = &mut stage.report;
            report.expect("the scene is played to its end", false, format!("{}{causes}", failure.message));
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    if goes_on && ended.is_ok() && stage.report.met {
        // The world stays; its findings are told now and replaced by the next scene's.
        stage.report.show(screen);
        let report = scene.go_on(&mut stage);
        return Ok(Played { report, left: Some(stage) });
    }
    let (world, report) = stage.strike();
    if report.met {
        world.end().await;
    } else {
        let kept = world.end_and_keep().await;
        screen.say(&format!("What its processes said is kept in {}", kept.display()));
    }
    ended?;
    report.show(screen);
    Ok(Played { report, left: None })
}

/// Ends a world in which nothing is played any more.
async fn end(standing: Option<Stage>) {
    if let Some(stage) = standing {
        stage.strike().0.end().await;
    }
}

const INTERRUPTED: &str = "interrupted; every process of the demo was ended";

/// Returns when somebody wants the demo to end.
async fn interrupted(screen: &Screen) -> Failure {
    let stopped = || Failure::new(ExitCode::Failed, INTERRUPTED);
    tokio::select! {
        () = screen.told_to_end() => stopped(),
        () = screen.reader_gone() => Failure::reader_gone(),
    }
}

/// Cancelled by Ctrl-C, SIGTERM or a hang-up. One listener for all scenes: a signal that came between two of them would
/// be heard by nobody.
fn told_to_end() -> CancellationToken {
    let told = CancellationToken::new();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    // Without a listener the system's own answer to these signals stays, which ends the process.
    if let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) {
        let heard = told.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            heard.cancel();
        });
    }
    told
}

async fn pause(screen: &Screen) -> Result<()> {
    screen.line("");
    screen.say("Enter for the next scene");
    let (sent, enter) = tokio::sync::oneshot::channel();
    // A thread of its own, because a read from a terminal can't be given up, and must not hold up the end.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        let _ = sent.send(());
    });
    tokio::select! {
        _ = enter => Ok(()),
        why = interrupted(screen) => Err(why),
    }
}

fn conclude(screen: &Screen, report: &DemoReport, dns: DnsChoice) {
    let took = seconds(drover_model::Span::from_millis((report.took_seconds * 1_000.0) as u64));
    let expectations: Vec<_> = report.scenes.iter().flat_map(|s| &s.expectations).collect();
    let met = expectations.iter().filter(|e| e.met).count();
    screen.title("the end");
    let scenes = count(report.scenes.len(), "scene");
    screen.verdict(
        report.met,
        &format!("{met} of {} expectations met in {scenes}, {took}", expectations.len()),
    );
    let left = Scene::ALL.iter().filter(|scene| !shows(dns, scene)).map(|scene| scene.number().to_string());
    let left: Vec<String> = left.collect();
    if !left.is_empty() {
        screen.say(&format!(
            "Scene {} is left out: it needs weights, which these DNS servers don't know.",
            left.join(", ")
        ));
    }
    screen.say("`drover up` keeps this world running, to break and to mend it yourself.");
}
