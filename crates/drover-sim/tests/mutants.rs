//! Each rule is taken away in turn, and the random worlds must find that out: a check that finds nothing proves nothing.
//!
//! `DROVER_SIM_STARTS` says from how many seeds it is looked for, `DROVER_SIM_FIRST` is the first of them. The others lie so
//! far apart that no world is played twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(clippy::print_stdout, reason = "what a test prints is read when it fails")]

mod common;

use common::{number, runbooks};
use drover_sim::seeds::{play, play_without, story};
use drover_sim::{Planted, WorldFiles};
use std::sync::Mutex;

/// A mistake that survives so many worlds would survive a suite.
const SEEDS_MAX: u64 = 10_000;
const MEDIAN_MAX: u64 = 500;

/// The first world from `first` on in which its absence is found, counted from 1, and what is found.
fn found(files: &WorldFiles, rule: Planted, first: u64) -> Option<(u64, String)> {
    (first..first + SEEDS_MAX).find_map(|seed| {
        let played = play_without(files, &story(seed), rule).unwrap();
        let violation = played.violations.into_iter().find(|v| !v.starts_with("story:"))?;
        let with = play(files, &story(seed)).unwrap();
        assert_eq!(with.violations, Vec::<String>::new(), "seed {seed} without any mistake");
        Some((seed - first + 1, violation))
    })
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

#[test]
fn every_rule_is_missed_when_it_is_gone() {
    let files = runbooks();
    let (first, starts) = (number("DROVER_SIM_FIRST").unwrap_or(1), number("DROVER_SIM_STARTS").unwrap_or(1));
    let firsts: Vec<u64> = (0..starts).map(|n| first + n * SEEDS_MAX).collect();
    let jobs: Vec<(Planted, u64)> =
        Planted::ALL.into_iter().flat_map(|rule| firsts.iter().map(move |first| (rule, *first))).collect();
    let (left, results) = (Mutex::new(jobs), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let Some((rule, first)) = left.lock().unwrap().pop() else { return };
                    let result = found(&files, rule, first);
                    println!("{rule:21} from {first}: {result:?}");
                    results.lock().unwrap().push((rule, first, result));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let (mut all, mut survived) = (vec![], vec![]);
    for rule in Planted::ALL {
        let of_rule = || results.iter().filter(|(of, _, _)| *of == rule);
        let after: Vec<u64> = of_rule().filter_map(|(_, _, r)| Some(r.as_ref()?.0)).collect();
        survived.extend(of_rule().filter(|(_, _, r)| r.is_none()).map(|(_, first, _)| (rule, *first)));
        if let Some((_, _, Some((_, what)))) = of_rule().find(|(_, _, r)| r.is_some()) {
            println!("{rule:21} found after {after:?} seeds, median {}: {what}", median(after.clone()));
        }
        all.extend(after);
    }
    assert!(survived.is_empty(), "(rule, first seed) that {SEEDS_MAX} seeds do not miss: {survived:?}");
    let median = median(all);
    println!("median of all: {median} seeds");
    assert!(median <= MEDIAN_MAX, "median {median} seeds, {MEDIAN_MAX} at most");
}
