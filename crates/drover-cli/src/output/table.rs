//! Tables without lines: they survive being copied into a ticket.

use super::Look;
use super::paint::{Tone, paint};
use super::words::local_times;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};

/// Columns between two columns.
const GAP: u16 = 2;

/// A table with a header, as wide as the reader's terminal at most. Every row must have as many cells as the header.
pub fn table(look: &Look, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = empty(look);
    table.set_header(header.iter().map(|h| paint(Tone::Quiet, h)).collect::<Vec<_>>());
    fill(look, table, rows, &[])
}

/// Rows without a header, whose last column takes what the others leave and wraps.
pub fn hanging(look: &Look, rows: Vec<Vec<String>>) -> String {
    let fixed = rows.first().map_or(0, |r| r.len().saturating_sub(1));
    let constraints = vec![ColumnConstraint::ContentWidth; fixed];
    fill(look, empty(look), rows, &constraints)
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

fn fill(look: &Look, mut table: Table, rows: Vec<Vec<String>>, constraints: &[ColumnConstraint]) -> String {
    for row in rows {
        table.add_row(row.iter().map(|cell| local_times(look, cell)).collect::<Vec<_>>());
    }
    let columns = table.column_count();
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i + 1 == columns { 0 } else { GAP }));
    }
    table.set_constraints(constraints.to_vec());
    format!("{}\n", table.to_string().trim_end())
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
    fn the_last_column_wraps_under_itself() {
        let text = hanging(
            &look(40),
            vec![vec!["!!".into(), "one two three four five six seven eight nine".into()]],
        );
        assert_eq!(finish(&text, false), "!!  one two three four five six seven\n    eight nine\n");
    }
}
