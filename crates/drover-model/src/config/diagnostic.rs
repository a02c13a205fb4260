//! What is wrong with a configuration, and exactly where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One finding in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// File, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Byte offset of the place in the file's text.
    pub offset: usize,
    /// Length of the place in bytes, at least 1. It ends between two characters, or one byte past the text's end.
    pub length: usize,
    /// The source line, without its end.
    pub source_line: String,
    /// What is wrong: `unknown field `weigth``.
    pub message: String,
    /// What to do: `did you mean `weight`?`.
    pub suggestion: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if let Some(s) = &self.suggestion {
            write!(f, " ({s})")?;
        }
        Ok(())
    }
}

/// The candidate that `word` was probably meant to be: fewest edits, and no more than a third of its letters wrong.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// A longer word is no slip of the finger, and comparing costs length times length.
    const WORD_BYTES_MAX: usize = 128;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, c)| c)
}

/// `did you mean …?` when one candidate is near, otherwise all of them, as far as a line carries.
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    /// More than this many names are no help.
    const SHOWN_MAX: usize = 20;
    let all: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(word, all.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let rest = if all.len() > SHOWN_MAX { ", …" } else { "" };
    let shown: Vec<String> = all.iter().take(SHOWN_MAX).map(|c| format!("`{c}`")).collect();
    (!shown.is_empty()).then(|| format!("known: {}{rest}", shown.join(", ")))
}
