//! `log`: commands, decisions and refusals.

use crate::output::words::clock;
use crate::output::{Look, table};
use drover_coordinator::audit::AuditRecord;

/// One line a record.
pub fn render(records: &[AuditRecord], look: &Look) -> String {
    if records.is_empty() {
        return "nothing was commanded or decided yet\n".to_owned();
    }
    let row = |r: &AuditRecord| {
        let reason = if r.reason.is_empty() { String::new() } else { format!(" ({})", r.reason) };
        let what = format!("{} {}{reason}", r.verb, r.subject);
        vec![r.number.to_string(), clock(look, r.at), r.by.to_string(), what, r.outcome.clone()]
    };
    table::table(look, &["", "time", "who", "what (why)", "outcome"], records.iter().map(row).collect())
}
