//! What a loss does to a configuration: what is played, and what is arithmetic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use drover_model::config::Config;
use drover_model::config::decode::{self, SourceFile};
use drover_model::{RegionId, Span};
use drover_sim::WorldFiles;
use drover_sim::what_if::{Answer, Question, Survival, ask, each_loss, survival};
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// One service of 300 requests a second in three regions of 250 each, and a witness.
const WORLD: &str = include_str!("../../../tests/scenarios/worlds/three-regions.yaml");

fn runbooks() -> WorldFiles {
    let book = |name: &str| {
        let path = Path::new(ROOT).join("runbooks").join(format!("{name}.yaml"));
        (name.to_owned(), std::fs::read_to_string(path).unwrap())
    };
    let runbooks = ["failover", "failback", "drain", "undrain"].map(book);
    WorldFiles { runbooks: runbooks.into_iter().collect(), ..WorldFiles::default() }
}

fn regions(names: &[&str]) -> Vec<RegionId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn killed(world: &str, names: &[&str]) -> Answer {
    let kill = regions(names);
    let question =
        Question { kill, at: Span::from_secs(30), lasts: Span::from_mins(10), ..Question::default() };
    let answer = ask(&runbooks(), world, &question).unwrap();
    assert_eq!(answer.violations, Vec::<String>::new());
    answer
}

fn config(world: &str) -> Config {
    decode::load(&[SourceFile::new("world", world)]).unwrap().config
}

fn lost(world: &str, names: &[&str]) -> Survival {
    survival(&config(world), &regions(names))
}

#[test]
fn one_region_is_left_and_the_recovery_time_is_told() {
    let answer = killed(WORLD, &["eu-west"]);
    let [service] = &answer.services[..] else { panic!("{:?}", answer.services) };
    let (moved, rta) = (service.moved_after.unwrap(), service.rta.unwrap());
    // Three probes of 30 s at the second vantage, and its time-out.
    assert!(Span::from_secs(60) <= moved && moved <= Span::from_secs(120), "{moved}");
    assert_eq!(rta, moved.plus(Span::from_secs(30)), "a TTL after DNS");
    let last = answer.traffic.last().unwrap();
    let shares: Vec<_> = last.regions.iter().map(|s| (s.weight, s.used_percent, s.lost)).collect();
    assert_eq!(shares, [(50, Some(60), false), (0, Some(0), true), (50, Some(60), false)]);
    assert!(answer.timeline.iter().any(|m| m.what.contains("failing over eu-west")), "{:?}", answer.timeline);
}

#[test]
fn two_regions_at_once_are_not_believed_and_the_answer_says_that_nothing_moved() {
    let answer = killed(WORLD, &["eu-west", "us-east"]);
    let [service] = &answer.services[..] else { panic!("{:?}", answer.services) };
    assert_eq!((service.affected, service.moved_after, service.rta), (true, None, None));
    assert!(answer.timeline.iter().any(|m| m.what.contains("vantages")), "{:?}", answer.timeline);
}

#[test]
fn a_partition_moves_nothing_and_affects_nobody() {
    let [a, b] = ["eu-west", "us-east"].map(|name| name.parse().unwrap());
    let question = Question {
        partition: vec![(a, b)],
        at: Span::from_secs(30),
        lasts: Span::from_mins(10),
        ..Question::default()
    };
    let answer = ask(&runbooks(), WORLD, &question).unwrap();
    assert!(answer.services.iter().all(|s| !s.affected && s.rta.is_none()), "{:?}", answer.services);
    assert_eq!(answer.traffic.len(), 1, "{:?}", answer.traffic);
    assert!(answer.timeline.iter().any(|m| m.what.contains("is partitioned")), "{:?}", answer.timeline);
}

#[test]
fn what_remains_carries_it_or_does_not() {
    let one = lost(WORLD, &["eu-west"]);
    assert!(one.survivable && one.within_headroom);
    assert_eq!(
        one.sentence,
        "losing eu-west is survivable: at most, ap-south would carry 60 % of what it can of checkout"
    );
    let two = lost(WORLD, &["eu-west", "us-east"]);
    assert!(!two.survivable);
    assert_eq!(
        two.sentence,
        "losing eu-west and us-east together is not survivable: ap-south would carry 120 % of what it can of checkout"
    );
    let all = lost(WORLD, &["ap-south", "eu-west", "us-east"]);
    assert_eq!(
        all.sentence,
        "losing ap-south, eu-west and us-east together is not survivable: no region is left that may serve checkout"
    );
    let tight = lost(&WORLD.replace("peak_load: 300rps", "peak_load: 480rps"), &["eu-west"]);
    assert!(tight.survivable && !tight.within_headroom, "{tight:?}");
    assert!(tight.sentence.contains("if a person says so: ap-south would carry 96 %"), "{}", tight.sentence);
    let unknown = lost(&WORLD.replace("peak_load: 300rps\n", ""), &["eu-west"]);
    assert!(!unknown.survivable && unknown.sentence.contains("checkout has no peak_load"), "{unknown:?}");
}

#[test]
fn traffic_goes_only_where_it_may() {
    let world = format!("{WORLD}failover: {{jurisdictions: [EU, US]}}\n");
    let left = lost(&world, &["eu-west"]);
    // A third stays in ap-south, which takes no more; us-east takes the other two.
    assert_eq!(
        left.tightest.as_ref().map(|t| (t.region.as_str(), t.used_percent)),
        Some(("us-east", 80)),
        "{left:?}"
    );
    let both = lost(&world, &["eu-west", "us-east"]);
    assert!(!both.survivable && both.sentence.contains("no region is left"), "{both:?}");
}

#[test]
fn every_loss_of_one_and_of_two_is_judged() {
    let all: Vec<(usize, bool)> =
        each_loss(&config(WORLD)).iter().map(|s| (s.lost.len(), s.survivable)).collect();
    assert_eq!(all, [(1, true), (1, true), (1, true), (2, false), (2, false), (2, false)]);
}
