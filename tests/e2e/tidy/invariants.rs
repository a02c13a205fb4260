//! The table of invariants in `docs/ARCHITECTURE.md`: every guard has its mark, every mark a test that sees it reached,
//! and every test file that is named is there. Without it the table is true on the day that it is written.

use super::Finding;
use super::tokens::Source;
use std::collections::BTreeSet;

pub const PAGE: &str = "docs/ARCHITECTURE.md";
const HEADER: &str = "| invariant | enforced in | marked by | tested in |";
/// I1 to I12; those without a row are named below the table.
const INVARIANTS: std::ops::RangeInclusive<u8> = 1..=12;

/// One row, with the line that it stands on.
struct Row<'a> {
    line: usize,
    number: u8,
    marks: Vec<&'a str>,
    tests: Vec<&'a str>,
}

pub fn check(page: &str, sources: &[Source]) -> Vec<Finding> {
    let (rows, mut findings) = rows(page);
    let hit = marks(sources, &["hit"]);
    let checked = marks(sources, &["check", "check_count"]);
    for number in INVARIANTS {
        let has_row = rows.iter().any(|row| row.number == number);
        let is_told = page.lines().any(|line| line.contains("do not exist yet") && says(line, number));
        if has_row == is_told {
            let what = if has_row { "has a row and is said not to exist" } else { "has no row" };
            findings.push(Finding::new(PAGE, format_args!("I{number} {what}")));
        }
    }
    for row in &rows {
        for mark in &row.marks {
            if !hit.iter().any(|found| is_named_by(mark, found)) {
                findings.push(Finding::at(PAGE, row.line, format_args!("no guard has the mark `{mark}`")));
            }
        }
        for test in &row.tests {
            if !sources.iter().any(|source| format!("/{}", source.path).ends_with(&format!("/{test}"))) {
                findings.push(Finding::at(PAGE, row.line, format_args!("there is no test file `{test}`")));
            }
        }
        for (what, missing) in [("mark", row.marks.is_empty()), ("test file", row.tests.is_empty())] {
            if missing {
                findings.push(Finding::at(PAGE, row.line, format_args!("I{} names no {what}", row.number)));
            }
        }
    }
    for mark in hit.iter().filter(|mark| number_of(mark).is_some()) {
        let row = rows.iter().find(|row| number_of(mark) == Some(row.number));
        if !row.is_some_and(|row| row.marks.iter().any(|named| is_named_by(named, mark))) {
            findings.push(Finding::new(PAGE, format_args!("the mark `{mark}` is in no row")));
        }
        if !checked.contains(mark) {
            findings.push(Finding::new(mark, "no test sees that this mark is reached"));
        }
    }
    findings
}

fn rows(page: &str) -> (Vec<Row<'_>>, Vec<Finding>) {
    let (mut rows, mut findings) = (Vec::new(), Vec::new());
    let table = page.lines().enumerate().skip_while(|(_, line)| *line != HEADER).skip(2);
    for (index, line) in table.take_while(|(_, line)| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let number = cells[0].split_whitespace().next().and_then(|word| word.strip_prefix('I')?.parse().ok());
        match (number, cells.as_slice()) {
            (Some(number), [_, _, marked, tested]) => rows.push(Row {
                line: index + 1,
                number,
                marks: code(marked).collect(),
                tests: code(tested).filter(|word| word.ends_with(".rs")).collect(),
            }),
            _ => findings.push(Finding::at(PAGE, index + 1, "not a row of the table of invariants")),
        }
    }
    if rows.is_empty() {
        findings.push(Finding::new(PAGE, "it has no table of invariants"));
    }
    (rows, findings)
}

/// What stands between backquotes.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn says(line: &str, number: u8) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == format!("I{number}"))
}

/// `i6_*` names all of them, `i6_quorum` one.
fn is_named_by(named: &str, mark: &str) -> bool {
    named.strip_suffix('*').map_or(named == mark, |start| mark.starts_with(start))
}

/// 6 of `i6_stale_is_unknown`.
fn number_of(mark: &str) -> Option<u8> {
    mark.strip_prefix('i')?.split_once('_')?.0.parse().ok()
}

/// The arguments of `cov_mark::hit!` or of the checks, in the crates: here they stand in samples.
fn marks(sources: &[Source], macros: &[&str]) -> BTreeSet<String> {
    let openings: Vec<String> = macros.iter().map(|name| format!("cov_mark::{name}!(")).collect();
    let own = sources.iter().filter(|source| source.path.starts_with("crates/"));
    let all = own.flat_map(|source| openings.iter().map(move |opening| (source, opening)));
    let calls = all.flat_map(|(source, opening)| source.text.split(opening.as_str()).skip(1));
    calls
        .filter_map(|rest| rest.split([')', ',']).next())
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "fn f() { cov_mark::hit!(i1_first); cov_mark::hit!(i2_a); cov_mark::hit!(i2_b); }";
    const TESTS: &str =
        "fn t() { cov_mark::check!(i1_first); cov_mark::check!(i2_a); cov_mark::check_count!(i2_b, 2); }";
    const REST: &str = "I3, I4, I5, I6, I7, I8, I9, I10, I11 and I12 do not exist yet.";

    fn findings(rows: &str, rest: &str, code: &str, tests: &str) -> Vec<String> {
        let page = format!("{HEADER}\n| --- | --- | --- | --- |\n{rows}\n\n{rest}\n");
        let sources =
            [Source::new("crates/c/src/a.rs", code.into()), Source::new("crates/c/tests/t.rs", tests.into())];
        check(&page, &sources).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_table_that_is_true_is_clean_and_one_that_is_not_says_where() {
        let one = "| I1 first | `f` | `i1_first` | `c/tests/t.rs` |\n";
        let two = "| I2 second | `f` | `i2_*` | `t.rs` |";
        let good = format!("{one}{two}");
        assert_eq!(findings(&good, REST, CODE, TESTS), [""; 0]);
        let table = [
            (one.to_owned(), REST, CODE, TESTS, "I2 has no row"),
            (good.clone(), "I2 and I3 do not exist yet.", CODE, TESTS, "I2 has a row and is said not to"),
            (good.replace("i1_first", "i1_other"), REST, CODE, TESTS, "no guard has the mark `i1_other`"),
            (good.replace("i2_*", "i2_a"), REST, CODE, TESTS, "the mark `i2_b` is in no row"),
            (good.replace("`t.rs`", "`u.rs`"), REST, CODE, TESTS, "there is no test file `u.rs`"),
            (good.replace("`t.rs`", "by hand"), REST, CODE, TESTS, "I2 names no test file"),
            (good.replace("`i2_*`", "–"), REST, CODE, TESTS, "I2 names no mark"),
            (good.replace("| I2", "| second"), REST, CODE, TESTS, "not a row"),
            (String::new(), REST, CODE, TESTS, "no table"),
            (good.clone(), REST, CODE, "", "i2_b: no test sees"),
        ];
        for (rows, rest, code, tests, expected) in table {
            let found = findings(&rows, rest, code, tests);
            assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:?}");
        }
    }
}
