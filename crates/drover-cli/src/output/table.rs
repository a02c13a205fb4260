//! Tables without lines: they survive being copied into a ticket.

use super::Look;
use super::paint::{Tone, finish, paint};
use super::words::local_times;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};

/// Columns between two columns.
const GAP: u16 = 2;

/// A table with a header, as wide as the reader's terminal at most. Every row must have as many cells as the header.
pub fn table(look: &Look, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = empty(look);
    table.set_header(header.iter().map(|h| paint(Tone::Quiet, h)).collect::<Vec<_>>());
    let words = header.iter().map(|h| longest_word(h)).collect();
    fill(look, table, rows, Widths::WholeWords(words))
}

/// Rows without a header, whose last column takes what the others leave and wraps.
pub fn hanging(look: &Look, rows: Vec<Vec<String>>) -> String {
    let fixed = rows.first().map_or(0, |r| r.len().saturating_sub(1));
    fill(look, empty(look), rows, Widths::Hanging(fixed))
}

/// How wide columns are.
enum Widths {
    /// So many as wide as their content, and one that takes what they leave.
    Hanging(usize),
    /// Each at least as wide as its longest word, that of its header to begin with.
    WholeWords(Vec<u16>),
}

/// A paragraph.
pub fn paragraph(look: &Look, text: &str) -> String {
    hanging(look, vec![vec![text.to_owned()]])
}

/// Every line moved to the right.
pub fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.split_inclusive('\n').map(|line| format!("{margin}{line}")).collect()
}

/// The same reader with a narrower column.
pub fn narrowed(look: &Look, by: usize) -> Look {
    Look { width: look.width.saturating_sub(by), ..look.clone() }
}

fn empty(look: &Look) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(look.width).unwrap_or(u16::MAX));
    table
}

fn fill(look: &Look, mut table: Table, rows: Vec<Vec<String>>, mut widths: Widths) -> String {
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| local_times(look, cell)).collect();
        if let Widths::WholeWords(longest) = &mut widths {
            for (longest, cell) in longest.iter_mut().zip(&cells) {
                *longest = longest_word(cell).max(*longest);
            }
        }
        table.add_row(cells);
    }
    let columns = table.column_count();
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i + 1 == columns { 0 } else { GAP }));
    }
    table.set_constraints(match widths {
        Widths::Hanging(fixed) => vec![ColumnConstraint::ContentWidth; fixed],
        Widths::WholeWords(longest) => whole_words(look, &longest),
    });
    format!("{}\n", table.to_string().trim_end())
}

/// Narrowest that a column gets whose words must be broken.
const BROKEN_WIDTH_MIN: u16 = 12;

/// Columns that no word is broken in, but for the widest ones where not all have room: a name in two halves can't be
/// copied.
fn whole_words(look: &Look, longest: &[u16]) -> Vec<ColumnConstraint> {
    let last = longest.len().saturating_sub(1);
    let width = |(i, word): (usize, &u16)| word.saturating_add(if i < last { GAP } else { 0 });
    let mut widths: Vec<u16> = longest.iter().enumerate().map(width).collect();
    let room = |widths: &[u16]| widths.iter().map(|w| usize::from(*w)).sum::<usize>() <= look.width;
    while !room(&widths) {
        let Some(widest) = widths.iter_mut().max().filter(|w| **w > BROKEN_WIDTH_MIN) else { return vec![] };
        *widest = BROKEN_WIDTH_MIN;
    }
    widths.into_iter().map(|w| ColumnConstraint::LowerBoundary(Width::Fixed(w))).collect()
}

/// Columns that the longest word of `cell` takes. Marks of paint take none.
fn longest_word(cell: &str) -> u16 {
    // Before the glue between a number and its unit becomes a blank.
    let longest = cell.split([' ', '\n']).map(|word| finish(word, false).chars().count()).max();
    u16::try_from(longest.unwrap_or_default()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::super::paint::finish;
    use super::*;

    #[test]
    fn painted_cells_take_no_more_room_than_plain_ones() {
        let rows =
            |paint: fn(&str) -> String| vec![vec![paint("down"), "a".into()], vec!["x".into(), "b".into()]];
        let plain = table(&look(80), &["state", "name"], rows(str::to_owned));
        let painted = table(&look(80), &["state", "name"], rows(|w| super::paint(Tone::Bad, w)));
        assert_eq!(finish(&painted, false), finish(&plain, false));
        assert_eq!(finish(&plain, false), "state  name\ndown   a\nx      b\n");
    }

    #[test]
    fn a_name_is_never_broken_while_there_is_room() {
        let row = |n: u8| {
            let what = "the region is bad and its traffic goes to the others for so long".to_owned();
            vec![format!("{n}-shift_traffic"), "checkout@eu-west".into(), what]
        };
        let text = finish(&table(&look(60), &["step", "endpoint", "what"], vec![row(1), row(2)]), false);
        assert!(text.contains("1-shift_traffic") && text.contains("checkout@eu-west"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    }

    #[test]
    fn the_last_column_wraps_under_itself() {
        let text = hanging(
            &look(40),
            vec![vec!["!!".into(), "one two three four five six seven eight nine".into()]],
        );
        assert_eq!(finish(&text, false), "!!  one two three four five six seven\n    eight nine\n");
    }
}
