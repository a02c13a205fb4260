//! An opinion as it stands at one instant, and the forms in which others take it.

use drover_model::decision::{OpinionState, VantageOpinion, VantageState};
use drover_model::probe::FailureKind;
use drover_model::{AgentId, RegionId, Span, Timestamp};

/// What a vantage holds of an endpoint at some instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpinionView {
    /// What it holds.
    pub state: OpinionState,
    /// Consecutive results of the kind of the last one.
    pub streak: u32,
    /// The last probe failed and is not stale: the streak counts failures.
    pub last_probe_failed: bool,
    /// Good probes in the window.
    pub good: u32,
    /// Failed probes in the window.
    pub failed: u32,
    /// Failing by share rather than by streak.
    pub gray: bool,
    /// Age of the last probe, when there is one.
    pub last_probe_age: Option<Span>,
    /// How the last failed probe failed.
    pub last_failure: Option<FailureKind>,
    /// Since when this state is held.
    pub held_since: Option<Timestamp>,
    /// When the trouble that lasts began: the first failed probe of the streak, or of the window when failing by share.
    /// Kept while the opinion is `Failing`, so that the RTO clock does not restart with a stray success.
    pub first_failure_of_streak_at: Option<Timestamp>,
}

impl OpinionView {
    /// As evidence for a verdict.
    #[must_use]
    pub fn told_by(
        &self,
        vantage: &AgentId,
        region: &RegionId,
        vantage_state: VantageState,
    ) -> VantageOpinion {
        VantageOpinion {
            vantage: vantage.clone(),
            region: region.clone(),
            vantage_state,
            state: self.state,
            streak: self.streak,
            good: self.good,
            failed: self.failed,
            gray: self.gray,
            last_probe_age: self.last_probe_age,
            last_failure: self.last_failure,
            last_probe_failed: self.last_probe_failed,
        }
    }
}
