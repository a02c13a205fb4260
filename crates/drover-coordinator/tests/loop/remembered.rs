//! What drover remembers: over a restart, of what it asked, and of what it was shown.

use crate::world::World;
use drover_model::api::{ExplainView, StatusView};
use drover_model::config::{HealthCheck, defaults};
use drover_model::journal::RunState;
use drover_model::{Span, Timestamp};
use serde_json::Value;

fn since(status: &StatusView, service: &str, region: &str) -> Option<Timestamp> {
    let service = status.services.iter().find(|s| s.name.as_str() == service)?;
    service.endpoints.iter().find(|e| e.region.as_str() == region)?.since
}

fn is_down(status: &StatusView, region: &str) -> bool {
    let endpoints = status.services.iter().flat_map(|s| &s.endpoints);
    endpoints.filter(|e| e.region.as_str() == region).all(|e| e.verdict.to_string() == "down")
}

/// Every stored decision comes out the same when it is run again.
async fn all_replay(w: &World) -> usize {
    let decisions = w.get("/v1/decisions").await;
    let items = decisions["items"].as_array().unwrap();
    for item in items {
        let replay = w.get(&format!("/v1/decisions/{}/replay", item["id"].as_str().unwrap())).await;
        assert_eq!(replay["same"], Value::Bool(true), "{replay:#}");
    }
    items.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trouble_that_outlives_its_coordinator_is_the_same_trouble() {
    let mut w = World::start(|_| {}).await;
    w.kill_region("eu-west");
    w.until("a run begins", |s| !s.runs.is_empty()).await;
    w.until_run("run-1", RunState::Succeeded).await;
    let before = w.until("eu-west is down", |s| is_down(s, "eu-west")).await;
    let began = since(&before, "checkout", "eu-west");
    assert!(began.is_some());
    for _ in 0..3 {
        w.restart_coordinator().await;
        let again = w.until("eu-west is down again", |s| is_down(s, "eu-west")).await;
        assert_eq!(since(&again, "checkout", "eu-west"), began, "a restart is no flap and no new beginning");
    }
    // Three restarts in one trouble would be three flaps. Another failure now is one failure, not a common cause.
    let explained: ExplainView = serde_json::from_value(w.get("/v1/explain/eu-west").await).unwrap();
    assert!(
        explained.sentence.contains("is still down, and run-1 took its traffic off"),
        "{}",
        explained.sentence
    );
    assert!(all_replay(&w).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_comes_back_later_and_not_at_once() {
    let expires = Span::from_mins(3);
    let w = World::start(|config| {
        for s in config.services.values_mut() {
            s.failover.automatic = false;
            s.failover.approval_expires = expires;
        }
    })
    .await;
    w.kill_region("eu-west");
    w.until("a question is asked", |s| !s.runs.is_empty()).await;
    let asked = w.until_run("run-1", RunState::AwaitingApproval).await;
    let plan = w.get(&format!("/v1/plans/{}", asked.plan.id)).await;
    let rows = plan["planned"]["rows"].as_array().unwrap();
    assert!(!rows.is_empty(), "whoever is asked can see what would change: {plan:#}");
    let expired = w.until_run("run-1", RunState::ExpiredUnapproved).await;
    let told = |s: &StatusView| {
        let eu = s.regions.iter().find(|r| r.name.as_str() == "eu-west").and_then(|r| r.decision.clone());
        eu.is_some_and(|d| d.contains("nobody answered run-1"))
    };
    w.until("status says that nobody answered", told).await;
    assert!(all_replay(&w).await > 0);
    let again =
        w.until("the question is asked again", |s| s.runs.iter().any(|r| r.id.as_str() == "run-2")).await;
    let run = again.runs.iter().find(|r| r.id.as_str() == "run-2").unwrap();
    let pause = run.started_at.since(expired.summary.ended_at.unwrap());
    let least = w.config.services.values().next().unwrap().failover.approval_expires;
    assert!(pause >= least, "asked again after {pause}, {least} at least");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_told_before_it_ends() {
    // Only a check by TLS is shown a certificate. Its agents are played, so that its services need not have one.
    let w = World::start(|config| {
        for s in config.services.values_mut() {
            let HealthCheck::Http(check) = &mut s.check else { panic!("{} is not asked by HTTP", s.name) };
            (check.tls, check.tls_options.expiry_warning) = (true, defaults::EXPIRY_WARNING);
        }
    })
    .await;
    let day = Span::from_hours(24);
    let now = w.status().await.at;
    w.agents.lock().unwrap().certificates.insert("us-east".into(), now + day.times(3_000));
    w.until("the certificate is seen", |s| {
        s.services[0].endpoints.iter().any(|e| e.certificate_expires_at.is_some())
    })
    .await;
    assert!(!w.status().await.attention.iter().any(|a| a.code == "certificate_expiring"));
    // Scaled like every other length: the shipped warning of weeks is hours here.
    let ends = now + Span::from_mins(3);
    w.agents.lock().unwrap().certificates.insert("us-east".into(), ends);
    let warned =
        w.until("it is told", |s| s.attention.iter().any(|a| a.code == "certificate_expiring")).await;
    let line = warned.attention.iter().find(|a| a.code == "certificate_expiring").unwrap();
    assert!(warned.at < ends, "told at {}, and it ended at {ends}", warned.at);
    assert!(line.subject.ends_with("@us-east") && line.sentence.contains("ends at"), "{line:?}");
}
