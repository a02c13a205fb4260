//! Three regions in networks of their own, whose links are cut, delayed and lossy, and whose processes are stopped and
//! killed, by schedules that are drawn from seeds; and a judge of what clients, coordinators, DNS servers and databases said meanwhile.
//! docs/testing.md says how to run more of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of this is test code, also the helpers that clippy does not recognise as such"
)]

mod dataset;
mod fabric;
mod history;
#[path = "../e2e/network.rs"]
#[allow(dead_code, reason = "its other half is for tests in one network")]
mod network;
mod place;
mod process;
mod records;
mod rest;
mod run;
mod schedule;
mod site;
mod watch;
#[path = "../e2e/wire.rs"]
#[allow(dead_code, reason = "its other half is for tests on loopback")]
mod wire;

use run::World;
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// Different schedules that there are, by seeds from 1.
const SEEDS: u64 = 30;
/// Those that every run of the tests plays.
const SEEDS_USUAL: u64 = 10;

/// A number that somebody set.
fn set(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is `{value}`, not a number")))
}

/// Which seeds: one, or the first so many.
fn chosen() -> RangeInclusive<u64> {
    match set("DROVER_PARTITION_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=set("DROVER_PARTITION_SCHEDULES").unwrap_or(SEEDS_USUAL),
    }
}

/// What came of all schedules so far.
#[derive(Default)]
struct Tally {
    takeovers: usize,
    failovers: usize,
    moves: usize,
    failed: Vec<u64>,
}

/// Plays what nobody else has taken yet, in a world of its own. Each schedule is judged on its own; a world that did not come
/// to rest is nobody's beginning.
fn play(waiting: &Mutex<impl Iterator<Item = (u64, u64)>>, tally: &Mutex<Tally>) {
    let mut world = None::<World>;
    loop {
        let Some((round, seed)) = waiting.lock().unwrap().next() else { return };
        let verdict = world.get_or_insert_with(World::start).play(seed);
        let mut tally = tally.lock().unwrap();
        println!("round {round}, {verdict}");
        tally.takeovers += verdict.takeovers;
        tally.failovers += verdict.failovers;
        tally.moves += usize::from(verdict.is_moved);
        if !verdict.is_good() {
            let kept = world.take().map(World::keep).unwrap_or_default();
            println!("  kept: {}", kept.display());
            println!("  again: DROVER_PARTITION_SEED={seed} tests/run partition");
            tally.failed.push(seed);
        }
    }
}

#[test]
fn no_schedule_leaves_a_mark() {
    network::is_needed();
    let rounds = 1..=set("DROVER_PARTITION_ROUNDS").unwrap_or(1);
    let waiting = Mutex::new(rounds.flat_map(|round| chosen().map(move |seed| (round, seed))));
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|s| {
        for _ in 0..set("DROVER_PARTITION_WORLDS").unwrap_or(1) {
            s.spawn(|| play(&waiting, &tally));
        }
    });
    let Tally { takeovers, failovers, moves, failed } = tally.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds {failed:?}");
    // Faults that make nobody act prove nothing. One seed alone may well be such.
    let are_few = chosen().end() - chosen().start() + 1 < SEEDS_USUAL;
    let is_enough = are_few || (takeovers > 0 && failovers > 0 && moves > 0);
    assert!(is_enough, "{takeovers} takeovers, {failovers} failovers, {moves} moves of the dataset");
}
