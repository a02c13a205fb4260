//! Reading a journal back.

use crate::error::{IllegalRecord, entry_word};
use crate::progress::{Phase, Progress};
use crate::state::{Execution, Live, Origin};
use drover_model::journal::{Entry, JOURNAL_RECORDS_MAX, JOURNAL_SCHEMA, Record};
use drover_model::{Epoch, RunId};
use std::sync::Arc;

impl Execution {
    /// The run as its records tell it. Nothing is under way afterwards: [`crate::Event::Start`] goes on with it.
    ///
    /// # Errors
    /// [`IllegalRecord`] for the first record that cannot follow those before it.
    pub fn replay(records: &[Record]) -> Result<Self, IllegalRecord> {
        let first = records.first().ok_or(IllegalRecord::Empty)?;
        let Entry::Created { plan, by, trigger, ask, rto, .. } = &first.entry else {
            return Err(IllegalRecord::NoBeginning {
                run: first.run.clone(),
                entry: entry_word(&first.entry),
            });
        };
        let origin =
            Origin { run: first.run.clone(), by: by.clone(), trigger: trigger.clone(), ask: *ask, rto: *rto };
        let mut progress = Progress::new(Arc::new(plan.clone()), first.epoch, first.at);
        for record in records {
            progress.admit(&origin.run, record)?;
        }
        Ok(Self { origin: Arc::new(origin), progress, live: Live::default() })
    }
}

/// May records under `next` follow those under `before`? A counter never falls; another incarnation, which is a
/// restored
/// store that was adopted, can only come with a takeover.
fn authority_follows(before: Epoch, next: Epoch, entry: &Entry) -> bool {
    let takeover = matches!(entry, Entry::TakenOver);
    if before.incarnation == next.incarnation {
        next.counter == before.counter || (next.counter > before.counter && takeover)
    } else {
        takeover
    }
}

impl Progress {
    /// Takes one record: the only way in which a run's state ever changes.
    pub(crate) fn admit(&mut self, run: &RunId, record: &Record) -> Result<(), IllegalRecord> {
        let (sequence, run) = (record.sequence, run.clone());
        if record.schema == 0 || record.schema > JOURNAL_SCHEMA {
            return Err(IllegalRecord::Schema { run, sequence, found: record.schema, known: JOURNAL_SCHEMA });
        }
        if record.run != run {
            return Err(IllegalRecord::OtherRun { run, sequence, found: record.run.clone() });
        }
        if sequence != self.sequence {
            return Err(IllegalRecord::Gap { run, expected: self.sequence, found: sequence });
        }
        if sequence >= JOURNAL_RECORDS_MAX {
            return Err(IllegalRecord::TooMany { run });
        }
        let misfit = |state: String| IllegalRecord::Entry {
            run: run.clone(),
            sequence,
            state,
            entry: entry_word(&record.entry),
        };
        if matches!(self.phase, Phase::Over(_)) {
            return Err(misfit(self.words()));
        }
        if !authority_follows(self.epoch, record.epoch, &record.entry) {
            return Err(IllegalRecord::Epoch {
                run: run.clone(),
                sequence,
                before: self.epoch,
                found: record.epoch,
            });
        }
        self.apply(&record.entry, record.at).map_err(|_| misfit(self.words()))?;
        self.sequence += 1;
        self.epoch = record.epoch;
        Ok(())
    }
}
