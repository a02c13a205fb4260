//! Which services an intent is about.

use super::report::Report;
use drover_model::config::{RegionRole, Service};
use drover_model::plan::{Intent, World};
use drover_model::reason::Reason;
use std::collections::BTreeSet;

/// The services of `intent`, most important first; every name that means nothing is reported with those that do.
pub(super) fn services<'w>(world: &'w World, intent: &Intent, report: &mut Report) -> Vec<&'w Service> {
    if !region_serves(world, intent, report) {
        return vec![];
    }
    let mut found: Vec<&Service> = if intent.services.is_empty() {
        world.config.services.values().filter(|s| s.endpoints.contains_key(&intent.region)).collect()
    } else {
        named(world, intent, report)
    };
    if found.is_empty() && !report.impossible {
        let what = format!("service in region `{}`", intent.region);
        cov_mark::hit!(scope_region_is_empty);
        report.refuse("scope", Reason::NotFound { what, known: serving_regions(world) });
    }
    found.sort_by(|a, b| a.priority.cmp(&b.priority).then(a.name.cmp(&b.name)));
    found
}

fn region_serves(world: &World, intent: &Intent, report: &mut Report) -> bool {
    let what = match world.config.regions.get(&intent.region) {
        None => format!("region `{}`", intent.region),
        Some(region) if region.role == RegionRole::Witness => {
            format!("traffic in `{}`, which is a witness region", intent.region)
        }
        Some(_) => return true,
    };
    cov_mark::hit!(scope_unknown_region);
    report.refuse("scope", Reason::NotFound { what, known: serving_regions(world) });
    false
}

fn named<'w>(world: &'w World, intent: &Intent, report: &mut Report) -> Vec<&'w Service> {
    let mut found = vec![];
    for name in intent.services.iter().collect::<BTreeSet<_>>() {
        match world.config.services.get(name) {
            Some(service) if service.endpoints.contains_key(&intent.region) => found.push(service),
            Some(service) => {
                cov_mark::hit!(scope_not_in_region);
                let what = format!("endpoint of `{name}` in `{}`", intent.region);
                let known = service.endpoints.keys().map(ToString::to_string).collect();
                report.refuse("scope", Reason::NotFound { what, known });
            }
            None => {
                cov_mark::hit!(scope_unknown_service);
                let known = world.config.services.keys().map(ToString::to_string).collect();
                report.refuse("scope", Reason::NotFound { what: format!("service `{name}`"), known });
            }
        }
    }
    found
}

fn serving_regions(world: &World) -> Vec<String> {
    let serving = |r: &&drover_model::config::Region| r.role == RegionRole::Serving;
    world.config.regions.values().filter(serving).map(|r| r.name.to_string()).collect()
}
