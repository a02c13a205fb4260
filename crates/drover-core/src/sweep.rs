//! Everything that stands for endpoints, walked in its order.
//!
//! Configuration, verdicts and the like are kept by service and then by region. A look-up for each endpoint of a large
//! world costs many times what reading one after the other does.

use drover_model::config::Service;
use drover_model::plan::{StandingVerdict, World};
use drover_model::{EndpointKey, RegionId};
use std::collections::BTreeMap;

/// Each region of `service`, with what `map` has for its endpoint there.
pub fn of_service<'a, V>(
    map: &'a BTreeMap<EndpointKey, V>,
    service: &'a Service,
) -> impl Iterator<Item = (&'a RegionId, Option<&'a V>)> {
    let first = service.endpoints.keys().next().map(|region| EndpointKey::new(&service.name, region));
    let own = first.map(|first| map.range(first..)).into_iter().flatten();
    let own = own.take_while(|(key, _)| key.service == service.name).map(|(key, value)| (&key.region, value));
    drover_model::beside(service.endpoints.keys(), own)
}

/// Every configured endpoint, with what stands for it.
pub(crate) fn everything(
    world: &World,
) -> impl Iterator<Item = (&Service, &RegionId, Option<&StandingVerdict>)> {
    let mut held = world.verdicts.iter().peekable();
    let endpoints = world.config.services.values().flat_map(|s| s.endpoints.keys().map(move |r| (s, r)));
    endpoints.map(move |(service, region)| {
        let place = (&service.name, region);
        while held.next_if(|(key, _)| (&key.service, &key.region) < place).is_some() {}
        let standing = held.next_if(|(key, _)| (&key.service, &key.region) == place);
        (service, region, standing.map(|(_, standing)| standing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, endpoint};

    #[test]
    fn each_endpoint_comes_with_what_a_look_up_finds() {
        let mut world = Fixture::three_regions_and_witness().world();
        let all: Vec<EndpointKey> = world.verdicts.keys().cloned().collect();
        // One that is not known yet, and one that is not configured any more.
        world.verdicts.remove(&all[1]);
        let gone = world.verdicts[&all[0]].clone();
        world.verdicts.insert(endpoint("aaa@eu-west"), gone);
        let looked_up = |s: &Service, r: &RegionId| world.verdicts.get(&EndpointKey::new(&s.name, r));
        let mut found = 0;
        for (service, region, standing) in everything(&world) {
            assert_eq!(standing, looked_up(service, region), "{}@{region}", service.name);
            found += 1;
        }
        assert_eq!(found, all.len());
        for service in world.config.services.values() {
            let regions: Vec<_> = of_service(&world.verdicts, service).collect();
            assert_eq!(regions.len(), service.endpoints.len());
            assert!(
                regions.iter().all(|(r, standing)| *standing == looked_up(service, r)),
                "{}",
                service.name
            );
        }
    }
}
