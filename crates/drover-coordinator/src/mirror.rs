//! What a follower shows of the store: read when somebody asks, and now and then, so that little is left to read when it
//! begins to lead.

use crate::clock::Clock;
use crate::coordinator::{Coordinator, recalled};
use crate::error::CoordinatorError;
use drover_model::Span;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Who asks again within this gets the same picture. A person does not see the difference; a console that asks ten times
/// a second would have the store read ten times.
const READ_EVERY: Span = Span::from_millis(250);

/// How often the store is read without being asked: of what a takeover reads, the journals of runs that are over take the
/// longest, and of these few are added in this time.
const READ_UNASKED_EVERY: Duration = Duration::from_secs(5);

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
    /// coordinator leads: then what is in memory is what was written.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) async fn mirror(&self) -> Result<(), CoordinatorError> {
        let mut mirrored = self.leading.mirrored.lock().await;
        let now = Clock::boot();
        let is_old = self.leading.is_mirror_old.swap(false, Ordering::AcqRel);
        if self.db.is_leader() || (!is_old && mirrored.is_some_and(|at| now.since(at) < READ_EVERY)) {
            return Ok(());
        }
        *mirrored = None;
        self.recall_tokens().await?;
        self.find_numbers().await?;
        self.counters.audit.follow(&self.db).await?;
        let stored = recalled(&self.db, self.clock.now()).await?;
        self.live().take_stored(stored);
        self.look_at_runs().await?;
        *mirrored = Some(now);
        Ok(())
    }
}
