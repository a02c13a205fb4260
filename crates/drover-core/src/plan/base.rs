//! What a plan was made from: the versions of just the objects that it read (I9). One counter for the whole world would
//! let any unrelated change void an approval; reading less than was used would let a related one slip through.

use super::moves::Move;
use drover_model::plan::{Intent, LoadedRunbook, Plan, ReadSet, World};
use drover_model::reason::Reason;
use drover_model::{RegionId, ServiceId};

/// Written where an object is not there.
const ABSENT: &str = "absent";

/// The versions read by a plan of `moves`.
pub(super) fn of(world: &World, intent: &Intent, runbook: &LoadedRunbook, moves: &[Move<'_>]) -> ReadSet {
    // Gathered and then sorted: most of it ascends already.
    let mut base = vec![];
    let mut read = |key: String, version: Option<String>| {
        base.push((key, version.unwrap_or_else(|| ABSENT.to_owned())));
    };
    let key = format!("runbook/{}", runbook.runbook.name);
    let version = version_now(world, intent, &key);
    read(key, Some(version));
    if intent.automatic {
        read("freeze".to_owned(), Some(version_now(world, intent, "freeze")));
    }
    for Move { service, .. } in moves {
        read(format!("config/service/{}", service.name), world.service_version(&service.name));
    }
    for Move { service, state, .. } in moves {
        read(format!("traffic/{}", service.name), Some(state.generation.to_string()));
    }
    for found in moves.iter().filter(|m| !m.service.failover.jurisdictions.is_empty()) {
        for region in found.takers() {
            read(format!("config/region/{region}/jurisdiction"), jurisdiction(world, region));
        }
    }
    base.into_iter().collect()
}

fn jurisdiction(world: &World, region: &RegionId) -> Option<String> {
    world.config.regions.get(region).map(|region| region.location.jurisdiction.clone())
}

/// The version of the object under `key` as it is now.
fn version_now(world: &World, intent: &Intent, key: &str) -> String {
    let found = match key.split('/').collect::<Vec<_>>().as_slice() {
        ["freeze"] => world.freeze.as_ref().map(|f| format!("by {} since {}", f.by, f.since)),
        ["runbook", name] => {
            world.runbooks.get(&intent.purpose).filter(|l| l.runbook.name == *name).map(|l| l.version.clone())
        }
        ["config", "service", name] => {
            ServiceId::new(*name).ok().and_then(|service| world.service_version(&service))
        }
        ["traffic", name] => ServiceId::new(*name)
            .ok()
            .and_then(|service| world.traffic.get(&service))
            .map(|state| state.generation.to_string()),
        ["config", "region", name, "jurisdiction"] => {
            RegionId::new(*name).ok().and_then(|region| jurisdiction(world, &region))
        }
        _ => None,
    };
    found.unwrap_or_else(|| ABSENT.to_owned())
}

/// What moved in the world since `plan` was made: one reason for each object that has another version now. Empty means
/// that the plan may start.
#[must_use]
pub fn stale(plan: &Plan, world: &World) -> Vec<Reason> {
    let moved = plan.base.iter().filter_map(|(object, planned)| {
        let now = version_now(world, &plan.intent, object);
        (now != *planned).then(|| {
            cov_mark::hit!(i9_stale_plan);
            let (plan, object, planned) = (plan.id.clone(), object.clone(), planned.clone());
            Reason::StalePlan { plan, object, planned, now }
        })
    });
    moved.collect()
}
