//! `preflight`: every predicate of the plan, on live facts; and whether DNS still is as drover left it.

use super::publish::{left_alone, not_published};
use super::{done, failed};
use crate::coordinator::Coordinator;
use drover_exec::Order;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::{Predicate, StepKind, TrafficChange};
use drover_model::runbook::Purpose;
use std::collections::BTreeMap;

pub(super) async fn act(
    c: &Coordinator,
    order: &Order,
    predicates: &[Predicate],
) -> Result<StepOutcome, StepFailure> {
    let mut outcome = conditions(c, predicates)?;
    // A failover moves what it can, and holds for the rest: users are without service. Whatever is moved at leisure is not
    // begun where a part of it can't be.
    if order.plan.intent.purpose != Purpose::Failover {
        outcome.measurements.push(dns(c, order).await?);
    }
    Ok(outcome)
}

/// Every record set that the plan changes is as drover wrote it.
async fn dns(c: &Coordinator, order: &Order) -> Result<Measurement, StepFailure> {
    let changes: BTreeMap<_, TrafficChange> = order
        .plan
        .steps
        .iter()
        .filter_map(
            |step| if let StepKind::ShiftTraffic { changes } = &step.kind { Some(changes) } else { None },
        )
        .flatten()
        .map(|change| (change.service.clone(), change.clone()))
        .collect();
    let changes: Vec<TrafficChange> = changes.into_values().collect();
    match not_published(&left_alone(c, order, &changes).await?) {
        Some(failure) => Err(failure),
        None => Ok(Measurement {
            name: "DNS is as drover left it".into(),
            value: Some(format!("{} record set(s)", changes.len())),
            bound: "must hold".into(),
            samples: 1,
            outcome: CheckOutcome::Pass,
        }),
    }
}

fn conditions(c: &Coordinator, predicates: &[Predicate]) -> Result<StepOutcome, StepFailure> {
    let world = c.world(c.clock.now());
    let mut measurements = Vec::with_capacity(predicates.len());
    let mut broken = Vec::new();
    for predicate in predicates {
        let (value, outcome) = match drover_core::predicates::evaluate(predicate, &world) {
            Ok(value) => (value, CheckOutcome::Pass),
            Err(reason) => {
                broken.push(reason.to_string());
                (reason.to_string(), CheckOutcome::Fail)
            }
        };
        measurements.push(Measurement {
            name: name(predicate),
            value: Some(value),
            bound: "must hold".into(),
            samples: 1,
            outcome,
        });
    }
    if broken.is_empty() {
        return Ok(done(false, format!("{} conditions hold", predicates.len()), measurements));
    }
    // Facts are live: what does not hold now may hold at the next attempt.
    let mut failure = failed(FailureNature::Retryable, broken.join("; "));
    failure.measurements = measurements;
    Err(failure)
}

fn name(p: &Predicate) -> String {
    match p {
        Predicate::EndpointHealthy { endpoint } => format!("{endpoint} is healthy"),
        Predicate::EndpointStillBad { endpoint } => format!("{endpoint} still is bad"),
        Predicate::Fits { service, region, .. } => format!("{region} can carry {service}"),
        Predicate::TrafficAt { service, generation } => format!("{service} is at generation {generation}"),
    }
}
