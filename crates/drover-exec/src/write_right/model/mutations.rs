//! What each rule is for: without it the model finds a run in which two write. A rule that another one backs is broken
//! together with that, and alone it is shown to be backed.

use super::Checked;
use super::bounds::{Bounds, Left, Timing};
use crate::write_right::SwapKind;
use crate::write_right::rules::{Rule, Rules};
use stateright::{Checker, HasDiscoveries, Model};

/// What the model finds within these bounds.
fn finds(without: &str, bounds: Bounds) -> bool {
    let checked = Checked { bounds, also: Vec::new() };
    let checker = checked.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discoveries().into_iter().next();
    let Some((property, path)) = found else {
        println!("without {without}: nothing in {states} states");
        return false;
    };
    println!("without {without}: not `{property}`, in {} steps, {states} states", path.into_actions().len());
    true
}

/// The right lasts for two ticks, and what may happen is one transfer to `s` and what `left` says.
fn bounds(ticks: u64, left: Left) -> Bounds {
    Bounds::new(Timing::Two, ticks, left)
}

/// The same with a holder that hears of nothing.
fn cut_off(ticks: u64, left: Left) -> Bounds {
    bounds(ticks, left).cut_off()
}

fn crash() -> Left {
    Left { crashes: 1, ..Bounds::left(0) }
}

fn abort() -> Left {
    Left { aborts: 1, ..Bounds::left(1) }
}

/// A rule whose removal is found.
#[track_caller]
fn needed(rules: &[Rule], bounds: Bounds) {
    assert!(finds(&format!("{rules:?}"), bounds.without(rules)), "{rules:?} can be broken");
}

/// A rule whose removal is not found, because another one holds all the same.
#[track_caller]
fn backed(rule: Rule, bounds: Bounds) {
    assert!(!finds(&format!("{rule:?}"), bounds.without(&[rule])), "{rule:?} is not backed");
}

#[test]
fn a_close_compares() {
    let uncompared = Bounds { uncompared: vec![SwapKind::Close], ..cut_off(3, Bounds::left(1)) };
    assert!(finds("the comparison of the close", uncompared));
}

#[test]
fn nothing_is_renewed_after_the_close_and_the_grant_would_see_it() {
    backed(Rule::NoRenewalAfterClose, cut_off(2, Bounds::left(1)));
    let uncompared = Bounds { uncompared: vec![SwapKind::Grant], ..cut_off(3, Bounds::left(1)) };
    needed(&[Rule::NoRenewalAfterClose], uncompared);
}

#[test]
fn a_deadline_counts_from_the_sending() {
    needed(&[Rule::DeadlineFromSend], cut_off(3, Bounds::left(1)));
}

#[test]
fn a_grant_waits() {
    needed(&[Rule::Wait], cut_off(3, Bounds::left(0)));
}

#[test]
fn clocks_may_be_wrong() {
    needed(&[Rule::DriftAllowance], Bounds::new(Timing::Three, 3, Bounds::left(0)));
}

#[test]
fn who_vouches_promises() {
    needed(&[Rule::Promise], cut_off(3, Bounds::left(0)));
}

#[test]
fn every_member_must_vouch() {
    needed(&[Rule::AllSayYes], cut_off(3, Bounds::left(0)));
}

#[test]
fn a_start_is_quiet() {
    needed(&[Rule::QuietAtBoot], cut_off(3, crash()));
}

#[test]
fn a_seal_is_durable() {
    needed(&[Rule::DurableSeal], cut_off(2, crash()));
}

#[test]
fn who_is_sealed_vouches_for_nobody_below() {
    needed(&[Rule::SealedSaysNo], cut_off(2, crash()));
}

#[test]
fn a_seal_comes_before_the_grant_and_before_the_first_write() {
    backed(Rule::SealBeforeGrant, cut_off(2, crash()));
    backed(Rule::SealBeforeWriting, cut_off(2, crash()));
    needed(&[Rule::SealBeforeGrant, Rule::SealBeforeWriting], cut_off(2, crash()));
}

#[test]
fn a_fence_is_told_after_the_stop() {
    needed(&[Rule::StoppedBeforeSealed], bounds(3, Bounds::left(0)));
}

#[test]
fn a_gate_stops_what_the_agent_does_not() {
    let ungated = Bounds { gate: false, ..bounds(3, Left { pauses: 1, ..Bounds::left(0) }) };
    assert!(finds("the gate", ungated));
}

/// A holder that is fenced and a target are sealed for one generation, and the record names one of them.
#[test]
fn the_holder_has_a_name_and_an_abort_goes_above_the_seal() {
    needed(&[Rule::HolderMatches], bounds(2, Bounds::left(1)));
    backed(Rule::AbortAboveSeal, bounds(2, abort()));
}

#[test]
fn members_count_once_they_are_acknowledged() {
    let left = Left { member_changes: 1, ..Bounds::left(0) };
    let to_a_new_one = Bounds { members: vec![1], targets: vec![2], ..cut_off(3, left) };
    needed(&[Rule::MembershipAcknowledged], to_a_new_one);
}

/// The members of a grant are asked by its holder; whoever is added later may not be.
#[test]
fn who_is_added_after_a_grant_waits_until_the_holder_has_heard_of_it() {
    let left = Left { member_changes: 1, ..Bounds::left(0) };
    let added =
        Bounds { members: vec![1], memberships: vec![vec![1, 2]], targets: vec![2], ..cut_off(3, left) };
    needed(&[Rule::AddedIsUnacknowledged], added);
}

#[test]
fn members_change_one_at_a_time() {
    let left = Left { member_changes: 2, ..Bounds::left(1) };
    needed(&[Rule::OneMembershipChange], Bounds { members: vec![1], ..cut_off(3, left) });
}

#[test]
fn rules_are_broken_one_by_one() {
    let broken = Rules::without(&[Rule::Wait]);
    assert!(!broken.keep(Rule::Wait) && broken.keep(Rule::Promise) && Rules::default().keep(Rule::Wait));
}
