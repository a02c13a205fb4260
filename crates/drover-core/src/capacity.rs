//! Capacity: would the regions that take traffic carry it (I7)?
//!
//! Load follows weight: a region with weight 40 is asked for 40 % of the service's load. What a region may carry is
//! its declared capacity less the policy's headroom, which is what absorbs the error of that assumption (resolvers
//! cache, clients differ). A load that nobody knows is not zero load; it is a reason to ask.

use drover_model::config::Service;
use drover_model::plan::World;
use drover_model::reason::Reason;
use drover_model::traffic::Load;
use drover_model::units::WEIGHT_SUM;
use drover_model::{Percent, RegionId, RequestsPerSecond, Weight, Weights};

/// One region's load beside what it may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityRow {
    /// The region.
    pub region: RegionId,
    /// Load by weight, rounded up.
    pub projected: RequestsPerSecond,
    /// What the endpoint can serve.
    pub capacity: RequestsPerSecond,
    /// What it may carry, headroom taken off, rounded down.
    pub usable: RequestsPerSecond,
    /// `projected` is not above `usable`.
    pub fits: bool,
}

/// The load that counts for `service`: as the world has it, else as declared.
#[must_use]
pub fn load_of(world: &World, service: &Service) -> Load {
    match world.loads.get(&service.name) {
        Some(Load::Unknown) | None => service.peak_load.map_or(Load::Unknown, |rate| Load::Declared { rate }),
        Some(known) => *known,
    }
}

/// What `region` may carry of `service`: capacity less headroom, rounded down; nothing where there is no endpoint.
#[must_use]
pub fn usable(service: &Service, region: &RegionId) -> RequestsPerSecond {
    let capacity = service.endpoints.get(region).map(|e| e.capacity).unwrap_or_default();
    less_headroom(service, capacity)
}

/// What of `capacity` may be used, rounded down.
#[must_use]
pub fn less_headroom(service: &Service, capacity: RequestsPerSecond) -> RequestsPerSecond {
    let keep = Percent::FULL.basis_points() - service.failover.headroom.basis_points();
    part(capacity.0, u64::from(keep), u64::from(Percent::FULL.basis_points()), false)
}

/// The load that a region with `weight` is asked for, rounded up.
#[must_use]
pub fn projected(load: RequestsPerSecond, weight: Weight) -> RequestsPerSecond {
    part(load.0, u64::from(weight.0), u64::from(WEIGHT_SUM), true)
}

/// The endpoints of `service` in these regions under `weights`, in the order of the regions.
///
/// # Errors
/// [`Reason::LoadUnknown`] when the load is neither measured nor declared.
pub fn assess(
    world: &World,
    service: &Service,
    weights: &Weights,
    regions: &[&RegionId],
) -> Result<Vec<CapacityRow>, Reason> {
    let Some(load) = load_of(world, service).rate() else {
        cov_mark::hit!(i7_load_unknown);
        return Err(Reason::LoadUnknown { service: service.name.clone() });
    };
    let row = |region: &&RegionId| {
        let capacity = service.endpoints.get(*region)?.capacity;
        let projected = projected(load, weights.of(region));
        let usable = less_headroom(service, capacity);
        let region = (*region).clone();
        Some(CapacityRow { region, projected, capacity, usable, fits: projected <= usable })
    };
    Ok(regions.iter().filter_map(row).collect())
}

fn part(of: u64, numerator: u64, denominator: u64, round_up: bool) -> RequestsPerSecond {
    // Nearly always small enough for the machine's own division, which is several times quicker.
    if let Some(product) = of.checked_mul(numerator) {
        let denominator = denominator.max(1);
        return RequestsPerSecond(if round_up {
            product.div_ceil(denominator)
        } else {
            product / denominator
        });
    }
    let product = u128::from(of) * u128::from(numerator);
    let denominator = u128::from(denominator.max(1));
    let quotient = if round_up { product.div_ceil(denominator) } else { product / denominator };
    RequestsPerSecond(u64::try_from(quotient).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testworld::{config, region, service_id, world};
    use proptest::prelude::*;

    #[test]
    fn a_measured_load_counts_before_a_declared_one() {
        let mut world = world();
        let load = |w: &World, s: &str| load_of(w, &w.config.services[&service_id(s)]);
        assert_eq!(load(&world, "checkout").rate(), Some(RequestsPerSecond(900)));
        assert_eq!(load(&world, "catalog"), Load::Declared { rate: RequestsPerSecond(600) });
        world.loads.insert(service_id("checkout"), Load::Unknown);
        assert_eq!(
            load(&world, "checkout").rate(),
            Some(RequestsPerSecond(600)),
            "what was declared is left"
        );
        config(&mut world).services.get_mut(&service_id("catalog")).unwrap().peak_load = None;
        assert_eq!(load(&world, "catalog"), Load::Unknown);
    }

    #[test]
    fn each_region_is_judged_by_its_own_capacity() {
        let mut world = world();
        let checkout = config(&mut world).services.get_mut(&service_id("checkout")).unwrap();
        checkout.endpoints.get_mut(&region("us-east")).unwrap().capacity = RequestsPerSecond(500);
        let weights = [("ap-south", 50), ("eu-west", 0), ("us-east", 50)];
        let weights = weights.map(|(r, w)| (region(r), Weight(w))).into_iter().collect();
        let regions = crate::testworld::REGIONS.map(region);
        let service = &world.config.services[&service_id("checkout")];
        let rows = assess(&world, service, &weights, &regions.iter().collect::<Vec<_>>()).unwrap();
        let figures: Vec<_> = rows.iter().map(|r| (r.projected.0, r.usable.0, r.fits)).collect();
        assert_eq!(figures, [(450, 640, true), (0, 640, true), (450, 400, false)]);
    }

    proptest! {
        #[test]
        fn rounding_never_makes_room(load in any::<u64>(), weight in 0u8..=100) {
            let exact = u128::from(load) * u128::from(weight);
            let asked = u128::from(projected(RequestsPerSecond(load), Weight(weight)).0);
            prop_assert!(asked * 100 >= exact && asked * 100 < exact + 100);
        }
    }
}
