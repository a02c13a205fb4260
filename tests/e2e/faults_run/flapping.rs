//! An endpoint that keeps changing its mind (item 7): out at once, back slowly and more slowly each time, and every change
//! of traffic counted.

use super::{generation, observations, seen};
use crate::world::{World, weights};
use drover_model::api::StatusView;
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use drover_model::{Span, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;

const ENDPOINT: &str = "checkout@eu-west";
/// Failures that condemn, and successes that absolve.
const FAILURES: u32 = 3;
const SUCCESSES: u32 = 8;

fn verdict(status: &StatusView) -> VerdictState {
    let service = status.services.iter().find(|s| s.name.as_str() == "checkout").unwrap();
    service.endpoints.iter().find(|e| e.region.as_str() == "eu-west").unwrap().verdict
}

/// The probes of the endpoint that each outside vantage reported, by when they were heard.
fn probes(w: &World) -> BTreeMap<String, Vec<(Timestamp, bool)>> {
    let mut all: BTreeMap<String, Vec<(Timestamp, bool)>> = BTreeMap::new();
    for seen in observations(w, ENDPOINT) {
        let vantage = seen.vantage.to_string();
        if vantage != "eu-west-1" {
            all.entry(vantage).or_default().push((seen.received_at, seen.outcome.is_good()));
        }
    }
    all.values_mut().for_each(|probes| probes.sort());
    all
}

/// The longest row of such results that a quorum of two vantages, each by itself, had just then.
fn row_of_two(probes: &BTreeMap<String, Vec<(Timestamp, bool)>>, good: bool, before: Timestamp) -> usize {
    let row = |probes: &Vec<(Timestamp, bool)>| {
        let until = probes.iter().filter(|(at, _)| *at <= before).rev();
        until.take_while(|(_, g)| *g == good).count()
    };
    let mut rows: Vec<usize> = probes.values().map(row).collect();
    rows.sort_unstable();
    rows[rows.len() - 2]
}

#[test]
fn a_flapping_endpoint_moves_traffic_once_and_is_believed_more_slowly_each_time() {
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.interval = Span::from_millis(500);
            service.failover.failure_threshold = FAILURES;
            service.failover.recovery_threshold = SUCCESSES;
        }
    });
    let before = generation(&w.status(), "checkout");
    let service = w.service("checkout", "eu-west");
    let fail = |is: bool| w.fault(&service, &json!({"errors": if is { "100%" } else { "0%" }}));

    fail(true);
    let down = w.until("it is down and left", |s| {
        verdict(s).moves_traffic() && weights(s, "checkout").contains(&("eu-west".into(), 0))
    });
    fail(false);
    let well = w.until("it is believed again", |s| verdict(s) == VerdictState::Healthy);
    let probes = probes(&w);
    // Two of the three vantages speak for each conclusion, so two of them had as many in a row.
    assert!(row_of_two(&probes, false, down.at) >= FAILURES as usize, "{probes:#?}");
    assert!(row_of_two(&probes, true, well.at) >= SUCCESSES as usize, "slower back than out: {probes:#?}");

    fail(true);
    w.until("it is down again", |s| verdict(s).moves_traffic());
    fail(false);
    let damped = w.until("it is well, and on probation", |s| {
        let region = s.regions.iter().find(|r| r.name.as_str() == "eu-west").unwrap();
        let decision = region.decision.as_deref().unwrap_or_default();
        verdict(s) == VerdictState::Unknown && decision.contains("2 changes lately; damped until")
    });
    let all_good = seen(&w, ENDPOINT).outside.iter().all(|o| !o.last_probe_failed);
    assert!(all_good, "nobody sees it failing, and it is not believed yet");
    let told = w.explain(ENDPOINT).history.iter().any(|h| h.code == "flap_damping");
    assert!(told, "explain remembers why");

    // Down, up, down, up: one change of traffic, by one run.
    assert_eq!(generation(&damped, "checkout"), before + 1);
    let well = w.until("its probation is over, and the run", |s| {
        verdict(s) == VerdictState::Healthy && s.runs.iter().all(|r| r.state.is_final())
    });
    assert_eq!(generation(&well, "checkout"), before + 1);
    let runs: Vec<RunState> = well.runs.iter().map(|r| r.state).collect();
    assert_eq!(runs, [RunState::Succeeded], "{:#?}", well.runs);
}
