//! A history as CSV: one probe a row, read one after the other and never kept.

use super::bounded::Bounded;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use csv::ByteRecord;
use drover_core::backtest::{Label, Row};
use drover_model::config::diagnostic::{Diagnostic, suggest};
use drover_model::probe::FailureKind;
use drover_model::{AgentId, EndpointKey, Span, Timestamp};
use std::collections::BTreeMap;
use std::io::Read;
use std::str::FromStr;

/// Rows of one history, at most: twenty years of a world of three regions, or a year of one with sixty.
pub const ROWS_MAX: u64 = 200_000_000;
/// Different vantages, and different endpoints, of one history, at most: as many as a large world has.
const NAMES_MAX: usize = 100_000;
/// Longer than any answer that a probe waits for: an hour.
const LATENCY_MILLIS_MAX: f64 = 3_600_000.0;

const REQUIRED: [&str; 5] = ["time", "vantage", "service", "region", "outcome"];
const OPTIONAL: [&str; 3] = ["latency_ms", "self_check", "label"];
const UNQUOTED: &str = "write every field without quotes";

/// Every way in which a probe fails, by its word.
pub const FAILURES: [(&str, FailureKind); 11] = [
    ("resolve", FailureKind::Resolve),
    ("refused", FailureKind::Refused),
    ("unreachable", FailureKind::Unreachable),
    ("timed_out", FailureKind::TimedOut),
    ("reset", FailureKind::Reset),
    ("tls", FailureKind::Tls),
    ("protocol", FailureKind::Protocol),
    ("status", FailureKind::Status),
    ("body", FailureKind::Body),
    ("too_slow", FailureKind::TooSlow),
    ("local", FailureKind::Local),
];

/// Where the columns are.
struct Columns {
    required: [usize; 5],
    latency: Option<usize>,
    self_check: Option<usize>,
    label: Option<usize>,
}

/// A field that is not what its column holds.
struct Wrong {
    field: usize,
    message: String,
    suggestion: Option<String>,
}

impl Wrong {
    fn new(field: usize, message: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self { field, message: message.into(), suggestion: Some(suggestion.into()) }
    }
}

/// Names that were read before: each is checked once, and shared from then on.
#[derive(Default)]
struct Names {
    vantages: BTreeMap<Vec<u8>, AgentId>,
    endpoints: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, EndpointKey>>,
    known: usize,
}

/// Reads a whole table and gives each row away. `last` is the time of the row before the first.
///
/// # Errors
/// At the first field that is wrong, with its line and column; when it can't be read, or is longer than [`ROWS_MAX`].
pub fn read(
    file: &str,
    input: impl Read,
    last: &mut Option<Timestamp>,
    rows: &mut u64,
    take: &mut dyn FnMut(&Row),
) -> Result<()> {
    // No name needs quotes, and one that is not closed would make one field of all that follows.
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.quoting(false).buffer_capacity(1 << 16).from_reader(Bounded::new(input));
    let failed = |e: &csv::Error| unreadable(file, e);
    let header = reader.byte_headers().map_err(|e| failed(&e))?.clone();
    let columns = Columns::of(&header).map_err(|wrong| refused(file, 1, &header, &wrong))?;
    let (mut names, mut record) = (Names::default(), ByteRecord::new());
    while reader.read_byte_record(&mut record).map_err(|e| failed(&e))? {
        let line = record.position().map_or(0, csv::Position::line);
        *rows += 1;
        if *rows > ROWS_MAX {
            return Err(Failure::usage(format!("{file}:{line}: more than {ROWS_MAX} rows"))
                .hint("test the policy on a part of it: split -l 1000000"));
        }
        let row = columns.row(&record, &mut names).and_then(|row| in_order(row, *last, &columns));
        let row = row.map_err(|wrong| refused(file, line, &record, &wrong))?;
        *last = Some(row.at);
        take(&row);
    }
    Ok(())
}

fn in_order(row: Row, last: Option<Timestamp>, columns: &Columns) -> std::result::Result<Row, Wrong> {
    match last.filter(|last| row.at < *last) {
        None => Ok(row),
        Some(last) => Err(Wrong::new(
            columns.required[0],
            format!("this is before the row above it, of {last}"),
            "sort the rows by their time, below the header: (head -1 F; tail -n +2 F | sort) > G",
        )),
    }
}

impl Columns {
    fn of(header: &ByteRecord) -> std::result::Result<Self, Wrong> {
        let all = || REQUIRED.into_iter().chain(OPTIONAL);
        for (field, name) in header.iter().enumerate() {
            let name = String::from_utf8_lossy(name);
            if !all().any(|known| known == name) {
                let is_quoted = name.contains('"');
                let suggestion = if is_quoted { Some(UNQUOTED.to_owned()) } else { suggest(&name, all()) };
                return Err(Wrong { field, message: format!("there is no column `{name}`"), suggestion });
            }
            if header.iter().take(field).any(|before| before == name.as_bytes()) {
                return Err(Wrong::new(
                    field,
                    format!("the column `{name}` is there twice"),
                    "leave one out",
                ));
            }
        }
        let find = |name: &str| header.iter().position(|h| h == name.as_bytes());
        let mut required = [0; 5];
        for (at, name) in required.iter_mut().zip(REQUIRED) {
            *at = find(name).ok_or_else(|| {
                let first = format!("the first line names the columns, at least {}", REQUIRED.join(","));
                Wrong::new(0, format!("the column `{name}` is missing"), first)
            })?;
        }
        let [latency, self_check, label] = OPTIONAL.map(find);
        Ok(Self { required, latency, self_check, label })
    }

    fn row(&self, record: &ByteRecord, names: &mut Names) -> std::result::Result<Row, Wrong> {
        let [time, vantage, service, region, outcome] = self.required;
        let at = parsed(record, time, "write RFC 3339, such as 2026-01-01T00:00:30Z")?;
        let failure = match field(record, outcome) {
            b"good" => None,
            word => {
                let kind = FAILURES.iter().find(|(known, _)| known.as_bytes() == word);
                let (_, kind) = kind.ok_or_else(|| {
                    let word = String::from_utf8_lossy(word);
                    let known = std::iter::once("good").chain(FAILURES.iter().map(|(known, _)| *known));
                    let suggestion = suggest(&word, known);
                    Wrong { field: outcome, message: format!("`{word}` is no outcome"), suggestion }
                })?;
                Some(*kind)
            }
        };
        let one_of = |at: Option<usize>, words: [&str; 2]| match at.map(|at| (at, field(record, at))) {
            None | Some((_, b"")) => Ok(None),
            Some((_, word)) if word == words[0].as_bytes() => Ok(Some(false)),
            Some((_, word)) if word == words[1].as_bytes() => Ok(Some(true)),
            Some((at, word)) => Err(Wrong::new(
                at,
                format!("`{}` is neither `{}` nor `{}`", String::from_utf8_lossy(word), words[0], words[1]),
                "leave it empty where it is not known",
            )),
        };
        let label = one_of(self.label, ["fine", "outage"])?;
        Ok(Row {
            at,
            age: Span::ZERO,
            vantage: names.vantage(record, vantage)?,
            endpoint: names.endpoint(record, service, region)?,
            failure,
            latency: self.latency.map(|at| latency(record, at)).transpose()?.flatten(),
            blind: one_of(self.self_check, ["ok", "blind"])? == Some(true),
            label: label.map(|out| if out { Label::Outage } else { Label::Fine }),
        })
    }
}

fn field(record: &ByteRecord, at: usize) -> &[u8] {
    record.get(at).unwrap_or_default()
}

fn parsed<T: FromStr>(record: &ByteRecord, at: usize, how: &str) -> std::result::Result<T, Wrong>
where
    T::Err: std::fmt::Display,
{
    let text = std::str::from_utf8(field(record, at)).map_err(|_| Wrong::new(at, "this is no text", how))?;
    text.parse().map_err(|e: T::Err| Wrong::new(at, e.to_string(), how))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between zero and an hour.
fn latency(record: &ByteRecord, at: usize) -> std::result::Result<Option<Span>, Wrong> {
    const HOW: &str = "write milliseconds, such as 42 or 41.7, or leave it empty";
    if field(record, at).is_empty() {
        return Ok(None);
    }
    let millis: f64 = parsed(record, at, HOW)?;
    if !(0.0..=LATENCY_MILLIS_MAX).contains(&millis) {
        return Err(Wrong::new(at, format!("a latency lies between 0 and {LATENCY_MILLIS_MAX} ms"), HOW));
    }
    // Upwards: what is longer than a limit by a fraction is longer.
    Ok(Some(Span::from_millis(millis.ceil() as u64)))
}

impl Names {
    fn vantage(&mut self, record: &ByteRecord, at: usize) -> std::result::Result<AgentId, Wrong> {
        if let Some(known) = self.vantages.get(field(record, at)) {
            return Ok(known.clone());
        }
        let new: AgentId = parsed(record, at, "write the agent's name, as its region's file has it")?;
        self.one_more(at)?;
        self.vantages.insert(field(record, at).to_vec(), new.clone());
        Ok(new)
    }

    fn endpoint(
        &mut self,
        record: &ByteRecord,
        service: usize,
        region: usize,
    ) -> std::result::Result<EndpointKey, Wrong> {
        let of_service = self.endpoints.get(field(record, service));
        if let Some(known) = of_service.and_then(|s| s.get(field(record, region))) {
            return Ok(known.clone());
        }
        let new = EndpointKey::new(
            &parsed(record, service, "write the service's name")?,
            &parsed(record, region, "write the region's name")?,
        );
        self.one_more(service)?;
        let of_service = self.endpoints.entry(field(record, service).to_vec()).or_default();
        of_service.insert(field(record, region).to_vec(), new.clone());
        Ok(new)
    }

    fn one_more(&mut self, at: usize) -> std::result::Result<(), Wrong> {
        self.known += 1;
        if self.known <= NAMES_MAX {
            return Ok(());
        }
        Err(Wrong::new(at, format!("more than {NAMES_MAX} different names"), "test a part of it"))
    }
}

/// The finding, with the line as it can be read again.
fn refused(file: &str, line: u64, record: &ByteRecord, wrong: &Wrong) -> Failure {
    let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    let before: String = fields.iter().take(wrong.field).map(|f| format!("{f},")).collect();
    let mut failure = Failure::usage("the history can't be replayed");
    failure.diagnostics.push(Diagnostic {
        file: file.to_owned(),
        line: usize::try_from(line).unwrap_or(usize::MAX),
        column: before.chars().count() + 1,
        offset: before.len(),
        length: fields.get(wrong.field).map_or(1, |f| f.len().max(1)),
        source_line: fields.join(","),
        message: wrong.message.clone(),
        suggestion: wrong.suggestion.clone(),
    });
    failure.hint("mend it there, or write one to compare with: drover policy history --days 1")
}

fn unreadable(file: &str, e: &csv::Error) -> Failure {
    let place = e.position().map_or_else(|| file.to_owned(), |p| format!("{file}:{}", p.line()));
    let failure = match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Failure::usage(format!(
            "{place}: this row has {len} fields, and the first line names {expected_len}"
        )),
        csv::ErrorKind::Io(e) => Failure::because(ExitCode::Usage, format!("can't read {place}"), e),
        _ => Failure::because(ExitCode::Usage, format!("can't read {place}"), e),
    };
    failure.hint("a history is a CSV file: drover policy history --days 1 writes one to compare with")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "time,vantage,service,region,outcome,latency_ms,self_check,label";
    const GOOD: &str = "2026-01-01T00:00:00Z,eu-west-1,checkout,eu-west,good,12.2,ok,fine";

    fn rows(text: &str) -> Result<Vec<Row>> {
        let mut all = Vec::new();
        read("h.csv", text.as_bytes(), &mut None, &mut 0, &mut |row| all.push(row.clone()))?;
        Ok(all)
    }

    fn told(text: &str) -> String {
        let failure = rows(text).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.hint.is_some(), "{failure:?}");
        failure.diagnostics.first().map_or_else(
            || {
                std::iter::once(failure.message.clone())
                    .chain(failure.causes.clone())
                    .collect::<Vec<_>>()
                    .join(": ")
            },
            ToString::to_string,
        )
    }

    #[test]
    fn a_row_is_read_whatever_the_order_of_its_columns() {
        let all = rows(&format!(
            "{HEADER}\n{GOOD}\n2026-01-01T00:00:30Z,x,checkout,eu-west,timed_out,,blind,outage\n"
        ));
        let all = all.unwrap();
        assert_eq!(
            (all[0].failure, all[0].latency, all[0].blind),
            (None, Some(Span::from_millis(13)), false)
        );
        assert_eq!(all[0].label, Some(Label::Fine));
        let kinds = (all[1].failure, all[1].latency, all[1].blind, all[1].label);
        assert_eq!(kinds, (Some(FailureKind::TimedOut), None, true, Some(Label::Outage)));
        let least = rows("outcome,region,service,vantage,time\ngood,r,s,v,2026-01-01T00:00:00Z\n").unwrap();
        assert_eq!((least[0].endpoint.to_string().as_str(), least[0].label), ("s@r", None));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
        let row = |line: &str| format!("{HEADER}\n{GOOD}\n{line}\n");
        let table = [
            (row("yesterday,a,b,c,good,,,"), "h.csv:3:1: `yesterday` is not an RFC 3339 time"),
            (row("2026-01-01T00:00:30Z,A_b,c,d,good,,,"), "h.csv:3:22: `A_b` may hold only"),
            (row("2026-01-01T00:00:30Z,a,,d,good,,,"), "h.csv:3:24: a name must not be empty"),
            (
                row("2026-01-01T00:00:30Z,a,c,d,timedout,,,"),
                "h.csv:3:28: `timedout` is no outcome (did you mean `timed_out`?)",
            ),
            (row("2026-01-01T00:00:30Z,a,c,d,good,-1,,"), "h.csv:3:33: a latency lies between"),
            (row("2026-01-01T00:00:30Z,a,c,d,good,fast,,"), "h.csv:3:33: invalid float"),
            (
                row("2026-01-01T00:00:30Z,a,c,d,good,,asleep,"),
                "h.csv:3:34: `asleep` is neither `ok` nor `blind`",
            ),
            (
                row("2026-01-01T00:00:30Z,a,c,d,good,,,down"),
                "h.csv:3:35: `down` is neither `fine` nor `outage`",
            ),
            (row("2025-12-31T23:59:59Z,a,c,d,good,,,"), "h.csv:3:1: this is before the row above it"),
            (row("2026-01-01T00:00:30Z,a,c"), "h.csv:3: this row has 3 fields, and the first line names 8"),
            (
                HEADER.replace("label", "lable"),
                "h.csv:1:59: there is no column `lable` (did you mean `label`?)",
            ),
            (HEADER.replace("label", "time"), "h.csv:1:59: the column `time` is there twice"),
            ("time,vantage\n".into(), "h.csv:1:1: the column `service` is missing"),
            (String::new(), "h.csv:1:1: the column `time` is missing"),
            ("x".repeat(1 << 17), "can't read h.csv: a line has more than 65536 bytes"),
        ];
        for (text, expected) in table {
            let told = told(&text);
            assert!(told.starts_with(expected), "{told}\n{expected}");
        }
    }

    #[test]
    fn a_quote_is_a_letter_that_no_name_has_and_keeps_no_row_from_being_read() {
        let wrong = format!("{HEADER}\n2026-01-01T00:00:30Z,\"a,c,d,good,,,\n");
        // Whatever follows: it is not read for the end of the quote.
        let endless = format!("{GOOD}\n").repeat(1 << 12);
        let told_of = told(&format!("{wrong}{endless}"));
        assert!(told_of.starts_with("h.csv:2:22: `\"a` may hold only"), "{told_of}");
        let header = told(&format!("{}\n", HEADER.replace("time", "\"time\"")));
        let expected = "h.csv:1:1: there is no column `\"time\"` (write every field without quotes)";
        assert_eq!(header, expected);
    }
}
