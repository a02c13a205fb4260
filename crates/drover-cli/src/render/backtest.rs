//! `policy backtest`: two policies beside each other, and every move that they would have made.

use crate::output::paint::{Tone, paint};
use crate::output::words::{clock, count, list, span, whole};
use crate::output::{Look, table};
use crate::verbs::policy::{Report, Tested};
use drover_core::backtest::{Event, EventKind, Outage, OutageEnd, Rightness, Totals};
use drover_model::{Span, Timestamp};

/// Lines a policy; the rest is in `-o json`.
const LINES_MAX: usize = 60;

/// The numbers side by side, then each policy's moves and misses in the order of their times.
pub fn render(report: &Report, look: &Look) -> String {
    let Some(first) = report.policies.first() else { return String::new() };
    let mut text = format!("{}\n\n{}", over_what(first, look), numbers(report, look));
    for tested in &report.policies {
        text.push_str(&format!("\n{}\n", paint(Tone::Strong, &tested.policy)));
        text.push_str(&table::indented(&moves(tested, look), 2));
    }
    text
}

fn over_what(first: &Tested, look: &Look) -> String {
    let f = &first.findings;
    let day = |at: Option<Timestamp>| at.map_or_else(String::new, |at| clock(look, at));
    let labels = if f.labelled { "" } else { "; without labels, so that nothing is called true or false" };
    format!("{} probes from {} to {}{labels}", f.rows, day(f.from), day(f.to))
}

fn numbers(report: &Report, look: &Look) -> String {
    let mut header = vec![""];
    header.extend(report.policies.iter().map(|p| p.policy.as_str()));
    let labelled = report.policies.iter().any(|p| p.findings.labelled);
    let row = |name: &str, of: &dyn Fn(&Tested) -> String| {
        let cells = std::iter::once(name.to_owned());
        cells.chain(report.policies.iter().map(of)).collect::<Vec<String>>()
    };
    let number = |name: &str, bad: bool, of: &dyn Fn(&Totals) -> u64| {
        row(name, &|p| match of(&p.findings.totals) {
            0 => "0".to_owned(),
            n if bad => paint(Tone::Bad, n),
            n => n.to_string(),
        })
    };
    let length = |name: &str, of: &dyn Fn(&Tested) -> Option<Span>| {
        row(name, &|p| of(p).map_or_else(|| "-".to_owned(), |s| span(whole(s))))
    };
    let mut rows = vec![number("failovers", false, &|t| t.failovers)];
    if labelled {
        rows.push(number("· true: during an outage", false, &|t| t.failovers_right));
        rows.push(number("· late: just after one", true, &|t| t.failovers_late));
        rows.push(number("· false: no outage", true, &|t| t.failovers_wrong));
    }
    rows.push(number("questions to a person", false, &|t| t.questions));
    if labelled {
        rows.push(number("· during an outage", false, &|t| t.questions_right));
        rows.push(number("· just after one", true, &|t| t.questions_late));
        rows.push(number("· with no outage", true, &|t| t.questions_wrong));
        rows.push(number("outages", false, &|t| t.outages));
        rows.push(number("· moved away from", false, &|t| t.outages_moved));
        rows.push(number("· asked about only", true, &|t| t.outages_asked));
        rows.push(number("· nothing was sent there", false, &|t| t.outages_sheltered));
        rows.push(number("· missed", true, &|t| t.outages_missed));
        rows.push(length("begin to failover, median", &|p| p.delays.map(|d| d.median)));
        rows.push(length("begin to failover, longest", &|p| p.delays.map(|d| d.longest)));
        rows.push(length("outages in all", &|p| Some(p.findings.totals.outage_time)));
        rows.push(length("· still sent traffic", &|p| Some(p.findings.totals.exposed_time)));
    }
    table::table(look, &header, rows)
}

/// What is told in one line.
enum Line<'a> {
    Event(&'a Event),
    Missed(&'a Outage),
}

impl Line<'_> {
    fn at(&self) -> Timestamp {
        match self {
            Line::Event(e) => e.at,
            Line::Missed(o) => o.began_at,
        }
    }

    fn cells(&self, look: &Look) -> Vec<String> {
        let (what, place, how, then) = match self {
            Line::Event(e) => {
                let what = match e.kind {
                    EventKind::Failover => "failover",
                    EventKind::Question => "question",
                };
                let then = match (e.kind, e.back_at) {
                    (EventKind::Failover, Some(back)) => {
                        format!("back after {}", span(whole(back.since(e.at))))
                    }
                    (EventKind::Failover, None) => "not back by the end".to_owned(),
                    (EventKind::Question, _) => format!("asked: {}", e.code.replace('_', " ")),
                };
                (what.to_owned(), format!("{} ({})", e.region, list(&e.services)), rightness(e), then)
            }
            Line::Missed(o) => {
                let endpoint = &o.endpoint;
                let lasted = match o.ended_at {
                    Some(ended) => format!("outage of {}", span(whole(ended.since(o.began_at)))),
                    None => "outage that lasts".to_owned(),
                };
                let place = format!("{} ({})", endpoint.region, endpoint.service);
                ("nothing".to_owned(), place, paint(Tone::Bad, "missed"), lasted)
            }
        };
        vec![clock(look, self.at()), what, place, how, then]
    }
}

fn rightness(event: &Event) -> String {
    match event.rightness {
        Rightness::Right { delay } => format!("{} {}", paint(Tone::Good, "true,"), span(whole(delay))),
        Rightness::Late => paint(Tone::Doubtful, "late"),
        Rightness::Wrong => paint(Tone::Bad, "false"),
        Rightness::Unlabelled => "-".to_owned(),
    }
}

fn moves(tested: &Tested, look: &Look) -> String {
    let f = &tested.findings;
    let missed = f.outages.iter().filter(|o| o.end == OutageEnd::Missed).map(Line::Missed);
    let mut lines: Vec<Line<'_>> = f.events.iter().map(Line::Event).chain(missed).collect();
    if lines.is_empty() {
        return "no failover, no question\n".to_owned();
    }
    lines.sort_by_key(Line::at);
    let look_in = table::narrowed(look, 2);
    let rows = lines.iter().take(LINES_MAX).map(|line| line.cells(look)).collect();
    let mut text = table::table(&look_in, &["when", "", "where", "", ""], rows);
    let more =
        u64::try_from(lines.len().saturating_sub(LINES_MAX)).unwrap_or(u64::MAX).saturating_add(f.left_out);
    if more > 0 {
        let more = count(usize::try_from(more).unwrap_or(usize::MAX), "more line");
        text.push_str(&format!("and {more}: -o json\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture::{NOON_MILLIS, look};
    use crate::output::paint::finish;
    use drover_core::backtest::Findings;
    use drover_model::decision::FailureClass;

    fn tested(policy: &str, labelled: bool) -> Tested {
        let at = Timestamp::from_millis(NOON_MILLIS - 86_400_000);
        let minutes = Span::from_mins;
        let event = |kind, rightness, back_at| Event {
            at: at + minutes(2),
            kind,
            region: "eu-west".parse().unwrap(),
            services: vec!["checkout".parse().unwrap()],
            class: FailureClass::Region,
            code: "common_cause".into(),
            because: "2 of 3 outside vantages agree, 2 needed".into(),
            rightness,
            back_at,
        };
        let right = if labelled { Rightness::Right { delay: minutes(2) } } else { Rightness::Unlabelled };
        let outage = Outage {
            endpoint: "checkout@us-east".parse().unwrap(),
            began_at: at + minutes(9),
            ended_at: Some(at + minutes(21)),
            end: OutageEnd::Missed,
            delay: None,
            exposed: minutes(12),
        };
        let findings = Findings {
            rows: 9_460_800,
            from: Some(at),
            to: Some(at + minutes(90)),
            labelled,
            totals: Totals {
                failovers: 1,
                failovers_right: 1,
                questions: 1,
                outages: 2,
                outages_missed: 1,
                ..Totals::default()
            },
            events: vec![
                event(EventKind::Failover, right, Some(at + minutes(40))),
                event(EventKind::Question, if labelled { Rightness::Wrong } else { right }, None),
            ],
            outages: if labelled { vec![outage] } else { vec![] },
            ..Findings::default()
        };
        Tested { policy: policy.into(), version: "0".into(), delays: findings.delays(), findings }
    }

    fn text(labelled: bool, policies: &[&str]) -> String {
        let report = Report { policies: policies.iter().map(|p| tested(p, labelled)).collect() };
        finish(&render(&report, &look(100)), false)
    }

    #[test]
    fn two_policies_stand_beside_each_other() {
        insta::assert_snapshot!(text(true, &["regions", "regions with failure_threshold=5"]));
    }

    #[test]
    fn without_labels_nothing_is_called_true_or_false() {
        let told = text(false, &["regions"]);
        assert!(told.contains("without labels"), "{told}");
        assert!(!told.contains("· ") && !told.contains("missed"), "{told}");
    }
}
