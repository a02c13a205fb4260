//! `drover up`: the sample world, kept running to play with, until Ctrl-C.

use super::crowd::{Crowd, Group};
use super::dns::DnsChoice;
use super::order::{Order, Said};
use super::sample::{FACTOR, FACTOR_MAX, Wanted};
use super::scene::to_file;
use super::screen::Screen;
use super::service::control;
use super::told_to_end;
use super::world::World;
use super::world_file::{WORLD_FILE_SCHEMA, WorldFile};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Between two looks at the clients.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// For an order to arrive.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drover up                  until Ctrl-C; then, beside it, in the same directory:\n  \
                        drover status --watch\n  drover break eu-west\n  drover heal"
)]
pub struct UpArgs {
    /// Divide every duration of the policy by this
    #[arg(long, value_name = "N", default_value_t = FACTOR, value_parser = clap::value_parser!(u64).range(1..=FACTOR_MAX))]
    pub factor: u64,
    /// Directory of runbooks; the shipped ones when absent
    #[arg(long, value_name = "DIR")]
    pub runbooks: Option<PathBuf>,
    /// Who answers DNS
    #[arg(long, value_enum, default_value_t = DnsChoice::Embedded)]
    pub dns: DnsChoice,
    /// Services, clients and DNS servers alone: agents and coordinators are yours to start, as the README does
    #[arg(long)]
    pub only_services: bool,
}

/// Keeps a world until told to end.
///
/// # Errors
/// When it does not come up, or one runs in this directory already.
pub async fn run_up(args: UpArgs, out: &Out) -> Result<ExitCode> {
    let screen = Screen::new(out, told_to_end());
    let runbooks = args.runbooks.map(std::path::absolute).transpose();
    let runbooks = runbooks.map_err(|e| Failure::because(ExitCode::Usage, "can't find the runbooks", &e))?;
    let wanted = |at: &Path| Wanted {
        factor: args.factor,
        capacity: None,
        on_page: Some(to_file(at)),
        runbooks,
        dns: args.dns,
        only_services: args.only_services,
    };
    let mut world = tokio::select! {
        world = World::start(wanted) => world?,
        () = screen.told_to_end() => return Ok(ExitCode::Done),
    };
    let kept = keep(&mut world, args.factor, &screen).await;
    world.end().await;
    kept.map(|()| ExitCode::Done)
}

async fn keep(world: &mut World, factor: u64, screen: &Screen) -> Result<()> {
    let path = world.directory().join("up.control");
    let control = control::listen(&path)?;
    let query = world.dns_address()?;
    let crowd = Crowd::start(&world.config, query).await?;
    describe(world, factor, &path)?.write()?;
    if world.supervisor().is_ok() {
        say_hello(world, factor, screen)?;
    } else {
        say_whats_there(world, screen)?;
    }
    let mut count = tokio::time::interval(COUNT_EVERY);
    let mut seen = crowd.ledger.seen();
    let told = screen.told_to_end();
    tokio::pin!(told);
    loop {
        tokio::select! {
            () = &mut told => break,
            () = screen.reader_gone() => break,
            accepted = control.accept() => {
                // Read here and not in the branch's future: a tick that came first would drop who is speaking.
                if let Some((stream, order)) = take(accepted).await {
                    let said = obey(world, order).await;
                    screen.passing("");
                    screen.say(&said.sentence);
                    answer(stream, &said).await;
                }
            }
            _ = count.tick() => {
                screen.passing(&counted(&crowd, seen));
                seen = crowd.ledger.seen();
            }
        }
    }
    screen.passing("");
    WorldFile::remove();
    Ok(())
}

fn describe(world: &World, factor: u64, control: &Path) -> Result<WorldFile> {
    let config = &world.config;
    let endpoints = config
        .services
        .values()
        .flat_map(|s| s.endpoints.keys().map(move |region| drover_model::EndpointKey::new(&s.name, region)));
    Ok(WorldFile {
        schema: WORLD_FILE_SCHEMA,
        pid: std::process::id(),
        factor,
        coordinator: format!("unix:{}", world.coordinator_socket().display()),
        coordinator_http: format!("http://{}", config.settings.listen),
        agents: config.agents().keys().map(|a| (a.to_string(), world.agent_status(a))).collect(),
        dns: vec![world.dns_address()?],
        names: config.services.values().map(|s| s.dns_name.clone()).collect(),
        pids: world.pids(),
        services: endpoints.map(|key| (key.to_string(), world.service_control(&key))).collect(),
        control: control.to_owned(),
    })
}

/// The longest command of the list, and two blanks.
const COMMAND_WIDTH: usize = 44;

fn say_hello(world: &World, factor: u64, screen: &Screen) -> Result<()> {
    let query = world.dns_address()?;
    screen.title("the sample world runs");
    screen.say(&format!(
        "Three regions, two services, {} processes; every duration of the shipped policy divided by {factor}. Ctrl-C \
         ends it. Beside it, in this directory:",
        world.pids().len() + 1
    ));
    screen.line("");
    for (command, what) in [
        ("drover status --watch", "what is not normal"),
        ("drover break eu-west", "SIGKILL to a region"),
        ("drover break link eu-west us-east", "drop packets between two"),
        ("drover break slow eu-west 3s", "make a region slow"),
        ("drover explain eu-west", "why something is done, or not"),
        ("drover heal", "mend everything"),
        ("drover failback --all --from eu-west --plan", "how it would come back"),
    ] {
        screen.line(&format!("    {command:<COMMAND_WIDTH$}{what}"));
    }
    let name = world.config.services.values().next().map(|s| s.dns_name.clone()).unwrap_or_default();
    screen.line("    what DNS answers:");
    screen.line(&format!("    dig @{} -p {} {name}", query.ip(), query.port()));
    screen.line("");
    Ok(())
}

/// For whoever brings agents and coordinators.
fn say_whats_there(world: &World, screen: &Screen) -> Result<()> {
    let query = world.dns_address()?;
    screen.title("the services of the sample world run");
    screen.say(&format!(
        "{} processes: services, their references, DNS servers. No agent and no coordinator: until yours have published, DNS \
         has no answer. Ctrl-C ends it.",
        world.pids().len()
    ));
    screen.line("");
    screen.line(&format!("    configuration: {}", world.config_directory().display()));
    screen.line(&format!("    what DNS answers: dig @{} -p {} NAME", query.ip(), query.port()));
    screen.line("");
    Ok(())
}

fn counted(crowd: &Crowd, seen: usize) -> String {
    let regions = crowd.ledger.by_region(seen, Group::Follower);
    let parts: Vec<String> = regions
        .iter()
        .map(|(region, c)| match c.failed {
            0 => format!("{region} {}", c.total()),
            failed => format!("{region} {} ({failed} failed)", c.total()),
        })
        .collect();
    format!("  requests/s: {}", parts.join(", "))
}

async fn take(
    accepted: std::io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
) -> Option<(BufReader<UnixStream>, serde_json::Result<Order>)> {
    let (stream, _) = accepted.ok()?;
    let mut stream = BufReader::new(stream);
    let line = tokio::time::timeout(ORDER_TIMEOUT, control::read_line(&mut stream)).await.ok()?.ok()?;
    Some((stream, serde_json::from_str(&line)))
}

async fn answer(mut stream: BufReader<UnixStream>, said: &Said) {
    let text = serde_json::to_string(said).unwrap_or_default();
    // Whoever ordered may be gone; what was ordered is done all the same.
    let _ = stream.get_mut().write_all(format!("{text}\n").as_bytes()).await;
}

async fn obey(world: &mut World, order: serde_json::Result<Order>) -> Said {
    let done = match order {
        Ok(order) => carry_out(world, order).await,
        Err(e) => Err(Failure::because(ExitCode::Usage, "not an order", &e)),
    };
    match done {
        Ok(sentence) => Said { done: true, sentence, hint: None, misused: false },
        Err(failure) => {
            let causes = failure.causes.iter().map(|c| format!(": {c}")).collect::<String>();
            let misused = failure.code == ExitCode::Usage;
            Said {
                done: false,
                sentence: format!("{}{causes}", failure.message),
                hint: failure.hint,
                misused,
            }
        }
    }
}

async fn carry_out(world: &mut World, order: Order) -> Result<String> {
    match order {
        Order::Kill { region } => {
            let region = world.region(&region)?;
            world.kill_region(&region).await;
            Ok(format!("{region} is dead: its services and agents got a SIGKILL"))
        }
        Order::Link { a, b } => {
            let (a, b) = (world.any_region(&a)?, world.any_region(&b)?);
            if a == b {
                return Err(Failure::usage("a link has two ends"));
            }
            world.break_link(&a, &b).await?;
            Ok(format!("packets between the vantages and services of {a} and {b} are dropped, both ways"))
        }
        Order::Slow { region, by } => {
            let region = world.region(&region)?;
            world.slow(&region, by).await?;
            Ok(format!("every answer of {region} takes {by} longer"))
        }
        Order::Errors { region, share } => {
            let region = world.region(&region)?;
            world.errors(&region, share).await?;
            Ok(format!("{share} of the answers of {region} are errors"))
        }
        Order::Heal { region } => {
            let region = region.map(|r| world.any_region(&r)).transpose()?;
            world.heal(region.as_ref()).await?;
            let what = region.map_or_else(|| "everything".to_owned(), |r| r.to_string());
            Ok(format!(
                "{what} is mended; once `drover status --all` shows it healthy, `drover failback --all --from REGION \
                 --plan` tells how its traffic comes back"
            ))
        }
    }
}
