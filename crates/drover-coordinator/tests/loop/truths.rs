//! What the coordinator says of itself is true: its metrics, its lists, and what it refuses.

use crate::world::World;
use serde_json::{Value, json};

async fn decisions(w: &World, query: &str) -> (Vec<u64>, Option<String>) {
    let page = w.get(&format!("/v1/decisions?{query}")).await;
    let number = |d: &Value| d["id"].as_str().unwrap().strip_prefix("decision-").unwrap().parse().unwrap();
    let numbers = page["items"].as_array().unwrap().iter().map(number).collect();
    (numbers, page["next_cursor"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_use_the_names_of_the_rules_and_lists_are_walked_by_cursor() {
    let w = World::start(|_| {}).await;
    w.until("DNS was looked at", |s| s.dns.first().is_some_and(|d| d.reachable && d.behind.is_empty())).await;
    let text = w.http.get(format!("http://{}/metrics", w.api)).send().await.unwrap().text().await.unwrap();
    for line in [
        "drover_dns_instance_in_sync{server=\"dns-1\"} 1.0",
        "drover_endpoint_verdict{service=\"checkout\",region=\"eu-west\",verdict=\"healthy\"} 1.0",
        "drover_endpoint_verdict{service=\"checkout\",region=\"eu-west\",verdict=\"unreachable\"} 0.0",
        "drover_run_needs_operator{} 0.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    // Verdicts are written down behind the back of whoever judged: wait for the last of them.
    let began = std::time::Instant::now();
    while decisions(&w, "limit=200").await.0.len() < 5 {
        assert!(began.elapsed() < crate::world::GUARD, "the verdicts are not stored");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (mut walked, mut cursor) = decisions(&w, "limit=2").await;
    while let Some(next) = cursor {
        let (more, then) = decisions(&w, &format!("limit=2&cursor={next}")).await;
        assert!((1..=2).contains(&more.len()));
        walked.extend(more);
        cursor = then;
    }
    assert!(walked.len() > 4 && walked.last() == Some(&1), "every endpoint became healthy: {walked:?}");
    assert!(walked.windows(2).all(|w| w[0] == w[1] + 1), "each once, newest first: {walked:?}");

    let code = async |path: &str| {
        w.http.get(format!("http://{}{path}", w.api)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(code("/v1/runs/decision-1").await, 404);
    assert_eq!(code("/v1/decisions/run-1/replay").await, 404);
    assert_eq!(code("/v1/decisions/decision-1/replay").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_shown_until_it_is_good_again() {
    let w = World::start(|_| {}).await;
    // A second agent under the same name, with an earlier boot: its reports are refused.
    let url = format!("http://{}/v1/agents/witness-1/reports", w.api);
    let report = json!({
        "schema": 1, "agent": "witness-1", "boot": "another", "boot_number": 0, "config_version": "any",
        "sent_at": drover_model::Timestamp::from_millis(0), "observations": [], "opinions": [],
        "self_check": {"references_reached": 2, "references": 2, "blind": false}, "dropped": 0,
    });
    w.agents.lock().unwrap().silent.push("witness-1".into());
    let shown = |s: &drover_model::api::StatusView| s.attention.iter().any(|a| a.code == "vantage_refused");
    let began = std::time::Instant::now();
    while !shown(&w.status().await) {
        w.http.post(&url).json(&report).send().await.unwrap();
        assert!(began.elapsed() < crate::world::GUARD);
    }
    w.agents.lock().unwrap().silent.clear();
    w.until("it is one agent again", |s| !shown(s) && s.vantages.iter().all(|v| v.refused.is_none())).await;

    let before = w.status().await;
    let (config, away) = (w.dir.path().join("config"), w.dir.path().join("away"));
    std::fs::rename(&config, &away).unwrap();
    let refused = w.until("the directory is gone", |s| !s.coordinator.config_refused.is_empty()).await;
    assert!(refused.coordinator.config_refused[0].message.contains("can't read the configuration"));
    assert_eq!(refused.coordinator.config_version, before.coordinator.config_version);
    std::fs::rename(&away, &config).unwrap();
    w.until("it is back, as it was", |s| s.coordinator.config_refused.is_empty()).await;
}
