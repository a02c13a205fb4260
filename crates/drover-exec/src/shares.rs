//! A ramp step by step: what each stage asks the region to carry, beside what it carried while it was judged.
//!
//! The two differ for honest reasons. A weight is a whole number of 100, so that 1 % of a region's third is still a weight of
//! 1, which is three times as much; and caches hold answers for a while, each with its own users behind it.

use crate::progress::StepProgress;
use drover_model::EndpointKey;
use drover_model::api::ShareView;
use drover_model::journal::Measurement;
use drover_model::plan::{Plan, Reversal, StepKind, TrafficChange};
use drover_model::units::{Percent, WEIGHT_SUM};

/// The shares of the stage that step `index` publishes; none for any other step.
pub(crate) fn of(plan: &Plan, index: u32, steps: &[StepProgress]) -> Vec<ShareView> {
    let at = index as usize;
    let Some(step) = plan.steps.get(at).filter(|s| matches!(s.reversal, Reversal::StepBack { .. })) else {
        return Vec::new();
    };
    let StepKind::ShiftTraffic { changes } = &step.kind else { return Vec::new() };
    let is_shift = |index: &usize| matches!(plan.steps[*index].kind, StepKind::ShiftTraffic { .. });
    let end = (at + 1..plan.steps.len()).find(is_shift).unwrap_or(plan.steps.len());
    let measured: Vec<&Measurement> =
        steps.get(at + 1..end).into_iter().flatten().flat_map(|s| &s.measurements).collect();
    changes.iter().filter_map(|change| share(plan, change, &measured)).collect()
}

fn share(plan: &Plan, change: &TrafficChange, measured: &[&Measurement]) -> Option<ShareView> {
    let region = &plan.intent.region;
    let endpoint = EndpointKey::new(&change.service, region);
    let weight = change.weights_after.get(region).copied()?;
    let found = measured.iter().rev().find_map(|m| m.as_share_of(&endpoint));
    Some(ShareView {
        ramp: change.shares_after.get(region)?.share,
        weight,
        wanted: Percent::of(u64::from(weight.0), u64::from(WEIGHT_SUM)),
        measured: found.map(|(share, _)| share),
        requests: found.map_or(0, |(_, requests)| requests),
        endpoint,
    })
}
