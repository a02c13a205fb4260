//! What people may ask, and what they hear when they may not.

use crate::fixtures::*;
use crate::world::*;
use drover_exec::{Approved, Command, Consent, Effect, Event, Execution, NotApproved, Refused};
use drover_model::approvals::{Approvals, Voice};
use drover_model::journal::{Entry, Record, RunState, StepOutcome, Trigger};
use drover_model::plan::{Plan, StepKind};
use drover_model::runbook::OnFailure::{Continue, Pause, RollBack};
use drover_model::traffic::Actor;
use drover_model::{Epoch, PlanId, Span, Timestamp, TokenName};

fn why() -> String {
    "because".to_owned()
}

fn approve_as(by: Actor, plan: &PlanId) -> Command {
    Command::Approve { by, plan: plan.clone(), reason: why(), voice: Voice::Claimed }
}

fn skip(reason: &str, step: Option<&str>) -> Command {
    Command::Skip { by: person(), reason: reason.into(), step: step.map(str::to_owned) }
}

/// Feeds one event, and says that each record that comes of it is durable, until none does. Returns the other effects.
fn feed(execution: &mut Execution, event: Event, now: Timestamp) -> Result<Vec<Effect>, Refused> {
    let mut rest = Vec::new();
    let mut next = Some(event);
    while let Some(event) = next.take() {
        for effect in execution.handle(event, now)? {
            match effect {
                Effect::Append(record) => next = Some(Event::Appended { sequence: record.sequence }),
                other => rest.push(other),
            }
        }
    }
    Ok(rest)
}

fn begun(plan: &Plan, ask: Option<Span>) -> Execution {
    let mut execution = fresh(plan, ask);
    feed(&mut execution, Event::Start { epoch: EPOCH }, at(0)).unwrap();
    execution
}

fn order(execution: &mut Execution, command: Command, now: Timestamp) -> Result<Vec<Effect>, Refused> {
    feed(execution, Event::Command(command), now)
}

#[test]
fn approval_names_exactly_the_plan_and_comes_from_a_person_in_time() {
    cov_mark::check!(i9_other_plan_is_refused);
    let plan = plan(vec![notify()]);
    let mut execution = begun(&plan, Some(Span::from_mins(5)));
    let other = PlanId::from_text("plan-000000000000");
    let refused = order(&mut execution, approve_as(person(), &other), at(1)).unwrap_err();
    assert_eq!(refused.code(), "other_plan");
    assert_eq!(refused.to_string(), format!("run-7 asks about {}, not about plan-000000000000", plan.id));
    let refused = order(&mut execution, approve_as(Actor::Automatic, &plan.id), at(1)).unwrap_err();
    assert_eq!(refused, Refused::NeedsPerson { command: "approve" });
    let refused = order(&mut execution, approve_as(person(), &plan.id), at(300)).unwrap_err();
    assert_eq!(refused, Refused::QuestionExpired { run: run(), at: at(300) });
    assert_eq!(execution.state(), RunState::AwaitingApproval, "a refusal changed something");
    order(&mut execution, approve_as(person(), &plan.id), at(299)).unwrap();
    assert_eq!(execution.state(), RunState::Validating);
    let refused = order(&mut execution, approve_as(person(), &plan.id), at(299)).unwrap_err();
    assert_eq!(refused.code(), "wrong_state");
}

#[test]
fn an_approved_plan_is_the_only_way_in() {
    let mut automatic = plan(vec![notify()]);
    let other = PlanId::from_text("plan-other");
    let refused = Approved::by_command(automatic.clone(), &other).unwrap_err();
    assert!(matches!(refused, NotApproved::OtherPlan { .. }));
    assert!(Approved::by_policy(automatic.clone()).is_err());
    automatic.intent.automatic = true;
    assert!(Approved::by_policy(automatic).is_ok());
}

#[test]
fn a_pause_stops_the_work_and_resuming_tries_afresh() {
    let mut execution = begun(&plan(vec![shift(RollBack, 1), notify()]), None);
    let pause = Command::Pause { by: person(), reason: why() };
    let effects = order(&mut execution, pause.clone(), at(1)).unwrap();
    assert_eq!(effects[0], Effect::CancelAct);
    assert_eq!(execution.state(), RunState::Paused);
    assert_eq!(order(&mut execution, pause, at(1)).unwrap_err().code(), "wrong_state");
    // What the cancelled attempt says after that is not heard.
    let result = Ok(drover_model::journal::StepOutcome::done(true, String::new()));
    let late = Event::ActDone { step: 0, attempt: 1, result };
    assert_eq!(execution.handle(late, at(2)).unwrap(), []);
    let effects = order(&mut execution, Command::Resume { by: person(), reason: why() }, at(3)).unwrap();
    let Some(Effect::Act(order)) = effects.iter().find(|e| matches!(e, Effect::Act(_))) else {
        panic!("{effects:?}");
    };
    assert_eq!((order.index, order.attempt, order.key.as_str()), (0, 2, "run-7/1-shift_traffic"));
}

#[test]
fn stopping_what_can_not_be_repeated_leaves_a_doubt() {
    let plan = plan(vec![once(RollBack), notify()]);
    let mut execution = begun(&plan, None);
    let effects = order(&mut execution, Command::Pause { by: person(), reason: why() }, at(1)).unwrap();
    assert_eq!(effects[0], Effect::CancelAct);
    assert_eq!(execution.state(), RunState::NeedsOperator, "a pause would be ended by a mere resume");
    assert!(
        execution.note().starts_with("1-run may have been done or not (paused by mara"),
        "{}",
        execution.note()
    );

    let mut execution = begun(&plan, None);
    let abort = Command::Abort { by: person(), reason: why(), roll_back: false };
    order(&mut execution, abort, at(1)).unwrap();
    assert_eq!(execution.state(), RunState::Aborted);
    assert!(execution.note().ends_with("1-run may have been done or not"), "{}", execution.note());
}

#[test]
fn a_skip_needs_a_person_a_reason_and_the_step_that_stands() {
    let script = Script::from([((false, 0), vec![Answer::Permanent])]);
    let mut world = World::new(script, nobody);
    let plan = plan(vec![shift(Pause, 1), notify()]);
    let mut execution = world.live(&plan, None, &[]);
    assert_eq!(execution.state(), RunState::Paused);
    let refused = order(&mut execution, skip("  ", None), at(9)).unwrap_err();
    assert_eq!(refused, Refused::ReasonMissing { command: "skip" });
    let refused = order(&mut execution, skip("known", Some("2-notify")), at(9)).unwrap_err();
    assert_eq!(refused.to_string(), "run-7 stands at 1-shift_traffic, not at 2-notify");
    let by = Actor::Automatic;
    let refused = order(&mut execution, Command::Skip { by, reason: why(), step: None }, at(9)).unwrap_err();
    assert_eq!(refused.code(), "needs_person");
    order(&mut execution, skip("moved by hand", Some("1-shift_traffic")), at(9)).unwrap();
    assert_eq!(execution.exceptions(), ["1-shift_traffic skipped by mara: moved by hand"]);
    let running = order(&mut execution, skip("in a hurry", None), at(9)).unwrap_err();
    assert_eq!(running.code(), "wrong_state");
    let result = Ok(drover_model::journal::StepOutcome::done(false, String::new()));
    feed(&mut execution, Event::ActDone { step: 1, attempt: 1, result }, at(10)).unwrap();
    assert_eq!(execution.state(), RunState::SucceededWithExceptions);
}

#[test]
fn an_abort_stops_or_undoes() {
    for roll_back in [false, true] {
        let mut execution = begun(&plan(vec![shift(RollBack, 1), notify()]), None);
        let abort = Command::Abort { by: person(), reason: why(), roll_back };
        let effects = order(&mut execution, abort, at(1)).unwrap();
        assert_eq!(effects[0], Effect::CancelAct);
        let undoes =
            effects.iter().any(|e| matches!(e, Effect::Undo(o) if o.key == "run-7/1-shift_traffic/undo"));
        assert_eq!(undoes, roll_back, "the outcome of the cut step is not known: it must be undone");
        assert_eq!(execution.state(), if roll_back { RunState::RollingBack } else { RunState::Aborted });
    }
}

#[test]
fn a_stuck_rollback_can_be_resumed_left_or_ended() {
    let plan = plan(vec![shift(RollBack, 1), shift(RollBack, 1)]);
    let script = Script::from([
        ((false, 1), vec![Answer::Permanent]),
        ((true, 1), vec![Answer::Permanent, Answer::Permanent]),
    ]);
    let mut world = World::new(script, nobody);
    let stuck = world.live(&plan, None, &[]);
    assert_eq!(stuck.state(), RunState::NeedsOperator);
    let back = Command::Abort { by: person(), reason: why(), roll_back: true };
    assert_eq!(order(&mut stuck.clone(), back, at(99)).unwrap_err().code(), "wrong_state");

    let mut resumed = stuck.clone();
    order(&mut resumed, Command::Resume { by: person(), reason: why() }, at(99)).unwrap();
    assert_eq!((resumed.state(), resumed.current_step()), (RunState::RollingBack, Some(1)));

    let mut left = stuck.clone();
    order(&mut left, skip("rebuilt by hand", Some("2-shift_traffic")), at(99)).unwrap();
    assert_eq!(left.current_step(), Some(0), "the rest is still undone");
    let result = Ok(drover_model::journal::StepOutcome::done(true, String::new()));
    feed(&mut left, Event::UndoDone { step: 0, attempt: 1, result }, at(100)).unwrap();
    assert_eq!(left.state(), RunState::Aborted, "with something left in place it is not rolled back");
    assert!(
        left.note().starts_with("2-shift_traffic left in place by mara: rebuilt by hand"),
        "{}",
        left.note()
    );

    let mut ended = stuck;
    order(&mut ended, Command::Abort { by: person(), reason: why(), roll_back: false }, at(99)).unwrap();
    assert_eq!(ended.state(), RunState::Aborted);
}

#[test]
fn nothing_is_taken_while_a_record_is_on_its_way_or_before_the_start() {
    let mut execution = fresh(&plan(vec![notify()]), None);
    let pause = Event::Command(Command::Pause { by: person(), reason: why() });
    assert_eq!(execution.handle(pause.clone(), at(0)).unwrap_err().code(), "not_started");
    let _ = execution.handle(Event::Start { epoch: EPOCH }, at(0)).unwrap();
    assert_eq!(execution.handle(pause, at(0)).unwrap_err().code(), "journal_busy");
    assert_eq!(execution.handle(Event::Start { epoch: EPOCH }, at(0)).unwrap_err().code(), "already_started");
    assert_eq!(
        execution.handle(Event::Appended { sequence: 3 }, at(0)).unwrap_err().code(),
        "unknown_record"
    );
}

#[test]
fn views_say_what_comes_next() {
    let ask = Some(Span::from_mins(5));
    let plan = plan(vec![wait(60), validate(Continue, 1)]);
    let mut execution = begun(&plan, ask);
    assert_eq!(execution.next_decision(), "a person approves, or it expires at 1970-01-01T00:05:00.000Z");
    assert_eq!(execution.expires_at(), Some(at(300)));
    order(&mut execution, approve_as(person(), &plan.id), at(10)).unwrap();
    assert_eq!(execution.next_decision(), "1-wait waits until 1970-01-01T00:01:10.000Z: caches");
    feed(&mut execution, Event::Tick, at(70)).unwrap();
    let until = "1970-01-01T00:02:40.000Z";
    assert_eq!(
        execution.next_decision(),
        format!("2-validate validates, attempt 1, until {until} at the latest")
    );
    let entries = [created(&plan, ask), Entry::Expired];
    let view = execution.view(&journal(entries), at(90));
    assert_eq!(view.elapsed, Span::from_secs(90));
    assert_eq!(view.timeline[1].sentence, "nobody answered in time, which is not consent");
    let steps: Vec<_> = view.steps.iter().map(|s| (s.state.as_str(), s.attempts, s.started_at)).collect();
    assert_eq!(steps, [("done", 1, Some(at(10))), ("running", 1, Some(at(70)))]);
    assert_eq!(view.steps[0].summary, "waited 1m");
}

/// Of two people, of whom ann began it.
fn by_two(plan: &Plan) -> Execution {
    let approvals = Approvals::of(2).begun_by(Some(TokenName::new("ann").unwrap()));
    let consent = Consent::by_command(plan.clone(), &plan.id, approvals, Span::from_mins(5)).unwrap();
    let rto = Span::from_mins(15);
    let (mut execution, _) = Execution::create(run(), consent, person(), Trigger::Command, rto, EPOCH, at(0));
    feed(&mut execution, Event::Start { epoch: EPOCH }, at(0)).unwrap();
    execution
}

fn yes(plan: &Plan, voice: Voice) -> Command {
    Command::Approve { by: person(), plan: plan.id.clone(), reason: why(), voice }
}

fn token(name: &str) -> Voice {
    Voice::Proven { name: TokenName::new(name).unwrap() }
}

#[test]
fn a_plan_for_two_waits_for_the_second_person_whoever_the_first_says_that_he_is() {
    let plan = plan(vec![notify()]);
    let mut execution = by_two(&plan);
    assert_eq!(execution.state(), RunState::AwaitingApproval);
    assert!(execution.next_decision().starts_with("2 people approve: ann did, 1 more must, or"));
    for (voice, code) in [
        (Voice::Claimed, "approval_not_proven"),
        (token("ann"), "same_person"),
        (token("ann-2"), "same_person"),
    ] {
        let refused = order(&mut execution, yes(&plan, voice), at(1)).unwrap_err();
        assert_eq!(refused.code(), code);
        let next = refused.next_command().unwrap();
        assert!(next.contains("an admin: drover approve run-7 --alone --reason TEXT"), "{next}");
    }
    assert_eq!(execution.next_sequence(), 1, "a refusal is no record");
    order(&mut execution, yes(&plan, token("bob")), at(2)).unwrap();
    assert_eq!(execution.state(), RunState::Validating);
    assert_eq!(execution.approvals().names(), "ann and bob");
}

#[test]
fn what_drover_asks_two_people_is_told_anew_after_the_first() {
    cov_mark::check!(one_of_two_is_not_enough);
    let plan = plan(vec![notify()]);
    let consent =
        Consent::Ask { plan: plan.clone(), expires: Span::from_mins(5), approvals: Approvals::of(2) };
    let rto = Span::from_mins(15);
    let (mut execution, _) =
        Execution::create(run(), consent, Actor::Automatic, Trigger::Command, rto, EPOCH, at(0));
    feed(&mut execution, Event::Start { epoch: EPOCH }, at(0)).unwrap();
    let effects = order(&mut execution, yes(&plan, token("ann")), at(200)).unwrap();
    let pages: Vec<_> = effects.iter().filter(|e| matches!(e, Effect::Page(_))).collect();
    assert!(format!("{pages:?}").contains("2 people approve: ann did, 1 more must"), "{pages:?}");
    assert_eq!(execution.expires_at(), Some(at(300)), "the first does not give it more time");
    // One who stands alone can still answer for all, and the journal says so.
    order(&mut execution, yes(&plan, Voice::Alone), at(201)).unwrap();
    assert_eq!(execution.state(), RunState::Validating);
}

#[test]
fn who_answers_for_all_is_paged_by_the_record_and_by_a_successor_alike() {
    let plan = plan(vec![notify()]);
    let consent =
        Consent::Ask { plan: plan.clone(), expires: Span::from_mins(5), approvals: Approvals::of(2) };
    let rto = Span::from_mins(15);
    let (mut execution, first) =
        Execution::create(run(), consent, Actor::Automatic, Trigger::Command, rto, EPOCH, at(0));
    let Effect::Append(created) = first else { panic!("{first:?}") };
    feed(&mut execution, Event::Start { epoch: EPOCH }, at(0)).unwrap();
    let alone = |effects: Vec<Effect>| -> Vec<_> {
        let page = |effect| if let Effect::Page(page) = effect { Some(page) } else { None };
        effects.into_iter().filter_map(page).filter(|page| page.key.contains("/alone/")).collect()
    };
    let command = Event::Command(yes(&plan, Voice::Alone));
    let effects = execution.handle(command, at(1)).unwrap();
    let Some(Effect::Append(approved)) = effects.iter().find(|e| matches!(e, Effect::Append(_))).cloned()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(alone(effects), [], "nobody is told what may not stand");
    let told = alone(execution.handle(Event::Appended { sequence: 1 }, at(1)).unwrap());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].key, "run-7/alone/1");
    assert!(told[0].message.ends_with("approved run-7 alone, though more than one must agree: because"));
    // The leader died before it wrote the page.
    let again = |now| {
        let mut next = Execution::replay(&[created.clone(), approved.clone()]).unwrap();
        alone(
            next.handle(Event::Start { epoch: Epoch { counter: EPOCH.counter + 1, ..EPOCH } }, now).unwrap(),
        )
    };
    assert_eq!(again(at(60)), told);
    assert_eq!(again(at(7 * 86_400)), [], "the outbox has forgotten it by then");
}

#[test]
fn a_step_that_asks_two_people_counts_anew_and_is_not_skipped_by_one() {
    let mut question = approve(Pause);
    if let StepKind::Approve { approvals, .. } = &mut question.kind {
        *approvals = 2;
    }
    let plan = plan(vec![notify(), question]);
    let mut execution = begun(&plan, None);
    let told = Event::ActDone { step: 0, attempt: 1, result: Ok(StepOutcome::done(true, "told")) };
    feed(&mut execution, told, at(1)).unwrap();
    assert_eq!(execution.state(), RunState::AwaitingApproval);
    order(&mut execution, Command::Pause { by: person(), reason: why() }, at(2)).unwrap_err();
    order(&mut execution, yes(&plan, token("ann")), at(2)).unwrap();
    assert_eq!(order(&mut execution, yes(&plan, token("ann")), at(2)).unwrap_err().code(), "same_person");
    assert_eq!(order(&mut execution, skip("in a hurry", None), at(2)).unwrap_err().code(), "wrong_state");
    order(&mut execution, yes(&plan, token("bob")), at(3)).unwrap();
    assert_eq!(execution.step_views()[1].summary, "approved by ann and bob: because");
}

#[test]
fn a_journal_from_before_there_were_voices_is_read_as_it_was_meant() {
    let plan = plan(vec![notify()]);
    let approved =
        Entry::Approved { by: person(), plan: plan.id.clone(), reason: why(), voice: Voice::Claimed };
    let records = journal([created(&plan, Some(Span::from_mins(5))), approved]);
    let text = serde_json::to_string(&records).unwrap();
    assert!(
        !text.contains("voice") && !text.contains("approvals"),
        "an older build reads it as well: {text}"
    );
    let read: Vec<Record> = serde_json::from_str(&text).unwrap();
    assert_eq!(Execution::replay(&read).unwrap().state(), RunState::Validating);
}
