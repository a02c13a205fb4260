//! A stored decision, run again: the same pure functions on the inputs that were stored beside it. What differs was
//! changed since, or was decided by a build that decided otherwise.

use crate::{damping, decide, quorum, verdict};
use drover_model::decision::{
    ActionDecision, DECISION_SCHEMA, DecisionBody, StoredDecision, Verdict, VerdictInputs, VerdictState,
};
use drover_model::plan::World;
use drover_model::{RegionId, Timestamp};

/// What came of running a stored decision again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The same came out, to the last number.
    pub same: bool,
    /// What was stored, in words.
    pub stored: String,
    /// What comes out now, in words.
    pub now: String,
}

/// Runs `decision` again on its stored inputs, at its stored time.
#[must_use]
pub fn replay(decision: &StoredDecision) -> Replay {
    if decision.schema > DECISION_SCHEMA {
        let now = format!("stored in format {}; this build reads up to {DECISION_SCHEMA}", decision.schema);
        return Replay { same: false, stored: String::new(), now };
    }
    match &decision.body {
        DecisionBody::Verdict { inputs, verdict } => replay_verdict(inputs, verdict),
        DecisionBody::Action { world, region, decision: stored, .. } => match world {
            Some(world) => replay_action(world, region, stored, decision.at),
            None => without_world(stored),
        },
    }
}

fn without_world(stored: &ActionDecision) -> Replay {
    cov_mark::hit!(replay_without_world);
    let now = "can't be run again: the world that it was made from was not kept: it was too large, too many waited, \
               or the coordinator ended before it was written";
    Replay { same: false, stored: decide::sentence(stored), now: now.into() }
}

fn replay_verdict(inputs: &VerdictInputs, stored: &Verdict) -> Replay {
    let mut again = verdict::conclude(inputs);
    // Damping is no part of the inputs: that a healthy verdict was held back is taken from what was stored.
    if damping::is_probation(stored) && again.state == VerdictState::Healthy {
        again = damping::hold_back(again, stored.reason.clone());
    }
    let rule = quorum::need(again.configured);
    let (stored_words, mut now) = (verdict_in_words(stored), verdict_in_words(&again));
    let lawful = inputs.need >= rule;
    if !lawful {
        cov_mark::hit!(replay_finds_lowered_need);
        now = format!("inputs that drover never makes: {} vantages needed, the rule is {rule}", inputs.need);
    }
    Replay { same: lawful && again == *stored, stored: stored_words, now }
}

fn verdict_in_words(v: &Verdict) -> String {
    let suspect = if v.suspect { ", suspect" } else { "" };
    format!(
        "{}: {} ({} failing, {} healthy, {} abstaining of {}, {} needed{suspect})",
        v.state, v.reason, v.failing, v.healthy, v.abstaining, v.configured, v.need
    )
}

fn replay_action(world: &World, region: &RegionId, stored: &ActionDecision, at: Timestamp) -> Replay {
    let again = decide::decide(world, at).into_iter().find(|d| d.region == *region);
    let now = again.as_ref().map_or_else(
        || format!("nothing to decide about {region}"),
        |decision| action_in_words(decision, stored),
    );
    let stored_words =
        again.as_ref().map_or_else(|| decide::sentence(stored), |other| action_in_words(stored, other));
    Replay { same: again.as_ref() == Some(stored), stored: stored_words, now }
}

/// The sentence, and whatever else sets it apart from `other`.
fn action_in_words(decision: &ActionDecision, other: &ActionDecision) -> String {
    let mut words = decide::sentence(decision);
    if decision.class != other.class {
        words.push_str(&format!("; {}", decision.class));
    }
    if decision.services != other.services {
        let names: Vec<_> = decision.services.iter().map(drover_model::ServiceId::as_str).collect();
        words.push_str(&format!("; services: {}", names.join(", ")));
    }
    for guard in decision.guards.iter().filter(|g| !other.guards.contains(g)) {
        let said = if guard.passed { "passed" } else { "refused" };
        words.push_str(&format!("; {} {said}: {}", guard.guard, guard.reason));
    }
    if decision.look_again_at != other.look_again_at {
        let again = decision.look_again_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        words.push_str(&format!("; looking again: {again}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damping::Damping;
    use crate::fixture::{Fixture, NOW, endpoint, hold, inputs, region};
    use crate::verdict::conclude;
    use drover_model::decision::{OpinionState, VantageState};
    use drover_model::{DecisionId, Epoch, Span};
    use std::sync::Arc;

    fn stored(body: DecisionBody) -> StoredDecision {
        StoredDecision {
            schema: DECISION_SCHEMA,
            id: DecisionId::numbered(42),
            at: NOW,
            epoch: Epoch::default(),
            body,
        }
    }

    fn verdict_of(outside: &str, inside: &str) -> StoredDecision {
        let inputs = inputs(outside, inside);
        let verdict = conclude(&inputs);
        stored(DecisionBody::Verdict { inputs, verdict })
    }

    fn action() -> StoredDecision {
        let mut world = Fixture::three_regions_and_witness().world();
        hold(&mut world, &endpoint("checkout@eu-west"), "ffh", "", 600);
        let place = region("eu-west");
        let decision = decide::decide(&world, NOW).remove(0);
        let world = Some(Box::new(world.narrowed(&decide::concerned(&world, &place))));
        stored(DecisionBody::Action { world, region: place, decision, plan: None, run: None })
    }

    #[test]
    fn what_was_decided_is_decided_again() {
        for (outside, inside) in [("ffh", "U"), ("hhh", "h"), ("fhh", "h"), ("UUU", ""), ("hhh", "f")] {
            let replay = replay(&verdict_of(outside, inside));
            assert!(replay.same, "{outside} / {inside}: {replay:?}");
            assert_eq!(replay.stored, replay.now);
        }
        let replay = replay(&action());
        assert!(replay.same, "{replay:?}");
        assert_eq!(replay.now, "failing over eu-west (checkout): 2 of 3 outside vantages agree, 2 needed");
    }

    #[test]
    fn a_decision_survives_its_storage() {
        for decision in [verdict_of("ffh", "h"), action()] {
            let text = serde_json::to_string(&decision).unwrap();
            assert!(replay(&serde_json::from_str(&text).unwrap()).same);
        }
    }

    #[test]
    fn one_corrupted_input_shows() {
        type Corruption = fn(&mut VerdictInputs);
        let corruptions: [Corruption; 5] = [
            |inputs| inputs.outside[0].state = OpinionState::Healthy,
            |inputs| inputs.outside[1].vantage_state = VantageState::Silent,
            |inputs| inputs.inside[0].state = OpinionState::Healthy,
            |inputs| inputs.need = 3,
            |inputs| drop(inputs.outside.pop()),
        ];
        for (n, corrupt) in corruptions.into_iter().enumerate() {
            let mut decision = verdict_of("ffh", "u");
            let DecisionBody::Verdict { inputs, .. } = &mut decision.body else { unreachable!() };
            corrupt(inputs);
            let replay = replay(&decision);
            assert!(!replay.same && replay.stored != replay.now, "corruption {n}: {replay:?}");
        }
    }

    #[test]
    fn a_lowered_need_shows_although_it_would_decide_the_same() {
        cov_mark::check!(replay_finds_lowered_need);
        let mut decision = verdict_of("ffh", "u");
        let DecisionBody::Verdict { inputs, .. } = &mut decision.body else { unreachable!() };
        inputs.need = 1;
        assert!(!replay(&decision).same);
    }

    #[test]
    fn a_corrupted_world_shows() {
        type Corruption = fn(&mut World);
        let corruptions: [Corruption; 4] = [
            |world| hold(world, &endpoint("checkout@eu-west"), "fhh", "", 600),
            |world| {
                Arc::make_mut(&mut world.config)
                    .services
                    .values_mut()
                    .for_each(|s| s.failover.automatic = false)
            },
            |world| world.heard_since_start.clear(),
            |world| hold(world, &endpoint("checkout@us-east"), "fff", "", 10),
        ];
        for (n, corrupt) in corruptions.into_iter().enumerate() {
            let mut decision = action();
            let DecisionBody::Action { world, .. } = &mut decision.body else { unreachable!() };
            corrupt(world.as_mut().unwrap());
            let replay = replay(&decision);
            assert!(!replay.same && replay.stored != replay.now, "corruption {n}: {replay:?}");
        }
    }

    #[test]
    fn without_its_world_a_decision_is_not_called_the_same() {
        let mut decision = action();
        let DecisionBody::Action { world, .. } = &mut decision.body else { unreachable!() };
        *world = None;
        cov_mark::check!(replay_without_world);
        let replay = replay(&decision);
        assert!(!replay.same && replay.now.contains("was not kept"), "{replay:?}");
    }

    #[test]
    fn a_verdict_that_damping_held_back_replays() {
        let damping = Damping::of(Fixture::three_regions_and_witness().service("checkout"));
        let (bad, good) = (conclude(&inputs("fff", "")), conclude(&inputs("hhh", "h")));
        let mut standing = damping::apply(None, bad.clone(), NOW, &damping);
        for (mins, verdict) in [(6, &good), (8, &bad), (14, &good)] {
            standing =
                damping::apply(Some(&standing), verdict.clone(), NOW + Span::from_mins(mins), &damping);
        }
        assert_eq!(standing.verdict.state, VerdictState::Unknown);
        let held_back = |letters| DecisionBody::Verdict {
            inputs: inputs(letters, "h"),
            verdict: standing.verdict.clone(),
        };
        assert!(replay(&stored(held_back("hhh"))).same);
        assert!(!replay(&stored(held_back("fhh"))).same);
    }

    #[test]
    fn a_newer_format_is_not_guessed_at() {
        let newer = StoredDecision { schema: DECISION_SCHEMA + 1, ..verdict_of("ffh", "") };
        assert!(!replay(&newer).same);
    }
}
