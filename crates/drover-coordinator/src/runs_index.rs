//! Which runs are open, and how the others ended.
//!
//! Derived from the journals, and written in the very transactions that begin and end a run, so that it can't differ
//! from them: a list pages through it, and a start reads the journals of a few runs only, however many there were.

use crate::coordinator::Coordinator;
use crate::db::{Db, LIST_PAGE, keys};
use crate::error::CoordinatorError;
use drover_exec::Execution;
use drover_model::RunId;
use drover_model::api::RunSummary;
use drover_model::journal::{Entry, Record};
use drover_store::{JsonError, Op, Txn};
use std::collections::BTreeMap;

/// Version of the index that this build writes; a store with another one, or none, is indexed anew at the start.
const INDEX_SCHEMA: u16 = 1;

fn encode(result: Result<Op, JsonError>) -> Result<Op, CoordinatorError> {
    result.map_err(|e| CoordinatorError::store("encode the index of runs", e))
}

/// Written with a run's first record.
pub(crate) fn begun(run: &RunId) -> Result<Op, CoordinatorError> {
    encode(Op::put_json(keys::open(run), run))
}

/// Written with a run's last record. `before` is the run as it was: of it only the end is new.
pub(crate) fn ended(before: &RunSummary, record: &Record) -> Result<Vec<Op>, CoordinatorError> {
    let Entry::Ended { state, summary } = &record.entry else { return Ok(Vec::new()) };
    if !state.is_final() {
        return Ok(Vec::new());
    }
    let after =
        RunSummary { state: *state, ended_at: Some(record.at), summary: summary.clone(), ..before.clone() };
    closed(&after)
}

fn closed(run: &RunSummary) -> Result<Vec<Op>, CoordinatorError> {
    Ok(vec![encode(Op::put_json(keys::ended(&run.id), run))?, Op::delete(keys::open(&run.id))])
}

impl Coordinator {
    /// How a run ended that is no longer in memory.
    pub(crate) async fn ended_run(&self, run: &RunId) -> Result<Option<RunSummary>, CoordinatorError> {
        Ok(self.db.get_sound::<RunSummary>(&keys::ended(run)).await?.map(|(r, _)| r).filter(|r| r.id == *run))
    }

    /// Runs below a number, newest first, with the one after `limit` so that the caller sees whether there are more.
    pub(crate) async fn runs_below(
        &self,
        below: u64,
        limit: usize,
    ) -> Result<Vec<(u64, RunSummary)>, CoordinatorError> {
        let last = self.counters.runs.last();
        let ended: Vec<(u64, RunSummary)> =
            self.db.list_below(keys::ENDED, below, last, limit.saturating_add(1)).await?;
        let mut all: BTreeMap<u64, RunSummary> = ended.into_iter().collect();
        for run in self.runs.summaries() {
            let number = keys::number_of(run.id.as_str()).unwrap_or(0);
            if number < below {
                all.insert(number, run);
            }
        }
        Ok(all.into_iter().rev().collect())
    }

    /// Makes the index where there is none: of a store from before it. Journals are read one run at a time.
    pub(crate) async fn index_runs(&self) -> Result<(), CoordinatorError> {
        if self.db.get_sound::<u16>(keys::RUNS_INDEXED).await?.is_some_and(|(v, _)| v == INDEX_SCHEMA) {
            return Ok(());
        }
        let (mut after, mut of_run, mut journals) = (None, Vec::<Record>::new(), 0_u64);
        loop {
            let (items, next) = self.db.list_page::<Record>(keys::RUNS, after, LIST_PAGE).await?;
            for (_, record) in items {
                if of_run.first().is_some_and(|r| r.run != record.run) {
                    index_one(&self.db, &std::mem::take(&mut of_run)).await?;
                    journals += 1;
                }
                of_run.push(record);
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if !of_run.is_empty() {
            index_one(&self.db, &of_run).await?;
            journals += 1;
        }
        self.db.put(keys::RUNS_INDEXED, &INDEX_SCHEMA).await?;
        tracing::info!(journals, "indexed the runs of the store");
        Ok(())
    }
}

/// An illegal journal stays open: it is looked at again, and told about, at each start.
async fn index_one(db: &Db, records: &[Record]) -> Result<(), CoordinatorError> {
    let Some(first) = records.first() else { return Ok(()) };
    let ops = match Execution::replay(records) {
        Ok(execution) if execution.is_over() => closed(&execution.summary())?,
        _ => vec![begun(&first.run)?],
    };
    let txn = ops.into_iter().fold(db.fenced(), Txn::op);
    db.commit("index a run", txn).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::PageRecord;
    use crate::runs::ENDED_RUNS_KEPT;
    use crate::testbed::{Bed, GUARD, at_secs, code_of, get, person, send};
    use drover_model::api::Page;
    use drover_model::approvals::Approvals;
    use drover_model::journal::{JOURNAL_SCHEMA, RunState, Trigger};
    use drover_model::plan::Plan;
    use drover_model::{Span, Timestamp};

    /// The whole journal of a run that a person refused, or of one that still asks.
    fn journal(c: &Coordinator, mut txn: Txn, number: u64, at: Timestamp, plan: &Plan, refused: bool) -> Txn {
        let (by, ask) = (person(), Some(Span::from_hours(1_000_000)));
        let trigger = Trigger::Command;
        let created = Entry::Created {
            plan: plan.clone(),
            by: by.clone(),
            trigger,
            ask,
            rto: Span::from_mins(5),
            approvals: Approvals::default(),
        };
        let rejected = Entry::Rejected { by, reason: "no".into() };
        let ended = Entry::Ended { state: RunState::Rejected, summary: format!("no to {number}") };
        let entries = [created, rejected, ended].into_iter().take(if refused { 3 } else { 1 });
        for (sequence, entry) in entries.enumerate() {
            let (run, sequence) = (RunId::numbered(number), sequence as u64);
            let record = Record { schema: JOURNAL_SCHEMA, run, sequence, at, epoch: c.db.epoch(), entry };
            txn = c.db.put_op(txn, &keys::journal(&record.run, sequence), &record).unwrap();
        }
        txn
    }

    async fn all_listed(api: std::net::SocketAddr) -> Vec<RunSummary> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, _, body) = get(api, &format!("/v1/runs?limit=97{cursor}")).await;
            assert_eq!(status, 200, "{body}");
            let page: Page<RunSummary> = serde_json::from_str(&body).unwrap();
            all.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    #[tokio::test]
    async fn every_run_is_listed_and_only_the_newest_are_read_at_the_start() {
        let bed = Bed::new().await;
        let (plan, runs) = (bed.plan().await, ENDED_RUNS_KEPT as u64 + 30);
        for some in (1..=runs).collect::<Vec<_>>().chunks(20) {
            // The third still asks, from long ago.
            let at = |n: u64| at_secs(i64::try_from(n).unwrap());
            let txn =
                some.iter().fold(bed.c.db.fenced(), |t, n| journal(&bed.c, t, *n, at(*n), &plan, *n != 3));
            bed.c.db.commit("make runs", txn).await.unwrap().unwrap();
        }
        // A store from before the index.
        bed.c.db.delete(keys::RUNS_INDEXED).await.unwrap();
        let bed = bed.reopened().await;
        bed.c.start().await.unwrap();
        assert_eq!(bed.c.runs.summaries().len(), ENDED_RUNS_KEPT + 1, "memory is bounded");
        let api = bed.serve().await;
        let listed = all_listed(api).await;
        let numbers: Vec<u64> = listed.iter().map(|r| keys::number_of(r.id.as_str()).unwrap()).collect();
        assert_eq!(numbers, (1..=runs).rev().collect::<Vec<_>>());
        for run in listed.iter().filter(|r| r.state.is_final()) {
            let records = bed.c.journal_from(&run.id, 0).await.unwrap();
            assert_eq!(*run, Execution::replay(&records).unwrap().summary());
        }
        let body = serde_json::to_vec(&serde_json::json!({"by": person(), "reason": "late"})).unwrap();
        let late = send(reqwest::Method::POST, api, "/v1/runs/run-1/pause", Some(body)).await;
        assert_eq!(code_of(&late, 409), "wrong_state", "it was there, and is over");
        assert_eq!(get(api, "/v1/runs/run-1").await.0, 200);

        // What need not be read may even be unreadable.
        bed.c.db.put(&keys::journal(&RunId::numbered(1), 0), &"not a record").await.unwrap();
        let bed = bed.reopened().await;
        bed.c.start().await.unwrap();
        assert_eq!(bed.c.runs.active().iter().map(|r| r.run.as_str()).collect::<Vec<_>>(), ["run-3"]);
        assert_eq!(all_listed(bed.serve().await).await, listed);
        assert_eq!(bed.c.next_run(), RunId::numbered(runs + 1));
    }

    #[tokio::test]
    async fn an_end_that_nobody_was_told_of_is_told_by_the_successor_and_once() {
        let bed = Bed::new().await;
        let plan = bed.plan().await;
        let pages = async |bed: &Bed| -> Vec<String> {
            let mut pages: Vec<(String, PageRecord)> = bed.c.db.list(keys::PAGED).await.unwrap();
            pages.extend(bed.c.db.list(keys::OUTBOX).await.unwrap());
            pages.into_iter().map(|(_, page)| page.key).filter(|k| k.starts_with("run-")).collect()
        };
        // The leader died right after the last record. One of them long ago: that is no news any more.
        let now = bed.c.clock.now();
        let txn = journal(&bed.c, bed.c.db.fenced(), 1, at_secs(1), &plan, true);
        let txn = journal(&bed.c, txn, 2, now, &plan, true);
        bed.c.db.commit("make runs", txn).await.unwrap().unwrap();
        bed.c.db.delete(keys::RUNS_INDEXED).await.unwrap();
        let mut bed = bed.reopened().await;
        for _ in 0..2 {
            bed.c.start().await.unwrap();
            let told = async {
                while pages(&bed).await.is_empty() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(GUARD, told).await.unwrap();
            assert_eq!(pages(&bed).await, ["run-2/ended/2"]);
            bed = bed.reopened().await;
        }
    }
}
