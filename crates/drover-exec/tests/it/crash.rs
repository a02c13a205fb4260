//! Leaders die at every append, once and several times; the run ends as if nobody had died.

use crate::fixtures::*;
use crate::world::*;
use drover_exec::Execution;
use drover_model::plan::{Plan, Step};
use drover_model::runbook::OnFailure;
use drover_model::{Epoch, Span};
use proptest::prelude::*;

fn policy() -> impl Strategy<Value = OnFailure> {
    prop::sample::select(vec![OnFailure::Abort, OnFailure::RollBack, OnFailure::Pause, OnFailure::Continue])
}

fn any_step() -> impl Strategy<Value = Step> {
    (0..10u8, policy(), 1..4u32).prop_map(|(kind, policy, attempts)| match kind {
        0 => preflight(policy, attempts),
        1 | 2 => shift(policy, attempts),
        3 => forward_only(policy),
        4 => wait(u64::from(attempts) * 20),
        5 => approve(policy),
        6 => notify(),
        7 | 8 => stage(policy, attempts),
        _ => validate(policy, attempts),
    })
}

fn any_answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop::sample::select(vec![
        Answer::Done,
        Answer::Retryable,
        Answer::Permanent,
        Answer::Inconclusive,
        Answer::Hangs,
    ]);
    prop::collection::vec(answer, 0..4)
}

fn any_script() -> impl Strategy<Value = Script> {
    prop::collection::btree_map((any::<bool>(), 0..6u32), any_answers(), 0..5)
}

fn any_crashes() -> impl Strategy<Value = Vec<Crash>> {
    let crash = (0..14u64, any::<bool>()).prop_map(|(append, durable)| Crash { append, durable });
    prop::collection::vec(crash, 0..5)
}

fn any_ask() -> impl Strategy<Value = Option<Span>> {
    prop::option::of(Just(Span::from_mins(5)))
}

fn any_people() -> impl Strategy<Value = People> {
    prop::sample::select(vec![nobody as People, patient as People])
}

fn ends_alike(plan: &Plan, ask: Option<Span>, script: &Script, people: People, crashes: &[Crash]) {
    let mut calm = World::new(script.clone(), people);
    let clean = calm.live(plan, ask, &[]);
    let mut world = World::new(script.clone(), people);
    let crashed = world.live(plan, ask, crashes);
    assert_eq!(crashed.state(), clean.state(), "\n{:#?}\n{:#?}", calm.words(), world.words());
    assert_eq!(world.landed, calm.landed, "\n{:#?}\n{:#?}", calm.words(), world.words());
    assert_eq!(world.keys, calm.keys);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crashes_change_nothing_but_the_time_it_takes(
        steps in prop::collection::vec(any_step(), 1..6),
        ask in any_ask(),
        script in any_script(),
        people in any_people(),
        crashes in any_crashes(),
    ) {
        ends_alike(&plan(steps), ask, &script, people, &crashes);
    }

    #[test]
    fn every_prefix_replays_and_its_successor_ends_alike(
        steps in prop::collection::vec(any_step(), 1..5),
        script in any_script(),
        people in any_people(),
    ) {
        let plan = plan(steps);
        let mut calm = World::new(script.clone(), people);
        let clean = calm.live(&plan, None, &[]);
        for cut in 1..=calm.journal.len() {
            let prefix = &calm.journal[..cut];
            Execution::replay(prefix).expect("a prefix of what was written can be read");
            let append = cut as u64 - 1;
            for durable in [true, false] {
                let mut world = World::new(script.clone(), people);
                let heir = world.live(&plan, None, &[Crash { append, durable }]);
                prop_assert_eq!(heir.state(), clean.state(), "cut at {}", cut);
                prop_assert_eq!(&world.landed, &calm.landed, "cut at {}", cut);
            }
        }
    }
}

#[test]
fn a_leader_that_dies_after_the_effect_leaves_it_to_be_observed() {
    let plan = plan(vec![shift(OnFailure::RollBack, 1), notify()]);
    // Appends: created, step_started, (effect lands) step_done: lost.
    let mut world = World::new(Script::new(), nobody);
    let execution = world.live(&plan, None, &[Crash { append: 2, durable: false }]);
    assert_eq!(execution.state(), drover_model::journal::RunState::Succeeded);
    assert_eq!(world.orders, [(false, 0, 1), (false, 0, 2), (false, 1, 1)]);
    assert_eq!(world.keys.len(), 2, "the further attempt has the same key");
    assert_eq!(world.journal[2].epoch, Epoch { incarnation: 1, counter: 2 });
}
