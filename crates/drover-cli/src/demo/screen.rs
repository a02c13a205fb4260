//! What the demo says: all of it goes through here, to standard output for people, and beside the document that
//! `-o json` writes.

use crate::output::paint::{Tone, paint};
use crate::output::{Format, Out};
use drover_model::Span;
use tokio_util::sync::CancellationToken;

/// Columns that every line fits into.
const COLUMNS: usize = 80;

/// Where the demo talks.
#[derive(Debug, Clone)]
pub struct Screen {
    out: Out,
    gone: CancellationToken,
    told: CancellationToken,
}

impl Screen {
    /// Talks to `out`, to whoever cancels `told` when it shall end.
    pub fn new(out: &Out, told: CancellationToken) -> Self {
        Self { out: out.clone(), gone: CancellationToken::new(), told }
    }

    /// Returns when somebody wants it to end, also when that was while nobody asked.
    pub async fn told_to_end(&self) {
        self.told.cancelled().await;
    }

    /// Returns when the reader of the output went away.
    pub async fn reader_gone(&self) {
        self.gone.cancelled().await;
    }

    /// One line as it is.
    pub fn line(&self, line: &str) {
        if self.out.format == Format::Table {
            if self.out.text(&format!("{line}\n")).is_err() {
                self.gone.cancel();
            }
        } else {
            self.out.talk(line);
        }
    }

    /// A line that the next one replaces.
    pub fn passing(&self, line: &str) {
        self.out.progress(line);
    }

    /// A heading.
    pub fn title(&self, title: &str) {
        let rule = "─".repeat(COLUMNS.saturating_sub(title.chars().count() + 5));
        self.line("");
        self.line(&format!("── {} {}", paint(Tone::Strong, title), paint(Tone::Quiet, rule)));
    }

    /// A paragraph.
    pub fn say(&self, text: &str) {
        wrap(text, COLUMNS - 2).iter().for_each(|l| self.line(&format!("  {l}")));
    }

    /// Something that happened, so long after the trouble began (before it, when negative).
    pub fn event(&self, after_millis: i64, tone: Tone, text: &str) {
        for (number, line) in wrap(text, COLUMNS - 10).iter().enumerate() {
            let clock = if number == 0 { clock(after_millis) } else { String::new() };
            self.line(&format!(" {} {}", paint(Tone::Quiet, format!("{clock:>7} ")), paint(tone, line)));
        }
    }

    /// Whether something that was expected came true.
    pub fn verdict(&self, met: bool, text: &str) {
        let (sign, tone) = if met { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
        for (number, line) in wrap(text, COLUMNS - 4).iter().enumerate() {
            let sign = if number == 0 { paint(tone, sign) } else { " ".to_owned() };
            self.line(&format!("  {sign} {line}"));
        }
    }
}

/// Seconds after the trouble began, with one decimal.
#[allow(clippy::cast_precision_loss)] // Minutes, in milliseconds.
pub fn clock(after_millis: i64) -> String {
    format!("{:+.1}s", after_millis as f64 / 1_000.0)
}

/// A span in seconds with one decimal.
pub fn seconds(span: Span) -> String {
    format!("{:.1}s", span.as_secs_f64())
}

/// Breaks at spaces; a word that is longer than a line has one to itself.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrap("a bb ccc dddd", 5), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("incomprehensibilities here", 6), ["incomprehensibilities", "here"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn a_clock_has_its_sign() {
        assert_eq!(clock(-2_040), "-2.0s");
        assert_eq!(clock(12_340), "+12.3s");
    }
}
