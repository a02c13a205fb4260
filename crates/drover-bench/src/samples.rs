//! Times of one thing done over and over. All of them are kept: there are thousands, and so every percentile is exact.

use std::time::{Duration, Instant};

/// Times.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Times `work`, whose result is handed on.
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.add(began.elapsed());
        done
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The shortest time that at least `percent` of all are no longer than, in milliseconds; infinite without any, so
    /// that no bar is kept by nothing.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map_or(f64::INFINITY, |t| t.as_secs_f64() * 1e3)
    }

    /// The median, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        self.percentile_ms(50.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_added() {
        let mut samples = Samples::new();
        assert_eq!(samples.median_ms(), f64::INFINITY);
        (1..=100).rev().for_each(|n| samples.add(Duration::from_millis(n)));
        let at = |percent: f64| samples.percentile_ms(percent).round() as u64;
        assert_eq!((at(50.0), at(99.0), at(99.5), at(100.0)), (50, 99, 100, 100));
    }
}
