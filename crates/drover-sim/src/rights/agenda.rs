//! What is to happen to a dataset, in the order of its times.

use super::agent::Letter;
use drover_exec::write_right::{Swap, TransferEvent};
use drover_model::Timestamp;
use drover_model::write_right::{GateAnswer, GateOrder, Renew, Seal};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One thing that happens. Machines are named by their place in the list; what belongs to one life of a process carries its
/// number, and counts for no other.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// An agent asks how the right stands.
    Look(usize, u64),
    /// An agent's keeper wished to be woken.
    Wake(usize, u64),
    /// Something arrives at an agent.
    Letter(usize, Letter),
    /// What was on its way to an agent's disk is on it.
    Persisted(usize, u64, Seal),
    /// A gate answers its agent.
    Answered { machine: usize, session: u64, number: u64, order: GateOrder, answer: GateAnswer },
    /// An agent's order arrives at its gate.
    Ordered { machine: usize, life: u64, session: u64, number: u64, order: GateOrder },
    /// A gate looks at the clock.
    GateLooks(usize, u64),
    /// Nothing of a database runs any more.
    Stopped(usize, u64),
    /// A renewal arrives at a coordinator: so many were asked before.
    Renewal { machine: usize, before: usize, sent: Timestamp, renew: Renew },
    /// A leader's transaction arrives at the store.
    Swap(u64, Box<Swap>),
    /// Something happens to a leader's transfer.
    Lead(u64, Box<TransferEvent>),
    /// A leader, and whoever would follow it, look at the record.
    LeadLooks(u64),
}

#[derive(Debug)]
struct Due {
    at: Timestamp,
    number: u64,
    what: What,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first one is the greatest, since the heap hands out the greatest.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Everything that is to happen; of equals in that order in which it was put there.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Due>,
    count: u64,
}

impl Agenda {
    pub(super) fn put(&mut self, at: Timestamp, what: What) {
        self.count += 1;
        self.heap.push(Due { at, number: self.count, what });
    }

    /// The next one that is due at `until` at the latest.
    pub(super) fn next(&mut self, until: Timestamp) -> Option<(Timestamp, What)> {
        let is_due = self.heap.peek().is_some_and(|due| due.at <= until);
        let due = if is_due { self.heap.pop() } else { None };
        due.map(|due| (due.at, due.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_equals_in_their_order() {
        let mut agenda = Agenda::default();
        let at = Timestamp::from_millis;
        for (ms, machine) in [(5, 0), (3, 1), (5, 2), (9, 3)] {
            agenda.put(at(ms), What::Look(machine, 0));
        }
        let mut order = vec![];
        while let Some((_, What::Look(machine, _))) = agenda.next(at(8)) {
            order.push(machine);
        }
        assert_eq!(order, [1, 0, 2]);
        assert!(agenda.next(at(9)).is_some());
    }
}
