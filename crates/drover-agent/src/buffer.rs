//! Observations on their way to every coordinator.
//!
//! One ring for all, one cursor for each coordinator. An observation leaves once every coordinator acknowledged it, or
//! when the ring is full and it is the oldest: newer results are worth more. What a coordinator never acknowledged is
//! counted against it as dropped, so that a gap in the sequence is explained.

use crate::probe::ProbeResult;
use drover_model::probe::{Observation, ProbeOutcome};
use drover_model::{EndpointKey, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
struct Stored {
    endpoint: Arc<EndpointKey>,
    result: ProbeResult,
    blind: bool,
}

/// How far one coordinator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Everything up to here is acknowledged, or was dropped.
    pub acknowledged: u64,
    /// Observations that were dropped before this coordinator acknowledged them.
    pub dropped: u64,
}

/// The ring.
#[derive(Debug)]
pub struct Buffer {
    ring: VecDeque<Stored>,
    /// Sequence number of the ring's first observation, or of the next one when it is empty.
    first: u64,
    capacity: usize,
    cursors: Vec<Cursor>,
    lost: u64,
}

impl Buffer {
    /// An empty ring of at most `capacity` observations for `coordinators` readers.
    #[must_use]
    pub fn new(capacity: usize, coordinators: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            ring: VecDeque::new(),
            first: 1,
            capacity,
            cursors: vec![Cursor::default(); coordinators],
            lost: 0,
        }
    }

    /// Adds a result, which the agent may have been `blind` for, and returns its sequence number.
    pub fn push(&mut self, endpoint: Arc<EndpointKey>, result: ProbeResult, blind: bool) -> u64 {
        if self.ring.len() >= self.capacity {
            self.drop_oldest();
        }
        self.ring.push_back(Stored { endpoint, result, blind });
        self.last_sequence()
    }

    fn drop_oldest(&mut self) {
        let gone = self.first;
        self.ring.pop_front();
        self.first += 1;
        if self.cursors.iter().all(|c| c.acknowledged < gone) {
            self.lost += 1;
        }
        for cursor in self.cursors.iter_mut().filter(|c| c.acknowledged < gone) {
            cursor.acknowledged = gone;
            cursor.dropped += 1;
        }
    }

    /// The newest sequence number given out; 0 before the first.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.first + self.ring.len() as u64 - 1
    }

    /// Observations held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Observations that no coordinator ever acknowledged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How far coordinator `reader` is.
    #[must_use]
    pub fn cursor(&self, reader: usize) -> Cursor {
        self.cursors.get(reader).copied().unwrap_or_default()
    }

    /// Observations that `reader` has not acknowledged.
    #[must_use]
    pub fn pending(&self, reader: usize) -> u64 {
        self.last_sequence().saturating_sub(self.cursor(reader).acknowledged)
    }

    /// The oldest observations that `reader` has not acknowledged, at most `limit`, with their ages at `now`.
    #[must_use]
    pub fn batch(&self, reader: usize, limit: usize, now: Timestamp) -> Vec<Observation> {
        let from = (self.cursor(reader).acknowledged + 1).max(self.first);
        let skip = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        self.ring.iter().skip(skip).take(limit).zip(from..).map(|(s, n)| s.observation(n, now)).collect()
    }

    /// `reader` holds everything up to `sequence`. Never goes back, and never beyond what was given out.
    pub fn acknowledge(&mut self, reader: usize, sequence: u64) {
        let last = self.last_sequence();
        if let Some(cursor) = self.cursors.get_mut(reader) {
            cursor.acknowledged = cursor.acknowledged.max(sequence.min(last));
        }
        let done = self.cursors.iter().map(|c| c.acknowledged).min().unwrap_or(last);
        while self.first <= done && self.ring.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Stored {
    fn observation(&self, sequence: u64, now: Timestamp) -> Observation {
        let r = &self.result;
        Observation {
            sequence,
            endpoint: (*self.endpoint).clone(),
            began_at: r.began_at,
            age: now.since(r.began),
            latency_micros: u64::try_from(r.latency.as_micros()).unwrap_or(u64::MAX),
            outcome: match &r.outcome {
                Ok(()) => ProbeOutcome::Good,
                Err(f) => ProbeOutcome::Failed { kind: f.kind, detail: f.detail.clone() },
            },
            status: r.status,
            certificate_expires_at: r.certificate_expires_at,
            blind: self.blind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Span;
    use std::time::Duration;

    fn filled(buffer: &mut Buffer, n: u64) {
        let key = Arc::new("shop@eu-west".parse().unwrap());
        for _ in 0..n {
            let began = Timestamp::from_millis(i64::try_from(buffer.last_sequence()).unwrap() * 1_000);
            let result = ProbeResult {
                began,
                began_at: began,
                latency: Duration::from_millis(3),
                outcome: Ok(()),
                status: Some(200),
                certificate_expires_at: None,
            };
            buffer.push(Arc::clone(&key), result, false);
        }
    }

    fn sequences(buffer: &Buffer, reader: usize, limit: usize) -> Vec<u64> {
        buffer.batch(reader, limit, Timestamp::default()).iter().map(|o| o.sequence).collect()
    }

    #[test]
    fn order_and_sequence_hold_and_the_acknowledged_leave() {
        let mut buffer = Buffer::new(10, 1);
        filled(&mut buffer, 5);
        assert_eq!(sequences(&buffer, 0, 3), [1, 2, 3]);
        buffer.acknowledge(0, 3);
        assert_eq!(sequences(&buffer, 0, 3), [4, 5]);
        assert_eq!((buffer.len(), buffer.pending(0), buffer.lost()), (2, 2, 0));
        buffer.acknowledge(0, 1);
        assert_eq!(buffer.cursor(0).acknowledged, 3, "an acknowledgement is never taken back");
        buffer.acknowledge(0, 1_000);
        assert_eq!(buffer.cursor(0).acknowledged, 5, "what was never sent cannot be acknowledged");
        filled(&mut buffer, 1);
        assert_eq!(sequences(&buffer, 0, 3), [6]);
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts_it_against_those_who_missed_it() {
        let mut buffer = Buffer::new(4, 2);
        filled(&mut buffer, 4);
        buffer.acknowledge(0, 3);
        filled(&mut buffer, 3);
        assert_eq!(buffer.len(), 4);
        assert_eq!(buffer.cursor(0), Cursor { acknowledged: 3, dropped: 0 });
        assert_eq!(buffer.cursor(1), Cursor { acknowledged: 3, dropped: 3 });
        assert_eq!(buffer.lost(), 0, "one coordinator has them");
        assert_eq!(sequences(&buffer, 1, 10), [4, 5, 6, 7]);
        filled(&mut buffer, 2);
        assert_eq!((buffer.lost(), buffer.cursor(0).dropped, buffer.cursor(1).dropped), (2, 2, 5));
    }

    #[test]
    fn the_age_is_counted_when_it_is_sent() {
        let mut buffer = Buffer::new(4, 1);
        filled(&mut buffer, 2);
        let at = |millis| {
            buffer.batch(0, 10, Timestamp::from_millis(millis)).iter().map(|o| o.age).collect::<Vec<_>>()
        };
        assert_eq!(at(5_000), [Span::from_secs(5), Span::from_secs(4)]);
        assert_eq!(at(7_000), [Span::from_secs(7), Span::from_secs(6)]);
    }
}
