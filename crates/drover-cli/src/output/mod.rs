//! The only place that writes to the terminal: data to standard output, talk to standard error.
//!
//! Everything else renders to plain strings, whose painted words carry invisible marks (see [`paint`]); here they
//! become colours, or nothing.

pub mod document;
pub mod paint;
pub mod picture;
pub mod report;
pub mod table;
pub mod words;

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use document::Document;
use drover_model::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Columns assumed where nobody says otherwise.
pub const WIDTH_DEFAULT: usize = 80;
/// Narrower than this nothing is arranged.
const WIDTH_MIN: usize = 40;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's objects, with `schema`.
    Json,
    /// The same as YAML.
    Yaml,
    /// An incident timeline to paste (`run show` only).
    Markdown,
}

/// What text is rendered for.
#[derive(Debug, Clone)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// The time, for "3 m ago".
    pub now: Timestamp,
    /// The reader's zone.
    pub zone: TimeZone,
}

/// The terminal.
#[derive(Debug, Clone)]
pub struct Out {
    /// How results are written.
    pub format: Format,
    colour: bool,
    talk_colour: bool,
    /// Lines of progress on the screen, which the next ones replace.
    progress_lines: Arc<AtomicUsize>,
}

impl Out {
    /// As the environment says: colour only on a terminal, and never with `NO_COLOR`.
    pub fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self {
            format,
            colour: !plain && std::io::stdout().is_terminal(),
            talk_colour: !plain && std::io::stderr().is_terminal(),
            progress_lines: Arc::default(),
        }
    }

    /// What to render for, now.
    pub fn look(&self) -> Look {
        Look { width: width(), now: now(), zone: TimeZone::system() }
    }

    /// Is standard output a terminal that may be drawn on?
    pub fn is_live(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Can a person be asked?
    pub fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Writes data.
    ///
    /// # Errors
    /// When the reader went away or the write failed.
    pub fn text(&self, text: &str) -> Result<()> {
        write_all(paint::finish(text, self.colour).as_bytes())
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// When the reader went away or the write failed.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        write_all(bytes)
    }

    /// Says something beside the data. Nobody listening is no failure.
    pub fn talk(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "{}", paint::finish(text, self.talk_colour).trim_end());
    }

    /// Is there a terminal on which progress can replace itself?
    pub fn shows_progress(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Shows lines that the next ones replace, on a terminal; nothing elsewhere. Nothing at all clears them.
    pub fn progress(&self, lines: &str) {
        if !self.shows_progress() {
            return;
        }
        let room = width().saturating_sub(1);
        let cut: Vec<String> = lines.lines().map(|line| line.chars().take(room).collect()).collect();
        let above = self.progress_lines.swap(cut.len(), Ordering::Relaxed).saturating_sub(1);
        let up = if above > 0 { format!("\x1b[{above}A") } else { String::new() };
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "\r{up}\x1b[J{}", paint::finish(&cut.join("\n"), self.talk_colour));
        let _ = stderr.flush();
    }

    /// Asks for one line.
    ///
    /// # Errors
    /// When standard input can't be read.
    pub fn ask(&self, question: &str) -> Result<String> {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{} ", paint::finish(question, self.talk_colour).trim_end());
        let _ = stderr.flush();
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't read the answer", &e))?;
        Ok(answer.trim().to_owned())
    }

    /// Shows a value in the format that was asked for.
    ///
    /// # Errors
    /// When the format does not apply or the write failed.
    pub fn show<T: Document>(&self, value: &T, table: impl FnOnce(&Look) -> String) -> Result<()> {
        match self.format {
            Format::Table => self.text(&table(&self.look())),
            Format::Json | Format::Yaml => self.raw(structured(value, self.format)?.as_bytes()),
            Format::Markdown => {
                Err(Failure::usage("`-o markdown` is for `drover run show` only")
                    .hint("use table, json or yaml"))
            }
        }
    }

    /// Writes what has a form of its own that others define, such as a JSON Schema.
    ///
    /// # Errors
    /// When the write failed.
    pub fn verbatim<T: Serialize>(&self, value: &T) -> Result<()> {
        let format = if self.format == Format::Yaml { Format::Yaml } else { Format::Json };
        self.raw(structured(value, format)?.as_bytes())
    }

    /// Draws over what the terminal shows; where that can't be, below it.
    ///
    /// # Errors
    /// When the reader went away or the write failed.
    pub fn redraw(&self, text: &str) -> Result<()> {
        if self.is_live() {
            self.raw(b"\x1b[H\x1b[2J")?;
        }
        self.text(text)
    }

    /// Reports why a command failed.
    pub fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() && failure.diagnostics.is_empty() {
            return;
        }
        let text = report::render(failure, width(), self.talk_colour);
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "{}", text.trim_end());
    }
}

/// JSON or YAML with a newline at its end.
fn structured<T: Serialize>(value: &T, format: Format) -> Result<String> {
    let text = if format == Format::Yaml {
        serde_saphyr::to_string(value)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't write YAML", &e))?
    } else {
        serde_json::to_string_pretty(value)
            .map_err(|e| Failure::because(ExitCode::Internal, "can't write JSON", &e))?
    };
    Ok(format!("{}\n", text.trim_end()))
}

fn write_all(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(e) => Err(Failure::because(ExitCode::Internal, "can't write to standard output", &e)),
    }
}

/// The terminal's columns, else `COLUMNS`, else [`WIDTH_DEFAULT`].
fn width() -> usize {
    let terminal = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
    let columns = || std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    terminal.or_else(columns).unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN)
}

/// The time by this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
pub mod fixture {
    //! A look that never changes.

    use super::{Look, TimeZone};
    use drover_model::Timestamp;

    /// 2026-09-29 12:00:00 UTC at a zone of its own.
    pub const NOON_MILLIS: i64 = 1_790_683_200_000;

    /// At this width.
    pub fn look(width: usize) -> Look {
        let zone = TimeZone::posix("CEST-2").unwrap();
        Look { width, now: Timestamp::from_millis(NOON_MILLIS), zone }
    }
}
