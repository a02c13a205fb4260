//! SIGKILL at every boundary of a run: before each record of its journal is appended, after it, and between the parts of
//! what a step does. The list of points is made from the journal of a clean run; the process kills itself there (it is
//! built with the feature `fault-points`), and its successor must come to the end of the clean run.
//!
//! What took place is counted by those who received it: the DNS server's log of changes, the pages as they arrived, the
//! ledgers of the programs that were run.

use crate::crash::no_generation_twice;
use crate::world::{DnsChange, Setup, World, binary, weights};
use drover_model::api::RunView;
use drover_model::config::Config;
use drover_model::decision::VerdictState;
use drover_model::journal::{Entry, RunState};
use drover_model::plan::StepKind;
use drover_model::{Percent, RunId, Span};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Points in one run, at most, so that many share a run: each step still dies less often than drover allows it to.
/// `DROVER_E2E_KILLS_PER_RUN=1` gives each point a run of its own.
const KILLS_PER_RUN: usize = 8;
/// Probes a second come from each of the others; a leader that has just begun needs some of them for a judgement.
const VALIDATION_WINDOW: Span = Span::from_secs(3);
/// Where the processes look for their points; relative to the world's directory, which they run in.
const FAULT_FILE: &str = "faults";
/// What tells them where that is.
const VARIABLE: &str = "DROVER_FAULT_FILE";

/// The sample world with fault points, and with all waits as short as they may be.
pub fn world(runbooks: Option<&Path>) -> World {
    let program = std::fs::read(binary()).unwrap();
    assert!(
        program.windows(VARIABLE.len()).any(|w| w == VARIABLE.as_bytes()),
        "{} has no fault points: build it with `tests/run build`, or with `--features drover-cli/fault-points`",
        binary().display()
    );
    let words = runbooks.map_or_else(Vec::new, |r| vec![format!("--runbooks={}", r.display())]);
    let w = World::start(Setup { words, variables: vec![(VARIABLE, FAULT_FILE.into())], ..Setup::default() });
    w.edit(|config: &mut Config| {
        for service in config.services.values_mut() {
            service.failover.soak = Span::from_millis(300);
            service.failover.failback.stable_hold = Span::ZERO;
            service.failover.ramp = vec![Percent::whole(50), Percent::whole(100)];
            service.validation.window = VALIDATION_WINDOW;
            service.validation.min_samples = 20;
        }
    });
    w
}

/// What a run came to, by those who received its effects.
#[derive(Debug, PartialEq)]
pub struct Ended {
    state: RunState,
    steps: Vec<(String, String)>,
    weights: Vec<(String, u8)>,
    answered: Vec<String>,
    /// Changes of each record set, without the generations, which go on from run to run.
    changes: BTreeMap<String, usize>,
    /// What people were told, without the run's name.
    told: BTreeSet<String>,
}

impl Ended {
    /// As if a step that people let pass had been done: the person looked, and it was.
    fn forgiving(mut self, step: &str) -> Self {
        let skipped = self.steps.iter_mut().find(|(id, state)| id == step && state == "skipped");
        if let Some((_, state)) = skipped {
            "done".clone_into(state);
            assert_eq!(self.state, RunState::SucceededWithExceptions);
            self.state = RunState::Succeeded;
        }
        self.told.retain(|key| !key.contains("needs_operator"));
        self
    }
}

/// One kind of run, which another kind takes back.
pub struct Cycle<'w> {
    pub w: &'w World,
    pub words: &'static [&'static str],
    /// What people do when the run needs them.
    pub operator: fn(&World, &RunView),
    /// The step that may need them after a death.
    pub uncertain: Option<&'static str>,
    /// Looks at what else a run did.
    pub witness: fn(&World, &RunView),
}

impl Cycle<'_> {
    /// One run with these kill points; the run, and what it came to. `expected` is waited for where it comes later than
    /// the end.
    fn once(&self, points: &[String], expected: Option<&Ended>) -> (RunView, Ended) {
        let w = self.w;
        // A leader that has just begun knows nothing of any region, and plans nothing that would leave only those.
        w.until("all endpoints are known to be healthy", |s| {
            s.services.iter().flat_map(|s| &s.endpoints).all(|e| e.verdict == VerdictState::Healthy)
        });
        let changes_before = w.dns_changes();
        let runs_before: BTreeSet<RunId> = w.status().runs.into_iter().map(|r| r.id).collect();
        let plan = w.plan(self.words);
        let list: String = points.iter().map(|p| format!("{p}\n")).collect();
        std::fs::write(w.path(FAULT_FILE), list).unwrap();
        let run = self.begin(&plan, &runs_before);
        let view = w.wait_for(&format!("{run} is over, after dying at {points:?}"), |w| {
            let view = w.run_now(&run)?;
            if [RunState::NeedsOperator, RunState::Paused, RunState::AwaitingApproval]
                .contains(&view.summary.state)
            {
                (self.operator)(w, &view);
            }
            view.summary.state.is_final().then_some(view)
        });
        // The last point is after the last record: its death may still be about to happen.
        w.wait_for(&format!("all of {points:?} are reached"), |w| {
            std::fs::read_to_string(w.path(FAULT_FILE)).unwrap().is_empty().then_some(())
        });
        let ended = self.ended(&view, &changes_before, expected);
        (self.witness)(w, &view);
        (view, self.uncertain.into_iter().fold(ended, Ended::forgiving))
    }

    /// Starts the plan, again if its coordinator died before anything was written down, as a person would.
    fn begin(&self, plan: &str, before: &BTreeSet<RunId>) -> RunId {
        let w = self.w;
        w.wait_for("the run exists", |w| {
            let new =
                |w: &World| w.status_now()?.runs.into_iter().map(|r| r.id).find(|r| !before.contains(r));
            if let Some(run) = new(w) {
                return Some(run);
            }
            let said = w.drover(&["apply", plan, "--reason", "as agreed", "--yes", "--no-wait"]);
            // 3: the run that was begun by an earlier try is in its way. A disk that others keep busy may hold up the
            // first record past the limit of a request.
            let held_up = said.code == 4 && said.stderr.contains("took longer than one may");
            assert!([0, 3, 6].contains(&said.code) || held_up, "{said:?}");
            new(w)
        })
    }

    fn ended(&self, view: &RunView, before: &[DnsChange], expected: Option<&Ended>) -> Ended {
        let w = self.w;
        let status = w.status();
        let (run, state) = (view.summary.id.as_str(), view.summary.state);
        no_generation_twice(w);
        let mut changes = BTreeMap::new();
        for change in w.dns_changes().into_iter().filter(|c| !before.contains(c)) {
            *changes.entry(change.set).or_insert(0) += 1;
        }
        let all = ["checkout", "catalog"].into_iter();
        let told = w.wait_for("the end is told", |w| {
            let told = told(w, run);
            let all = expected.is_none_or(|e| told.is_superset(&e.told));
            (all && told.iter().any(|t| t.contains("/ended"))).then_some(told)
        });
        Ended {
            state,
            steps: view.steps.iter().map(|s| (s.id.clone(), s.state.clone())).collect(),
            weights: all.clone().flat_map(|s| weights(&status, s)).collect(),
            answered: all.flat_map(|s| w.answered(s)).collect(),
            changes,
            told,
        }
    }
}

/// The keys of the pages about a run that arrived, without its name and without the numbers of records, which a takeover
/// shifts.
fn told(w: &World, run: &str) -> BTreeSet<String> {
    // The sample world writes its pages into the file that is the last word of `on_page`.
    let command = w.config.settings.paging.on_page.as_ref().unwrap();
    let text = std::fs::read_to_string(command.last().unwrap()).unwrap_or_default();
    let pages = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok);
    let keys = pages.filter_map(|p| p["key"].as_str()?.strip_prefix(run).map(str::to_owned));
    keys.map(|k| k.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).collect()
}

/// Every boundary of a run, from the journal of one.
fn points(view: &RunView) -> Vec<String> {
    let mut found = vec![];
    for entry in view.timeline.iter().map(|t| &t.entry) {
        let json = serde_json::to_value(entry).unwrap();
        let step = json["step"].as_u64().map_or_else(String::new, |s| format!(" {s}"));
        let name = format!("{}{step}", json["entry"].as_str().unwrap());
        found.push(format!("before-append {name}"));
        found.push(format!("after-append {name}"));
        let (step, end) = match entry {
            Entry::StepStarted { step, .. } => (&view.plan.steps[*step as usize], ""),
            Entry::UndoStarted { step, .. } => (&view.plan.steps[*step as usize], "/undo"),
            _ => continue,
        };
        if let StepKind::ShiftTraffic { .. } = step.kind {
            found.push(format!("after-move {}{end}", step.id));
            found.push(format!("after-publish {}{end}", step.id));
        }
    }
    found
}

fn kills_per_run() -> usize {
    std::env::var("DROVER_E2E_KILLS_PER_RUN").map_or(KILLS_PER_RUN, |n| n.parse().expect("a number of kills"))
}

/// Kills the coordinator at every point of every kind of run in the cycle, and compares each end with the clean one's.
#[allow(clippy::print_stderr, reason = "a test's own output: how much was tried")]
pub fn at_every_point(cycle: &[(&str, Cycle<'_>)]) {
    let clean: Vec<(Vec<String>, Ended)> = cycle
        .iter()
        .map(|(_, c)| {
            let (view, ended) = c.once(&[], None);
            (points(&view), ended)
        })
        .collect();
    for ((name, _), (points, _)) in cycle.iter().zip(&clean) {
        eprintln!("{name}: {} kill points", points.len());
        assert!(points.len() > 20, "{points:?}");
    }
    let rounds = clean.iter().map(|(p, _)| p.len().div_ceil(kills_per_run())).max().unwrap_or(0);
    for round in 0..rounds {
        for ((name, c), (points, expected)) in cycle.iter().zip(&clean) {
            // Spread over the run, so that no step dies more often than any other.
            let these: Vec<String> = points.iter().skip(round).step_by(rounds).cloned().collect();
            let pid = c.w.coordinator().pid;
            let (view, ended) = c.once(&these, Some(expected));
            let told: Vec<&String> = view.timeline.iter().map(|t| &t.sentence).collect();
            assert_eq!(ended, *expected, "{name}, killed at {these:?}: {told:#?}");
            assert!(these.is_empty() || c.w.coordinator().pid != pid, "{name}: nobody died at {these:?}");
        }
    }
}

/// A run that nobody but drover finishes.
pub fn unattended<'w>(w: &'w World, words: &'static [&'static str]) -> Cycle<'w> {
    let operator =
        |_: &World, view: &RunView| panic!("{} needs a person: {}", view.summary.id, view.summary.summary);
    Cycle { w, words, operator, uncertain: None, witness: |_, _| {} }
}

#[test]
fn a_drain_and_its_end_survive_death_at_every_point() {
    let w = world(None);
    let drain = &["drain", "us-east", "--no-expiry", "--reason", "kernel update"];
    let undrain = &["undrain", "us-east"];
    at_every_point(&[("drain", unattended(&w, drain)), ("undrain", unattended(&w, undrain))]);
}

#[test]
fn a_failover_and_its_failback_survive_death_at_every_point() {
    let w = world(None);
    let failover = &["failover", "--all", "--from", "eu-west", "--reason", "rack fire"];
    let failback = &["failback", "--all", "--from", "eu-west", "--reason", "it is back"];
    at_every_point(&[("failover", unattended(&w, failover)), ("failback", unattended(&w, failback))]);
}

/// The shipped drain, and a question once the traffic has moved, to which the answer is no.
const ASKS: &str = "\
kind: Runbook
name: drain-that-asks
purpose: drain
description: A drain that asks whether it may stay.
steps:
  - preflight
  - shift_traffic: {attempts: 5, backoff: 1s, on_failure: roll_back}
  - verify_dns: {attempts: 5, backoff: 1s, on_failure: roll_back}
  - approve: {message: may it stay?, on_failure: roll_back}
  - validate: {on_failure: roll_back}
";

/// A failback with a question at each share, to which the answer is no at the second one.
const ASKS_AT_EACH_SHARE: &str = "\
kind: Runbook
name: failback-that-asks
purpose: failback
description: A failback that asks at each share.
steps:
  - preflight
  - ramp:
      - shift_traffic: {attempts: 5, backoff: 1s, on_failure: roll_back}
      - verify_dns: {attempts: 5, backoff: 1s, on_failure: roll_back}
      - approve: {message: is it enough?, on_failure: roll_back}
      - validate: {on_failure: roll_back}
  - validate: {on_failure: roll_back}
";

/// The shipped runbooks in a directory, with another drain.
pub fn with_drain(directory: &Path, drain: &str) {
    with(directory, "drain.yaml", drain);
}

/// The shipped runbooks in a directory, with one replaced.
fn with(directory: &Path, name: &str, runbook: &str) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runbooks");
    for file in std::fs::read_dir(shipped).unwrap().flatten() {
        std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    std::fs::write(directory.join(name), runbook).unwrap();
}

fn says_no(w: &World, view: &RunView) {
    assert_eq!(view.summary.state, RunState::AwaitingApproval, "{}", view.summary.summary);
    let said = w.drover(&["reject", view.summary.id.as_str(), "--reason", "it may not"]);
    // 3: the answer before this one was written down, though its sender died; 6: it dies just now.
    assert!([0, 3, 6].contains(&said.code), "{said:?}");
}

#[test]
fn a_rollback_survives_death_at_every_point() {
    let directory = tempfile::tempdir().unwrap();
    with_drain(directory.path(), ASKS);
    let w = world(Some(directory.path()));
    let drain = &["drain", "us-east", "--no-expiry", "--reason", "kernel update"];
    at_every_point(&[("rollback of a drain", Cycle { operator: says_no, ..unattended(&w, drain) })]);
}

fn says_no_at_the_second_share(w: &World, view: &RunView) {
    assert_eq!(view.summary.state, RunState::AwaitingApproval, "{}", view.summary.summary);
    let (run, plan) = (view.summary.id.as_str(), view.summary.plan.as_str());
    let first = view.steps.iter().all(|s| s.state != "done" || !s.id.ends_with("-approve"));
    let word = if first { "approve" } else { "reject" };
    let said = w.drover(&[word, run, "--reason", "it is enough", "--yes", "--plan", plan]);
    assert!([0, 3, 6].contains(&said.code), "{said:?}");
}

#[test]
fn a_failback_that_goes_back_to_its_last_good_share_survives_death_at_every_point() {
    let directory = tempfile::tempdir().unwrap();
    with(directory.path(), "failback.yaml", ASKS_AT_EACH_SHARE);
    let w = world(Some(directory.path()));
    let failover = &["failover", "--all", "--from", "eu-west", "--reason", "rack fire"];
    let failback = &["failback", "--all", "--from", "eu-west", "--reason", "it is back"];
    let half = |_: &World, view: &RunView| {
        assert_eq!(view.summary.state, RunState::RolledBack, "{}", view.summary.summary);
        assert!(view.summary.summary.contains("50% of its share"), "{}", view.summary.summary);
    };
    let given_up = Cycle { operator: says_no_at_the_second_share, witness: half, ..unattended(&w, failback) };
    at_every_point(&[("failover", unattended(&w, failover)), ("failback given up", given_up)]);
}
