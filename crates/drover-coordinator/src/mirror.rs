//! What a follower shows of the store: read when somebody asks, and now and then, so that little is left to read when it
//! begins to lead. While the store can't be read it shows what it read last, and says so.

use crate::clock::Clock;
use crate::coordinator::{Coordinator, recalled};
use crate::error::CoordinatorError;
use drover_model::api::StoreUnread;
use drover_model::write_right::BootTime;
use drover_model::{Span, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Who asks again within this gets the same picture. A person does not see the difference; a console that asks ten times
/// a second would have the store read ten times.
const READ_EVERY: Span = Span::from_millis(250);

/// How often the store is read without being asked: of what a takeover reads, the journals of runs that are over take the
/// longest, and of these few are added in this time.
const READ_UNASKED_EVERY: Duration = Duration::from_secs(5);

/// Whoever asks waits so long for a store that does not answer, when there is an older picture. One reading takes some
/// milliseconds; another member of etcd than the first that was asked has answered by then.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(2);

/// After a reading that failed nobody waits for another one for so long.
const AGAIN_AFTER: Span = Span::from_secs(1);

/// When the store was read for those who ask.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mirrored {
    /// All of it.
    read: Option<(BootTime, Timestamp)>,
    /// In vain, since then.
    failed: Option<BootTime>,
}

impl Mirrored {
    /// Nobody need read it again by now.
    fn is_enough(&self, now: BootTime, is_old: bool) -> bool {
        match (self.read, self.failed) {
            (Some((read, _)), None) => !is_old && now.since(read) < READ_EVERY,
            (Some(_), Some(failed)) => now.since(failed) < AGAIN_AFTER,
            (None, _) => false,
        }
    }
}

impl Coordinator {
    /// Reads the store now and then, until this coordinator leads.
    pub(crate) async fn run_mirror(self: Arc<Self>) {
        let mut tick = tokio::time::interval(READ_UNASKED_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.db.is_leader() {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(e) = self.mirror().await {
                tracing::debug!(error = &e as &dyn std::error::Error, "can't read what the leader wrote");
            }
        }
        self.stop.cancelled().await;
    }

    /// The next one who asks shall be shown what the store has by then. It waits for nobody: there is an answer to hand back.
    pub(crate) fn forget_mirrored(&self) {
        self.leading.is_mirror_old.store(true, Ordering::Release);
    }

    /// Reads targets, holds, freeze and runs as the store has them, unless that was done a moment ago. Nothing while this
    /// coordinator leads: then what is in memory is what was written. A store that can't be read leaves what was read of it
    /// before, which is better at night than nothing, and `store_unread` says so.
    ///
    /// # Errors
    /// When the store can't be read and never was.
    pub(crate) async fn mirror(&self) -> Result<(), CoordinatorError> {
        let mut mirrored = self.leading.mirrored.lock().await;
        let now = Clock::boot();
        let is_old = self.leading.is_mirror_old.swap(false, Ordering::AcqRel);
        if self.db.is_leader() || mirrored.is_enough(now, is_old) {
            return Ok(());
        }
        let Some((_, since)) = mirrored.read else {
            self.read_for_others().await?;
            mirrored.read = Some((now, self.clock.now()));
            return Ok(());
        };
        let reason = match tokio::time::timeout(READ_WITHIN, self.read_for_others()).await {
            Ok(Ok(())) => {
                *mirrored = Mirrored { read: Some((now, self.clock.now())), failed: None };
                self.leading.unread.store(Arc::new(None));
                return Ok(());
            }
            Ok(Err(e)) => drover_model::chain(&e),
            Err(_) => format!("no answer within {} s", READ_WITHIN.as_secs()),
        };
        tracing::debug!("can't read what the leader wrote: {reason}");
        mirrored.failed = Some(Clock::boot());
        self.datasets.went_unread();
        self.leading.unread.store(Arc::new(Some(StoreUnread { since, reason })));
        Ok(())
    }

    async fn read_for_others(&self) -> Result<(), CoordinatorError> {
        self.recall_tokens().await?;
        self.find_numbers().await?;
        self.counters.audit.follow(&self.db).await?;
        let stored = recalled(&self.db, self.clock.now()).await?;
        self.live().take_stored(stored);
        self.look_at_runs().await?;
        self.look_at_datasets().await
    }
}
