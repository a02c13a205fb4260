//! `validate` (`validate_performance_metrics`): error rate, latency and availability of what took the traffic, over a
//! window, with minimum samples. No source or too few samples is inconclusive, which holds the run (I10).

use super::{done, failed};
use crate::coordinator::Coordinator;
use crate::endpoint::Target;
use crate::live::Tally;
use crate::scrape::{Delta, P95, Reading};
use drover_model::config::Service;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::ValidationTarget;
use drover_model::{EndpointKey, Percent, Span};
use std::collections::BTreeMap;
use std::time::Duration;

/// Probes from outside needed for an availability; client requests need the policy's `min_samples`.
/// Three vantages at the default 30 s over the default 2 min give 12 probes an endpoint, so four is a third of that.
const PROBES_MIN: u64 = 4;
/// One reading at either end of the window may take this long.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

struct Baseline {
    readings: BTreeMap<EndpointKey, Result<Reading, String>>,
    tallies: BTreeMap<EndpointKey, Tally>,
}

pub(super) async fn act(c: &Coordinator, targets: &[ValidationTarget]) -> Result<StepOutcome, StepFailure> {
    let before = baseline(c, targets).await;
    let window = targets.iter().map(|t| t.window).max().unwrap_or(Span::ZERO);
    tokio::time::sleep(window.to_duration()).await;
    let after = baseline(c, targets).await;
    let measurements: Vec<Measurement> = targets.iter().flat_map(|t| judge(t, &before, &after)).collect();
    let worst = measurements.iter().map(|m| m.outcome).max().unwrap_or(CheckOutcome::Inconclusive);
    let said = |o: CheckOutcome| {
        let of = measurements.iter().filter(|m| m.outcome == o);
        of.map(|m| format!("{} {} (bound {})", m.name, m.value.as_deref().unwrap_or("unknown"), m.bound))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let (nature, message) = match worst {
        CheckOutcome::Pass => {
            return Ok(done(
                false,
                format!("{} figures within their bounds over {window}", measurements.len()),
                measurements,
            ));
        }
        CheckOutcome::Fail => (FailureNature::Permanent, said(CheckOutcome::Fail)),
        CheckOutcome::Error => (FailureNature::Retryable, said(CheckOutcome::Error)),
        CheckOutcome::Inconclusive => (FailureNature::Inconclusive, said(CheckOutcome::Inconclusive)),
    };
    let mut failure = failed(nature, message);
    failure.measurements = measurements;
    Err(failure)
}

async fn baseline(c: &Coordinator, targets: &[ValidationTarget]) -> Baseline {
    let loaded = c.loaded();
    let mut readings = BTreeMap::new();
    for target in targets {
        let Some(service) = loaded.config.services.get(&target.service) else { continue };
        for region in &target.regions {
            let key = EndpointKey::new(&target.service, region);
            readings.insert(key, read(c, service, region).await);
        }
    }
    Baseline { readings, tallies: c.live().tallies.clone() }
}

async fn read(
    c: &Coordinator,
    service: &Service,
    region: &drover_model::RegionId,
) -> Result<Reading, String> {
    let source = service.metrics.as_ref().ok_or("no metrics source is configured (`metrics`)")?;
    let e = service.endpoints.get(region).ok_or("no such endpoint")?;
    c.read_metrics(&Target::of(service, e), source, READ_TIMEOUT).await
}

fn judge(t: &ValidationTarget, before: &Baseline, after: &Baseline) -> Vec<Measurement> {
    let mut delta = Delta::default();
    let mut missing = None;
    let mut tally = Tally::default();
    for region in &t.regions {
        let key = EndpointKey::new(&t.service, region);
        match (before.readings.get(&key), after.readings.get(&key)) {
            (Some(Ok(b)), Some(Ok(a))) => delta.add(b, a),
            (_, Some(Err(e))) | (Some(Err(e)), _) => missing = Some(format!("{key}: {e}")),
            _ => missing = Some(format!("{key}: not read")),
        }
        let (b, a) = (
            before.tallies.get(&key).copied().unwrap_or_default(),
            after.tallies.get(&key).copied().unwrap_or_default(),
        );
        tally.good += a.good.saturating_sub(b.good);
        tally.failed += a.failed.saturating_sub(b.failed);
    }
    vec![
        error_rate(t, &delta, missing.as_ref()),
        latency(t, &delta, missing.as_ref()),
        availability(t, tally),
    ]
}

// Counts of requests: positive and far below 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(n: f64) -> u64 {
    n.max(0.0) as u64
}

fn unread(
    name: String,
    bound: String,
    samples: u64,
    missing: Option<&String>,
    min: u64,
) -> Option<Measurement> {
    let why = match missing {
        Some(why) => why.clone(),
        None if samples < min => format!("only {samples} samples, {min} needed"),
        None => return None,
    };
    Some(Measurement { name, value: Some(why), bound, samples, outcome: CheckOutcome::Inconclusive })
}

fn error_rate(t: &ValidationTarget, delta: &Delta, missing: Option<&String>) -> Measurement {
    let (name, bound) = (format!("error_rate {}", t.service), format!("at most {}", t.max_error_rate));
    let samples = whole(delta.requests);
    if let Some(m) = unread(name.clone(), bound.clone(), samples, missing, t.min_samples) {
        return m;
    }
    let rate = Percent::of(whole(delta.errors), samples);
    let outcome = if rate > t.max_error_rate { CheckOutcome::Fail } else { CheckOutcome::Pass };
    Measurement { name, value: Some(rate.to_string()), bound, samples, outcome }
}

fn latency(t: &ValidationTarget, delta: &Delta, missing: Option<&String>) -> Measurement {
    let (name, bound) = (format!("latency_p95 {}", t.service), format!("at most {}", t.max_latency_p95));
    let samples = whole(delta.buckets.last().map_or(0.0, |(_, n)| *n));
    if let Some(m) = unread(name.clone(), bound.clone(), samples, missing, t.min_samples) {
        return m;
    }
    let (value, outcome) = match delta.latency_p95() {
        Some(P95::Within { at_most, .. }) if at_most <= t.max_latency_p95 => {
            (format!("at most {at_most}"), CheckOutcome::Pass)
        }
        Some(P95::Within { above, at_most, .. }) if above >= t.max_latency_p95 => {
            (format!("between {above} and {at_most}"), CheckOutcome::Fail)
        }
        // The bound lies inside the bucket. An estimate may pass it, but is not enough to fail it.
        Some(P95::Within { above, about, at_most }) => {
            let within = about <= t.max_latency_p95;
            let outcome = if within { CheckOutcome::Pass } else { CheckOutcome::Inconclusive };
            (format!("about {about}, between {above} and {at_most}"), outcome)
        }
        Some(P95::Above(p)) if p >= t.max_latency_p95 => (format!("above {p}"), CheckOutcome::Fail),
        Some(P95::Above(p)) => (format!("above {p}, the last bucket"), CheckOutcome::Inconclusive),
        None => ("no histogram".to_owned(), CheckOutcome::Inconclusive),
    };
    Measurement { name, value: Some(value), bound, samples, outcome }
}

fn availability(t: &ValidationTarget, tally: Tally) -> Measurement {
    let (name, bound) = (format!("availability {}", t.service), format!("at least {}", t.min_availability));
    let samples = tally.good + tally.failed;
    if let Some(m) = unread(name.clone(), bound.clone(), samples, None, PROBES_MIN) {
        return m;
    }
    let share = Percent::of(tally.good, samples);
    let outcome = if share < t.min_availability { CheckOutcome::Fail } else { CheckOutcome::Pass };
    Measurement { name, value: Some(share.to_string()), bound, samples, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::ServiceId;

    fn judged(limit_millis: u64, buckets: &[(f64, f64)]) -> CheckOutcome {
        let target = ValidationTarget {
            service: ServiceId::new("pay").unwrap(),
            regions: Vec::new(),
            window: Span::from_secs(1),
            max_error_rate: Percent::ZERO,
            max_latency_p95: Span::from_millis(limit_millis),
            min_availability: Percent::FULL,
            min_samples: 1,
        };
        let delta = Delta { buckets: buckets.to_vec(), ..Delta::default() };
        latency(&target, &delta, None).outcome
    }

    #[test]
    fn a_percentile_fails_only_when_its_whole_bucket_lies_above_the_limit() {
        // The 95th of 100 is a sixth of the way from 100 ms to 1 s: 250 ms.
        let buckets = [(0.1, 94.0), (1.0, 100.0), (f64::INFINITY, 100.0)];
        assert_eq!(judged(1_000, &buckets), CheckOutcome::Pass, "the whole bucket is below");
        assert_eq!(judged(300, &buckets), CheckOutcome::Pass, "the estimate is below");
        assert_eq!(
            judged(200, &buckets),
            CheckOutcome::Inconclusive,
            "the estimate is above, the bucket is not"
        );
        assert_eq!(judged(100, &buckets), CheckOutcome::Fail);
        let beyond = [(0.1, 10.0), (f64::INFINITY, 100.0)];
        assert_eq!(judged(100, &beyond), CheckOutcome::Fail);
        assert_eq!(judged(200, &beyond), CheckOutcome::Inconclusive, "nobody knows how far beyond");
    }
}
