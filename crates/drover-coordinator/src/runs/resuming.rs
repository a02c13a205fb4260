//! Runs that are in the store: gone on with by whoever begins to lead, shown by whoever follows.

use super::RunTable;
use crate::coordinator::Coordinator;
use crate::db::{LIST_PAGE, keys};
use crate::error::CoordinatorError;
use crate::kinds;
use crate::outbox::{self, NewPage};
use crate::runs::ENDED_RUNS_KEPT;
use crate::steps::Hands;
use drover_exec::{Effects, Execution};
use drover_model::RunId;
use drover_model::api::{RunSummary, Severity};
use serde::de::IgnoredAny;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

impl RunTable {
    /// Those that nobody drives, since their journal can't be read or replayed.
    pub(crate) fn left_alone(&self) -> BTreeSet<RunId> {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave_alone(&self, run: &RunId, is_so: bool) {
        let mut all = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        if is_so {
            all.insert(run.clone())
        } else {
            all.remove(run)
        };
    }
}

impl Coordinator {
    /// Goes on with every run of the store that is not over, and remembers the newest that are: of these come block
    /// periods and the usual times of steps. Older journals are not read.
    pub(crate) async fn resume_runs(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        self.index_runs().await?;
        for run in self.remembered_runs().await? {
            self.resume_run(&run).await?;
        }
        Ok(())
    }

    /// The newest runs that are over, the oldest of them first, and all that are not.
    async fn remembered_runs(&self) -> Result<Vec<RunId>, CoordinatorError> {
        let last = self.counters.runs.last();
        let ended: Vec<(u64, RunSummary)> =
            self.db.list_below(keys::ENDED, u64::MAX, last, ENDED_RUNS_KEPT).await?;
        let open = self.open_runs().await?;
        Ok(ended.into_iter().rev().map(|(_, r)| r.id).chain(open).collect())
    }

    /// Runs that are not over, by their keys: what is written there says no more.
    async fn open_runs(&self) -> Result<Vec<RunId>, CoordinatorError> {
        let (mut open, mut after) = (Vec::new(), None);
        loop {
            let (items, next) =
                self.db.list_page_as_it_is::<IgnoredAny>(keys::OPEN, after, LIST_PAGE).await?;
            let run_at = |key: &str| kinds::run_of(key).filter(|run| key == keys::open(run));
            open.extend(items.iter().filter_map(|(key, _)| run_at(key)));
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        for gone in self.runs.left_alone().iter().filter(|run| !open.contains(run)) {
            self.runs.leave_alone(gone, false);
        }
        Ok(open)
    }

    /// A run whose records were mended or removed: it goes on where it can be read, and is given up where it is not open any
    /// more.
    pub(crate) async fn take_up_run(self: &Arc<Self>, run: &RunId) -> Result<(), CoordinatorError> {
        let is_known = self.runs.snapshot(run).is_some();
        if self.open_runs().await?.contains(run) && !is_known {
            self.resume_run(run).await?;
        }
        self.decide_wake.notify_one();
        Ok(())
    }

    /// Reads the runs of the store as they are now, for whoever asks a follower. What is over does not change any more.
    pub(crate) async fn look_at_runs(&self) -> Result<(), CoordinatorError> {
        for run in self.remembered_runs().await? {
            if self.runs.snapshot(&run).is_some_and(|e| e.is_over()) {
                continue;
            }
            match self.replayed(&run).await? {
                Ok(execution) => self.runs.show(execution),
                // Told about by the leader, which leaves it alone.
                Err(why) => tracing::debug!(%run, "a journal can't be replayed: {why}"),
            }
        }
        Ok(())
    }

    async fn resume_run(self: &Arc<Self>, run: &RunId) -> Result<(), CoordinatorError> {
        // Read while this coordinator followed.
        if let Some(over) = self.runs.snapshot(run).filter(Execution::is_over) {
            return self.tell_end(&over).await;
        }
        match self.replayed(run).await? {
            Ok(execution) => {
                if execution.is_over() {
                    self.tell_end(&execution).await?;
                } else {
                    tracing::info!(%run, state = %execution.state(), "going on with a run");
                }
                self.drive_run(execution);
                Ok(())
            }
            Err(why) => {
                tracing::error!(%run, "a journal can't be replayed; its run is left alone: {why}");
                let place = self.records.command_line(&self.options.state_directory);
                let page = NewPage {
                    key: format!("illegal_journal/{}", keys::number_of(run.as_str()).unwrap_or(0)),
                    severity: Severity::Critical,
                    subject: run.to_string(),
                    message: format!(
                        "the journal can't be replayed, the run is left alone, and nothing is done by itself: {why}"
                    ),
                    next: Some(kinds::next_command(&keys::open(run), &place)),
                };
                self.page(page).await
            }
        }
    }

    /// A run by its journal, or why it can't be had; of one that is not over that is kept in mind.
    async fn replayed(&self, run: &RunId) -> Result<Result<Execution, String>, CoordinatorError> {
        let replayed = match self.journal_from(run, 0).await {
            Ok(records) => Execution::replay(&records).map_err(|e| e.to_string()),
            Err(e) if e.is_of_one_record() => Err(drover_model::chain(&e)),
            Err(e) => return Err(e),
        };
        let is_over = replayed.is_ok() || self.ended_run(run).await?.is_some();
        self.runs.leave_alone(run, !is_over);
        Ok(replayed)
    }

    /// The leader before may have died between a record of a run and the page about it. For as long as pages are kept,
    /// their key tells whether it did.
    async fn tell_end(self: &Arc<Self>, execution: &Execution) -> Result<(), CoordinatorError> {
        let Some(ended_at) = execution.summary().ended_at else { return Ok(()) };
        let now = self.clock.now();
        if now.since(ended_at) >= outbox::KEPT_FOR {
            return Ok(());
        }
        for order in execution.pages(now) {
            if !self.has_page(&order.key).await? {
                Hands { coordinator: self.clone() }.page(&order);
            }
        }
        Ok(())
    }
}
