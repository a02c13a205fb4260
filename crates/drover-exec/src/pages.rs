//! What people are told, and when: a run asks, holds, needs them, or is over.

use crate::journal::{PageAbout, PageOrder};
use crate::progress::{Hold, Phase};
use crate::state::Execution;

impl Execution {
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
