//! Random worlds with random faults: nothing that must never happen happens in any, each comes to rest, and enough happens
//! in all of them together for that to mean something.
//!
//! `DROVER_SIM_SEEDS` is how many, `DROVER_SIM_FIRST` the first of them.
//! `DROVER_SIM_SEED` plays one, and prints what happens in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(clippy::print_stdout, reason = "what a test prints is read when it fails")]

mod common;

use common::{number, runbooks};
use drover_sim::WorldFiles;
use drover_sim::seeds::{Coverage, Fault, Played, Story, play, shrink, story};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds that found something once: they are played for ever. A number a line, and what it showed.
const REGRESSIONS: &str = include_str!("regressions.txt");
/// As many as two cores play in little more than a minute, built as the tests are.
const SEEDS: u64 = 5_000;
/// The same ones each time, so that what a change breaks is seen with that change; `tests/soak` draws others.
const FIRST: u64 = 1;
/// After so many that are broken no more are played.
const BROKEN_MAX: usize = 10;
/// Bounds on shares of so few stories would hold or not by chance.
const COVERAGE_MIN: u64 = 300;

/// The shortest story that breaks the same, as whoever mends it needs it.
fn told(files: &WorldFiles, broken: &Story) -> String {
    let (story, played) = shrink(files, broken).unwrap();
    let faults: Vec<String> =
        story.faults.iter().map(|f| format!("{:>8} {}", f.at.to_string(), f.verb)).collect();
    format!(
        "seed {}\n{}\n\n{} of {} faults are needed:\n{}\n\nin the world\n{}\n\nwhat happens:\n{}\n\nagain: DROVER_SIM_SEED={} \
         cargo test -p drover-sim --test stories one_seed -- --nocapture",
        story.seed,
        played.violations.join("\n"),
        story.faults.len(),
        broken.faults.len(),
        faults.join("\n"),
        story.world,
        played.trace.join("\n"),
        story.seed
    )
}

#[test]
fn no_seed_breaks_an_invariant_and_each_world_comes_to_rest() {
    let files = runbooks();
    let seeds = number("DROVER_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("DROVER_SIM_FIRST").unwrap_or(FIRST);
    println!("{seeds} seeds from DROVER_SIM_FIRST={first}");
    let next = AtomicU64::new(first);
    let all = Mutex::new((Coverage::default(), 0.0, vec![]));
    let (began, threads) = (Instant::now(), std::thread::available_parallelism().unwrap().get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || all.lock().unwrap().2.len() >= BROKEN_MAX {
                        return;
                    }
                    let story = story(seed);
                    let played =
                        play(&files, &story).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", story.world));
                    let mut all = all.lock().unwrap();
                    all.0.add(&played.seen);
                    all.1 += played.lasted.as_secs_f64() / 3_600.0;
                    if !played.violations.is_empty() {
                        println!("seed {seed}: {}", played.violations[0]);
                        all.2.push(story);
                    }
                }
            });
        }
    });
    let (coverage, hours, broken) = all.into_inner().unwrap();
    if let Some(story) = broken.first() {
        panic!("{}", told(&files, story));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{hours:.0} world-hours in {seconds:.0} s on {threads} threads: {:.2} world-hours a second and thread",
        hours / seconds / threads as f64
    );
    println!("{}", coverage.lines().join("\n"));
    if seeds >= COVERAGE_MIN {
        assert_eq!(
            coverage.shortfalls().iter().map(ToString::to_string).collect::<Vec<_>>(),
            Vec::<String>::new()
        );
    }
}

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    let files = runbooks();
    for line in REGRESSIONS.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        let story = story(seed);
        let played = play(&files, &story).unwrap();
        assert!(played.violations.is_empty(), "{line}\n{}", told(&files, &story));
    }
}

#[test]
fn one_seed_is_one_story_told_the_same_every_time() {
    let files = runbooks();
    for seed in number("DROVER_SIM_SEED").map_or(1..=5, |seed| seed..=seed) {
        let story = story(seed);
        let [once, again]: [Played; 2] = [0, 1].map(|_| play(&files, &story).unwrap());
        if number("DROVER_SIM_SEED").is_some() {
            println!("{}\n{}", story.world, once.trace.join("\n"));
            println!("{:?}\nviolations: {:?}", once.seen, once.violations);
        }
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!(once.digest, again.digest, "seed {seed}");
    }
}

#[test]
fn a_broken_story_is_told_with_the_faults_that_it_needs_alone() {
    let files = runbooks();
    let mut broken = story(1);
    let last = broken.faults.last().unwrap().at;
    broken.faults.push(Fault { at: last, verb: "break nothing-of-that-name".into() });
    let (short, played) = shrink(&files, &broken).unwrap();
    assert_eq!(short.faults.len(), 1, "{short:?}");
    let expected = ["story: `break nothing-of-that-name` can't be played: no region nothing-of-that-name"];
    assert_eq!(played.violations, expected);
}
