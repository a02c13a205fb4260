//! The shipped runbooks load and prove recovery; wrong ones are refused with a place.

use super::shipped_runbooks;
use crate::config::decode::{SourceFile, load_runbooks};
use crate::config::lint::lint;
use crate::plan::Repeatability;
use crate::runbook::{OnFailure, Purpose, RunUndo, RunbookStepKind, WaitFor};
use crate::time::Span;

#[test]
fn the_shipped_runbooks_load_and_pass_the_lint() {
    let loaded = load_runbooks(&shipped_runbooks()).unwrap();
    let purposes: Vec<Purpose> = loaded.iter().map(|r| r.runbook.purpose).collect();
    assert_eq!(purposes, [Purpose::Failover, Purpose::Failback, Purpose::Drain, Purpose::Undrain]);
    for one in &loaded {
        assert_eq!(lint(&one.runbook), Vec::new(), "{}", one.runbook.name);
    }
    let failover = &loaded[0].runbook;
    let words: Vec<&str> = failover.steps.iter().map(|s| s.kind.word()).collect();
    assert_eq!(
        words,
        [
            "preflight",
            "notify",
            "verify_app",
            "shift_traffic",
            "verify_dns",
            "wait",
            "validate",
            "notify",
            "drained"
        ]
    );
    assert_eq!(failover.steps[3].attempts, 5);
    assert_eq!(failover.steps[5].kind, RunbookStepKind::Wait(WaitFor::Drain));
}

#[test]
fn a_digest_names_the_content_and_not_its_layout() {
    let original = load_runbooks(&shipped_runbooks()).unwrap();
    let mut files = shipped_runbooks();
    files[0].text = format!("# a comment\n{}", files[0].text);
    assert_eq!(load_runbooks(&files).unwrap()[0].version, original[0].version);
    files[0].text = files[0].text.replace("attempts: 3", "attempts: 4");
    assert_ne!(load_runbooks(&files).unwrap()[0].version, original[0].version);
}

#[test]
fn steps_have_short_forms_and_defaults() {
    let text = "kind: Runbook\nname: d\npurpose: drain\ndescription: x\nsteps:\n  - preflight\n  - shift_traffic:\n  - verify_dns: {}\n  - wait: {for: 90s, on_failure: continue}\n  - validate\n";
    let loaded = load_runbooks(&[SourceFile::new("r.yaml", text)]).unwrap();
    let steps = &loaded[0].runbook.steps;
    assert_eq!(steps[0].on_failure, OnFailure::Abort);
    assert_eq!(steps[1].timeout, Span::from_secs(60));
    assert_eq!(steps[3].kind, RunbookStepKind::Wait(WaitFor::Fixed(Span::from_secs(90))));
    assert_eq!(steps[4].attempts, 1);
}

#[test]
fn a_program_says_how_it_may_be_repeated() {
    let text = SHORT.replace(
        "  - validate\n",
        "  - run: {command: [/opt/warm, '--all'], repeatability: observable, observe: [/opt/warm, '--check'], attempts: 3}\n  \
           - run: {command: [/opt/tell], repeatability: at_most_once, undo: nothing}\n  - validate\n",
    );
    let loaded = load_runbooks(&[SourceFile::new("r.yaml", text)]).unwrap();
    let runbook = &loaded[0].runbook;
    let RunbookStepKind::Run(warm) = &runbook.steps[2].kind else { panic!("{:?}", runbook.steps[2]) };
    assert_eq!(warm.command, ["/opt/warm", "--all"]);
    assert_eq!((warm.repeatability, warm.undo), (Repeatability::Observable, RunUndo::Ask));
    assert_eq!((runbook.steps[2].attempts, runbook.steps[3].attempts), (3, 1));
    let RunbookStepKind::Run(tell) = &runbook.steps[3].kind else { panic!("{:?}", runbook.steps[3]) };
    assert_eq!((tell.repeatability, tell.undo), (Repeatability::AtMostOnce, RunUndo::Nothing));
    assert_eq!(runbook.programs().into_iter().collect::<Vec<_>>(), ["/opt/tell", "/opt/warm"]);
}

/// The shortest runbook that proves anything.
const SHORT: &str = "kind: Runbook\nname: d\npurpose: drain\ndescription: x\nsteps:\n  - shift_traffic\n  - verify_dns\n  - validate\n";

/// What is written instead of what, and the finding.
const WRONG: &[(&str, &str, &str)] = &[
    ("- verify_dns", "- verify_dsn", "r.yaml:7:5: unknown step `verify_dsn` (did you mean `verify_dns`?)"),
    (
        "- verify_dns",
        "- verify_dns: {timeuot: 3s}",
        "r.yaml:7:18: unknown field `timeuot` of verify_dns (did you mean `timeout`?)",
    ),
    (
        "- verify_dns",
        "- verify_dns: {attempts: 21}",
        "r.yaml:7:28: `attempts` must be between 1 and 20, not 21",
    ),
    (
        "- verify_dns",
        "- wait: {for: drian}",
        "r.yaml:7:17: `for` must be one of drain, soak, not `drian` (did you mean `drain`?)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - notify",
        "r.yaml:8:5: missing field `message` of notify (add `message`: what is sent)",
    ),
    (
        "- verify_dns",
        "- {verify_dns: {}, wait: {for: soak}}",
        "r.yaml:7:5: a step is one word with its options, not a mapping (such as `- wait: {for: drain}`)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - ramp: 3",
        "r.yaml:8:11: `ramp` needs a list of 1 to 50 steps (`- ramp: [shift_traffic, …]`)",
    ),
    (
        "  - verify_dns\n",
        "",
        "r.yaml:6:5: `shift_traffic` without `verify_dns` after it: nobody would know what DNS answers (add `verify_dns` before the next shift)",
    ),
    (
        "  - validate\n",
        "",
        "r.yaml:6:5: no `validate` after the last `shift_traffic`: recovered means validated (add `validate` at the end)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [/bin/a]}",
        "r.yaml:8:10: missing field `repeatability` of run (add `repeatability`: what may be done after a crash in the middle of it. `observable`: look by `observe`, and run it only if it is not done. `keyed`: run it again, it honours DROVER_IDEMPOTENCY_KEY. `at_most_once`: neither; a person decides)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [/bin/a], repeatability: idempotent}",
        "r.yaml:8:45: `repeatability` must be one of observable, keyed, at_most_once, not `idempotent` (known: `observable`, `keyed`, `at_most_once`)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [/bin/a], repeatability: observable}",
        "r.yaml:8:5: `run` is observable, but nothing says how to observe it (add `observe`, a program that ends with 0 when it is done)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [/bin/a], repeatability: keyed, observe: [/bin/b]}",
        "r.yaml:8:5: `observe` of a `run` that is keyed would never be asked (make it `repeatability: observable`, or take `observe` out)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [/bin/a], repeatability: at_most_once, attempts: 3}",
        "r.yaml:8:5: `run` is at_most_once and has 3 attempts (leave `attempts` out, or say why it may be repeated)",
    ),
    (
        "- verify_dns",
        "- verify_dns\n  - run: {command: [a.sh], repeatability: at_most_once}",
        "r.yaml:8:5: `run` names `a.sh` without its directory (give the whole path: nothing is searched for when it runs)",
    ),
    (
        "purpose: drain",
        "purpose: dran",
        "r.yaml:3:10: `purpose` must be one of failover, failback, drain, undrain, not `dran` (did you mean `drain`?)",
    ),
    (
        "kind: Runbook",
        "kind: Region",
        "r.yaml:1:7: unknown kind `Region` (it belongs into the configuration directory)",
    ),
];

#[test]
fn wrong_runbooks_are_refused_with_their_places() {
    let mut wrong = Vec::new();
    for (from, to, wanted) in WRONG {
        let text = SHORT.replacen(from, to, 1);
        match load_runbooks(&[SourceFile::new("r.yaml", text)]) {
            Ok(_) => wrong.push(format!("`{to}` was accepted")),
            Err(errors) if errors.len() == 1 && errors[0].to_string() == *wanted => {}
            Err(errors) => wrong.push(format!("`{to}` gave {errors:#?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_runbook_for_each_purpose() {
    let mut files = shipped_runbooks();
    files.push(SourceFile::new("again.yaml", files[2].text.replace("name: drain", "name: drain-again")));
    let errors = load_runbooks(&files).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().contains("`drain` is used twice, first at runbooks/drain.yaml:3"),
        "{}",
        errors[0]
    );
}
