//! `log` and `audit`: commands, decisions and refusals.

use crate::output::paint::{Tone, paint};
use crate::output::words::clock;
use crate::output::{Look, table};
use crate::verbs::audit::Findings;
use drover_model::audit::AuditItem;

/// One line a record.
pub fn render(items: &[AuditItem], look: &Look) -> String {
    if items.is_empty() {
        return "nothing was commanded or decided yet\n".to_owned();
    }
    let row = |item: &AuditItem| {
        let r = match item {
            AuditItem::Record(record) => record,
            AuditItem::Unreadable { number, unreadable } => {
                let outcome = format!("{unreadable}; `drover audit verify`");
                let what = paint(Tone::Bad, "can't be read");
                return vec![number.to_string(), String::new(), String::new(), what, outcome];
            }
        };
        let reason = if r.reason.is_empty() { String::new() } else { format!(" ({})", r.reason) };
        let what = format!("{} {}{reason}", r.verb, r.subject);
        vec![r.number.to_string(), clock(look, r.at), r.by.to_string(), what, r.outcome.clone()]
    };
    table::table(look, &["", "time", "who", "what (why)", "outcome"], items.iter().map(row).collect())
}

/// Whether the audit is what was written, and what to keep of it.
pub fn findings(found: &Findings, look: &Look) -> String {
    if let Some(broken) = &found.broken {
        let text = format!(
            "{} {}. What comes after it was not looked at.",
            paint(Tone::Bad, "The audit is broken:"),
            broken.sentence
        );
        return table::paragraph(look, &text);
    }
    let Some((head, begins)) = found.head.as_ref().zip(found.begins) else {
        let text = match found.records {
            0 => "The audit is empty.".to_owned(),
            n => format!("None of the {n} records is chained: all are from before there was a chain."),
        };
        return table::paragraph(look, &text);
    };
    let old = match found.unchained {
        0 => String::new(),
        n => format!(" The {n} before it are older than the chain, and nothing vouches for them."),
    };
    let text = format!(
        "{} {} records, chained from number {begins} on.{old}",
        paint(Tone::Good, "The audit is whole:"),
        found.records
    );
    // Nothing wraps what is to be copied.
    format!(
        "{}\nKeep this head elsewhere: it shows later what was cut off at the end or written anew.\n  \
         drover audit verify --head {head}\n",
        table::paragraph(look, &text)
    )
}
