//! `run` steps with real programs, each of which keeps a ledger of what it did. The ledgers are what counts: however often
//! leaders die, nothing is in them twice.

use crate::killpoints::{self, Cycle, at_every_point, unattended};
use crate::world::{Said, Setup, World};
use drover_model::api::RunView;
use drover_model::journal::RunState;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is done, and how its ledger looks. `DIR` is the ledgers' directory.
const PROGRAMS: [(&str, &str); 4] = [
    ("warm", "echo \"$DROVER_RUN\" >> DIR/warm.ledger"),
    // 0 when it is done, 1 when it is not.
    ("is-warm", "grep -qx \"$DROVER_RUN\" DIR/warm.ledger"),
    // A receiver that honours keys: a second request with the same one changes nothing.
    ("ticket", "mkdir -p \"DIR/tickets/$DROVER_IDEMPOTENCY_KEY\""),
    (
        "invoice",
        "echo \"$DROVER_RUN\" >> DIR/invoice.ledger\nif [ -e DIR/hang ]; then sleep 3600 & echo $! > DIR/child.new; mv DIR/child.new DIR/child; wait; fi",
    ),
];

const STEPS: &str = "\
kind: Runbook
name: drain-with-programs
purpose: drain
description: A drain that runs a program of each kind.
steps:
  - preflight
  - run: {command: [DIR/warm], repeatability: observable, observe: [DIR/is-warm], attempts: 3}
  - run: {command: [DIR/ticket], repeatability: keyed, attempts: 3}
  - run: {command: [DIR/invoice], repeatability: at_most_once, timeout: 1h}
  - shift_traffic
  - verify_dns
  - validate
";

const DRAIN: &[&str] = &["drain", "us-east", "--no-expiry", "--reason", "kernel update"];
/// The step that can be neither observed nor repeated.
const INVOICE: &str = "4-run";

/// Runbooks with programs, and empty ledgers beside them.
fn lay_out(directory: &Path) {
    let at = directory.display().to_string();
    for (name, does) in PROGRAMS {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\nset -e\n{}\n", does.replace("DIR", &at))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for ledger in ["warm.ledger", "invoice.ledger"] {
        fs::write(directory.join(ledger), "").unwrap();
    }
    killpoints::with_drain(directory, &STEPS.replace("DIR", &at));
}

/// Where the ledgers of a world are: beside the runbooks that its coordinator was started with.
fn ledgers(w: &World) -> std::path::PathBuf {
    Path::new(w.coordinator().option("--runbooks").unwrap()).to_owned()
}

fn entries(w: &World, ledger: &str, run: &str) -> usize {
    let text = fs::read_to_string(ledgers(w).join(ledger)).unwrap();
    text.lines().filter(|line| *line == run).count()
}

/// Looks into the ledger, as the message asks, and says what is so.
fn looks_and_decides(w: &World, view: &RunView) {
    let run = view.summary.id.as_str();
    assert_eq!(view.summary.state, RunState::NeedsOperator, "{}", view.summary.summary);
    let said = if entries(w, "invoice.ledger", run) == 0 {
        w.drover(&["run", "resume", run, "--reason", "it was not sent, says the ledger"])
    } else {
        skip(w, view)
    };
    // 6: it may die again just then.
    assert!([0, 3, 6].contains(&said.code), "{said:?}");
}

fn skip(w: &World, view: &RunView) -> Said {
    let (run, plan) = (view.summary.id.as_str(), view.plan.id.as_str());
    w.drover(&["run", "skip", run, "--reason", "it was sent, says the ledger", "--yes", "--plan", plan])
}

fn each_once(w: &World, view: &RunView) {
    let run = view.summary.id.as_str();
    assert_eq!(entries(w, "warm.ledger", run), 1, "{run}");
    assert_eq!(entries(w, "invoice.ledger", run), 1, "{run}");
    let tickets = fs::read_dir(ledgers(w).join("tickets").join(run)).unwrap().count();
    assert_eq!(tickets, 1, "{run}: every attempt has the same key");
}

#[test]
fn programs_survive_death_at_every_point() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let w = killpoints::world(Some(directory.path()));
    let drain = Cycle {
        w: &w,
        words: DRAIN,
        operator: looks_and_decides,
        uncertain: Some(INVOICE),
        witness: each_once,
    };
    at_every_point(&[("drain with programs", drain), ("undrain", unattended(&w, &["undrain", "us-east"]))]);
}

#[test]
fn a_program_ends_with_its_coordinator_and_is_not_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    fs::write(directory.path().join("hang"), "").unwrap();
    let words = vec![format!("--runbooks={}", directory.path().display())];
    let w = World::start(Setup { words, ..Setup::default() });
    let plan = w.plan(DRAIN);
    w.drover(&["apply", &plan, "--reason", "as agreed", "--yes", "--no-wait"]).expect_code(0);
    let child = w.wait_for("the invoice is being sent", |_| {
        fs::read_to_string(directory.path().join("child")).ok()?.trim().parse::<i32>().ok()
    });
    assert_eq!(entries(&w, "invoice.ledger", "run-1"), 1);
    assert!(lives(child));
    w.coordinator().signal(Signal::SIGKILL);
    let run = w.until_run(RunState::NeedsOperator);
    assert!(run.summary.summary.contains("may have been done or not"), "{}", run.summary.summary);
    w.wait_for("what the program started is ended, too", |_| (!lives(child)).then_some(()));
    assert_eq!(entries(&w, "invoice.ledger", "run-1"), 1, "it was begun again");
    skip(&w, &run).expect_code(0);
    let run = w.until_run(RunState::SucceededWithExceptions);
    assert_eq!(run.exceptions.len(), 1, "{:?}", run.exceptions);
    assert_eq!(entries(&w, "invoice.ledger", "run-1"), 1);
}

/// A process that was killed may stay as a zombie until somebody waits for it; it does nothing more.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_program_that_was_changed_is_not_the_one_that_was_approved() {
    let directory = tempfile::tempdir().unwrap();
    lay_out(directory.path());
    let words = vec![format!("--runbooks={}", directory.path().display())];
    let w = World::start(Setup { words, ..Setup::default() });
    let plan = w.plan(DRAIN);
    fs::write(directory.path().join("invoice"), "#!/bin/sh\nexit 0\n").unwrap();
    let refused = w.wait_for("the change is noticed", |w| {
        let other = w.plan(DRAIN);
        (other != plan).then(|| w.drover(&["apply", &plan, "--reason", "as agreed", "--yes"]))
    });
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("was made from"), "{}", refused.stderr);
    assert!(w.status().runs.is_empty());
}
