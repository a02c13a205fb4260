//! The protocol as it is: nothing is violated, and what it is for happens in some run.

use super::bounds::{Bounds, Left, Timing};
use super::{Checked, World};
use drover_model::write_right::WriteGeneration;
use stateright::{Checker, Model, Property};

/// How many ticks are added to each run. Each costs about ten times the states.
const MORE_TICKS: &str = "DROVER_MODEL_MORE_TICKS";

/// A thing that some run must show.
type Shown = (&'static str, fn(&Checked, &World) -> bool);

const GRANTED: Shown = ("the target writes", |_, world| world.writers[2] == Some(1));

/// Later than any deadline that the store gave, it writes all the same.
const FAILSAFE: Shown = ("failsafe mode keeps the holder writing", |checked, world| {
    let bounds = &checked.bounds;
    let first = bounds.intervals.deadline(world.now(0)).since(world.now(0)).plus(bounds.intervals.demotion());
    let slow = world.rates.agents[0] * world.tick >= first.as_millis();
    slow && world.left.renewals == bounds.left.renewals && world.writes(bounds, 0) == Some(WriteGeneration(1))
});

const ABORTED: Shown = ("the holder writes again after an abort", |_, world| {
    world.writers[3] == Some(0) && world.writers[2].is_none()
});

const TAKEN_OVER: Shown =
    ("a new leader grants", |_, world| world.leader.counter == 2 && world.record.generation.0 == 2);

/// Before the last right can be over, even with the fastest clock that waits for it.
const FENCED: Shown = ("a holder that answers is not waited for", |checked, world| {
    let fastest = world.rates.coordinators[0].max(1);
    world.writers[2] == Some(1) && world.tick * fastest < checked.bounds.intervals.over().as_millis()
});

const MEMBER: Shown =
    ("a new member writes", |_, world| world.writers[2] == Some(2) && world.record.members.version.0 > 2);

const RESUMED: Shown = ("the holder goes on after a pause", |checked, world| {
    world.left.pauses == 0 && !world.nodes[0].paused && world.writes(&checked.bounds, 0).is_some()
});

const BOTH: Shown = ("the right moves twice", |_, world| world.writers[3].is_some_and(|writer| writer != 0));

const BACK: Shown = ("the right moves back", |_, world| world.writers[3] == Some(0));

const UNHEARD: Shown = ("the right moves back from a holder that was never heard of", |_, world| {
    world.writers[3] == Some(0) && world.writers[2].is_none()
});

/// Looks at every state within the bounds.
fn check(name: &str, bounds: Bounds, shown: &[Shown]) {
    let also = shown.iter().map(|&(name, holds)| Property::sometimes(name, holds)).collect();
    let checker = Checked { bounds, also }.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, {} deep",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// So many ticks, and as many more as somebody asks for.
fn ticks(ticks: u64) -> u64 {
    let more = std::env::var_os(MORE_TICKS).map(|more| more.to_string_lossy().parse::<u64>());
    ticks + more.transpose().unwrap_or_else(|_| panic!("{MORE_TICKS} is a number of ticks")).unwrap_or(0)
}

fn bounds(number: u64, left: Left) -> Bounds {
    Bounds::new(Timing::Two, ticks(number), left)
}

#[test]
fn a_transfer_with_every_drift() {
    check("drift", bounds(3, Bounds::left(0)).every_drift(Timing::Two), &[GRANTED, FAILSAFE, FENCED]);
}

#[test]
fn a_transfer_from_a_holder_that_renews() {
    check("renewal", bounds(3, Bounds::left(1)), &[GRANTED, FAILSAFE, FENCED]);
}

#[test]
fn a_transfer_from_a_holder_that_is_cut_off() {
    check("cut off", bounds(3, Bounds::left(1)).cut_off(), &[GRANTED, FAILSAFE]);
}

#[test]
fn a_transfer_under_the_largest_drift() {
    let three = Bounds::new(Timing::Three, ticks(3), Bounds::left(0));
    check("large drift", three, &[GRANTED, FENCED]);
}

#[test]
fn a_target_that_crashes() {
    let left = Left { crashes: 1, ..Bounds::left(0) };
    check("crash", bounds(3, left).cut_off(), &[GRANTED, FAILSAFE]);
}

#[test]
fn a_holder_that_crashes() {
    let left = Left { crashes: 1, ..Bounds::left(1) };
    check("crash of the holder", Bounds { crashing: vec![0], ..bounds(2, left) }, &[GRANTED, FAILSAFE]);
}

#[test]
fn an_abort_and_a_new_leader() {
    let left = Left { aborts: 1, takeovers: 1, lost_answers: 1, ..Bounds::left(1) };
    check("abort", bounds(2, left), &[ABORTED, TAKEN_OVER]);
}

#[test]
fn members_that_change() {
    let left = Left { member_changes: 1, ..Bounds::left(2) };
    check("members", Bounds { members: vec![1], targets: vec![2], ..bounds(3, left) }, &[MEMBER]);
}

/// Members change once, before the transfer or after it; the new holder may renew or not, and the old one is a member of its
/// right from the grant on.
#[test]
fn a_right_that_moves_back_while_members_change() {
    let left = Left { transfers: 2, member_changes: 1, ..Bounds::left(1) };
    let (members, memberships) = (vec![1], vec![vec![2], vec![0, 2]]);
    check("back", Bounds { members, targets: vec![1, 0], memberships, ..bounds(2, left) }, &[BACK, UNHEARD]);
}

#[test]
fn an_agent_that_is_paused() {
    let left = Left { pauses: 1, ..Bounds::left(0) };
    check("pause", bounds(3, left), &[GRANTED, RESUMED]);
}

#[test]
fn two_transfers() {
    let left = Left { transfers: 2, first_renewals: 2, ..Bounds::left(0) };
    check("twice", Bounds { targets: vec![1, 2], ..bounds(2, left) }, &[BOTH]);
}
