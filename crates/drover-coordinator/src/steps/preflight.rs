//! `preflight`: every predicate of the plan, on live facts.

use super::{done, failed};
use crate::coordinator::Coordinator;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::Predicate;

pub(super) fn act(c: &Coordinator, predicates: &[Predicate]) -> Result<StepOutcome, StepFailure> {
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
