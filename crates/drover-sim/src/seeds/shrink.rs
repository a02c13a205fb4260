//! A shorter story that breaks the same: delta debugging over the list of faults (Zeller and Hildebrandt, "Simplifying
//! and Isolating Failure-Inducing Input", 2002).

use super::{Played, Story, play};
use crate::world::{WorldError, WorldFiles};

/// Plays that are made at most: a story has a few dozen faults, which takes a few dozen plays.
const PLAYS_MAX: usize = 400;

/// What is violated, without its particulars: `I6`, `rest`.
fn kind(played: &Played) -> Option<&str> {
    played.violations.first().map(|v| v.split([' ', ':']).next().unwrap_or_default())
}

/// The story without any fault that its violation does not need, with what comes of it. As it is when it violates nothing.
///
/// # Errors
/// [`WorldError`] when its configuration is refused.
pub fn shrink(runbooks: &WorldFiles, story: &Story) -> Result<(Story, Played), WorldError> {
    let mut best = (story.clone(), play(runbooks, story)?);
    let Some(wanted) = kind(&best.1).map(str::to_owned) else { return Ok(best) };
    let (mut parts, mut plays) = (2, 1);
    while best.0.faults.len() > 1 && plays < PLAYS_MAX {
        let length = best.0.faults.len();
        let chunk = length.div_ceil(parts);
        let mut smaller = None;
        for from in (0..length).step_by(chunk) {
            let to = (from + chunk).min(length);
            let kept = best.0.faults.iter().enumerate().filter(|(n, _)| !(from..to).contains(n));
            let tried = Story { faults: kept.map(|(_, f)| f.clone()).collect(), ..best.0.clone() };
            let played = play(runbooks, &tried)?;
            plays += 1;
            if kind(&played) == Some(&wanted) {
                smaller = Some((tried, played));
                break;
            }
        }
        match smaller {
            Some(found) => {
                best = found;
                parts = (parts - 1).max(2);
            }
            None if chunk == 1 => break,
            None => parts = (parts * 2).min(length),
        }
    }
    Ok(best)
}
