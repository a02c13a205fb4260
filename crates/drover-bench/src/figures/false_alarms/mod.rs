//! `false-alarms`: how often packet loss alone would have drover leave a region that is well, and what a slower policy
//! costs in detection.
//!
//! Three regions and a witness probe each other; no endpoint ever fails, and every probe crosses the paths of `paths`, which
//! lose one in a hundred independently, and more in bursts that all who share the path see together. The opinions and the
//! verdict are drover's own. No guard is asked: what the breaker, damping or a block period would still stop counts as a
//! failover here.
//!
//! A count of rare events says little by itself: the bar is on the upper end of its 95 % interval (exact, after Garwood,
//! "Fiducial limits for the Poisson distribution", 1936; with no event at all it is the rule of three).

mod paths;
mod plot;
mod watch;

use crate::error::{Attempt, Result};
use crate::figure::{Bar, Figure, Scale};
use drover_model::probe::OpinionPolicy;
use drover_model::{Percent, Span};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Years of a region that are watched under the shipped policy: five times what is asked for, since with 300 and one
/// event the interval would reach beyond it.
const REGION_YEARS: usize = 1_500;
/// Under each of the others, which are told only.
const REGION_YEARS_OTHERS: usize = 300;
/// Outages by which the time to detect is measured.
const OUTAGES: usize = 2_000;
const BAR_A_YEAR: f64 = 0.01;
const SEED: u64 = 1;
const HOURS_A_YEAR: f64 = 365.25 * 24.0;

/// One policy with what it gave.
struct Tried {
    name: String,
    region_years: f64,
    alarms: u64,
    /// 95 % of the time it is less.
    upper: f64,
    detection_mean: Span,
}

/// The shipped policy, with another interval or threshold.
pub(super) fn policy(interval: Span, failure_threshold: u32) -> OpinionPolicy {
    OpinionPolicy {
        failure_threshold,
        // The shipped window at the shipped interval, and as many probes at any other.
        failure_window: interval.times(10),
        gray_failure_share: Percent::whole(50),
        gray_min_samples: 6,
        recovery_threshold: 10,
        stale_after: interval.times(3).plus(Span::from_secs(5)),
    }
}

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("false-alarms", scale);
    let shipped = try_one(Span::from_secs(30), 3, scale.of(REGION_YEARS, 3), scale)?;
    figure.bar(
        format!("automatic failovers from loss alone, {}, upper end of 95 %", shipped.name),
        shipped.upper,
        "a region-year",
        Bar::AtMost(BAR_A_YEAR),
    );
    figure.told("· seen", shipped.alarms as f64, "failovers");
    figure.told("· in", shipped.region_years, "region-years");
    figure.told("· time to detect an outage, mean", shipped.detection_mean.as_secs_f64(), "s");
    let mut all = vec![shipped];
    for (interval, threshold) in [(30, 1), (30, 2), (30, 5), (10, 3), (10, 5)] {
        let tried = try_one(Span::from_secs(interval), threshold, scale.of(REGION_YEARS_OTHERS, 3), scale)?;
        figure.told(format!("{}: upper end of 95 %", tried.name), tried.upper, "a region-year");
        figure.told("· time to detect an outage, mean", tried.detection_mean.as_secs_f64(), "s");
        all.push(tried);
    }
    let detected = all.iter().all(|t| t.detection_mean > Span::ZERO);
    figure.check("every policy finds every outage", detected, format!("{} policies", all.len()));
    let hasty = all.iter().find(|t| t.name.starts_with("1 failure")).map_or(0, |t| t.alarms);
    figure.check(
        "a policy of one failure is fooled, so that there is something to be fooled by",
        hasty > 0,
        format!("{hasty} failovers"),
    );
    let path = plot::write(&all)?;
    figure.check("the picture is written", path.is_file(), path.display().to_string());
    Ok(figure)
}

fn try_one(interval: Span, threshold: u32, region_years: usize, scale: Scale) -> Result<Tried> {
    let policy = policy(interval, threshold);
    let mut watch = watch::Watch::new(policy.clone(), interval, SEED);
    let years = region_years as f64 / watch::REGIONS as f64;
    let alarms = watch.false_alarms(Span::from_hours((years * HOURS_A_YEAR) as u64));
    let detection_mean = watch::mean_detection(&policy, interval, scale.of(OUTAGES, 20), SEED)?;
    let failures = if threshold == 1 { "failure" } else { "failures" };
    let upper = upper_bound(alarms)? / region_years as f64;
    Ok(Tried {
        name: format!("{threshold} {failures} at {interval}"),
        region_years: region_years as f64,
        alarms,
        upper,
        detection_mean,
    })
}

/// The upper end of the one-sided 95 % interval of a count.
fn upper_bound(events: u64) -> Result<f64> {
    let chi = ChiSquared::new(2.0 * (events as f64 + 1.0)).attempt("bound a count")?;
    Ok(chi.inverse_cdf(0.95) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_at_all_is_bounded_by_three() {
        for (events, upper) in [(0, 2.996), (1, 4.744), (10, 16.96)] {
            assert!((upper_bound(events).unwrap() - upper).abs() < 0.01, "{events}");
        }
    }
}
