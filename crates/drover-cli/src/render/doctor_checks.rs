//! What `doctor` says of the control plane of Route 53: which moves need it, which don't, and whether what these depend on is there.

use super::doctor::{Check, Mark, check};
use crate::offline::{DnsAnswer, PageAnswer};
use crate::output::words::{count, list};
use drover_model::api::{HealthChecksView, RegionChecks, RegionStanding, StatusView};
use std::collections::BTreeSet;

/// More services than these are counted, not named.
const NAMED_MAX: usize = 8;

/// Records of Route 53 can be changed by its API alone, which stands in one region.
pub(super) fn control_plane(
    view: &StatusView,
    answers: &[DnsAnswer],
    pages: &[PageAnswer],
    checks: &mut Vec<Check>,
) {
    let names: BTreeSet<&str> =
        answers.iter().filter(|a| a.is_unversioned).map(|a| a.service.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let moved = named(&names);
    let Some(health) = &view.health_checks else {
        let finding = format!("moving {moved} needs the API of Route 53 in us-east-1");
        checks.push(check(Mark::Ok, "DNS control plane", finding));
        return;
    };
    for region in &health.regions {
        checks.push(leaving(view, health, region, pages));
        checks.extend(pages.iter().filter_map(|page| lying(region, page)));
    }
    let finding = format!(
        "moving one service, other shares, and the way back of {moved} need the API of Route 53 in us-east-1, whatever health checks there are"
    );
    checks.push(check(Mark::Ok, "DNS control plane", finding));
}

/// Can the region be left without it?
fn leaving(
    view: &StatusView,
    health: &HealthChecksView,
    region: &RegionChecks,
    pages: &[PageAnswer],
) -> Check {
    let there = |s: &&drover_model::api::ServiceView| s.endpoints.iter().any(|e| e.region == region.region);
    let names: BTreeSet<&str> = view.services.iter().filter(there).map(|s| s.name.as_str()).collect();
    let what = format!("leaving {}", region.region);
    let needed = health.needed as usize;
    let asked = |url: &str| pages.iter().find(|page| page.url == url);
    let answer = region.pages.iter().filter(|p| asked(&p.url).is_some_and(|a| a.said.is_ok())).count();
    let silent: Vec<String> = region
        .pages
        .iter()
        .filter_map(|p| asked(&p.url)?.said.as_ref().err().map(|why| format!("{} ({why})", p.agent)))
        .collect();
    let but =
        if silent.is_empty() { String::new() } else { format!("; not from here: {}", silent.join(", ")) };
    let numbers = format!(
        "{answer} of {} status servers outside of it answer, {needed} needed{but}",
        region.pages.len()
    );
    let needs_api = |why: &str| {
        let finding = format!("of {} needs the API of Route 53 in us-east-1: {why}", named(&names));
        check(Mark::Warn, &what, finding).then("drover dns checks")
    };
    if region.pages.len() < needed {
        return needs_api(&format!("{} status server(s) outside of it, {needed} needed", region.pages.len()));
    }
    if !health.is_followed(&region.region) {
        return needs_api("its health checks are not in line");
    }
    if answer < needed {
        return needs_api(&numbers);
    }
    let mark = if silent.is_empty() { Mark::Ok } else { Mark::Warn };
    check(mark, &what, format!("of {} works by health checks, without us-east-1: {numbers}", named(&names)))
}

/// A page that declares what drover does not.
fn lying(region: &RegionChecks, page: &PageAnswer) -> Option<Check> {
    let of_region = region.pages.iter().find(|p| p.url == page.url)?;
    let is_wrong =
        page.said == Ok(true) && region.standing == RegionStanding::InService && of_region.has_newest;
    is_wrong.then(|| {
        let finding = format!("{} declares {} out of service, and drover does not", page.url, region.region);
        check(Mark::Bad, format!("status server {}", of_region.agent), finding)
            .then("who answers there? drover dns checks")
    })
}

fn named(names: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = names.iter().copied().collect();
    if names.len() > NAMED_MAX { count(names.len(), "service") } else { list(&names) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture::look;
    use crate::render::dns_checks::tests::fixture;
    use crate::render::{doctor, fixture as views};

    fn diagnosed(health: HealthChecksView, said: &[Result<bool, String>]) -> Vec<Check> {
        let mut view = views::well();
        let urls: Vec<String> = health.regions[0].pages.iter().map(|p| p.url.clone()).collect();
        view.health_checks = Some(health);
        let answers = [DnsAnswer {
            instance: view.dns[0].instance.clone(),
            service: view.services[0].name.to_string(),
            name: view.services[0].dns_name.clone(),
            generation: None,
            is_unversioned: true,
            values: vec!["192.0.2.1".into()],
            ttl_seconds: 30,
            error: None,
        }];
        let pages: Vec<PageAnswer> =
            urls.into_iter().zip(said).map(|(url, said)| PageAnswer { url, said: said.clone() }).collect();
        doctor::diagnose(&view, &answers, &pages, "0.1.0", &look(200)).checks
    }

    #[track_caller]
    fn leaving_is(checks: &[Check], mark: Mark, words: &str) {
        let found = checks.iter().find(|c| c.what == "leaving eu-west").unwrap();
        assert!(found.mark == mark && found.finding.contains(words), "{found:?}");
    }

    #[test]
    fn what_can_be_left_without_the_control_plane_is_told_and_why_not() {
        let (in_service, dead) = (Ok(false), Err("connection refused".to_owned()));
        let well = diagnosed(fixture(), &[in_service.clone(), in_service.clone()]);
        leaving_is(&well, Mark::Ok, "works by health checks, without us-east-1: 2 of 2");
        assert!(well.iter().any(|c| c.what == "DNS control plane" && c.finding.contains("way back")));
        let one = diagnosed(fixture(), &[in_service.clone(), dead]);
        leaving_is(&one, Mark::Warn, "not from here: witness-1 (connection refused)");
        let mut few = fixture();
        few.regions[0].pages.truncate(1);
        leaving_is(
            &diagnosed(few, std::slice::from_ref(&in_service)),
            Mark::Warn,
            "1 status server(s) outside of it, 2 needed",
        );
        let mut changed = fixture();
        changed.checks[0].state = drover_model::api::CheckState::ChangedByHand;
        leaving_is(&diagnosed(changed, &[in_service.clone(), in_service.clone()]), Mark::Warn, "not in line");
        let lies = diagnosed(fixture(), &[Ok(true), in_service]);
        assert!(lies.iter().any(|c| c.mark == Mark::Bad && c.what == "status server us-east-1"), "{lies:?}");
    }
}
