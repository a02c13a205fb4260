//! A service's own numbers, read from each endpoint's Prometheus text: requests, errors, latency.
//!
//! Counters only ever grow, so two readings give the numbers of the time between them; a counter that fell was
//! restarted, and that interval counts from zero. An endpoint that can't be read gives nothing, which is not zero.

use drover_model::config::MetricsSource;
use drover_model::{RequestsPerSecond, Span, Timestamp};
use std::collections::VecDeque;

/// Bytes of one exposition, at most.
pub const EXPOSITION_BYTES_MAX: usize = 4 << 20;

/// Readings kept for an endpoint: the load that counts is the highest of these, so that a region's death, which takes
/// its own counters with it, does not make the service look smaller than it was a moment ago.
pub const READINGS_KEPT: usize = 20;

/// Counters of one endpoint at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// Requests answered so far.
    pub requests: f64,
    /// Of these, with status 5xx or none.
    pub errors: f64,
    /// Cumulative latency histogram: (upper bound in seconds, count), ascending, the last bound infinite.
    pub buckets: Vec<(f64, f64)>,
}

/// Why an exposition can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// Not Prometheus text.
    #[error("the exposition is not Prometheus text: {0}")]
    NotExposition(String),
    /// The configured metric is not in it.
    #[error("the exposition has no metric `{0}`")]
    NoMetric(String),
}

/// Reads the configured metrics from an exposition.
///
/// # Errors
/// When the text is no exposition, or the requests metric is missing.
pub fn parse(text: &str, source: &MetricsSource, at: Timestamp) -> Result<Reading, ScrapeError> {
    let lines = text.lines().map(|l| Ok::<_, std::io::Error>(l.to_owned()));
    let scrape =
        prometheus_parse::Scrape::parse(lines).map_err(|e| ScrapeError::NotExposition(e.to_string()))?;
    let mut reading = Reading { at, requests: 0.0, errors: 0.0, buckets: Vec::new() };
    let mut found = false;
    for sample in &scrape.samples {
        if sample.metric == source.requests_metric {
            let value = match sample.value {
                prometheus_parse::Value::Counter(v) | prometheus_parse::Value::Untyped(v) => v,
                _ => continue,
            };
            found = true;
            reading.requests += value;
            let status = sample.labels.get(&source.status_label).unwrap_or("");
            if status.starts_with('5') || status == "0" {
                reading.errors += value;
            }
        } else if sample.metric == source.latency_metric
            && let prometheus_parse::Value::Histogram(counts) = &sample.value
        {
            add_buckets(&mut reading.buckets, counts);
        }
    }
    if found { Ok(reading) } else { Err(ScrapeError::NoMetric(source.requests_metric.clone())) }
}

fn add_buckets(sum: &mut Vec<(f64, f64)>, counts: &[prometheus_parse::HistogramCount]) {
    for c in counts {
        match sum
            .iter_mut()
            .find(|(bound, _)| *bound == c.less_than || (bound.is_infinite() && c.less_than.is_infinite()))
        {
            Some((_, n)) => *n += c.count,
            None => sum.push((c.less_than, c.count)),
        }
    }
    sum.sort_by(|a, b| a.0.total_cmp(&b.0));
}

/// What happened between two readings, summed over endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Requests answered.
    pub requests: f64,
    /// Of these, errors.
    pub errors: f64,
    /// Latency histogram of the interval.
    pub buckets: Vec<(f64, f64)>,
}

fn grown(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after }
}

impl Delta {
    /// Adds the interval between two readings of one endpoint.
    pub fn add(&mut self, before: &Reading, after: &Reading) {
        self.requests += grown(before.requests, after.requests);
        self.errors += grown(before.errors, after.errors);
        let restarted = after.requests < before.requests;
        for (bound, count) in &after.buckets {
            let earlier = before.buckets.iter().find(|(b, _)| b == bound).map_or(0.0, |(_, n)| *n);
            let n = if restarted { *count } else { grown(earlier, *count) };
            match self.buckets.iter_mut().find(|(b, _)| b == bound) {
                Some((_, sum)) => *sum += n,
                None => self.buckets.push((*bound, n)),
            }
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// The 95th percentile of latency, as far as a histogram knows it; nothing when there are no samples.
    #[must_use]
    pub fn latency_p95(&self) -> Option<P95> {
        let total = self.buckets.last().map(|(_, n)| *n)?;
        if total <= 0.0 {
            return None;
        }
        let rank = total * 0.95;
        let i = self.buckets.iter().position(|(_, n)| *n >= rank)?;
        let (bound, upto) = self.buckets[i];
        let (lower, below) = i.checked_sub(1).map_or((0.0, 0.0), |j| self.buckets[j]);
        if bound.is_infinite() {
            return Some(P95::Above(span((lower * 1_000.0).floor())));
        }
        let share = if upto > below { ((rank - below) / (upto - below)).clamp(0.0, 1.0) } else { 1.0 };
        Some(P95::Within {
            above: span((lower * 1_000.0).floor()),
            about: span(((lower + (bound - lower) * share) * 1_000.0).ceil()),
            at_most: span((bound * 1_000.0).ceil()),
        })
    }
}

// Milliseconds from a histogram bound: small and positive; a negative bound, which no latency has, becomes zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn span(millis: f64) -> Span {
    Span::from_millis(millis as u64)
}

/// A percentile as a histogram knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum P95 {
    /// It lies in this bucket.
    Within {
        /// The bucket's lower bound.
        above: Span,
        /// Where it lies if the bucket's samples are spread evenly.
        about: Span,
        /// The bucket's upper bound.
        at_most: Span,
    },
    /// More than this, the largest finite bound.
    Above(Span),
}

/// An endpoint's last readings.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    kept: VecDeque<Reading>,
    /// Why the last attempt failed, when it did.
    pub failure: Option<String>,
}

impl Readings {
    /// Keeps a reading.
    pub fn push(&mut self, reading: Reading) {
        self.failure = None;
        self.kept.push_back(reading);
        while self.kept.len() > READINGS_KEPT {
            self.kept.pop_front();
        }
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<&Reading> {
        self.kept.back()
    }

    /// Requests a second up to each reading, over at least `apart`; absent before there are two readings so far apart.
    ///
    /// The hard case is a machine that stalls: a reading is stamped when it arrives, so that one which waited and the next
    /// one lie milliseconds apart with a whole interval's requests between them, a load of thousands that never was.
    #[must_use]
    pub fn rates(&self, apart: Span) -> Vec<(Timestamp, f64)> {
        let before = |index: usize| {
            let b = &self.kept[index];
            let a = self
                .kept
                .range(..index)
                .rev()
                .find(|a| b.at.since(a.at) >= apart.max(Span::from_millis(1)))?;
            Some((b.at, grown(a.requests, b.requests) / b.at.since(a.at).as_secs_f64()))
        };
        (0..self.kept.len()).filter_map(before).collect()
    }
}

/// A service's load from its endpoints' readings: the highest sum of rates over slots of one interval, over the
/// readings kept. Each endpoint says whether it carries traffic. `None` when one that does has no rate in that time: a
/// sum without it would make the service look smaller than it is.
#[must_use]
pub fn load<'a>(
    endpoints: impl Iterator<Item = (bool, Option<&'a Readings>)>,
    interval: Span,
    now: Timestamp,
) -> Option<(RequestsPerSecond, Timestamp)> {
    let slot = i64::try_from(interval.as_millis().max(1)).unwrap_or(i64::MAX);
    let mut slots: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
    let mut newest: Option<Timestamp> = None;
    let horizon = now - interval.times(READINGS_KEPT as u64);
    for (carries, readings) in endpoints {
        let mut mine: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
        for (at, rate) in readings.map(|r| r.rates(interval.divided_by(2))).unwrap_or_default() {
            if at >= horizon {
                let best = mine.entry(at.as_millis() / slot).or_default();
                *best = best.max(rate);
                newest = newest.max(Some(at));
            }
        }
        if carries && mine.is_empty() {
            return None;
        }
        for (s, rate) in mine {
            *slots.entry(s).or_default() += rate;
        }
    }
    let highest = slots.values().copied().fold(0.0, f64::max);
    // A rate is positive and far below 2^53.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    newest.map(|at| (RequestsPerSecond(highest.ceil() as u64), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> MetricsSource {
        MetricsSource {
            path: "/metrics".into(),
            requests_metric: "http_requests_total".into(),
            status_label: "status".into(),
            latency_metric: "http_request_duration_seconds".into(),
            interval: Span::from_secs(1),
        }
    }

    const TEXT: &str = "# TYPE http_requests_total counter\n\
        http_requests_total{status=\"200\"} 90\nhttp_requests_total{status=\"503\"} 10\n\
        # TYPE http_request_duration_seconds histogram\n\
        http_request_duration_seconds_bucket{le=\"0.1\"} 94\nhttp_request_duration_seconds_bucket{le=\"1\"} 100\n\
        http_request_duration_seconds_bucket{le=\"+Inf\"} 100\nhttp_request_duration_seconds_sum 5\n\
        http_request_duration_seconds_count 100\n";

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    #[test]
    fn requests_errors_and_latency_are_read() {
        let r = parse(TEXT, &source(), at(1)).unwrap();
        assert_eq!((r.requests, r.errors), (100.0, 10.0));
        let mut d = Delta::default();
        d.add(&Reading { at: at(0), requests: 0.0, errors: 0.0, buckets: vec![] }, &r);
        let (above, at_most) = (Span::from_millis(100), Span::from_secs(1));
        // The 95th of 100 is the first of six in the bucket: a sixth of the way from 100 ms to 1 s.
        assert_eq!(d.latency_p95(), Some(P95::Within { above, about: Span::from_millis(250), at_most }));
    }

    #[test]
    fn a_missing_metric_is_an_error_not_zero() {
        assert_eq!(
            parse("up 1\n", &source(), at(0)),
            Err(ScrapeError::NoMetric("http_requests_total".into()))
        );
    }

    #[test]
    fn a_restarted_counter_counts_from_zero() {
        let reading = |t, n| Reading { at: at(t), requests: n, errors: 0.0, buckets: vec![] };
        let mut d = Delta::default();
        d.add(&reading(0, 500.0), &reading(1, 20.0));
        assert_eq!(d.requests, 20.0);
    }

    #[test]
    fn a_reading_that_waited_makes_no_load_of_thousands() {
        let mut readings = Readings::default();
        // 300 requests a second all the time; the second reading was counted at 1 s and arrived at 1.98 s.
        for (millis, requests) in [(0, 0.0), (1_980, 300.0), (2_000, 600.0), (3_000, 900.0)] {
            let at = Timestamp::from_millis(millis);
            readings.push(Reading { at, requests, errors: 0.0, buckets: vec![] });
        }
        let (rate, _) = load([(true, Some(&readings))].into_iter(), Span::from_secs(1), at(4)).unwrap();
        assert_eq!(rate, RequestsPerSecond(300));
    }

    #[test]
    fn the_load_of_a_dead_region_still_counts() {
        let mut alive = Readings::default();
        let mut dead = Readings::default();
        for t in 0..5 {
            alive.push(Reading { at: at(t), requests: 100.0 * t as f64, errors: 0.0, buckets: vec![] });
            if t < 3 {
                dead.push(Reading { at: at(t), requests: 50.0 * t as f64, errors: 0.0, buckets: vec![] });
            }
        }
        let interval = Span::from_secs(1);
        let both = [(true, Some(&alive)), (true, Some(&dead))];
        let (rate, _) = load(both.into_iter(), interval, at(5)).unwrap();
        assert_eq!(rate, RequestsPerSecond(150));

        let unread = |carries| [(true, Some(&alive)), (carries, None)].into_iter();
        assert_eq!(load(unread(true), interval, at(5)), None, "a part is not the whole");
        assert_eq!(load(unread(false), interval, at(5)).unwrap().0, RequestsPerSecond(100));
        assert_eq!(load(both.into_iter(), interval, at(500)), None, "all too old");
    }
}
