//! `validate` (`validate_performance_metrics`): error rate, latency and availability of what took the traffic, over a
//! window, with minimum samples. No source or too few samples is inconclusive, which holds the run (I10).
//!
//! While one window gives too few samples it is watched on, up to what the plan allows. A stage of a ramp is judged by the
//! returning region's own numbers, and what it carried stands beside what it was asked to carry.

use super::{done, failed};
use crate::coordinator::Coordinator;
use crate::endpoint::Target;
use crate::live::Tally;
use crate::scrape::{Delta, P95, Reading};
use drover_model::config::Service;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::ValidationTarget;
use drover_model::units::WEIGHT_SUM;
use drover_model::{EndpointKey, Percent, RegionId, Span};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Probes from outside needed for an availability; client requests need the policy's `min_samples`.
/// Three vantages at the default 30 s over the default 2 min give 12 probes an endpoint, so four is a third of that.
const PROBES_MIN: u64 = 4;
/// One reading at either end of the window may take this long.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// So many looks a window while samples are too few: what is enough is seen after a quarter of a window at most.
const LOOKS_A_WINDOW: u64 = 4;
/// Pause between two looks, at least.
const LOOK_PAUSE_MIN: Span = Span::from_millis(100);

struct Baseline {
    readings: BTreeMap<EndpointKey, Result<Reading, String>>,
    tallies: BTreeMap<EndpointKey, Tally>,
}

/// What one target came to.
struct Judged {
    measurements: Vec<Measurement>,
    /// Something could not be said for want of samples.
    too_few: bool,
}

pub(super) async fn act(c: &Coordinator, targets: &[ValidationTarget]) -> Result<StepOutcome, StepFailure> {
    let began = Instant::now();
    let before = baseline(c, targets).await;
    let window = targets.iter().map(|t| t.window).max().unwrap_or(Span::ZERO);
    tokio::time::sleep(window.to_duration()).await;
    let pause = window.divided_by(LOOKS_A_WINDOW).max(LOOK_PAUSE_MIN);
    loop {
        let after = baseline(c, targets).await;
        let judged: Vec<Judged> = targets.iter().map(|t| judge(t, &before, &after)).collect();
        let watched = Span::from_duration(began.elapsed());
        let fails = judged.iter().flat_map(|j| &j.measurements).any(|m| m.outcome == CheckOutcome::Fail);
        let waits = |(target, j): (&ValidationTarget, &Judged)| j.too_few && watched < target.longest();
        if fails || !targets.iter().zip(&judged).any(waits) {
            let shares = targets.iter().filter_map(|t| share(c, t, &before, &after));
            let measurements = judged.into_iter().flat_map(|j| j.measurements).chain(shares).collect();
            return conclude(measurements, watched);
        }
        tokio::time::sleep(pause.to_duration()).await;
    }
}

fn conclude(measurements: Vec<Measurement>, watched: Span) -> Result<StepOutcome, StepFailure> {
    let worst = measurements.iter().map(|m| m.outcome).max().unwrap_or(CheckOutcome::Inconclusive);
    let said = |o: CheckOutcome| {
        let of = measurements.iter().filter(|m| m.outcome == o);
        of.map(|m| format!("{} {} (bound {})", m.name, m.value.as_deref().unwrap_or("unknown"), m.bound))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let (nature, message) = match worst {
        CheckOutcome::Pass => {
            let judged = measurements.iter().filter(|m| m.outcome == CheckOutcome::Pass).count();
            let watched = Span::from_secs(watched.as_millis().div_ceil(1_000));
            let mut summary = format!("{judged} figures within their bounds over {watched}");
            for m in measurements.iter().filter(|m| m.outcome == CheckOutcome::Noted) {
                let value = m.value.as_deref().unwrap_or("unknown");
                summary.push_str(&format!("; {} {value}, {} wanted", m.name, m.bound));
            }
            return Ok(done(false, summary, measurements));
        }
        CheckOutcome::Fail => (FailureNature::Permanent, said(CheckOutcome::Fail)),
        CheckOutcome::Error => (FailureNature::Retryable, said(CheckOutcome::Error)),
        CheckOutcome::Inconclusive | CheckOutcome::Noted => {
            (FailureNature::Inconclusive, said(CheckOutcome::Inconclusive))
        }
    };
    let mut failure = failed(nature, message);
    failure.measurements = measurements;
    Err(failure)
}

/// Every region of the services in question, at once: an endpoint that hangs must not delay the others' readings.
async fn baseline(c: &Coordinator, targets: &[ValidationTarget]) -> Baseline {
    let loaded = c.loaded();
    let services: BTreeMap<_, &Service> =
        targets.iter().filter_map(|t| loaded.config.services.get_key_value(&t.service)).collect();
    let wanted = services.values().flat_map(|s| s.endpoints.keys().map(move |r| (*s, r)));
    let needed = |s: &Service, r: &RegionId| {
        targets.iter().any(|t| t.service == s.name && (stage_of(t).is_some() || t.regions.contains(r)))
    };
    let readings = wanted.filter(|(s, r)| needed(s, r)).map(|(service, region)| async move {
        (EndpointKey::new(&service.name, region), read(c, service, region).await)
    });
    let readings = join_all(readings).await.into_iter().collect();
    let live = c.live();
    let judged = targets.iter().flat_map(|t| t.regions.iter().map(|r| EndpointKey::new(&t.service, r)));
    let tallies = judged.filter_map(|e| live.seen.get(&e).map(|seen| (e, seen.tally))).collect();
    Baseline { readings, tallies }
}

async fn read(c: &Coordinator, service: &Service, region: &RegionId) -> Result<Reading, String> {
    let source = service.metrics.as_ref().ok_or("no metrics source is configured (`metrics`)")?;
    let e = service.endpoints.get(region).ok_or("no such endpoint")?;
    c.read_metrics(&Target::of(service, e), source, READ_TIMEOUT).await
}

/// The endpoint that a stage of a ramp is about; nothing for any other validation.
fn stage_of(t: &ValidationTarget) -> Option<EndpointKey> {
    let [region] = t.regions.as_slice() else { return None };
    t.returning.then(|| EndpointKey::new(&t.service, region))
}

/// What the stage's region was asked to carry of its service, beside what it carried.
fn share(c: &Coordinator, t: &ValidationTarget, before: &Baseline, after: &Baseline) -> Option<Measurement> {
    let endpoint = stage_of(t)?;
    let weight = c.live().traffic.get(&t.service)?.weight(&endpoint.region);
    let wanted = Percent::of(u64::from(weight.0), u64::from(WEIGHT_SUM));
    let (mut own, mut all) = (0, Some(0));
    for (key, reading) in after.readings.iter().filter(|(key, _)| key.service == t.service) {
        let (Ok(a), Some(Ok(b))) = (reading, before.readings.get(key)) else {
            // One that can't be read may carry anything.
            all = None;
            continue;
        };
        let mut delta = Delta::default();
        delta.add(b, a);
        all = all.map(|n| n + whole(delta.requests));
        if *key == endpoint {
            own = whole(delta.requests);
        }
    }
    Some(Measurement::share(&endpoint, wanted, own, all.unwrap_or(0)))
}

/// What a figure is about: the endpoint where only one is judged.
fn about(t: &ValidationTarget) -> String {
    match t.regions.as_slice() {
        [region] => EndpointKey::new(&t.service, region).to_string(),
        _ => t.service.to_string(),
    }
}

fn judge(t: &ValidationTarget, before: &Baseline, after: &Baseline) -> Judged {
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
    let (errors, slow) = (error_rate(t, &delta, missing.as_ref()), latency(t, &delta, missing.as_ref()));
    let available = availability(t, tally);
    let few = |m: &Measurement, min: u64| m.outcome == CheckOutcome::Inconclusive && m.samples < min;
    // What can't be read does not become readable by waiting.
    let too_few = missing.is_none()
        && (few(&errors, t.min_samples) || few(&slow, t.min_samples) || few(&available, PROBES_MIN));
    Judged { measurements: vec![errors, slow, available], too_few }
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
    let (name, bound) = (format!("error_rate {}", about(t)), format!("at most {}", t.max_error_rate));
    let samples = whole(delta.requests);
    if let Some(m) = unread(name.clone(), bound.clone(), samples, missing, t.min_samples) {
        return m;
    }
    let rate = Percent::of(whole(delta.errors), samples);
    let outcome = if rate > t.max_error_rate { CheckOutcome::Fail } else { CheckOutcome::Pass };
    Measurement { name, value: Some(rate.to_string()), bound, samples, outcome }
}

fn latency(t: &ValidationTarget, delta: &Delta, missing: Option<&String>) -> Measurement {
    let (name, bound) = (format!("latency_p95 {}", about(t)), format!("at most {}", t.max_latency_p95));
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
    let (name, bound) = (format!("availability {}", about(t)), format!("at least {}", t.min_availability));
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
            window_max: Span::ZERO,
            returning: false,
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
