//! The embedded store against what happens to files and processes: damage, crashes, rivals, limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, not only the tests themselves"
)]

mod crash;
mod damage;
mod limits;
mod records;
mod rollback;

use drover_store::{EmbeddedStore, OpenError, OpenReport, Options, Store, Txn};
use std::path::Path;
use std::process::Command;
use tokio::runtime::Runtime;

/// Names the test that a child process runs, and gives it its directory.
const CHILD: &str = "DROVER_STORE_TEST_CHILD";

/// A small store: no reserve, so that copies are cheap.
fn open(path: &Path) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    EmbeddedStore::open(path, Options { reserve_bytes: 0, ..Options::default() })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Every record, in order.
async fn dump(store: &EmbeddedStore) -> Vec<drover_store::Entry> {
    let mut items = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list("", after.as_deref(), 0).await.unwrap();
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return items;
        }
    }
}

/// Puts `count` records of very different sizes, rewrites some and deletes some.
async fn populate(store: &EmbeddedStore, count: usize, random: &mut fastrand::Rng) {
    for n in 0..count {
        let size = if n % 20 == 0 { random.usize(4000..9000) } else { random.usize(0..400) };
        let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        let mut txn = Txn::new().put(format!("runs/run-{}/journal/{n:06}", n % 7), value);
        if n % 3 == 0 {
            txn = txn.put(format!("traffic/service-{}", n % 11), format!("weights of {n}"));
        }
        if n % 9 == 8 {
            txn = txn.delete(format!("runs/run-{}/journal/{:06}", (n - 5) % 7, n - 5));
        }
        store.txn(txn).await.unwrap();
    }
}

/// This test binary again, to run one test as a process of its own.
fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, directory);
    command
}
