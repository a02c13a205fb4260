//! Weights: how much of a service each region is told to answer, in whole percent that always sum to
//! [`WEIGHT_SUM`].
//!
//! The intuition: configuration says how a service is spread when all is well; a region's *share* says how much of
//! that it carries just now (0 % when drained, a few percent while it returns). What the others carry follows by
//! proportion. The hard case is rounding: integers must sum exactly, a region that carries anything must not be
//! rounded to nothing, and a larger share must never mean a smaller weight. Largest remainder with a floor of one
//! does all three; plain rounding does none.

use drover_model::config::{Service, Split};
use drover_model::units::WEIGHT_SUM;
use drover_model::{Percent, RegionId, ServiceId, Weight, Weights, beside};
use std::collections::BTreeMap;

/// Nothing would be answered: every weight would be zero. An error, never a result (I4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("every weight of {service} would be zero")]
pub struct NeverDark {
    /// Whose weights.
    pub service: ServiceId,
}

/// Fixed-point scale of a priority group's part, so that groups with different sums compare. The smallest part is one
/// over a largest group sum of 255 regions × (255 × 255) × 10,000, some 10^11; this scale leaves it four digits. The
/// largest, 10,000 × (255 × 255 × 10,000) × 10^15, stays far below the 10^38 of 128 bits.
const GROUP_SCALE: u128 = 1_000_000_000_000_000;

/// The weights that the configuration asks for when every region carries its full share. Regions without an explicit
/// weight share equally what the explicit ones leave; whatever the figures, the sum is [`WEIGHT_SUM`].
#[must_use]
pub fn configured(service: &Service) -> Weights {
    let raw = as_split(service, proportions(service));
    service.endpoints.keys().cloned().zip(apportion(&raw, WEIGHT_SUM)).collect()
}

/// What DNS makes of these parts: where its servers know no weights, whoever has any part gets the same.
fn as_split(service: &Service, mut raw: Vec<u128>) -> Vec<u128> {
    if service.split == Split::Equally {
        raw.iter_mut().for_each(|part| *part = 1.min(*part));
    }
    raw
}

/// What the configuration says, before any rounding: thirds stay thirds, so that two of three equals halve the traffic
/// when the third is out.
fn proportions(service: &Service) -> Vec<u128> {
    let explicit: u64 = service.endpoints.values().filter_map(|e| e.weight).map(u64::from).sum();
    let absent = service.endpoints.values().filter(|e| e.weight.is_none()).count() as u64;
    let left = u64::from(WEIGHT_SUM).saturating_sub(explicit);
    // Scaled by the number of absent ones, so that their equal share stays an integer.
    let scale = absent.max(1);
    let of = |weight: Option<u8>| u128::from(weight.map_or(left, |w| u64::from(w) * scale));
    let proportions: Vec<u128> = service.endpoints.values().map(|e| of(e.weight)).collect();
    // All zero says nothing about who carries more: equally, rather than not at all.
    if proportions.iter().all(|p| *p == 0) { vec![1; proportions.len()] } else { proportions }
}

/// The weights to publish when each region carries this share of its configured weight; a region that is not named
/// carries nothing.
///
/// The lowest priority group carries all, as soon as one of its regions has its full share. While the best of a group
/// carries less, as on a ramp, the next group carries the rest: a primary that returns with 1 % must not be handed
/// everything merely because it comes first.
///
/// # Errors
/// [`NeverDark`] when no region would carry anything.
pub fn published(service: &Service, shares: &BTreeMap<RegionId, Percent>) -> Result<Weights, NeverDark> {
    published_of(service, beside(service.endpoints.keys(), shares).map(|(_, share)| share.copied()))
}

/// As [`published`], with the shares of the service's endpoints in their order.
///
/// # Errors
/// [`NeverDark`] when no region would carry anything.
pub(crate) fn published_of(
    service: &Service,
    shares: impl Iterator<Item = Option<Percent>>,
) -> Result<Weights, NeverDark> {
    // Proportion × share of each region, with its priority group; and of each group the sum and the best share.
    let mut products = Vec::with_capacity(service.endpoints.len());
    let mut groups: BTreeMap<u8, (u128, u128)> = BTreeMap::new();
    for ((endpoint, proportion), share) in service.endpoints.values().zip(proportions(service)).zip(shares) {
        let share = u128::from(share.map_or(0, Percent::basis_points));
        let product = proportion * share;
        products.push((endpoint.priority, product));
        if product > 0 {
            let (sum, best) = groups.entry(endpoint.priority).or_default();
            (*sum, *best) = (*sum + product, share.max(*best));
        }
    }
    // What each group carries: its best share, as far as those before it left so much open.
    let mut open = u128::from(Percent::FULL.basis_points());
    for (_, part) in groups.values_mut() {
        *part = open.min(*part);
        open -= *part;
    }
    let raw = |(priority, product): (u8, u128)| {
        groups.get(&priority).map_or(0, |(sum, part)| part * product * GROUP_SCALE / sum)
    };
    let raw: Vec<u128> = products.into_iter().map(raw).collect();
    if raw.iter().all(|r| *r == 0) {
        cov_mark::hit!(i4_never_dark);
        return Err(NeverDark { service: service.name.clone() });
    }
    let raw = as_split(service, raw);
    Ok(service.endpoints.keys().cloned().zip(apportion(&raw, WEIGHT_SUM)).collect())
}

/// The weights after `from` has handed all of its weight to `takers`, in proportion to their values; the others keep
/// what they have. Used when not everybody may take more: only one region was named, or some are not healthy.
///
/// Where DNS splits equally nobody can keep what it has: everyone who answers takes the same part of what is left.
///
/// # Errors
/// [`NeverDark`] when nobody takes.
pub fn moved(
    service: &Service,
    before: &Weights,
    from: &RegionId,
    takers: &Weights,
) -> Result<Weights, NeverDark> {
    let mut after = before.clone();
    let freed = after.of(from);
    after.insert(from.clone(), Weight(0));
    let (names, raw): (Vec<&RegionId>, Vec<u128>) =
        takers.iter().filter(|(r, w)| *r != from && w.0 > 0).map(|(r, w)| (r, u128::from(w.0))).unzip();
    if names.is_empty() {
        cov_mark::hit!(i4_nobody_takes);
        return Err(NeverDark { service: service.name.clone() });
    }
    for (region, more) in names.into_iter().zip(apportion(&raw, u16::from(freed.0))) {
        after.insert(region.clone(), Weight(after.of(region).0.saturating_add(more.0)));
    }
    if service.split == Split::ByWeight {
        return Ok(after);
    }
    let (names, raw): (Vec<RegionId>, Vec<u128>) =
        after.iter().map(|(r, w)| (r.clone(), u128::from(w.0))).unzip();
    Ok(names.into_iter().zip(apportion(&as_split(service, raw), WEIGHT_SUM)).collect())
}

/// The weights of what is answered in these parts, whatever they sum to: the same shares of the answers.
///
/// # Errors
/// [`NeverDark`] when no region of the service has any part.
pub fn of_parts(service: &Service, part: impl Fn(&RegionId) -> u16) -> Result<Weights, NeverDark> {
    let raw = as_split(service, service.endpoints.keys().map(|region| u128::from(part(region))).collect());
    if raw.iter().all(|part| *part == 0) {
        return Err(NeverDark { service: service.name.clone() });
    }
    Ok(service.endpoints.keys().cloned().zip(apportion(&raw, WEIGHT_SUM)).collect())
}

/// Divides `total` in proportion to `raw` by largest remainder; ties go to the earlier one. Whoever has anything gets
/// at least one, as long as there are enough to go round.
fn apportion(raw: &[u128], total: u16) -> Vec<Weight> {
    let total = u128::from(total);
    let holders = raw.iter().filter(|r| **r > 0).count() as u128;
    let mut pinned = vec![false; raw.len()];
    if holders <= total {
        pin_to_one(raw, total, &mut pinned);
    }
    let sum: u128 = free(raw, &pinned).sum();
    let to_divide = total - pinned.iter().filter(|p| **p).count() as u128;
    let mut seats: Vec<u128> = vec![0; raw.len()];
    let mut remainders: Vec<(u128, usize)> = vec![];
    for (index, value) in raw.iter().enumerate() {
        if pinned[index] {
            seats[index] = 1;
        } else if *value > 0 {
            let product = value * to_divide;
            seats[index] = product / sum;
            remainders.push((product - seats[index] * sum, index));
        }
    }
    let missing = total - seats.iter().sum::<u128>();
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, index) in remainders.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        seats[index] += 1;
    }
    seats.into_iter().map(|s| Weight(u8::try_from(s).unwrap_or(u8::MAX))).collect()
}

/// Marks everyone whose proportional part is under one, until no further one falls under it because of the others.
fn pin_to_one(raw: &[u128], total: u128, pinned: &mut [bool]) {
    loop {
        let sum: u128 = free(raw, pinned).sum();
        let to_divide = total - pinned.iter().filter(|p| **p).count() as u128;
        let mut more = false;
        for (index, value) in raw.iter().enumerate() {
            if !pinned[index] && *value > 0 && value * to_divide < sum {
                pinned[index] = true;
                more = true;
            }
        }
        if !more {
            return;
        }
    }
}

fn free<'a>(raw: &'a [u128], pinned: &'a [bool]) -> impl Iterator<Item = u128> + 'a {
    raw.iter().zip(pinned).filter(|(_, p)| !**p).map(|(r, _)| *r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testworld::{region, service};
    use proptest::prelude::*;

    /// A service with endpoints `a`, `b`, … of these (weight, priority).
    fn with(endpoints: &[(Option<u8>, u8)]) -> Service {
        let names: Vec<String> = (0..endpoints.len()).map(|i| format!("r{i:03}")).collect();
        let mut made = service("pay", 1, &names.iter().map(String::as_str).collect::<Vec<_>>());
        for (endpoint, (weight, priority)) in made.endpoints.values_mut().zip(endpoints) {
            (endpoint.weight, endpoint.priority) = (*weight, *priority);
        }
        made
    }

    fn plain(weights: &Weights) -> Vec<u8> {
        weights.values().map(|w| w.0).collect()
    }

    fn shares(points: &[u32]) -> BTreeMap<RegionId, Percent> {
        let name = |i: usize| region(&format!("r{i:03}"));
        points.iter().enumerate().map(|(i, p)| (name(i), Percent::from_basis_points(*p))).collect()
    }

    #[test]
    fn absent_weights_share_what_is_left() {
        for (given, expected) in [
            (vec![None, None, None], vec![34, 33, 33]),
            (vec![Some(50), None, None], vec![50, 25, 25]),
            (vec![Some(70), Some(20), Some(10)], vec![70, 20, 10]),
            (vec![Some(1), Some(1), Some(1)], vec![34, 33, 33]),
            (vec![Some(200), Some(50), Some(0)], vec![80, 20, 0]),
            (vec![Some(100), None], vec![100, 0]),
            (vec![Some(0), Some(0)], vec![50, 50]),
            (vec![Some(255), Some(1)], vec![99, 1]),
        ] {
            let endpoints: Vec<_> = given.iter().map(|w| (*w, 1)).collect();
            assert_eq!(plain(&configured(&with(&endpoints))), expected, "{given:?}");
        }
    }

    #[test]
    fn shares_narrow_and_groups_take_over() {
        let spare = [(Some(50), 1), (Some(50), 1), (None, 2)];
        let spare = spare.map(|(w, p)| (if p == 2 { Some(100) } else { w }, p));
        for (points, expected) in [
            ([10_000, 10_000, 10_000], [50, 50, 0]),
            ([0, 10_000, 10_000], [0, 100, 0]),
            ([0, 0, 10_000], [0, 0, 100]),
            // The primary returns with 1 % of its traffic, not with all of it because it comes first.
            ([100, 0, 10_000], [1, 0, 99]),
            ([5_000, 0, 10_000], [50, 0, 50]),
            ([100, 0, 0], [100, 0, 0]),
        ] {
            let published = published(&with(&spare), &shares(&points)).unwrap();
            assert_eq!(plain(&published), expected, "{points:?}");
        }
        let equal = [(None, 1); 3];
        assert_eq!(plain(&published(&with(&equal), &shares(&[100, 10_000, 10_000])).unwrap()), [1, 50, 49]);
        assert_eq!(plain(&published(&with(&equal), &shares(&[0, 10_000, 10_000])).unwrap()), [0, 50, 50]);
    }

    #[test]
    fn all_zero_is_an_error_and_never_a_result() {
        cov_mark::check!(i4_never_dark);
        let dark = published(&with(&[(None, 1); 3]), &shares(&[0, 0, 0])).unwrap_err();
        assert_eq!(dark.to_string(), "every weight of pay would be zero");
    }

    #[test]
    fn nobody_to_take_it_is_an_error() {
        cov_mark::check!(i4_nobody_takes);
        let service = with(&[(None, 1); 2]);
        let own = Weights::from_iter([(region("r000"), Weight(50))]);
        assert!(moved(&service, &configured(&service), &region("r000"), &own).is_err());
    }

    #[test]
    fn without_weights_everyone_who_answers_gets_the_same() {
        let mut service = with(&[(Some(70), 1), (Some(20), 1), (Some(10), 1), (Some(0), 1)]);
        service.split = Split::Equally;
        assert_eq!(plain(&configured(&service)), [34, 33, 33, 0]);
        let out = published(&service, &shares(&[0, 10_000, 10_000, 10_000])).unwrap();
        assert_eq!(plain(&out), [0, 50, 50, 0]);
        // A little is as much as all of it.
        assert_eq!(plain(&published(&service, &shares(&[100, 10_000, 10_000, 0])).unwrap()), [34, 33, 33, 0]);
        let taker = Weights::from_iter([(region("r001"), Weight(1))]);
        let after = moved(&service, &configured(&service), &region("r000"), &taker).unwrap();
        assert_eq!(plain(&after), [0, 50, 50, 0], "the one that was to keep what it has can't");
    }

    proptest! {
        #[test]
        fn the_sum_is_exact_and_nothing_that_carries_is_rounded_away(
            endpoints in prop::collection::vec((prop::option::of(any::<u8>()), 1u8..4), 1..60),
            points in prop::collection::vec(prop_oneof![Just(0u32), 1u32..=10_000, Just(10_000)], 60),
        ) {
            let service = with(&endpoints);
            let all = configured(&service);
            prop_assert_eq!(all.values().map(|w| u16::from(w.0)).sum::<u16>(), WEIGHT_SUM);
            let shares = shares(&points[..endpoints.len()]);
            let Ok(weights) = published(&service, &shares) else {
                let carries = |(r, w): (&RegionId, &Weight)| w.0 > 0 && shares[r] > Percent::ZERO;
                prop_assert!(!all.iter().any(carries), "dark although something could carry");
                return Ok(());
            };
            prop_assert_eq!(weights.values().map(|w| u16::from(w.0)).sum::<u16>(), WEIGHT_SUM);
            prop_assert_eq!(&weights, &published(&service, &shares).unwrap());
            let first = service.endpoints.values().filter(|e| shares[&e.region] > Percent::ZERO && all.of(&e.region).0 > 0);
            let first = first.map(|e| e.priority).min();
            for endpoint in service.endpoints.values() {
                let carries = shares[&endpoint.region] > Percent::ZERO && all.of(&endpoint.region).0 > 0;
                if carries && Some(endpoint.priority) == first {
                    prop_assert!(weights.of(&endpoint.region).0 > 0, "{} was rounded away", endpoint.region);
                }
                if !carries {
                    prop_assert_eq!(weights.of(&endpoint.region).0, 0);
                }
            }
        }

        #[test]
        fn a_larger_share_is_never_a_smaller_weight(
            endpoints in prop::collection::vec((prop::option::of(1u8..=100), 1u8..3), 1..12),
            points in prop::collection::vec(0u32..=10_000, 12),
            which in any::<prop::sample::Index>(),
            more in 1u32..10_000,
        ) {
            let service = with(&endpoints);
            let which = which.index(endpoints.len());
            let mut points = points[..endpoints.len()].to_vec();
            let name = region(&format!("r{which:03}"));
            let before = published(&service, &shares(&points)).map_or(0, |w| w.of(&name).0);
            points[which] = points[which].saturating_add(more).min(10_000);
            let after = published(&service, &shares(&points)).map_or(0, |w| w.of(&name).0);
            prop_assert!(after >= before, "{before} became {after}");
        }

        #[test]
        fn what_is_moved_arrives(
            weights in prop::collection::vec(0u8..30, 2..8),
            takers in prop::collection::vec(0u8..100, 8),
        ) {
            let service = with(&vec![(None, 1); weights.len()]);
            let names: Vec<RegionId> = service.endpoints.keys().cloned().collect();
            let before: Weights = names.iter().cloned().zip(weights.iter().copied().map(Weight)).collect();
            let takers: Weights = names.iter().cloned().zip(takers.into_iter().map(Weight)).collect();
            let Ok(after) = moved(&service, &before, &names[0], &takers) else {
                prop_assert!(names[1..].iter().all(|n| takers.of(n).0 == 0));
                return Ok(());
            };
            let sum = |w: &Weights| w.values().map(|w| u16::from(w.0)).sum::<u16>();
            prop_assert_eq!(sum(&after), sum(&before));
            prop_assert_eq!(after.of(&names[0]).0, 0);
            for name in &names[1..] {
                prop_assert!(after.of(name) >= before.of(name));
                prop_assert!(takers.of(name).0 > 0 || after.of(name) == before.of(name));
            }
        }
    }
}
