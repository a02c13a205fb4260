//! Every coordinator is gone, and somebody moves DNS by himself; then one is back, and leaves alone what he holds.

use crate::world::{REGIONS, Said, World, weights};
use drover_model::api::StatusView;
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

/// `drover break-glass dns …` with the world's configuration. A bare `--plan` stands at the end of the line.
fn glass(w: &World, verb: &str, words: &[&str]) -> Said {
    let directory = w.config_path("");
    let place = ["break-glass", "dns", verb, "--config", directory.to_str().unwrap()];
    w.drover(&[place.as_slice(), words].concat())
}

/// Shows the change, and makes exactly it.
fn set(w: &World, weights: &[&str], file: &str) -> Value {
    let reason = ["--reason", "eu-west burns", "--record", file, "-o", "json"];
    let words = [["checkout"].as_slice(), weights, &reason].concat();
    let shown: Value = glass(w, "set", &[words.as_slice(), &["--plan"]].concat()).expect_code(8).json();
    assert!(!w.path(file).exists() || shown["record"].is_null(), "nothing is done yet");
    let plan = shown["plan"].as_str().unwrap();
    glass(w, "set", &[words.as_slice(), &["--yes", "--plan", plan]].concat()).expect_code(0).json()
}

fn is_held(status: &StatusView) -> bool {
    status.attention.iter().any(|a| {
        a.code == "held_by_break_glass"
            && a.subject == "checkout"
            && a.next.as_ref().unwrap().contains("reconcile")
    })
}

fn changes_of_checkout(w: &World) -> usize {
    w.dns_changes().iter().filter(|change| change.set.contains("checkout")).count()
}

/// The region is well again, and drover has the service again: its own target is published, and all of it is on record, once.
fn is_released(w: &World, record: &str) {
    w.drover(&["heal", "us-east"]).expect_code(0);
    w.until("us-east is well", |s| {
        let checkout = s.services.iter().find(|s| s.name.as_str() == "checkout").unwrap();
        checkout.endpoints.iter().all(|e| e.verdict == VerdictState::Healthy)
    });
    let broken = record.replacen("eu-west burns", "eu-west is fine", 1);
    std::fs::write(w.path("broken.jsonl"), broken).unwrap();
    let words = ["break-glass", "reconcile", "broken.jsonl", "--release", "--reason", "r", "--yes"];
    let refused = w.drover(&words).expect_code(10);
    assert!(refused.stderr.contains("line 1"), "{}", refused.stderr);
    let done = reconcile(w, "glass.jsonl", "--release");
    assert_eq!(
        (&done["reconciled"]["added"], &done["services"][0]["service"]),
        (&4.into(), &"checkout".into())
    );
    assert_eq!(w.answered("checkout"), REGIONS);
    w.until("nobody holds it", |s| !is_held(s));
    let again = reconcile(w, "glass.jsonl", "--release");
    let told = &again["reconciled"];
    assert_eq!(
        (&told["added"], &told["known"], &told["services"]),
        (&0.into(), &4.into(), &Value::Array(vec![]))
    );
    let log: Value = w.drover(&["log", "-o", "json"]).expect_code(0).json();
    let lines = log["items"].as_array().unwrap().iter().filter(|i| i["verb"] == "break-glass").count();
    assert_eq!(lines, 4);
    w.drover(&["audit", "verify"]).expect_code(0);
}

#[test]
fn dns_moves_without_any_coordinator_and_the_next_one_leaves_it_alone() {
    let w = World::up();
    kill(w.keeper(), Signal::SIGSTOP).unwrap();
    w.coordinator().signal(Signal::SIGKILL);
    w.wait_for("no coordinator answers", |w| w.status_now().is_none().then_some(()));
    let shown: Value = glass(&w, "show", &["checkout", "-o", "json"]).expect_code(0).json();
    assert_eq!(shown["records"][0]["is_drovers"], true, "{shown}");
    let table = glass(&w, "show", &[]).expect_code(0).stdout;
    assert!(table.contains("catalog") && table.contains("drover"), "{table}");

    // Nobody may be left without an answer, and nothing may be done that was not shown.
    let all = ["checkout", "ap-south=0", "eu-west=0", "us-east=0", "--reason", "r", "--yes"];
    let dark = glass(&w, "set", &all).expect_code(3);
    assert!(dark.stderr.contains("weight"), "{}", dark.stderr);
    let unknown = glass(&w, "set", &["checkout", "mars=1", "--reason", "r", "--yes"]).expect_code(3);
    assert!(unknown.stderr.contains("mars is neither live nor an endpoint"), "{}", unknown.stderr);
    let blind = glass(&w, "set", &["checkout", "eu-west=0", "--reason", "r", "--yes"]).expect_code(2);
    assert!(blind.stderr.contains("--plan"), "{}", blind.stderr);
    assert_eq!(w.answered("checkout"), REGIONS);

    let done = set(&w, &["eu-west=0"], "glass.jsonl");
    assert_eq!((&done["applied"][0], &done["missing"]), (&"dns-1".into(), &Value::Array(vec![])), "{done}");
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    assert_eq!(w.answered("catalog"), REGIONS);
    let record = std::fs::read_to_string(w.path("glass.jsonl")).unwrap();
    let said: Vec<String> = record
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["entry"]["what"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(said, ["began", "intends", "ended", "verified"]);

    kill(w.keeper(), Signal::SIGCONT).unwrap();
    w.until("the next coordinator says who holds checkout", is_held);
    let made = changes_of_checkout(&w);
    assert_eq!(weights(&w.status(), "checkout").len(), 3);
    assert!(w.explain("checkout").standing.iter().any(|a| a.code == "held_by_break_glass"));
    let doctor = w.drover(&["doctor"]);
    assert!(doctor.stdout.contains("by break-glass"), "{}", doctor.stdout);
    let drain = ["drain", "us-east", "--service", "checkout", "--for", "1h", "--reason", "r", "--plan"];
    let refused = w.drover(&drain).expect_code(3);
    assert!(refused.stdout.contains("break-glass"), "{}", refused.stdout);
    // A region dies: what nobody holds leaves it, and what somebody holds stays as he set it.
    w.drover(&["break", "us-east"]).expect_code(0);
    let run = w.until_run(RunState::Succeeded);
    let moved: Vec<&str> = run.summary.services.iter().map(drover_model::ServiceId::as_str).collect();
    assert_eq!(moved, ["catalog"]);
    w.stays("checkout is held", is_held);
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    assert_eq!(changes_of_checkout(&w), made, "nobody wrote there since");
    is_released(&w, &record);
}

/// Shows what would happen, and does exactly it.
fn reconcile(w: &World, file: &str, how: &str) -> Value {
    let words = ["break-glass", "reconcile", file, how, "--reason", "eu-west is back", "-o", "json"];
    let shown: Value = w.drover(&[words.as_slice(), &["--plan"]].concat()).expect_code(8).json();
    let plan = shown["plan"].as_str().unwrap();
    w.drover(&[words.as_slice(), &["--yes", "--plan", plan]].concat()).expect_code(0).json()
}

#[test]
fn a_leader_that_is_alive_after_all_does_not_fight_and_keeps_what_was_set_as_a_drain() {
    let w = World::up();
    set(&w, &["eu-west=0"], "glass.jsonl");
    let made = changes_of_checkout(&w);
    w.until("the leader says who holds checkout", is_held);
    // Neither a change of the configuration nor time makes it write there.
    w.edit(|c| c.services.values_mut().for_each(|s| s.ttl = drover_model::Span::from_secs(7)));
    w.stays("checkout is held", is_held);
    assert_eq!(
        (w.answered("checkout"), changes_of_checkout(&w)),
        (vec!["ap-south".into(), "us-east".into()], made)
    );
    let catalog = w.dns_changes().into_iter().filter(|c| c.set.contains("catalog")).count();
    assert!(catalog >= 2, "the others go on: {:?}", w.dns_changes());

    reconcile(&w, "glass.jsonl", "--keep");
    assert_eq!(w.answered("checkout"), ["ap-south", "us-east"]);
    let status = w.until("nobody holds it", |s| !is_held(s));
    let eu_west = weights(&status, "checkout").into_iter().find(|(region, _)| region == "eu-west");
    assert_eq!(eu_west, Some(("eu-west".into(), 0)));
    assert!(
        status.attention.iter().any(|a| a.code == "drained" && a.subject == "eu-west"),
        "{:?}",
        status.attention
    );
    w.drover(&["dns", "drift"]).expect_code(0);
    let plan = w.plan(&["undrain", "eu-west", "--service", "checkout", "--reason", "back"]);
    w.apply(&plan).expect_code(0);
    assert_eq!(w.answered("checkout"), REGIONS);
    let status = w.status();
    assert!(status.holds.is_empty(), "{:?}", status.holds);
    w.drover(&["audit", "verify"]).expect_code(0);
}
