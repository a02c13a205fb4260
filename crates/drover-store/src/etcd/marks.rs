//! The keys by which a lost answer is found out: one for each transaction under way, used again and again.
//!
//! `transaction` says why. A writer is one opened store, so that no two processes ever share a mark; what a process
//! leaves behind is a few bytes a mark, which `compaction` sweeps.

use super::layout::Layout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One key, and what its writer knows of it.
#[derive(Debug)]
pub(super) struct Mark {
    pub key: Vec<u8>,
    /// When it was last put; zero where it is not there.
    pub revision: i64,
    uses: u64,
}

impl Mark {
    /// What the next transaction puts there: never the same twice.
    pub(super) fn fresh_value(&mut self) -> Vec<u8> {
        self.uses += 1;
        self.uses.to_string().into_bytes()
    }
}

/// A mark for the length of one transaction. Dropping it with a transaction under way leaves the mark unused for ever.
#[derive(Debug)]
pub(super) struct Turn {
    pub mark: Mark,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct Marks {
    writer: String,
    made: AtomicU64,
    idle: Mutex<Vec<Mark>>,
    turns: Arc<Semaphore>,
}

impl Marks {
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self {
            writer: format!("{:032x}", fastrand::u128(..)),
            made: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
            turns: Arc::new(Semaphore::new(in_flight_max)),
        }
    }

    /// Waits for a turn; `None` once the store is closed.
    pub(super) async fn take(&self, layout: &Layout) -> Option<Turn> {
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mark = idle.unwrap_or_else(|| {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            Mark { key: layout.mark(&self.writer, number), revision: 0, uses: 0 }
        });
        Some(Turn { mark, _permit: permit })
    }

    pub(super) fn give_back(&self, turn: Turn) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(turn.mark);
    }

    /// No turn is given any more.
    pub(super) fn close(&self) {
        self.turns.close();
    }
}
