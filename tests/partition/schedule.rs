//! What goes wrong, drawn from a number: the same number, the same schedule.

use std::fmt;
use std::time::Duration;

/// Faults of a schedule begin in this time …
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// … and last so long: longer than it takes to find out, and than a coordinator may be silent.
const LASTS_MIN: Duration = Duration::from_secs(4);
const LASTS_MAX: Duration = Duration::from_secs(9);
/// Faults of one schedule.
const FAULTS_MAX: usize = 3;

/// One of the serving regions, or the one where the leader is when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    Region(usize),
    Leaders,
}

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Coordinator,
    Agent,
    Store,
    Dns,
    Service,
    Gate,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
            Self::Store => "etcd",
            Self::Dns => "dns",
            Self::Service => "service",
            Self::Gate => "gate",
        })
    }
}

/// What goes wrong, with the region (from 1) as `P`: a [`Whose`] in a schedule, a number once it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault<P> {
    /// Nothing leaves or reaches a region.
    Isolated(P),
    /// Nothing passes between a region and the one so many further on, the witness counted.
    Parted(P, usize),
    /// What that one sends does not reach the region; the other way it does.
    Deaf(P, usize),
    /// Everything that leaves the region is late, by delay and up to jitter in milliseconds.
    Slow(P, u64, u64),
    /// So many percent of what leaves it are lost.
    Lossy(P, u8),
    /// Everything that leaves it is late, but for so many percent, which overtake it.
    Reordered(P, u8),
    /// SIGSTOP, and SIGCONT at the end.
    Stopped(P, Role),
    /// SIGKILL, and started again at the end.
    Killed(P, Role),
}

impl<P: Copy> Fault<P> {
    /// The region that it is about.
    pub fn place(&self) -> P {
        match self {
            Self::Isolated(p) | Self::Parted(p, _) | Self::Deaf(p, _) | Self::Slow(p, ..) => *p,
            Self::Lossy(p, _) | Self::Reordered(p, _) | Self::Stopped(p, _) | Self::Killed(p, _) => *p,
        }
    }

    /// The same about another.
    pub fn at<Q>(self, place: Q) -> Fault<Q> {
        match self {
            Self::Isolated(_) => Fault::Isolated(place),
            Self::Parted(_, further) => Fault::Parted(place, further),
            Self::Deaf(_, further) => Fault::Deaf(place, further),
            Self::Slow(_, delay, jitter) => Fault::Slow(place, delay, jitter),
            Self::Lossy(_, percent) => Fault::Lossy(place, percent),
            Self::Reordered(_, percent) => Fault::Reordered(place, percent),
            Self::Stopped(_, role) => Fault::Stopped(place, role),
            Self::Killed(_, role) => Fault::Killed(place, role),
        }
    }
}

/// A fault from its begin to its end, counted from the begin of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Planned {
    pub from: Duration,
    pub until: Duration,
    pub fault: Fault<Whose>,
}

/// The schedule of a seed. Seeds in a row begin with each kind in turn.
pub fn drawn(seed: u64) -> Vec<Planned> {
    let mut draw = fastrand::Rng::with_seed(seed);
    let count = draw.usize(1..=FAULTS_MAX);
    let mut planned: Vec<Planned> = Vec::new();
    for number in 0..count {
        let kind = if number == 0 { seed % KINDS } else { draw.u64(..KINDS) };
        let from = millis(&mut draw, Duration::ZERO, BEGIN_WITHIN);
        let until = from + millis(&mut draw, LASTS_MIN, LASTS_MAX);
        let whose = if draw.bool() { Whose::Leaders } else { Whose::Region(draw.usize(1..=3)) };
        planned.push(Planned { from, until, fault: fault(&mut draw, kind, whose) });
    }
    planned.extend(drawn_beside(seed).1);
    planned.sort_by_key(|p| p.from);
    planned
}

/// A move of the dataset that somebody commands while things go wrong: when, and to the region so many further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    pub from: Duration,
    pub further: usize,
}

/// The move of a seed, in two schedules of three.
pub fn drawn_move(seed: u64) -> Option<Move> {
    drawn_beside(seed).0
}

/// What was added for datasets is drawn by itself, so that each seed has the faults that it ever had. A gate is killed and not
/// stopped: whatever runs it kills one that hangs, and here nobody does.
fn drawn_beside(seed: u64) -> (Option<Move>, Option<Planned>) {
    let mut draw = fastrand::Rng::with_seed(!seed);
    let is_moved = draw.u8(..3) > 0;
    let from = millis(&mut draw, Duration::ZERO, BEGIN_WITHIN + LASTS_MIN);
    let further = draw.usize(1..REGIONS_COUNT);
    let is_killed = draw.u8(..4) == 0;
    let begins = millis(&mut draw, Duration::ZERO, BEGIN_WITHIN);
    let until = begins + millis(&mut draw, LASTS_MIN, LASTS_MAX);
    let fault = Fault::Killed(Whose::Region(draw.usize(1..=REGIONS_COUNT)), Role::Gate);
    let killed = Planned { from: begins, until, fault };
    (is_moved.then_some(Move { from, further }), is_killed.then_some(killed))
}

/// Regions that serve, and have a copy of the dataset.
const REGIONS_COUNT: usize = 3;

/// So many kinds of faults [`fault`] knows.
const KINDS: u64 = 10;

fn fault(draw: &mut fastrand::Rng, kind: u64, whose: Whose) -> Fault<Whose> {
    // Never so far around that it is the region itself: four places see each other.
    let further = draw.usize(1..=3);
    match kind {
        0 | 1 => Fault::Isolated(whose),
        2 => Fault::Parted(whose, further),
        3 => Fault::Deaf(whose, further),
        4 => Fault::Slow(whose, draw.u64(20..60), draw.u64(0..40)),
        5 => Fault::Lossy(whose, draw.u8(5..30)),
        6 => Fault::Reordered(whose, draw.u8(20..60)),
        7 => Fault::Stopped(whose, role(draw)),
        8 => Fault::Stopped(whose, Role::Coordinator),
        _ => Fault::Killed(whose, role(draw)),
    }
}

fn role(draw: &mut fastrand::Rng) -> Role {
    let roles = [Role::Coordinator, Role::Agent, Role::Store, Role::Dns, Role::Service];
    roles[draw.usize(..roles.len())]
}

fn millis(draw: &mut fastrand::Rng, from: Duration, to: Duration) -> Duration {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap();
    Duration::from_millis(draw.u64(millis(from)..=millis(to)))
}

#[test]
fn seeds_draw_different_schedules_and_the_same_ones_again() {
    let all: std::collections::HashSet<Vec<Planned>> = (1..=crate::SEEDS).map(drawn).collect();
    assert_eq!(all.len(), usize::try_from(crate::SEEDS).unwrap(), "two seeds draw the same");
    assert_eq!(drawn(7), drawn(7));
}

#[test]
fn the_first_ten_hold_every_kind() {
    let faults: Vec<Fault<Whose>> = (1..=10).flat_map(drawn).map(|p| p.fault).collect();
    let has = |is: fn(&Fault<Whose>) -> bool| assert!(faults.iter().any(is), "{faults:?}");
    has(|f| matches!(f, Fault::Isolated(_)));
    has(|f| matches!(f, Fault::Parted(..)));
    has(|f| matches!(f, Fault::Deaf(..)));
    has(|f| matches!(f, Fault::Slow(..)));
    has(|f| matches!(f, Fault::Lossy(..)));
    has(|f| matches!(f, Fault::Reordered(..)));
    has(|f| matches!(f, Fault::Stopped(_, Role::Coordinator)));
    has(|f| matches!(f, Fault::Killed(..)));
    has(|f| matches!(f, Fault::Killed(_, Role::Gate)));
    has(|f| f.place() == Whose::Leaders);
    let moves = (1..=10).filter_map(drawn_move).count();
    assert!((3..10).contains(&moves), "{moves} moves");
}

#[test]
fn every_fault_lasts_longer_than_it_takes_to_notice() {
    for planned in (1..=crate::SEEDS).flat_map(drawn) {
        assert!(planned.until - planned.from >= LASTS_MIN && planned.from <= BEGIN_WITHIN, "{planned:?}");
    }
}
