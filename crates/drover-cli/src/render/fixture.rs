//! Views that never change, as the API sends them.

use crate::output::fixture::NOON_MILLIS;
use drover_model::Timestamp;
use drover_model::api::{ExplainView, PlanView, RunView, StatusView};
use serde_json::{Value, json};

/// This many seconds before noon, as the API writes it.
fn before(seconds: i64) -> String {
    Timestamp::from_millis(NOON_MILLIS - seconds * 1_000).to_string()
}

fn endpoint(region: &str, verdict: &str, weight: u8, configured: u8, reason: Value) -> Value {
    json!({
        "region": region, "address": "127.0.11.1:8081", "verdict": verdict, "since": before(190), "weight": weight,
        "configured_weight": configured, "share": if weight == 0 { "0%" } else { "100%" }, "share_reason": reason,
        "usable": "225rps", "load": format!("{}rps", u64::from(weight) * 3),
    })
}

fn service(name: &str, endpoints: &[Value], run: Option<&str>) -> Value {
    json!({
        "name": name, "dns_name": format!("{name}.drover.test"), "generation": 7, "automatic": true, "run": run,
        "load": {"source": "measured", "rate": "300rps", "at": before(5)}, "endpoints": endpoints,
    })
}

fn region(name: &str, city: &str, witness: bool, able: u32) -> Value {
    let abstaining: Vec<&str> = if able < 3 { vec!["us-east-1"] } else { vec![] };
    json!({
        "name": name, "city": city, "witness": witness, "worst": "healthy", "decision": null,
        "quorum": {"configured": 3, "need": 2, "able": able, "abstaining": abstaining, "possible": able >= 2},
    })
}

fn vantage(agent: &str, region: &str, state: &str, heard: i64) -> Value {
    json!({
        "agent": agent, "region": region, "state": state, "heard_at": before(heard), "skew_millis": 3,
        "config_version": "0f1e2d3c4b5a6978", "dropped": 0, "replayed": 0, "late": 0,
    })
}

fn run_summary(state: &str, ended: Option<i64>, summary: &str) -> Value {
    json!({
        "id": "run-7", "purpose": "failover", "region": "eu-west", "services": ["checkout"], "state": state,
        "plan": "plan-0a1b2c3d4e5f", "by": {"kind": "automatic"}, "started_at": before(130),
        "ended_at": ended.map(before), "summary": summary,
    })
}

fn status(parts: Value) -> StatusView {
    let configured = json!({"why": "configured"});
    let mut view = json!({
        "schema": 1, "at": before(0),
        "coordinator": {
            "version": "0.1.0", "epoch": {"incarnation": 3_735_928_559u64, "counter": 2}, "started_at": before(7_500),
            "config_version": "0f1e2d3c4b5a6978", "config_refused": [], "store_bytes": 1_048_576, "store_alarm": false,
            "page_channels": 1, "pages_undelivered": 0, "pages_oldest": null,
        },
        "attention": [],
        "regions": [region("eu-west", "Dublin", false, 3), region("us-east", "Ashburn", false, 3)],
        "services": [service("checkout", &[
            endpoint("eu-west", "healthy", 50, 50, configured.clone()),
            endpoint("us-east", "healthy", 50, 50, configured),
        ], None)],
        "vantages": [vantage("eu-west-1", "eu-west", "reporting", 1), vantage("us-east-1", "us-east", "reporting", 1)],
        "dns": [{
            "instance": "dns-1", "query": "127.0.0.1:7453", "reachable": true, "behind": [], "checked_at": before(2),
        }],
        "freeze": null, "holds": [], "blocks": [], "runs": [],
    });
    for (name, value) in parts.as_object().unwrap() {
        view[name] = value.clone();
    }
    serde_json::from_value(view).unwrap()
}

/// All is well.
pub fn well() -> StatusView {
    status(json!({}))
}

/// A region is down, a run is at it, and people laid things down.
pub fn trouble() -> StatusView {
    let failed_over = json!({"why": "failed_over", "run": "run-7"});
    let ana = json!({"kind": "person", "name": "ana", "host": "laptop"});
    status(json!({
        "attention": [
            {"severity": "critical", "subject": "checkout@eu-west", "code": "endpoint_down", "since": before(190),
             "sentence": "checkout in eu-west is down, weight 0", "next": "drover explain checkout@eu-west"},
            {"severity": "warning", "subject": "us-east-1", "code": "vantage_silent", "since": before(60),
             "sentence": "us-east-1 in us-east is silent: it abstains", "next": "drover doctor"},
            {"severity": "warning", "subject": "freeze", "code": "frozen", "since": before(60), "sentence": "x", "next": null},
        ],
        "regions": [region("eu-west", "Dublin", false, 1), region("us-east", "Ashburn", false, 3)],
        "services": [service("checkout", &[
            endpoint("eu-west", "down", 0, 50, failed_over),
            endpoint("us-east", "healthy", 100, 50, json!({"why": "configured"})),
        ], Some("run-7"))],
        "vantages": [vantage("eu-west-1", "eu-west", "reporting", 1), vantage("us-east-1", "us-east", "silent", 60)],
        "freeze": {"by": ana, "reason": "network maintenance", "since": before(60), "expires_at": before(-3_900)},
        "holds": [{"run": "run-6", "region": "us-east", "services": ["catalog"], "by": ana, "reason": "kernel",
                   "since": before(600), "expires_at": null}],
        "runs": [run_summary("running", None, "5-verify_dns: asking every DNS server")],
    }))
}

/// Not failing over, because one vantage alone sees it.
pub fn explain() -> ExplainView {
    let opinion = |vantage: &str, region: &str, state: &str, streak: u32, failed: bool| {
        json!({
            "vantage": vantage, "region": region, "vantage_state": "reporting", "state": state, "streak": streak,
            "good": if failed { 0 } else { 9 }, "failed": if failed { 4 } else { 0 }, "gray": false,
            "last_probe_age": "1s200ms", "last_failure": if failed { Some("timed_out") } else { None },
            "last_probe_failed": failed,
        })
    };
    let reason = json!({"code": "quorum_not_reached", "failing": 1, "configured": 3, "need": 2});
    serde_json::from_value(json!({
        "schema": 1, "subject": "eu-west", "sentence": "not failing over eu-west: 1 of 3 outside vantages agree, 2 needed",
        "endpoints": [{
            "endpoint": "checkout@eu-west", "since": before(190),
            "inputs": {
                "endpoint": "checkout@eu-west", "at": before(0), "need": 2,
                "outside": [opinion("us-east-1", "us-east", "failing", 4, true), opinion("witness-1", "witness", "healthy", 9, false)],
                "inside": [opinion("eu-west-1", "eu-west", "healthy", 9, false)],
            },
            "verdict": {"state": "partitioned", "failing": 1, "healthy": 2, "abstaining": 0, "configured": 3, "need": 2,
                        "suspect": true, "reason": reason},
        }],
        "decisions": [{
            "region": "eu-west", "services": ["checkout"], "class": "endpoint", "conclusion": "hold",
            "guards": [{"guard": "quorum", "passed": false, "reason": reason},
                       {"guard": "freeze", "passed": true, "reason": {"code": "passed"}}],
            "reason": reason, "look_again_at": null,
        }],
        "history": [{"id": "decision-41", "at": before(190), "subject": "checkout@eu-west", "code": "quorum_not_reached",
                     "sentence": "checkout@eu-west is partitioned: 1 of 3 outside vantages agree, 2 needed"}],
    }))
    .unwrap()
}

fn plan() -> Value {
    json!({
        "schema": 1, "id": "plan-0a1b2c3d4e5f",
        "intent": {"purpose": "failover", "services": [], "region": "eu-west", "to": null, "automatic": false,
                   "hold_for": null, "reason": "rack fire"},
        "services": ["checkout"], "runbook": "failover", "base": {},
        "steps": [
            {"id": "1-notify", "kind": {"kind": "notify", "message": "failing over"}, "timeout": "30s", "attempts": 3,
             "backoff": "1s", "on_failure": "continue", "reversal": {"reversal": "nothing"}},
            {"id": "2-wait", "kind": {"kind": "wait", "span": "45s", "why": "old answers leave the caches"},
             "timeout": "30s", "attempts": 1, "backoff": "1s", "on_failure": "pause", "reversal": {"reversal": "forward_only"}},
        ],
    })
}

/// A plan that can be made, or one that is refused.
pub fn planned(refused: bool) -> PlanView {
    let capacity = json!({"code": "capacity_insufficient", "service": "checkout", "region": "us-east", "projected": "300rps",
                          "usable": "225rps", "capacity": "250rps", "headroom": "10%"});
    let row = |region: &str, before: u8, after: u8| {
        json!({"service": "checkout", "region": region, "weight_before": before, "weight_after": after,
               "load_before": format!("{}rps", u64::from(before) * 3), "load_after": format!("{}rps", u64::from(after) * 3),
               "usable": "225rps"})
    };
    let guard = if refused { capacity.clone() } else { json!({"code": "nothing_to_do"}) };
    serde_json::from_value(json!({
        "schema": 1, "made_at": before(0), "intent": plan()["intent"],
        "planned": {
            "plan": if refused { Value::Null } else { plan() },
            "guards": [{"guard": "capacity", "passed": !refused, "reason": guard}],
            "refusals": if refused { vec![capacity] } else { vec![] },
            "rows": [row("eu-west", 50, 0), row("us-east", 50, 100)],
            "estimates": {"drained_after": "45s", "done_after": "2m", "rto": "30m"},
        },
    }))
    .unwrap()
}

/// A run with an exception.
pub fn run(ended: bool) -> RunView {
    let summary = if ended {
        run_summary("succeeded_with_exceptions", Some(5), "done, 1 exception")
    } else {
        run_summary("validating", None, "judging")
    };
    let measurement = json!({"name": "error_rate checkout", "value": "0.2%", "bound": "at most 5%", "samples": 1_204,
                             "outcome": "pass"});
    serde_json::from_value(json!({
        "schema": 1, "summary": summary,
        "trigger": {"trigger": "decision", "decision": "decision-42", "class": "region", "first_failure_at": before(160)},
        "plan": plan(),
        "steps": [
            {"id": "1-notify", "state": "skipped", "attempts": 2, "attempts_max": 3, "started_at": before(130),
             "ended_at": before(128), "usual": "1s500ms", "summary": "skipped by ana: pager is down", "on_failure": "continue",
             "measurements": []},
            {"id": "2-wait", "state": if ended { "done" } else { "running" }, "attempts": 1, "attempts_max": 1,
             "started_at": before(128), "ended_at": if ended { Some(before(83)) } else { None }, "usual": "45s",
             "summary": "45s passed", "on_failure": "pause", "measurements": [measurement]},
        ],
        "timeline": [
            {"at": before(130), "after": "30s", "sentence": "created for region failure | decision-42", "entry": {"entry": "expired"}},
            {"at": before(128), "after": "32s", "sentence": "1-notify skipped by ana <ana>: pager is down",
             "entry": {"entry": "expired"}},
        ],
        "rto": "30m", "elapsed": "2m35s", "next_decision": "validated at the end of the window",
        "exceptions": ["1-notify was skipped"], "expires_at": null,
    }))
    .unwrap()
}
