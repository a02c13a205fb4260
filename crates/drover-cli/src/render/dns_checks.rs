//! `dns checks`: the health checks that records of Route 53 follow, and what the pages say that they read.

use crate::output::paint::{Tone, paint};
use crate::output::words::{list, span};
use crate::output::{Look, table};
use drover_model::api::{CheckFound, CheckState, HealthChecksView, RegionChecks, RegionStanding};

/// The regions, then every check.
pub fn render(view: &HealthChecksView, look: &Look) -> String {
    let rows = view.regions.iter().map(|r| region(view, r)).collect();
    let mut text = table::table(look, &["region", "stands", "status servers", "checks"], rows);
    text.push('\n');
    if view.checks.is_empty() {
        text.push_str("no check was read yet\n");
    } else {
        let header = ["region", "check", "id", "state"];
        text.push_str(&table::table(look, &header, view.checks.iter().map(check).collect()));
    }
    if let Some(trouble) = &view.trouble {
        let sentence = format!("they can't be read or made: {trouble}");
        text.push_str(&table::paragraph(look, &paint(Tone::Bad, sentence)));
    }
    let rule = format!(
        "{} status servers outside of a region must declare it out of service; Route 53 follows within {}",
        view.needed,
        span(view.follows_within)
    );
    text.push_str(&table::paragraph(look, &paint(Tone::Quiet, rule)));
    text
}

fn region(view: &HealthChecksView, r: &RegionChecks) -> Vec<String> {
    let stands = match r.standing {
        RegionStanding::InService => paint(Tone::Good, "in service"),
        RegionStanding::Declared => paint(Tone::Doubtful, "declared out of service"),
        RegionStanding::Withdrawing => paint(Tone::Doubtful, "in service, not heard by all"),
    };
    let waits = r.waits_for.as_ref().map(|why| format!("\n{why}")).unwrap_or_default();
    let heard = r.pages.iter().filter(|page| page.has_newest).count();
    let deaf: Vec<String> =
        r.pages.iter().filter(|page| !page.has_newest).map(|p| p.agent.to_string()).collect();
    let deaf = if deaf.is_empty() { String::new() } else { format!(", not {}", list(&deaf)) };
    let followed = if view.is_followed(&r.region) {
        paint(Tone::Good, "in line")
    } else {
        paint(Tone::Doubtful, "not in line")
    };
    vec![
        r.region.to_string(),
        format!("{stands}{waits}"),
        format!("{heard} of {} have the newest word{deaf}", r.pages.len()),
        followed,
    ]
}

fn check(c: &CheckFound) -> Vec<String> {
    let state = match c.state {
        CheckState::InLine => paint(Tone::Good, "in line"),
        CheckState::Waiting => paint(Tone::Doubtful, "waits"),
        CheckState::ChangedByHand => paint(Tone::Bad, "changed by hand"),
        CheckState::Refused => paint(Tone::Bad, "can't be made"),
    };
    let why = c.sentence.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let what = c.page.clone().unwrap_or_else(|| "what its records follow".to_owned());
    vec![c.region.clone(), what, c.id.clone().unwrap_or_else(|| "none".to_owned()), format!("{state}{why}")]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::fixture::look;
    use crate::output::paint::finish;
    use drover_model::Span;
    use drover_model::api::StatusPageView;

    /// A zone whose one region is judged by two pages.
    pub(crate) fn fixture() -> HealthChecksView {
        let page = |agent: &str, at: &str| StatusPageView {
            agent: agent.parse().unwrap(),
            at: at.parse().unwrap(),
            url: format!("http://{agent}:7412/v1/out-of-service/eu-west"),
            has_newest: true,
            behind_since: None,
        };
        let found = |page: Option<&str>, id: &str| CheckFound {
            region: "eu-west".into(),
            page: page.map(str::to_owned),
            id: Some(id.to_owned()),
            state: CheckState::InLine,
            sentence: None,
        };
        let mut view = HealthChecksView::new(2, Span::from_secs(20));
        view.regions = vec![RegionChecks {
            region: "eu-west".parse().unwrap(),
            standing: RegionStanding::InService,
            since: None,
            waits_for: None,
            pages: vec![page("us-east-1", "us-east"), page("witness-1", "witness")],
        }];
        view.checks = vec![found(None, "c0"), found(Some("http://us-east-1:7412"), "c1")];
        view
    }

    #[test]
    fn a_region_is_shown_with_who_speaks_of_it_and_each_check_with_its_state() {
        let shown = |view: &HealthChecksView| finish(&render(view, &look(200)), false);
        let mut view = fixture();
        let well = shown(&view);
        for words in ["in service", "2 of 2 have the newest word", "what its records follow", "within 20 s"] {
            assert!(well.contains(words), "{words} in {well}");
        }
        view.regions[0].standing = RegionStanding::Declared;
        view.regions[0].waits_for = Some("the records of checkout are not yet what its target wants".into());
        view.regions[0].pages[1].has_newest = false;
        view.checks[1].state = CheckState::ChangedByHand;
        view.checks[1].sentence = Some("it is disabled".into());
        view.trouble = Some("Throttling".into());
        let ill = shown(&view);
        for words in [
            "declared out of service",
            "records of checkout",
            "not witness-1",
            "not in line",
            "it is disabled",
        ] {
            assert!(ill.contains(words), "{words} in {ill}");
        }
        view.checks.clear();
        assert!(shown(&view).contains("no check was read yet"));
    }
}
