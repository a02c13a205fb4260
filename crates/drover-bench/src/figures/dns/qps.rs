//! `dns-qps`: processor time a query, beside gdnsd and Knot, and what the server is under load.
//!
//! Server and load have a core each. A run counts when the server had its core for nearly all of the time: then its processor
//! time a query is what it can do, whatever else the machine did. Servers take turns, so that the machine's moods are shared.
//! Cookies and rate limits are alike: questions bring no cookie, and nobody limits.

use super::load::{self, Counted, Load, keep_to, question};
use super::servers::{Server, name};
use crate::disk;
use crate::error::{Attempt, Result, unexpected};
use crate::figure::{Bar, Figure, Scale};
use crate::product;
use crate::world::ZONE;
use std::time::Duration;

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// Names of the zone that the servers are compared with.
const NAMES: usize = 10;
const RUN_MILLIS: usize = 2_000;
const RUN_MILLIS_MIN: usize = 100;
const WARM_UP: Duration = Duration::from_millis(200);
/// Valid runs of each server.
const RUNS: usize = 5;
/// With fewer it is not measured.
const RUNS_MIN: usize = 3;
/// Rounds, at most, until there are as many.
const ROUNDS_MAX: usize = 20;
/// A run counts when the server had so much of its core.
const BUSY: f64 = 0.93;
/// Names of the large zone.
const MANY: usize = 100_000;
const MANY_MIN: usize = 2_000;
/// Questions a second instead of half of what the server can, where others have its core, too: a queue holds some hundreds.
const LEISURELY: f64 = 2_000.0;
const JUNK_MILLIS: usize = 60_000;
/// So many times as much junk is offered as can be answered of it, so that what waits for the server is always as much as there is room for.
const JUNK_FACTOR: f64 = 1.1;

const COST_RATIO_MAX: f64 = 1.15;
const P99_MS_MAX: f64 = 2.0;
const MEMORY_MIB_MAX: f64 = 12.0;
const MANY_RATIO_MIN: f64 = 0.9;
const JUNK_MIB_MAX: f64 = 16.0;
const KNOWN_MIN: f64 = 0.8;

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    if std::thread::available_parallelism().map_or(1, usize::from) <= LOAD_CORE {
        return unexpected("server and load need a core each: this machine has one");
    }
    // Whatever is started from here on inherits it.
    keep_to(SERVER_CORE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.attempt("start the runtime")?.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("dns-qps", scale);
    let scratch = disk::scratch()?;
    let binary = product::binary()?;
    let servers = [
        Server::drover(&binary, scratch.path(), NAMES).await?,
        Server::gdnsd(scratch.path(), NAMES).await?,
        Server::knot(scratch.path(), NAMES).await?,
    ];
    let length = Duration::from_millis(scale.of(RUN_MILLIS, RUN_MILLIS_MIN) as u64);
    let idle = servers[0].role.memory_mib("RssAnon")?;
    let rate = compare(&mut figure, &servers, length, scale)?;
    let half = if scale.is_full() { rate / 2.0 } else { LEISURELY };
    at_half_load(&mut figure, &servers, half, length, scale)?;
    let after = servers[0].role.memory_mib("RssAnon")?;
    figure.bar(
        "private memory above that of an idle drover",
        after - idle,
        "MiB",
        Bar::AtMost(MEMORY_MIB_MAX),
    );
    figure.told("private memory of an idle drover", idle, "MiB");
    let [drover, ..] = servers;
    junk(&mut figure, &drover, length, Duration::from_millis(scale.of(JUNK_MILLIS, 500) as u64))?;
    let directory = scratch.path().join("many");
    std::fs::create_dir_all(&directory).attempt("make a directory")?;
    let many = scale.of(MANY, MANY_MIN);
    let large = Server::drover(&binary, &directory, many).await?;
    many_names(&mut figure, &drover, &large, many, length, scale)?;
    Ok(figure)
}

/// One run of one server.
struct Run {
    counted: Counted,
    /// Of the server, a query.
    microseconds: f64,
    /// Share of its core that the server had.
    busy: f64,
}

fn run(server: &Server, questions: &[Vec<u8>], code: u8, length: Duration) -> Result<Run> {
    let address = server.address;
    on_load_core(|| Load::new(address, questions, code)?.saturate(WARM_UP).map(drop))?;
    let before = server.role.threads()?;
    let counted = on_load_core(|| Load::new(address, questions, code)?.saturate(length))?;
    let used = server.role.threads()?.since(&before).as_secs_f64();
    let microseconds = used * 1e6 / (counted.good.max(1) as f64);
    Ok(Run { counted, microseconds, busy: used / counted.seconds })
}

/// Runs it on the load's core, on a thread of its own.
fn on_load_core<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            keep_to(LOAD_CORE)?;
            work()
        });
        thread.join().unwrap_or_else(|_| unexpected("the load broke off"))
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
}

/// Gives drover's rate.
fn compare(figure: &mut Figure, servers: &[Server; 3], length: Duration, scale: Scale) -> Result<f64> {
    let questions: Vec<Vec<u8>> = (0..NAMES).map(|n| question(&name(n))).collect::<Result<_>>()?;
    let mut valid: [Vec<Run>; 3] = Default::default();
    let (mut lost, mut bad) = (0, 0);
    for _ in 0..ROUNDS_MAX {
        for (server, runs) in servers.iter().zip(&mut valid) {
            let run = run(server, &questions, NOERROR, length)?;
            if run.busy >= BUSY || !scale.is_full() {
                (lost, bad) = (lost + run.counted.lost, bad + run.counted.bad);
                runs.push(run);
            }
        }
        if valid.iter().all(|runs| runs.len() >= if scale.is_full() { RUNS } else { 1 }) {
            break;
        }
    }
    let fewest = valid.iter().map(Vec::len).min().unwrap_or_default();
    if scale.is_full() && fewest < RUNS_MIN {
        return unexpected(format!(
            "each server must have {:.0} % of its core in {RUNS_MIN} runs, and one had it in {fewest} of {ROUNDS_MAX}: this machine \
             does something else",
            BUSY * 100.0
        ));
    }
    figure.check("every question had its answer", lost + bad == 0, format!("{lost} lost, {bad} wrong"));
    let cost = |runs: &[Run]| median(runs.iter().map(|run| run.microseconds).collect());
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.counted.rate()).collect());
    let [drover, others @ ..] = &valid;
    for (server, runs) in servers[1..].iter().zip(others) {
        let what = format!("processor time a query, beside {}'s", server.name);
        let from = format!("{COST_RATIO_MAX} × {:.2} µs", cost(runs));
        figure.bar_from(what, cost(drover) / cost(runs), "×", Bar::AtMost(COST_RATIO_MAX), from);
    }
    for (server, runs) in servers.iter().zip(&valid) {
        figure.told(format!("{}: processor time a query", server.name), cost(runs), "µs");
        figure.told(format!("{}: queries a second on one core", server.name), rate(runs), "/s");
    }
    Ok(rate(drover))
}

fn at_half_load(
    figure: &mut Figure,
    servers: &[Server; 3],
    rate: f64,
    length: Duration,
    scale: Scale,
) -> Result<()> {
    let questions: Vec<Vec<u8>> = (0..NAMES).map(|n| question(&name(n))).collect::<Result<_>>()?;
    let mut p99s: [Vec<f64>; 3] = Default::default();
    let (mut lost, mut bad, mut good) = (0, 0, 0);
    for _ in 0..if scale.is_full() { RUNS } else { 1 } {
        for (server, p99s) in servers.iter().zip(&mut p99s) {
            let address = server.address;
            let (counted, samples) =
                on_load_core(|| Load::new(address, &questions, NOERROR)?.keep_rate(rate, length, true))?;
            p99s.push(samples.percentile_ms(99.0));
            if server.name == "drover" {
                (lost, bad, good) = (lost + counted.lost, bad + counted.bad, good + counted.good);
            }
        }
    }
    figure.check("at half load, too", lost + bad == 0, format!("{lost} lost, {bad} wrong of {good}"));
    for (server, p99s) in servers.iter().zip(p99s) {
        let what = format!("{}: 99 % at half of drover's rate, median of the runs", server.name);
        let p99 = median(p99s);
        if server.name == "drover" {
            figure.bar(what, p99, "ms", Bar::AtMost(P99_MS_MAX));
        } else {
            figure.told(what, p99, "ms");
        }
    }
    Ok(())
}

/// Names that are not there, at more than the server can answer; and one client that asks for one that is.
fn junk(figure: &mut Figure, server: &Server, run_length: Duration, length: Duration) -> Result<()> {
    let junk: Vec<Vec<u8>> =
        (0..50_000).map(|n| question(&format!("x{n}-{:x}.{ZONE}", n * 7_919))).collect::<Result<_>>()?;
    let (before, address) = (server.role.memory_mib("RssAnon")?, server.address);
    // "No such name" is a longer answer, and costs more.
    let rate = run(server, &junk, NXDOMAIN, run_length)?.counted.rate() * JUNK_FACTOR;
    let known = question(&name(0))?;
    let (flooded, answered) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            keep_to(LOAD_CORE)?;
            load::share_answered(address, &known, length)
        });
        let (flooded, _) =
            on_load_core(|| Load::new(address, &junk, NXDOMAIN)?.keep_rate(rate, length, false))?;
        let answered = client.join().unwrap_or_else(|_| unexpected("the known client broke off"))?;
        Ok((flooded, answered))
    })?;
    let grown = server.role.memory_mib("RssAnon")? - before;
    figure.bar("memory that a minute of junk adds", grown, "MiB", Bar::AtMost(JUNK_MIB_MAX));
    figure.bar(
        "share of a known client's questions that are answered meanwhile",
        answered,
        "",
        Bar::AtLeast(KNOWN_MIN),
    );
    figure.told("junk offered", (flooded.good + flooded.lost) as f64 / flooded.seconds, "/s");
    figure.told("junk answered", flooded.rate(), "/s");
    figure.check(
        "junk is told that there is no such name",
        flooded.good > 0 && flooded.bad == 0,
        format!("{flooded:?}"),
    );
    Ok(())
}

fn many_names(
    figure: &mut Figure,
    small: &Server,
    large: &Server,
    many: usize,
    length: Duration,
    scale: Scale,
) -> Result<()> {
    let few: Vec<Vec<u8>> = (0..NAMES).map(|n| question(&name(n))).collect::<Result<_>>()?;
    // In an order that no cache follows.
    let spread: Vec<Vec<u8>> = (0..many).map(|n| question(&name(n * 7_919 % many))).collect::<Result<_>>()?;
    let (mut of_small, mut of_large) = (vec![], vec![]);
    for _ in 0..if scale.is_full() { RUNS } else { 1 } {
        of_small.push(run(small, &few, NOERROR, length)?.counted.rate());
        of_large.push(run(large, &spread, NOERROR, length)?.counted.rate());
    }
    let ratio = median(of_large) / median(of_small);
    figure.bar(format!("rate with {many} names, beside {NAMES}"), ratio, "×", Bar::AtLeast(MANY_RATIO_MIN));
    figure.told(format!("private memory with {many} names"), large.role.memory_mib("RssAnon")?, "MiB");
    Ok(())
}
