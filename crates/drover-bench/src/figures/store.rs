//! `store`: what a journal record costs, and how long a start with many of them takes.
//!
//! Records are appended as a run appends them: one transaction under the leader's record as a condition, the next only
//! after the last is durable. The peer is a bare `fdatasync` loop on the same file system, measured before and after.

use crate::disk;
use crate::error::{Attempt, BenchError, Result};
use crate::figure::{Bar, Figure, Scale};
use crate::samples::Samples;
use drover_store::{EmbeddedStore, Expect, LIST_LIMIT_MAX, Options, Revision, Store, Txn};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SERIAL_APPENDS: usize = 1_000;
const SYNCS: usize = 500;
const EXECUTIONS: usize = 100;
const TOGETHER_APPENDS: usize = 300_000;
const RECORDS: usize = 1_000_000;
/// Writers while the store is filled.
const FILLERS: usize = 16;
/// One transaction of filling, within the store's limit.
const FILL_OPS: usize = 100;
/// What a journal record of a step has, about.
const RECORD_BYTES: usize = 400;

const SERIAL_SYNCS_MAX: f64 = 3.0;
const TOGETHER_MIN: f64 = 50_000.0;
const START_SECONDS_MAX: f64 = 5.0;

const LEADER: &str = "leader";

/// Measures it.
pub fn measure(scale: Scale) -> Result<Figure> {
    let runtime = tokio::runtime::Runtime::new().attempt("start the runtime")?;
    runtime.block_on(all(scale))
}

async fn all(scale: Scale) -> Result<Figure> {
    let mut figure = Figure::new("store", scale);
    let scratch = disk::scratch()?;
    let sync_ms = disk::fdatasync(scratch.path(), scale.of(SYNCS, 20))?.median_ms();
    figure.told("peer: fdatasync, median", sync_ms, "ms");
    let path = scratch.path().join("store.redb");
    let (store, leader) = opened(&path).await?;
    serial(&mut figure, &store, leader, scale, sync_ms).await?;
    let sync_ms = disk::fdatasync(scratch.path(), scale.of(SYNCS, 20))?.median_ms();
    figure.told("peer once more: fdatasync, median", sync_ms, "ms");
    together(&mut figure, &store, leader, scale).await?;
    fill(&store, scale.of(RECORDS, 1_000)).await?;
    start(&mut figure, store, &path).await?;
    Ok(figure)
}

async fn opened(path: &Path) -> Result<(Arc<EmbeddedStore>, Revision)> {
    let (store, _) = EmbeddedStore::open(path, Options::default()).attempt("open a new store")?;
    let done = store.txn(Txn::new().put(LEADER, "this one")).await.attempt("take over")?;
    Ok((Arc::new(store), done.revision))
}

fn append(leader: Revision, key: String, value: Vec<u8>) -> Txn {
    let txn = Txn::new().expect(LEADER, Expect::ModRevision(leader)).expect(key.clone(), Expect::Absent);
    txn.put(key, value).for_journal()
}

fn key(run: usize, sequence: usize) -> String {
    format!("runs/{run:012}/journal/{sequence:06}")
}

async fn serial(
    figure: &mut Figure,
    store: &EmbeddedStore,
    leader: Revision,
    scale: Scale,
    sync_ms: f64,
) -> Result<()> {
    let mut samples = Samples::new();
    for sequence in 0..scale.of(SERIAL_APPENDS, 20) {
        let began = Instant::now();
        let txn = append(leader, key(0, sequence), vec![b'x'; RECORD_BYTES]);
        store.txn(txn).await.attempt("append a record")?;
        samples.add(began.elapsed());
    }
    figure.bar_from(
        "one serial append, median",
        samples.median_ms(),
        "ms",
        Bar::AtMost(SERIAL_SYNCS_MAX * sync_ms),
        format!("{SERIAL_SYNCS_MAX} × fdatasync"),
    );
    figure.told("one serial append, 99 %", samples.percentile_ms(99.0), "ms");
    Ok(())
}

async fn together(
    figure: &mut Figure,
    store: &Arc<EmbeddedStore>,
    leader: Revision,
    scale: Scale,
) -> Result<()> {
    let each = scale.of(TOGETHER_APPENDS, EXECUTIONS * 5) / EXECUTIONS;
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for run in 1..=EXECUTIONS {
        let store = store.clone();
        tasks.spawn(async move {
            for sequence in 0..each {
                let txn = append(leader, key(run, sequence), vec![b'x'; RECORD_BYTES]);
                store.txn(txn).await.attempt("append a record")?;
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.attempt("append together")??;
    }
    let rate = (each * EXECUTIONS) as f64 / began.elapsed().as_secs_f64();
    let what = format!("appends a second of {EXECUTIONS} executions together");
    figure.bar(what, rate, "/s", Bar::AtLeast(TOGETHER_MIN));
    let (mut found, mut after) = (0, None);
    loop {
        let page = store.list("runs/", after.as_deref(), LIST_LIMIT_MAX).await.attempt("list the records")?;
        found += page.items.len();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let wanted = each * EXECUTIONS + scale.of(SERIAL_APPENDS, 20);
    figure.check("every acknowledged record is there", found == wanted, format!("{found} of {wanted}"));
    Ok(())
}

/// Brings the store to this many records.
async fn fill(store: &Arc<EmbeddedStore>, records: usize) -> Result<()> {
    let have = records_of(store)?;
    let txns = records.saturating_sub(have).div_ceil(FILL_OPS);
    let mut tasks = JoinSet::new();
    for filler in 0..FILLERS {
        let store = store.clone();
        tasks.spawn(async move {
            for at in (filler..txns).step_by(FILLERS) {
                let puts = (0..FILL_OPS).map(|n| format!("fill/{:012}", at * FILL_OPS + n));
                let txn = puts.fold(Txn::new(), |txn, key| txn.put(key, vec![b'x'; RECORD_BYTES]));
                store.txn(txn).await.attempt("fill the store")?;
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.attempt("fill the store")??;
    }
    Ok(())
}

fn records_of(store: &EmbeddedStore) -> Result<usize> {
    let stats = store.stats().attempt("ask the store")?;
    usize::try_from(stats.records).attempt("count the records")
}

async fn start(figure: &mut Figure, store: Arc<EmbeddedStore>, path: &Path) -> Result<()> {
    let before = records_of(&store)?;
    let store = Arc::into_inner(store);
    let store = store.ok_or_else(|| BenchError::Unexpected("somebody still has the store".into()))?;
    drop(store);
    let began = Instant::now();
    let (store, _) = EmbeddedStore::open(path, Options::default()).attempt("open the store again")?;
    let took: Duration = began.elapsed();
    let found = records_of(&store)?;
    figure.bar(
        format!("start with {before} records, verified"),
        took.as_secs_f64(),
        "s",
        Bar::AtMost(START_SECONDS_MAX),
    );
    figure.check("every record is there after the start", found == before, format!("{found} of {before}"));
    Ok(())
}
