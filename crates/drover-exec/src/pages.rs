//! What people are told, and when: a run asks, holds, needs them, was approved by one for all, or is over.

use crate::journal::{PageAbout, PageOrder};
use crate::progress::{Alone, Hold, Phase};
use crate::state::Execution;
use drover_model::{Span, Timestamp};

/// For so long it is told again that somebody approved alone: less than an outbox remembers what it has sent.
const ALONE_TOLD_FOR: Span = Span::from_hours(24 * 6);

impl Execution {
    /// What whoever takes the run over tells again: the one before may have ended between a record and its page.
    #[must_use]
    pub fn pages(&self, now: Timestamp) -> Vec<PageOrder> {
        let fresh = self.progress.alone.iter().filter(|alone| now.since(alone.at) < ALONE_TOLD_FOR);
        fresh.map(|alone| self.page_alone(alone)).chain(self.page()).collect()
    }

    /// The page that belongs to the record of this sequence, if one person answered by it for all who were asked: whoever
    /// was not asked hears of it.
    pub(crate) fn page_alone_of(&self, sequence: u64) -> Option<PageOrder> {
        let alone = self.progress.alone.last().filter(|alone| alone.sequence == sequence)?;
        Some(self.page_alone(alone))
    }

    fn page_alone(&self, alone: &Alone) -> PageOrder {
        let (run, Alone { sequence, by, reason, .. }) = (&self.origin.run, alone);
        PageOrder {
            key: format!("{run}/alone/{sequence}"),
            run: run.clone(),
            about: PageAbout::Alone,
            message: format!("{by} approved {run} alone, though more than one must agree: {reason}"),
        }
    }

    /// The page that belongs to where the run stands. Its key names the record that made it so, and a new leader that
    /// tells it again names the same.
    #[must_use]
    pub fn page(&self) -> Option<PageOrder> {
        let (run, note) = (&self.origin.run, &self.progress.note);
        let (word, about, message) = match &self.progress.phase {
            Phase::Awaiting { expires_at } | Phase::Asking { expires_at } => {
                let plan = &self.progress.plan.id;
                let answer =
                    format!("`drover approve {run} --reason TEXT` or `drover reject {run} --reason TEXT`");
                (
                    "approval",
                    PageAbout::Asks,
                    format!("waits for approval of {plan} until {expires_at}: {note}; {answer}"),
                )
            }
            Phase::Held { hold: Hold::Paused, .. } => {
                ("paused", PageAbout::Holds, format!("is paused: {note}; `drover run show {run}`"))
            }
            Phase::Held { hold: Hold::NeedsOperator, .. } => (
                "needs_operator",
                PageAbout::Holds,
                format!("needs an operator: {note}; `drover run show {run}`"),
            ),
            Phase::Over(state) => ("ended", PageAbout::Ended(*state), format!("ended {state}: {note}")),
            _ => return None,
        };
        let intent = &self.progress.plan.intent;
        Some(PageOrder {
            key: format!("{run}/{word}/{}", self.progress.noted_at),
            run: run.clone(),
            about,
            message: format!("{run} ({} {}) {message}", intent.purpose, intent.region),
        })
    }
}
