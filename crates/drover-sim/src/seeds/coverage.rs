//! What the stories of a suite must have shown: a proof over worlds in which nothing happens proves nothing.

use crate::leader;
use crate::state::State;
use drover_model::decision::{ActionDecision, Conclusion, FailureClass};
use drover_model::runbook::Purpose;
use std::collections::{BTreeMap, BTreeSet};

/// Every guard that may refuse a failover of drover's own in a generated world. Not `check`, which would be a mistake of the
/// planner's, and not what holds a failover back for a look until another run has stopped or begun (`preemption`,
/// `superseding`, `one_at_a_time`).
pub const GUARDS: [&str; 15] = [
    "freeze",
    "run_in_progress",
    "settling",
    "automatic",
    "quorum",
    "quiet_after_takeover",
    "common_cause",
    "block_period",
    "flap_damping",
    "max_unavailable",
    "capacity",
    "target",
    "plan",
    "one_run",
    "repeat",
];

/// Shares of the stories, in percent, below which a suite is no proof.
const FAILOVER_PERCENT: u64 = 30;
const TAKEOVER_PERCENT: u64 = 10;
const GUARD_PERCENT: u64 = 5;

/// The same for what happens to write rights.
const RIGHTS: [(&str, u64); 4] = [
    ("a write right that was moved", 30),
    ("a write right that was given back", 4),
    ("a holder that its peers vouched for", 4),
    ("a move that a second leader went on with", 1),
];

/// What happened to write rights in one world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RightsSeen {
    /// One was moved.
    pub moved: bool,
    /// One was given back.
    pub aborted: bool,
    /// A holder wrote on because its peers vouched for it.
    pub vouched: bool,
    /// A leader went on with a move that another one began.
    pub resumed: bool,
}

impl RightsSeen {
    pub(crate) fn add(&mut self, other: Self) {
        self.moved |= other.moved;
        self.aborted |= other.aborted;
        self.vouched |= other.vouched;
        self.resumed |= other.resumed;
    }
}

/// What happened in one world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Drover moved traffic off a region by itself.
    pub failover: bool,
    /// A leader was succeeded while it drove a run.
    pub takeover: bool,
    /// To its datasets.
    pub rights: RightsSeen,
    /// Guards that refused something that drover would have done.
    pub refused: BTreeSet<String>,
}

impl State {
    pub(crate) fn saw_takeover(&mut self) {
        let driven = self.executions().any(|e| leader::is_under_way(&e));
        self.seen.takeover |= driven;
    }

    /// Every guard is asked about every case, so that each that refuses is one that would have stopped it alone.
    pub(crate) fn saw_decision(&mut self, decision: &ActionDecision) {
        if decision.conclusion == Conclusion::Act || decision.purpose != Purpose::Failover {
            return;
        }
        for guard in decision.guards.iter().filter(|g| !g.passed) {
            if !self.seen.refused.contains(&guard.guard) {
                self.seen.refused.insert(guard.guard.clone());
            }
        }
    }

    pub(crate) fn saw_move(&mut self, class: FailureClass) {
        self.seen.failover |= class != FailureClass::Recovery;
    }
}

/// Over many stories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    stories: u64,
    failovers: u64,
    takeovers: u64,
    rights: [u64; 4],
    refused: BTreeMap<String, u64>,
}

/// What was seen too seldom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {stories} of {of} stories, at least {percent} % must")]
pub struct Shortfall {
    /// What.
    pub what: String,
    /// In how many.
    pub stories: u64,
    /// Of how many.
    pub of: u64,
    /// The bound.
    pub percent: u64,
}

impl Coverage {
    /// One story more.
    pub fn add(&mut self, seen: &Seen) {
        self.stories += 1;
        self.failovers += u64::from(seen.failover);
        self.takeovers += u64::from(seen.takeover);
        let RightsSeen { moved, aborted, vouched, resumed } = seen.rights;
        for (stories, is) in self.rights.iter_mut().zip([moved, aborted, vouched, resumed]) {
            *stories += u64::from(is);
        }
        for guard in &seen.refused {
            *self.refused.entry(guard.clone()).or_default() += 1;
        }
    }

    /// What others counted.
    pub fn merge(&mut self, other: &Coverage) {
        self.stories += other.stories;
        self.failovers += other.failovers;
        self.takeovers += other.takeovers;
        for (stories, more) in self.rights.iter_mut().zip(other.rights) {
            *stories += more;
        }
        for (guard, stories) in &other.refused {
            *self.refused.entry(guard.clone()).or_default() += stories;
        }
    }

    fn rows(&self) -> Vec<(String, u64, u64)> {
        let mut rows = vec![
            ("an automatic failover".to_owned(), self.failovers, FAILOVER_PERCENT),
            ("a takeover during an execution".to_owned(), self.takeovers, TAKEOVER_PERCENT),
        ];
        let rights = RIGHTS.into_iter().zip(self.rights);
        rows.extend(rights.map(|((what, percent), stories)| (what.to_owned(), stories, percent)));
        rows.extend(GUARDS.iter().map(|guard| {
            let stories = self.refused.get(*guard).copied().unwrap_or_default();
            (format!("a refusal by {guard}"), stories, GUARD_PERCENT)
        }));
        rows
    }

    /// What falls short of its bound.
    #[must_use]
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let short = |(_, stories, percent): &(String, u64, u64)| stories * 100 < percent * self.stories;
        let rows = self.rows().into_iter().filter(short);
        rows.map(|(what, stories, percent)| Shortfall { what, stories, of: self.stories, percent }).collect()
    }

    /// A line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let share = |stories: u64| stories as f64 * 100.0 / self.stories.max(1) as f64;
        let mut lines: Vec<String> = self
            .rows()
            .into_iter()
            .map(|(what, stories, percent)| {
                format!(
                    "{:5.1} % of {} stories hold {what} (at least {percent} %)",
                    share(stories),
                    self.stories
                )
            })
            .collect();
        let others = self.refused.iter().filter(|(guard, _)| !GUARDS.contains(&guard.as_str()));
        lines.extend(others.map(|(guard, stories)| {
            format!("{:5.1} % of {} stories hold a refusal by {guard}", share(*stories), self.stories)
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_too_seldom_is_named_with_its_numbers() {
        let mut coverage = Coverage::default();
        let rights = RightsSeen { moved: true, aborted: true, vouched: true, resumed: true };
        let all = GUARDS.iter().map(|g| (*g).to_owned()).collect();
        coverage.add(&Seen { failover: true, takeover: true, rights, refused: all });
        assert_eq!(coverage.shortfalls(), []);
        (0..9).for_each(|_| coverage.add(&Seen::default()));
        assert_eq!(
            coverage.shortfalls().iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "an automatic failover: 1 of 10 stories, at least 30 % must",
                "a write right that was moved: 1 of 10 stories, at least 30 % must"
            ]
        );
        let mut other = Coverage::default();
        (0..11).for_each(|_| other.add(&Seen::default()));
        coverage.merge(&other);
        assert_eq!(coverage.shortfalls().len(), 3 + GUARDS.len(), "those of less than 5 % are held");
        assert!(coverage.lines()[0].starts_with("  4.8 % of 21 stories"), "{:?}", coverage.lines());
    }
}
