//! From a seed to a story.

use super::datasets::Data;
use super::recipes::{self, Draft};
use super::{Story, worlds};
use drover_model::Span;

/// How long the faults of a story last.
pub const STORY_SPAN: Span = Span::from_mins(10);

/// Every story has so many at least.
pub const FAULTS_MIN: usize = 5;

/// Each story of such a seed is about a question whose answer comes after the world has moved on.
const ANSWERED_TOO_LATE: u64 = 16;

/// The story of a seed, always the same.
#[must_use]
pub fn story(seed: u64) -> Story {
    let mut chance = fastrand::Rng::with_seed(seed);
    let data = Data::of(seed);
    let world = format!("{}{}", worlds::text(&mut chance), data.document());
    let mut draft = Draft::new(chance);
    if seed.is_multiple_of(ANSWERED_TOO_LATE) {
        recipes::answered_too_late(&mut draft);
    } else {
        recipes::main(&mut draft);
    }
    while draft.len() < FAULTS_MIN || draft.chance.u32(..100) < recipes::ONE_MORE_PERCENT {
        recipes::trouble(&mut draft);
    }
    Story { seed, world, faults: draft.and(data.faults()).faults() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_story_with_enough_faults_in_their_order() {
        for seed in 0..200 {
            let made = story(seed);
            assert_eq!(made, story(seed));
            assert!(made.faults.len() >= FAULTS_MIN, "{made:?}");
            assert!(made.faults.is_sorted_by_key(|f| f.at), "{made:?}");
            assert!(made.faults.iter().all(|f| f.at < STORY_SPAN), "{made:?}");
        }
        assert_ne!(story(1).faults, story(2).faults);
    }
}
