//! What one vantage holds of one endpoint: the first of the three stages observation, opinion, verdict.
//!
//! The intuition: hard to be called failing, harder to be called healthy again. An opinion turns `Failing` by a streak
//! (so many consecutive failures inside the window) or by share (gray failure: it answers, but too rarely), and turns
//! `Healthy` again only after a longer streak of successes. Silence is neither: an opinion whose last probe is too old
//! is `Unknown`, which moves nothing (I6).
//!
//! The hard case is the gap. After one, old failures must not make an endpoint failing, and a single success must not
//! whitewash one that was failing before. So a gap turns a `Failing` opinion into `Unknown` with its distrust kept:
//! from there it takes the full number of failures, or of successes, to hold anything again.

mod streak;
#[cfg(test)]
mod tests;
mod view;

pub use streak::FAILURE_THRESHOLD_MAX;
pub use view::OpinionView;

use crate::window::Window;
use drover_model::config::Service;
use drover_model::decision::OpinionState;
use drover_model::probe::{AgentOpinion, FailureKind, OpinionPolicy};
use drover_model::{EndpointKey, Span, Timestamp};
use streak::Streak;

/// The numbers by which opinions of `service` are formed, at every vantage and in the coordinator alike.
#[must_use]
pub fn policy_of(service: &Service) -> OpinionPolicy {
    OpinionPolicy {
        failure_threshold: service.failover.failure_threshold,
        failure_window: service.failover.failure_window,
        gray_failure_share: service.failover.gray_failure_share,
        gray_min_samples: service.failover.gray_min_samples,
        recovery_threshold: service.failover.recovery_threshold,
        stale_after: service.stale_after(),
    }
}

/// One vantage's opinion of one endpoint, as it is formed. At most 256 bytes, heap only while it fails, constant time an
/// observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// What was held after the last observation; whether it still counts depends on the time.
    state: OpinionState,
    /// Failing by share rather than by streak.
    gray: bool,
    /// Something failed since it was last held healthy: one success is not enough then.
    distrusted: bool,
    held_since: Option<Timestamp>,
    /// First failure of the trouble that lasts: the start of the RTO clock.
    trouble_since: Option<Timestamp>,
    streak: Streak,
    window: Window,
    last_failure: Option<FailureKind>,
    last_probe_at: Option<Timestamp>,
    /// Age of the agent's own word, while that is all there is.
    seeded_at: Option<Timestamp>,
}

impl Default for Opinion {
    fn default() -> Self {
        Self::new()
    }
}

impl Opinion {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: OpinionState::Unknown,
            gray: false,
            distrusted: false,
            held_since: None,
            trouble_since: None,
            streak: Streak::default(),
            window: Window::new(),
            last_failure: None,
            last_probe_at: None,
            seeded_at: None,
        }
    }

    /// Takes one probe's result in. `began_at` is by the observer's own monotonic time. A probe that could not be made
    /// ([`FailureKind::Local`]) says nothing of the endpoint, and one older than the last is history only: both are ignored.
    pub fn observe(
        &mut self,
        began_at: Timestamp,
        good: bool,
        kind: Option<FailureKind>,
        policy: &OpinionPolicy,
    ) {
        if !good && kind == Some(FailureKind::Local) {
            cov_mark::hit!(local_failure_says_nothing);
            return;
        }
        if self.last_probe_at.is_some_and(|last| began_at < last) {
            cov_mark::hit!(out_of_order_is_history);
            return;
        }
        self.expire(began_at, policy);
        self.window.count(began_at, good, policy.failure_window);
        self.streak.add(began_at, good);
        self.last_probe_at = Some(began_at);
        self.seeded_at = None;
        if good {
            self.judge_success(began_at, policy);
        } else {
            self.last_failure = kind;
            self.judge_failure(began_at, policy);
        }
    }

    fn judge_success(&mut self, now: Timestamp, policy: &OpinionPolicy) {
        match self.state {
            OpinionState::Healthy => self.trouble_since = None,
            OpinionState::Unknown if !self.distrusted => self.hold(OpinionState::Healthy, now),
            OpinionState::Unknown | OpinionState::Failing => {
                if self.state == OpinionState::Unknown {
                    self.trouble_since = None;
                }
                if self.streak.successes() < policy.recovery_threshold {
                    return;
                }
                if self.share_is_bad(now, policy) {
                    cov_mark::hit!(gray_share_delays_recovery);
                    return;
                }
                self.hold(OpinionState::Healthy, now);
            }
        }
    }

    fn judge_failure(&mut self, now: Timestamp, policy: &OpinionPolicy) {
        self.distrusted = true;
        if self.trouble_since.is_none() {
            self.trouble_since = Some(now);
        }
        if self.streak.fails(policy.failure_threshold, policy.failure_window) {
            self.gray = false;
            self.hold(OpinionState::Failing, now);
        } else if self.state != OpinionState::Failing && self.share_is_bad(now, policy) {
            cov_mark::hit!(gray_failure_by_share);
            self.gray = true;
            self.trouble_since = self.window.oldest_failure(now).or(self.trouble_since);
            self.hold(OpinionState::Failing, now);
        }
    }

    fn hold(&mut self, state: OpinionState, now: Timestamp) {
        if self.state == state {
            return;
        }
        self.state = state;
        self.held_since = Some(now);
        if state == OpinionState::Healthy {
            self.distrusted = false;
            self.gray = false;
            self.trouble_since = None;
        }
    }

    fn share_is_bad(&self, now: Timestamp, policy: &OpinionPolicy) -> bool {
        let counts = self.window.counts(now);
        let bound = u64::from(policy.gray_failure_share.basis_points());
        counts.failed > 0
            && counts.samples() >= policy.gray_min_samples
            && u64::from(counts.failed) * 10_000 >= bound * u64::from(counts.samples())
    }

    /// Age of what is known: own evidence, or else the agent's word.
    fn evidence_at(&self) -> Option<Timestamp> {
        self.last_probe_at.or(self.seeded_at)
    }

    fn is_stale(&self, now: Timestamp, stale_after: Span) -> bool {
        self.evidence_at().is_none_or(|last| now.since(last) > stale_after)
    }

    /// A gap ends what was held; distrust stays.
    fn expire(&mut self, now: Timestamp, policy: &OpinionPolicy) {
        if self.state != OpinionState::Unknown && self.is_stale(now, policy.stale_after) {
            self.state = OpinionState::Unknown;
            self.held_since = self.evidence_at().map(|last| last + policy.stale_after);
            self.gray = false;
        }
    }

    /// Takes the agent's own opinion as a beginning, for a coordinator that has just started or was cut off. It counts
    /// until own evidence arrives, and goes on from there: a `Failing` that one fresh probe confirms is failing, so that a
    /// new leader need not count to three again. An agent that holds nothing teaches nothing. One whose last probes were
    /// good teaches distrust and no more, as after a gap: nobody would act now on what ended while nobody listened.
    pub fn seed(&mut self, from: &AgentOpinion, now: Timestamp, policy: &OpinionPolicy) {
        let own_counts = self.last_probe_at.is_some() && !self.is_stale(now, policy.stale_after);
        if own_counts || from.state == OpinionState::Unknown || from.last_probe_age > policy.stale_after {
            return;
        }
        cov_mark::hit!(agents_word_until_own_evidence);
        let failing = from.state == OpinionState::Failing;
        let (good, state) = if from.recovering && failing {
            cov_mark::hit!(recovering_is_not_failing);
            (true, OpinionState::Unknown)
        } else {
            (!failing, from.state)
        };
        let (probed_at, held_since) = (now - from.last_probe_age, now - from.held_for);
        *self = Self {
            state,
            distrusted: failing,
            held_since: Some(held_since),
            trouble_since: failing.then_some(held_since),
            streak: Streak::of(good, from.streak, probed_at),
            seeded_at: Some(probed_at),
            ..Self::new()
        };
    }

    /// When [`Opinion::at`] will say something else although no probe arrives: the opinion becomes stale.
    #[must_use]
    pub fn next_change_at(&self, now: Timestamp, stale_after: Span) -> Option<Timestamp> {
        // One that holds nothing may still raise suspicion.
        let says_nothing = self.state == OpinionState::Unknown && !self.streak.is_of_failures();
        if says_nothing || self.is_stale(now, stale_after) {
            return None;
        }
        self.evidence_at().map(|last| last + stale_after.plus(Span::from_millis(1)))
    }

    /// What of it a verdict depends on at `now`: the state that is held, and whether the last probe failed.
    #[must_use]
    pub fn vote_at(&self, now: Timestamp, stale_after: Span) -> (OpinionState, bool) {
        if !self.is_stale(now, stale_after) {
            return (self.state, self.streak.is_of_failures());
        }
        if self.state != OpinionState::Unknown {
            cov_mark::hit!(i6_stale_is_unknown);
        }
        (OpinionState::Unknown, false)
    }

    /// Is what is known from a probe that began after `start`, whoever told it?
    #[must_use]
    pub fn probed_since(&self, start: Timestamp) -> bool {
        self.evidence_at().is_some_and(|probe| probe > start)
    }

    /// How far it is on the way to `Failing` at `now`: consecutive failures, up to `threshold`.
    #[must_use]
    pub fn failures_at(&self, now: Timestamp, stale_after: Span, threshold: u32) -> u32 {
        match self.vote_at(now, stale_after) {
            (OpinionState::Failing, _) => threshold,
            (OpinionState::Healthy | OpinionState::Unknown, true) => self.streak.length().min(threshold),
            (OpinionState::Healthy | OpinionState::Unknown, false) => 0,
        }
    }

    /// Since when `state` is held, which is what is held now.
    fn held_since(&self, state: OpinionState, stale_after: Span) -> Option<Timestamp> {
        if state == self.state { self.held_since } else { self.evidence_at().map(|last| last + stale_after) }
    }

    /// As an agent sends it beside its observations; nothing when no probe was made yet. Without what lies in the window, which
    /// costs more than all else and is not told.
    #[must_use]
    pub fn to_report(
        &self,
        endpoint: &EndpointKey,
        now: Timestamp,
        stale_after: Span,
    ) -> Option<AgentOpinion> {
        let last_probe_age = now.since(self.evidence_at()?);
        let (state, last_probe_failed) = self.vote_at(now, stale_after);
        Some(AgentOpinion {
            endpoint: endpoint.clone(),
            state,
            streak: self.streak.length(),
            held_for: self.held_since(state, stale_after).map_or(Span::ZERO, |since| now.since(since)),
            last_probe_age,
            recovering: state == OpinionState::Failing && !last_probe_failed,
        })
    }

    /// What is held at `now`, with the numbers behind it.
    #[must_use]
    pub fn at(&self, now: Timestamp, policy: &OpinionPolicy) -> OpinionView {
        let (state, last_probe_failed) = self.vote_at(now, policy.stale_after);
        let held_since = self.held_since(state, policy.stale_after);
        let counts = self.window.counts(now);
        OpinionView {
            state,
            streak: self.streak.length(),
            last_probe_failed,
            good: counts.good,
            failed: counts.failed,
            gray: self.gray && state == OpinionState::Failing,
            last_probe_age: self.evidence_at().map(|last| now.since(last)),
            last_failure: self.last_failure,
            held_since,
            first_failure_of_streak_at: self.trouble_since,
        }
    }
}
