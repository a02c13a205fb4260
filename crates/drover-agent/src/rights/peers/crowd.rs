//! So many connections and no more: when one comes too many, the one that has been there for the longest goes. Whoever asked in
//! vain asks again within a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Connections of one kind.
#[derive(Debug)]
pub(super) struct Crowd {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, CancellationToken>,
}

/// A connection's place, given back with this value.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    /// Cancelled when another one needs it.
    pub(super) evicted: CancellationToken,
}

impl Crowd {
    pub(super) fn of(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// A place for one more, and whether another one went for it.
    pub(super) fn enter(self: &Arc<Self>) -> (Place, bool) {
        let mut open = self.open();
        let is_full = open.places.len() >= self.max;
        if is_full && let Some((_, oldest)) = open.places.pop_first() {
            oldest.cancel();
        }
        open.next += 1;
        let (number, evicted) = (open.next, CancellationToken::new());
        open.places.insert(number, evicted.clone());
        drop(open);
        (Place { crowd: Arc::clone(self), number, evicted }, is_full)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open().places.remove(&self.number);
    }
}

#[test]
fn the_one_that_is_there_for_the_longest_goes_first() {
    let crowd = Crowd::of(2);
    let (first, _) = crowd.enter();
    let (second, is_full) = crowd.enter();
    assert!(!is_full);
    let (third, is_full) = crowd.enter();
    assert!(is_full && first.evicted.is_cancelled() && !second.evicted.is_cancelled());
    drop(second);
    let (fourth, is_full) = crowd.enter();
    assert!(!is_full && !third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
    drop((first, third, fourth));
    assert!(crowd.open().places.is_empty());
}
