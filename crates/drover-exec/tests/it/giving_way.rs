//! Which runs drover itself may end, and when.

use crate::fixtures::*;
use drover_exec::{Approved, Command, Consent, Effect, Event, Execution};
use drover_model::approvals::{Approvals, Voice};
use drover_model::decision::FailureClass;
use drover_model::journal::{FailureNature, RunState, StepFailure, StepOutcome, Trigger};
use drover_model::plan::{AppCheckTarget, Plan, Predicate, StepKind};
use drover_model::runbook::{OnFailure, Purpose};
use drover_model::traffic::Actor;
use drover_model::{DecisionId, EndpointKey, RegionId, Span, Timestamp};
use std::collections::BTreeSet;

fn feed(execution: &mut Execution, event: Event, now: Timestamp) {
    let mut next = Some(event);
    while let Some(event) = next.take() {
        for effect in execution.handle(event, now).unwrap() {
            if let Effect::Append(record) = effect {
                next = Some(Event::Appended { sequence: record.sequence });
            }
        }
    }
}

fn automatic(mut plan: Plan) -> Execution {
    plan.intent.automatic = true;
    drovers(Consent::Given(Approved::by_policy(plan).unwrap()))
}

/// Begun by drover itself.
fn drovers(consent: Consent) -> Execution {
    let trigger = Trigger::Decision {
        decision: DecisionId::numbered(1),
        class: FailureClass::Region,
        first_failure_at: at(0),
    };
    let rto = Span::from_mins(15);
    let mut execution = Execution::create(run(), consent, Actor::Automatic, trigger, rto, EPOCH, at(0)).0;
    feed(&mut execution, Event::Start { epoch: EPOCH }, at(0));
    execution
}

fn failover() -> Plan {
    let steps = vec![
        preflight(OnFailure::Abort, 1),
        forward_only(OnFailure::Pause),
        wait(60),
        validate(OnFailure::Pause, 1),
        notify(),
    ];
    plan(steps)
}

fn done(execution: &mut Execution, step: u32, now: Timestamp) {
    let result = Ok(StepOutcome::done(true, String::new()));
    feed(execution, Event::ActDone { step, attempt: 1, result }, now);
}

fn order(execution: &mut Execution, command: Command, now: Timestamp) {
    feed(execution, Event::Command(command), now);
}

/// Its story: it looks, it moves traffic, it waits, a person holds it and lets it go, it judges, and holds by itself.
#[test]
fn drovers_own_failover_gives_way_between_effects_and_while_nobody_holds_it() {
    let why = || "because".to_owned();
    let mut run = automatic(failover());
    assert!(run.gives_way(), "it only looks so far");
    done(&mut run, 0, at(1));
    assert!(!run.gives_way(), "traffic is being moved");
    done(&mut run, 1, at(2));
    assert!(run.gives_way(), "it waits");
    order(&mut run, Command::Pause { by: person(), reason: why() }, at(3));
    assert!(!run.gives_way(), "a person holds it");
    order(&mut run, Command::Resume { by: person(), reason: why() }, at(4));
    assert!(run.gives_way());
    feed(&mut run, Event::Tick, at(70));
    assert!(run.gives_way(), "it judges");
    let failure = StepFailure { kind: FailureNature::Permanent, message: "25%".into(), measurements: vec![] };
    feed(&mut run, Event::ActDone { step: 3, attempt: 1, result: Err(failure) }, at(71));
    assert_eq!(run.state(), RunState::Paused);
    assert!(run.gives_way(), "it holds by itself");

    let by = Actor::Automatic;
    order(&mut run, Command::Abort { by, reason: "superseded: so".into(), roll_back: false }, at(72));
    assert_eq!((run.state(), run.note()), (RunState::Aborted, "superseded: so"));
    assert!(run.was_superseded() && !run.gives_way());
}

/// Between drover's look and its command the run goes on, and people act.
#[test]
fn an_end_for_a_run_that_gives_way_no_longer_is_refused() {
    let end = || Command::Abort { by: Actor::Automatic, reason: "superseded".into(), roll_back: false };
    let refused = |run: &mut Execution, now| {
        let before = run.clone();
        let refused = run.handle(Event::Command(end()), now).unwrap_err();
        assert_eq!(refused.code(), "does_not_give_way", "{refused}");
        assert_eq!((run.state(), run.next_sequence()), (before.state(), before.next_sequence()));
    };
    let mut run = automatic(failover());
    done(&mut run, 0, at(1));
    refused(&mut run, at(2));
    done(&mut run, 1, at(3));
    order(&mut run, Command::Pause { by: person(), reason: "wait".into() }, at(4));
    refused(&mut run, at(5));
    // What a person wants is another matter.
    order(&mut run, Command::Abort { by: person(), reason: "enough".into(), roll_back: false }, at(6));
    assert_eq!(run.state(), RunState::Aborted);
}

#[test]
fn what_a_person_began_or_ended_is_theirs() {
    let mut by_hand = fresh(&failover(), None);
    feed(&mut by_hand, Event::Start { epoch: EPOCH }, at(0));
    assert!(!by_hand.gives_way());

    let plan = failover();
    let mut approved = drovers(Consent::Ask {
        plan: plan.clone(),
        expires: Span::from_mins(15),
        approvals: Approvals::default(),
    });
    let yes =
        Command::Approve { by: person(), plan: plan.id.clone(), reason: "go".into(), voice: Voice::Claimed };
    order(&mut approved, yes, at(1));
    assert_eq!(approved.current_step(), Some(0));
    assert!(!approved.gives_way(), "a person said yes, and is there");

    let mut drain = failover();
    drain.intent.purpose = Purpose::Drain;
    assert!(!automatic(drain).gives_way(), "nothing fails there");

    let mut ended = automatic(failover());
    let abort = Command::Abort { by: person(), reason: "mine".into(), roll_back: false };
    order(&mut ended, abort, at(1));
    assert_eq!(ended.state(), RunState::Aborted);
    assert!(!ended.was_superseded());
}

#[test]
fn it_counts_on_whom_it_asks_sends_traffic_to_and_judges() {
    let endpoint = |text: &str| text.parse::<EndpointKey>().unwrap();
    let mut plan = failover();
    let predicates = vec![
        Predicate::EndpointStillBad { endpoint: endpoint("checkout@eu-west") },
        Predicate::EndpointHealthy { endpoint: endpoint("checkout@us-east") },
    ];
    plan.steps[0].kind = StepKind::Preflight { predicates };
    let StepKind::Validate { targets } = &mut plan.steps[3].kind else { panic!("{plan:?}") };
    targets[0].regions = vec![RegionId::new("ap-south").unwrap()];
    let target: AppCheckTarget = serde_json::from_value(serde_json::json!({
        "endpoint": "checkout@us-west", "address": "127.0.0.1", "port": 1, "tls": false, "host": "h",
        "check": {"name": "order", "method": "GET", "path": "/", "body": null, "expect_status": 200, "expect_body": null,
                  "timeout": "1s"},
    }))
    .unwrap();
    plan.steps.push(step(
        StepKind::VerifyApp { targets: vec![target] },
        OnFailure::Pause,
        drover_model::plan::Reversal::Nothing,
        1,
    ));
    let expected: BTreeSet<EndpointKey> =
        ["checkout@us-east", "checkout@ap-south", "checkout@us-west"].map(endpoint).into();
    assert_eq!(automatic(plan).counts_on(), expected);
}
