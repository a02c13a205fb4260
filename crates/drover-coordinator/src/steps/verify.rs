//! `verify_app` and `verify_dns`: ask the service, ask DNS.

use super::shift::verified;
use super::{done, failed};
use crate::coordinator::Coordinator;
use crate::scraper::authority;
use crate::traffic::{record_key, record_set};
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::{AppCheckTarget, TrafficChange};
use std::time::Instant;

/// Bytes of an answer that are searched for the expected text.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Runs every scripted request (`test_agent_functionality`).
pub(super) async fn app(c: &Coordinator, targets: &[AppCheckTarget]) -> Result<StepOutcome, StepFailure> {
    if targets.is_empty() {
        // Nothing to ask is not a pass (I10): the policy decides what a missing check is worth.
        return Err(failed(FailureNature::Inconclusive, "no application check is configured (`app_checks`)"));
    }
    let mut measurements = Vec::with_capacity(targets.len());
    let mut broken = Vec::new();
    for target in targets {
        let began = Instant::now();
        let answer = ask(c, target).await;
        let millis = began.elapsed().as_millis();
        let (value, outcome) = match answer {
            Ok(()) => (format!("as expected in {millis} ms"), CheckOutcome::Pass),
            Err(e) => {
                broken.push(format!("{} {}: {e}", target.endpoint, target.check.name));
                (e, CheckOutcome::Fail)
            }
        };
        let expected = target.check.expect_body.as_ref().map_or_else(String::new, |b| format!(" with `{b}`"));
        measurements.push(Measurement {
            name: format!("{} {}", target.endpoint, target.check.name),
            value: Some(value),
            bound: format!("{}{expected}", target.check.expect_status),
            samples: 1,
            outcome,
        });
    }
    if broken.is_empty() {
        return Ok(done(
            false,
            format!("{} scripted request(s) answered as expected", targets.len()),
            measurements,
        ));
    }
    let mut failure = failed(FailureNature::Retryable, broken.join("; "));
    failure.measurements = measurements;
    Err(failure)
}

async fn ask(c: &Coordinator, target: &AppCheckTarget) -> Result<(), String> {
    let check = &target.check;
    let scheme = if target.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", authority(&target.address, target.port), check.path);
    let method = reqwest::Method::from_bytes(check.method.as_bytes()).map_err(|e| e.to_string())?;
    let mut request =
        c.http.request(method, url).header("host", &target.host).timeout(check.timeout.to_duration());
    if let Some(body) = &check.body {
        request = request.header("content-type", "application/json").body(body.clone());
    }
    let mut answer = request.send().await.map_err(|e| crate::text::chain(&e.without_url()))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| crate::text::chain(&e.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    if status != check.expect_status {
        return Err(format!("status {status} instead of {}", check.expect_status));
    }
    match &check.expect_body {
        Some(text) if !String::from_utf8_lossy(&body).contains(text.as_str()) => {
            Err(format!("the answer does not hold `{text}`"))
        }
        _ => Ok(()),
    }
}

/// Asks every DNS instance for what stands published.
pub(super) async fn dns(c: &Coordinator, expected: &[TrafficChange]) -> Result<StepOutcome, StepFailure> {
    let Some(provider) = c.dns() else {
        return Err(failed(FailureNature::Permanent, "no DNS server is configured"));
    };
    let loaded = c.loaded();
    let mut measurements = Vec::new();
    for change in expected {
        let Some(service) = loaded.config.services.get(&change.service) else { continue };
        let Some(target) = c.live().traffic.get(&change.service).cloned() else { continue };
        if target.generation < change.to_generation
            || (target.generation == change.to_generation && target.weights != change.weights_after)
        {
            let message = format!(
                "{} is at generation {}, expected {}",
                change.service, target.generation, change.to_generation
            );
            return Err(failed(FailureNature::Permanent, message));
        }
        let Some(key) = record_key(service) else { continue };
        let set = record_set(service, &target, c.db.epoch());
        let sentence = verified(&*provider, &key, &set).await?;
        measurements.push(Measurement {
            name: format!("DNS {}", change.dns_name),
            value: Some(sentence),
            bound: format!("generation {}", change.to_generation),
            samples: 1,
            outcome: CheckOutcome::Pass,
        });
    }
    Ok(done(false, format!("DNS answers {} record set(s) as published", measurements.len()), measurements))
}
