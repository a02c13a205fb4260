//! `dns verify`: what each server answers beside what should be.

use crate::output::paint::{Tone, paint};
use crate::output::words::count;
use crate::output::{Look, table};
use crate::verbs::dns_verify::{Share, Verified};

/// A row for each record set at each server, and below what is wrong.
pub fn render(found: &[Verified], look: &Look) -> String {
    let row = |one: &Verified| {
        let split = one.values.iter().map(share).collect::<Vec<_>>().join("  ");
        vec![one.service.clone(), one.server.clone(), one.answers.to_string(), split, verdict(one)]
    };
    let header = ["service", "server", "answers", "wanted \u{2192} answered", "verdict"];
    let mut text = table::table(look, &header, found.iter().map(row).collect());
    for one in found {
        for said in one.findings.iter().chain(&one.notes) {
            text.push('\n');
            text.push_str(&table::hanging(
                look,
                vec![vec![format!("{} at {}", one.record, one.server), said.clone()]],
            ));
        }
    }
    let wrong = found.iter().filter(|one| !one.findings.is_empty()).count();
    if wrong > 0 {
        text.push('\n');
        let all = count(found.len(), "record set");
        let told = format!("{wrong} of {all} at servers are not as they should be; drover dns show");
        text.push_str(&table::paragraph(look, &told));
    }
    text
}

fn share(share: &Share) -> String {
    let name = share.region.as_ref().map_or_else(|| share.value.clone(), ToString::to_string);
    format!("{name} {:.0}\u{2192}{:.1} %", share.wanted_percent, share.answered_percent)
}

fn verdict(one: &Verified) -> String {
    match (one.findings.is_empty(), one.notes.is_empty()) {
        (false, _) => paint(Tone::Bad, "wrong"),
        (true, false) => paint(Tone::Doubtful, "not judged whole"),
        (true, true) => paint(Tone::Good, "right"),
    }
}
