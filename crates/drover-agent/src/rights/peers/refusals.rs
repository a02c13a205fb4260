//! How often members did not come together, and why: counted all, told once a minute for each reason.

use crate::clock::boot_now;
use drover_model::Span;
use drover_model::write_right::BootTime;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The same reason is told this often.
const TOLD_EVERY: Span = Span::from_secs(60);

/// On which side of a question it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    /// This agent asked.
    Here,
    /// Somebody asked it.
    There,
}

#[derive(Debug, Default)]
struct Count {
    number: u64,
    told: Option<BootTime>,
}

/// What came to nothing, by side and reason. Reasons are words of the code, so that there are few.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(Said, &'static str), Count>>);

impl Refusals {
    /// Counts one. True when it is to be told.
    pub(crate) fn note(&self, said: Said, reason: &'static str) -> bool {
        let (mut counts, now) = (self.counts(), boot_now());
        let count = counts.entry((said, reason)).or_default();
        count.number += 1;
        let is_due = count.told.is_none_or(|told| now.since(told) > TOLD_EVERY);
        if is_due {
            count.told = Some(now);
        }
        is_due
    }

    /// By reason, of one side.
    pub(crate) fn of(&self, side: Said) -> BTreeMap<&'static str, u64> {
        let counts = self.counts();
        let of_side = counts.iter().filter(|((said, _), _)| *said == side);
        of_side.map(|((_, reason), count)| (*reason, count.number)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<(Said, &'static str), Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[test]
fn all_is_counted_and_little_is_told() {
    let refusals = Refusals::default();
    let told = (0..3).map(|_| refusals.note(Said::There, "no_tls")).collect::<Vec<_>>();
    assert_eq!(told, [true, false, false]);
    assert!(refusals.note(Said::There, "not_a_member"));
    assert!(refusals.note(Said::Here, "no_tls"));
    assert_eq!(refusals.of(Said::There), BTreeMap::from([("no_tls", 3), ("not_a_member", 1)]));
    assert_eq!(refusals.of(Said::Here), BTreeMap::from([("no_tls", 1)]));
}
