//! What a quorum concludes of one endpoint: pure, from inputs that are stored beside it.
//!
//! Only outside vantages vote, because an agent in a dying region sees least of it. The inside view then tells three
//! kinds of trouble apart: nobody there says otherwise (`Down`), it is well there and merely cannot be reached
//! (`Unreachable`: traffic moves, the data path must be the graceful one), or it is ill there while the outside still
//! gets answers (`Degraded`).
//!
//! A vantage that is silent, blind, skewed or never heard abstains: its opinion counts for nothing, while it stays in
//! the number that the quorum is taken of. So no amount of silence moves traffic (I6).

use crate::quorum;
use drover_model::decision::{OpinionState, VantageOpinion, Verdict, VerdictInputs, VerdictState};
use drover_model::reason::Reason;

/// One vantage's say, as far as a verdict depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// May the vantage speak?
    pub counts: bool,
    /// What it holds.
    pub state: OpinionState,
    /// Its last probe failed, whatever it holds so far.
    pub last_probe_failed: bool,
    /// It has probed since this coordinator leads.
    pub confirmed: bool,
}

impl Vote {
    fn of(opinion: &VantageOpinion, inputs: &VerdictInputs) -> Self {
        let probed_at = opinion.last_probe_age.map(|age| inputs.at - age);
        Self {
            counts: opinion.vantage_state.counts(),
            state: opinion.state,
            last_probe_failed: opinion.last_probe_failed,
            confirmed: inputs.led_since.is_none_or(|start| probed_at.is_some_and(|probe| probe > start)),
        }
    }
}

/// Votes on one side, counted: all that a verdict needs of thousands of opinions, without copying any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Votes {
    failing: u32,
    unconfirmed: u32,
    healthy: u32,
    configured: u32,
    /// A counting vantage saw it fail just now.
    suspect: bool,
}

impl Votes {
    /// One more configured vantage, whether it may speak or not.
    pub fn cast(&mut self, vote: Vote) {
        self.configured = self.configured.saturating_add(1);
        if !vote.counts {
            cov_mark::hit!(i6_silent_vantage_abstains);
            return;
        }
        self.suspect |= vote.last_probe_failed || vote.state == OpinionState::Failing;
        match vote.state {
            OpinionState::Failing => {
                self.failing += 1;
                self.unconfirmed += u32::from(!vote.confirmed);
            }
            OpinionState::Healthy => self.healthy += 1,
            OpinionState::Unknown => {}
        }
    }

    fn of(opinions: &[VantageOpinion], inputs: &VerdictInputs) -> Self {
        let mut votes = Self::default();
        opinions.iter().for_each(|opinion| votes.cast(Vote::of(opinion, inputs)));
        votes
    }
}

/// The figures that a verdict is made from, counted once.
struct Tally {
    outside: Votes,
    inside: Votes,
    configured: u32,
    abstaining: u32,
    need: u32,
}

impl Tally {
    fn of(outside: Votes, inside: Votes, need: u32) -> Self {
        let configured = outside.configured;
        let rule = quorum::need(configured);
        if need < rule {
            cov_mark::hit!(i6_inputs_cannot_lower_quorum);
        }
        Self {
            outside,
            inside,
            configured,
            abstaining: configured - outside.failing - outside.healthy,
            need: need.max(rule),
        }
    }

    /// A quorum sees it well. Where fewer vantages are configured than any quorum needs, all of them must: being held
    /// healthy moves no traffic away, and a world with one outside vantage would otherwise never be well.
    fn well(&self) -> bool {
        let all_of_too_few = self.configured < self.need && self.outside.healthy == self.configured;
        self.outside.healthy >= self.need || (all_of_too_few && self.outside.healthy > 0)
    }

    fn state_and_reason(&self) -> (VerdictState, Reason) {
        let Self { outside, inside, configured, need, abstaining } = *self;
        if outside.failing >= need {
            let reason = Reason::QuorumReached { failing: outside.failing, configured, need };
            let state = if inside.healthy > 0 { VerdictState::Unreachable } else { VerdictState::Down };
            return (state, reason);
        }
        if inside.failing > 0 && self.well() {
            let reason = Reason::InsideOnly { inside_failing: inside.failing, healthy: outside.healthy };
            return (VerdictState::Degraded, reason);
        }
        if outside.failing > 0 {
            cov_mark::hit!(i6_minority_moves_nothing);
            let disputed = outside.healthy > 0 || inside.healthy > 0;
            let state = if disputed { VerdictState::Partitioned } else { VerdictState::Unknown };
            return (state, Reason::QuorumNotReached { failing: outside.failing, configured, need });
        }
        if self.well() {
            return (VerdictState::Healthy, Reason::SeenHealthy { healthy: outside.healthy, configured });
        }
        (VerdictState::Unknown, Reason::TooLittleKnown { abstaining, configured, need })
    }
}

/// All that there is to see fails, while fewer vantages are configured than any quorum needs: never a reason to act, but
/// one to ask, or a small world would be left to its fate in silence.
#[must_use]
pub fn is_beyond_quorum(verdict: &Verdict) -> bool {
    verdict.state == VerdictState::Unknown && verdict.failing > 0 && verdict.configured < verdict.need
}

/// Concludes from `inputs`. A `need` below the rule of I6 is raised to it, so that no caller and no stored input can
/// lower the bar.
#[must_use]
pub fn conclude(inputs: &VerdictInputs) -> Verdict {
    conclude_votes(Votes::of(&inputs.outside, inputs), Votes::of(&inputs.inside, inputs), inputs.need)
}

/// As [`conclude`], from votes that were counted already.
#[must_use]
pub fn conclude_votes(outside: Votes, inside: Votes, need: u32) -> Verdict {
    let tally = Tally::of(outside, inside, need);
    let (state, reason) = tally.state_and_reason();
    assert!(
        !state.moves_traffic() || tally.outside.failing >= quorum::need(tally.configured),
        "I6: traffic may move only by a quorum of the configured outside vantages"
    );
    Verdict {
        state,
        failing: tally.outside.failing,
        unconfirmed: tally.outside.unconfirmed,
        healthy: tally.outside.healthy,
        abstaining: tally.abstaining,
        configured: tally.configured,
        need: tally.need,
        suspect: outside.suspect,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{inputs, opinion};
    use drover_model::decision::VantageState;
    use proptest::prelude::*;

    /// Outside and inside votes as letters: `f`ailing, `h`ealthy, `u`nknown; capitals are vantages that do not count
    /// (`F` failing but silent, `H` healthy but blind, `U` never heard).
    fn conclude_of(outside: &str, inside: &str) -> Verdict {
        conclude(&inputs(outside, inside))
    }

    #[test]
    fn verdicts_by_table() {
        use VerdictState::{Degraded, Down, Healthy, Partitioned, Unknown, Unreachable};
        let table = [
            // outside, inside, verdict, code
            ("hhh", "h", Healthy, "seen_healthy"),
            ("hhh", "", Healthy, "seen_healthy"),
            ("hhu", "U", Healthy, "seen_healthy"),
            ("fff", "f", Down, "quorum_reached"),
            ("ffh", "U", Down, "quorum_reached"),
            ("ffU", "", Down, "quorum_reached"),
            ("ffu", "u", Down, "quorum_reached"),
            ("fff", "h", Unreachable, "quorum_reached"),
            ("fff", "fh", Unreachable, "quorum_reached"),
            ("fff", "H", Down, "quorum_reached"), // Healthy inside, but blind.
            ("hhh", "f", Degraded, "inside_only"),
            ("hhf", "f", Degraded, "inside_only"),
            ("hhh", "F", Healthy, "seen_healthy"), // Failing inside, but silent.
            ("fhh", "h", Partitioned, "quorum_not_reached"), // One vantage lies, or has a link of its own down.
            ("fhh", "", Partitioned, "quorum_not_reached"),
            ("fUU", "h", Partitioned, "quorum_not_reached"),
            ("fUU", "U", Unknown, "quorum_not_reached"),
            ("fuu", "f", Unknown, "quorum_not_reached"),
            ("fFF", "", Unknown, "quorum_not_reached"), // Two of three say failing and do not count.
            ("UUU", "U", Unknown, "too_little_known"),
            ("uuu", "f", Unknown, "too_little_known"),
            ("hUU", "h", Unknown, "too_little_known"),
            ("FFF", "", Unknown, "too_little_known"),
            ("HHH", "h", Unknown, "too_little_known"),
            // One outside vantage alone never moves anything.
            ("f", "", Unknown, "quorum_not_reached"),
            ("f", "h", Partitioned, "quorum_not_reached"),
            ("h", "h", Healthy, "seen_healthy"),
            ("h", "f", Degraded, "inside_only"),
            ("", "h", Unknown, "too_little_known"),
            ("", "f", Unknown, "too_little_known"),
            // Five outside vantages: three are needed, though only three can speak.
            ("fffUU", "", Down, "quorum_reached"),
            ("ffUUU", "", Unknown, "quorum_not_reached"),
            ("ffhhh", "", Partitioned, "quorum_not_reached"),
        ];
        for (outside, inside, state, code) in table {
            let verdict = conclude_of(outside, inside);
            assert_eq!(
                (verdict.state, verdict.reason.code().as_str()),
                (state, code),
                "{outside:?} / {inside:?}"
            );
            let sum = verdict.failing + verdict.healthy + verdict.abstaining;
            assert_eq!(sum, verdict.configured, "{outside:?} / {inside:?}");
        }
    }

    #[test]
    fn a_silent_vantage_abstains_and_stays_in_the_denominator() {
        cov_mark::check!(i6_silent_vantage_abstains);
        let verdict = conclude_of("fFFU", "");
        assert_eq!((verdict.failing, verdict.abstaining, verdict.configured, verdict.need), (1, 3, 4, 3));
    }

    #[test]
    fn one_liar_moves_nothing() {
        cov_mark::check!(i6_minority_moves_nothing);
        let verdict = conclude_of("fhh", "h");
        assert!(!verdict.state.moves_traffic());
        assert_eq!(verdict.reason.to_string(), "1 of 3 outside vantages agree, 2 needed");
    }

    #[test]
    fn no_input_lowers_the_quorum() {
        cov_mark::check!(i6_inputs_cannot_lower_quorum);
        let lowered = VerdictInputs { need: 1, ..inputs("fuu", "") };
        assert_eq!((conclude(&lowered).state, conclude(&lowered).need), (VerdictState::Unknown, 2));
        let raised = VerdictInputs { need: 3, ..inputs("ffh", "") };
        assert_eq!(conclude(&raised).state, VerdictState::Partitioned);
    }

    #[test]
    fn a_failed_last_probe_makes_it_suspect_without_changing_the_verdict() {
        let mut wavering = inputs("hhh", "h");
        wavering.outside[1].last_probe_failed = true;
        let verdict = conclude(&wavering);
        assert_eq!((verdict.state, verdict.suspect), (VerdictState::Healthy, true));
        wavering.outside[1].vantage_state = VantageState::Blind;
        assert!(!conclude(&wavering).suspect, "a blind vantage raises no suspicion");
        assert!(conclude_of("fhh", "").suspect && !conclude_of("hhh", "f").suspect);
    }

    proptest! {
        /// Silence, blindness, skew and ignorance never make anything down (I6).
        #[test]
        fn no_missing_report_is_ever_down(outside in "[uUFH]{0,9}", inside in "[hfuUFH]{0,3}") {
            prop_assert!(!conclude_of(&outside, &inside).state.moves_traffic());
        }

        #[test]
        fn fewer_than_needed_never_move_traffic(outside in "[fhuUFH]{0,9}", inside in "[hfuUFH]{0,3}", need in 0u32..12) {
            let given = VerdictInputs { need, ..inputs(&outside, &inside) };
            let verdict = conclude(&given);
            let failing = u32::try_from(outside.matches('f').count()).unwrap();
            prop_assert!(verdict.need >= crate::quorum::need(verdict.configured));
            prop_assert_eq!(verdict.state.moves_traffic(), failing >= verdict.need);
        }

        /// One more vantage that sees it well never turns a verdict to `Down`, wherever it stands.
        #[test]
        fn a_healthy_voice_never_takes_it_down(outside in "[fhuUFH]{0,9}", inside in "[hfuUFH]{0,3}") {
            let before = conclude_of(&outside, &inside);
            for (outside, inside) in [(format!("{outside}h"), inside.clone()), (outside.clone(), format!("{inside}h"))] {
                let after = conclude_of(&outside, &inside);
                prop_assert!(after.state != VerdictState::Down || before.state == VerdictState::Down);
                prop_assert!(before.state.moves_traffic() || !after.state.moves_traffic());
            }
        }

        /// A vantage that falls silent never moves traffic that stood.
        #[test]
        fn falling_silent_never_moves_traffic(outside in "[fhu]{1,9}", inside in "[hfu]{0,3}", who in 0usize..9) {
            let mut given = inputs(&outside, &inside);
            let before = conclude(&given).state.moves_traffic();
            let who = who % given.outside.len();
            given.outside[who].vantage_state = VantageState::Silent;
            prop_assert!(before || !conclude(&given).state.moves_traffic());
        }
    }

    #[test]
    fn the_fixture_speaks_as_documented() {
        assert_eq!(opinion("a", "eu-west", 'F').vantage_state, VantageState::Silent);
        assert_eq!(opinion("a", "eu-west", 'h').state, OpinionState::Healthy);
    }
}
