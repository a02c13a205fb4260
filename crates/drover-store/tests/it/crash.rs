//! `kill -9` at seeded moments: whatever was acknowledged is there.

use crate::{CHILD, child, open, runtime};
use drover_store::{EmbeddedStore, Expect, OpenError, Options, Store, Txn};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

const ROUNDS: u64 = 12;
const TASKS: usize = 8;

/// The child: appends from several tasks, and prints each append once it is acknowledged.
#[test]
fn child_appends() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let path = Path::new(&directory).join("store.redb");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let (store, report) =
        EmbeddedStore::open(path, Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    let store = Arc::new(store);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(append(Arc::clone(&store), task, report.revision.0)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn append(store: Arc<EmbeddedStore>, task: usize, round: u64) {
    for n in 0_u64.. {
        let key = format!("journal/{round:08}/{task}/{n:08}");
        // Every third also moves a head pointer, as a journal does: both or none.
        let mut txn = Txn::new().expect(&key, Expect::Absent).put(&key, format!("{task} {n}"));
        if n % 3 == 0 {
            txn = txn.put(format!("head/{task}"), &*key);
        }
        store.txn(txn).await.unwrap();
        // One write call a line: what the parent reads was acknowledged.
        let mut out = std::io::stdout().lock();
        out.write_all(format!("ack {key}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

/// Runs the child until it has acknowledged `count` appends, kills it, and returns all that it acknowledged.
fn run_and_kill(directory: &Path, count: usize, check_lock: bool) -> Vec<String> {
    let mut process = child("crash::child_appends", directory).stdout(Stdio::piped()).spawn().unwrap();
    let mut acknowledged = Vec::new();
    let mut killed = false;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness prints on the same line as the first acknowledgement.
        let Some((_, key)) = line.split_once("ack ") else { continue };
        acknowledged.push(key.to_owned());
        if acknowledged.len() >= count && !killed {
            if check_lock {
                let error = open(&directory.join("store.redb")).unwrap_err();
                assert!(
                    matches!(error, OpenError::InUse { pid, .. } if pid == Some(process.id())),
                    "{error}"
                );
            }
            process.kill().unwrap();
            killed = true;
        }
    }
    let status = process.wait().unwrap();
    assert!(killed && !status.success(), "the child ended by itself: {status}");
    acknowledged
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut random = fastrand::Rng::with_seed(31);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let count = random.usize(1..120);
        let now = run_and_kill(directory.path(), count, round == 0);
        assert!(now.len() >= count);
        acknowledged.extend(now);
        let (store, report) = open(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(!report.was_closed_cleanly);
        runtime().block_on(async {
            for key in &acknowledged {
                assert!(store.get(key).await.unwrap().is_some(), "round {round}: {key} was acknowledged");
            }
            for task in 0..TASKS {
                let Some(head) = store.get(&format!("head/{task}")).await.unwrap() else { continue };
                let key = String::from_utf8(head.value).unwrap();
                let record =
                    store.get(&key).await.unwrap().unwrap_or_else(|| panic!("{key} without its record"));
                assert_eq!(record.mod_revision, head.mod_revision, "round {round}: written as one");
            }
        });
    }
}

#[test]
fn a_second_opener_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let (store, _) = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { pid, .. } if pid == Some(std::process::id())), "{error}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    runtime().block_on(store.txn(Txn::new().put("a", "the first one goes on"))).unwrap();
    drop(store);
    open(&path).expect("free again");
}
