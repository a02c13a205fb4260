//! What a scene was to show, and whether it did: the document of `-o json`, and the summary for people.

use super::crowd::{Group, Ledger};
use super::screen::{Screen, clock, seconds};
use crate::output::document::Document;
use crate::output::paint::{Tone, paint};
use drover_model::{Percent, Span, Timestamp};
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
    /// A ramp, stage by stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ramp: Vec<RampStage>,
    /// Other figures, by name, with their unit.
    pub figures: BTreeMap<String, String>,
}

/// What one stage of a ramp asked a region to carry, and what it carried.
#[derive(Debug, Serialize)]
pub struct RampStage {
    /// The step that published it.
    pub step: String,
    /// Of what the configuration gives the region.
    pub of_its_share: Percent,
    /// Published weight.
    pub weight: u8,
    /// What that is of all requests.
    pub wanted: Percent,
    /// What the clients sent there, once their caches had followed.
    pub sent: Percent,
    /// Requests behind that.
    pub requests: u64,
    /// What drover measured there while it judged the stage, of all requests of all services.
    pub measured: Option<Percent>,
    /// The region's own requests by which drover judged it, a service.
    pub own_samples: Vec<u64>,
    /// Requests that failed anywhere.
    pub failed: u64,
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
            ramp: Vec::new(),
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
        if !self.ramp.is_empty() {
            self.show_ramp(screen);
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

    fn show_ramp(&self, screen: &Screen) {
        screen.line("");
        let heading = format!(
            "  {:>6}{:>8}{:>9} {:BAR$}{:>10} {:BAR$}{:>9}{:>11}",
            "share", "weight", "wanted", "", "measured", "", "sent", "samples"
        );
        screen.line(&paint(Tone::Quiet, heading));
        let shares = self.ramp.iter().flat_map(|s| [Some(s.wanted), s.measured]).flatten();
        let most = shares.max().unwrap_or(Percent::FULL);
        for s in &self.ramp {
            let measured = s.measured.unwrap_or(Percent::ZERO);
            let number = s.measured.map_or_else(|| "nothing".to_owned(), |m| m.to_string());
            let own: Vec<String> = s.own_samples.iter().map(ToString::to_string).collect();
            screen.line(&format!(
                "  {:>6}{:>8}{:>9} {}{} {}{:>9}{:>11}",
                s.of_its_share,
                s.weight,
                s.wanted,
                paint(Tone::Quiet, bar(s.wanted, most)),
                paint(Tone::Strong, format!("{number:>10}")),
                paint(Tone::Good, bar(measured, most)),
                s.sent,
                own.join(" ")
            ));
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

/// Columns of a bar that stands for the most.
const BAR: usize = 10;

/// As long as `part` is of `most`, in eighths of a column, so that the least share still shows.
fn bar(part: Percent, most: Percent) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let whole = u64::from(most.basis_points()).max(1);
    let eighths = (u64::from(part.basis_points()) * BAR as u64 * 8).div_ceil(whole).min(BAR as u64 * 8);
    let (full, rest) = (eighths / 8, eighths % 8);
    let drawn = "█".repeat(usize::try_from(full).unwrap_or(BAR));
    let rest = usize::try_from(rest).ok().and_then(|n| EIGHTHS.get(n)).unwrap_or(&"");
    format!("{:<BAR$}", format!("{drawn}{rest}"))
}

/// `part` of `whole` in whole percent; a dash of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or_else(|| "-".to_owned(), |p| format!("{p}%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_and_the_least_still_shows() {
        let drawn = |part| bar(Percent::whole(part), Percent::whole(40));
        assert_eq!(drawn(40), "██████████");
        assert_eq!(drawn(10), "██▌       ");
        assert_eq!(drawn(1), "▎         ");
        assert_eq!(drawn(0), "          ");
        assert_eq!(bar(Percent::whole(50), Percent::ZERO), "██████████", "never longer than its place");
    }
}
