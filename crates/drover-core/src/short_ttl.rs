//! How long answers may be kept while a failover seems near.
//!
//! The intuition: clients leave a region as their resolvers' copies end. What is fetched after the first probe has failed and
//! before the verdict is the newest of these copies, and the last to end. So from the first failure on answers are given
//! for less long, down to a floor when the quorum is about to agree.

use drover_model::decision::{OpinionState, VantageOpinion, VerdictInputs};

/// Consecutive failures, up to `threshold`, that each of a quorum of outside vantages has seen. One vantage alone, or one that does
/// not count, brings no verdict nearer (I6).
#[must_use]
pub fn failures_of_a_quorum(inputs: &VerdictInputs, threshold: u32) -> u32 {
    let seen_by = |told: &VantageOpinion| match told.state {
        _ if !told.vantage_state.counts() => 0,
        OpinionState::Failing => threshold,
        OpinionState::Healthy | OpinionState::Unknown if told.last_probe_failed => told.streak.min(threshold),
        OpinionState::Healthy | OpinionState::Unknown => 0,
    };
    let mut seen: Vec<u32> = inputs.outside.iter().map(seen_by).collect();
    seen.sort_unstable_by(|a, b| b.cmp(a));
    // A quorum is never nobody.
    let last = usize::try_from(inputs.need.max(1) - 1).unwrap_or(usize::MAX);
    seen.get(last).copied().unwrap_or(0)
}

/// A time to live between `steady_seconds` and `floor_seconds`, as near to the floor as `failures` are to `threshold`.
#[must_use]
pub fn ttl_seconds(steady_seconds: u32, floor_seconds: u32, failures: u32, threshold: u32) -> u32 {
    let room = u64::from(steady_seconds.saturating_sub(floor_seconds));
    let threshold = u64::from(threshold.max(1));
    let less = room * u64::from(failures).min(threshold) / threshold;
    steady_seconds - u32::try_from(less).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::decision::VantageState;
    use drover_model::{AgentId, EndpointKey, RegionId, ServiceId, Timestamp};

    fn told(state: OpinionState, failed: bool, streak: u32, vantage_state: VantageState) -> VantageOpinion {
        VantageOpinion {
            vantage: AgentId::new("a").unwrap(),
            region: RegionId::new("elsewhere").unwrap(),
            vantage_state,
            state,
            streak,
            good: 0,
            failed: 0,
            gray: false,
            last_probe_age: None,
            last_failure: None,
            last_probe_failed: failed,
        }
    }

    fn inputs(need: u32, outside: Vec<VantageOpinion>) -> VerdictInputs {
        let endpoint = EndpointKey::new(&ServiceId::new("shop").unwrap(), &RegionId::new("eu-west").unwrap());
        VerdictInputs { endpoint, at: Timestamp::default(), need, outside, inside: vec![] }
    }

    #[test]
    fn only_what_a_quorum_has_seen_brings_a_verdict_nearer() {
        use OpinionState::{Failing, Healthy, Unknown};
        use VantageState::{Reporting, Silent};
        let well = || told(Healthy, false, 9, Reporting);
        let failed = |times| told(Healthy, true, times, Reporting);
        for (outside, expected) in [
            (vec![well(), well(), well()], 0),
            (vec![failed(2), well(), well()], 0),
            (vec![failed(2), failed(1), well()], 1),
            (vec![failed(7), failed(2), failed(1)], 2),
            (vec![told(Failing, false, 1, Reporting), failed(2), well()], 2),
            (vec![told(Failing, true, 9, Reporting), told(Failing, true, 9, Reporting), well()], 3),
            (vec![told(Failing, true, 9, Silent), failed(2), well()], 0),
            (vec![told(Unknown, true, 1, Reporting), failed(2), well()], 1),
            (vec![failed(2)], 0),
        ] {
            assert_eq!(failures_of_a_quorum(&inputs(2, outside.clone()), 3), expected, "{outside:?}");
        }
    }

    #[test]
    fn a_time_to_live_falls_from_the_steady_one_to_the_floor() {
        let of = |failures| ttl_seconds(60, 20, failures, 3);
        assert_eq!([of(0), of(1), of(2), of(3), of(9)], [60, 47, 34, 20, 20]);
        assert_eq!(ttl_seconds(10, 20, 3, 3), 10, "shorter than the floor as it is");
        assert_eq!(ttl_seconds(u32::MAX, 0, 1, 0), 0);
    }
}
