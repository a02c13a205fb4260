//! What was seen while a schedule ran, and what of it must not be. It knows what really was broken, and asks drover for no
//! opinion.

use crate::schedule::{Fault, Role};
use drover_model::{Epoch, RunId, Span, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Evidence of a failure is that old at most when drover acts: the window of the probes, and what reports take.
const EVIDENCE: Span = Span::from_secs(8);
/// A fault is felt so much longer: a lost packet's repetition, a process that starts.
const FELT: Span = Span::from_secs(4);
/// Outside vantages of a region that must fail before drover acts by itself: max(2, n/2+1) of three.
const QUORUM: usize = 2;
/// The regions that serve, and the witness after them.
const PLACES: [usize; 4] = [1, 2, 3, 4];

/// A fault as it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    pub fault: Fault<usize>,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// What a DNS server said to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub at: Timestamp,
    pub server: usize,
    pub code: u8,
    pub addresses: usize,
}

/// What came of a call of the service: name and connection, as a user has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub begun: Timestamp,
    pub ended: Timestamp,
    pub failed: Option<String>,
}

/// A coordinator said that it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads {
    pub at: Timestamp,
    pub coordinator: usize,
    pub epoch: Epoch,
}

/// Whom a DNS server obeys, and which generation it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obeys {
    pub at: Timestamp,
    pub server: usize,
    pub epoch: Epoch,
    pub generation: u64,
}

/// Something with an epoch, in the order in which it was accepted by whoever keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub order: u64,
    pub what: String,
    pub epoch: Epoch,
}

/// A failover that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    pub run: RunId,
    pub region: usize,
    pub first_failure_at: Timestamp,
    pub started_at: Timestamp,
}

/// What a register kept of a write, before it acknowledged it or once it had: by the clock of this machine, which all registers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub register: usize,
    pub generation: u64,
    pub at_nanoseconds: u128,
}

/// A write that a client was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub begun: Timestamp,
    pub ended: Timestamp,
    pub register: usize,
    pub generation: u64,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub injected: Vec<Injected>,
    pub told: Vec<Told>,
    pub calls: Vec<Call>,
    pub leads: Vec<Leads>,
    pub obeys: Vec<Obeys>,
    /// By who keeps it: the store, each run's journal, each DNS server.
    pub accepted: BTreeMap<String, Vec<Accepted>>,
    pub failovers: Vec<Failover>,
    /// Of all registers, since they began.
    pub written: Vec<Written>,
    pub acknowledged: Vec<Acknowledged>,
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// I3: accepted from a leader after its successor was obeyed.
    EpochWentBack { keeper: String, what: String, epoch: Epoch, after: Epoch },
    /// I3: two coordinators led under one epoch.
    TwoLead { epoch: Epoch, coordinators: [usize; 2] },
    /// I3: a DNS server went back to an earlier state or leader.
    WentBack { server: usize, from: (Epoch, u64), to: (Epoch, u64) },
    /// I4: a server that answered had nothing to say.
    Dark { at: Timestamp, server: usize, code: u8 },
    /// I5: a register wrote at a generation after another one wrote at a later one.
    WroteLate { register: usize, generation: u64, later: u64 },
    /// I5: two registers wrote at one generation.
    TwoWrote { generation: u64, registers: [usize; 2] },
    /// I5: a client was told of a write at a generation that it began after it was told of one at a later generation.
    ToldLate { at: Timestamp, register: usize, generation: u64, later: u64 },
    /// I6: traffic left a region that enough vantages could reach all the time.
    MovedUnharmed { run: RunId, region: usize, at: Timestamp },
    /// A call failed while nothing was broken.
    Failed { at: Timestamp, why: String },
    /// Nothing was seen of this, so that nothing is proven.
    Unseen(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EpochWentBack { keeper, what, epoch, after } => {
                write!(f, "I3: {keeper}: {what} of epoch {epoch} was accepted after one of {after}")
            }
            Self::TwoLead { epoch, coordinators: [a, b] } => {
                write!(f, "I3: coordinators {a} and {b} both led under epoch {epoch}")
            }
            Self::WentBack { server, from, to } => {
                let ((e0, g0), (e1, g1)) = (from, to);
                write!(f, "I3: DNS server {server} went from generation {g0} of {e0} back to {g1} of {e1}")
            }
            Self::Dark { at, server, code } => {
                write!(f, "I4: DNS server {server} answered with code {code} and no address at {at}")
            }
            Self::WroteLate { register, generation, later } => {
                write!(
                    f,
                    "I5: register {register} wrote at generation {generation} after one wrote at {later}"
                )
            }
            Self::TwoWrote { generation, registers: [a, b] } => {
                write!(f, "I5: registers {a} and {b} both wrote at generation {generation}")
            }
            Self::ToldLate { at, register, generation, later } => {
                write!(
                    f,
                    "I5: register {register} took a write at generation {generation} that began at {at}, after one at {later}"
                )
            }
            Self::MovedUnharmed { run, region, at } => {
                write!(f, "I6: {run} took traffic off region {region} at {at}, which enough vantages reached")
            }
            Self::Failed { at, why } => write!(f, "a call at {at} failed while nothing was broken: {why}"),
            Self::Unseen(what) => write!(f, "nothing was seen of {what}"),
        }
    }
}

/// All that must not be in a history.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (keeper, accepted) in &history.accepted {
        found.extend(backwards(keeper, accepted));
    }
    found.extend(two_leaders(&history.leads));
    found.extend(dns_went_back(&history.obeys));
    let dark = history.told.iter().filter(|t| t.code != 0 || t.addresses == 0);
    found.extend(dark.map(|t| Violation::Dark { at: t.at, server: t.server, code: t.code }));
    found.extend(two_writers(&history.written));
    found.extend(wrote_late(&history.written));
    found.extend(told_late(&history.acknowledged));
    found.extend(moved_unharmed(history));
    found.extend(failed_calls(history));
    let seen = [
        (history.told.is_empty(), "DNS"),
        (history.calls.is_empty(), "the service"),
        (history.leads.is_empty(), "a leader"),
        (history.obeys.is_empty(), "whom DNS servers obey"),
        (history.accepted.values().all(Vec::is_empty), "what was written"),
        (history.written.is_empty(), "what registers keep"),
        (history.acknowledged.is_empty(), "a write that was acknowledged"),
    ];
    found.extend(seen.iter().filter(|(is_unseen, _)| *is_unseen).map(|(_, what)| Violation::Unseen(what)));
    found
}

fn backwards(keeper: &str, accepted: &[Accepted]) -> Vec<Violation> {
    let mut sorted: Vec<&Accepted> = accepted.iter().collect();
    sorted.sort_by_key(|a| a.order);
    let mut highest: Option<Epoch> = None;
    let mut found = Vec::new();
    for a in sorted {
        match highest {
            Some(after) if a.epoch.counter < after.counter => found.push(Violation::EpochWentBack {
                keeper: keeper.to_owned(),
                what: a.what.clone(),
                epoch: a.epoch,
                after,
            }),
            _ => highest = Some(a.epoch),
        }
    }
    found
}

fn two_leaders(leads: &[Leads]) -> Vec<Violation> {
    let mut by_epoch: BTreeMap<u64, &Leads> = BTreeMap::new();
    let mut found = Vec::new();
    for l in leads {
        let first = *by_epoch.entry(l.epoch.counter).or_insert(l);
        if first.coordinator != l.coordinator {
            found.push(Violation::TwoLead {
                epoch: l.epoch,
                coordinators: [first.coordinator, l.coordinator],
            });
        }
    }
    found
}

fn dns_went_back(obeys: &[Obeys]) -> Vec<Violation> {
    let mut last: BTreeMap<usize, &Obeys> = BTreeMap::new();
    let mut found = Vec::new();
    for o in obeys {
        if let Some(before) = last.insert(o.server, o)
            && (o.epoch.counter < before.epoch.counter || o.generation < before.generation)
        {
            let (from, to) = ((before.epoch, before.generation), (o.epoch, o.generation));
            found.push(Violation::WentBack { server: o.server, from, to });
        }
    }
    found
}

fn two_writers(written: &[Written]) -> Vec<Violation> {
    let mut writers: BTreeMap<u64, usize> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for w in written {
        let first = *writers.entry(w.generation).or_insert(w.register);
        if first != w.register {
            found.insert(w.generation, [first, w.register]);
        }
    }
    let violation = |(generation, registers)| Violation::TwoWrote { generation, registers };
    found.into_iter().map(violation).collect()
}

/// By what registers kept. One of each generation is told: its last write.
fn wrote_late(written: &[Written]) -> Vec<Violation> {
    let (mut first, mut last) = (BTreeMap::<u64, u128>::new(), BTreeMap::<u64, &Written>::new());
    for w in written {
        let at = first.entry(w.generation).or_insert(w.at_nanoseconds);
        *at = w.at_nanoseconds.min(*at);
        let latest = last.entry(w.generation).or_insert(w);
        if latest.at_nanoseconds < w.at_nanoseconds {
            *latest = w;
        }
    }
    let late = |w: &&Written| {
        let mut after = first.range(w.generation + 1..);
        let later = after.find(|(_, began)| **began <= w.at_nanoseconds);
        later.map(|(later, _)| Violation::WroteLate {
            register: w.register,
            generation: w.generation,
            later: *later,
        })
    };
    last.values().filter_map(late).collect()
}

/// By what clients were told: only a write that began after another one was acknowledged is later for them.
fn told_late(acknowledged: &[Acknowledged]) -> Vec<Violation> {
    let mut first: BTreeMap<u64, Timestamp> = BTreeMap::new();
    for a in acknowledged {
        let at = first.entry(a.generation).or_insert(a.ended);
        *at = a.ended.min(*at);
    }
    let late = |a: &Acknowledged| {
        let (later, _) = first.range(a.generation + 1..).find(|(_, told)| **told < a.begun)?;
        let (at, register, generation) = (a.begun, a.register, a.generation);
        Some(Violation::ToldLate { at, register, generation, later: *later })
    };
    acknowledged.iter().filter_map(late).collect()
}

fn moved_unharmed(history: &History) -> Vec<Violation> {
    let is_unharmed = |f: &&Failover| {
        let from = f.first_failure_at - EVIDENCE;
        let well = PLACES.iter().filter(|vantage| **vantage != f.region);
        let well =
            well.filter(|v| !is_disturbed(&history.injected, f.region, **v, from, f.started_at)).count();
        // So few are left that might have failed to reach it.
        PLACES.len() - 1 - well < QUORUM
    };
    let moved = history.failovers.iter().filter(is_unharmed);
    moved
        .map(|f| Violation::MovedUnharmed { run: f.run.clone(), region: f.region, at: f.started_at })
        .collect()
}

/// May this vantage have failed to reach that region in this time?
fn is_disturbed(
    injected: &[Injected],
    region: usize,
    vantage: usize,
    from: Timestamp,
    until: Timestamp,
) -> bool {
    let is_pair = |a: usize, b: usize| (a, b) == (region, vantage) || (b, a) == (region, vantage);
    let disturbs = |fault: &Fault<usize>| match *fault {
        Fault::Parted(a, further) | Fault::Deaf(a, further) => is_pair(a, around(a, further)),
        Fault::Stopped(p, Role::Service) | Fault::Killed(p, Role::Service) => p == region,
        Fault::Stopped(p, Role::Agent) | Fault::Killed(p, Role::Agent) => p == vantage,
        Fault::Stopped(..) | Fault::Killed(..) => false,
        Fault::Isolated(p) | Fault::Slow(p, ..) | Fault::Lossy(p, _) | Fault::Reordered(p, _) => {
            p == region || p == vantage
        }
    };
    injected.iter().any(|i| disturbs(&i.fault) && i.from <= until && i.until + FELT >= from)
}

/// The place so many further on, around regions and witness.
pub fn around(place: usize, further: usize) -> usize {
    (place - 1 + further) % PLACES.len() + 1
}

fn failed_calls(history: &History) -> Vec<Violation> {
    let is_excused =
        |c: &Call| history.injected.iter().any(|i| i.from <= c.ended && i.until + FELT >= c.begun);
    let failed = history.calls.iter().filter(|c| c.failed.is_some() && !is_excused(c));
    failed.map(|c| Violation::Failed { at: c.begun, why: c.failed.clone().unwrap_or_default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1_000)
    }

    fn epoch(counter: u64) -> Epoch {
        Epoch { incarnation: 1, counter }
    }

    fn accepted(order: u64, counter: u64) -> Accepted {
        Accepted { order, what: format!("record {order}"), epoch: epoch(counter) }
    }

    fn injected(fault: Fault<usize>, from: i64, until: i64) -> Injected {
        Injected { fault, from: at(from), until: at(until) }
    }

    fn failover(region: usize, first: i64, started: i64) -> Failover {
        let run = "run-1".parse().unwrap();
        Failover { run, region, first_failure_at: at(first), started_at: at(started) }
    }

    /// A takeover and a failover of a region that was cut off.
    fn sound() -> History {
        let call = |s, failed: bool| Call {
            begun: at(s),
            ended: at(s + 1),
            failed: failed.then(|| "timed out".to_owned()),
        };
        let obeys =
            |s, counter, generation| Obeys { at: at(s), server: 1, epoch: epoch(counter), generation };
        History {
            injected: vec![injected(Fault::Isolated(2), 0, 8)],
            told: vec![Told { at: at(1), server: 1, code: 0, addresses: 1 }],
            calls: vec![call(-5, false), call(2, true), call(30, false)],
            leads: vec![
                Leads { at: at(0), coordinator: 2, epoch: epoch(4) },
                Leads { at: at(4), coordinator: 1, epoch: epoch(5) },
                // Not yet told that it does not.
                Leads { at: at(4), coordinator: 2, epoch: epoch(4) },
            ],
            obeys: vec![obeys(0, 4, 7), obeys(5, 5, 8)],
            accepted: [("store".to_owned(), vec![accepted(1, 4), accepted(3, 5), accepted(2, 4)])].into(),
            failovers: vec![failover(2, 1, 5)],
            written: vec![written(2, 1, 10), written(2, 1, 20), written(1, 2, 30)],
            acknowledged: vec![told(2, 1, 1), told(1, 2, 5)],
        }
    }

    fn written(register: usize, generation: u64, at_nanoseconds: u128) -> Written {
        Written { register, generation, at_nanoseconds }
    }

    /// A write that takes a second.
    fn told(register: usize, generation: u64, begun: i64) -> Acknowledged {
        Acknowledged { begun: at(begun), ended: at(begun + 1), register, generation }
    }

    #[test]
    fn a_sound_history_is_found_sound() {
        assert_eq!(violations(&sound()), vec![]);
    }

    #[test]
    fn i3_a_record_of_a_deposed_leader_is_found() {
        let mut history = sound();
        history.accepted.get_mut("store").unwrap().push(accepted(4, 4));
        let Violation::EpochWentBack { epoch: found, after, .. } = violations(&history).remove(0) else {
            panic!("another violation")
        };
        assert_eq!((found, after), (epoch(4), epoch(5)));
    }

    #[test]
    fn i3_two_leaders_of_one_epoch_are_found() {
        let mut history = sound();
        history.leads.push(Leads { at: at(6), coordinator: 3, epoch: epoch(5) });
        assert_eq!(violations(&history), vec![Violation::TwoLead { epoch: epoch(5), coordinators: [1, 3] }]);
    }

    #[test]
    fn i3_a_dns_server_that_forgets_is_found() {
        for (counter, generation) in [(4, 8), (5, 7)] {
            let mut history = sound();
            history.obeys.push(Obeys { at: at(9), server: 1, epoch: epoch(counter), generation });
            let found = violations(&history);
            assert!(matches!(found[..], [Violation::WentBack { server: 1, .. }]), "{found:?}");
        }
        let mut history = sound();
        history.obeys.push(Obeys { at: at(9), server: 2, epoch: epoch(4), generation: 1 });
        assert_eq!(violations(&history), vec![], "another server is where it is");
    }

    #[test]
    fn i4_answers_without_an_address_are_found_however_they_are_put() {
        for (code, addresses) in [(0, 0), (2, 0), (3, 0)] {
            let mut history = sound();
            history.told.push(Told { at: at(3), server: 2, code, addresses });
            assert_eq!(violations(&history), vec![Violation::Dark { at: at(3), server: 2, code }]);
        }
    }

    #[test]
    fn i5_a_write_after_one_at_the_next_generation_is_found_in_what_registers_keep() {
        let mut history = sound();
        history.written.push(written(2, 1, 31));
        let late = Violation::WroteLate { register: 2, generation: 1, later: 2 };
        assert_eq!(violations(&history), vec![late]);
        // Also where the next generation wrote nothing between, and where records are in no order.
        let mut history = sound();
        history.written.insert(0, written(3, 3, 25));
        let late = Violation::WroteLate { register: 1, generation: 2, later: 3 };
        assert_eq!(violations(&history), vec![late]);
    }

    #[test]
    fn i5_two_writers_of_one_generation_are_found() {
        let mut history = sound();
        history.written.extend([written(3, 2, 40), written(3, 2, 50)]);
        assert_eq!(violations(&history), vec![Violation::TwoWrote { generation: 2, registers: [1, 3] }]);
    }

    #[test]
    fn i5_what_a_client_is_told_too_late_is_found() {
        let mut history = sound();
        history.acknowledged.push(told(2, 1, 6));
        assert_eq!(violations(&history), vec![], "it began before the other one was told of");
        history.acknowledged.push(told(2, 1, 7));
        let late = Violation::ToldLate { at: at(7), register: 2, generation: 1, later: 2 };
        assert_eq!(violations(&history), vec![late]);
    }

    #[test]
    fn i6_a_move_of_what_was_reachable_is_found() {
        let moved = |faults: Vec<Injected>, region| {
            let history = History { injected: faults, failovers: vec![failover(region, 1, 5)], ..sound() };
            let found = violations(&history);
            found.iter().any(|v| matches!(v, Violation::MovedUnharmed { .. }))
        };
        assert!(!moved(vec![injected(Fault::Isolated(2), 0, 8)], 2));
        assert!(moved(vec![injected(Fault::Isolated(2), 0, 8)], 1), "another region was cut off");
        assert!(moved(vec![injected(Fault::Isolated(2), -60, -40)], 2), "long ago");
        assert!(moved(vec![injected(Fault::Isolated(2), 6, 8)], 2), "afterwards");
        assert!(moved(vec![injected(Fault::Parted(2, 1), 0, 8)], 2), "one vantage of three");
        let two = vec![injected(Fault::Parted(2, 1), 0, 8), injected(Fault::Deaf(2, 2), 0, 8)];
        assert!(!moved(two, 2), "two of three");
        assert!(moved(vec![injected(Fault::Stopped(2, Role::Coordinator), 0, 8)], 2));
        assert!(moved(vec![injected(Fault::Killed(2, Role::Agent), 0, 8)], 2), "a silent agent");
        assert!(!moved(vec![injected(Fault::Killed(2, Role::Service), 0, 8)], 2));
    }

    #[test]
    fn calls_may_fail_only_while_something_is_broken() {
        let mut history = sound();
        let call = |s| Call { begun: at(s), ended: at(s + 1), failed: Some("timed out".to_owned()) };
        history.calls.push(call(10));
        assert_eq!(violations(&history), vec![], "still felt");
        history.calls.push(call(20));
        assert_eq!(violations(&history), vec![Violation::Failed { at: at(20), why: "timed out".to_owned() }]);
    }

    #[test]
    fn a_history_in_which_nothing_was_seen_proves_nothing() {
        let found = violations(&History::default());
        assert_eq!(found.len(), 7, "{found:?}");
    }

    #[test]
    fn partners_are_never_the_place_itself() {
        for place in PLACES {
            let others: Vec<usize> = (1..=3).map(|further| around(place, further)).collect();
            assert!(others.iter().all(|o| PLACES.contains(o) && *o != place), "{place}: {others:?}");
        }
    }
}
