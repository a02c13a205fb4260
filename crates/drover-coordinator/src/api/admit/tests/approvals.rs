//! Of services whose policy asks for two people.

use super::*;
use crate::outbox::PageRecord;
use drover_model::RunId;
use drover_model::journal::RunState;

async fn strict() -> (Bed, Api) {
    let bed = Bed::with(|c| c.services.values_mut().for_each(|s| s.failover.approvals = 2)).await;
    bed.all_is_well();
    let api = serve(&bed).await;
    (bed, api)
}

/// Plans and applies; gives the plan's id, which run-1 asks about.
async fn applied(api: &Api, token: &str) -> String {
    let body = json!({"by": person(), "intent": Bed::intent()});
    let made = api.tcp("post", "/v1/plans", token, &body).await;
    let made: Value = serde_json::from_str(&made.text).unwrap();
    let plan = made["planned"]["plan"]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let order = json!({"by": person(), "reason": "work"});
    let run = api.tcp("post", &format!("/v1/plans/{plan}/apply"), token, &order).await;
    let run: Value = serde_json::from_str(&run.text).unwrap();
    assert_eq!((&run["id"], &run["state"]), (&json!("run-1"), &json!("awaiting_approval")), "{run}");
    plan
}

fn yes(plan: &str, alone: bool) -> Value {
    json!({"by": person(), "reason": "looked at it", "plan": plan, "alone": alone})
}

async fn state(bed: &Bed) -> RunState {
    bed.c.run_view(&RunId::numbered(1)).await.unwrap().unwrap().summary.state
}

const APPROVE: &str = "/v1/runs/run-1/approve";

#[tokio::test]
async fn four_eyes_are_those_of_two_tokens_and_every_other_try_is_on_record() {
    let (bed, api) = strict().await;
    let ann = make(&bed.c, "ann", Role::Operator, None).await;
    let again = make(&bed.c, "ann-2", Role::Operator, None).await;
    let bob = make(&bed.c, "bob", Role::Operator, None).await;
    let plan = applied(&api, &ann).await;
    let view = bed.c.run_view(&RunId::numbered(1)).await.unwrap().unwrap();
    assert!(view.summary.summary.starts_with("2 people approve: ann did, 1 more must"), "{view:?}");
    let only = bed.c.runs.active().into_iter().next().unwrap();
    assert!(only.awaiting_approval, "it keeps nothing else from its services");

    for (token, alone, status, code) in [
        (ann.as_str(), false, 409, "same_person"),
        (&again, false, 409, "same_person"),
        (&bob, true, 403, "role_too_small"),
    ] {
        let answer = api.tcp("post", APPROVE, token, &yes(&plan, alone)).await;
        answer.is(status, code);
        assert!(answer.next.contains("drover approve run-1"), "{answer:?}");
    }
    // Whoever is at the socket may do everything, and is nobody in particular.
    let nobody = api.socket("post", APPROVE, "", &yes(&plan, false)).await;
    nobody.is(409, "approval_not_proven");
    assert!(nobody.next.contains("--alone"), "{nobody:?}");
    let refused = audit(&bed.c).await.into_iter().filter(|r| r.outcome.starts_with("refused: "));
    assert_eq!(refused.filter(|r| r.verb == "approve" || r.subject == "run-1").count(), 3);
    assert_eq!(state(&bed).await, RunState::AwaitingApproval);

    let done = api.tcp("post", APPROVE, &bob, &yes(&plan, false)).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_ne!(state(&bed).await, RunState::AwaitingApproval);
    let view = bed.c.run_view(&RunId::numbered(1)).await.unwrap().unwrap();
    assert_eq!(view.approvals.names(), "ann and bob");
    assert!(view.timeline.iter().any(|t| t.sentence.starts_with("bob approved")), "{:?}", view.timeline);
}

#[tokio::test]
async fn at_night_an_admin_answers_for_all_and_all_are_paged() {
    let (bed, api) = strict().await;
    let plan = applied(&api, "").await;
    let first = api.socket("post", APPROVE, "", &yes(&plan, false)).await;
    first.is(409, "approval_not_proven");
    let done = api.socket("post", APPROVE, "", &yes(&plan, true)).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_ne!(state(&bed).await, RunState::AwaitingApproval);
    // The run tells it, beside its steps.
    let written = async {
        loop {
            let pages = bed.c.db.list::<PageRecord>(keys::OUTBOX).await.unwrap();
            let alone = pages.iter().filter(|(_, p)| p.message.contains("approved run-1 alone")).count();
            if alone > 0 {
                return alone;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let hang_guard = std::time::Duration::from_secs(60);
    assert_eq!(tokio::time::timeout(hang_guard, written).await.unwrap(), 1);
    let told = audit(&bed.c).await;
    let of_it: Vec<&str> =
        told.iter().filter(|r| r.outcome.contains("alone")).map(|r| r.outcome.as_str()).collect();
    let begun = "approve: alone, for all who were asked";
    assert_eq!(of_it, [begun, &format!("{begun}: done")], "also where the leader had died in between");
}

#[tokio::test]
async fn a_name_that_only_ends_in_the_number_of_a_run_commands_none() {
    let (bed, api) = strict().await;
    let plan = applied(&api, "").await;
    for (verb, name) in [("reject", "break-glass-0000000a-1"), ("approve", "decision-1"), ("abort", "run-01")]
    {
        let answer = api.socket("post", &format!("/v1/runs/{name}/{verb}"), "", &yes(&plan, true)).await;
        answer.is(404, "not_found");
    }
    assert_eq!(state(&bed).await, RunState::AwaitingApproval);
}

#[tokio::test]
async fn a_question_that_the_world_has_overtaken_is_withdrawn_and_a_new_plan_asks_anew() {
    let (bed, api) = strict().await;
    let ann = make(&bed.c, "ann", Role::Operator, None).await;
    let plan = applied(&api, &ann).await;
    let mut world = bed.c.world(bed.c.clock.now());
    assert!(!bed.c.withdraw_overtaken(&world, bed.c.clock.now()).await);
    for traffic in world.traffic.values_mut() {
        traffic.generation = traffic.generation.next();
    }
    assert!(bed.c.withdraw_overtaken(&world, bed.c.clock.now()).await);
    assert_eq!(state(&bed).await, RunState::Rejected);
    let bob = make(&bed.c, "bob", Role::Operator, None).await;
    let late = api.tcp("post", APPROVE, &bob, &yes(&plan, false)).await;
    late.is(409, "wrong_state");
}
