//! `ingest`: reports at full rate through the real API into a coordinator of its own process.
//!
//! Every vantage sees every endpoint once a second, in reports of an allowed size, spread over the second. In each
//! round another half percent of what is seen fails once, and what failed in the round before is well again, so that
//! one percent changes. In the middle one endpoint dies for everybody.

use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::Installation;
use crate::vantage::Vantage;
use crate::world::Shape;
use drover_model::probe::REPORT_OBSERVATIONS_MAX;
use drover_model::{EndpointKey, Span};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// As many vantages as regions.
const REGIONS: usize = 10;
const SERVICES: usize = 1_000;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 60;
/// Enough for the endpoint that dies to be concluded about.
const ROUNDS_MIN: usize = 10;
/// Of so many observations one fails: with its recovery in the next round two change, one percent.
const FAILS_ONE_OF: usize = 200;
/// As the policy of these worlds has it.
const FAILURES: usize = 3;

const RATE_SHARE_MIN: f64 = 0.99;
const VERDICT_MS_MAX: f64 = 500.0;
const CORES_MAX: f64 = 1.0;
const MEMORY_MIB_MAX: f64 = 100.0;

/// Between two looks at the coordinator's log: an error that is small beside the bar.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A guard against hanging.
const VERDICT_WITHIN: Duration = Duration::from_secs(60);

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("ingest", scale);
    let services = scale.of(SERVICES, 10);
    let rounds = scale.of(ROUNDS, ROUNDS_MIN);
    let shape = Shape { regions: REGIONS, services, interval: Span::from_duration(ROUND), dns: None };
    let world = Installation::start(&shape, |_| {})?;
    let mut vantages = world.vantages()?;
    world.become_well(&mut vantages).await?;
    let endpoints = Arc::new(world.endpoints());
    let dies = endpoints.get(endpoints.len() / 2).cloned();
    let dies = dies.ok_or_else(|| BenchError::Unexpected("a world without endpoints".into()))?;
    let play = Play { endpoints: endpoints.clone(), dies: dies.clone(), dies_in: rounds / 2, rounds };

    let (processor, logged) = (world.coordinator.processor()?, world.coordinator.logged()?);
    let began = Instant::now();
    let watching = watch(world.coordinator.log(), &dies);
    let mut playing = JoinSet::new();
    for (at, vantage) in vantages.into_iter().enumerate() {
        playing.spawn(play.clone().run(vantage, at, began));
    }
    let mut done = Vec::new();
    while let Some(ended) = playing.join_next().await {
        done.push(ended.attempt("play a vantage")??);
    }
    let took = began.elapsed();
    let cores = (world.coordinator.processor()? - processor).as_secs_f64() / took.as_secs_f64();
    let verdict_at = watching.await.attempt("watch the log")??;

    let wanted = (endpoints.len() * REGIONS) as f64 / ROUND.as_secs_f64();
    let sent: u64 = done.iter().map(|d| d.sent).sum();
    let rate = sent as f64 / took.as_secs_f64();
    figure.bar("observations a second", rate, "/s", Bar::AtLeast(wanted * RATE_SHARE_MIN));
    figure.told("for", took.as_secs_f64(), "s");
    let completed = completed(&done, &dies);
    let verdict_ms = verdict_at.saturating_duration_since(completed).as_secs_f64() * 1e3;
    figure.bar("from the completing report to the verdict", verdict_ms, "ms", Bar::AtMost(VERDICT_MS_MAX));
    figure.bar("coordinator, cores", cores, "cores", Bar::AtMost(CORES_MAX));
    let memory = world.coordinator.memory_peak_mib()?;
    figure.bar("coordinator, peak of its memory", memory, "MiB", Bar::AtMost(MEMORY_MIB_MAX));
    let counted: u64 = done.iter().map(|d| d.counted).sum();
    figure.check("every observation counted", counted == sent && sent > 0, format!("{counted} of {sent}"));
    let complaints = world.coordinator.complaints(logged)?;
    let first = complaints.first().cloned().unwrap_or_else(|| "no complaint".to_owned());
    figure.check("nothing was dropped or refused", complaints.is_empty(), first);
    Ok(figure)
}

/// When the report that completed the quorum left: the last failure that was needed of the last vantage that was.
fn completed(done: &[Done], dies: &EndpointKey) -> Instant {
    let outside = done.iter().filter(|d| d.vantage.region != dies.region);
    let mut held: Vec<Instant> = outside.filter_map(|d| d.held_failing_at).collect();
    held.sort_unstable();
    held.get((REGIONS - 1) / 2).copied().unwrap_or_else(Instant::now)
}

#[derive(Clone)]
struct Play {
    endpoints: Arc<Vec<EndpointKey>>,
    dies: EndpointKey,
    dies_in: usize,
    rounds: usize,
}

struct Done {
    vantage: Vantage,
    sent: u64,
    counted: u64,
    /// When its report with the last failure left that it takes to hold the endpoint failing.
    held_failing_at: Option<Instant>,
}

impl Play {
    /// One vantage for all rounds. Slots are absolute: a slow answer does not lower the rate for good.
    async fn run(self, vantage: Vantage, at: usize, began: Instant) -> Result<Done> {
        let mut done = Done { vantage, sent: 0, counted: 0, held_failing_at: None };
        let reports = self.endpoints.len().div_ceil(REPORT_OBSERVATIONS_MAX);
        for round in 0..self.rounds {
            for (number, some) in self.endpoints.chunks(REPORT_OBSERVATIONS_MAX).enumerate() {
                let slot = (number as f64 + at as f64 / REGIONS as f64) / reports as f64;
                let due = began + ROUND.mul_f64(round as f64 + slot);
                tokio::time::sleep_until(due.into()).await;
                let first = number * REPORT_OBSERVATIONS_MAX;
                let seen = some.iter().enumerate().map(|(n, e)| (e, self.is_good(round, at, first + n, e)));
                let report = done.vantage.report(seen);
                let body = serde_json::to_vec(&report).attempt("write a report")?;
                let (left, ack) = done.vantage.post(body).await?;
                done.sent += some.len() as u64;
                done.counted += u64::from(ack.accepted);
                if round + 1 == self.dies_in + FAILURES && some.contains(&self.dies) {
                    done.held_failing_at = Some(left);
                }
            }
        }
        Ok(done)
    }

    fn is_good(&self, round: usize, vantage: usize, number: usize, endpoint: &EndpointKey) -> bool {
        let dead = round >= self.dies_in && *endpoint == self.dies;
        // Each round another slice, and another one for each vantage, so that no two fail the same endpoint.
        let slice = (number + round + vantage * (FAILS_ONE_OF / REGIONS)) % FAILS_ONE_OF;
        // The endpoint that dies is not among them, or its failures would not begin together.
        !dead && (slice != 0 || *endpoint == self.dies)
    }
}

/// Reads the coordinator's log from here on until it tells that the endpoint is down; says when.
fn watch(log: &Path, endpoint: &EndpointKey) -> tokio::task::JoinHandle<Result<Instant>> {
    let (log, endpoint) = (log.to_owned(), format!("\"endpoint\":\"{endpoint}\""));
    tokio::task::spawn_blocking(move || {
        let what = || format!("read {}", log.display());
        let mut file = std::fs::File::open(&log).attempt(what())?;
        file.seek(SeekFrom::End(0)).attempt(what())?;
        let (mut text, began) = (String::new(), Instant::now());
        loop {
            file.read_to_string(&mut text).attempt(what())?;
            let now = Instant::now();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let told = |l: &str| l.contains(&endpoint) && l.contains("\"verdict\":\"down\"");
            if text[..whole].lines().any(told) {
                return Ok(now);
            }
            text.drain(..whole);
            if began.elapsed() > ROUND * u32::try_from(ROUNDS).unwrap_or(u32::MAX) + VERDICT_WITHIN {
                return Err(BenchError::Unexpected("the endpoint that died was never held down".into()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })
}
