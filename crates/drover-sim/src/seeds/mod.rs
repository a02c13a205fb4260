//! Worlds and faults from a seed, with what must be true of each.
//!
//! A [`Story`] is a configuration and a list of verbs with their times, nothing else, so that it can be printed, made
//! shorter, and played again. [`play`] has the invariants looked at after every event while the faults last; then the
//! faults stop, and the world must come to rest: every run ends or waits for a person, and every weight that is not what a
//! healthy world has stands for a reason that is told.

mod coverage;
mod datasets;
mod generate;
mod recipes;
mod rest;
mod shrink;
mod worlds;

pub use coverage::{Coverage, GUARDS, RightsSeen, Seen, Shortfall};
pub use generate::{FAULTS_MIN, STORY_SPAN, story};
pub use shrink::shrink;

use crate::render::clock;
use crate::sim::Simulation;
use crate::verbs::{self, Words};
use crate::world::{WorldError, WorldFiles};
use drover_model::{Span, Timestamp};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The name of a story's world among the files that it is played with.
const WORLD: &str = "story";

/// One verb of fate, or of a person, at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// After the world began.
    pub at: Span,
    /// As in a script.
    pub verb: String,
}

/// A world and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// What it was made from.
    pub seed: u64,
    /// The configuration, as its files have it.
    pub world: String,
    /// In the order of their times.
    pub faults: Vec<Fault>,
}

/// What came of a story.
#[derive(Debug, Clone)]
pub struct Played {
    /// What must never happen and did, and where the world did not come to rest.
    pub violations: Vec<String>,
    /// One line an event.
    pub trace: Vec<String>,
    /// Of the trace and of every record of every journal: two plays of one story have the same.
    pub digest: u64,
    /// What happened in it that matters for a proof.
    pub seen: Seen,
    /// How long it lasted by its own clock, the time before the first fault included.
    pub lasted: Span,
}

/// Plays a story to its end.
///
/// # Errors
/// [`WorldError`] when its configuration is refused: a mistake of whoever made it.
pub fn play(runbooks: &WorldFiles, story: &Story) -> Result<Played, WorldError> {
    Ok(play_in(begin(runbooks, story)?, story))
}

/// The same in a world in which one rule is not kept.
///
/// # Errors
/// As for [`play`].
#[cfg(feature = "planted-bugs")]
pub fn play_without(
    runbooks: &WorldFiles,
    story: &Story,
    rule: crate::planted::Planted,
) -> Result<Played, WorldError> {
    let sim = begin(runbooks, story)?;
    sim.shared.lock().planted = Some(rule);
    Ok(play_in(sim, story))
}

fn begin(runbooks: &WorldFiles, story: &Story) -> Result<Simulation, WorldError> {
    let mut files = runbooks.clone();
    files.worlds.insert(WORLD.to_owned(), story.world.clone());
    Simulation::new(&files, WORLD, false)
}

fn play_in(sim: Simulation, story: &Story) -> Played {
    let mut player = Player { sim, trace: vec![], broken: vec![] };
    let mut passed = Span::ZERO;
    for fault in &story.faults {
        player.advance(Span::from_millis(fault.at.as_millis().saturating_sub(passed.as_millis())));
        passed = passed.max(fault.at);
        player.verb(&fault.verb);
        if player.is_violated() {
            return player.end();
        }
    }
    player.advance(Span::from_millis(STORY_SPAN.as_millis().saturating_sub(passed.as_millis())));
    if !player.is_violated() {
        player.come_to_rest();
    }
    player.end()
}

struct Player {
    sim: Simulation,
    trace: Vec<String>,
    /// What the story's own words did wrong, and unrest.
    broken: Vec<String>,
}

impl Player {
    fn advance(&mut self, span: Span) {
        if span > Span::ZERO {
            self.sim.advance(span);
        }
        self.hear();
    }

    fn hear(&mut self) {
        let told = self.sim.told().into_iter().map(|(at, what)| format!("{} {what}", clock(at)));
        self.trace.extend(told);
    }

    fn is_violated(&self) -> bool {
        !self.broken.is_empty() || !self.sim.shared.lock().watch.violations.is_empty()
    }

    /// A person may name a run that there is not; anything else that can't be done is a mistake of the story.
    fn verb(&mut self, line: &str) {
        let now = self.sim.now();
        self.trace.push(format!("{} # {line}", clock(now)));
        let handle = self.sim.handle();
        let _inside = handle.enter();
        let mut words = Words::of(line);
        let played = words.next("a verb").and_then(|verb| verbs::play(&mut self.sim, &verb, words));
        match played {
            Ok(printed) => self.trace.extend(printed.into_iter().map(|line| format!("         {line}"))),
            Err(why) if why.starts_with("no run ") => self.trace.push(format!("         {why}")),
            Err(why) => self.broken.push(format!("story: `{line}` can't be played: {why}")),
        }
    }

    fn come_to_rest(&mut self) {
        self.verb("heal");
        {
            let mut state = self.sim.shared.lock();
            state.crash_at = None;
        }
        let mut waited = Span::ZERO;
        loop {
            self.advance(rest::LOOK);
            waited = waited.plus(rest::LOOK);
            let unrest = self.unrest();
            if self.is_violated() || unrest.is_empty() {
                return;
            }
            if waited >= rest::WITHIN {
                let late = unrest.into_iter();
                self.broken.extend(late.map(|what| format!("rest: {what}, {waited} after the last fault")));
                return;
            }
        }
    }

    fn unrest(&self) -> Vec<String> {
        let handle = self.sim.handle();
        let _inside = handle.enter();
        rest::unrest(&self.sim.shared.lock())
    }

    fn end(mut self) -> Played {
        self.hear();
        let lasted = self.sim.now().since(crate::state::BEGINNING).plus(crate::state::WARM_UP);
        let state = self.sim.shared.lock();
        let mut violations = state.watch.violations.clone();
        violations.extend(self.broken);
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        for record in state.store.journals.values().flatten() {
            format!("{record:?}").hash(&mut hasher);
        }
        let seen = state.seen.clone();
        Played { violations, trace: self.trace, digest: hasher.finish(), seen, lasted }
    }
}

impl Simulation {
    fn now(&self) -> Timestamp {
        let handle = self.handle();
        let _inside = handle.enter();
        self.shared.lock().now()
    }
}
