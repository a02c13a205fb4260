//! `kind: Runbook`.

use super::cursor::{Fields, Got};
use super::settings::unique;
use super::sink::{Place, Sink};
use super::tree::{Node, Value};
use super::values::Scalar;
use crate::config::diagnostic::suggest;
use crate::config::lint::lint;
use crate::config::shapes::runbook::{RUNBOOK, STEP, STEPS_MAX};
use crate::config::shapes::{Kind, Shape};
use crate::config::{defaults, version_of};
use crate::plan::{LoadedRunbook, Repeatability};
use crate::runbook::{OnFailure, Purpose, RunStep, RunUndo, Runbook, RunbookStep, RunbookStepKind, WaitFor};
use std::collections::BTreeMap;

/// Nesting of step lists: a ramp in a runbook, and one level more so that the lint can say what is wrong with it.
const STEP_DEPTH_MAX: usize = 3;

/// Every runbook of the files, each with the digest of what it says.
pub(super) fn read_all(sink: &Sink<'_>) -> Vec<LoadedRunbook> {
    let (documents, _) = super::documents(sink);
    let (mut names, mut purposes) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for (path, node) in &documents {
        if super::kind_of(sink, node, &["Runbook"]).is_none() {
            continue;
        }
        let Some(fields) = Fields::open(sink, node, &RUNBOOK, path.clone()) else { continue };
        let Some(runbook) = read(&fields) else { continue };
        unique(&fields, "name", Some(&runbook.name), &mut names);
        unique(&fields, "purpose", Some(&runbook.purpose.to_string()), &mut purposes);
        let version = version_of(&runbook);
        found.push(LoadedRunbook { runbook, version, programs: BTreeMap::new() });
    }
    found
}

fn read(fields: &Fields<'_, '_, '_>) -> Option<Runbook> {
    fields.text("kind");
    let name = fields.text("name").value();
    let purpose = fields.text("purpose").value().and_then(|p| match p.as_str() {
        "failover" => Some(Purpose::Failover),
        "failback" => Some(Purpose::Failback),
        "drain" => Some(Purpose::Drain),
        "undrain" => Some(Purpose::Undrain),
        _ => None,
    });
    let description = fields.text("description").value();
    let items = fields.list("steps").value();
    let steps = items.and_then(|items| steps(fields.sink, items, 1));
    let runbook = Runbook { name: name?, purpose: purpose?, description: description?, steps: steps? };
    for finding in lint(&runbook) {
        let positions: String = finding.step.iter().map(|i| format!("/steps/{i}")).collect();
        let place = fields.sink.place(&format!("{}{positions}", fields.path));
        fields.sink.error(place, finding.message, Some(finding.suggestion));
    }
    Some(runbook)
}

fn steps(sink: &Sink<'_>, items: Vec<(String, &Node)>, depth: usize) -> Option<Vec<RunbookStep>> {
    let read: Vec<Option<RunbookStep>> =
        items.into_iter().map(|(path, node)| step(sink, node, &path, depth)).collect();
    read.into_iter().collect()
}

/// A step is a mapping with one key, or the word alone.
fn step(sink: &Sink<'_>, node: &Node, path: &str, depth: usize) -> Option<RunbookStep> {
    sink.remember(path, node.place);
    let Kind::Keyed(known) = &STEP else { return None };
    let words = || known.iter().map(|(word, _)| *word);
    let (word, place, body): (&str, Place, Option<&Node>) = match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => (text, node.place, None),
        Value::Map(entries) if entries.len() == 1 => {
            let (key, body) = &entries[0];
            (&key.text, key.place, (!body.is_null()).then_some(body))
        }
        _ => {
            let message = format!("a step is one word with its options, not {}", node.describe());
            sink.error(node.place, message, Some("such as `- wait: {for: drain}`".to_owned()));
            return None;
        }
    };
    let Some((_, kind)) = known.iter().find(|(w, _)| *w == word) else {
        let shown: String = word.chars().take(40).collect();
        sink.error(place, format!("unknown step `{shown}`"), suggest(word, words()));
        return None;
    };
    match kind {
        Kind::Object(shape) => {
            let fields = open(sink, place, body, shape, path)?;
            options(&fields)
        }
        _ => ramp(sink, place, body, path, depth),
    }
}

/// Opens a step's options; a word alone is a step whose options all have defaults.
fn open<'n, 's, 't>(
    sink: &'s Sink<'t>,
    place: Place,
    body: Option<&'n Node>,
    shape: &'static Shape,
    path: &str,
) -> Option<Fields<'n, 's, 't>> {
    static EMPTY: Value = Value::Map(Vec::new());
    match body {
        Some(node) => {
            let fields = Fields::open(sink, node, shape, path.to_owned());
            sink.remember(path, place);
            fields
        }
        None => Fields::open_value(sink, place, &EMPTY, shape, path.to_owned()),
    }
}

fn options(fields: &Fields<'_, '_, '_>) -> Option<RunbookStep> {
    let kind = match fields.shape.name {
        "preflight" => Some(RunbookStepKind::Preflight),
        "verify_app" => Some(RunbookStepKind::VerifyApp),
        "shift_traffic" => Some(RunbookStepKind::ShiftTraffic),
        "verify_dns" => Some(RunbookStepKind::VerifyDns),
        "validate" => Some(RunbookStepKind::Validate),
        "drained" => Some(RunbookStepKind::Drained),
        "approve" => fields.text("message").value().map(RunbookStepKind::Approve),
        "notify" => fields.text("message").value().map(RunbookStepKind::Notify),
        "wait" => wait_for(fields).map(RunbookStepKind::Wait),
        "run" => run(fields).map(RunbookStepKind::Run),
        _ => None,
    };
    let timeout = fields.span("timeout").value();
    let attempts = fields.integer("attempts").value();
    let backoff = fields.span("backoff").value();
    let on_failure = fields.text("on_failure").value().map(|w| match w.as_str() {
        "abort" => OnFailure::Abort,
        "roll_back" => OnFailure::RollBack,
        "continue" => OnFailure::Continue,
        _ => OnFailure::Pause,
    });
    Some(RunbookStep {
        kind: kind?,
        timeout: timeout?,
        attempts: attempts?,
        backoff: backoff?,
        on_failure: on_failure?,
    })
}

fn wait_for(fields: &Fields<'_, '_, '_>) -> Option<WaitFor> {
    match fields.word_or_span("for") {
        Got::Value(Ok(word)) if word == "drain" => Some(WaitFor::Drain),
        Got::Value(Ok(_)) => Some(WaitFor::Soak),
        Got::Value(Err(span)) => Some(WaitFor::Fixed(span)),
        Got::Absent | Got::Bad => None,
    }
}

fn run(fields: &Fields<'_, '_, '_>) -> Option<RunStep> {
    let word = |v: Scalar| if let Scalar::Text(word) = v { Some(word) } else { None };
    let command = fields.scalars("command", word).value();
    let observe = fields.scalars("observe", word).optional();
    let repeatability = fields.text("repeatability").value().and_then(|w| Repeatability::of_word(&w));
    let undo = fields.text("undo").value().map(|w| match w.as_str() {
        "nothing" => RunUndo::Nothing,
        _ => RunUndo::Ask,
    });
    Some(RunStep { command: command?, repeatability: repeatability?, observe: observe?, undo: undo? })
}

/// A ramp has no options of its own: its inner steps have theirs.
fn ramp(sink: &Sink<'_>, place: Place, body: Option<&Node>, path: &str, depth: usize) -> Option<RunbookStep> {
    let items = match body.map(|n| &n.value) {
        Some(Value::List(items)) if (1..=STEPS_MAX).contains(&items.len()) => items,
        _ => {
            let message = format!("`ramp` needs a list of 1 to {STEPS_MAX} steps");
            sink.error(
                body.map_or(place, |n| n.place),
                message,
                Some("`- ramp: [shift_traffic, …]`".to_owned()),
            );
            return None;
        }
    };
    if depth >= STEP_DEPTH_MAX {
        sink.error(place, "`ramp` inside of a `ramp`", Some("one ramp goes through all shares".to_owned()));
        return None;
    }
    let items = items.iter().enumerate().map(|(i, n)| (format!("{path}/steps/{i}"), n)).collect();
    let inner = steps(sink, items, depth + 1)?;
    Some(RunbookStep {
        kind: RunbookStepKind::Ramp(inner),
        timeout: defaults::STEP_TIMEOUT,
        attempts: 1,
        backoff: defaults::STEP_BACKOFF,
        on_failure: OnFailure::Pause,
    })
}
