//! Figures beside a plan that are not part of its identity: load rows and estimates.

use super::moves::Move;
use crate::capacity;
use drover_model::beside;
use drover_model::config::Service;
use drover_model::plan::{Estimates, LoadRow, Plan, StepKind, World};
use drover_model::time::Span;

/// A row for each endpoint of each service, in the order of the moves: traffic and load now and at the end.
pub(super) fn rows(world: &World, moves: &[Move<'_>]) -> Vec<LoadRow> {
    let mut rows = Vec::with_capacity(moves.iter().map(|m| m.service.endpoints.len()).sum());
    for found in moves {
        let load = capacity::load_of(world, found.service).rate();
        let endpoints = &found.service.endpoints;
        let before = beside(endpoints.keys(), &found.state.weights);
        let after = beside(endpoints.keys(), &found.last().weights);
        for (((region, endpoint), (_, before)), (_, after)) in endpoints.iter().zip(before).zip(after) {
            let weight_before = before.copied().unwrap_or_default();
            let weight_after = after.copied().unwrap_or_default();
            rows.push(LoadRow {
                service: found.service.name.clone(),
                region: region.clone(),
                weight_before,
                weight_after,
                load_before: load.map(|l| capacity::projected(l, weight_before)),
                load_after: load.map(|l| capacity::projected(l, weight_after)),
                usable: capacity::less_headroom(found.service, endpoint.capacity),
            });
        }
    }
    rows
}

/// A service's TTL as it is on the wire: whole seconds, rounded up, at least one.
#[must_use]
pub fn ttl_seconds(service: &Service) -> u32 {
    whole_seconds(service.ttl)
}

/// A time to live as DNS has it: in seconds, rounded up, and one at least.
#[must_use]
pub fn whole_seconds(ttl: Span) -> u32 {
    u32::try_from(ttl.as_millis().div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
}

/// How long answers with the old weights may stay in caches: the longest TTL of `services`, and half as much again,
/// because resolvers round up and fetch late.
pub fn drain_span<'a>(services: impl Iterator<Item = &'a Service>) -> Span {
    let longest = services.map(ttl_seconds).max().unwrap_or(0);
    Span::from_millis(u64::from(longest) * 1_500)
}

/// The time that a step of this kind takes when it succeeds at once: what it waits or watches. A validation that sees too few
/// samples takes longer; how much is known only then.
#[must_use]
pub fn by_design(kind: &StepKind) -> Span {
    match kind {
        StepKind::Wait { span, .. } => *span,
        StepKind::Validate { targets } => targets.iter().map(|t| t.window).max().unwrap_or_default(),
        _ => Span::ZERO,
    }
}

/// What a plan would take, by design: the waits and the validation windows, when every step succeeds at once. Measured
/// times of earlier runs are better where there are any.
#[must_use]
pub fn estimates(plan: &Plan, world: &World) -> Estimates {
    let services = || plan.services.iter().filter_map(|s| world.config.services.get(s));
    let mut done_after = Span::ZERO;
    let mut last_shift_at = Span::ZERO;
    for step in &plan.steps {
        match &step.kind {
            StepKind::ShiftTraffic { .. } => last_shift_at = done_after,
            kind => done_after = done_after.plus(by_design(kind)),
        }
    }
    Estimates {
        drained_after: last_shift_at.plus(drain_span(services())),
        done_after,
        rto: services().map(|s| s.rto).min().unwrap_or_default(),
    }
}
