//! What stands: a verdict with its history, so that an endpoint that keeps changing its mind is believed less each time.
//!
//! Trouble is believed at once; a first failure is never delayed. Recovery is believed more slowly after each flap: after
//! the k-th trouble inside the window an endpoint must have been well for `stable_for × 2^(k-1)` in all. The first
//! `stable_for` of that is what the opinions ask anyway (`recovery_threshold` successes), so damping adds the rest.
//!
//! While it is on probation an endpoint is `Unknown` with [`Reason::FlapDamping`]: not `Down`, since nobody sees it
//! failing and an automatic failover would leave a region that has recovered; not `Healthy`, since it must not take
//! traffic. That the probation is a state of its own keeps everything in the stored verdict, so it survives a restart.

use drover_model::config::Service;
use drover_model::decision::{Verdict, VerdictState};
use drover_model::plan::StandingVerdict;
use drover_model::reason::Reason;
use drover_model::{Span, Timestamp};

/// Troubles that are remembered, at most.
pub const CHANGES_MAX: usize = 16;

/// Troubles inside the window from which on drover asks instead of acting: once is an accident, twice a coincidence.
pub const FLAPS_MAX: usize = 3;

/// The window is this many failure windows: an hour at the default of 5 m, and scaled with it.
pub const FAILURE_WINDOWS: u64 = 12;

/// How one service's endpoints are damped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// Troubles older than this are forgotten; also the longest probation.
    pub window: Span,
    /// What recovery takes without any flap.
    pub stable_for: Span,
}

impl Damping {
    /// From the policy: [`FAILURE_WINDOWS`] failure windows, and the time that `recovery_threshold` probes take.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self {
            window: service.failover.failure_window.times(FAILURE_WINDOWS),
            stable_for: service.interval.times(u64::from(service.failover.recovery_threshold)),
        }
    }

    /// How long an endpoint stays on probation after this many troubles: none after the first, then one, three, seven …
    /// times `stable_for`, at most the window.
    #[must_use]
    pub fn probation(&self, troubles: usize) -> Span {
        let doublings = u32::try_from(troubles.saturating_sub(1)).unwrap_or(u32::MAX);
        let times = 1u64.checked_shl(doublings).unwrap_or(u64::MAX) - 1;
        self.stable_for.times(times).min(self.window)
    }

    fn recent(&self, changes: &[Timestamp], now: Timestamp) -> usize {
        changes.iter().filter(|at| now.since(**at) < self.window).count()
    }
}

/// What stands after `verdict` was concluded at `now`. Without an earlier one it stands as it is.
#[must_use]
pub fn apply(
    standing: Option<&StandingVerdict>,
    verdict: Verdict,
    now: Timestamp,
    damping: &Damping,
) -> StandingVerdict {
    let Some(old) = standing else {
        let recent_changes = if verdict.state.moves_traffic() { vec![now] } else { vec![] };
        return StandingVerdict { verdict, since: now, recent_changes };
    };
    let recent_changes = remembered(old, &verdict, now, damping);
    let verdict = on_probation(old, verdict, &recent_changes, now, damping);
    let same = old.verdict.state == verdict.state && is_probation(&old.verdict) == is_probation(&verdict);
    StandingVerdict { verdict, since: if same { old.since } else { now }, recent_changes }
}

/// What stood before a start, as far as one may build upon it at `now`. A trouble goes on as the same trouble; that nothing
/// broke while nobody looked is not known, so that being well counts afresh, and no stable hold is shorter for a restart.
#[must_use]
pub fn recalled(stored: StandingVerdict, now: Timestamp) -> StandingVerdict {
    let well = stored.verdict.state == VerdictState::Healthy;
    StandingVerdict { since: if well { now } else { stored.since }, ..stored }
}

/// Only the way into trouble is remembered: `Unreachable` that becomes `Down` when the inside falls silent is the same
/// trouble, and every trouble that ends had begun. The newest is kept whatever its age, as the beginning of what lasts.
fn remembered(old: &StandingVerdict, new: &Verdict, now: Timestamp, damping: &Damping) -> Vec<Timestamp> {
    let mut changes = old.recent_changes.clone();
    if new.state.moves_traffic() && !old.verdict.state.moves_traffic() {
        changes.push(now);
    }
    let newest = changes.last().copied();
    changes.retain(|at| now.since(*at) < damping.window || Some(*at) == newest);
    let surplus = changes.len().saturating_sub(CHANGES_MAX);
    changes.drain(..surplus);
    changes
}

fn on_probation(
    old: &StandingVerdict,
    new: Verdict,
    changes: &[Timestamp],
    now: Timestamp,
    damping: &Damping,
) -> Verdict {
    if new.state != VerdictState::Healthy || old.verdict.state == VerdictState::Healthy {
        return new;
    }
    let troubles = damping.recent(changes, now);
    let well_since = if is_probation(&old.verdict) { old.since } else { now };
    let until = well_since + damping.probation(troubles);
    if now >= until {
        return new;
    }
    cov_mark::hit!(damping_delays_recovery);
    hold_back(new, Reason::FlapDamping { changes: u32::try_from(troubles).unwrap_or(u32::MAX), until })
}

/// A healthy verdict that is not believed yet.
pub(crate) fn hold_back(verdict: Verdict, reason: Reason) -> Verdict {
    Verdict { state: VerdictState::Unknown, reason, ..verdict }
}

/// Is this a healthy verdict that was held back?
pub(crate) fn is_probation(verdict: &Verdict) -> bool {
    verdict.state == VerdictState::Unknown && matches!(verdict.reason, Reason::FlapDamping { .. })
}

/// Since when the trouble that moves traffic lasts; nothing when there is none.
#[must_use]
pub fn troubled_since(standing: &StandingVerdict) -> Option<Timestamp> {
    let began = standing.recent_changes.last().copied().unwrap_or(standing.since);
    standing.verdict.state.moves_traffic().then(|| began.min(standing.since))
}

/// How often the endpoint got into trouble inside the window that ends at `now`.
#[must_use]
pub fn troubles(standing: &StandingVerdict, now: Timestamp, damping: &Damping) -> usize {
    damping.recent(&standing.recent_changes, now)
}

/// Until when drover asks instead of acting on this endpoint, because it got into trouble [`FLAPS_MAX`] times or more
/// inside the window; nothing when it did not.
#[must_use]
pub fn damped_until(standing: &StandingVerdict, now: Timestamp, damping: &Damping) -> Option<Timestamp> {
    if troubles(standing, now, damping) < FLAPS_MAX {
        return None;
    }
    let third_last = standing.recent_changes.len().checked_sub(FLAPS_MAX)?;
    standing.recent_changes.get(third_last).map(|at| *at + damping.window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, NOW, inputs};
    use crate::verdict::conclude;
    use proptest::prelude::*;

    fn damping() -> Damping {
        Damping::of(Fixture::three_regions_and_witness().service("checkout"))
    }

    fn at(mins: u64) -> Timestamp {
        NOW + Span::from_mins(mins)
    }

    fn down() -> Verdict {
        conclude(&inputs("fff", ""))
    }

    fn healthy() -> Verdict {
        conclude(&inputs("hhh", "h"))
    }

    fn play(story: &[(u64, Verdict)]) -> StandingVerdict {
        let mut standing = None;
        for (mins, verdict) in story {
            standing = Some(apply(standing.as_ref(), verdict.clone(), at(*mins), &damping()));
        }
        standing.unwrap()
    }

    #[test]
    fn probation_doubles_up_to_the_window() {
        let table = [(0, 0), (1, 0), (2, 5), (3, 15), (4, 35), (5, 60), (16, 60), (100, 60)];
        for (troubles, mins) in table {
            assert_eq!(damping().probation(troubles), Span::from_mins(mins), "after {troubles}");
        }
    }

    #[test]
    fn a_first_failure_and_a_first_recovery_are_believed_at_once() {
        let standing = play(&[(0, healthy()), (10, down())]);
        assert_eq!((standing.verdict.state, standing.since), (VerdictState::Down, at(10)));
        assert_eq!(troubled_since(&standing), Some(at(10)));
        let standing = play(&[(0, healthy()), (10, down()), (20, healthy())]);
        assert_eq!((standing.verdict.state, standing.since), (VerdictState::Healthy, at(20)));
        assert_eq!(troubled_since(&standing), None);
    }

    #[test]
    fn a_start_carries_a_trouble_on_and_counts_being_well_afresh() {
        let well = play(&[(0, healthy()), (10, down()), (20, healthy())]);
        let again = apply(Some(&recalled(well.clone(), at(60))), healthy(), at(60), &damping());
        assert_eq!((again.verdict.state, again.since), (VerdictState::Healthy, at(60)));
        assert_eq!(again.recent_changes, well.recent_changes, "and forgets no trouble");
        let bad = play(&[(0, healthy()), (10, down())]);
        let again = apply(Some(&recalled(bad, at(60))), down(), at(60), &damping());
        assert_eq!((again.since, troubled_since(&again)), (at(10), Some(at(10))));
    }

    #[test]
    fn a_second_recovery_waits_and_starts_anew_when_interrupted() {
        cov_mark::check!(damping_delays_recovery);
        let story = [(0, healthy()), (1, down()), (10, healthy()), (12, down()), (20, healthy())];
        let standing = play(&story);
        assert_eq!((standing.verdict.state, standing.since), (VerdictState::Unknown, at(20)));
        assert_eq!(standing.verdict.reason, Reason::FlapDamping { changes: 2, until: at(25) });
        let waited = apply(Some(&standing), healthy(), at(24), &damping());
        assert_eq!(waited, standing);
        let accepted = apply(Some(&waited), healthy(), at(25), &damping());
        assert_eq!((accepted.verdict.state, accepted.since), (VerdictState::Healthy, at(25)));
        let doubtful = apply(Some(&waited), conclude(&inputs("fhh", "h")), at(23), &damping());
        assert_eq!(doubtful.verdict.state, VerdictState::Partitioned);
        let again = apply(Some(&doubtful), healthy(), at(24), &damping());
        assert_eq!(again.verdict.reason, Reason::FlapDamping { changes: 2, until: at(29) });
        assert_eq!(apply(Some(&waited), down(), at(24), &damping()).verdict.state, VerdictState::Down);
    }

    #[test]
    fn unreachable_that_becomes_down_is_one_trouble() {
        let unreachable = conclude(&inputs("fff", "h"));
        let standing = play(&[(0, healthy()), (1, unreachable), (2, down())]);
        assert_eq!((standing.recent_changes.len(), standing.since), (1, at(2)));
        assert_eq!(troubled_since(&standing), Some(at(1)));
    }

    #[test]
    fn flapping_ends_automatic_action_for_a_while() {
        let mut story = vec![(0, healthy())];
        for n in 0..3 {
            story.extend([(1 + 20 * n, down()), (11 + 20 * n, healthy())]);
        }
        let twice = play(&story[..5]);
        assert_eq!(damped_until(&twice, at(31), &damping()), None);
        let thrice = play(&story[..6]);
        assert_eq!(damped_until(&thrice, at(41), &damping()), Some(at(61)));
        assert_eq!(damped_until(&thrice, at(61), &damping()), None, "the first is forgotten");
    }

    #[test]
    fn the_beginning_of_a_long_trouble_is_kept() {
        let standing = play(&[(0, healthy()), (1, down()), (600, down())]);
        assert_eq!((troubled_since(&standing), standing.since), (Some(at(1)), at(1)));
        assert_eq!(troubles(&standing, at(600), &damping()), 0);
    }

    proptest! {
        #[test]
        fn trouble_is_never_delayed_and_history_is_bounded(
            story in prop::collection::vec((0u64..30, 0usize..4), 1..80),
        ) {
            let kinds = [healthy(), down(), conclude(&inputs("fff", "h")), conclude(&inputs("UUU", ""))];
            let (mut standing, mut t) = (None, 0);
            for (mins, kind) in story {
                t += mins;
                let new = apply(standing.as_ref(), kinds[kind].clone(), at(t), &damping());
                prop_assert!(kind == 0 || new.verdict == kinds[kind]);
                prop_assert!(kind != 0 || new.verdict == kinds[0] || is_probation(&new.verdict));
                prop_assert!(new.recent_changes.len() <= CHANGES_MAX && new.since <= at(t));
                standing = Some(new);
            }
        }
    }
}
