//! `sim`: how much of a world's time the simulator plays in a second, with every invariant looked at after every event.
//!
//! The worlds are those of the seeds that the tests play: three regions that serve two services, and a witness, probed
//! every ten seconds, with at least five faults in ten minutes, and then as long as it takes to come to rest. On one
//! thread, since one world is one thread's and as many are played at once as there are cores.

use crate::error::{Attempt, Result};
use crate::figure::{Bar, Figure, Scale};
use drover_coordinator::config_dir::SHIPPED_RUNBOOKS;
use drover_sim::WorldFiles;
use drover_sim::seeds::{play, story};
use std::time::Instant;

const SEEDS: usize = 1_000;
const BAR_HOURS: f64 = 5.0;

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("sim", scale);
    let runbooks = SHIPPED_RUNBOOKS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let files = WorldFiles { runbooks: runbooks.collect(), ..WorldFiles::default() };
    let seeds = scale.of(SEEDS, 5) as u64;
    let (mut hours, mut violated, mut records) = (0.0, vec![], 0);
    let began = Instant::now();
    for seed in 0..seeds {
        let played = play(&files, &story(seed)).attempt(format!("play seed {seed}"))?;
        hours += played.lasted.as_secs_f64() / 3_600.0;
        records += played.trace.len();
        violated.extend(played.violations.first().map(|v| format!("seed {seed}: {v}")));
    }
    let seconds = began.elapsed().as_secs_f64();
    figure.bar(
        "played in a second of one core, all checks on",
        hours / seconds,
        "world-hours",
        Bar::AtLeast(BAR_HOURS),
    );
    figure.told("worlds in a second of one core", seeds as f64 / seconds, "1/s");
    figure.told("events told of a world, mean", records as f64 / seeds as f64, "lines");
    let found = violated.first().cloned().unwrap_or_else(|| format!("{seeds} seeds"));
    figure.check("nothing that must never happen happens", violated.is_empty(), found);
    let twice = [0, 1].map(|_| play(&files, &story(1)).map(|p| p.digest));
    let [once, again] = twice;
    let same = once.attempt("play seed 1")? == again.attempt("play seed 1 again")?;
    figure.check("a seed is told the same twice", same, "seed 1");
    Ok(figure)
}
