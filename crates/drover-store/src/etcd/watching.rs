//! Watches: a stream from one member, begun again at another when that one dies, from the revision after the last.
//!
//! A watch never ends because of a failure: what can't be reached is asked again until the watcher goes or the store
//! is closed. It ends with `Lagged` when changes can't be had any more: their history is compacted, the revision is
//! from a future that never came, or the watcher did not keep up.

use super::Inner;
use super::layout::end_of;
use super::reading::{revision_of, versioned};
use super::wire::{EVENT_DELETE, Event, WatchCreateRequest, WatchResponse};
use crate::error::ReadError;
use crate::types::{Change, ChangeKind, Changes, Revision};
use crate::watch::{WATCH_BUFFER, WATCHERS_MAX, Watch, WatchSender};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Duration, sleep};
use tonic::Streaming;

/// What becomes of a stream.
enum Ended {
    /// Begin again.
    Broken(String),
    /// The watcher was told, or is gone.
    Over,
}

/// One watcher.
struct Follower {
    inner: Arc<Inner>,
    prefix: Vec<u8>,
    sender: WatchSender,
    /// Everything up to this was handed over.
    seen: i64,
    /// Changes of one transaction whose rest is in the next response.
    partial: Vec<Event>,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn watch(
    inner: &Arc<Inner>,
    closing: watch::Receiver<bool>,
    prefix: &str,
    after: Revision,
) -> Result<Watch, ReadError> {
    let Ok(permit) = Arc::clone(&inner.watchers).try_acquire_owned() else {
        return Err(ReadError::TooManyWatchers { limit: WATCHERS_MAX });
    };
    let (sender, watch) = Watch::channel(WATCH_BUFFER);
    // A revision from the future was read before the store was restored from a copy: all is to be listed anew.
    if after > inner.revision().await? {
        sender.lag();
        return Ok(watch);
    }
    let follower = Follower {
        inner: Arc::clone(inner),
        prefix: inner.layout.record(prefix),
        sender,
        seen: i64::try_from(after.0).unwrap_or(i64::MAX),
        partial: Vec::new(),
        _permit: permit,
    };
    tokio::spawn(follower.run(closing));
    Ok(watch)
}

impl Follower {
    async fn run(mut self, mut closing: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            // A store that is dropped closes, too.
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    async fn follow(&mut self) {
        let delay_min = self.inner.options.retry_delay_min;
        let mut delay = delay_min;
        loop {
            let member = self.inner.members.current();
            let before = self.seen;
            let reason = match self.one_stream(member).await {
                Ended::Over => return,
                Ended::Broken(reason) => reason,
            };
            if let Err(fault) = self.inner.identity.check() {
                // Whoever watches must not go on as if nothing changed.
                tracing::error!(reason = %fault.reason(), "a watch ends");
                self.sender.lag();
                return;
            }
            tracing::debug!(%reason, after = self.seen, "a watch is begun again");
            self.inner.members.leave(member);
            delay = if self.seen > before {
                delay_min
            } else {
                (delay * 2).min(self.inner.options.retry_delay_max)
            };
            tokio::select! {
                () = sleep(jittered(delay)) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    async fn one_stream(&mut self, member: usize) -> Ended {
        self.partial.clear();
        let create = WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: end_of(&self.prefix),
            start_revision: self.seen.saturating_add(1),
            progress_notify: true,
            fragment: true,
        };
        let mut stream = match self.inner.members.watch(member, create).await {
            Ok(stream) => stream,
            Err(fault) => return Ended::Broken(fault.reason()),
        };
        loop {
            let answer = tokio::select! {
                answer = next(&mut stream) => answer,
                () = self.sender.closed() => return Ended::Over,
            };
            match answer {
                Ok(answer) => {
                    if let Some(ended) = self.take(answer) {
                        return ended;
                    }
                }
                Err(reason) => {
                    return Ended::Broken(format!("{}: {reason}", self.inner.members.endpoint(member)));
                }
            }
        }
    }

    fn take(&mut self, answer: WatchResponse) -> Option<Ended> {
        let header = answer.header.unwrap_or_default();
        if let Err(fault) = self.inner.identity.accept_cluster(&header) {
            return Some(Ended::Broken(fault.reason()));
        }
        if answer.compact_revision != 0 {
            tracing::warn!(
                after = self.seen,
                compacted = answer.compact_revision,
                "a watch lags behind compaction"
            );
            self.sender.lag();
            return Some(Ended::Over);
        }
        if answer.canceled {
            return Some(Ended::Broken(format!("etcd ended the watch: {}", answer.cancel_reason)));
        }
        // Nothing in it, long after its beginning: etcd says how far all is told, so that a watch of what never
        // changes does not fall behind the compaction.
        if answer.events.is_empty() && !answer.created && !answer.fragment && self.partial.is_empty() {
            self.seen = self.seen.max(header.revision);
        }
        self.partial.extend(answer.events);
        self.hand_over(answer.fragment)
    }

    /// Hands over whole transactions; the last one waits while more of it may follow.
    fn hand_over(&mut self, more_follows: bool) -> Option<Ended> {
        let last = self.partial.last().map(event_revision);
        let mut events = std::mem::take(&mut self.partial).into_iter().peekable();
        while let Some(event) = events.next() {
            let revision = event_revision(&event);
            let mut transaction = vec![event];
            while let Some(event) = events.next_if(|event| event_revision(event) == revision) {
                transaction.push(event);
            }
            if more_follows && Some(revision) == last {
                self.partial = transaction;
                return None;
            }
            if revision <= self.seen {
                continue;
            }
            self.seen = revision;
            let changes = transaction.into_iter().filter_map(|event| self.change(event)).collect();
            if !self.sender.send(Arc::new(Changes { revision: revision_of(revision), changes })) {
                return Some(Ended::Over);
            }
        }
        None
    }

    fn change(&self, event: Event) -> Option<Change> {
        let kv = event.kv?;
        let key = self.inner.layout.key_of(&kv.key)?;
        let kind =
            if event.kind == EVENT_DELETE { ChangeKind::Deleted } else { ChangeKind::Put(versioned(kv)) };
        Some(Change { key, kind })
    }
}

fn event_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse, String> {
    match stream.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err("it ended the stream".to_owned()),
        Err(status) => Err(status.message().to_owned()),
    }
}

fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(1.0 + fastrand::f64() / 2.0)
}
