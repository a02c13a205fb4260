//! Every figure at a hundredth of its size: not how fast, but that what is measured is right, and that the form in which
//! it is told does not change by accident.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use serde_json::Value;
use std::process::{Command, Stdio};

/// Measures one figure as small as it gets.
fn measure(name: &str) -> Value {
    assert!(std::env::var_os("DROVER_BIN").is_some(), "DROVER_BIN is not set: run tests/run test");
    let bench = env!("CARGO_BIN_EXE_drover-bench");
    // The kernel ends the bench with the test, and drover's processes with the bench.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", bench, name, "--scale", "1", "-o", "json"])
        // cargo runs a test in its crate, while tests/run may name the binary from the root.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let figure: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{name}: {e}: {}\n{stderr}", String::from_utf8_lossy(&output.stdout)));
    assert!(output.status.success(), "{name}: {}\n{figure:#}\n{stderr}", output.status);
    figure
}

/// Is it of the documented form, with at least so many bars and checks, each check right and no bar judged?
fn must_be_right(name: &str, bars: usize, checks: usize) {
    let figure = measure(name);
    assert_eq!(figure["schema"], 1, "{figure:#}");
    assert_eq!(figure["figure"], name, "{figure:#}");
    assert_eq!(figure["scale_percent"], 1, "{figure:#}");
    assert_eq!(figure["judged"], false, "{figure:#}");
    assert_eq!(figure["holds"], true, "{figure:#}");
    let measures = figure["measures"].as_array().unwrap();
    assert!(measures.iter().all(|m| m["value"].as_f64().is_some() && m["unit"].is_string()), "{figure:#}");
    let barred: Vec<_> = measures.iter().filter(|m| !m["bar"].is_null()).collect();
    assert_eq!(barred.len(), bars, "{figure:#}");
    let told = |m: &Value| m["bar"]["at_most"].is_number() || m["bar"]["at_least"].is_number();
    assert!(barred.iter().all(|m| told(m) && m["holds"].is_null()), "{figure:#}");
    assert!(measures.len() > bars, "a peer or a part is told beside the bars: {figure:#}");
    let right = figure["checks"].as_array().unwrap();
    assert_eq!(right.len(), checks, "{figure:#}");
    assert!(right.iter().all(|c| c["holds"] == true && c["found"].is_string()), "{figure:#}");
}

#[test]
fn plan_leaves_with_every_service_and_the_checker_agrees() {
    must_be_right("plan", 1, 3);
}

#[test]
fn store_keeps_every_acknowledged_record() {
    must_be_right("store", 3, 2);
}

#[test]
fn scale_counts_every_observation() {
    must_be_right("scale", 3, 2);
}

#[test]
fn status_shows_every_endpoint() {
    must_be_right("status", 1, 2);
}

#[test]
fn reaction_takes_each_endpoint_out_of_dns() {
    must_be_right("reaction", 3, 2);
}

#[test]
fn ingest_drops_nothing_and_concludes_about_the_endpoint_that_died() {
    must_be_right("ingest", 4, 2);
}

#[test]
fn tls_counts_what_plain_text_counts() {
    must_be_right("tls", 1, 2);
}

#[test]
fn probe_reports_what_is() {
    must_be_right("probe", 6, 3);
}

#[test]
fn takeover_loses_no_opinion() {
    must_be_right("takeover", 2, 2);
}

#[test]
fn route53_moves_every_set_within_the_account() {
    must_be_right("route53", 4, 3);
}

#[test]
fn dns_qps_answers_every_question() {
    must_be_right("dns-qps", 7, 3);
}

#[test]
fn dns_publish_sees_every_change() {
    must_be_right("dns-publish", 1, 0);
}

#[test]
fn dns_failover_sees_every_service_that_ended_leave() {
    must_be_right("dns-failover", 2, 0);
}

#[test]
fn sim_plays_worlds_in_which_nothing_is_violated() {
    must_be_right("sim", 1, 2);
}

#[test]
fn false_alarms_finds_every_outage_and_is_fooled_where_it_must_be() {
    must_be_right("false-alarms", 1, 3);
}
