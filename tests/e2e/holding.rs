//! What moves no traffic, and how drover says why.

use crate::vantage::{Play, Played};
use crate::world::{REGIONS, World, all_serve};
use drover_model::api::{StatusView, VantageView};
use drover_model::decision::{OpinionState, VantageState, VerdictState};
use drover_model::journal::RunState;
use nix::sys::signal::Signal;
use serde_json::json;

fn vantage<'a>(status: &'a StatusView, name: &str) -> &'a VantageView {
    status.vantages.iter().find(|v| v.agent.as_str() == name).unwrap()
}

fn verdicts(status: &StatusView, region: &str) -> Vec<VerdictState> {
    let endpoints = status.services.iter().flat_map(|s| &s.endpoints);
    endpoints.filter(|e| e.region.as_str() == region).map(|e| e.verdict).collect()
}

fn quiet(status: &StatusView) -> bool {
    status.runs.is_empty() && all_serve(status)
}

const ONE_OF_THREE: &str = "not failing over eu-west: 1 of 3 outside vantages agree, 2 needed";

#[test]
fn one_lying_vantage() {
    let w = World::up();
    let _liar = Played::start(&w, "us-east-1", "eu-west", Play::Lying);
    w.until("the liar is heard", |s| verdicts(s, "eu-west") == [VerdictState::Partitioned; 2]);
    w.stays("nothing moves", quiet);
    assert_eq!(w.explain("eu-west").sentence, ONE_OF_THREE);
    let told = w.drover(&["explain", "eu-west"]).expect_code(0);
    assert!(told.stdout.contains("1 of 3 outside vantages agree, 2 needed"), "{}", told.stdout);
    assert_eq!(w.answered("checkout"), REGIONS);
}

#[test]
fn a_silent_agent() {
    let w = World::up();
    w.agent("us-east-1").signal(Signal::SIGSTOP);
    w.until("its silence is noticed", |s| vantage(s, "us-east-1").state == VantageState::Silent);
    w.stays("nothing moves", quiet);
    let status = w.status();
    let region = status.regions.iter().find(|r| r.name.as_str() == "eu-west").unwrap();
    assert_eq!(
        (region.quorum.configured, region.quorum.able, region.quorum.need),
        (3, 2, 2),
        "said beforehand"
    );
    assert!(status.attention.iter().any(|a| a.subject.contains("us-east-1")), "{:?}", status.attention);
    let explained = w.explain("checkout@eu-west");
    let outside = &explained.endpoints[0].inputs.outside;
    let silent = outside.iter().find(|o| o.vantage.as_str() == "us-east-1").unwrap();
    assert_eq!(
        (silent.vantage_state, outside.len()),
        (VantageState::Silent, 3),
        "it stays in the denominator"
    );
}

/// The coordinator neither hears a region's agent nor reaches its services, which are well: all other vantages see them.
#[test]
fn a_coordinator_cut_off_from_a_healthy_region() {
    let w = World::up();
    // Whatever does not bind an address of its own, as the coordinator, comes from here.
    let coordinator = "127.0.0.1";
    for service in ["checkout", "catalog"] {
        w.fault(&w.service(service, "eu-west"), &json!({"dropped": [coordinator]}));
    }
    w.agent("eu-west-1").signal(Signal::SIGSTOP);
    w.until("the region is not heard", |s| vantage(s, "eu-west-1").state == VantageState::Silent);
    w.stays("nothing moves", quiet);
    assert_eq!(verdicts(&w.status(), "eu-west"), [VerdictState::Healthy; 2]);
    let explained = w.explain("eu-west");
    for endpoint in &explained.endpoints {
        assert!(endpoint.inputs.inside.iter().all(|o| !o.vantage_state.counts()), "{endpoint:?}");
        assert!(endpoint.inputs.outside.iter().all(|o| o.state == OpinionState::Healthy), "{endpoint:?}");
    }
    assert_eq!(w.answered("checkout"), REGIONS);
}

#[test]
fn all_regions_at_once() {
    let w = World::up();
    let services = ["checkout", "catalog"].map(|s| REGIONS.map(|r| w.service(s, r)));
    services.iter().flatten().for_each(|p| p.signal(Signal::SIGKILL));
    for region in REGIONS {
        w.until_explained(region, "common_cause");
    }
    w.stays("drover asks at most, and weights stay", |s| {
        all_serve(s) && s.runs.iter().all(|r| r.state == RunState::AwaitingApproval)
    });
    assert_eq!(w.answered("checkout"), REGIONS, "the last good answer stays");
    assert!(!w.status().attention.is_empty());
}

#[test]
fn a_blind_vantage_beside_one_cut_link() {
    let w = World::up();
    let source = |region: &str| {
        let region = w.config.regions.values().find(|r| r.name.as_str() == region).unwrap();
        region.agents[0].source_address.unwrap()
    };
    let (blind, cut) = (source("us-east"), source("ap-south"));
    for service in ["checkout", "catalog"] {
        w.fault(&w.service(service, "eu-west"), &json!({"dropped": [blind, cut]}));
        w.fault(&w.service(service, "ap-south"), &json!({"dropped": [blind]}));
    }
    w.fault(&w.references(), &json!({"dropped": [blind]}));
    w.until("one is blind and the other cut off", |s| {
        vantage(s, "us-east-1").state == VantageState::Blind
            && verdicts(s, "eu-west") == [VerdictState::Partitioned; 2]
    });
    w.stays("nothing moves", quiet);
    assert_eq!(w.explain("eu-west").sentence, ONE_OF_THREE);
}

/// Two say that the region fails, which would be a quorum; but the clock of one of them is an hour ahead.
#[test]
fn an_agent_that_reports_the_future() {
    let w = World::up();
    let _liar = Played::start(&w, "ap-south-1", "eu-west", Play::Lying);
    let _ahead = Played::start(&w, "us-east-1", "eu-west", Play::Ahead);
    w.until("its clock is noticed", |s| vantage(s, "us-east-1").state == VantageState::Skewed);
    w.until("the other one is heard", |s| verdicts(s, "eu-west") == [VerdictState::Partitioned; 2]);
    w.stays("nothing moves", quiet);
    let explained = w.explain("eu-west");
    assert_eq!(explained.sentence, ONE_OF_THREE);
    let opinion = explained.endpoints[0].inputs.outside.iter().find(|o| o.vantage.as_str() == "us-east-1");
    assert_eq!(opinion.unwrap().vantage_state, VantageState::Skewed);
}

/// Two are said to see it fail; but what one of them is said to see are its old reports, sent again.
#[test]
fn an_agent_whose_reports_are_replayed() {
    let w = World::up();
    let _liar = Played::start(&w, "ap-south-1", "eu-west", Play::Lying);
    let _replayed = Played::start(&w, "us-east-1", "eu-west", Play::Replaying);
    w.until("the replay is noticed", |s| vantage(s, "us-east-1").replayed > 100);
    w.until("the other one is heard", |s| verdicts(s, "eu-west") == [VerdictState::Partitioned; 2]);
    w.stays("nothing moves", quiet);
    let explained = w.explain("eu-west");
    assert_eq!(explained.sentence, ONE_OF_THREE);
    let opinion = explained.endpoints[0].inputs.outside.iter().find(|o| o.vantage.as_str() == "us-east-1");
    assert_eq!(opinion.unwrap().state, OpinionState::Healthy);
}
