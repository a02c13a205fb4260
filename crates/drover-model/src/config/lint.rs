//! What a runbook must not be, whoever wrote it.
//!
//! A runbook chooses the order of steps; these rules keep that freedom from losing the proof of recovery: weights that
//! were published are compared with what DNS answers, and the last word belongs to a validation (I10).

use super::shapes::runbook::ATTEMPTS_MAX;
use crate::plan::Repeatability;
use crate::runbook::{OnFailure, Purpose, RunStep, Runbook, RunbookStep, RunbookStepKind};
use crate::time::Span;
use std::fmt;

/// One finding about a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintFinding {
    /// Positions that lead to the step, from 0; more than one inside of a ramp. Empty for the whole runbook.
    pub step: Vec<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub suggestion: String,
}

impl fmt::Display for LintFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.step.is_empty() {
            let positions: Vec<String> = self.step.iter().map(|p| (p + 1).to_string()).collect();
            write!(f, "step {}: ", positions.join("."))?;
        }
        write!(f, "{} ({})", self.message, self.suggestion)
    }
}

/// A step in the order in which steps run, with its positions.
type Placed<'r> = (Vec<usize>, &'r RunbookStep);

/// Every finding about `runbook`, in the order of its steps.
#[must_use]
pub fn lint(runbook: &Runbook) -> Vec<LintFinding> {
    let mut steps = Vec::new();
    flatten(&runbook.steps, &[], &mut steps);
    let mut findings = Vec::new();
    for (at, step) in &steps {
        bounds(at, step, &mut findings);
        if let RunbookStepKind::Run(run) = &step.kind {
            repeats(at, step, run, &mut findings);
        }
    }
    ramps(runbook, &steps, &mut findings);
    drained(runbook, &steps, &mut findings);
    shifts(&steps, &mut findings);
    findings.sort_by(|a, b| a.step.cmp(&b.step));
    findings
}

fn flatten<'r>(steps: &'r [RunbookStep], prefix: &[usize], into: &mut Vec<Placed<'r>>) {
    for (i, step) in steps.iter().enumerate() {
        let mut at = prefix.to_vec();
        at.push(i);
        into.push((at.clone(), step));
        if let RunbookStepKind::Ramp(inner) = &step.kind {
            flatten(inner, &at, into);
        }
    }
}

fn finding(at: &[usize], message: impl Into<String>, suggestion: impl Into<String>) -> LintFinding {
    LintFinding { step: at.to_vec(), message: message.into(), suggestion: suggestion.into() }
}

fn bounds(at: &[usize], step: &RunbookStep, findings: &mut Vec<LintFinding>) {
    let word = step.kind.word();
    if step.attempts == 0 || u64::from(step.attempts) > ATTEMPTS_MAX {
        let message = format!("`{word}` has {} attempts", step.attempts);
        findings.push(finding(at, message, format!("1 to {ATTEMPTS_MAX}")));
    }
    if step.timeout == Span::ZERO {
        findings.push(finding(at, format!("`{word}` has no time to succeed in"), "give it a `timeout`"));
    }
}

/// A program says what a crash in the middle of it means, and is held to it (I1).
fn repeats(at: &[usize], step: &RunbookStep, run: &RunStep, findings: &mut Vec<LintFinding>) {
    let lines = [Some(&run.command), run.observe.as_ref()];
    for program in lines.into_iter().flatten().filter_map(|l| l.first()).filter(|p| !p.starts_with('/')) {
        let shown: String = program.chars().take(60).collect();
        let message = format!("`run` names `{shown}` without its directory");
        findings.push(finding(at, message, "give the whole path: nothing is searched for when it runs"));
    }
    let word = run.repeatability.word();
    match (run.repeatability, &run.observe) {
        (Repeatability::Observable, None) => {
            let message = "`run` is observable, but nothing says how to observe it";
            findings.push(finding(at, message, "add `observe`, a program that ends with 0 when it is done"));
        }
        (Repeatability::Keyed | Repeatability::AtMostOnce, Some(_)) => {
            let message = format!("`observe` of a `run` that is {word} would never be asked");
            findings.push(finding(at, message, "make it `repeatability: observable`, or take `observe` out"));
        }
        (Repeatability::Observable, Some(_)) | (Repeatability::Keyed | Repeatability::AtMostOnce, None) => {}
    }
    if run.repeatability == Repeatability::AtMostOnce && step.attempts > 1 {
        let message = format!("`run` is {word} and has {} attempts", step.attempts);
        findings.push(finding(at, message, "leave `attempts` out, or say why it may be repeated"));
    }
}

fn ramps(runbook: &Runbook, steps: &[Placed<'_>], findings: &mut Vec<LintFinding>) {
    let returns = matches!(runbook.purpose, Purpose::Failback | Purpose::Undrain);
    for (at, step) in steps {
        let RunbookStepKind::Ramp(inner) = &step.kind else { continue };
        if !returns {
            let message = format!("`ramp` in a runbook for {}", runbook.purpose);
            findings.push(finding(at, message, "only failback and undrain bring a region back by shares"));
        }
        if at.len() > 1 {
            findings.push(finding(at, "`ramp` inside of a `ramp`", "one ramp goes through all shares"));
        }
        if !inner.iter().any(|s| s.kind == RunbookStepKind::ShiftTraffic) {
            findings.push(finding(at, "`ramp` moves nothing", "put `shift_traffic` in it"));
        }
    }
}

/// What is left behind must not hold up what was gained, nor stop a failover.
fn drained(runbook: &Runbook, steps: &[Placed<'_>], findings: &mut Vec<LintFinding>) {
    let leaves = matches!(runbook.purpose, Purpose::Failover | Purpose::Drain);
    let last_proof = steps.iter().rposition(|(_, s)| s.kind == RunbookStepKind::Validate);
    for (index, (at, step)) in steps.iter().enumerate() {
        if step.kind != RunbookStepKind::Drained {
            continue;
        }
        if !leaves {
            let message = format!("`drained` in a runbook for {}", runbook.purpose);
            findings.push(finding(at, message, "only failover and drain leave a region"));
        }
        if last_proof.is_none() {
            let message = "`drained` without `validate`: what was gained is proven by nothing";
            findings.push(finding(at, message, "put `validate` before it: the objective counts to that"));
        }
        if last_proof.is_some_and(|proof| index < proof) {
            let message = "`drained` before `validate`: recovery would wait for other people's caches";
            findings.push(finding(at, message, "move it behind the last `validate`"));
        }
        if step.on_failure != OnFailure::Continue {
            let message = "`drained` may stop the run: traffic that stays is no reason to go back or to hold";
            findings.push(finding(at, message, "leave `on_failure` out, or say `continue`"));
        }
    }
}

fn shifts(steps: &[Placed<'_>], findings: &mut Vec<LintFinding>) {
    let at_of = |wanted: fn(&RunbookStepKind) -> bool| {
        steps
            .iter()
            .enumerate()
            .filter(move |(_, (_, s))| wanted(&s.kind))
            .map(|(i, _)| i)
            .collect::<Vec<_>>()
    };
    let shifts = at_of(|k| *k == RunbookStepKind::ShiftTraffic);
    let verified = at_of(|k| *k == RunbookStepKind::VerifyDns);
    let validated = at_of(|k| *k == RunbookStepKind::Validate);
    let Some(last) = shifts.last().copied() else {
        findings.push(finding(&[], "nothing moves traffic", "add `shift_traffic`"));
        return;
    };
    for (n, shift) in shifts.iter().enumerate() {
        let next = shifts.get(n + 1).copied().unwrap_or(steps.len());
        if !verified.iter().any(|v| v > shift && *v < next) {
            let message = "`shift_traffic` without `verify_dns` after it: nobody would know what DNS answers";
            findings.push(finding(&steps[*shift].0, message, "add `verify_dns` before the next shift"));
        }
    }
    if !validated.iter().any(|v| *v > last) {
        let message = "no `validate` after the last `shift_traffic`: recovered means validated";
        findings.push(finding(&steps[last].0, message, "add `validate` at the end"));
    }
    if shifts.first().is_some_and(|first| validated.iter().all(|v| v < first)) && !validated.is_empty() {
        let message = "`validate` stands before all traffic was moved";
        findings.push(finding(&steps[validated[0]].0, message, "move it behind `shift_traffic`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::{OnFailure, WaitFor};

    fn step(kind: RunbookStepKind) -> RunbookStep {
        let (timeout, backoff) = (Span::from_secs(1), Span::ZERO);
        RunbookStep { kind, timeout, attempts: 1, backoff, on_failure: OnFailure::Pause }
    }

    fn runbook(purpose: Purpose, kinds: Vec<RunbookStepKind>) -> Runbook {
        let steps = kinds.into_iter().map(step).collect();
        Runbook { name: "r".into(), purpose, description: "d".into(), steps }
    }

    fn found(purpose: Purpose, kinds: Vec<RunbookStepKind>) -> String {
        lint(&runbook(purpose, kinds)).iter().map(|f| format!("{f}\n")).collect()
    }

    #[test]
    fn a_runbook_that_proves_recovery_passes() {
        use RunbookStepKind::{ShiftTraffic, Validate, VerifyDns, Wait};
        assert_eq!(found(Purpose::Drain, vec![ShiftTraffic, VerifyDns, Wait(WaitFor::Drain), Validate]), "");
        let inner = [ShiftTraffic, VerifyDns, Validate].into_iter().map(step).collect();
        assert_eq!(found(Purpose::Failback, vec![RunbookStepKind::Ramp(inner)]), "");
    }

    #[test]
    fn each_rule_has_its_finding() {
        use RunbookStepKind::{Ramp, ShiftTraffic, Validate, VerifyDns};
        let cases = [
            (Purpose::Drain, vec![Validate], "nothing moves traffic"),
            (Purpose::Drain, vec![ShiftTraffic, Validate], "step 1: `shift_traffic` without `verify_dns`"),
            (
                Purpose::Drain,
                vec![ShiftTraffic, ShiftTraffic, VerifyDns, Validate],
                "step 1: `shift_traffic` without",
            ),
            (Purpose::Drain, vec![ShiftTraffic, VerifyDns], "step 1: no `validate` after"),
            (Purpose::Drain, vec![Validate, ShiftTraffic, VerifyDns], "step 1: `validate` stands before"),
            (
                Purpose::Failover,
                vec![Ramp(vec![step(ShiftTraffic)])],
                "step 1: `ramp` in a runbook for failover",
            ),
            (Purpose::Failback, vec![Ramp(vec![step(VerifyDns)])], "step 1: `ramp` moves nothing"),
            (Purpose::Failback, vec![Ramp(vec![step(Ramp(vec![]))])], "step 1.1: `ramp` inside of a `ramp`"),
        ];
        for (purpose, kinds, wanted) in cases {
            let text = found(purpose, kinds);
            assert!(text.contains(wanted), "wanted {wanted:?} in:\n{text}");
        }
    }

    #[test]
    fn what_is_left_behind_stands_last_and_stops_nothing() {
        use RunbookStepKind::{Drained, ShiftTraffic, Validate, VerifyDns};
        let cases = [
            (
                Purpose::Drain,
                vec![ShiftTraffic, VerifyDns, Drained, Validate],
                "step 3: `drained` before `validate`",
            ),
            (Purpose::Drain, vec![ShiftTraffic, VerifyDns, Drained], "step 3: `drained` without `validate`"),
            (
                Purpose::Undrain,
                vec![ShiftTraffic, VerifyDns, Validate, Drained],
                "step 4: `drained` in a runbook for undrain",
            ),
            (
                Purpose::Drain,
                vec![ShiftTraffic, VerifyDns, Validate, Drained],
                "step 4: `drained` may stop the run",
            ),
        ];
        for (purpose, kinds, wanted) in cases {
            let text = found(purpose, kinds);
            assert!(text.contains(wanted), "wanted {wanted:?} in:\n{text}");
        }
        let mut good = runbook(Purpose::Drain, vec![ShiftTraffic, VerifyDns, Validate, Drained]);
        good.steps[3].on_failure = OnFailure::Continue;
        assert_eq!(lint(&good), []);
    }

    #[test]
    fn a_step_needs_time_and_a_bounded_number_of_attempts() {
        use RunbookStepKind::{ShiftTraffic, Validate, VerifyDns};
        let mut bad = runbook(Purpose::Drain, vec![ShiftTraffic, VerifyDns, Validate]);
        bad.steps[0].attempts = 0;
        bad.steps[1].attempts = 21;
        bad.steps[2].timeout = Span::ZERO;
        let text: Vec<String> = lint(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(
            text[0].contains("0 attempts") && text[1].contains("21 attempts") && text[2].contains("no time")
        );
    }
}
