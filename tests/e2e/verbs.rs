//! Every verb that a person has, said to the real program: what it prints and how it exits.

use crate::world::{World, all_serve, weights};
use drover_model::Span;
use drover_model::api::RunView;
use drover_model::config::{FixedRecord, FixedType};
use drover_model::decision::VerdictState;
use drover_model::journal::{Entry, RunState};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs a plan without waiting for its end; gives the run's name and its plan's.
fn started(w: &World, words: &[&str]) -> (String, String) {
    let plan = w.plan(words);
    let said = w.drover(&["apply", &plan, "--reason", "work", "--yes", "--no-wait", "-o", "json"]);
    let run: Value = said.expect_code(0).json();
    (run["id"].as_str().unwrap().to_owned(), plan)
}

fn view(w: &World, run: &str) -> RunView {
    w.drover(&["run", "show", run, "-o", "json"]).expect_code(0).json()
}

fn until(w: &World, run: &str, state: RunState) -> RunView {
    w.wait_for(&format!("{run} is {state}"), |w| {
        let v = view(w, run);
        (v.summary.state == state).then_some(v)
    })
}

#[test]
fn looking_changes_nothing_and_its_exit_code_tells() {
    let w = World::up();
    w.drover(&["status", "--exit-code"]).expect_code(0);
    let all = w.drover(&["status", "--all"]).expect_code(0).stdout;
    assert!(all.contains("checkout") && all.contains("witness-1"), "{all}");
    let doctor = w.drover(&["doctor"]);
    assert!(doctor.stdout.contains("automatic failover of eu-west"), "{}", doctor.stdout);
    assert_eq!(doctor.code, 0, "{}", doctor.stdout);
    let yaml = w.drover(&["status", "-o", "yaml"]).expect_code(0).stdout;
    assert!(yaml.starts_with("schema: 1\n"), "{yaml}");
    let shown = w.drover(&["config", "show"]).expect_code(0).stdout;
    assert!(shown.contains("kind: Service") && shown.contains("name: checkout"), "{shown}");
    for verb in
        [&["config", "schema"][..], &["runbook", "list"], &["log"], &["man"], &["completions", "bash"]]
    {
        assert!(!w.drover(verb).expect_code(0).stdout.is_empty(), "{verb:?}");
    }
    let unknown = w.drover(&["explain", "nowhere"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("eu-west"), "what there is: {}", unknown.stderr);
    w.drover(&["no-such-verb"]).expect_code(2);

    w.drover(&["break", "eu-west"]).expect_code(0);
    w.until("something needs attention", |s| !s.attention.is_empty());
    w.drover(&["status", "--exit-code"]).expect_code(8);
    w.until_run(RunState::Succeeded);
    let decisions: Value = w.drover(&["explain", "eu-west", "-o", "json"]).expect_code(0).json();
    let stored = decisions["history"][0]["id"].as_str().unwrap();
    w.drover(&["explain", "--replay", stored]).expect_code(0);
    let pasted = w.drover(&["run", "show", "run-1", "-o", "markdown"]).expect_code(0).stdout;
    assert!(pasted.contains("run-1") && pasted.contains('|'), "{pasted}");
}

#[test]
fn a_run_is_paused_resumed_skipped_and_ends_with_exceptions() {
    let w = World::up();
    let (run, plan) =
        started(&w, &["drain", "us-east", "--service", "catalog", "--for", "1h", "--reason", "kernel"]);
    w.drover(&["run", "pause", &run, "--reason", "looking"]).expect_code(0);
    until(&w, &run, RunState::Paused);
    w.drover(&["run", "follow", &run]).expect_code(5);
    w.drover(&["run", "resume", &run, "--reason", "it is fine"]).expect_code(0);
    w.wait_for("it validates", |w| {
        let steps = view(w, &run).steps;
        steps.iter().find(|s| s.id.ends_with("validate") && s.state == "running").map(|_| ())
    });
    let sure = ["run", "skip", &run, "--reason", "seen by hand", "--yes", "--plan", &plan];
    let running = w.drover(&sure).expect_code(3);
    assert!(running.stderr.contains("drover run pause"), "what comes first: {}", running.stderr);
    w.drover(&["run", "pause", &run, "--reason", "no metrics today"]).expect_code(0);
    until(&w, &run, RunState::Paused);
    let unsure = w.drover(&["run", "skip", &run, "--reason", "seen by hand"]);
    assert_eq!(unsure.code, 2, "without a terminal a skip must name the plan: {}", unsure.stderr);
    assert!(unsure.stderr.contains(&plan), "{}", unsure.stderr);
    let other = ["run", "skip", &run, "--reason", "seen by hand", "--yes", "--plan", "plan-0123456789ab"];
    w.drover(&other).expect_code(3);
    w.drover(&sure).expect_code(0);
    w.drover(&["run", "follow", &run]).expect_code(7);
    let ended = until(&w, &run, RunState::SucceededWithExceptions);
    assert!(ended.exceptions.iter().any(|e| e.contains("seen by hand")), "{:?}", ended.exceptions);
    w.drover(&["run", "pause", &run, "--reason", "too late"]).expect_code(3);
}

#[test]
fn an_aborted_run_is_undone_when_that_was_said() {
    let w = World::up();
    let before = weights(&w.status(), "catalog");
    let (run, plan) =
        started(&w, &["drain", "us-east", "--service", "catalog", "--for", "1h", "--reason", "kernel"]);
    w.until("traffic has moved", |s| weights(s, "catalog") != before);
    let words = ["run", "abort", &run, "--roll-back", "--reason", "wrong region"];
    w.drover(&words).expect_code(2);
    w.drover(&[&words[..], &["--yes", "--plan", &plan]].concat()).expect_code(0);
    let ended = until(&w, &run, RunState::RolledBack);
    assert!(ended.timeline.iter().any(|t| matches!(t.entry, Entry::AbortRequested { roll_back: true, .. })));
    assert_eq!(weights(&w.status(), "catalog"), before);
    w.drover(&["run", "follow", &run]).expect_code(4);
}

#[test]
fn more_load_than_fits_is_moved_when_a_person_takes_that_on_by_name() {
    let w = World::up();
    w.edit(|c| {
        for service in c.services.values_mut() {
            service.endpoints.values_mut().for_each(|e| e.capacity.0 /= 3);
        }
    });
    let words = ["failover", "catalog", "--from", "eu-west", "--reason", "fire"];
    let refused = w.drover(&[&words[..], &["--plan"]].concat()).expect_code(3);
    assert!(refused.stdout.contains("--accept capacity"), "{}", refused.stdout);
    let unknown = w.drover(&[&words[..], &["--accept", "fencing", "--plan"]].concat()).expect_code(2);
    assert!(unknown.stderr.contains("capacity"), "what can be accepted: {}", unknown.stderr);
    let accepted = [&words[..], &["--accept", "capacity"]].concat();
    let plan = w.plan(&accepted);
    let shown = w.drover(&[&accepted[..], &["--plan"]].concat()).expect_code(8).stdout;
    assert!(shown.contains("OVER capacity"), "{shown}");
    w.apply(&plan).expect_code(0);
    assert_eq!(w.answered("catalog"), ["ap-south", "us-east"]);
}

#[test]
fn a_plan_shown_without_a_reason_is_the_same_plan_with_one() {
    let w = World::up();
    let plan = w.plan(&["drain", "us-east", "--service", "catalog", "--for", "1h"]);
    let words = ["drain", "us-east", "--service", "catalog", "--for", "1h", "--reason", "rack move"];
    w.drover(&[&words[..], &["--yes", "--plan", &plan]].concat()).expect_code(0);
    assert_eq!(w.status().holds[0].reason, "rack move");
    let undrain = w.plan(&["undrain", "us-east"]);
    w.apply(&undrain).expect_code(0);
    let plan = w.plan(&["drain", "us-east", "--service", "catalog", "--for", "1h"]);
    w.drover(&["apply", &plan, "--reason", "said at last", "--yes"]).expect_code(0);
    assert_eq!(w.status().holds[0].reason, "said at last");
}

#[test]
fn without_its_coordinator_drover_tells_what_it_still_knows() {
    let w = World::up();
    w.drover(&["status"]).expect_code(0);
    w.coordinator().signal(Signal::SIGSTOP);
    let offline = w.drover(&["status"]).expect_code(6);
    for known in ["checkout", "eu-west-1", "dns-1"] {
        assert!(offline.stdout.contains(known), "{known} in:\n{}", offline.stdout);
    }
    let json: Value = w.drover(&["status", "-o", "json"]).expect_code(6).json();
    assert_eq!(json["coordinator_reachable"], Value::Bool(false));
    assert!(json["dns"].as_array().unwrap().iter().all(|d| d["error"].is_null()), "DNS answers: {json:#}");
    let agents = json["agents"].as_array().unwrap();
    assert!(agents.len() == 4 && agents.iter().all(|a| a["error"].is_null()), "{json:#}");
    w.drover(&["doctor"]).expect_code(6);
    w.coordinator().signal(Signal::SIGCONT);
    w.until("it is back", |_| true);
}

#[test]
fn a_broken_link_is_seen_from_one_side_only_and_slowness_moves_the_service() {
    let w = World::up();
    w.drover(&["break", "link", "eu-west", "us-east"]).expect_code(0);
    w.until("each sees the other fail, and nobody else does", |s| {
        let verdict = |region: &str| {
            let endpoints = s.services.iter().flat_map(|s| &s.endpoints);
            endpoints.filter(|e| e.region.as_str() == region).map(|e| e.verdict).collect::<Vec<_>>()
        };
        verdict("eu-west") == [VerdictState::Partitioned; 2]
            && verdict("us-east") == [VerdictState::Partitioned; 2]
    });
    w.stays("nothing moves", |s| s.runs.is_empty() && all_serve(s));
    w.drover(&["heal"]).expect_code(0);
    w.until("all is well", |s| {
        s.services.iter().all(|s| s.endpoints.iter().all(|e| e.verdict == VerdictState::Healthy))
    });
    // Slower than the probes' timeout: unanswered in time is failed.
    w.drover(&["break", "slow", "eu-west", "3s"]).expect_code(0);
    let run = w.until_run(RunState::Succeeded);
    assert_eq!(run.summary.region.as_str(), "eu-west");
}

/// What is exported for the night on which other servers have to answer is a zone that one of them loads.
#[test]
fn an_exported_zone_is_one_that_bind_loads() {
    let w = World::up();
    let apex = w.config.settings.dns.as_ref().unwrap().zone.clone();
    let fixed = |id: &str, record_type, values: &[String]| FixedRecord {
        id: id.parse().unwrap(),
        name: apex.clone(),
        record_type,
        ttl: Span::from_mins(5),
        values: values.to_vec(),
    };
    let records = vec![
        fixed("spf", FixedType::Txt, &["v=spf1 -all".to_owned(), "k".repeat(400)]),
        fixed("issuers", FixedType::Caa, &["0 issue ca.example".to_owned()]),
        fixed("mail", FixedType::Mx, &["10 mail.example.org".to_owned()]),
    ];
    w.edit(|config| config.settings.dns.as_mut().unwrap().records = records.clone());
    w.until("the records are there", |_| {
        let shown = w.drover(&["dns", "show", "spf", "issuers", "mail", "-o", "json"]);
        shown.code == 0
            && shown.json::<Value>()["records"].as_array().unwrap().iter().all(|r| r["state"] == "in_line")
    });
    let zone = w.drover(&["dns", "export"]).expect_code(0);
    for written in ["IN TXT \"v=spf1 -all\"", "IN CAA 0 issue \"ca.example\"", "IN MX 10 mail.example.org."] {
        assert!(zone.stdout.contains(&format!("{apex}. 300 {written}\n")), "{}", zone.stdout);
    }
    let file = w.path("drover.zone");
    std::fs::write(&file, &zone.stdout).unwrap();
    let checked = std::process::Command::new("/usr/bin/named-checkzone").arg(&apex).arg(&file).output();
    let checked = checked.unwrap_or_else(|e| panic!("named-checkzone: {e}; install it: bash tests/setup"));
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("OK"), "{said}\n{}", zone.stdout);
    for service in w.config.services.values() {
        assert!(zone.stdout.contains(&format!("{}. ", service.dns_name)), "{}", zone.stdout);
    }
    w.drover(&["dns", "verify", "--draws", "200"]).expect_code(0);
}
