//! When each endpoint is to be judged again although nothing arrives.
//!
//! What is held of an endpoint changes by a report, which has it judged at once, or by silence, at a moment that is known
//! beforehand. Between the two nothing of it need be looked at.

use drover_model::{EndpointKey, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// One moment an endpoint at most.
#[derive(Debug, Default)]
pub struct Agenda {
    at: BTreeMap<EndpointKey, Timestamp>,
    order: BTreeSet<(Timestamp, EndpointKey)>,
}

impl Agenda {
    /// Looks at `endpoint` at this moment and at no other; with none, at no moment.
    pub fn set(&mut self, endpoint: &EndpointKey, at: Option<Timestamp>) {
        if self.at.get(endpoint).copied() == at {
            return;
        }
        if let Some(before) = self.at.remove(endpoint) {
            self.order.remove(&(before, endpoint.clone()));
        }
        if let Some(at) = at {
            self.at.insert(endpoint.clone(), at);
            self.order.insert((at, endpoint.clone()));
        }
    }

    /// Takes out what is due at `now`.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<EndpointKey> {
        let mut due = Vec::new();
        while self.order.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, endpoint)) = self.order.pop_first() else { break };
            self.at.remove(&endpoint);
            due.push(endpoint);
        }
        due
    }

    /// When something is due next.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.at.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_an_endpoint_counts_and_each_is_taken_once() {
        let (a, b): (EndpointKey, EndpointKey) = ("a@x".parse().unwrap(), "b@x".parse().unwrap());
        let at = Timestamp::from_millis;
        let mut agenda = Agenda::default();
        agenda.set(&a, Some(at(5)));
        agenda.set(&b, Some(at(3)));
        agenda.set(&a, Some(at(1)));
        assert_eq!(agenda.take_due(at(0)), []);
        assert_eq!(agenda.next_at(), Some(at(1)));
        assert_eq!(agenda.take_due(at(3)), [a.clone(), b.clone()]);
        assert_eq!(agenda.take_due(at(9)), []);
        agenda.set(&a, Some(at(5)));
        agenda.set(&a, None);
        agenda.set(&b, Some(at(5)));
        agenda.clear();
        assert_eq!(agenda.take_due(at(9)), []);
    }
}
