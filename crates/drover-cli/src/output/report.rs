//! Failures as miette draws them: the sentence, its causes, the source line of a finding, and what to do.

use crate::failure::Failure;
use drover_model::config::diagnostic::Diagnostic;
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};
use std::fmt;

/// The failure as text.
pub fn render(failure: &Failure, width: usize, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false).with_context_lines(0);
    let mut text = String::new();
    for finding in &failure.diagnostics {
        // Rendering fails only when a string can't grow; then the plain line must do.
        if handler.render_report(&mut text, &Finding::of(finding)).is_err() {
            text.push_str(&finding.to_string());
        }
        text.push('\n');
    }
    if !failure.message.is_empty() && handler.render_report(&mut text, &Report::of(failure)).is_err() {
        text.push_str(&failure.message);
    }
    text.replace(HYPHEN, "-")
}

/// The failure as a chain of errors.
#[derive(Debug)]
struct Report {
    message: String,
    cause: Option<Box<Cause>>,
    hint: Option<String>,
}

#[derive(Debug)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

impl Report {
    fn of(failure: &Failure) -> Self {
        let chain = failure.causes.iter().rev();
        let cause = chain.fold(None, |next, m| Some(Box::new(Cause { message: clean(m), next })));
        Self { message: clean(&failure.message), cause, hint: failure.hint.as_deref().map(clean) }
    }
}

/// A hyphen at which no line is broken: plan ids and options must survive being copied. Written as a plain one.
const HYPHEN: &str = "\u{2011}";

/// What others wrote must not move the cursor.
fn clean(text: &str) -> String {
    super::paint::finish(text, false).replace('-', HYPHEN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|c| c as _)
    }
}

impl miette::Diagnostic for Report {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|h| Box::new(h) as _)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|c| c as _)
    }
}

/// One finding with its source line, which is all of the file that is known here: a coordinator sends no more.
#[derive(Debug)]
struct Finding {
    message: String,
    suggestion: Option<String>,
    source: Line,
    /// Byte in the line, and length.
    place: (usize, usize),
}

#[derive(Debug)]
struct Line {
    file: String,
    /// From 0.
    line: usize,
    text: String,
}

impl Finding {
    fn of(d: &Diagnostic) -> Self {
        let text = super::paint::finish(&d.source_line, false);
        let before = d.column.saturating_sub(1);
        let start = text.char_indices().nth(before).map_or(text.len(), |(i, _)| i);
        let length = d.length.min(text.len() - start);
        let line = d.line.saturating_sub(1);
        Self {
            message: clean(&d.message),
            suggestion: d.suggestion.as_deref().map(clean),
            source: Line { file: d.file.clone(), line, text },
            place: (start, length),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Finding {}

impl miette::Diagnostic for Finding {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.suggestion.as_ref().map(|h| Box::new(h) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, length) = self.place;
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".to_owned()), start, length))))
    }
}

impl SourceCode for Line {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Shown beside the name of the file.
        let column = self.text.get(..span.offset()).map_or(0, |before| before.chars().count());
        let whole = SourceSpan::new(0.into(), self.text.len());
        let name = self.file.clone();
        Ok(Box::new(MietteSpanContents::new_named(name, self.text.as_bytes(), whole, self.line, column, 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    #[test]
    fn a_failure_has_its_causes_and_the_next_command() {
        let mut failure =
            Failure::new(ExitCode::Unreachable, "can't ask the coordinator").hint("drover doctor");
        failure.causes = vec!["can't connect".into(), "no such file".into()];
        let text = render(&failure, 80, false);
        assert_eq!(
            text,
            "  × can't ask the coordinator\n  ├─▶ can't connect\n  ╰─▶ no such file\n  help: drover doctor\n"
        );
    }

    #[test]
    fn a_finding_shows_its_line() {
        let d = Diagnostic {
            file: "regions/eu.yaml".into(),
            line: 7,
            column: 3,
            offset: 120,
            length: 6,
            source_line: "  weigth: 3".into(),
            message: "unknown field `weigth`".into(),
            suggestion: Some("did you mean `weight`?".into()),
        };
        let mut failure = Failure::usage("");
        failure.diagnostics.push(d);
        let text = render(&failure, 80, false);
        assert!(text.contains("regions/eu.yaml:7:3"), "{text}");
        assert!(text.contains(" 7 │   weigth: 3"), "{text}");
        assert!(text.contains("help: did you mean `weight`?"), "{text}");
    }
}
