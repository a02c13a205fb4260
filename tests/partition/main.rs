//! Three regions in networks of their own, whose links are cut, delayed and lossy, and whose processes are stopped and
//! killed, by schedules that are drawn from seeds; and a judge of what clients, coordinators and DNS servers said meanwhile.
//! docs/testing.md says how to run more of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of this is test code, also the helpers that clippy does not recognise as such"
)]

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

#[test]
fn no_schedule_leaves_a_mark() {
    network::is_needed();
    let (mut world, mut failed) = (None::<World>, Vec::new());
    let (mut takeovers, mut failovers) = (0, 0);
    for round in 1..=set("DROVER_PARTITION_ROUNDS").unwrap_or(1) {
        for seed in chosen() {
            // Each is judged on its own; a world that did not come to rest is nobody's beginning.
            let verdict = world.get_or_insert_with(World::start).play(seed);
            println!("round {round}, {verdict}");
            takeovers += verdict.takeovers;
            failovers += verdict.failovers;
            if !verdict.is_good() {
                let kept = world.take().map(World::keep).unwrap_or_default();
                println!("  kept: {}", kept.display());
                println!("  again: DROVER_PARTITION_SEED={seed} tests/run partition");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?}");
    // Faults that make nobody act prove nothing. One seed alone may well be such.
    let are_few = chosen().end() - chosen().start() + 1 < SEEDS_USUAL;
    let is_enough = are_few || (takeovers > 0 && failovers > 0);
    assert!(is_enough, "{takeovers} takeovers and {failovers} failovers");
}
