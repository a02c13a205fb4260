//! Why a command did not do what was asked: a sentence, its causes, and the command that goes on from here.

use crate::exit::ExitCode;
use drover_model::config::diagnostic::Diagnostic;
use std::error::Error;

/// The result of whatever a command does.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process ends with.
    pub code: ExitCode,
    /// What was attempted; empty when there is nothing to say, as for a reader that went away.
    pub message: String,
    /// Why it failed, outermost first.
    pub causes: Vec<String>,
    /// The next command.
    pub hint: Option<String>,
    /// Findings in files.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// With a code and a sentence.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new(), hint: None, diagnostics: Vec::new() }
    }

    /// The command line or a file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// What was attempted, and the error that came of it with its causes.
    pub fn because(code: ExitCode, message: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(code, message);
        failure.causes = causes(Some(error));
        failure
    }

    /// An error whose own text says what was attempted.
    pub fn of(code: ExitCode, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(code, error.to_string());
        failure.causes = causes(error.source());
        failure
    }

    /// With the next command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The reader of our output went away, which is its right.
    pub fn reader_gone() -> Self {
        Self::new(ExitCode::Done, "")
    }
}

fn causes(mut error: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while let Some(e) = error {
        let text = e.to_string();
        // Some libraries repeat their source in their own text.
        if all.last().is_none_or(|last| !last.ends_with(&text)) {
            all.push(text);
        }
        error = e.source();
    }
    all
}
