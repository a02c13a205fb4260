//! How long answers may be kept while a failover seems near.
//!
//! The intuition: clients leave a region as their resolvers' copies end. What is fetched after the first probe has failed and
//! before the verdict is the newest of these copies, and the last to end. So from the first failure on answers are given
//! for less long, down to a floor when the quorum is about to agree.

/// Consecutive failures that each of a quorum has seen, of what each vantage has: `need` of them, or more, have seen so many. One
/// vantage alone brings no verdict nearer (I6).
#[must_use]
pub fn shared_by_a_quorum(mut seen: Vec<u32>, need: u32) -> u32 {
    seen.sort_unstable_by(|a, b| b.cmp(a));
    // A quorum is never nobody.
    let last = usize::try_from(need.max(1) - 1).unwrap_or(usize::MAX);
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

    #[test]
    fn only_what_a_quorum_has_seen_brings_a_verdict_nearer() {
        for (seen, need, expected) in [
            (vec![0, 0, 0], 2, 0),
            (vec![2, 0, 0], 2, 0),
            (vec![0, 1, 2], 2, 1),
            (vec![3, 2, 1], 2, 2),
            (vec![3, 3, 0], 3, 0),
            (vec![2], 2, 0),
            (vec![2], 0, 2),
            (vec![], 2, 0),
        ] {
            assert_eq!(shared_by_a_quorum(seen.clone(), need), expected, "{seen:?}");
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
