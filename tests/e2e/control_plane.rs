//! The control plane of Route 53 is down, and a region dies: its health checks leave it out, and no more is said than that.

use crate::wire;
use crate::world::{REGIONS, Setup, World, weights};
use drover_model::Span;
use drover_model::api::{HealthChecksView, RegionStanding};
use drover_model::config::{Config, HealthChecks, StatusServer};
use drover_model::journal::RunState;
use serde_json::Value;
use std::net::SocketAddr;

/// A sample world in a hosted zone, whose agents serve status pages.
fn hosted() -> World {
    let words = vec!["--dns".into(), "route53".into()];
    // Where `tests/setup` has put moto.
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let w = World::start(Setup { words, variables: vec![("HOME", home)], ..Setup::default() });
    let page = |agent: drover_model::AgentId| {
        let file = w.files().join(format!("{agent}.state/status-pages.address"));
        StatusServer { url: format!("http://{}", std::fs::read_to_string(file).unwrap()), agent }
    };
    let status_servers: Vec<StatusServer> = w.config.agents().into_keys().map(page).collect();
    assert_eq!(status_servers.len(), 4);
    let checks = HealthChecks { status_servers, interval: Span::from_secs(10), failure_threshold: 1 };
    w.edit(|config| {
        let dns = config.settings.dns.as_mut().unwrap();
        let drover_model::config::DnsServers::Route53(zone) = &mut dns.servers else { panic!("{dns:?}") };
        zone.health_checks = Some(checks);
    });
    w.wait_for("the health checks are in line", |w| (w.drover(&["dns", "checks"]).code == 0).then_some(()));
    w
}

/// What the API does from now on, which moto never would.
fn knobs(config: &Config, knobs: &str) {
    let zone = config.settings.dns.as_ref().unwrap().route53().unwrap();
    let api: SocketAddr = zone.endpoint.as_ref().unwrap().trim_start_matches("http://").parse().unwrap();
    assert_eq!(wire::http(api, "POST", "/drover/knobs", knobs).unwrap().0, 200);
}

fn checks(w: &World) -> HealthChecksView {
    w.drover(&["dns", "checks", "-o", "json"]).json()
}

fn standing(w: &World, region: &str) -> RegionStanding {
    checks(w).regions.into_iter().find(|r| r.region.as_str() == region).unwrap().standing
}

fn without_eu_west() -> Vec<(String, u8)> {
    vec![("ap-south".into(), 50), ("eu-west".into(), 0), ("us-east".into(), 50)]
}

#[test]
fn a_region_is_left_while_the_control_plane_is_down_and_its_records_follow() {
    let w = hosted();
    assert_eq!(w.answered("checkout"), REGIONS);
    let doctor = w.drover(&["doctor", "-o", "json"]);
    let found: Value = doctor.json();
    let leaving =
        found["checks"].as_array().unwrap().iter().find(|c| c["what"] == "leaving eu-west").unwrap();
    let told = leaving["finding"].as_str().unwrap();
    assert!(leaving["mark"] == "ok" && told.contains("without us-east-1: 3 of 3"), "{leaving}");

    knobs(&w.config, r#"{"down": 1000000000}"#);
    w.drover(&["break", "eu-west"]).expect_code(0);
    let run = w.until_run(RunState::Succeeded);
    // What the run says of its move, and what is so.
    let summaries: Vec<String> = run.steps.iter().map(|s| s.summary.clone()).collect();
    let carried = summaries.iter().filter(|s| s.contains("eu-west is out by its health checks")).count();
    assert_eq!(carried, 2, "the move and its proof: {summaries:?}");
    assert!(summaries.iter().any(|s| s.contains("the records still give it weight")), "{summaries:?}");
    for service in ["checkout", "catalog"] {
        assert_eq!(weights(&w.status(), service), without_eu_west(), "what is wanted");
        assert_eq!(w.answered(service), ["ap-south", "us-east"], "what is answered");
    }
    assert_eq!(standing(&w, "eu-west"), RegionStanding::Declared);
    let status = w.status();
    assert!(status.attention.iter().any(|a| a.code == "out_by_health_check"), "{:?}", status.attention);

    // It is back: the records follow, then the pages fall silent, and the region stays where it is.
    knobs(&w.config, "{}");
    w.wait_for("the pages have fallen silent", |w| {
        (standing(w, "eu-west") == RegionStanding::InService).then_some(())
    });
    w.drover(&["dns", "drift"]).expect_code(0);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    w.stays("eu-west does not come back by itself", |s| weights(s, "checkout") == without_eu_west());
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
}
