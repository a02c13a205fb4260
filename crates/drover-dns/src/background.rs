//! What waits for a disk or computes for long, off the threads that answer queries.

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Does `work` on a thread of its own; its panic is the caller's.
pub(crate) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    done(tokio::task::spawn_blocking(work)).await
}

/// As [`in_background`], and `tracker` waits for it also where nobody else does any more: a thread can't be told to stop.
pub(crate) async fn in_tracked_background<T: Send + 'static>(
    tracker: &TaskTracker,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    done(tracker.spawn_blocking(work)).await
}

async fn done<T>(handle: JoinHandle<T>) -> T {
    handle.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
