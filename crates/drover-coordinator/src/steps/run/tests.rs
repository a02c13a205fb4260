//! Real programs, each a script of a few lines that writes down what it did.

use super::*;
use drover_exec::{Approved, Origin};
use drover_model::journal::Trigger;
use drover_model::plan::{Intent, Plan, Reversal, Step, StepKind};
use drover_model::runbook::{OnFailure, Purpose};
use drover_model::traffic::Actor;
use drover_model::{Epoch, PlanId, RegionId, RunId, ServiceId, Span, Timestamp};
use std::path::Path;

/// Hang guard.
const GUARD: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A script in this directory, as the planner names it. Another process writes it: a file that is open for writing
    /// here would be so in what other tests start at that moment, too, and can't be executed as long as it is.
    fn script(&self, name: &str, lines: &str) -> Program {
        let (path, text) = (self.path(name), self.path("text"));
        std::fs::write(&text, format!("#!/bin/sh\ncd {}\n{lines}\n", self.dir.path().display())).unwrap();
        let copied =
            std::process::Command::new("install").arg("-m755").args([&text, &path]).status().unwrap();
        assert!(copied.success());
        let digest = programs::digest(Path::new(&path)).unwrap();
        Program { path: path.display().to_string(), arguments: vec!["one".into(), "$two".into()], digest }
    }
}

fn order(command: &Program, repeatability: Repeatability) -> Order {
    let kind = StepKind::Run { command: command.clone(), repeatability, observe: None };
    let (timeout, backoff) = (Span::from_secs(30), Span::ZERO);
    let (on_failure, reversal) = (OnFailure::Pause, Reversal::AskOperator);
    let step = Step { id: "3-run".into(), kind, timeout, attempts: 1, backoff, on_failure, reversal };
    let intent = Intent {
        purpose: Purpose::Drain,
        services: vec![],
        region: RegionId::new("eu-west").unwrap(),
        to: None,
        automatic: false,
        hold_for: None,
        reason: String::new(),
        accept: vec![],
    };
    let plan = Plan {
        schema: 1,
        id: PlanId::from_text("plan-1"),
        intent,
        services: vec![ServiceId::new("checkout").unwrap(), ServiceId::new("catalog").unwrap()],
        runbook: "drain".into(),
        base: Default::default(),
        steps: vec![step],
    };
    let run = RunId::numbered(7);
    let by = Actor::Person { name: "mara".into(), host: "laptop".into() };
    let rto = Span::from_mins(5);
    Order {
        run: run.clone(),
        epoch: Epoch { incarnation: 1, counter: 1 },
        plan: Approved::by_command(plan, &PlanId::from_text("plan-1")).unwrap(),
        origin: Arc::new(Origin { run, by, trigger: Trigger::Command, ask: None, rto }),
        index: 0,
        attempt: 2,
        key: "run-7/3-run".into(),
        deadline: Timestamp::from_millis(0),
        keeps: false,
        declared_at: None,
        began_at: Timestamp::from_millis(0),
    }
}

async fn run(
    command: &Program,
    repeatability: Repeatability,
    observe: Option<&Program>,
) -> Result<StepOutcome, StepFailure> {
    let order = order(command, repeatability);
    tokio::time::timeout(GUARD, act(&[], &order, command, repeatability, observe)).await.unwrap()
}

#[tokio::test]
async fn a_program_knows_its_run_and_nothing_of_ours() {
    let bench = Bench::new();
    let script = bench.script("a", "env | sort >env\necho \"$@\" >words\necho warm >&2\necho");
    let outcome = run(&script, Repeatability::Keyed, None).await.unwrap();
    assert_eq!((outcome.changed, outcome.summary.as_str()), (true, "warm"));
    assert_eq!(bench.read("words"), "one $two\n", "no shell looked at the arguments");
    let environment = bench.read("env");
    let own: Vec<&str> =
        environment.lines().filter(|l| !l.starts_with("PWD=") && !l.starts_with("_=")).collect();
    let path = format!("PATH={SEARCH_PATH}");
    let expected = [
        "DROVER_ATTEMPT=2",
        "DROVER_IDEMPOTENCY_KEY=run-7/3-run",
        "DROVER_PURPOSE=drain",
        "DROVER_REGION=eu-west",
        "DROVER_RUN=run-7",
        "DROVER_SERVICES=checkout,catalog",
        "DROVER_STEP=3-run",
        path.as_str(),
    ];
    let own: Vec<&str> =
        own.into_iter().filter(|l| !l.starts_with("OLDPWD=") && !l.starts_with("SHLVL=")).collect();
    assert_eq!(own, expected);
}

#[tokio::test]
async fn how_a_program_fails_says_what_may_follow() {
    let bench = Bench::new();
    let no = bench.script("no", "echo too early >&2\nexit 3");
    let killed = bench.script("killed", "kill -9 $$");
    let failed = async |program, repeatability| run(program, repeatability, None).await.unwrap_err();
    let failure = failed(&no, Repeatability::Keyed).await;
    assert_eq!(failure.kind, FailureNature::Retryable);
    assert_eq!(failure.message, "ended with exit status: 3: too early");
    assert_eq!(failed(&killed, Repeatability::Keyed).await.kind, FailureNature::Retryable);
    assert_eq!(failed(&no, Repeatability::AtMostOnce).await.kind, FailureNature::Permanent);
    assert_eq!(failed(&killed, Repeatability::AtMostOnce).await.kind, FailureNature::Uncertain);
}

#[tokio::test]
async fn what_can_be_observed_is_done_only_when_it_is_missing() {
    let bench = Bench::new();
    let does = bench.script("does", "echo did >>ledger\ntouch there");
    let is_there = bench.script("is-there", "[ -e there ]");
    let outcome = run(&does, Repeatability::Observable, Some(&is_there)).await.unwrap();
    assert!(outcome.changed);
    let again = run(&does, Repeatability::Observable, Some(&is_there)).await.unwrap();
    assert_eq!((again.changed, again.summary.as_str()), (false, "it was done already"));
    assert_eq!(bench.read("ledger"), "did\n");

    let forgets = bench.script("forgets", "echo forgot >>ledger");
    std::fs::remove_file(bench.path("there")).unwrap();
    let failure = run(&forgets, Repeatability::Observable, Some(&is_there)).await.unwrap_err();
    assert_eq!(failure.kind, FailureNature::Retryable);
    assert!(failure.message.ends_with("ended well, yet it is not done"), "{}", failure.message);

    let blind = bench.script("blind", "exit 2");
    let failure = run(&does, Repeatability::Observable, Some(&blind)).await.unwrap_err();
    assert!(failure.message.starts_with("can't tell whether it is done"), "{}", failure.message);
    assert_eq!(bench.read("ledger"), "did\nforgot\n", "done without being able to look");
}

#[tokio::test]
async fn only_what_was_approved_runs() {
    let bench = Bench::new();
    let approved = bench.script("a", "echo good >ledger");
    bench.script("a", "echo evil >ledger");
    let failure = run(&approved, Repeatability::Keyed, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureNature::Permanent);
    assert!(failure.message.contains("is not what it was when this plan was made"), "{}", failure.message);
    assert_eq!(bench.read("ledger"), "");
}

#[tokio::test]
async fn a_cancelled_attempt_leaves_nothing_running() {
    let bench = Bench::new();
    let hangs = bench.script("hangs", "sleep 3600 & echo $! >child.new\nmv child.new child\nwait");
    let order = order(&hangs, Repeatability::Keyed);
    let (child, started) = (bench.path("child"), bench.path("child"));
    let waits = async move {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = act(&[], &order, &hangs, Repeatability::Keyed, None) => panic!("it ended: {ended:?}"),
        () = waits => {}
        () = tokio::time::sleep(GUARD) => panic!("it did not start"),
    }
    let pid: i32 = std::fs::read_to_string(child).unwrap().trim().parse().unwrap();
    let began = std::time::Instant::now();
    // A process that was killed may stay as a zombie until somebody waits for it; it does nothing more.
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    };
    while lives() {
        assert!(began.elapsed() < GUARD, "the grandchild {pid} goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_program_that_leaves_somebody_behind_is_not_waited_for() {
    let bench = Bench::new();
    // The sleep holds the pipes open; its number is written down so that this test can end it.
    let script = bench.script("a", "sleep 3600 & echo $! >child\necho done");
    let outcome = run(&script, Repeatability::Keyed, None).await.unwrap();
    assert_eq!(outcome.summary, "done");
    let pid: i32 = bench.read("child").trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
