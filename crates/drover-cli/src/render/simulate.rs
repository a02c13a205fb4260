//! `simulate`: the verdicts first, then how each service came through, then what happened and where traffic went.

use crate::output::paint::{Tone, paint};
use crate::output::words::{count, span, whole};
use crate::output::{Look, table};
use crate::verbs::simulate::{ServiceOutcome, Simulated};
use drover_sim::what_if::{Share, Survival, Traffic};

/// Lines of the timeline; the rest is in `-o json`.
const LINES_MAX: usize = 60;

/// All of it.
pub fn render(simulated: &Simulated, look: &Look) -> String {
    let mut parts = vec![];
    if !simulated.verdicts.is_empty() {
        parts.push(table::hanging(look, simulated.verdicts.iter().map(verdict).collect()));
    }
    if !simulated.services.is_empty() {
        parts.push(services(simulated, look));
        parts.push(timeline(simulated, look));
        parts.push(traffic(simulated, look));
    }
    parts.join("\n")
}

fn verdict(of: &Survival) -> Vec<String> {
    let (mark, tone) = match (of.survivable, of.within_headroom) {
        (false, _) => ("✗", Tone::Bad),
        (true, false) => ("!", Tone::Doubtful),
        (true, true) => ("✓", Tone::Good),
    };
    vec![paint(tone, mark), of.sentence.clone()]
}

fn services(simulated: &Simulated, look: &Look) -> String {
    let rows = simulated.services.iter().map(|s| {
        let estimate = s.rta.map_or_else(
            || "-".to_owned(),
            |e| {
                let least_to_most = format!("{} to {}", span(whole(e.least)), span(whole(e.most)));
                if e.least == e.most {
                    span(whole(e.median))
                } else {
                    format!("{} ({least_to_most})", span(whole(e.median)))
                }
            },
        );
        vec![s.service.to_string(), came_through(s), estimate, span(s.rto)]
    });
    let title = if simulated.runs > 1 {
        format!("{}\n", count(simulated.runs as usize, "run"))
    } else {
        String::new()
    };
    format!("{title}{}", table::table(look, &["service", "", "estimated RTA", "RTO"], rows.collect()))
}

fn came_through(s: &ServiceOutcome) -> String {
    match (s.affected, s.moved) {
        (0, _) => "nobody was sent to what is lost".to_owned(),
        (affected, moved) if moved >= affected => paint(Tone::Good, "moved"),
        (_, 0) => paint(Tone::Bad, "NOT moved"),
        (affected, moved) => paint(Tone::Bad, format!("moved in {moved} of {affected}")),
    }
}

fn timeline(simulated: &Simulated, look: &Look) -> String {
    let line = |m: &drover_sim::what_if::Moment| vec![span(whole(m.at)), m.what.clone()];
    let mut rows: Vec<Vec<String>> = simulated.timeline.iter().take(LINES_MAX).map(line).collect();
    if let Some(more) = simulated.timeline.len().checked_sub(LINES_MAX).filter(|n| *n > 0) {
        rows.push(vec![String::new(), format!("… {more} more: -o json")]);
    }
    table::hanging(look, rows)
}

fn traffic(simulated: &Simulated, look: &Look) -> String {
    let regions: Vec<&str> = {
        let mut all: Vec<&str> =
            simulated.traffic.iter().flat_map(|t| &t.regions).map(|s| s.region.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let header: Vec<&str> = ["at", "service"].into_iter().chain(regions.iter().copied()).collect();
    let row = |t: &Traffic| {
        let cell = |region: &&str| {
            t.regions.iter().find(|s| s.region.as_str() == *region).map_or_else(String::new, share)
        };
        let first = [span(whole(t.at)), t.service.to_string()].into_iter();
        first.chain(regions.iter().map(cell)).collect()
    };
    table::table(look, &header, simulated.traffic.iter().map(row).collect())
}

/// Its part of a hundred, what that is, and how much of what it can serve.
fn share(share: &Share) -> String {
    let load = match (share.load, share.used_percent) {
        (Some(load), Some(used)) if share.weight > 0 => format!(" {load}, {used} % full"),
        _ => String::new(),
    };
    let text = format!("{}{load}", share.weight);
    match (share.lost, share.used_percent) {
        (true, _) if share.weight > 0 => paint(Tone::Bad, format!("{text} LOST")),
        (true, _) => paint(Tone::Quiet, format!("{text} lost")),
        (false, Some(101..)) => paint(Tone::Bad, text),
        _ => text,
    }
}
