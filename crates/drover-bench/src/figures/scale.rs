//! `scale`: what grows with the world and what must not.
//!
//! The same code as in the coordinator's process, without sockets: reports are taken in, every endpoint is judged, a
//! world is put together and decided about. The small world is the peer of the large one.

use crate::disk;
use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::installation::write_config;
use crate::product::memory_mib;
use crate::samples::Samples;
use crate::vantage::Vantage;
use crate::world::{self, Shape};
use drover_coordinator::config_dir::ConfigDir;
use drover_coordinator::{Coordinator, Options};
use drover_core::decide;
use drover_model::probe::REPORT_OBSERVATIONS_MAX;
use drover_model::{EndpointKey, Span};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// As many vantages as regions.
const REGIONS: usize = 10;
const SMALL: usize = 1_000;
const LARGE: usize = 100_000;
/// Observations whose cost is measured, in each world.
const OBSERVATIONS: usize = 1_000_000;
const CYCLES: usize = 20;

/// The heap's free pieces are used up when the process has grown by so much, block by block.
const BALLAST_MIB: f64 = 32.0;
/// Smaller than a tree's node, so that no free piece is left that one would fit in.
const BALLAST_BLOCK: usize = 512;
const BALLAST_BLOCKS: usize = 4_096;

const RATIO_MAX: f64 = 1.3;
const CYCLE_MS_MAX: f64 = 100.0;
const BYTES_MAX: f64 = 512.0;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("scale", scale);
    let count = scale.of(OBSERVATIONS, REPORT_OBSERVATIONS_MAX * 2);
    let mut small = Inside::open(SMALL).await?;
    small.see_all()?;
    let small_ns = small.observe(count)?;
    small.close().await;

    let mut large = Inside::open(scale.of(LARGE, SMALL * 2)).await?;
    let ballast = ballast()?;
    let before = memory_mib("self", "VmRSS")?;
    large.see_all()?;
    let began = Instant::now();
    large.coordinator.judge_all();
    let all_at_once = began.elapsed();
    let pairs = (large.endpoints.len() * large.vantages.len()) as f64;
    let bytes = (memory_mib("self", "VmRSS")? - before) * f64::from(1 << 20) / pairs;
    drop(ballast);
    let large_ns = large.observe(count)?;

    let what = |n: usize| format!("an unchanged observation of {n} endpoints");
    figure.told(format!("peer: {}", what(SMALL)), small_ns / 1e3, "µs");
    figure.bar_from(
        what(large.endpoints.len()),
        large_ns / 1e3,
        "µs",
        Bar::AtMost(RATIO_MAX * small_ns / 1e3),
        format!("{RATIO_MAX} × the small world's"),
    );
    large.decide(&mut figure, scale.of(CYCLES, 2));
    let what = "judging every endpoint at once, as after a start or when a vantage falls silent";
    figure.told(what, all_at_once.as_secs_f64() * 1e3, "ms");
    figure.bar("memory a (vantage, endpoint)", bytes, "bytes", Bar::AtMost(BYTES_MAX));
    figure.check(
        "every observation counted",
        large.counted == large.sent && large.sent > 0,
        format!("{} of {}", large.counted, large.sent),
    );
    large.close().await;
    Ok(figure)
}

/// Holds what the heap has free, so that all that is kept from now on makes the process larger.
fn ballast() -> Result<Vec<Box<[u8]>>> {
    let mut held: Vec<Box<[u8]>> = Vec::new();
    let before = memory_mib("self", "VmRSS")?;
    while memory_mib("self", "VmRSS")? < before + BALLAST_MIB {
        held.extend(
            std::iter::repeat_with(|| vec![1; BALLAST_BLOCK].into_boxed_slice()).take(BALLAST_BLOCKS),
        );
    }
    Ok(held)
}

/// A coordinator in this process, with its vantages.
struct Inside {
    coordinator: Arc<Coordinator>,
    vantages: Vec<Vantage>,
    endpoints: Vec<EndpointKey>,
    sent: u64,
    counted: u64,
    stop: CancellationToken,
    tasks: TaskTracker,
    _directory: TempDir,
}

impl Inside {
    async fn open(endpoints: usize) -> Result<Self> {
        let directory = disk::scratch()?;
        let shape = Shape {
            regions: REGIONS,
            services: endpoints / REGIONS,
            interval: Span::from_mins(5),
            dns: Some(world::unasked_dns()),
        };
        let config = shape.config()?;
        let at = directory.path().join("config");
        write_config(&at, &config)?;
        let options = Options {
            config: ConfigDir { config: at, runbooks: None },
            state_directory: directory.path().join("state"),
            listen: None,
            launcher: Vec::new(), // No runbook here starts a program.
            tls: None,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let opened = Coordinator::open(options, stop.clone(), tasks.clone()).await;
        let coordinator = opened.attempt(format!("open a coordinator of {endpoints} endpoints"))?;
        let nowhere = "http://127.0.0.1:9";
        let http = crate::installation::client()?;
        let agents = config.agents().into_iter();
        Ok(Self {
            coordinator,
            vantages: agents.map(|(a, r)| Vantage::new(a, r, nowhere, http.clone())).collect(),
            endpoints: config
                .services
                .values()
                .flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)))
                .collect(),
            sent: 0,
            counted: 0,
            stop,
            tasks,
            _directory: directory,
        })
    }

    /// Every vantage sees every endpoint well, once.
    fn see_all(&mut self) -> Result<()> {
        let pairs = self.endpoints.len() * self.vantages.len();
        self.observe(pairs).map(|_| ())
    }

    /// Takes at least `count` observations in, vantage by vantage; gives the median cost of one, in nanoseconds.
    fn observe(&mut self, count: usize) -> Result<f64> {
        let mut samples = Samples::new();
        let (mut done, mut largest) = (0, 0);
        while done < count {
            for vantage in &mut self.vantages {
                for some in self.endpoints.chunks(REPORT_OBSERVATIONS_MAX) {
                    let report = vantage.report(some.iter().map(|e| (e, true)));
                    let began = Instant::now();
                    let ack = self.coordinator.ingest(&report);
                    samples.add(began.elapsed());
                    done += some.len();
                    largest = some.len().max(largest);
                    self.sent += some.len() as u64;
                    self.counted += u64::from(ack.accepted);
                }
            }
        }
        if largest == 0 {
            return Err(BenchError::Unexpected("a world without endpoints".into()));
        }
        Ok(samples.median_ms() * 1e6 / largest as f64)
    }

    /// What happens between a change and its decision, with everything there is looked at.
    fn decide(&self, figure: &mut Figure, cycles: usize) {
        let (mut whole, mut judging, mut seeing, mut deciding) =
            (Samples::new(), Samples::new(), Samples::new(), Samples::new());
        let mut open = 0;
        for _ in 0..cycles {
            let began = Instant::now();
            judging.time(|| self.coordinator.judge_all());
            let now = self.coordinator.clock.now();
            let world = seeing.time(|| self.coordinator.world(now));
            open = deciding.time(|| decide::decide(&world, now)).len();
            whole.add(began.elapsed());
        }
        let what = format!("a decision cycle over {} endpoints, median", self.endpoints.len());
        figure.bar(what, whole.median_ms(), "ms", Bar::AtMost(CYCLE_MS_MAX));
        figure.told("of that judging what may have changed", judging.median_ms(), "ms");
        figure.told("of that putting the world together", seeing.median_ms(), "ms");
        figure.told("of that deciding", deciding.median_ms(), "ms");
        figure.check(
            "nothing needs a decision in a world that is well",
            open == 0,
            format!("{open} decisions"),
        );
    }

    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
