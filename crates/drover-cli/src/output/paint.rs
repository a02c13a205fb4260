//! Colour without its bytes: a painted word carries marks that take no column, so tables measure and wrap it as it will
//! look. They become colours, or nothing, when the text is written.
//!
//! Nothing may depend on colour: every painted word says the same without it. Whatever else could move a terminal's
//! cursor is made visible here too, because reasons and names are written by people.

use anstyle::{AnsiColor, Style};
use std::fmt::Write as _;

/// What a word means to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Matters now.
    Bad,
    /// Will matter.
    Doubtful,
    /// As it should be.
    Good,
    /// Carries the sentence.
    Strong,
    /// May be passed over.
    Quiet,
}

/// A space at which nothing is wrapped, as between a number and its unit. Written as a plain one.
pub const GLUE: char = '\u{A0}';

/// Ends a painted word. All marks are invisible operators of Unicode, zero columns wide.
const END: char = '\u{2060}';
const MARKS: [(char, Tone); 5] = [
    ('\u{2061}', Tone::Bad),
    ('\u{2062}', Tone::Doubtful),
    ('\u{2063}', Tone::Good),
    ('\u{2064}', Tone::Strong),
    ('\u{206A}', Tone::Quiet),
];

impl Tone {
    fn mark(self) -> char {
        MARKS.iter().find(|(_, t)| *t == self).map_or(END, |(c, _)| *c)
    }

    fn style(self) -> Style {
        match self {
            Tone::Bad => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
            Tone::Doubtful => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Strong => Style::new().bold(),
            Tone::Quiet => Style::new().dimmed(),
        }
    }
}

/// Paints every word of `text`; word by word, so that a table may wrap between them.
pub fn paint(tone: Tone, text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let words: Vec<String> = text
        .split(' ')
        .map(|w| if w.is_empty() { String::new() } else { format!("{}{w}{END}", tone.mark()) })
        .collect();
    words.join(" ")
}

/// The text as written: marks to colours or to nothing, control characters made visible, no spaces at line ends.
pub fn finish(text: &str, colour: bool) -> String {
    let mut done = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |l| (l, "\n"));
        finish_line(line.trim_end(), colour, &mut done);
        done.push_str(end);
    }
    done
}

fn finish_line(line: &str, colour: bool, done: &mut String) {
    let mut open = false;
    for c in line.chars() {
        if c == END {
            if open {
                let _ = write!(done, "{}", anstyle::Reset);
            }
            open = false;
        } else if let Some((_, tone)) = MARKS.iter().find(|(m, _)| *m == c) {
            if colour {
                let _ = write!(done, "{}", tone.style().render());
                open = true;
            }
        } else if c == GLUE {
            done.push(' ');
        } else if c.is_control() {
            done.push('\u{FFFD}');
        } else {
            done.push(c);
        }
    }
    if open {
        let _ = write!(done, "{}", anstyle::Reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painted_words_are_coloured_or_left_alone() {
        let text = format!("eu-west {} now  \n", paint(Tone::Bad, "needs operator"));
        assert_eq!(finish(&text, false), "eu-west needs operator now\n");
        let red = "\u{1b}[1m\u{1b}[31m";
        assert_eq!(finish(&text, true), format!("eu-west {red}needs\u{1b}[0m {red}operator\u{1b}[0m now\n"));
    }

    #[test]
    fn what_people_wrote_cannot_move_the_cursor() {
        assert_eq!(finish("why\u{1b}[2J\rnot\n", true), "why\u{FFFD}[2J\u{FFFD}not\n");
        assert_eq!(finish("left open \u{2061}word", true), "left open \u{1b}[1m\u{1b}[31mword\u{1b}[0m");
    }
}
