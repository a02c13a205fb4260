//! What Route 53 answers of weighted records, given which are healthy.

use drover_model::{RegionId, Weight, Weights};
use std::collections::{BTreeMap, BTreeSet};

/// A region's part of the answers, of the sum of all parts.
pub type Share = u32;

/// The regions that are answered, with their shares, where `out` are unhealthy by their health checks.
///
/// As AWS documents it ("How Amazon Route 53 chooses records when health checking is configured"): a record is chosen by weight among
/// the healthy ones that have weight; where no such record is healthy, among the healthy ones of weight 0, as though each had the same
/// weight; and where none at all is healthy, all are taken for healthy. So records without weight are a reserve, and a name is never dark.
#[must_use]
pub fn answered(weights: &Weights, out: &BTreeSet<RegionId>) -> BTreeMap<RegionId, Share> {
    let some = |with_weight: Option<bool>, healthy_only: bool| -> BTreeMap<RegionId, Share> {
        let is_chosen = |(region, weight): &(&RegionId, &Weight)| {
            with_weight.is_none_or(|has_any| has_any == (weight.0 > 0))
                && !(healthy_only && out.contains(*region))
        };
        // Of those without weight each counts the same.
        let share = |(region, weight): (&RegionId, &Weight)| (region.clone(), Share::from(weight.0.max(1)));
        weights.iter().filter(is_chosen).map(share).collect()
    };
    let rounds = [(Some(true), true), (Some(false), true), (Some(true), false), (None, false)];
    let mut chosen = rounds.into_iter().map(|(with_weight, healthy_only)| some(with_weight, healthy_only));
    chosen.find(|chosen| !chosen.is_empty()).unwrap_or_default()
}
