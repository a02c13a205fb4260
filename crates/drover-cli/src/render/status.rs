//! `status`: one screen that says first whether anything is wrong.

use super::{dataset, run, tones};
use crate::output::paint::{Tone, paint};
use crate::output::words::{ago, clock, count, left, list, span, whole};
use crate::output::{Look, table};
use drover_model::api::{Attention, EndpointView, LeadershipView, ServiceView, Severity, StatusView};
use drover_model::decision::{FailureClass, VerdictState};
use drover_model::traffic::{Load, ShareReason};

/// Codes of lines that stand in the section about what people laid down.
const LAID_DOWN: [&str; 5] = ["frozen", "frozen_lapsing", "drained", "drained_lapsing", "blocked"];
/// Characters of a configuration's version that tell two apart at a glance.
const VERSION_DIGITS: usize = 8;

/// The whole screen.
pub fn render(view: &StatusView, context: &str, all: bool, look: &Look) -> String {
    let mut text = headline(view, context, look);
    text.push('\n');
    text.push_str(&attention(view, look));
    text.push_str(&laid_down(view, look));
    if !view.services.is_empty() {
        text.push('\n');
        text.push_str(&if all { endpoints(view, look) } else { weights(view, look) });
    }
    if !view.datasets.is_empty() {
        text.push('\n');
        text.push_str(&dataset::lines(&view.datasets, look));
    }
    if all {
        text.push_str(&everything(view, look));
    }
    if !view.runs.is_empty() {
        text.push('\n');
        text.push_str(&run::list(&view.runs, look));
    }
    text
}

/// The worst severity of what is not normal.
pub fn worst(view: &StatusView) -> Option<Severity> {
    view.attention.iter().map(|a| a.severity).max()
}

fn headline(view: &StatusView, context: &str, look: &Look) -> String {
    let c = &view.coordinator;
    table::paragraph(
        look,
        &format!(
            "{} {}, {}, epoch {}, config {}, {}",
            paint(Tone::Strong, "drover"),
            c.version,
            context,
            c.epoch,
            version(&c.config_version),
            clock(look, view.at)
        ),
    )
}

/// Enough of a configuration's version.
pub fn version(version: &str) -> String {
    version.chars().take(VERSION_DIGITS).collect()
}

fn attention(view: &StatusView, look: &Look) -> String {
    let lines: Vec<&Attention> = view.attention.iter().filter(|a| !stands_below(a)).collect();
    if lines.iter().all(|a| a.severity == Severity::Info) {
        return nothing_wrong(view, &lines, look);
    }
    rows(&lines, look)
}

/// What has a section of its own on this screen.
fn stands_below(a: &Attention) -> bool {
    LAID_DOWN.contains(&a.code.as_str()) || (a.severity == Severity::Info && a.code.starts_with("run_"))
}

/// Lines of what is not normal, with the next command of each.
pub fn rows(lines: &[&Attention], look: &Look) -> String {
    let row = |a: &&Attention| {
        let since = a.since.map(|t| format!(" ({})", ago(look, t))).unwrap_or_default();
        let next = a.next.as_ref().map(|n| format!("\n{}", paint(Tone::Quiet, n))).unwrap_or_default();
        vec![tones::severity(a.severity), a.subject.clone(), format!("{}{since}{next}", a.sentence)]
    };
    table::hanging(look, lines.iter().map(row).collect())
}

/// One line that reassures, with the numbers that it rests on.
fn nothing_wrong(view: &StatusView, notes: &[&Attention], look: &Look) -> String {
    let endpoints = || view.services.iter().flat_map(|s| &s.endpoints);
    // Unknown is not down, and not well either.
    let verdict = if endpoints().any(|e| e.verdict == VerdictState::Unknown) {
        paint(Tone::Doubtful, "nothing is known to be wrong, and not all is known")
    // A drain, a pause of automatic action and a run are somebody's doing, and still not everyday.
    } else if view.attention.iter().any(stands_below) {
        paint(Tone::Doubtful, "but for what stands below, all is well")
    } else {
        paint(Tone::Good, "all is well")
    };
    let healthy = endpoints().filter(|e| e.verdict == VerdictState::Healthy).count();
    let reporting = view.vantages.iter().filter(|v| v.state.counts()).count();
    let in_line = view.dns.iter().filter(|d| d.is_in_line()).count();
    let mut text = table::paragraph(
        look,
        &format!(
            "{verdict}: {}, {}, {healthy} of {} endpoints healthy, {reporting} of {} vantages report, {in_line} of {} DNS \
             servers in line",
            count(view.regions.iter().filter(|r| !r.witness).count(), "region"),
            count(view.services.len(), "service"),
            endpoints().count(),
            view.vantages.len(),
            view.dns.len()
        ),
    );
    if !notes.is_empty() {
        text.push_str(&rows(notes, look));
    }
    text
}

/// Freezes, drains and block periods: who, why, and for how long still. In every status.
fn laid_down(view: &StatusView, look: &Look) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if let Some(f) = &view.freeze {
        let what = paint(Tone::Doubtful, "frozen");
        rows.push(vec![what, "automatic action".into(), by(&f.by, &f.reason, &left(look, f.expires_at))]);
    }
    for h in &view.holds {
        let what = format!("{} of {}", h.region, list(&h.services));
        let words = by(&h.by, &h.reason, &left(look, h.expires_at));
        rows.push(vec![paint(Tone::Doubtful, "drained"), what, words]);
    }
    for b in &view.blocks {
        let what = match b.class {
            FailureClass::Recovery => "failback".to_owned(),
            class => format!("failover for {class}"),
        };
        let words = format!("no automatic {what}, after {}, {}", b.run, left(look, Some(b.until)));
        rows.push(vec!["blocked".into(), b.service.to_string(), words]);
    }
    if rows.is_empty() { String::new() } else { format!("\n{}", table::hanging(look, rows)) }
}

fn by(who: &drover_model::traffic::Actor, why: &str, left: &str) -> String {
    let why = if why.is_empty() { "no reason given" } else { why };
    format!("by {who}: {why}; {left}")
}

fn load(service: &ServiceView) -> String {
    match service.load {
        Load::Measured { rate, .. } => rate.to_string(),
        Load::Declared { rate } => format!("{rate} declared"),
        Load::Unknown => "unknown".into(),
    }
}

/// One line a service: where its traffic goes.
fn weights(view: &StatusView, look: &Look) -> String {
    let row = |s: &ServiceView| {
        let parts: Vec<String> = s.endpoints.iter().map(weight).collect();
        let run = s.run.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
        vec![s.name.to_string(), load(s), format!("{}{run}", parts.join("  "))]
    };
    let header = ["service", "load", "weights"];
    table::table(look, &header, view.services.iter().map(row).collect())
}

/// `eu-west 34`, or `eu-west 0 of 34 down`: the verdict only when it is not healthy.
fn weight(e: &EndpointView) -> String {
    let mut text = format!("{} {}", e.region, e.weight);
    if e.weight != e.configured_weight {
        text.push_str(&format!(" of {}", e.configured_weight));
    }
    if e.verdict != VerdictState::Healthy {
        text.push(' ');
        text.push_str(&tones::verdict(e.verdict));
    }
    text
}

fn endpoints(view: &StatusView, look: &Look) -> String {
    let mut rows = Vec::new();
    for s in &view.services {
        for (i, e) in s.endpoints.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            rows.push(vec![
                first(s.name.to_string()),
                e.region.to_string(),
                tones::verdict(e.verdict),
                e.since.map(|t| ago(look, t)).unwrap_or_default(),
                if e.weight == e.configured_weight {
                    e.weight.to_string()
                } else {
                    format!("{} of {}", e.weight, e.configured_weight)
                },
                e.load.map(|l| l.to_string()).unwrap_or_default(),
                e.usable.to_string(),
                share_reason(&e.share_reason),
            ]);
        }
    }
    table::table(look, &["service", "region", "verdict", "since", "weight", "load", "usable", "why"], rows)
}

fn share_reason(reason: &ShareReason) -> String {
    match reason {
        ShareReason::Configured => String::new(),
        ShareReason::Drained { run } => format!("drained by {run}"),
        ShareReason::FailedOver { run, .. } => format!("failed over by {run}"),
        ShareReason::Returning { run, .. } => format!("returning by {run}"),
    }
}

/// What is normal, too.
fn everything(view: &StatusView, look: &Look) -> String {
    [regions(view, look), vantages(view, look), dns(view, look), coordinator(view, look)]
        .map(|section| format!("\n{section}"))
        .concat()
}

fn regions(view: &StatusView, look: &Look) -> String {
    let row = |r: &drover_model::api::RegionView| {
        let q = &r.quorum;
        let automatic = if r.witness {
            "witness".to_owned()
        } else {
            let word = if q.possible { "possible" } else { "impossible" };
            format!("{word}: {} of {} can speak, {} needed", q.able, q.configured, q.need)
        };
        let worst = if r.witness { String::new() } else { tones::verdict(r.worst) };
        vec![r.name.to_string(), r.city.clone(), worst, automatic, r.decision.clone().unwrap_or_default()]
    };
    let header = ["region", "city", "worst", "automatic failover", "decided last"];
    table::table(look, &header, view.regions.iter().map(row).collect())
}

fn vantages(view: &StatusView, look: &Look) -> String {
    let row = |v: &drover_model::api::VantageView| {
        let mut notes = Vec::new();
        for (n, what) in [(v.dropped, "dropped"), (v.late, "late"), (v.replayed, "replayed")] {
            if n > 0 {
                notes.push(format!("{n} {what}"));
            }
        }
        if v.config_version.as_ref().is_some_and(|c| *c != view.coordinator.config_version) {
            notes.push("works by another configuration".to_owned());
        }
        vec![
            v.agent.to_string(),
            v.region.to_string(),
            tones::vantage(v.state),
            v.heard_at.map_or_else(|| "never".to_owned(), |t| ago(look, t)),
            v.skew_millis.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            notes.join(", "),
        ]
    };
    let header = ["vantage", "region", "state", "heard", "clock off", "notes"];
    table::table(look, &header, view.vantages.iter().map(row).collect())
}

fn dns(view: &StatusView, look: &Look) -> String {
    let row = |d: &drover_model::api::DnsView| {
        let state = match (d.reachable, d.behind.first(), d.contradictions.first()) {
            (false, ..) => paint(Tone::Bad, "unreachable"),
            (true, Some(first), _) => format!("{} {first}", paint(Tone::Doubtful, "differs:")),
            (true, None, Some(c)) => {
                format!("{} {} for {}, seen from {}", paint(Tone::Bad, "answers"), c.found, c.name, c.from)
            }
            (true, None, None) => paint(Tone::Good, "in line"),
        };
        let state = match d.published_partial {
            0 => state,
            missed => format!(
                "{state}, {}: missed {}",
                paint(Tone::Doubtful, "published_partial"),
                count(missed as usize, "record set")
            ),
        };
        let checked = d.checked_at.map_or_else(|| "never".to_owned(), |t| ago(look, t));
        vec![d.instance.clone(), d.query.clone(), checked, state]
    };
    table::table(look, &["DNS server", "answers at", "asked", "state"], view.dns.iter().map(row).collect())
}

fn coordinator(view: &StatusView, look: &Look) -> String {
    let c = &view.coordinator;
    let up = span(whole(view.at.since(c.started_at)));
    let pages =
        if c.pages_undelivered == 0 { "no page waits".to_owned() } else { count_pages(c.pages_undelivered) };
    let who = c.leadership.as_ref().map(|l| format!(", {}", leadership(l))).unwrap_or_default();
    table::paragraph(look, &format!("coordinator up {up}, store {}, {pages}{who}", bytes(c.store_bytes)))
}

/// Who answered, and who leads.
fn leadership(l: &LeadershipView) -> String {
    let unknown = || "an address that it does not tell".to_owned();
    let me = l.answered_by.clone().unwrap_or_else(unknown);
    if l.leads {
        let follow: Vec<&str> = l.followers.iter().map(|f| f.url.as_str()).collect();
        return match follow[..] {
            [] => format!("{me} leads, nobody follows"),
            _ => format!("{me} leads, followed by {}", follow.join(", ")),
        };
    }
    if l.waits {
        return format!("{me} led and waits for the store");
    }
    match (&l.leader, l.heard) {
        (Some(leader), Some(heard)) => {
            format!("answered by {me}; {leader} leads, heard {} ago", span(whole(heard)))
        }
        (Some(leader), None) => format!("answered by {me}; {leader} led when it was seen last"),
        (None, _) => format!("answered by {me}; no leader is known"),
    }
}

fn count_pages(n: u64) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), "undelivered page")
}

/// Bytes in a unit that can be read.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = n;
    let mut unit = "B";
    for next in UNITS {
        if scaled < 10 * 1_024 {
            break;
        }
        scaled /= 1_024;
        unit = next;
    }
    format!("{scaled} {unit}")
}
