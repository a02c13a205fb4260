//! `verify_app` and `verify_dns`: ask the service, ask DNS.

use super::publish::{ASKED_AT_ONCE, all_verified, gone};
use super::{done, failed, reaching_all_but, shift};
use crate::coordinator::Coordinator;
use crate::endpoint::{Target, tls_of};
use crate::out_of_service::{Carried, Ended};
use crate::sights::{Other, Round};
use crate::traffic::{record_key, record_set};
use drover_core::quorum;
use drover_dns::zone::{RecordKey, RecordSet};
use drover_exec::Order;
use drover_model::AgentId;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::{AppCheckTarget, TrafficChange};
use drover_model::runbook::Purpose;
use futures::stream::StreamExt;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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
    let requests: Vec<_> = targets.iter().map(|t| timed(c, t)).collect();
    let answers: Vec<_> = futures::stream::iter(requests).buffered(ASKED_AT_ONCE).collect().await;
    for (target, (answer, millis)) in targets.iter().zip(answers) {
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

/// The answer, and the milliseconds that it took.
async fn timed(c: &Coordinator, target: &AppCheckTarget) -> (Result<(), String>, u128) {
    let began = Instant::now();
    let answer = ask(c, target).await;
    (answer, began.elapsed().as_millis())
}

async fn ask(c: &Coordinator, target: &AppCheckTarget) -> Result<(), String> {
    let check = &target.check;
    let method = reqwest::Method::from_bytes(check.method.as_bytes()).map_err(|e| e.to_string())?;
    // The plan says that TLS is spoken; whom to trust is configuration, which may be renewed while a run goes on.
    let trust = || c.loaded().config.services.get(&target.endpoint.service).and_then(tls_of);
    let place = Target {
        address: target.address.clone(),
        port: target.port,
        host: target.host.clone(),
        tls: target.tls.then(|| trust().unwrap_or_default()),
    };
    let mut request = c.request_to(&place, method, &check.path).await?.timeout(check.timeout.to_duration());
    if let Some(body) = &check.body {
        request = request.header("content-type", "application/json").body(body.clone());
    }
    let mut answer = request.send().await.map_err(|e| drover_model::chain(&e.without_url()))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| drover_model::chain(&e.without_url()))? {
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

/// Before the attempt is given up: what holds it must be told by then.
const TELLS_BEFORE_DEADLINE: Duration = Duration::from_millis(500);

/// Asks every DNS server for what stands published, from here and from every vantage that listens.
pub(super) async fn dns(
    c: &Coordinator,
    order: &Order,
    expected: &[TrafficChange],
) -> Result<StepOutcome, StepFailure> {
    let Some(provider) = c.dns() else {
        return Err(failed(FailureNature::Permanent, "no DNS server is configured"));
    };
    let sets = standing_sets(c, expected).await?;
    if sets.is_empty() {
        // Nobody was asked, so nothing is proved (I10).
        return Err(failed(FailureNature::Inconclusive, "there is no record set to ask DNS about"));
    }
    // Vantages ask while we do.
    let loaded = c.loaded();
    let round = loaded.config.settings.dns.as_ref().map(|dns| c.sights.begin(dns, &sets));
    let answers = match c.or_carried(expected, order.deadline, all_verified(&provider, &sets)).await? {
        Ended::Published(answers) => answers,
        // The records can't be read, and the regions that were left are out of the answers all the same.
        Ended::Carried(Carried { sentence, measurements }) => return Ok(done(false, sentence, measurements)),
    };
    let missing: BTreeSet<String> = answers.iter().flat_map(|a| a.missing.iter().cloned()).collect();
    let mut measurements: Vec<Measurement> = answers
        .into_iter()
        .zip(&sets)
        .map(|(answer, (_, set))| Measurement {
            name: format!("DNS {}", set.name),
            value: Some(answer.sentence),
            bound: format!("generation {}", set.generation),
            samples: 1,
            outcome: CheckOutcome::Pass,
        })
        .collect();
    let mut exception = None;
    let mut summary = format!("DNS answers {} record set(s) as published", measurements.len());
    if let Some(round) = round {
        let (seen, dissent) = from_vantages(c, order, &round, &missing).await;
        let value = seen.value.clone().unwrap_or_default();
        summary.push_str("; ");
        summary.push_str(&value);
        measurements.push(seen);
        let message = format!("not seen everywhere: {value}");
        match dissent {
            Dissent::None => {}
            Dissent::Holds => {
                return Err(StepFailure { kind: FailureNature::Retryable, message, measurements });
            }
            Dissent::Excepted => exception = Some(message),
        }
    }
    Ok(StepOutcome { exception, ..reaching_all_but(missing, done(false, summary, measurements)) })
}

/// The record sets that stand, which must be at least as new as what was planned.
async fn standing_sets(
    c: &Coordinator,
    expected: &[TrafficChange],
) -> Result<Vec<(RecordKey, RecordSet)>, StepFailure> {
    let loaded = c.loaded();
    let mut sets = Vec::new();
    for change in expected {
        let Some(service) = loaded.config.services.get(&change.service) else {
            return Err(gone(&change.service));
        };
        let (target, _) = shift::standing(c, change).await?;
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
        sets.push((key, record_set(service, &target, c.db.epoch())));
    }
    Ok(sets)
}

/// What vantages that still see what stood there before come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dissent {
    /// There are none.
    None,
    /// The step fails, and is tried again while it has attempts.
    Holds,
    /// The run goes on, and ends with an exception.
    Excepted,
}

/// One vantage alone decides nothing (I6): it may lie, or be where nobody else is. So few can keep a failover waiting until the deadline of
/// one attempt, and whatever else for all its attempts, but neither can be failed by less than a quorum.
fn dissent(c: &Coordinator, order: &Order, held_by: &BTreeSet<AgentId>) -> Dissent {
    let (loaded, plan) = (c.loaded(), &order.plan);
    let outside = loaded.config.outside_vantages(&plan.intent.region);
    let seeing = outside.iter().filter(|agent| held_by.contains(*agent)).count();
    let need = quorum::need_of(&loaded.config, &plan.intent.region, &plan.services);
    let is_last = order.attempt >= order.step().attempts;
    match (held_by.is_empty(), seeing >= need as usize) {
        (true, _) => Dissent::None,
        (false, true) => Dissent::Holds,
        (false, false) if plan.intent.purpose == Purpose::Failover || is_last => Dissent::Excepted,
        (false, false) => Dissent::Holds,
    }
}

/// What vantages see. Who says nothing is named and holds nobody: the region that is being left may be dead. Who sees what stood there
/// before, at a server that shows the new set to us, holds the step. A server that we can't ask either can't be brought to anything by
/// waiting, nor one that stood against the zone before the run began; and what is neither old nor right may be the doing of what
/// stands between the two.
async fn from_vantages(
    c: &Coordinator,
    order: &Order,
    round: &Round<'_>,
    silent: &BTreeSet<String>,
) -> (Measurement, Dissent) {
    let left = order.deadline.since(c.clock.now()).to_duration().saturating_sub(TELLS_BEFORE_DEADLINE);
    let before = c.live().contradicted_before(order.began_at);
    let counts = |other: &Other| {
        !silent.contains(&other.server) && !before.contains(&(other.agent.clone(), other.server.clone()))
    };
    let told = round.told(&counts, Instant::now() + left).await;
    let configured: BTreeSet<AgentId> = c.loaded().config.agents().into_keys().collect();
    let dissent = dissent(c, order, &round.held_by(&told, counts));
    let mut value = told.sentence(&configured);
    if round.asked() < round.of {
        value.push_str(&format!("; {} of {} record sets were asked for", round.asked(), round.of));
    }
    let proves = !told.reported.is_empty() && told.others.is_empty();
    let measurement = Measurement {
        name: "DNS from vantages".to_owned(),
        value: Some(value),
        bound: "none that reports sees anything else".to_owned(),
        samples: told.reported.len() as u64,
        outcome: match dissent {
            Dissent::Holds => CheckOutcome::Fail,
            Dissent::None if proves => CheckOutcome::Pass,
            Dissent::None | Dissent::Excepted => CheckOutcome::Noted,
        },
    };
    (measurement, dissent)
}

#[cfg(test)]
mod tests;
