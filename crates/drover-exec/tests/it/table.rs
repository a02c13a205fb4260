//! The transition table: where the run stands, and exactly which records may follow. Everything else is refused.

use crate::fixtures::*;
use drover_exec::{Execution, IllegalRecord};
use drover_model::approvals::{Approvals, Voice};
use drover_model::journal::{Entry, FailureNature, Record, RunState, StepFailure, StepOutcome};
use drover_model::plan::Plan;
use drover_model::runbook::OnFailure::{Pause, RollBack};
use drover_model::traffic::Actor;
use drover_model::{Epoch, PlanId, RunId, Span};

/// 0 preflight, 1 shift, 2 approve, 3 validate.
fn sample() -> Plan {
    plan(vec![preflight(Pause, 2), shift(RollBack, 2), approve(Pause), validate(RollBack, 1)])
}

fn started(step: u32, attempt: u32) -> Entry {
    Entry::StepStarted { step, attempt }
}

fn done(step: u32, attempt: u32) -> Entry {
    let outcome = StepOutcome::done(true, String::new());
    Entry::StepDone { step, attempt, outcome }
}

fn failure(kind: FailureNature) -> StepFailure {
    StepFailure { kind, message: "x".into(), measurements: vec![] }
}

fn failed(step: u32, attempt: u32, kind: FailureNature) -> Entry {
    Entry::StepFailed { step, attempt, failure: failure(kind) }
}

fn paused(by: Actor) -> Entry {
    Entry::Paused { by, reason: "x".into() }
}

fn abort(roll_back: bool) -> Entry {
    Entry::AbortRequested { by: person(), reason: "x".into(), roll_back }
}

fn approved(plan: &PlanId) -> Entry {
    Entry::Approved { by: person(), plan: plan.clone(), reason: String::new(), voice: Voice::Claimed }
}

fn ended(state: RunState) -> Entry {
    Entry::Ended { state, summary: "x".into() }
}

/// Every record that could be written about a plan of four steps, with the words used in the table.
fn every_entry(plan: &Plan) -> Vec<(String, Entry)> {
    let mut all = vec![
        ("created".to_owned(), created(plan, None)),
        ("created ask".to_owned(), created(plan, Some(Span::from_mins(5)))),
        ("approved".to_owned(), approved(&plan.id)),
        ("approved other".to_owned(), approved(&PlanId::from_text("plan-other"))),
        (
            "approved by drover".to_owned(),
            Entry::Approved {
                by: Actor::Automatic,
                plan: plan.id.clone(),
                reason: String::new(),
                voice: Voice::Claimed,
            },
        ),
        ("rejected".to_owned(), Entry::Rejected { by: person(), reason: "x".into() }),
        ("expired".to_owned(), Entry::Expired),
        ("paused".to_owned(), paused(person())),
        ("paused by drover".to_owned(), paused(Actor::Automatic)),
        ("resumed".to_owned(), Entry::Resumed { by: person(), reason: "x".into() }),
        ("abort".to_owned(), abort(false)),
        ("abort back".to_owned(), abort(true)),
        ("rollback".to_owned(), Entry::RollbackBegun { reason: "x".into() }),
        ("taken over".to_owned(), Entry::TakenOver),
    ];
    for step in 0..6 {
        let skip = |by| Entry::StepSkipped { step, by, reason: "x".into() };
        all.push((format!("skipped {step}"), skip(person())));
        all.push((format!("skipped {step} by drover"), skip(Actor::Automatic)));
        for attempt in 0..4 {
            let outcome = StepOutcome::done(true, String::new());
            all.push((format!("started {step}/{attempt}"), started(step, attempt)));
            all.push((format!("done {step}/{attempt}"), done(step, attempt)));
            all.push((format!("undo {step}/{attempt}"), Entry::UndoStarted { step, attempt }));
            all.push((format!("undone {step}/{attempt}"), Entry::UndoDone { step, attempt, outcome }));
            for kind in [FailureNature::Retryable, FailureNature::Fenced] {
                let fenced = if kind == FailureNature::Fenced { " fenced" } else { "" };
                all.push((format!("failed {step}/{attempt}{fenced}"), failed(step, attempt, kind)));
                let undo = Entry::UndoFailed { step, attempt, failure: failure(kind) };
                all.push((format!("undo failed {step}/{attempt}{fenced}"), undo));
            }
        }
    }
    for state in [
        RunState::AwaitingApproval,
        RunState::Running,
        RunState::Paused,
        RunState::Validating,
        RunState::RollingBack,
        RunState::Succeeded,
        RunState::SucceededWithExceptions,
        RunState::RolledBack,
        RunState::Aborted,
        RunState::NeedsOperator,
        RunState::Rejected,
        RunState::ExpiredUnapproved,
    ] {
        all.push((format!("ended {state}"), ended(state)));
    }
    all
}

/// Exactly `legal` may follow `entries`; each other record is refused by name.
fn check(stands: &str, entries: &[Entry], legal: &[&str]) {
    let records = journal(entries.iter().cloned());
    let before = Execution::replay(&records).unwrap_or_else(|e| panic!("{stands}: {e}"));
    let mut found = Vec::new();
    for (word, entry) in every_entry(&sample()) {
        let next = record(records.len() as u64, entry);
        let with: Vec<Record> = records.iter().cloned().chain([next]).collect();
        match Execution::replay(&with) {
            Ok(_) => found.push(word),
            Err(IllegalRecord::Entry { state, .. }) => assert!(!state.is_empty()),
            Err(other) => panic!("{stands}: {word} was refused for another reason: {other}"),
        }
    }
    let mut legal: Vec<String> = legal.iter().map(|&w| w.to_owned()).collect();
    legal.sort();
    found.sort();
    assert_eq!(found, legal, "after {stands} ({})", before.state());
}

/// Journals that lead up to the first steps of the sample.
fn way() -> (Plan, Vec<Entry>, Vec<Entry>, Vec<Entry>) {
    let plan = sample();
    let begun = vec![created(&plan, None)];
    let shifting = [begun.clone(), vec![started(0, 1), done(0, 1), started(1, 1)]].concat();
    let asking = [shifting.clone(), vec![done(1, 1), started(2, 1)]].concat();
    (plan, begun, shifting, asking)
}

#[test]
fn going_forward() {
    let (plan, begun, shifting, asking) = way();
    let with = |base: &[Entry], more: &[Entry]| [base, more].concat();
    let pauses = ["paused", "paused by drover", "abort", "abort back", "taken over"];
    let and = |more: &[&'static str]| [&pauses, more].concat();
    check("created", &begun, &and(&["started 0/1"]));
    check("step started", &with(&begun, &[started(0, 1)]), &and(&["done 0/1", "failed 0/1"]));
    let retried = [started(0, 1), failed(0, 1, FailureNature::Retryable)];
    check("a first failure", &with(&begun, &retried), &and(&["started 0/2", "skipped 0"]));
    check("step done", &with(&begun, &[started(0, 1), done(0, 1)]), &and(&["started 1/1"]));
    check("shifting", &shifting, &and(&["done 1/1", "failed 1/1"]));
    check("taken over in a step", &with(&shifting, &[Entry::TakenOver]), &and(&["started 1/2"]));
    let question = ["approved", "rejected", "expired", "abort", "abort back", "taken over"];
    check("a question", &asking, &question);
    check("a question, taken over", &with(&asking, &[Entry::TakenOver]), &question);
    let answered = with(&asking, &[approved(&plan.id)]);
    check("an answer", &answered, &and(&["started 3/1"]));
    let all = with(&answered, &[started(3, 1), done(3, 1)]);
    check("the last step", &all, &["ended succeeded", "taken over"]);
    check("the end", &with(&all, &[ended(RunState::Succeeded)]), &[]);
}

#[test]
fn asking_first() {
    let plan = sample();
    let asked = vec![created(&plan, Some(Span::from_mins(5)))];
    let with = |more: &[Entry]| [&asked, more].concat();
    let answers = ["approved", "rejected", "expired", "abort", "abort back", "taken over"];
    check("a question", &asked, &answers);
    let begins = ["started 0/1", "paused", "paused by drover", "abort", "abort back", "taken over"];
    check("a yes", &with(&[approved(&plan.id)]), &begins);
    let no = Entry::Rejected { by: person(), reason: "x".into() };
    check("a no", &with(&[no]), &["ended rejected", "taken over"]);
    check("silence", &with(&[Entry::Expired]), &["ended expired unapproved", "taken over"]);
    check("an abort", &with(&[abort(true)]), &["ended aborted", "taken over"]);
}

#[test]
fn standing_still() {
    let (_, begun, shifting, asking) = way();
    let with = |base: &[Entry], more: &[Entry]| [base, more].concat();
    let held = ["resumed", "abort", "abort back", "taken over"];
    let and = |more: &[&'static str]| [&held, more].concat();
    check("a pause", &with(&shifting, &[paused(person())]), &and(&["skipped 1"]));
    let fails = [started(0, 1), failed(0, 1, FailureNature::Permanent)];
    check("a failure that pauses", &with(&begun, &fails), &["paused by drover", "taken over"]);
    let stands = with(&begun, &[&fails[..], &[paused(Actor::Automatic)]].concat());
    check("a pause by drover", &stands, &and(&["skipped 0"]));
    let pauses = ["paused", "paused by drover", "abort", "abort back", "taken over"];
    let resumed = Entry::Resumed { by: person(), reason: "x".into() };
    check("a resumption", &with(&stands, &[resumed]), &[&pauses[..], &["started 0/2"]].concat());
    let skip = Entry::StepSkipped { step: 0, by: person(), reason: "x".into() };
    check("a skip", &with(&stands, &[skip]), &[&pauses[..], &["started 1/1"]].concat());
    check("an abort", &with(&stands, &[abort(false)]), &["ended aborted", "taken over"]);
    check("nothing to undo", &with(&stands, &[abort(true)]), &["ended rolled back", "taken over"]);
    check("silence after a change", &with(&asking, &[Entry::Expired]), &["paused by drover", "taken over"]);
}

#[test]
fn going_back() {
    let (_, _, shifting, _) = way();
    let with = |more: &[Entry]| [&shifting, more].concat();
    let fails = with(&[failed(1, 1, FailureNature::Permanent)]);
    check("a failure that rolls back", &fails, &["rollback", "taken over"]);
    let back = [fails, vec![Entry::RollbackBegun { reason: "x".into() }]].concat();
    let with = |more: &[Entry]| [&back, more].concat();
    let pauses = ["paused", "paused by drover", "abort", "taken over"];
    let and = |more: &[&'static str]| [&pauses, more].concat();
    check("rolling back", &back, &and(&["undo 1/1"]));
    let undo = Entry::UndoStarted { step: 1, attempt: 1 };
    let undoing = with(std::slice::from_ref(&undo));
    check("an undo", &undoing, &and(&["undone 1/1", "undo failed 1/1"]));
    check("an undo, taken over", &with(&[undo.clone(), Entry::TakenOver]), &and(&["undo 1/2"]));
    let fail = |kind| Entry::UndoFailed { step: 1, attempt: 1, failure: failure(kind) };
    let again = with(&[undo.clone(), fail(FailureNature::Retryable)]);
    check("a first failed undo", &again, &and(&["undo 1/2"]));
    let stuck = with(&[undo.clone(), fail(FailureNature::Permanent)]);
    check("a failed undo", &stuck, &["ended needs operator", "taken over"]);
    let needs = [stuck, vec![ended(RunState::NeedsOperator)]].concat();
    let held = ["resumed", "skipped 1", "abort", "taken over"];
    check("a call for an operator", &needs, &held);
    check("a pause while undoing", &with(&[undo.clone(), paused(person())]), &held);
    let left =
        [needs.clone(), vec![Entry::StepSkipped { step: 1, by: person(), reason: "x".into() }]].concat();
    check("an undo left out", &left, &["ended aborted", "taken over"]);
    let outcome = StepOutcome::done(true, String::new());
    let undone = with(&[undo, Entry::UndoDone { step: 1, attempt: 1, outcome }]);
    check("all undone", &undone, &["ended rolled back", "taken over"]);
}

#[test]
fn a_damaged_journal_is_refused_by_name() {
    let good = journal([created(&sample(), None), started(0, 1), done(0, 1)]);
    let refused = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = good.clone();
        change(&mut records);
        Execution::replay(&records).unwrap_err()
    };
    assert_eq!(refused(&|r| r.clear()), IllegalRecord::Empty);
    assert!(matches!(refused(&|r| drop(r.remove(0))), IllegalRecord::NoBeginning { .. }));
    assert!(matches!(refused(&|r| drop(r.remove(1))), IllegalRecord::Gap { expected: 1, found: 2, .. }));
    assert!(matches!(refused(&|r| r.push(r[2].clone())), IllegalRecord::Gap { expected: 3, found: 2, .. }));
    assert!(matches!(refused(&|r| r[1].run = RunId::numbered(8)), IllegalRecord::OtherRun { .. }));
    assert!(matches!(refused(&|r| r[1].schema = 99), IllegalRecord::Schema { found: 99, .. }));
    let newer = Epoch { incarnation: 1, counter: 2 };
    assert!(matches!(refused(&|r| r[1].epoch = newer), IllegalRecord::Epoch { .. }), "no takeover");
    let older = Epoch { incarnation: 1, counter: 0 };
    assert!(matches!(refused(&|r| r[2].epoch = older), IllegalRecord::Epoch { .. }));
    let illegal = refused(&|r| r[1].entry = done(0, 1));
    assert_eq!(
        illegal.to_string(),
        "record 1 of run-7 is `step_done`, which cannot follow when the run is about to begin 1-preflight"
    );
}

#[test]
fn nobody_consented_is_not_replayed() {
    let plan = sample();
    let Entry::Created { trigger, rto, .. } = created(&plan, None) else { unreachable!() };
    let by = Actor::Automatic;
    let entry = Entry::Created {
        plan: plan.clone(),
        by: by.clone(),
        trigger: trigger.clone(),
        ask: None,
        rto,
        approvals: Approvals::default(),
    };
    assert!(Execution::replay(&journal([entry])).is_err(), "drover began what a person asked to see");
    let mut automatic = plan;
    automatic.intent.automatic = true;
    let entry =
        Entry::Created { plan: automatic, by, trigger, ask: None, rto, approvals: Approvals::default() };
    assert!(Execution::replay(&journal([entry])).is_ok());
}
