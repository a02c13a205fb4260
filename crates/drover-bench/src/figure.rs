//! What a figure says: numbers with their bars, the peers beside them, and what must be right at any size.

use serde::Serialize;

/// Version of the JSON form.
pub const FIGURE_SCHEMA: u16 = 1;

/// What a number must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// No more than that.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Bar::AtMost(bar) => value <= bar,
            Bar::AtLeast(bar) => value >= bar,
        }
    }
}

/// One number.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    /// Of what.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of which unit.
    pub unit: &'static str,
    /// What it must keep to; nothing for a peer or for what is only told.
    pub bar: Option<Bar>,
    /// How the bar is made, when it is made from a peer.
    pub bar_from: Option<String>,
    /// Is the bar kept? Says nothing at a size below 100 %, where bars are not judged.
    pub holds: Option<bool>,
}

/// Something that must be right at any size.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// Is it?
    pub holds: bool,
    /// The evidence.
    pub found: String,
}

/// One figure with all that belongs to it.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// [`FIGURE_SCHEMA`].
    pub schema: u16,
    /// Its name on the command line.
    pub figure: &'static str,
    /// Size in percent of the stated one.
    pub scale_percent: u32,
    /// Are the bars judged? Only at full size.
    pub judged: bool,
    /// The numbers.
    pub measures: Vec<Measure>,
    /// What must be right.
    pub checks: Vec<Check>,
    /// Every check and every judged bar holds.
    pub holds: bool,
}

impl Figure {
    /// Nothing is measured yet.
    pub fn new(figure: &'static str, scale: Scale) -> Self {
        Self {
            schema: FIGURE_SCHEMA,
            figure,
            scale_percent: scale.percent(),
            judged: scale.is_full(),
            measures: Vec::new(),
            checks: Vec::new(),
            holds: true,
        }
    }

    /// A number with its bar.
    pub fn bar(&mut self, what: impl Into<String>, value: f64, unit: &'static str, bar: Bar) {
        self.add(what.into(), value, unit, bar, None);
    }

    /// A number whose bar is made from a peer of the same run.
    pub fn bar_from(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Bar,
        from: impl Into<String>,
    ) {
        self.add(what.into(), value, unit, bar, Some(from.into()));
    }

    fn add(&mut self, what: String, value: f64, unit: &'static str, bar: Bar, bar_from: Option<String>) {
        let holds = self.judged.then(|| bar.holds(value));
        self.holds &= holds != Some(false);
        self.measures.push(Measure { what, value, unit, bar: Some(bar), bar_from, holds });
    }

    /// A peer, or something that is only told.
    pub fn told(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        let what = what.into();
        self.measures.push(Measure { what, value, unit, bar: None, bar_from: None, holds: None });
    }

    /// Something that must be right.
    pub fn check(&mut self, what: impl Into<String>, holds: bool, found: impl Into<String>) {
        self.holds &= holds;
        self.checks.push(Check { what: what.into(), holds, found: found.into() });
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}{}\n", self.figure, self.size());
        for m in &self.measures {
            let bar = match m.bar {
                None => String::new(),
                Some(bar) => format!("  {}", bar_text(bar, m)),
            };
            let value = number(m.value);
            text.push_str(&format!("  {} {:<58} {value:>10} {}{bar}\n", mark(m.holds), m.what, m.unit));
        }
        for c in &self.checks {
            text.push_str(&format!("  {} {} ({})\n", mark(Some(c.holds)), c.what, c.found));
        }
        text
    }

    fn size(&self) -> String {
        if self.judged {
            return String::new();
        }
        format!(", at {} % of its size: bars are not judged", self.scale_percent)
    }
}

fn mark(holds: Option<bool>) -> char {
    match holds {
        Some(true) => '✓',
        Some(false) => '✗',
        None => ' ',
    }
}

fn bar_text(bar: Bar, measure: &Measure) -> String {
    let (sign, value) = match bar {
        Bar::AtMost(value) => ('≤', value),
        Bar::AtLeast(value) => ('≥', value),
    };
    let from = measure.bar_from.as_ref().map(|f| format!(" = {f}")).unwrap_or_default();
    format!("{sign} {} {}{from}", number(value), measure.unit)
}

/// Three digits that say something.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The size of a figure in percent of the one that its bars are stated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale(u32);

impl Scale {
    /// Of this many percent, 1 to 100.
    pub fn new(percent: u32) -> Self {
        Self(percent.clamp(1, 100))
    }

    /// In percent.
    pub fn percent(self) -> u32 {
        self.0
    }

    /// The stated size?
    pub fn is_full(self) -> bool {
        self.0 == 100
    }

    /// That share of `full`, and `least` at least.
    pub fn of(self, full: usize, least: usize) -> usize {
        (full * self.0 as usize / 100).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_judged_at_full_size_only() {
        for (percent, value, holds) in [(100, 1.0, true), (100, 3.0, false), (1, 3.0, true)] {
            let mut figure = Figure::new("plan", Scale::new(percent));
            figure.bar("time", value, "ms", Bar::AtMost(2.0));
            assert_eq!(figure.holds, holds, "{value} at {percent} %");
        }
        assert!(Bar::AtLeast(2.0).holds(2.0) && !Bar::AtLeast(2.0).holds(1.9));
    }

    #[test]
    fn a_check_is_judged_at_any_size() {
        let mut figure = Figure::new("plan", Scale::new(1));
        figure.check("the checker agrees", false, "1 finding");
        assert!(!figure.holds && figure.text().contains("✗ the checker agrees (1 finding)"));
    }

    #[test]
    fn a_share_has_a_floor() {
        assert_eq!((Scale::new(1).of(1_000, 20), Scale::new(50).of(1_000, 20)), (20, 500));
        assert_eq!((Scale::new(0).percent(), Scale::new(900).percent()), (1, 100));
    }
}
