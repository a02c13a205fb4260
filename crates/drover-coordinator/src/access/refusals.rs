//! Refusals go into the audit, and a flood of them does not: of each kind so many a minute are written one by one, and
//! the rest as one record that says how many they were.

use crate::coordinator::Coordinator;
use crate::error::CoordinatorError;
use drover_model::traffic::Actor;
use drover_model::{Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Refusals of a kind that are written one by one in [`REFUSALS_WINDOW`].
pub const REFUSALS_WRITTEN_MAX: u32 = 30;
/// The time over which they are counted, and after which the rest are told of.
pub const REFUSALS_WINDOW: Span = Span::from_mins(1);

/// Kinds have budgets of their own, so that whoever can't log in hides nothing that an insider is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// Not let in.
    Login,
    /// Not let in with a token that is over: it names somebody.
    Lapsed,
    /// Let in, with too small a role.
    Role,
    /// A command that was wrong, or that a guard refused.
    Command,
    /// A machine that asked for what its certificate does not allow.
    Machine,
}

impl Refusal {
    fn words(self) -> &'static str {
        match self {
            Self::Login => "logins",
            Self::Lapsed => "logins with tokens that are over",
            Self::Role => "requests that need another role",
            Self::Command => "commands",
            Self::Machine => "requests",
        }
    }

    /// How many of them are written one by one in [`REFUSALS_WINDOW`]. Of a machine that has gone wrong the first says it all.
    const fn written_max(self) -> u32 {
        match self {
            Self::Machine => 1,
            Self::Login | Self::Lapsed | Self::Role | Self::Command => REFUSALS_WRITTEN_MAX,
        }
    }
}

/// Of a kind, and of whom where each has a budget of its own.
type Kind = (Refusal, String);

#[derive(Debug)]
struct Tally {
    began: Timestamp,
    written: u32,
    /// How many since the last record that told of such.
    untold: u64,
}

/// Those that are counted apart, at most: each machine has a certificate of the authority, so that they are few. What comes from
/// others counts with those of nobody in particular.
const COUNTED_MAX: usize = 1_024;

/// How many of each kind of late.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<Kind, Tally>>);

impl Refusals {
    /// Whether this one is written for itself; otherwise it is counted.
    fn is_written(&self, kind: Refusal, who: &str, now: Timestamp) -> bool {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (kind, who.to_owned());
        if tallies.len() >= COUNTED_MAX && !tallies.contains_key(&key) {
            tallies.retain(|_, tally| tally.untold > 0 || now < tally.began + REFUSALS_WINDOW);
            if tallies.len() >= COUNTED_MAX {
                key.1.clear();
            }
        }
        let tally = tallies.entry(key).or_insert(Tally { began: now, written: 0, untold: 0 });
        if now >= tally.began + REFUSALS_WINDOW {
            (tally.began, tally.written) = (now, 0);
        }
        if tally.written >= kind.written_max() {
            tally.untold = tally.untold.saturating_add(1);
            return false;
        }
        tally.written += 1;
        true
    }

    /// Counts one that is not written, whatever the budget.
    pub(super) fn count(&self, kind: Refusal, now: Timestamp) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, String::new());
        let tally = tallies.entry(key).or_insert(Tally { began: now, written: 0, untold: 0 });
        tally.untold = tally.untold.saturating_add(1);
    }

    /// What is to tell, of each kind: those that were not written.
    fn untold(&self) -> Vec<(Kind, u64)> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = tallies.iter_mut().map(|(kind, tally)| (kind.clone(), std::mem::take(&mut tally.untold)));
        told.filter(|(_, count)| *count > 0).collect()
    }

    fn put_back(&self, kind: &Kind, count: u64) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = tallies.get_mut(kind) {
            tally.untold = tally.untold.saturating_add(count);
        }
    }
}

impl Coordinator {
    /// Writes that somebody was refused something, or counts it. The words are verb, subject, reason and outcome.
    pub(crate) async fn audit_refusal(
        &self,
        kind: Refusal,
        by: &Actor,
        words: [&str; 4],
    ) -> Result<(), CoordinatorError> {
        self.audit_refusal_of(kind, "", by, words).await
    }

    /// The same of a machine, which has a budget of its own.
    pub(crate) async fn audit_refusal_of(
        &self,
        kind: Refusal,
        who: &str,
        by: &Actor,
        [verb, subject, reason, outcome]: [&str; 4],
    ) -> Result<(), CoordinatorError> {
        if !self.access.refusals.is_written(kind, who, self.clock.now()) {
            return Ok(());
        }
        if !self.db.is_leader() {
            // The audit is the leader's alone to write.
            tracing::warn!(%by, verb, subject, outcome, "refused at a coordinator that follows: on record here alone");
            return Ok(());
        }
        self.audit(by, verb, subject, reason, outcome).await
    }

    /// That a refusal was answered without being looked at.
    pub(crate) fn count_refusal(&self, kind: Refusal) {
        self.access.refusals.count(kind, self.clock.now());
    }

    /// Tells of what was only counted.
    pub(crate) async fn tell_refusals(&self) -> Result<(), CoordinatorError> {
        for (key, count) in self.access.refusals.untold() {
            let (kind, who) = &key;
            let of = if who.is_empty() { String::new() } else { format!(" of {who}") };
            let subject = format!("{count} {}{of}", kind.words());
            let most = kind.written_max();
            let why = format!("more than {most} in {REFUSALS_WINDOW} are not written one by one");
            let told = self.audit(&Actor::Automatic, "refusals", &subject, &why, "refused").await;
            if let Err(e) = told {
                self.access.refusals.put_back(&key, count);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Does so once a window, and before the end.
    pub(crate) async fn run_refusals(self: Arc<Self>) {
        let mut tick = tokio::time::interval(REFUSALS_WINDOW.to_duration());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                () = self.stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            if let Err(e) = self.tell_refusals().await {
                tracing::error!(
                    error = &e as &dyn std::error::Error,
                    "can't tell in the audit how much was refused"
                );
            }
            if stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::db::keys;
    use crate::testbed::{Bed, person};

    #[tokio::test]
    async fn a_flood_of_one_kind_is_counted_and_told_and_hides_no_other() {
        let bed = Bed::new().await;
        let refuse = async |kind| {
            let said = ["freeze", "", "", "refused: why"];
            bed.c.audit_refusal(kind, &person(), said).await.unwrap();
        };
        for _ in 0..REFUSALS_WRITTEN_MAX + 5 {
            refuse(Refusal::Login).await;
        }
        refuse(Refusal::Command).await;
        bed.c.tell_refusals().await.unwrap();
        bed.c.tell_refusals().await.unwrap();
        let written = bed.c.db.list::<AuditRecord>(keys::AUDIT).await.unwrap();
        assert_eq!(written.len(), usize::try_from(REFUSALS_WRITTEN_MAX).unwrap() + 2, "told once");
        let told = &written.last().unwrap().1;
        assert_eq!((told.verb.as_str(), told.subject.as_str()), ("refusals", "5 logins"));
    }

    #[test]
    fn the_next_minute_is_written_again() {
        let refusals = Refusals::default();
        let at = crate::testbed::at_secs;
        let taken = |now| (0..100).filter(|_| refusals.is_written(Refusal::Role, "", now)).count();
        assert_eq!((taken(at(0)), taken(at(59)), taken(at(60))), (30, 0, 30));
        let role = (Refusal::Role, String::new());
        assert_eq!(refusals.untold(), [(role.clone(), 240)]);
        refusals.put_back(&role, 3);
        assert_eq!(refusals.untold(), [(role, 3)]);
    }

    #[test]
    fn each_machine_has_one_line_a_minute_and_many_of_them_take_no_more_room() {
        let refusals = Refusals::default();
        let at = crate::testbed::at_secs;
        let written = |who: &str, now| refusals.is_written(Refusal::Machine, who, now);
        assert_eq!([written("a", at(0)), written("a", at(1)), written("b", at(1))], [true, false, true]);
        assert_eq!(refusals.untold(), [((Refusal::Machine, "a".to_owned()), 1)]);
        for n in 0..2 * COUNTED_MAX {
            written(&n.to_string(), at(2));
        }
        assert_eq!(refusals.0.lock().unwrap().len(), COUNTED_MAX + 1, "and those of nobody in particular");
        assert!(written("c", at(62)), "what was told goes when there is no room");
    }
}
