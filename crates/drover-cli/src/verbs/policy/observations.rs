//! A history as `drover log --observations -o json` writes it: newest first, of one endpoint each, so that all of it is
//! read and put in order before the first row is taken.

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_core::backtest::Row;
use drover_model::Span;
use drover_model::api::{ObservationPlace, ObservationView};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::probe::ProbeOutcome;
use serde::Deserialize;
use std::io::Read;

/// Bytes of one such file, at most: half a million observations. A longer history goes through CSV, which is not kept in memory.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Observations of all files together, at most.
pub const OBSERVATIONS_MAX: usize = 4_000_000;

#[derive(Deserialize)]
struct Listing {
    items: Vec<ObservationView>,
}

/// Adds the rows of one file. What did not count when it came is left out: it would not have counted again.
///
/// # Errors
/// When it can't be read, is too long, or is something else.
pub fn read(file: &str, input: impl Read, rows: &mut Vec<Row>) -> Result<()> {
    let mut text = String::new();
    let failed = |e: &std::io::Error| Failure::because(ExitCode::Usage, format!("can't read {file}"), e);
    input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{file} has more than {FILE_BYTES_MAX} bytes"))
            .hint("ask for less at once: drover log --observations SERVICE@REGION --since 12h -o json"));
    }
    let listing: Listing = serde_json::from_str(&text).map_err(|e| refused(file, &text, &e))?;
    let counted = listing.items.into_iter().filter(|o| o.place == ObservationPlace::Current);
    rows.extend(counted.map(row));
    if rows.len() > OBSERVATIONS_MAX {
        return Err(Failure::usage(format!("more than {OBSERVATIONS_MAX} observations"))
            .hint("replay some services at a time, or write them as CSV, which is not kept in memory"));
    }
    Ok(())
}

fn row(o: ObservationView) -> Row {
    let failure = match o.outcome {
        ProbeOutcome::Good => None,
        ProbeOutcome::Failed { kind, .. } => Some(kind),
    };
    Row {
        at: o.received_at,
        age: o.age,
        vantage: o.vantage,
        endpoint: o.endpoint,
        failure,
        latency: Some(Span::from_millis(o.latency_micros.div_ceil(1_000))),
        // The history does not keep the agents' checks of themselves.
        blind: false,
        label: None,
    }
}

/// Puts the rows of all files in the order in which they came.
pub fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| {
        (a.at, a.at - a.age, &a.vantage, &a.endpoint).cmp(&(b.at, b.at - b.age, &b.vantage, &b.endpoint))
    });
    rows
}

fn refused(file: &str, text: &str, e: &serde_json::Error) -> Failure {
    /// A file on one line can't be shown whole.
    const SHOWN_BYTES_MAX: usize = 200;
    let line = text.lines().nth(e.line().saturating_sub(1)).unwrap_or_default();
    let is_short = line.len() <= SHOWN_BYTES_MAX;
    let offset = if is_short { line.floor_char_boundary(e.column().saturating_sub(1)) } else { 0 };
    let mut failure = Failure::usage("the history can't be replayed");
    failure.diagnostics.push(Diagnostic {
        file: file.to_owned(),
        line: e.line().max(1),
        column: e.column().max(1),
        offset,
        length: 1,
        source_line: if is_short { line.to_owned() } else { String::new() },
        message: e.to_string(),
        suggestion: None,
    });
    failure.hint("write it anew: drover log --observations SERVICE@REGION --limit 100000 -o json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::probe::FailureKind;

    fn item(second: u32, result: &str, place: &str) -> String {
        format!(
            "{{\"received_at\": \"2026-01-01T00:00:{second:02}.100Z\", \"vantage\": \"us-east-1\", \
             \"endpoint\": \"checkout@eu-west\", \"outcome\": {{{result}}}, \"status\": null, \
             \"latency_micros\": 1500, \"began_at\": \"2026-01-01T00:00:00Z\", \"age\": \"90ms\", \"place\": \"{place}\"}}"
        )
    }

    #[test]
    fn what_counted_is_taken_in_the_order_in_which_it_came() {
        let failed = "\"result\": \"failed\", \"kind\": \"reset\", \"detail\": \"\"";
        let items = [
            item(9, failed, "current"),
            item(5, "\"result\": \"good\"", "replayed"),
            item(1, failed, "current"),
        ];
        let (newer, older) =
            (format!("{{\"schema\": 1, \"items\": [{}]}}", items.join(",")), "{\"items\": []}");
        let mut rows = Vec::new();
        read("a.json", newer.as_bytes(), &mut rows).unwrap();
        read("b.json", older.as_bytes(), &mut rows).unwrap();
        let rows = in_order(rows);
        let ends: Vec<String> = rows.iter().map(|r| r.at.to_string()).collect();
        assert_eq!(ends, ["2026-01-01T00:00:01.100Z", "2026-01-01T00:00:09.100Z"]);
        assert_eq!(
            (rows[0].failure, rows[0].latency),
            (Some(FailureKind::Reset), Some(Span::from_millis(2)))
        );
    }

    #[test]
    fn anything_else_is_told_with_its_place() {
        let told = |text: &str| {
            read("a.json", text.as_bytes(), &mut Vec::new()).unwrap_err().diagnostics[0].to_string()
        };
        assert!(told("{\"items\": [\n  {\"vantage\": 7}]}").starts_with("a.json:2:"));
        assert!(told("{}").contains("items"));
        assert!(
            told(&format!("{{\"items\": [{}", item(1, "\"result\": \"good\"", "current"))).contains("EOF")
        );
    }
}
