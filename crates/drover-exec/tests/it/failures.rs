//! Every step failed once and failed for good, with every policy; and what a failed undo does.

use crate::fixtures::*;
use crate::world::*;
use drover_exec::{Effect, Event, Execution};
use drover_model::journal::{Entry, RunState};
use drover_model::plan::{Plan, Reversal, StepKind};
use drover_model::runbook::OnFailure::{self, Abort, Continue, Pause, RollBack};
use drover_model::{Epoch, Span};

fn go(plan: &Plan, script: Script, people: People) -> (World, Execution) {
    let mut world = World::new(script, people);
    let execution = world.live(plan, None, &[]);
    (world, execution)
}

fn always(undo: bool, step: u32, answer: Answer) -> Script {
    Script::from([((undo, step), vec![answer; 64])])
}

#[test]
fn all_steps_done_is_success() {
    cov_mark::check!(i1_journal_first);
    let steps = vec![preflight(Abort, 1), shift(RollBack, 2), wait(60), validate(Pause, 1), notify()];
    let (world, execution) = go(&plan(steps), Script::new(), nobody);
    assert_eq!(execution.state(), RunState::Succeeded);
    assert_eq!(world.orders.iter().map(|o| o.1).collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert!(world.now >= at(60), "the wait took no time");
    assert_eq!(world.pages.last().unwrap().key, format!("run-7/ended/{}", world.journal.len() - 1));
}

#[test]
fn only_proof_left_is_validating() {
    let plan = plan(vec![shift(Abort, 1), validate(Pause, 1), notify()]);
    let done = |step| Entry::StepDone {
        step,
        attempt: 1,
        outcome: drover_model::journal::StepOutcome::done(true, String::new()),
    };
    let records = journal([created(&plan, None), Entry::StepStarted { step: 0, attempt: 1 }, done(0)]);
    assert_eq!(Execution::replay(&records[..2]).unwrap().state(), RunState::Running);
    assert_eq!(Execution::replay(&records).unwrap().state(), RunState::Validating);
}

/// What a step that never works leads to: the state, and whether the change before it is still there.
#[test]
fn a_step_that_fails_for_good_follows_its_policy() {
    let table: [(OnFailure, Answer, RunState, bool); 12] = [
        (Abort, Answer::Permanent, RunState::NeedsOperator, true),
        (Abort, Answer::Retryable, RunState::NeedsOperator, true),
        (Abort, Answer::Inconclusive, RunState::Paused, true),
        (RollBack, Answer::Permanent, RunState::RolledBack, false),
        (RollBack, Answer::Retryable, RunState::RolledBack, false),
        (RollBack, Answer::Inconclusive, RunState::Paused, true),
        (Pause, Answer::Permanent, RunState::Paused, true),
        (Pause, Answer::Retryable, RunState::Paused, true),
        (Pause, Answer::Inconclusive, RunState::Paused, true),
        (Continue, Answer::Permanent, RunState::SucceededWithExceptions, true),
        (Continue, Answer::Retryable, RunState::SucceededWithExceptions, true),
        (Continue, Answer::Inconclusive, RunState::SucceededWithExceptions, true),
    ];
    for (policy, answer, state, stays) in table {
        for failing in [preflight(policy, 3), validate(policy, 3)] {
            let plan = plan(vec![shift(RollBack, 1), failing, notify()]);
            let (world, execution) = go(&plan, always(false, 1, answer), nobody);
            let case = format!("{policy:?} {answer:?}");
            assert_eq!(execution.state(), state, "{case}");
            assert_eq!(world.landed.contains(&0), stays, "{case}");
            let attempts = world.orders.iter().filter(|o| o.1 == 1).count();
            assert_eq!(attempts, if answer == Answer::Retryable { 3 } else { 1 }, "{case}");
        }
    }
}

#[test]
fn a_step_that_fails_once_is_tried_again_if_that_may_help() {
    for policy in [Abort, RollBack, Pause, Continue] {
        for failing in 0..3 {
            for answer in [Answer::Retryable, Answer::Hangs] {
                let plan = plan(vec![preflight(policy, 2), shift(policy, 2), validate(policy, 2)]);
                let script = Script::from([((false, failing), vec![answer])]);
                let (world, execution) = go(&plan, script, nobody);
                assert_eq!(execution.state(), RunState::Succeeded, "{policy:?} {failing} {answer:?}");
                assert_eq!(world.keys.len(), 3, "attempts at one step share a key: {:?}", world.keys);
                assert!(world.keys.contains("run-7/2-shift_traffic"));
            }
        }
    }
}

#[test]
fn pauses_between_attempts_double() {
    let (world, _) = go(&plan(vec![preflight(Pause, 4)]), always(false, 0, Answer::Retryable), nobody);
    let started: Vec<i64> = world
        .journal
        .iter()
        .filter(|r| matches!(r.entry, Entry::StepStarted { .. }))
        .map(|r| r.at.as_millis() / 1_000)
        .collect();
    assert_eq!(started, [0, 2, 6, 14]);
}

#[test]
fn a_hanging_attempt_is_cancelled_and_told() {
    let (world, execution) = go(&plan(vec![preflight(Abort, 1)]), always(false, 0, Answer::Hangs), nobody);
    assert_eq!(execution.state(), RunState::Aborted);
    assert!(world.words().contains(&"1-preflight failed, attempt 1: timed out after 30s".to_owned()));
    assert_eq!(world.now, at(30));
}

#[test]
fn inconclusive_is_neither_retried_nor_passed() {
    cov_mark::check!(i10_inconclusive_holds);
    let script = Script::from([((false, 0), vec![Answer::Inconclusive])]);
    let (world, execution) = go(&plan(vec![validate(RollBack, 5)]), script, patient);
    assert_eq!(execution.state(), RunState::Succeeded, "a person resumed, and the numbers came");
    assert_eq!(world.orders, [(false, 0, 1), (false, 0, 2)]);
}

#[test]
fn a_validation_without_numbers_is_no_pass() {
    cov_mark::check!(i10_no_data_is_no_pass);
    let script = Script::from([((false, 0), vec![Answer::Unmeasured])]);
    let (_, execution) = go(&plan(vec![validate(RollBack, 5)]), script, nobody);
    assert_eq!(execution.state(), RunState::Paused);
}

#[test]
fn an_exception_is_told_at_the_end() {
    cov_mark::check!(i10_exceptions_are_told);
    let plan = plan(vec![preflight(Continue, 1), notify()]);
    let (_, execution) = go(&plan, always(false, 0, Answer::Permanent), nobody);
    assert_eq!(execution.note(), "done, except: 1-preflight failed: provider refused");
}

#[test]
fn nothing_changed_is_aborted_not_stuck() {
    let (_, execution) = go(&plan(vec![preflight(Abort, 1)]), always(false, 0, Answer::Permanent), nobody);
    assert_eq!(execution.state(), RunState::Aborted);
    let unchanged =
        Script::from([((false, 0), vec![Answer::Unchanged]), ((false, 1), vec![Answer::Permanent])]);
    let plan = plan(vec![shift(Abort, 1), preflight(Abort, 1)]);
    assert_eq!(go(&plan, unchanged, nobody).1.state(), RunState::Aborted);
}

#[test]
fn undoing_goes_backwards_and_includes_the_step_that_failed() {
    let plan =
        plan(vec![shift(RollBack, 1), notify(), shift(RollBack, 1), shift(RollBack, 1), shift(RollBack, 1)]);
    let (world, execution) = go(&plan, always(false, 3, Answer::Permanent), nobody);
    assert_eq!(execution.state(), RunState::RolledBack);
    let undone: Vec<u32> = world.orders.iter().filter(|o| o.0).map(|o| o.1).collect();
    assert_eq!(undone, [3, 2, 0]);
    assert!(!world.landed.contains(&0) && !world.landed.contains(&2));
}

#[test]
fn past_the_point_of_no_return_a_person_decides() {
    cov_mark::check!(forward_only_is_not_undone);
    let ask = |mut s: drover_model::plan::Step| {
        s.reversal = Reversal::AskOperator;
        s
    };
    for pivot in [forward_only(RollBack), ask(shift(RollBack, 1))] {
        let plan = plan(vec![shift(RollBack, 1), pivot, shift(RollBack, 1), preflight(RollBack, 1)]);
        let (world, execution) = go(&plan, always(false, 3, Answer::Permanent), nobody);
        assert_eq!(execution.state(), RunState::NeedsOperator);
        assert_eq!(world.landed.iter().copied().collect::<Vec<_>>(), [0, 1], "undone beyond the pivot");
        assert_eq!(execution.current_step(), Some(1));
    }
}

#[test]
fn a_failed_undo_is_retried_then_both_failures_are_told() {
    cov_mark::check!(both_failures_are_told);
    let plan = plan(vec![shift(RollBack, 3), preflight(RollBack, 1)]);
    let mut script = always(true, 0, Answer::Retryable);
    script.insert((false, 1), vec![Answer::Permanent]);
    let (world, execution) = go(&plan, script.clone(), nobody);
    assert_eq!(execution.state(), RunState::NeedsOperator);
    assert_eq!(world.orders.iter().filter(|o| o.0).count(), 3);
    assert_eq!(
        execution.note(),
        "undo of 1-shift_traffic failed: provider busy; rolling back because 2-preflight failed: provider refused"
    );
    script.insert((true, 0), vec![Answer::Hangs, Answer::Retryable]);
    assert_eq!(go(&plan, script, nobody).1.state(), RunState::RolledBack, "the third attempt worked");
}

#[test]
fn a_fenced_hand_stops_without_another_record() {
    cov_mark::check!(i3_fenced_stands_down);
    let (world, mut execution) =
        go(&plan(vec![shift(RollBack, 3)]), always(false, 0, Answer::Fenced), nobody);
    assert!(world.stood_down && execution.has_stood_down());
    assert_eq!(world.journal.last().unwrap().entry, Entry::StepStarted { step: 0, attempt: 1 });
    assert!(execution.handle(Event::Tick, world.now).is_err(), "it goes on after standing down");
}

#[test]
fn a_question_that_nobody_answers_ends_the_run_unapproved() {
    cov_mark::check!(expired_is_not_consent);
    let plan = plan(vec![notify()]);
    let mut world = World::new(Script::new(), nobody);
    let execution = world.live(&plan, Some(Span::from_mins(5)), &[]);
    assert_eq!(execution.state(), RunState::ExpiredUnapproved);
    assert_eq!((world.orders.len(), world.now), (0, at(300)));
}

#[test]
fn a_question_in_the_middle_never_leaves_the_world_half_moved_in_silence() {
    let table = [
        (Abort, RunState::NeedsOperator),
        (RollBack, RunState::RolledBack),
        (Pause, RunState::Paused),
        (Continue, RunState::Paused),
    ];
    for (policy, state) in table {
        let moved = plan(vec![shift(RollBack, 1), approve(policy), shift(RollBack, 1)]);
        let (world, execution) = go(&moved, Script::new(), nobody);
        assert_eq!(execution.state(), state, "{policy:?}");
        assert!(!world.landed.contains(&2), "silence was taken for consent");
        let unmoved = plan(vec![notify(), approve(policy), shift(RollBack, 1)]);
        let (world, execution) = go(&unmoved, Script::new(), nobody);
        assert_eq!(execution.state(), RunState::ExpiredUnapproved, "{policy:?}");
        assert!(world.landed.iter().all(|s| *s == 0));
        let (_, execution) = go(&moved, Script::new(), patient);
        assert_eq!(execution.state(), RunState::Succeeded);
    }
}

#[test]
fn a_step_that_takes_down_leader_after_leader_stops() {
    cov_mark::check!(a_poison_step_stops);
    let plan = plan(vec![shift(RollBack, 1)]);
    // The first leader dies after `created` and `step_started`, each further one after `taken_over` and `step_started`.
    let crashes = [Crash { append: 1, durable: true }; 6];
    let mut world = World::new(Script::new(), nobody);
    let execution = world.live(&plan, None, &crashes);
    assert_eq!(execution.state(), RunState::NeedsOperator);
    assert_eq!(execution.note(), "6 leaders were lost in the middle of this step, 5 allowed");
}

#[test]
fn a_wait_starts_over_under_a_new_leader_and_is_no_poison() {
    let plan = plan(vec![wait(60)]);
    let mut world = World::new(Script::new(), nobody);
    let execution = world.live(&plan, None, &[Crash { append: 1, durable: true }; 8]);
    assert_eq!(execution.state(), RunState::Succeeded);
}

#[test]
fn an_old_leader_is_not_started() {
    let plan = plan(vec![notify()]);
    let mut records = journal([created(&plan, None), Entry::TakenOver]);
    records[1].epoch = Epoch { incarnation: 1, counter: 5 };
    let mut execution = Execution::replay(&records).unwrap();
    let refused = execution.handle(Event::Start { epoch: EPOCH }, at(9)).unwrap_err();
    assert_eq!(refused.code(), "old_epoch");
    let epoch = Epoch { incarnation: 1, counter: 5 };
    let effects = execution.handle(Event::Start { epoch }, at(9)).unwrap();
    let Effect::Append(record) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(record.entry, Entry::StepStarted { step: 0, attempt: 1 });
    assert!(matches!(plan.steps[0].kind, StepKind::Notify { .. }));
}
