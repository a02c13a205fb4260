//! The sample service's numbers, in Prometheus text: client requests by status, and their latency.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the latency histogram, in milliseconds: fine below 100, where the demo's scaled bounds lie.
const BOUNDS_MILLIS: [u64; 11] = [1, 2, 5, 10, 20, 30, 50, 100, 500, 2_000, 5_000];

#[derive(Debug, Default)]
struct Counts {
    by_status: BTreeMap<u16, u64>,
    /// One a bound, and the rest.
    by_latency: [u64; BOUNDS_MILLIS.len() + 1],
    total: Duration,
}

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Metrics {
    counts: Mutex<Counts>,
}

impl Metrics {
    /// One request was answered.
    pub fn record(&self, status: u16, took: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.by_status.entry(status).or_default() += 1;
        let bucket = BOUNDS_MILLIS.iter().position(|b| took <= Duration::from_millis(*b));
        counts.by_latency[bucket.unwrap_or(BOUNDS_MILLIS.len())] += 1;
        counts.total += took;
    }

    /// As Prometheus reads it.
    pub fn exposition(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from("# TYPE http_requests_total counter\n");
        // A counter that was never raised is zero, not missing.
        if counts.by_status.is_empty() {
            text.push_str("http_requests_total{status=\"200\"} 0\n");
        }
        for (status, n) in &counts.by_status {
            let _ = writeln!(text, "http_requests_total{{status=\"{status}\"}} {n}");
        }
        text.push_str("# TYPE http_request_duration_seconds histogram\n");
        let mut below = 0;
        let bounds = BOUNDS_MILLIS.iter().map(|b| Duration::from_millis(*b).as_secs_f64().to_string());
        for (bound, n) in bounds.chain(["+Inf".to_owned()]).zip(counts.by_latency) {
            below += n;
            let _ = writeln!(text, "http_request_duration_seconds_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "http_request_duration_seconds_sum {}", counts.total.as_secs_f64());
        let _ = writeln!(text, "http_request_duration_seconds_count {below}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_latencies_add_up() {
        let metrics = Metrics::default();
        assert!(metrics.exposition().contains("http_requests_total{status=\"200\"} 0\n"));
        metrics.record(200, Duration::from_micros(300));
        metrics.record(200, Duration::from_millis(15));
        metrics.record(503, Duration::from_secs(9));
        let text = metrics.exposition();
        for line in [
            "http_requests_total{status=\"200\"} 2",
            "http_requests_total{status=\"503\"} 1",
            "http_request_duration_seconds_bucket{le=\"0.001\"} 1",
            "http_request_duration_seconds_bucket{le=\"0.02\"} 2",
            "http_request_duration_seconds_bucket{le=\"5\"} 2",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "http_request_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
