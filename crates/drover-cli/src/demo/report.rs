//! What a scene was to show, and whether it did: the document of `-o json`, and the summary for people.

use super::crowd::{Group, Ledger};
use super::screen::{Screen, clock, seconds};
use crate::output::document::Document;
use crate::output::paint::{Tone, paint};
use drover_model::{Span, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the document.
pub const DEMO_SCHEMA: u16 = 1;

/// The whole demo.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// [`DEMO_SCHEMA`].
    pub schema: u16,
    /// Every duration of the shipped policy was divided by this.
    pub factor: u64,
    /// Every expectation of every scene was met.
    pub met: bool,
    /// How long it took, in seconds.
    pub took_seconds: f64,
    /// Scene by scene.
    pub scenes: Vec<SceneReport>,
}

impl Document for DemoReport {}

/// One scene.
#[derive(Debug, Serialize)]
pub struct SceneReport {
    /// Its number.
    pub number: u8,
    /// Its title.
    pub title: String,
    /// Every expectation was met.
    pub met: bool,
    /// What was expected.
    pub expectations: Vec<Expectation>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// Requests by phase.
    pub phases: Vec<Phase>,
    /// Other figures, by name, with their unit.
    pub figures: BTreeMap<String, String>,
}

/// Something expected.
#[derive(Debug, Serialize)]
pub struct Expectation {
    /// What.
    pub what: String,
    /// Did it come true?
    pub met: bool,
    /// What was found.
    pub found: String,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// What.
    pub event: String,
    /// When.
    pub at: Timestamp,
    /// Milliseconds after the trouble began.
    pub after_milliseconds: i64,
}

/// Requests between two moments.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// What went on.
    pub phase: String,
    /// Milliseconds after the trouble began.
    pub from_milliseconds: i64,
    /// How long it took.
    pub took_milliseconds: u64,
    /// Requests of the clients that follow DNS.
    pub requests: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Requests of the control group.
    pub control_requests: u64,
    /// Of these, failed.
    pub control_failed: u64,
}

impl SceneReport {
    /// Nothing has happened yet.
    pub fn new(number: u8, title: &str) -> Self {
        Self {
            number,
            title: title.to_owned(),
            met: true,
            expectations: Vec::new(),
            timeline: Vec::new(),
            phases: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Something was expected; `found` says what came of it.
    pub fn expect(&mut self, what: impl Into<String>, met: bool, found: impl Into<String>) {
        self.met &= met;
        self.expectations.push(Expectation { what: what.into(), met, found: found.into() });
    }

    /// A figure.
    pub fn figure(&mut self, name: &str, value: impl Into<String>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Counts the requests of a phase.
    pub fn phase(&mut self, name: &str, ledger: &Ledger, zero: Timestamp, from: Timestamp, to: Timestamp) {
        let (followers, controls) =
            (ledger.between(Group::Follower, from, to), ledger.between(Group::Control, from, to));
        self.phases.push(Phase {
            phase: name.to_owned(),
            from_milliseconds: from.as_millis() - zero.as_millis(),
            took_milliseconds: to.since(from).as_millis(),
            requests: followers.total(),
            failed: followers.failed,
            control_requests: controls.total(),
            control_failed: controls.failed,
        });
    }

    /// For people.
    pub fn show(&self, screen: &Screen) {
        if !self.timeline.is_empty() {
            screen.line("");
            screen.say("What happened");
            for moment in &self.timeline {
                screen.event(moment.after_milliseconds, Tone::Strong, &moment.event);
            }
        }
        if !self.phases.is_empty() {
            self.show_phases(screen);
        }
        if !self.figures.is_empty() {
            screen.line("");
            for (name, value) in &self.figures {
                screen.say(&format!("{name}: {value}"));
            }
        }
        screen.line("");
        for e in &self.expectations {
            screen.verdict(e.met, &format!("{} ({})", e.what, e.found));
        }
    }

    fn show_phases(&self, screen: &Screen) {
        screen.line("");
        let heading = format!(
            "  {:<26}{:>8}{:>8}{:>11}{:>8}{:>16}",
            "phase", "from", "took", "requests", "failed", "nobody acting"
        );
        screen.line(&paint(Tone::Quiet, heading));
        for p in &self.phases {
            let took = seconds(Span::from_millis(p.took_milliseconds));
            let failed = format!("{:>8}", p.failed);
            let failed = if p.failed > 0 { paint(Tone::Bad, failed) } else { failed };
            let control = match p.control_requests {
                0 => "-".to_owned(),
                of => format!("{} fail", percent(p.control_failed, of)),
            };
            screen.line(&format!(
                "  {:<26}{:>8}{took:>8}{:>11}{failed}{control:>16}",
                p.phase,
                clock(p.from_milliseconds),
                p.requests,
            ));
        }
    }
}

/// `part` of `whole` in whole percent; a dash of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or_else(|| "-".to_owned(), |p| format!("{p}%"))
}
