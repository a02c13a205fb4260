//! What people do: plans, answers, drains, configuration.

use crate::world::{REGIONS, World, all_serve, weights};
use drover_model::Span;
use drover_model::api::RunView;
use drover_model::journal::{CheckOutcome, RunState};
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn a_failover_by_hand_is_the_plan_that_was_shown() {
    let w = World::up();
    let words = ["failover", "checkout", "--from", "eu-west", "--reason", "rack fire"];
    let plan = w.plan(&words);
    assert_eq!(w.plan(&words), plan, "the same plan has the same name");
    assert!(w.status().runs.is_empty(), "a plan alone does nothing");
    let without_consent = w.drover(&["apply", &plan]);
    assert_eq!(without_consent.code, 2, "without a terminal nobody can be asked: {}", without_consent.stderr);
    let said = w.drover(&["apply", &plan, "--reason", "as agreed", "--yes", "-o", "json"]).expect_code(0);
    let run: RunView = said.json();
    assert_eq!((run.summary.plan.as_str(), run.summary.state), (plan.as_str(), RunState::Succeeded));
    assert!(matches!(run.summary.by, Actor::Person { .. }), "{:?}", run.summary.by);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    assert_eq!(w.answered("catalog"), REGIONS);
    let mut measured = run.steps.iter().flat_map(|step| &step.measurements);
    let seen = measured.find(|m| m.name == "DNS from vantages").unwrap();
    assert_eq!(seen.outcome, CheckOutcome::Pass, "{seen:?}");
    assert!(
        run.declared_at < run.recovered_at && run.drained_at.is_some() && run.drained_is_assumed,
        "{run:?}"
    );
}

#[test]
fn a_plan_that_the_world_has_left_behind_is_refused() {
    let w = World::up();
    let stale = w.plan(&["failover", "checkout", "--from", "eu-west", "--reason", "rack fire"]);
    let drain =
        w.plan(&["drain", "us-east", "--service", "checkout", "--for", "1h", "--reason", "kernel update"]);
    w.apply(&drain).expect_code(0);
    let before = weights(&w.status(), "checkout");
    let refused = w.apply(&stale).expect_code(3);
    assert!(refused.stderr.contains("was made from"), "{}", refused.stderr);
    assert_eq!(weights(&w.status(), "checkout"), before, "nothing was done");
}

/// A world that asks before it moves anything, with a dead region and a question about it.
fn asking(expires: Option<Span>) -> (World, RunView) {
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.failover.automatic = false;
            service.failover.approval_expires = expires.unwrap_or(service.failover.approval_expires);
        }
    });
    w.drover(&["break", "eu-west"]).expect_code(0);
    let run = w.until_run(RunState::AwaitingApproval);
    assert!(run.expires_at.is_some());
    assert!(all_serve(&w.status()), "asked, not done");
    (w, run)
}

#[test]
fn a_question_that_is_approved_runs() {
    let (w, run) = asking(None);
    let (id, plan) = (run.summary.id.as_str(), run.plan.id.as_str());
    let other = w.drover(&["approve", id, "--reason", "ok", "--yes", "--plan", "plan-0123456789ab"]);
    assert_eq!(other.code, 3, "another plan than the one that is asked about: {}", other.stderr);
    w.drover(&["approve", id, "--reason", "better now than later", "--yes", "--plan", plan]).expect_code(0);
    w.drover(&["run", "follow", id]).expect_code(0);
    assert_eq!(w.run(&run.summary.id).summary.state, RunState::Succeeded);
    for service in &run.summary.services {
        assert_eq!(w.answered(service.as_str()), ["ap-south", "us-east"]);
    }
}

#[test]
fn a_question_that_is_rejected_changes_nothing() {
    let (w, run) = asking(None);
    w.drover(&["reject", run.summary.id.as_str(), "--reason", "false alarm"]).expect_code(0);
    w.wait_for("it is rejected", |w| {
        (w.run(&run.summary.id).summary.state == RunState::Rejected).then_some(())
    });
    w.stays("nothing moves", all_serve);
    w.drover(&[
        "approve",
        run.summary.id.as_str(),
        "--reason",
        "no, yes",
        "--yes",
        "--plan",
        run.plan.id.as_str(),
    ])
    .expect_code(3);
}

#[test]
fn a_question_that_nobody_answers_is_no_consent() {
    let (w, run) = asking(Some(Span::from_secs(3)));
    let expired =
        |w: &World| (w.run(&run.summary.id).summary.state == RunState::ExpiredUnapproved).then_some(());
    w.wait_for("the question expires", expired);
    w.stays("nothing moves", all_serve);
    w.drover(&[
        "approve",
        run.summary.id.as_str(),
        "--reason",
        "late",
        "--yes",
        "--plan",
        run.plan.id.as_str(),
    ])
    .expect_code(3);
}

#[test]
fn a_drain_stays_visible_until_it_is_ended() {
    let w = World::up();
    let plan = w.plan(&["drain", "us-east", "--for", "1h", "--reason", "kernel update"]);
    w.apply(&plan).expect_code(0);
    assert_eq!(w.answered("catalog"), ["ap-south", "eu-west"]);
    let status = w.status();
    assert_eq!(status.holds.len(), 1);
    assert!(status.attention.iter().any(|a| a.code == "drained"), "{:?}", status.attention);
    assert!(w.drover(&["status"]).expect_code(0).stdout.contains("kernel update"), "who and why");

    let plan = w.plan(&["undrain", "us-east"]);
    w.apply(&plan).expect_code(0);
    assert_eq!(w.answered("catalog"), REGIONS);
    assert!(w.status().holds.is_empty());
}

#[test]
fn a_drain_that_lapses_is_ended_by_drover() {
    let w = World::up();
    let before = weights(&w.status(), "checkout");
    let plan =
        w.plan(&["drain", "us-east", "--service", "checkout", "--for", "5s", "--reason", "kernel update"]);
    w.apply(&plan).expect_code(0);
    let status = w.until("it is undrained", |s| {
        s.holds.is_empty()
            && s.runs.iter().any(|r| r.purpose == Purpose::Undrain && r.state == RunState::Succeeded)
    });
    let undrain = status.runs.iter().find(|r| r.purpose == Purpose::Undrain).unwrap();
    assert_eq!(undrain.by, Actor::Automatic);
    assert_eq!(weights(&status, "checkout"), before);
    assert_eq!(w.answered("checkout"), REGIONS);
}

#[test]
fn a_good_change_is_taken_and_a_bad_one_refused_visibly() {
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.endpoints.values_mut().zip([60, 30, 10]).for_each(|(e, weight)| e.weight = Some(weight));
        }
    });
    let changed = w.until("the new weights are published", |s| {
        s.services.iter().all(|s| s.endpoints.iter().map(|e| e.weight.0).eq([60, 30, 10]))
    });

    let bad = w.config_path("bad.yaml");
    std::fs::write(&bad, "kind: Service\nname: broken\nendpionts: []\n").unwrap();
    let refused = w.until("the refusal shows", |s| !s.coordinator.config_refused.is_empty());
    assert_eq!(refused.coordinator.config_version, changed.coordinator.config_version, "the old one stays");
    assert!(refused.attention.iter().any(|a| a.code == "config_refused"), "{:?}", refused.attention);
    let directory = bad.parent().unwrap().display().to_string();
    let checked = w.drover(&["config", "validate", &directory]).expect_code(2);
    assert!(checked.stderr.contains("endpionts"), "with its place in the file: {}", checked.stderr);
    std::fs::remove_file(bad).unwrap();
    w.until("the refusal is gone", |s| s.coordinator.config_refused.is_empty());
}

#[test]
fn a_hang_up_reloads_and_is_on_record() {
    let w = World::up();
    let before = w.status().coordinator.config_version;
    let coordinator = w.coordinator();
    w.edit_and(|c| c.settings.retention.store_alarm_bytes += 1, || coordinator.signal(Signal::SIGHUP));
    let heard = |w: &World| {
        let log: Value = w.drover(&["log", "-o", "json"]).expect_code(0).json();
        let records = log["items"].as_array().unwrap();
        let of_signal = records.iter().find(|r| r["verb"] == "config reload" && r["reason"] == "SIGHUP");
        of_signal.map(|r| r["outcome"].as_str().unwrap().to_owned())
    };
    let outcome = w.wait_for("the signal is on record", heard);
    // The look that comes each second may have been a moment faster.
    assert!(["1 setting(s) changed", "nothing changed"].contains(&outcome.as_str()), "{outcome}");
    assert_ne!(w.status().coordinator.config_version, before);
    assert_eq!(w.coordinator().pid, coordinator.pid, "without a restart");
}
