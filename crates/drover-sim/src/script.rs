//! Scripts: verbs, one a line, with what they print below them.
//!
//! A line that begins with `#` tells the story, one that begins with `>` is what the verb above printed, and any other
//! is a verb. Played again, a script must come out as it is written, letter by letter.

use crate::sim::Simulation;
use crate::verbs::{self, Words};
use crate::world::{WorldError, WorldFiles};

/// Why a script can't be played.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The first verb is another.
    #[error("line {line}: a script begins with `world NAME`")]
    NoWorld {
        /// Where.
        line: usize,
    },
    /// The world can't be made or changed.
    #[error("line {line}: {why}")]
    World {
        /// Where.
        line: usize,
        /// Why.
        why: WorldError,
    },
    /// Not understood.
    #[error("line {line}: {why}")]
    Verb {
        /// Where.
        line: usize,
        /// What was not understood.
        why: String,
    },
    /// Something happened that must never happen.
    #[error("line {line}: {what}")]
    Violated {
        /// The verb during which it happened.
        line: usize,
        /// What.
        what: String,
    },
}

/// A script, as it is written.
#[derive(Debug, Clone)]
pub struct Script {
    text: String,
}

impl Script {
    /// From a file's text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Plays it: the same text with what its verbs print now.
    ///
    /// # Errors
    /// [`ScriptError`] at the first line that can't be played, or during which an invariant was violated.
    pub fn play(&self, files: &WorldFiles) -> Result<String, ScriptError> {
        let mut sim: Option<Simulation> = None;
        let mut played = String::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            if line.starts_with('>') {
                continue;
            }
            played.push_str(line);
            played.push('\n');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            for printed in play_line(&mut sim, files, line, number)? {
                played.push_str("> ");
                played.push_str(&printed);
                played.push('\n');
            }
            let violation = sim.as_ref().and_then(|s| s.violations().into_iter().next());
            if let Some(what) = violation {
                return Err(ScriptError::Violated { line: number, what });
            }
        }
        Ok(played)
    }
}

fn play_line(
    sim: &mut Option<Simulation>,
    files: &WorldFiles,
    line: &str,
    number: usize,
) -> Result<Vec<String>, ScriptError> {
    let not_understood = |why| ScriptError::Verb { line: number, why };
    let mut words = Words::of(line);
    let verb = words.next("a verb").map_err(not_understood)?;
    if verb == "world" {
        let name = words.next("the world's name").map_err(not_understood)?;
        let fresh = words.word("fresh");
        words.end().map_err(not_understood)?;
        *sim = Some(
            Simulation::new(files, &name, fresh).map_err(|why| ScriptError::World { line: number, why })?,
        );
        return Ok(vec![]);
    }
    let sim = sim.as_mut().ok_or(ScriptError::NoWorld { line: number })?;
    let handle = sim.handle();
    let _inside = handle.enter();
    verbs::play(sim, &verb, words).map_err(not_understood)
}
