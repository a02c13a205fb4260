//! What a backtest says in the end.

use drover_model::decision::FailureClass;
use drover_model::{EndpointKey, RegionId, ServiceId, Span, Timestamp};
use serde::Serialize;

/// Events, and outages, that are told one by one, at most; beyond that they are only counted.
pub const KEPT_MAX: usize = 10_000;

/// Everything that one policy would have done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    /// Rows that counted.
    pub rows: u64,
    /// Rows about vantages or endpoints that this configuration does not have.
    pub ignored: u64,
    /// Configured endpoints without any row: they are unknown all the while, so that nothing is moved to them.
    pub unseen: Vec<EndpointKey>,
    /// Time of the first row.
    pub from: Option<Timestamp>,
    /// Time of the last row.
    pub to: Option<Timestamp>,
    /// Some row said what was true.
    pub labelled: bool,
    /// All of it in numbers.
    pub totals: Totals,
    /// Failovers and questions, oldest first.
    pub events: Vec<Event>,
    /// Labelled outages, oldest first.
    pub outages: Vec<Outage>,
    /// Events and outages beyond [`KEPT_MAX`], which are in the totals alone.
    pub left_out: u64,
}

/// All of it in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Failovers that it would have made by itself.
    pub failovers: u64,
    /// Those during a labelled outage of what they left.
    pub failovers_right: u64,
    /// Those less than a failure window after one: right about the cause, too late to help.
    pub failovers_late: u64,
    /// Those with no outage at all.
    pub failovers_wrong: u64,
    /// Questions that it would have asked.
    pub questions: u64,
    /// Those during a labelled outage.
    pub questions_right: u64,
    /// Those less than a failure window after one.
    pub questions_late: u64,
    /// Those with no outage at all.
    pub questions_wrong: u64,
    /// Returns.
    pub failbacks: u64,
    /// Labelled outages, one an endpoint.
    pub outages: u64,
    /// Those that a failover moved traffic away from.
    pub outages_moved: u64,
    /// Those that a person was asked about, and no more.
    pub outages_asked: u64,
    /// Those of endpoints that were sent nothing at the time.
    pub outages_sheltered: u64,
    /// Those that nothing was done about.
    pub outages_missed: u64,
    /// Labelled outages together, by endpoint.
    pub outage_time: Span,
    /// The part of it in which the endpoint was still sent traffic.
    pub exposed_time: Span,
}

/// How long it took from the begin of an outage to the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delays {
    /// Half of them were shorter.
    pub median: Span,
    /// The longest.
    pub longest: Span,
}

/// What would have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// drover would have moved traffic.
    Failover,
    /// drover would have asked a person.
    Question,
}

/// Was it right, by the labels?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "rightness", rename_all = "snake_case")]
pub enum Rightness {
    /// During an outage.
    Right {
        /// Since its begin.
        delay: Span,
    },
    /// The outage was over, for less than a failure window.
    Late,
    /// There was no outage.
    Wrong,
    /// Nobody wrote down what was true.
    Unlabelled,
}

/// One failover or question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// The region that it left.
    pub region: RegionId,
    /// The services.
    pub services: Vec<ServiceId>,
    /// One service, or the whole region.
    pub class: FailureClass,
    /// Code of the reason that the decision gave.
    pub code: String,
    /// That reason in words.
    pub because: String,
    /// Whether it was right.
    #[serde(flatten)]
    pub rightness: Rightness,
    /// When the last of its services came back to the region; nothing when one did not, or it was not left.
    pub back_at: Option<Timestamp>,
}

/// What became of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageEnd {
    /// A failover moved traffic away from it.
    Moved,
    /// A person was asked.
    Asked,
    /// The endpoint was sent nothing all the while.
    Sheltered,
    /// Nothing was done.
    Missed,
}

/// A labelled outage of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Of what.
    pub endpoint: EndpointKey,
    /// The first row that says so.
    pub began_at: Timestamp,
    /// The first row after it that says otherwise; nothing when the history ends before.
    pub ended_at: Option<Timestamp>,
    /// What became of it.
    pub end: OutageEnd,
    /// From its begin to the failover, or to the question.
    pub delay: Option<Span>,
    /// How long it was sent traffic.
    pub exposed: Span,
}

impl Findings {
    pub(super) fn count(&mut self, kind: EventKind, rightness: Rightness) {
        let t = &mut self.totals;
        let (all, of_kind) = match (kind, rightness) {
            (EventKind::Failover, Rightness::Right { .. }) => {
                (&mut t.failovers, Some(&mut t.failovers_right))
            }
            (EventKind::Failover, Rightness::Late) => (&mut t.failovers, Some(&mut t.failovers_late)),
            (EventKind::Failover, Rightness::Wrong) => (&mut t.failovers, Some(&mut t.failovers_wrong)),
            (EventKind::Failover, Rightness::Unlabelled) => (&mut t.failovers, None),
            (EventKind::Question, Rightness::Right { .. }) => {
                (&mut t.questions, Some(&mut t.questions_right))
            }
            (EventKind::Question, Rightness::Late) => (&mut t.questions, Some(&mut t.questions_late)),
            (EventKind::Question, Rightness::Wrong) => (&mut t.questions, Some(&mut t.questions_wrong)),
            (EventKind::Question, Rightness::Unlabelled) => (&mut t.questions, None),
        };
        *all += 1;
        if let Some(of_kind) = of_kind {
            *of_kind += 1;
        }
    }

    /// Says where it is kept; nothing where it is only counted.
    pub(super) fn keep_event(&mut self, event: Event) -> Option<usize> {
        self.count(event.kind, event.rightness);
        if self.events.len() < KEPT_MAX {
            self.events.push(event);
            self.events.len().checked_sub(1)
        } else {
            self.left_out += 1;
            None
        }
    }

    pub(super) fn keep_outage(&mut self, outage: Outage, now: Timestamp) {
        let t = &mut self.totals;
        t.outages += 1;
        match outage.end {
            OutageEnd::Moved => t.outages_moved += 1,
            OutageEnd::Asked => t.outages_asked += 1,
            OutageEnd::Sheltered => t.outages_sheltered += 1,
            OutageEnd::Missed => t.outages_missed += 1,
        }
        t.outage_time = t.outage_time.plus(outage.ended_at.unwrap_or(now).since(outage.began_at));
        t.exposed_time = t.exposed_time.plus(outage.exposed);
        if self.outages.len() < KEPT_MAX {
            self.outages.push(outage);
        } else {
            self.left_out += 1;
        }
    }

    /// Of the outages that were moved away from; nothing when there was none.
    #[must_use]
    pub fn delays(&self) -> Option<Delays> {
        let moved = self.outages.iter().filter(|o| o.end == OutageEnd::Moved);
        let mut all: Vec<Span> = moved.filter_map(|o| o.delay).collect();
        all.sort_unstable();
        Some(Delays { median: *all.get(all.len().saturating_sub(1) / 2)?, longest: *all.last()? })
    }
}
