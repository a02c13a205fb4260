//! `validate`: what users and probes saw over the window, judged by the plan's bounds. Too little is inconclusive.

use crate::hands::failed;
use crate::state::{Shared, State, Tally};
use crate::truth::Requests;
use drover_model::journal::{CheckOutcome, FailureNature, Measurement, StepFailure, StepOutcome};
use drover_model::plan::ValidationTarget;
use drover_model::{EndpointKey, Percent, RegionId, Span};
use std::collections::BTreeMap;

/// Probes from outside that are needed for an availability, as in production.
const PROBES_MIN: u64 = 4;

/// Looks a window while samples are too few, and the least pause between two, as in production.
const LOOKS_A_WINDOW: u64 = 4;
const LOOK_PAUSE_MIN: Span = Span::from_millis(100);

struct Baseline {
    requests: BTreeMap<EndpointKey, Requests>,
    tallies: BTreeMap<EndpointKey, Tally>,
}

impl Baseline {
    fn of(state: &State) -> Self {
        Self { requests: state.truth.requests.clone(), tallies: state.leader.tallies.clone() }
    }
}

pub(crate) async fn act(shared: &Shared, targets: &[ValidationTarget]) -> Result<StepOutcome, StepFailure> {
    let before = Baseline::of(&shared.lock());
    let window = targets.iter().map(|t| t.window).max().unwrap_or(Span::ZERO);
    let pause = window.divided_by(LOOKS_A_WINDOW).max(LOOK_PAUSE_MIN);
    let mut watched = window;
    tokio::time::sleep(window.to_duration()).await;
    let measured = loop {
        let measured: Vec<[Measurement; 3]> = {
            let state = shared.lock();
            targets.iter().map(|t| judge(&state, t, &before)).collect()
        };
        let undecided = |(t, m): (&ValidationTarget, &[Measurement; 3])| {
            // What can't be read does not become readable by waiting.
            let readable = has_metrics(&shared.lock(), t);
            readable && watched < t.longest() && m.iter().any(|m| m.outcome == CheckOutcome::Inconclusive)
        };
        let fails = measured.iter().flatten().any(|m| m.outcome == CheckOutcome::Fail);
        if fails || !targets.iter().zip(&measured).any(undecided) {
            break measured;
        }
        tokio::time::sleep(pause.to_duration()).await;
        watched = watched.plus(pause);
    };
    let measured: Vec<Measurement> = measured.into_iter().flatten().collect();
    let worst = measured.iter().map(|m| m.outcome).max().unwrap_or(CheckOutcome::Inconclusive);
    let of_worst = measured
        .iter()
        .filter(|m| m.outcome == worst)
        .map(|m| format!("{} {} (bound {})", m.name, m.value.as_deref().unwrap_or("unknown"), m.bound));
    let message = of_worst.collect::<Vec<_>>().join("; ");
    let nature = match worst {
        CheckOutcome::Pass => {
            let summary = format!("{} figures within their bounds over {watched}", measured.len());
            return Ok(StepOutcome { measurements: measured, ..StepOutcome::done(false, summary) });
        }
        CheckOutcome::Fail => FailureNature::Permanent,
        CheckOutcome::Error => FailureNature::Retryable,
        CheckOutcome::Inconclusive | CheckOutcome::Noted => FailureNature::Inconclusive,
    };
    Err(StepFailure { measurements: measured, ..failed(nature, message) })
}

fn judge(state: &State, t: &ValidationTarget, before: &Baseline) -> [Measurement; 3] {
    let (mut requests, mut tally) = (Requests::default(), Tally::default());
    for region in &t.regions {
        let key = EndpointKey::new(&t.service, region);
        let (was, is) = (of(&before.requests, &key), of(&state.truth.requests, &key));
        requests.made += is.made - was.made;
        requests.failed += is.failed - was.failed;
        let (was, is) = (of(&before.tallies, &key), of(&state.leader.tallies, &key));
        // A successor begins to count anew.
        tally.good += is.good.saturating_sub(was.good);
        tally.failed += is.failed.saturating_sub(was.failed);
    }
    let made = if has_metrics(state, t) { requests.made / 1_000 } else { 0 };
    let rate = Percent::of(requests.failed, requests.made);
    let slowest = t.regions.iter().map(|r| latency(state, t, r)).max().unwrap_or_default();
    let share = Percent::of(tally.good, tally.good + tally.failed);
    let probes = tally.good + tally.failed;
    let verdict = |enough: bool, good: bool| match (enough, good) {
        (false, _) => CheckOutcome::Inconclusive,
        (true, true) => CheckOutcome::Pass,
        (true, false) => CheckOutcome::Fail,
    };
    let figure = |name: &str, value: String, bound: String, samples, outcome| Measurement {
        name: format!("{name} {}", t.service),
        value: Some(if outcome == CheckOutcome::Inconclusive {
            format!("of {samples} samples")
        } else {
            value
        }),
        bound,
        samples,
        outcome,
    };
    let enough = made >= t.min_samples;
    [
        figure(
            "error_rate",
            rate.to_string(),
            format!("at most {}", t.max_error_rate),
            made,
            verdict(enough, rate <= t.max_error_rate),
        ),
        figure(
            "latency_p95",
            slowest.to_string(),
            format!("at most {}", t.max_latency_p95),
            made,
            verdict(enough, slowest <= t.max_latency_p95),
        ),
        figure(
            "availability",
            share.to_string(),
            format!("at least {}", t.min_availability),
            probes,
            verdict(probes >= PROBES_MIN, share >= t.min_availability),
        ),
    ]
}

fn has_metrics(state: &State, t: &ValidationTarget) -> bool {
    state.loaded.config.services.get(&t.service).is_some_and(|s| s.metrics.is_some())
}

fn latency(state: &State, t: &ValidationTarget, region: &RegionId) -> Span {
    state.truth.condition(&EndpointKey::new(&t.service, region)).latency
}

fn of<T: Copy + Default>(all: &BTreeMap<EndpointKey, T>, key: &EndpointKey) -> T {
    all.get(key).copied().unwrap_or_default()
}
