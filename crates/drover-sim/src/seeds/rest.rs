//! The end of a story: no fault lasts, and the world must come to rest.

use crate::state::State;
use drover_core::targets::initial_traffic;
use drover_model::decision::VerdictState;
use drover_model::journal::RunState;
use drover_model::reason::Reason;
use drover_model::traffic::{ShareReason, TrafficState};
use drover_model::{EndpointKey, Percent, RegionId, Span};

/// Between two looks.
pub(super) const LOOK: Span = Span::from_mins(1);

/// The world must be at rest so long after the last fault. The longest that a generated policy asks for is a ramp of two
/// stages, each a soak of 30 s and a validation of up to 2 m after five attempts of steps whose deadline is 60 s: 15 m.
/// Twice that, since a second run may have waited for the first.
pub(super) const WITHIN: Span = Span::from_mins(30);

/// What is not at rest, in words.
pub(super) fn unrest(state: &State) -> Vec<String> {
    let mut found = runs(state);
    found.extend(verdicts(state));
    found.extend(answers(state));
    found.extend(shares(state));
    found.extend(state.rights.unrest());
    found
}

/// A run is over, or says that it waits for a person.
fn runs(state: &State) -> Vec<String> {
    let asks = [RunState::AwaitingApproval, RunState::Paused, RunState::NeedsOperator];
    let open = state.executions().filter(|e| !e.is_over() && !asks.contains(&e.state()));
    open.map(|e| format!("{} is {}", e.run(), e.state())).collect()
}

/// What is well is held to be well, unless it is on probation.
fn verdicts(state: &State) -> Vec<String> {
    let unwell = state.endpoints().into_iter().filter_map(|endpoint| {
        let Some(standing) = state.leader.standing.get(&endpoint) else {
            return Some(format!("nothing is concluded about {endpoint}"));
        };
        let verdict = &standing.verdict;
        let on_probation = matches!(verdict.reason, Reason::FlapDamping { .. });
        let at_rest = verdict.state == VerdictState::Healthy || on_probation;
        (!at_rest).then(|| format!("{endpoint} is {}: {}", verdict.state, verdict.reason))
    });
    unwell.collect()
}

/// DNS answers what stands.
fn answers(state: &State) -> Vec<String> {
    let differs = state.store.traffic.iter().filter(|(service, target)| {
        let answers = state.dns.answers.get(*service);
        answers.is_none_or(|a| a.weights != target.weights || a.generation != target.generation)
    });
    differs.map(|(service, _)| format!("DNS does not answer {service} as it stands")).collect()
}

/// Every region carries its share, or is left for a reason that is told.
fn shares(state: &State) -> Vec<String> {
    let mut found = vec![];
    for service in state.loaded.config.services.values() {
        let Some(target) = state.store.traffic.get(&service.name) else {
            found.push(format!("{} has no target", service.name));
            continue;
        };
        let short: Vec<_> = target.shares.iter().filter(|(_, s)| s.share < Percent::FULL).collect();
        for (region, share) in &short {
            if !is_explained(state, target, region, &share.reason) {
                let endpoint = EndpointKey::new(&service.name, region);
                found.push(format!("{endpoint} has {} of its share and nothing says why", share.share));
            }
        }
        let whole = initial_traffic(service, state.now()).weights;
        if short.is_empty() && target.weights != whole && !is_narrowed(state, target) {
            found.push(format!("{} is whole and answers other weights than configured", service.name));
        }
    }
    found
}

/// A hold, a run that waits for a person, or a decision about the region says why.
fn is_explained(state: &State, target: &TrafficState, region: &RegionId, reason: &ShareReason) -> bool {
    let held =
        state.store.holds.values().any(|h| h.region == *region && h.services.contains(&target.service));
    let waits = state.executions().any(|e| !e.is_over() && e.plan().services.contains(&target.service));
    let decided = state.leader.decisions.get(region).is_some_and(|d| d.reason != Reason::NothingToDo);
    match reason {
        ShareReason::Configured => false,
        ShareReason::Drained { .. } => held || waits,
        ShareReason::FailedOver { .. } | ShareReason::Returning { .. } => decided || waits,
    }
}

/// A move to some regions only leaves other weights until all is configured anew: the plan said so, and a run made it.
fn is_narrowed(state: &State, target: &TrafficState) -> bool {
    use drover_model::traffic::TargetOrigin;
    let TargetOrigin::Run { run } = &target.origin else { return false };
    state.executions().any(|e| e.run() == run)
}
