//! A file that can't grow: the system's own refusal, in the middle of redb's work.

use crate::{CHILD, child, dump};
use drover_store::{Alarm, EmbeddedStore, Options, Store, Txn, TxnError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::path::Path;

/// What files of the child may grow to.
const FILE_BYTES_MAX: u64 = 3 << 20;

/// The child: its files may not grow, then they may.
#[test]
fn child_fills_its_file() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    // Blocked before the store's thread is made, which inherits it: a write beyond the limit is then an error.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap();
    limit(FILE_BYTES_MAX);

    let path = Path::new(&directory).join("store.redb");
    let options = || Options { reserve_bytes: 256 << 10, ..Options::default() };
    let (store, _) = EmbeddedStore::open(&path, options()).unwrap();
    crate::runtime().block_on(async {
        let mut committed = 0;
        let error = loop {
            let txn = Txn::new().put(format!("k/{committed:04}"), vec![1; 20_000]).for_journal();
            match store.txn(txn).await {
                Ok(_) => committed += 1,
                Err(error) => break error,
            }
            assert!(committed < 1000, "the limit was never met");
        };
        assert!(matches!(error, TxnError::OutOfSpace { .. }), "{error}");
        assert!(committed > 20, "{committed}");
        assert_eq!(dump(&store).await.len(), committed, "reading goes on, with all that was acknowledged");
        let again = store.txn(Txn::new().put("again", vec![1; 500_000])).await;
        assert!(matches!(again, Err(TxnError::OutOfSpace { .. })), "{again:?}");
        let stopped =
            matches!(store.stats().unwrap().alarm, Some(Alarm::Stopped { .. } | Alarm::ReserveGone { .. }));
        assert!(stopped, "{:?}", store.stats());

        limit(hard);
        store.txn(Txn::new().put("again", vec![1; 500_000])).await.expect("there is room again");
        store.txn(Txn::new().put("and again", "x")).await.unwrap();
        assert_eq!(dump(&store).await.len(), committed + 2);
        drop(store);
        let (store, report) = EmbeddedStore::open(&path, options()).unwrap();
        assert!(report.was_closed_cleanly, "{report:?}");
        assert_eq!(dump(&store).await.len(), committed + 2);
    });
}

#[test]
fn a_file_that_can_not_grow_refuses_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let output = child("limits::child_fills_its_file", directory.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}
