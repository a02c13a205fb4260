//! Declared, recovered and drained: three times of a run, and which of them its objective counts to.

use crate::fixtures::*;
use drover_exec::Execution;
use drover_model::Span;
use drover_model::api::RunView;
use drover_model::journal::{Entry, FailureNature, Measurement, RunState, StepFailure, StepOutcome};
use drover_model::plan::Plan;
use drover_model::runbook::OnFailure::Pause;

fn sample() -> Plan {
    plan(vec![forward_only(Pause), verify_dns(), validate(Pause, 1), drained()])
}

fn done(step: u32, measurements: Vec<Measurement>) -> Entry {
    let outcome = StepOutcome { measurements, ..StepOutcome::done(false, String::new()) };
    Entry::StepDone { step, attempt: 1, outcome }
}

/// The run after these entries, one a second, looked at after a minute.
fn view(entries: Vec<Entry>) -> RunView {
    let records = journal(entries);
    Execution::replay(&records).unwrap().view(&records, at(60))
}

/// Up to the end of the validation, which is written in the seventh second.
fn until_validated() -> Vec<Entry> {
    let mut entries = vec![created(&sample(), None)];
    for step in 0..3 {
        entries.extend([Entry::StepStarted { step, attempt: 1 }, done(step, vec![])]);
    }
    entries
}

#[test]
fn the_objective_counts_to_declared_and_validated_and_not_to_drained() {
    let mut entries = until_validated();
    assert_eq!(view(entries[..4].to_vec()).declared_at, None);
    let declared = view(entries[..5].to_vec());
    assert_eq!((declared.declared_at, declared.recovered_at), (Some(at(4)), None));
    assert_eq!(declared.elapsed, Span::from_secs(60), "nothing is proven yet");
    entries.push(Entry::StepStarted { step: 3, attempt: 1 });
    let draining = view(entries.clone());
    assert_eq!((draining.recovered_at, draining.drained_at), (Some(at(6)), None));
    assert_eq!((draining.summary.state, draining.elapsed), (RunState::Validating, Span::from_secs(6)));
    let endpoint = |name: &str| format!("{name}@eu-west").parse().unwrap();
    entries.push(done(
        3,
        vec![
            Measurement::drained(&endpoint("checkout"), at(50), "below 1rps for 30s".into(), false),
            Measurement::drained(&endpoint("catalog"), at(49), "assumed".into(), true),
        ],
    ));
    let drained = view(entries);
    assert_eq!((drained.drained_at, drained.drained_is_assumed), (Some(at(50)), true));
    assert_eq!(drained.elapsed, Span::from_secs(6));
}

#[test]
fn where_nothing_validates_the_objective_counts_to_declared() {
    let plan = plan(vec![forward_only(Pause), verify_dns(), drained()]);
    let mut entries = vec![created(&plan, None)];
    for step in 0..2 {
        entries.extend([Entry::StepStarted { step, attempt: 1 }, done(step, vec![])]);
    }
    entries.push(Entry::StepStarted { step: 2, attempt: 1 });
    let draining = view(entries);
    assert_eq!((draining.declared_at, draining.recovered_at), (Some(at(4)), None));
    assert_eq!(draining.elapsed, Span::from_secs(4), "what caches keep is not its matter");
}

#[test]
fn a_step_that_is_done_with_an_exception_leaves_it_to_the_run() {
    let mut entries = until_validated();
    let Entry::StepDone { outcome, .. } = &mut entries[4] else { panic!("{:?}", entries[4]) };
    outcome.exception = Some("us-1 sees generation 6".into());
    let view = view(entries);
    assert_eq!(view.exceptions.len(), 1);
    assert!(view.exceptions[0].ends_with(": us-1 sees generation 6"), "{:?}", view.exceptions);
}

#[test]
fn traffic_that_stays_is_an_exception_and_no_reason_to_hold() {
    let mut entries = until_validated();
    let message = "not drained: traffic checkout@eu-west 12rps".to_owned();
    let failure = StepFailure { kind: FailureNature::Permanent, message, measurements: vec![] };
    let failed = Entry::StepFailed { step: 3, attempt: 1, failure };
    entries.extend([Entry::StepStarted { step: 3, attempt: 1 }, failed]);
    let state = RunState::SucceededWithExceptions;
    entries.push(Entry::Ended { state, summary: String::new() });
    let view = view(entries);
    assert_eq!((view.summary.state, view.drained_at), (state, None));
    assert!(view.exceptions[0].contains("12rps"), "{:?}", view.exceptions);
    assert_eq!(view.elapsed, Span::from_secs(6), "recovered all the same");
}
