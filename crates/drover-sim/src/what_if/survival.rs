//! Whether what remains after a loss can carry the traffic: arithmetic on the configuration alone, with the core's own
//! weights and loads.

use super::percent;
use drover_core::{capacity, weights};
use drover_model::config::{Config, RegionRole, Service};
use drover_model::{Percent, RegionId, RequestsPerSecond, ServiceId, Weights};
use serde::Serialize;

/// Losses that are looked at when none is named: of this many regions every pair is still a table that is read.
const PAIRS_REGIONS_MAX: usize = 12;

/// What a loss means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survival {
    /// The regions that are gone.
    pub lost: Vec<RegionId>,
    /// Nothing is asked for more than it can serve, and every service is served.
    pub survivable: bool,
    /// Everybody keeps the headroom of the policy, so that drover may do it by itself as far as capacity goes.
    pub within_headroom: bool,
    /// The one that would carry the most of what it can.
    pub tightest: Option<Tightest>,
    /// Services with no region left that may serve them.
    pub unserved: Vec<ServiceId>,
    /// Services whose load nobody knows.
    pub unknown: Vec<ServiceId>,
    /// All of that in words.
    pub sentence: String,
}

/// The endpoint that would be the fullest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tightest {
    /// Of which service.
    pub service: ServiceId,
    /// Where.
    pub region: RegionId,
    /// What it would be asked for.
    pub load: RequestsPerSecond,
    /// What it can serve.
    pub capacity: RequestsPerSecond,
    /// The one of the other, in whole percent, rounded up.
    pub used_percent: u64,
}

/// Every loss of one region, and of two together where they are not too many.
#[must_use]
pub fn each_loss(config: &Config) -> Vec<Survival> {
    let serving = config.regions.values().filter(|r| r.role == RegionRole::Serving);
    let regions: Vec<&RegionId> =
        serving.map(|r| &r.name).filter(|r| config.services_in(r).next().is_some()).collect();
    let mut all: Vec<Survival> = regions.iter().map(|r| survival(config, &[(*r).clone()])).collect();
    if regions.len() <= PAIRS_REGIONS_MAX {
        for (n, one) in regions.iter().enumerate() {
            let pairs = regions.iter().skip(n + 1).map(|other| [(*one).clone(), (*other).clone()]);
            all.extend(pairs.map(|pair| survival(config, &pair)));
        }
    }
    all
}

/// Of the loss of these regions together.
#[must_use]
pub fn survival(config: &Config, lost: &[RegionId]) -> Survival {
    let (mut unserved, mut unknown) = (vec![], vec![]);
    let mut tightest: Option<Tightest> = None;
    let mut within_headroom = true;
    let concerned = |s: &&Service| lost.iter().any(|r| s.endpoints.contains_key(r));
    for service in config.services.values().filter(concerned) {
        let Some(after) = after(config, service, lost) else {
            unserved.push(service.name.clone());
            continue;
        };
        let Some(load) = service.peak_load else {
            unknown.push(service.name.clone());
            continue;
        };
        for (region, endpoint) in service.endpoints.iter().filter(|(r, _)| !lost.contains(r)) {
            let asked = capacity::projected(load, after.of(region));
            within_headroom &= asked <= capacity::usable(service, region);
            let used_percent = percent(asked, endpoint.capacity);
            if tightest.as_ref().is_none_or(|t| used_percent > t.used_percent) {
                let (service, region, capacity) = (service.name.clone(), region.clone(), endpoint.capacity);
                tightest = Some(Tightest { service, region, load: asked, capacity, used_percent });
            }
        }
    }
    let fits = tightest.as_ref().is_none_or(|t| t.load <= t.capacity);
    let survivable = fits && unserved.is_empty() && unknown.is_empty();
    let within_headroom = within_headroom && survivable;
    let mut found = Survival {
        lost: lost.to_vec(),
        survivable,
        within_headroom,
        tightest,
        unserved,
        unknown,
        sentence: String::new(),
    };
    found.sentence = sentence(&found);
    found
}

/// The weights once all of `lost` have been left; nothing when nobody may serve it then.
fn after(config: &Config, service: &Service, lost: &[RegionId]) -> Option<Weights> {
    let remains = |r: &RegionId| !lost.contains(r);
    if service.failover.jurisdictions.is_empty() {
        let full = service.endpoints.keys().filter(|r| remains(r)).map(|r| (r.clone(), Percent::FULL));
        return weights::published(service, &full.collect()).ok();
    }
    // Traffic stays where it is, and only regions of these jurisdictions take more.
    let allowed = |r: &RegionId| {
        let lies_in = config.regions.get(r).map(|region| &region.location.jurisdiction);
        lies_in.is_some_and(|j| service.failover.jurisdictions.contains(j))
    };
    let mut now = weights::configured(service);
    for region in lost {
        if now.of(region).0 == 0 {
            continue;
        }
        let takers = now.iter().filter(|(r, _)| remains(r) && allowed(r));
        let takers: Weights = takers.map(|(r, w)| (r.clone(), *w)).collect();
        now = weights::moved(service, &now, region, &takers).ok()?;
    }
    Some(now)
}

fn names<T: ToString>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    match all.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn sentence(of: &Survival) -> String {
    let together = if of.lost.len() > 1 { " together" } else { "" };
    let losing = format!("losing {}{together}", names(&of.lost));
    if !of.unserved.is_empty() {
        return format!(
            "{losing} is not survivable: no region is left that may serve {}",
            names(&of.unserved)
        );
    }
    let fullest = of.tightest.as_ref();
    let carries = |t: &Tightest| {
        format!("{} would carry {} % of what it can of {}", t.region, t.used_percent, t.service)
    };
    match fullest {
        Some(t) if t.load > t.capacity => format!("{losing} is not survivable: {}", carries(t)),
        _ if !of.unknown.is_empty() => {
            format!("nobody can say whether {losing} is survivable: {} has no peak_load", names(&of.unknown))
        }
        Some(t) if !of.within_headroom => {
            format!(
                "{losing} is survivable if a person says so: {}, into the headroom that drover keeps",
                carries(t)
            )
        }
        Some(t) => format!("{losing} is survivable: at most, {}", carries(t)),
        None => format!("{losing} is survivable: nothing is served there"),
    }
}
