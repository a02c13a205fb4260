//! The standing targets: what DNS is reconciled towards when no run is changing it.
//!
//! A run moves a service's target by one generation a step. Beside that only two things make one: the service's first
//! appearance, and a change of its configuration.

use crate::weights::{self, NeverDark};
use drover_model::config::Service;
use drover_model::traffic::{RegionShare, ShareReason, TargetOrigin, TrafficState};
use drover_model::{Generation, Percent, RegionId, Timestamp};
use std::collections::BTreeMap;

const FULL: RegionShare = RegionShare { share: Percent::FULL, reason: ShareReason::Configured };

/// The target of a service that is seen for the first time: every region carries its full share. A service always has
/// a priority group with a configured weight, unless it has no endpoint at all; then nothing is published.
#[must_use]
pub fn initial_traffic(service: &Service, now: Timestamp) -> TrafficState {
    let shares: BTreeMap<RegionId, RegionShare> =
        service.endpoints.keys().map(|r| (r.clone(), FULL)).collect();
    let weights =
        weights::published(service, &percents(&shares)).unwrap_or_else(|_| weights::configured(service));
    TrafficState {
        service: service.name.clone(),
        generation: Generation(1),
        shares,
        weights,
        changed_at: now,
        origin: TargetOrigin::Configuration,
        decided: Generation::default(),
    }
}

/// The target after the service's configuration changed: new regions carry their full share, removed ones go, drained
/// ones stay drained. `None` when that is what stands already.
///
/// Call it only for a service whose configuration did change. Weights are derived afresh, so that a traffic move that
/// was narrowed (`--to`, or regions that might not take more) ends with the next change of configuration.
///
/// # Errors
/// [`NeverDark`] when only regions that are out would remain. The old target then stays and a person is needed (I4).
pub fn retarget(
    state: &TrafficState,
    service: &Service,
    now: Timestamp,
) -> Result<Option<TrafficState>, NeverDark> {
    let shares: BTreeMap<RegionId, RegionShare> =
        service.endpoints.keys().map(|r| (r.clone(), state.shares.get(r).cloned().unwrap_or(FULL))).collect();
    let weights = weights::published(service, &percents(&shares))?;
    if shares == state.shares && weights == state.weights {
        return Ok(None);
    }
    let generation = state.generation.next();
    let origin = TargetOrigin::Configuration;
    Ok(Some(TrafficState {
        service: service.name.clone(),
        generation,
        shares,
        weights,
        changed_at: now,
        origin,
        decided: state.decided,
    }))
}

/// The bare shares, without their reasons.
#[must_use]
pub fn percents(shares: &BTreeMap<RegionId, RegionShare>) -> BTreeMap<RegionId, Percent> {
    shares.iter().map(|(region, s)| (region.clone(), s.share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testworld::{NOW, region, service};
    use drover_model::{RunId, Weight};

    fn drained(state: &mut TrafficState, place: &str) {
        let reason = ShareReason::Drained { run: RunId::numbered(1) };
        state.shares.insert(region(place), RegionShare { share: Percent::ZERO, reason });
    }

    #[test]
    fn nothing_changes_when_nothing_changed() {
        let service = service("pay", 1, &["a", "b"]);
        assert_eq!(retarget(&initial_traffic(&service, NOW), &service, NOW), Ok(None));
    }

    #[test]
    fn a_new_region_is_full_a_removed_one_goes_and_a_drained_one_stays_drained() {
        let mut state = initial_traffic(&service("pay", 1, &["a", "b", "c"]), NOW);
        drained(&mut state, "a");
        let later = NOW + drover_model::Span::from_secs(1);
        let after = retarget(&state, &service("pay", 1, &["a", "b", "d"]), later).unwrap().unwrap();
        let weights: Vec<_> = after.weights.iter().map(|(r, w)| (r.as_str(), w.0)).collect();
        assert_eq!(weights, [("a", 0), ("b", 50), ("d", 50)]);
        assert_eq!((after.generation.0, after.changed_at), (2, later));
        assert_eq!(after.shares[&region("a")], state.shares[&region("a")], "with the reason that it had");
    }

    #[test]
    fn a_configuration_that_would_go_dark_is_an_error() {
        let mut state = initial_traffic(&service("pay", 1, &["a", "b"]), NOW);
        drained(&mut state, "a");
        assert!(retarget(&state, &service("pay", 1, &["a"]), NOW).is_err());
    }

    #[test]
    fn a_service_without_weights_still_answers() {
        let mut service = service("pay", 1, &["a", "b"]);
        for endpoint in service.endpoints.values_mut() {
            endpoint.weight = Some(0);
        }
        assert_eq!(
            initial_traffic(&service, NOW).weights.values().copied().collect::<Vec<_>>(),
            [Weight(50); 2]
        );
    }
}
