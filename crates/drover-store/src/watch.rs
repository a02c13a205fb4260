//! Watches: a bounded queue from the store to each watcher, and a short memory of what was published.
//!
//! A watcher that does not keep up is cut off and told so, because the alternatives are worse: waiting for it
//! would stop every commit, and skipping a change would leave it with a wrong picture it takes for right.

use crate::types::{Changes, Revision};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Transactions that wait for one watcher before it is told `Lagged`.
pub const WATCH_BUFFER: usize = 1024;
/// Most watchers of one store: a few for each coordinator task and open console.
pub(crate) const WATCHERS_MAX: usize = 1024;
/// Transactions remembered for watchers that begin in the past: some seconds between a list and its watch.
const REMEMBERED_MAX: usize = 4096;
/// Bytes remembered: 4096 largest transactions would be 5 GiB. Whoever comes too late for these lists again.
const REMEMBERED_BYTES_MAX: usize = 2 << 20;

/// What a watcher receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// One transaction's changes under the prefix.
    Changed(Arc<Changes>),
    /// Changes were missed: list again. Nothing follows.
    Lagged,
}

/// The receiving end of a watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    receiver: mpsc::Receiver<Arc<Changes>>,
    lagged: Arc<AtomicBool>,
}

/// The sending end, for implementations of `Store`.
#[derive(Clone, Debug)]
pub struct WatchSender {
    sender: mpsc::Sender<Arc<Changes>>,
    lagged: Arc<AtomicBool>,
}

impl Watch {
    /// A watch and its sending end, holding up to `capacity` transactions.
    #[must_use]
    pub fn channel(capacity: usize) -> (WatchSender, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        let lagged = Arc::new(AtomicBool::new(false));
        (WatchSender { sender, lagged: Arc::clone(&lagged) }, Self { receiver, lagged })
    }

    /// The next item; `None` once the store is closed, or after `Lagged`. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<WatchItem> {
        match self.receiver.recv().await {
            Some(changes) => Some(WatchItem::Changed(changes)),
            // `swap`: told once, so that a loop over `next` ends.
            None => self.lagged.swap(false, Ordering::AcqRel).then_some(WatchItem::Lagged),
        }
    }
}

impl WatchSender {
    /// Hands a transaction over without waiting. `false` means that this watch is over, drop the sender: the
    /// watcher is gone, or has been marked as lagging.
    #[must_use]
    pub fn send(&self, changes: Arc<Changes>) -> bool {
        match self.sender.try_send(changes) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lag();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Marks the watcher as lagging; it learns that once the sender is dropped and its queue empty.
    pub fn lag(&self) {
        self.lagged.store(true, Ordering::Release);
    }

    /// Waits until the watcher is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the watcher is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    after: Revision,
    sender: WatchSender,
}

impl Watcher {
    /// Sends what of `changes` is under the prefix; `false` when this watch is over.
    fn offer(&self, changes: &Arc<Changes>) -> bool {
        if changes.revision <= self.after {
            return true;
        }
        let wanted = changes.changes.iter().filter(|change| change.key.starts_with(&self.prefix)).count();
        if wanted == 0 {
            return !self.sender.is_closed();
        }
        if wanted == changes.changes.len() {
            return self.sender.send(Arc::clone(changes));
        }
        let some = changes.changes.iter().filter(|change| change.key.starts_with(&self.prefix)).cloned();
        self.sender.send(Arc::new(Changes { revision: changes.revision, changes: some.collect() }))
    }
}

/// All watchers of one store, and the recent past.
#[derive(Debug)]
pub(crate) struct Hub {
    watchers: Vec<Watcher>,
    remembered: VecDeque<Arc<Changes>>,
    remembered_bytes: usize,
    /// Everything later than this is in `remembered`.
    remembered_after: Revision,
    /// Everything up to this was published.
    published: Revision,
    /// What the commit under way will end at: a list may show it an instant before it is published.
    committing: Revision,
    capacity: usize,
    closed: bool,
}

impl Hub {
    pub fn new(revision: Revision, capacity: usize) -> Self {
        Self {
            watchers: Vec::new(),
            remembered: VecDeque::new(),
            remembered_bytes: 0,
            remembered_after: revision,
            published: revision,
            committing: revision,
            capacity,
            closed: false,
        }
    }

    /// The latest published revision.
    pub fn published(&self) -> Revision {
        self.published
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Announces where the commit that starts now will end.
    pub fn committing(&mut self, revision: Revision) {
        self.committing = revision;
    }

    /// Registers a watcher, and gives it what it missed. `None` when there are too many.
    pub fn watch(&mut self, prefix: &str, after: Revision) -> Option<Watch> {
        self.watchers.retain(|watcher| !watcher.sender.is_closed());
        if self.watchers.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, watch) = Watch::channel(self.capacity);
        let watcher = Watcher { prefix: prefix.to_owned(), after, sender };
        // A revision from the future was read before the store was restored from a copy: all is to be listed anew.
        if after < self.remembered_after || after > self.published.max(self.committing) {
            watcher.sender.lag();
            return Some(watch);
        }
        if self.remembered.iter().all(|changes| watcher.offer(changes)) {
            self.watchers.push(watcher);
        }
        Some(watch)
    }

    /// Publishes one committed transaction. Called in the order of revisions.
    pub fn publish(&mut self, changes: Arc<Changes>) {
        self.watchers.retain(|watcher| watcher.offer(&changes));
        self.published = changes.revision;
        self.remembered_bytes += bytes_of(&changes);
        self.remembered.push_back(changes);
        while self.remembered.len() > REMEMBERED_MAX || self.remembered_bytes > REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.remembered.pop_front() else { break };
            self.remembered_bytes -= bytes_of(&oldest);
            self.remembered_after = oldest.revision;
        }
    }

    /// Ends all watches.
    pub fn close(&mut self) {
        self.closed = true;
        self.watchers.clear();
    }
}

fn bytes_of(changes: &Changes) -> usize {
    use crate::types::ChangeKind;
    let each = changes.changes.iter().map(|change| match &change.kind {
        ChangeKind::Put(versioned) => change.key.len() + versioned.value.len(),
        ChangeKind::Deleted => change.key.len(),
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Change, ChangeKind};

    fn change(revision: u64, key: &str) -> Arc<Changes> {
        let changes = vec![Change { key: key.to_owned(), kind: ChangeKind::Deleted }];
        Arc::new(Changes { revision: Revision(revision), changes })
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_what_was_queued_then_lagged_then_the_end() {
        let mut hub = Hub::new(Revision(0), 2);
        let mut watch = hub.watch("a/", Revision(0)).unwrap();
        for revision in 1..=5 {
            hub.publish(change(revision, "a/x"));
        }
        assert_eq!(watch.next().await, Some(WatchItem::Changed(change(1, "a/x"))));
        assert_eq!(watch.next().await, Some(WatchItem::Changed(change(2, "a/x"))));
        assert_eq!(watch.next().await, Some(WatchItem::Lagged));
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn a_watch_from_before_the_memory_or_from_the_future_lags_at_once() {
        let mut hub = Hub::new(Revision(10), 8);
        for after in [9, 11] {
            let mut watch = hub.watch("", Revision(after)).unwrap();
            assert_eq!(watch.next().await, Some(WatchItem::Lagged), "after {after}");
        }
        hub.committing(Revision(11));
        let mut watch = hub.watch("", Revision(11)).unwrap();
        hub.publish(change(11, "a"));
        hub.publish(change(12, "a"));
        assert_eq!(watch.next().await, Some(WatchItem::Changed(change(12, "a"))));
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let mut hub = Hub::new(Revision(0), 8);
        for revision in 1..=(REMEMBERED_MAX as u64 + 10) {
            hub.publish(change(revision, "a"));
        }
        assert_eq!(hub.remembered.len(), REMEMBERED_MAX);
        let mut watch = hub.watch("", Revision(9)).unwrap();
        assert_eq!(watch.next().await, Some(WatchItem::Lagged));
    }

    #[tokio::test]
    async fn its_bytes_are_bounded_too() {
        let mut hub = Hub::new(Revision(0), 8);
        let long = "k".repeat(REMEMBERED_BYTES_MAX / 4);
        for revision in 1..=6 {
            hub.publish(change(revision, &long));
        }
        assert_eq!(hub.remembered.len(), 4);
        let mut late = hub.watch("", Revision(1)).unwrap();
        assert_eq!(late.next().await, Some(WatchItem::Lagged));
        let mut in_time = hub.watch("", Revision(2)).unwrap();
        let first = in_time.next().await;
        assert!(matches!(first, Some(WatchItem::Changed(c)) if c.revision == Revision(3)));
    }
}
