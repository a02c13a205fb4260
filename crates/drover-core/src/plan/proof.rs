//! What a validation must prove, of whom, and by how many samples.
//!
//! Leaving a region is proved by those that took its traffic, together. Coming back is proved by the region that comes
//! back, from its own numbers alone: at a weight of 1 of 100 the others would outvote whatever is wrong with it.
//!
//! The hard case is a small share of a small service. A tenth of a request a second gives the usual hundred samples in
//! seventeen minutes, and the usual window is two. So a stage of a ramp asks for its share of the samples, but never for
//! so few that one bad request alone would break the bound; and while there are too few, it watches on, up to
//! [`RETURNING_WINDOWS_MAX`] windows. A failover watches on, too, before it wakes somebody over a lull or a vantage that
//! was late, but within the RTO: up to [`LEAVING_WINDOWS_MAX`]. What is still too little then is inconclusive, and a
//! person looks (I10).

use super::moves::{Move, leaves};
use drover_model::config::{Service, ValidationPolicy};
use drover_model::decision::VerdictState;
use drover_model::plan::{Intent, ValidationTarget};
use drover_model::units::Weight;
use drover_model::{Percent, RegionId, beside};

/// So many windows those that took the traffic are watched at most: six minutes of the half hour at the default of two.
const LEAVING_WINDOWS_MAX: u64 = 3;
/// So many windows a stage is watched at most: twenty minutes at the default of two, in which the 20 samples that an error
/// rate of 5 % asks for come from a service of two requests a second at a weight of 1 of 100.
const RETURNING_WINDOWS_MAX: u64 = 10;

/// What must hold after this round of a ramp, or at the end.
pub(super) fn targets(intent: &Intent, moves: &[Move<'_>], round: usize) -> Vec<ValidationTarget> {
    let mut all = vec![];
    for found in moves {
        let stage = found.stage(round);
        let returns = !leaves(intent.purpose);
        let carries = stage.weights.of(&intent.region) > Weight(0);
        if !(returns && carries) {
            all.push(target(found.service, takers(found, round)));
            continue;
        }
        let share = stage.share.share;
        all.push(ValidationTarget {
            min_samples: samples(&found.service.validation, share),
            window_max: found.service.validation.window.times(RETURNING_WINDOWS_MAX),
            returning: true,
            ..target(found.service, vec![intent.region.clone()])
        });
        // At the end the others, too: a service has recovered as a whole.
        let others: Vec<RegionId> =
            takers(found, round).into_iter().filter(|r| *r != intent.region).collect();
        if share == Percent::FULL && !others.is_empty() {
            all.push(target(found.service, others));
        }
    }
    all
}

/// Every region that carries traffic and is not itself in trouble: what another region suffers from is not for this plan
/// to prove.
fn takers(found: &Move<'_>, round: usize) -> Vec<RegionId> {
    let regions = || found.service.endpoints.keys();
    let carrying = || {
        let weights = beside(regions(), &found.stage(round).weights);
        weights.map(|(r, w)| (r, w.is_some_and(|w| w.0 > 0)))
    };
    let mut judged = Vec::with_capacity(found.service.endpoints.len());
    for ((region, carries), (_, state)) in carrying().zip(found.health.beside(regions())) {
        if carries && state == VerdictState::Healthy {
            judged.push(region.clone());
        }
    }
    if judged.is_empty() {
        // Nobody to judge must not read as nothing to prove (I10).
        judged.extend(carrying().filter(|(_, carries)| *carries).map(|(region, _)| region.clone()));
    }
    judged
}

fn target(service: &Service, regions: Vec<RegionId>) -> ValidationTarget {
    let policy = &service.validation;
    ValidationTarget {
        service: service.name.clone(),
        regions,
        window: policy.window,
        window_max: policy.window.times(LEAVING_WINDOWS_MAX),
        returning: false,
        min_samples: policy.min_samples,
        max_error_rate: policy.max_error_rate,
        max_latency_p95: policy.max_latency_p95,
        min_availability: policy.min_availability,
    }
}

/// Samples that a region at `share` of its weight must give: its share of those that the policy wants, and at least so
/// many that a single bad request is within the bound.
fn samples(policy: &ValidationPolicy, share: Percent) -> u64 {
    let part = u128::from(policy.min_samples) * u128::from(share.basis_points());
    let part = u64::try_from(part.div_ceil(u128::from(Percent::FULL.basis_points()))).unwrap_or(u64::MAX);
    let points = u64::from(policy.max_error_rate.basis_points());
    let one_bad = u64::from(Percent::FULL.basis_points())
        .checked_div(points)
        .map_or(u64::MAX, |n| n + u64::from(u64::from(Percent::FULL.basis_points()) % points > 0));
    part.max(one_bad).min(policy.min_samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Span;
    use proptest::prelude::*;

    fn policy(min_samples: u64, max_error_rate: Percent) -> ValidationPolicy {
        let window = Span::from_mins(2);
        ValidationPolicy {
            window,
            min_samples,
            max_error_rate,
            max_latency_p95: window,
            min_availability: Percent::FULL,
        }
    }

    #[test]
    fn a_small_share_needs_fewer_samples_but_never_so_few_that_one_decides() {
        let five = Percent::whole(5);
        let table = [
            // wanted, bound, share, needed
            (100, five, 1, 20),
            (100, five, 5, 20),
            (100, five, 25, 25),
            (100, five, 50, 50),
            (100, five, 100, 100),
            (1_000, five, 1, 20),
            (1_000, five, 5, 50),
            (10, five, 1, 10), // The policy itself asks for fewer.
            (100, Percent::whole(1), 1, 100),
            (100, Percent::whole(3), 1, 34),
            (100, Percent::ZERO, 1, 100),
        ];
        for (wanted, bound, share, needed) in table {
            assert_eq!(
                samples(&policy(wanted, bound), Percent::whole(share)),
                needed,
                "{wanted} {bound} {share}"
            );
        }
    }

    proptest! {
        #[test]
        fn one_bad_request_breaks_no_bound_and_a_larger_share_never_needs_fewer(
            wanted in 1u64..100_000, bound in 0u32..=10_000, share in 1u32..10_000, more in 1u32..10_000,
        ) {
            let policy = policy(wanted, Percent::from_basis_points(bound));
            let share = Percent::from_basis_points(share);
            let needed = samples(&policy, share);
            prop_assert!((1..=wanted).contains(&needed));
            prop_assert!(needed == wanted || Percent::of(1, needed) <= policy.max_error_rate);
            let larger = Percent::from_basis_points(share.basis_points() + more);
            prop_assert!(samples(&policy, larger) >= needed);
        }
    }
}
