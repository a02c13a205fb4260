//! Getting a record into the journal. A record that was not written holds the run: nothing is under way meanwhile, and
//! nothing begins until it is durable.

use crate::error::{IllegalRecord, StandDown};
use crate::handle::Effect;
use crate::journal::{JournalError, PageAbout, PageOrder};
use crate::state::{Execution, Pending, Work};
use drover_model::journal::{Entry, JOURNAL_RECORDS_MAX, JOURNAL_SCHEMA, Record};
use drover_model::{Span, Timestamp};

/// The first pause after a failed append; doubled for each further one: 0.1 + 0.2 + 0.4 + 0.8 s before people are
/// paged.
pub const APPEND_BACKOFF: Span = Span::from_millis(100);
/// Appends of one record that may fail before people are paged. It is tried on after that, every [`APPEND_PAUSE`].
pub const APPEND_TRIES_BEFORE_PAGE: u32 = 5;
/// Pause between appends once people were paged.
pub const APPEND_PAUSE: Span = Span::from_secs(10);

impl Execution {
    /// Puts a record on its way.
    pub(crate) fn propose(&mut self, entry: Entry, now: Timestamp) -> Vec<Effect> {
        assert!(self.live.pending.is_none(), "a second record while one is on its way");
        let sequence = self.progress.sequence;
        if sequence >= JOURNAL_RECORDS_MAX {
            return self
                .stand_down(StandDown::Illegal(IllegalRecord::TooMany { run: self.origin.run.clone() }));
        }
        let record = Record {
            schema: JOURNAL_SCHEMA,
            run: self.origin.run.clone(),
            sequence,
            at: now,
            epoch: self.live.epoch.unwrap_or(self.progress.epoch),
            entry,
        };
        self.live.pending = Some(Pending { record: record.clone(), tries: 0, retry_at: None });
        vec![Effect::Append(record)]
    }

    /// The record may not be durable: try again, more rarely once people know.
    pub(crate) fn append_failed(
        &mut self,
        sequence: u64,
        error: JournalError,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(pending) = self.live.pending.as_mut().filter(|p| p.record.sequence == sequence) else {
            return Vec::new();
        };
        match error {
            JournalError::Fenced { detail } => self.stand_down(StandDown::Fenced(detail)),
            error @ JournalError::Conflict { .. } => self.stand_down(StandDown::Conflict(error)),
            JournalError::OutOfSpace { .. }
            | JournalError::TooLarge { .. }
            | JournalError::Unavailable { .. } => {
                pending.tries = pending.tries.saturating_add(1);
                let tries = pending.tries;
                if tries < APPEND_TRIES_BEFORE_PAGE {
                    pending.retry_at = Some(now + APPEND_BACKOFF.times(1 << (tries - 1)));
                    return Vec::new();
                }
                pending.retry_at = Some(now + APPEND_PAUSE);
                if tries > APPEND_TRIES_BEFORE_PAGE {
                    return Vec::new();
                }
                cov_mark::hit!(a_lost_journal_holds_the_run);
                vec![Effect::Page(PageOrder {
                    key: format!("{}/journal/{sequence}", self.origin.run),
                    run: self.origin.run.clone(),
                    about: PageAbout::Holds,
                    message: format!(
                        "{} holds: record {sequence} could not be written in {tries} attempts ({error}); trying \
                         again every {APPEND_PAUSE}",
                        self.origin.run
                    ),
                })]
            }
        }
    }

    /// Appends once more, when it is time.
    pub(crate) fn append_again(&mut self, now: Timestamp) -> Vec<Effect> {
        match &mut self.live.pending {
            Some(pending) if pending.retry_at.is_some_and(|at| now >= at) => {
                pending.retry_at = None;
                vec![Effect::Append(pending.record.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Stops without another word: work is cancelled, the record on its way is dropped.
    pub(crate) fn stand_down(&mut self, why: StandDown) -> Vec<Effect> {
        cov_mark::hit!(i3_fenced_stands_down);
        self.live.stood_down = true;
        self.live.pending = None;
        let working = self.live.in_flight.take().is_some_and(|w| w.work != Work::Wait);
        let cancel = working.then_some(Effect::CancelAct);
        cancel.into_iter().chain([Effect::StandDown(why)]).collect()
    }
}
