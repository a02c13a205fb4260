//! Where findings collect while a directory is decoded, and the map from a readable path to its place.
//!
//! Nothing stops at the first finding: a decoder says `None` for what it could not read, and the sink knows why. Checks
//! across documents run later, on values that have no place any more, so every field's place is kept by its path.

use super::SourceFile;
use crate::config::diagnostic::Diagnostic;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Errors that are kept, and warnings; a file of rubbish must not make a report of millions of lines.
pub const FINDINGS_MAX: usize = 500;

/// Bytes of a source line that a finding carries, for the same reason.
pub const SOURCE_LINE_BYTES_MAX: usize = 400;

/// A piece of one file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

impl Place {
    /// The beginning of a file.
    pub fn top(file: usize) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

type Finding = (Place, Severity, String, Option<String>);

/// Collects findings and places.
pub(crate) struct Sink<'t> {
    files: &'t [SourceFile],
    /// Where each line of each file begins, so that naming a line is no scan of the file.
    line_starts: Vec<Vec<usize>>,
    findings: RefCell<Vec<Finding>>,
    /// Findings so far, kept or not, of each severity: thousands of warnings must neither hide an error nor be one.
    errors: Cell<usize>,
    warnings: Cell<usize>,
    places: RefCell<BTreeMap<String, Place>>,
    asked: RefCell<BTreeSet<(&'static str, &'static str)>>,
}

impl<'t> Sink<'t> {
    pub fn new(files: &'t [SourceFile]) -> Self {
        let starts =
            |text: &str| [0].into_iter().chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self {
            files,
            line_starts: files.iter().map(|f| starts(&f.text)).collect(),
            findings: RefCell::default(),
            errors: Cell::default(),
            warnings: Cell::default(),
            places: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    pub fn files(&self) -> &'t [SourceFile] {
        self.files
    }

    pub fn error(&self, place: Place, message: impl Into<String>, suggestion: impl Into<Option<String>>) {
        self.push(place, Severity::Error, message.into(), suggestion.into());
    }

    pub fn warn(&self, place: Place, message: impl Into<String>, suggestion: impl Into<Option<String>>) {
        self.push(place, Severity::Warning, message.into(), suggestion.into());
    }

    fn push(&self, place: Place, severity: Severity, message: String, suggestion: Option<String>) {
        let (found, word) = match severity {
            Severity::Error => (&self.errors, "errors"),
            Severity::Warning => (&self.warnings, "warnings"),
        };
        let before = found.replace(found.get().saturating_add(1));
        let mut findings = self.findings.borrow_mut();
        if before < FINDINGS_MAX {
            findings.push((place, severity, message, suggestion));
        } else if before == FINDINGS_MAX {
            let more = format!("there are more {word} than the {FINDINGS_MAX} that are shown");
            findings.push((place, severity, more, None));
        }
    }

    /// Notes that the decoder reads this field; the test that holds decoder and schema together compares.
    pub fn asked(&self, shape: &'static str, field: &'static str) {
        self.asked.borrow_mut().insert((shape, field));
    }

    #[cfg(test)]
    pub fn all_asked(&self) -> BTreeSet<(&'static str, &'static str)> {
        self.asked.borrow().clone()
    }

    pub fn remember(&self, path: &str, place: Place) {
        self.places.borrow_mut().insert(path.to_owned(), place);
    }

    /// The place of `path`, or of the nearest thing around it when a default stands there.
    pub fn place(&self, path: &str) -> Place {
        let places = self.places.borrow();
        let mut path = path;
        loop {
            if let Some(place) = places.get(path) {
                return *place;
            }
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => return Place::top(0),
            }
        }
    }

    /// No further error is kept, so nothing costly need be done to word one.
    pub fn is_full(&self) -> bool {
        self.errors.get() > FINDINGS_MAX
    }

    pub fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    /// `file:line`, to name a second place in a message.
    pub fn name_of(&self, place: Place) -> String {
        let file = self.files.get(place.file).map_or("(no file)", |f| f.name.as_str());
        format!("{file}:{}", self.line(place))
    }

    fn line(&self, place: Place) -> usize {
        self.line_starts
            .get(place.file)
            .map_or(1, |starts| starts.partition_point(|s| *s <= place.start).max(1))
    }

    /// All errors and all warnings, each in the order of files and lines.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut findings = self.findings.take();
        findings.sort_by_key(|f| f.0);
        let of = |wanted: Severity| {
            findings.iter().filter(|f| f.1 == wanted).map(|f| self.diagnostic(f)).collect::<Vec<_>>()
        };
        (of(Severity::Error), of(Severity::Warning))
    }

    fn diagnostic(&self, (place, _, message, suggestion): &Finding) -> Diagnostic {
        let (file, text) = match self.files.get(place.file) {
            Some(f) => (f.name.clone(), f.text.as_str()),
            None => ("(no file)".to_owned(), ""),
        };
        let start = floor_boundary(text, place.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line = text[line_start..line_end].trim_end_matches('\r');
        // A place without length marks the character that stands there, and a whole one: no editor marks half of it.
        let length_min = text[start..].chars().next().map_or(1, char::len_utf8);
        let length = floor_boundary(text, place.end).min(line_end).saturating_sub(start).max(length_min);
        Diagnostic {
            file,
            line: self.line(*place),
            column: text[line_start..start].chars().count() + 1,
            offset: start,
            length,
            source_line: line[..floor_boundary(line, SOURCE_LINE_BYTES_MAX)].to_owned(),
            message: message.clone(),
            suggestion: suggestion.clone(),
        }
    }
}

/// The last character boundary at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_warnings_is_no_error_and_hides_none() {
        let files = [SourceFile::new("a.yaml", "kind: Service\n")];
        let sink = Sink::new(&files);
        for number in 0..2 * FINDINGS_MAX {
            sink.warn(Place::top(0), format!("warning {number}"), None);
        }
        assert!(!sink.has_errors() && !sink.is_full());
        sink.error(Place::top(0), "an error", None);
        assert!(sink.has_errors() && !sink.is_full());
        let (errors, warnings) = sink.finish();
        assert_eq!(errors.iter().map(|e| e.message.as_str()).collect::<Vec<_>>(), ["an error"]);
        assert_eq!(warnings.len(), FINDINGS_MAX + 1);
        assert!(warnings.iter().any(|w| w.message == "there are more warnings than the 500 that are shown"));
    }
}
