//! A ramp that fails goes back to the last share that was validated, by one undo, and says where it led.

use crate::fixtures::*;
use crate::world::*;
use drover_exec::{Command, Execution};
use drover_model::journal::{Entry, Record, RunState};
use drover_model::plan::Plan;
use drover_model::runbook::OnFailure::RollBack;
use drover_model::traffic::Actor;

/// 0 preflight, then three stages: 1 shift, 2 wait, 3 validate; 4, 5, 6; 7, 8, 9.
fn ramp() -> Plan {
    let mut steps = vec![preflight(RollBack, 1)];
    for _ in 0..3 {
        steps.extend([stage(RollBack, 2), wait(60), validate(RollBack, 1)]);
    }
    plan(steps)
}

fn go(script: Script, people: People) -> (World, Execution) {
    let mut world = World::new(script, people);
    let execution = world.live(&ramp(), None, &[]);
    (world, execution)
}

fn undone(world: &World) -> Vec<u32> {
    world.orders.iter().filter(|o| o.0).map(|o| o.1).collect()
}

#[test]
fn a_stage_that_fails_is_undone_alone() {
    cov_mark::check!(rolled_back_to_the_last_good_share);
    for (failing, undo, stay) in [(3, 1, vec![]), (6, 4, vec![1]), (9, 7, vec![1, 4])] {
        let (world, execution) = go(Script::from([((false, failing), vec![Answer::Permanent])]), nobody);
        assert_eq!((execution.state(), undone(&world)), (RunState::RolledBack, vec![undo]));
        let shifts: Vec<u32> = world.landed.iter().copied().filter(|s| s % 3 == 1).collect();
        assert_eq!(shifts, stay, "the stages below stay");
        let validate = format!("{}-validate", failing + 1);
        assert_eq!(
            execution.note(),
            format!(
                "rolled back to the last good share (as planned) because {validate} failed: provider refused"
            )
        );
    }
}

#[test]
fn a_shift_that_fails_half_way_steps_back_too() {
    let (world, execution) = go(Script::from([((false, 4), vec![Answer::Permanent])]), nobody);
    assert_eq!((execution.state(), undone(&world)), (RunState::RolledBack, vec![4]));
    assert!(world.landed.contains(&1));
}

#[test]
fn an_inconclusive_stage_holds_and_a_person_goes_on() {
    let (_, execution) = go(Script::from([((false, 6), vec![Answer::Inconclusive])]), nobody);
    assert_eq!(execution.state(), RunState::Paused);
    let (world, execution) = go(Script::from([((false, 6), vec![Answer::Inconclusive])]), patient);
    assert_eq!((execution.state(), undone(&world)), (RunState::Succeeded, vec![]));
}

fn stopped(journal: &[Record], at_wait: usize, by: Actor) -> Option<Command> {
    let waits = count(journal, |e| matches!(e, Entry::StepStarted { step: 2 | 5 | 8, .. }));
    let begun = matches!(journal.last().map(|r| &r.entry), Some(Entry::StepStarted { step: 2 | 5 | 8, .. }));
    let reason = "eu-west is down again".to_owned();
    (begun && waits == at_wait).then_some(Command::Abort { by, reason, roll_back: true })
}

/// Lives with somebody who may command at any moment, also while the run waits.
fn watched(people: impl Fn(&[Record]) -> Option<Command>) -> (World, Execution) {
    use drover_exec::{Effect, Event};
    let mut world = World::new(Script::new(), nobody);
    let mut execution = fresh(&ramp(), None);
    let mut events = std::collections::VecDeque::from([Event::Start { epoch: EPOCH }]);
    while let Some(event) = events.pop_front() {
        for effect in execution.handle(event, world.now).unwrap() {
            match effect {
                Effect::Append(record) => {
                    world.journal.push(record.clone());
                    events.push_back(Event::Appended { sequence: record.sequence });
                }
                Effect::Act(order) | Effect::Undo(order) => {
                    let undo = matches!(world.journal.last().unwrap().entry, Entry::UndoStarted { .. });
                    let (step, attempt) = (order.index, order.attempt);
                    world.orders.push((undo, step, attempt));
                    let outcome = drover_model::journal::StepOutcome {
                        measurements: vec![measurement(drover_model::journal::CheckOutcome::Pass)],
                        ..drover_model::journal::StepOutcome::done(
                            !order.keeps,
                            if order.keeps { "stays" } else { "as planned" },
                        )
                    };
                    let result = Ok(outcome);
                    events.push_back(if undo {
                        Event::UndoDone { step, attempt, result }
                    } else {
                        Event::ActDone { step, attempt, result }
                    });
                }
                _ => {}
            }
        }
        if events.is_empty() && !execution.is_over() {
            if let Some(command) = people(&world.journal) {
                events.push_back(Event::Command(command));
            } else if let Some(at) = execution.wake_at() {
                world.now = at;
                events.push_back(Event::Tick);
            }
        }
    }
    (world, execution)
}

#[test]
fn drover_stops_it_in_the_middle_of_a_soak_and_does_not_wait_for_its_end() {
    let (world, execution) = watched(|j| stopped(j, 2, Actor::Automatic));
    assert_eq!((execution.state(), undone(&world)), (RunState::RolledBack, vec![4]));
    assert_eq!(world.now, at(60), "the second soak was not waited for");
    assert_eq!(
        execution.note(),
        "rolled back to the last good share (as planned) because eu-west is down again"
    );
    assert!(world.words().iter().any(|w| w == "stopped, to be rolled back: eu-west is down again"));
}

#[test]
fn a_person_who_says_roll_back_gets_all_of_it_back() {
    let (world, execution) = watched(|j| stopped(j, 3, person()));
    assert_eq!((execution.state(), undone(&world)), (RunState::RolledBack, vec![7, 4, 1]));
    assert!(execution.note().starts_with("rolled back because aborted by mara"), "{}", execution.note());
}

#[test]
fn what_was_validated_stays_when_something_later_fails() {
    let mut steps = vec![stage(RollBack, 1), validate(RollBack, 1), preflight(RollBack, 1)];
    steps.extend([stage(RollBack, 1), validate(RollBack, 1)]);
    let plan = plan(steps);
    let mut world = World::new(Script::from([((false, 2), vec![Answer::Permanent])]), nobody);
    let execution = world.live(&plan, None, &[]);
    assert_eq!((execution.state(), undone(&world)), (RunState::RolledBack, vec![0]));
    assert!(world.landed.contains(&0), "it is looked at, and stays");
    assert_eq!(execution.progress().steps()[0].status, drover_exec::StepStatus::Done);
}

#[test]
fn a_successor_goes_on_with_the_way_back_and_leads_to_the_same_share() {
    let script = Script::from([((false, 6), vec![Answer::Permanent])]);
    let mut calm = World::new(script.clone(), nobody);
    let clean = calm.live(&ramp(), None, &[]);
    for append in 0..u64::try_from(calm.journal.len()).unwrap() {
        for durable in [true, false] {
            let mut world = World::new(script.clone(), nobody);
            let execution = world.live(&ramp(), None, &[Crash { append, durable }]);
            assert_eq!(execution.state(), clean.state(), "{append} {durable}");
            assert_eq!(execution.note(), clean.note(), "{append} {durable}");
            assert_eq!(world.landed, calm.landed, "{append} {durable}");
        }
    }
}
