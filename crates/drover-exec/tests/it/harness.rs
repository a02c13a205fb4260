//! Three harnesses over every runbook that is shipped, and over one that holds every kind of step: every step failed,
//! every step repeated, every undo repeated. What counts is counted where it arrives: nothing takes place twice.

use crate::fixtures::person;
use crate::planned::every_plan;
use crate::world::*;
use drover_exec::{Command, Execution, StepStatus};
use drover_model::approvals::Voice;
use drover_model::journal::{Entry, Record, RunState};
use drover_model::plan::{Plan, Repeatability, Reversal, StepKind};
use drover_model::runbook::OnFailure;
use std::collections::BTreeSet;

/// Steps that hands take; the others are a matter of time and of people.
fn is_taken(kind: &StepKind) -> bool {
    !matches!(kind, StepKind::Wait { .. } | StepKind::Approve { .. })
}

fn taken(plan: &Plan) -> impl Iterator<Item = u32> + '_ {
    let steps = (0..).zip(&plan.steps);
    steps.filter(|(_, s)| is_taken(&s.kind)).map(|(i, _)| i)
}

/// Says yes when asked about the plan or by a step, and nothing else.
fn consenting(execution: &Execution, _: &[Record]) -> Option<Command> {
    let (by, reason) = (person(), "test".to_owned());
    (execution.state() == RunState::AwaitingApproval).then(|| Command::Approve {
        by,
        reason,
        plan: execution.plan().id.clone(),
        voice: Voice::Claimed,
    })
}

/// As [`consenting`], and lets a step pass that nobody can know about.
fn skipping(execution: &Execution, journal: &[Record]) -> Option<Command> {
    let (by, reason) = (person(), "it was done, says the ledger".to_owned());
    match execution.state() {
        RunState::NeedsOperator => Some(Command::Skip { by, reason, step: None }),
        _ => consenting(execution, journal),
    }
}

/// As [`consenting`], and has such a step tried again.
fn resuming(execution: &Execution, journal: &[Record]) -> Option<Command> {
    let (by, reason) = (person(), "it was not done, says the ledger".to_owned());
    match execution.state() {
        RunState::NeedsOperator => Some(Command::Resume { by, reason }),
        _ => consenting(execution, journal),
    }
}

fn calm(plan: &Plan) -> World {
    let mut world = World::new(Script::new(), consenting);
    let execution = world.live(plan, None, &[]);
    assert_eq!(execution.state(), RunState::Succeeded, "{:#?}", world.words());
    world
}

/// The appends of a journal that tell the outcome of this step, or of its undo.
fn outcome_of(journal: &[Record], undo: bool, step: u32) -> u64 {
    let tells = |e: &Entry| match e {
        Entry::StepDone { step: s, .. } => !undo && *s == step,
        Entry::UndoDone { step: s, .. } => undo && *s == step,
        _ => false,
    };
    journal.iter().find(|r| tells(&r.entry)).unwrap_or_else(|| panic!("no outcome of {step}")).sequence
}

fn at_most_once(plan: &Plan, step: u32) -> bool {
    plan.steps[step as usize].kind.repeatability() == Repeatability::AtMostOnce
}

#[track_caller]
fn nothing_twice(world: &World, case: &str) {
    let twice: Vec<_> = world.receiver.effects.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{case}: {twice:?}\n{:#?}", world.words());
}

#[test]
fn the_test_runbook_holds_every_kind_of_step() {
    let plans = every_plan();
    let names: Vec<&str> = plans.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["drain", "failback", "failover", "undrain", "every-step"]);
    let kinds = |plan: &Plan| -> BTreeSet<String> {
        plan.steps.iter().map(|s| format!("{} {}", s.kind.word(), s.kind.repeatability().word())).collect()
    };
    let mut every: BTreeSet<String> = [
        "preflight observable",
        "approve observable",
        "verify_app observable",
        "notify keyed",
        "run observable",
        "run keyed",
        "run at_most_once",
        "shift_traffic observable",
        "verify_dns observable",
        "wait observable",
        "validate observable",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(kinds(&plans[4].1), every);
    // Only where a region is left: the shipped failover and drain have it.
    let leaving = "drained observable".to_owned();
    assert!(plans.iter().any(|(_, p)| kinds(p).contains(&leaving)));
    every.insert(leaving);
    assert!(plans.iter().all(|(_, p)| kinds(p).is_subset(&every)));
}

/// Every way in which a step may end badly, for good.
const BAD: [Answer; 4] = [Answer::Retryable, Answer::Permanent, Answer::Inconclusive, Answer::Hangs];

#[test]
fn every_step_failed() {
    let mut cases = 0;
    for (name, plan) in every_plan() {
        for step in taken(&plan) {
            for answer in BAD {
                let case = format!("{name}: {} is {answer:?}", plan.steps[step as usize].id);
                let script = Script::from([((false, step), vec![answer; 64])]);
                let mut world = World::new(script, consenting);
                let execution = world.live(&plan, None, &[]);
                assert_eq!(
                    execution.state(),
                    expected_end(&plan, step, answer),
                    "{case}\n{:#?}",
                    world.words()
                );
                nothing_twice(&world, &case);
                let went_on = execution.progress().steps()[step as usize + 1..]
                    .iter()
                    .any(|s| s.status != StepStatus::Pending);
                let lets_pass = plan.steps[step as usize].on_failure == OnFailure::Continue;
                let is_last = step as usize + 1 == plan.steps.len();
                assert_eq!(went_on, lets_pass && !is_last, "{case}");
                cases += 1;
            }
            half_done(&name, &plan, step);
        }
    }
    println!("every step failed: {cases} cases");
    assert!(cases > 100, "{cases}");
}

/// What the policy makes of a step that never works.
fn expected_end(plan: &Plan, step: u32, answer: Answer) -> RunState {
    let failing = &plan.steps[step as usize];
    if answer == Answer::Hangs && at_most_once(plan, step) {
        return RunState::NeedsOperator;
    }
    let before = &plan.steps[..=step as usize];
    // A step that failed may have changed something, too; what can't be undone by drover stops a rollback.
    let touched = |s: &drover_model::plan::Step| s.reversal != Reversal::Nothing;
    match failing.on_failure {
        OnFailure::Continue => RunState::SucceededWithExceptions,
        _ if answer == Answer::Inconclusive => RunState::Paused,
        OnFailure::Pause => RunState::Paused,
        OnFailure::Abort if before.iter().any(touched) => RunState::NeedsOperator,
        OnFailure::Abort => RunState::Aborted,
        OnFailure::RollBack => RunState::RolledBack,
    }
}

/// The effect is there, but the step says that it failed: the next attempt finds it, and it takes place once.
fn half_done(name: &str, plan: &Plan, step: u32) {
    if plan.steps[step as usize].attempts < 2 {
        return;
    }
    let script = Script::from([((false, step), vec![Answer::HalfDone])]);
    let mut world = World::new(script, consenting);
    let execution = world.live(plan, None, &[]);
    let case = format!("{name}: {} is half done", plan.steps[step as usize].id);
    assert_eq!(execution.state(), RunState::Succeeded, "{case}");
    assert_eq!(world.receiver, calm(plan).receiver, "{case}");
}

#[test]
fn every_step_repeated() {
    cov_mark::check!(i1_uncertain_needs_an_operator);
    let mut cases = 0;
    for (name, plan) in every_plan() {
        let clean = calm(&plan);
        for step in 0..u32::try_from(plan.steps.len()).unwrap() {
            if matches!(plan.steps[step as usize].kind, StepKind::Approve { .. }) {
                continue; // A question has no outcome of its own: the answer is the record.
            }
            let outcome = outcome_of(&clean.journal, false, step);
            // Leaders die when the effect is there and its record is not; each successor appends the takeover, the
            // intent, and then dies the same way.
            for deaths in [1, 3] {
                let crashes: Vec<Crash> = (0..deaths)
                    .map(|n| Crash { append: if n == 0 { outcome } else { 2 }, durable: false })
                    .collect();
                let case = format!("{name}: {} repeated {deaths} times", plan.steps[step as usize].id);
                repeated(&plan, step, &clean, &crashes, &case);
                cases += 1;
            }
        }
    }
    println!("every step repeated: {cases} cases");
    assert!(cases > 80, "{cases}");
}

fn repeated(plan: &Plan, step: u32, clean: &World, crashes: &[Crash], case: &str) {
    let mut world = World::new(Script::new(), consenting);
    let heir = world.live(plan, None, if at_most_once(plan, step) { &crashes[..1] } else { crashes });
    nothing_twice(&world, case);
    if !at_most_once(plan, step) {
        assert_eq!(heir.state(), RunState::Succeeded, "{case}\n{:#?}", world.words());
        assert_eq!(world.receiver, clean.receiver, "{case}");
        assert_eq!(world.keys, clean.keys, "{case}: each attempt has the same key");
        return;
    }
    assert_eq!((heir.state(), heir.current_step()), (RunState::NeedsOperator, Some(step)), "{case}");
    assert_eq!(world.orders.iter().filter(|o| o.1 == step).count(), 1, "{case}: begun again by itself");
    assert!(world.pages.last().unwrap().message.contains("may have been done or not"), "{:?}", world.pages);
    let mut world = World::new(Script::new(), skipping);
    let heir = world.live(plan, None, &crashes[..1]);
    assert_eq!(heir.state(), RunState::SucceededWithExceptions, "{case}, skipped");
    assert_eq!(world.receiver, clean.receiver, "{case}, skipped");
}

#[test]
fn an_uncertain_step_is_taken_again_only_by_a_person() {
    let (_, plan) = every_plan().pop().unwrap();
    let step = taken(&plan).find(|s| at_most_once(&plan, *s)).unwrap();
    let clean = calm(&plan);
    // The leader dies with the intent durable, before anything is begun.
    let intent = Crash { append: outcome_of(&clean.journal, false, step) - 1, durable: true };
    let mut world = World::new(Script::new(), consenting);
    let heir = world.live(&plan, None, &[intent]);
    assert_eq!(heir.state(), RunState::NeedsOperator);
    assert!(world.orders.iter().all(|o| o.1 != step), "it is not known that nothing was begun");
    let mut world = World::new(Script::new(), resuming);
    assert_eq!(world.live(&plan, None, &[intent]).state(), RunState::Succeeded);
    assert_eq!(world.receiver, clean.receiver);
}

/// Aborts with a rollback once it stands still.
fn giving_up(execution: &Execution, journal: &[Record]) -> Option<Command> {
    let (by, reason) = (person(), "test".to_owned());
    match execution.state() {
        RunState::AwaitingApproval => consenting(execution, journal),
        RunState::Paused => Some(Command::Abort { by, reason, roll_back: true }),
        _ => None,
    }
}

#[test]
fn every_undo_repeated() {
    let (mut cases, mut stops) = (0, 0);
    for (name, plan) in every_plan() {
        for failing in taken(&plan) {
            let script = Script::from([((false, failing), vec![Answer::Permanent; 64])]);
            let mut calm = World::new(script.clone(), giving_up);
            let clean = calm.live(&plan, None, &[]);
            let undone: Vec<u32> = calm.orders.iter().filter(|o| o.0).map(|o| o.1).collect();
            for step in &undone {
                let outcome = outcome_of(&calm.journal, true, *step);
                for deaths in [1, 3] {
                    let crashes: Vec<Crash> = (0..deaths)
                        .map(|n| Crash { append: if n == 0 { outcome } else { 2 }, durable: false })
                        .collect();
                    let case =
                        format!("{name}: {failing} failed, the undo of {step} repeated {deaths} times");
                    let mut world = World::new(script.clone(), giving_up);
                    let heir = world.live(&plan, None, &crashes);
                    assert_eq!(heir.state(), clean.state(), "{case}\n{:#?}", world.words());
                    assert_eq!(world.receiver, calm.receiver, "{case}");
                    nothing_twice(&world, &case);
                    cases += 1;
                }
            }
            // Where undoing stops for a person, nothing below that step is touched.
            if clean.state() == RunState::NeedsOperator {
                let stop = clean.current_step().unwrap();
                assert!(undone.iter().all(|s| *s > stop), "{name}: {failing} failed, {undone:?} undone");
                stops += 1;
            }
        }
    }
    println!("every undo repeated: {cases} cases, {stops} stops for a person");
    assert!(cases >= 80 && stops >= 5, "{cases} {stops}");
}
