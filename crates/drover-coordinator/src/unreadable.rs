//! Records of the store that make no sense here, named for as long as they are there.
//!
//! Whoever reads one leaves it out and goes on. What may not be left out is what keeps drover from acting: while a freeze, a
//! drain or a run under way can't be read, nothing is done by itself, since nobody knows what was forbidden (I6: what is not
//! known moves no traffic). People command as before.

use crate::coordinator::Coordinator;
use crate::db::{LIST_PAGE, keys};
use crate::error::CoordinatorError;
use crate::kinds::{self, Kind};
use crate::level;
use crate::live::Live;
use drover_model::api::{Severity, UnreadableRecord};
use drover_model::traffic::{Actor, Block, Freeze};
use drover_model::{RunId, Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records of the past that are kept in mind; the log names further ones when they are read. Of those that drover goes by
/// all are: one of them may be what forbids something.
const NOTED_MAX: usize = 200;
/// How often the store is looked through for what makes no sense, and what was noted is looked at again. What a follower
/// reads anyway is read as often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A block period that can't be read stands for as long as its record does, and so much longer.
const BLOCKED_FOR: Span = Span::from_mins(1);
/// What is shown of a key that drover would never have made.
const KEY_SHOWN_CHARS: usize = 160;

/// What was read and makes no sense, by key.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<BTreeMap<String, String>>);

impl Unreadable {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one can't be read.
    pub(crate) fn note(&self, key: &str, error: &CoordinatorError) {
        let why = reason(error);
        let mut held = self.held();
        if held.get(key) == Some(&why) {
            return;
        }
        tracing::error!(
            key = shown(key),
            "a record of the store makes no sense here: {why}; {}",
            kinds::meanwhile(key)
        );
        let is_gone_by = kinds::kind_of(key).is_some_and(|kind| kind.is_gone_by);
        if is_gone_by || held.len() < NOTED_MAX || held.contains_key(key) {
            held.insert(key.to_owned(), why);
        }
    }

    /// It is gone, or reads again.
    pub(crate) fn forget(&self, key: &str) {
        self.held().remove(key);
    }

    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.held().keys().cloned().collect()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.held().contains_key(key)
    }

    /// Those of one kind.
    pub(crate) fn under(&self, prefix: &str) -> Vec<String> {
        self.held().keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// The first that keeps drover from acting by itself.
    fn first_withholding(&self) -> Option<String> {
        self.held().keys().find(|key| kinds::kind_of(key).is_some_and(|kind| kind.withholds)).cloned()
    }

    fn all(&self) -> Vec<(String, String)> {
        self.held().iter().map(|(key, why)| (key.clone(), why.clone())).collect()
    }
}

/// What is wrong, without what was attempted: the key stands beside it.
fn reason(error: &CoordinatorError) -> String {
    let source = std::error::Error::source(error);
    let why = source.map_or_else(|| error.to_string(), drover_model::chain);
    why.chars().flat_map(printable).collect()
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let plain = (!c.is_control()).then_some(c);
    plain.into_iter().chain(plain.is_none().then(|| c.escape_default()).into_iter().flatten())
}

/// A key in one line.
fn shown(key: &str) -> String {
    let mut text: String = key.chars().flat_map(printable).take(KEY_SHOWN_CHARS).collect();
    if key.chars().count() > KEY_SHOWN_CHARS {
        text.push('…');
    }
    text
}

impl Coordinator {
    /// Looks through the records that drover goes by, until told to stop.
    pub(crate) async fn run_unreadable(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = BTreeSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            // Raised while this one followed: it would misread what it shows, and may not lead.
            if let Err(e @ CoordinatorError::HigherLevel { .. }) = level::refuse_higher(self.db.store()).await
            {
                tracing::error!(error = &e as &dyn std::error::Error, "stopping");
                return self.stop.cancel();
            }
            if let Err(e) = self.look_for_unreadable(&mut told).await {
                tracing::debug!(error = &e as &dyn std::error::Error, "can't look through the store");
            }
        }
    }

    /// One look; `told` is what the audit has been told of.
    pub(crate) async fn look_for_unreadable(
        self: &Arc<Self>,
        told: &mut BTreeSet<String>,
    ) -> Result<(), CoordinatorError> {
        for kind in kinds::KINDS.iter().filter(|kind| kind.is_gone_by) {
            self.judge_kind(kind).await?;
        }
        let noted = self.db.unreadable().keys();
        let mut mended = BTreeSet::new();
        for key in &noted {
            if self.is_mended(key).await? {
                self.db.unreadable().forget(key);
                mended.insert(key.clone());
            }
        }
        if !self.leads() || !self.acts() {
            return Ok(());
        }
        mended.extend(told.difference(&noted).cloned());
        for key in mended {
            tracing::warn!(key = shown(&key), "a record that made no sense is gone or reads again");
            self.take_up_mended(&key).await?;
            if told.remove(&key) {
                let said = ["record readable", &shown(&key), "", "it is gone, or makes sense again"];
                self.audit_with(self.db.fenced(), &Actor::Automatic, said).await?;
            }
        }
        for (key, why) in self.db.unreadable().all() {
            if !told.contains(&key) {
                let said = ["record unreadable", &shown(&key), &why, kinds::meanwhile(&key)];
                self.audit_with(self.db.fenced(), &Actor::Automatic, said).await?;
                told.insert(key);
            }
        }
        Ok(())
    }

    async fn judge_kind(&self, kind: &Kind) -> Result<(), CoordinatorError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.db.store().list(kind.prefix, after.as_deref(), LIST_PAGE).await;
            let page = page.map_err(|e| CoordinatorError::store(format!("list {}", kind.prefix), e))?;
            for item in page.items.iter().filter(|item| kind.has(&item.key)) {
                if let Err(error) = (kind.judge)(&item.key, &item.versioned) {
                    let error = CoordinatorError::store(format!("read {}", item.key), error);
                    self.db.unreadable().note(&item.key, &error);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn is_mended(&self, key: &str) -> Result<bool, CoordinatorError> {
        let found = self.db.store().get(key).await;
        let found = found.map_err(|e| CoordinatorError::store(format!("read {}", shown(key)), e))?;
        let Some(found) = found else { return Ok(true) };
        Ok(kinds::kind_of(key).is_none_or(|kind| (kind.judge)(key, &found).is_ok()))
    }

    /// Takes up what a record says that could not be read before, or what follows from its not being there.
    async fn take_up_mended(self: &Arc<Self>, key: &str) -> Result<(), CoordinatorError> {
        if key.starts_with(keys::TOKENS) {
            return self.recall_tokens().await;
        }
        if let Some(run) = kinds::run_of(key) {
            return self.take_up_run(&run).await;
        }
        {
            let _no_run = self.admission.lock().await;
            let _no_freeze = self.freezing.lock().await;
            let _nothing_under_way = self.shifting.lock().await;
            let stored = crate::coordinator::recalled(&self.db, self.clock.now()).await?;
            self.live().take_laid_down(stored);
        }
        let of_targets = [keys::TRAFFIC, keys::FIXED, keys::MADE_FROM, keys::FIXED_MADE_FROM];
        if of_targets.iter().any(|prefix| key.starts_with(prefix)) {
            self.retarget_all().await?;
        }
        self.decide_wake.notify_one();
        Ok(())
    }

    /// A person's freeze; where there is none, what stands for one while nobody knows what was forbidden.
    pub(crate) fn freeze_in_force(&self, live: &Live, now: Timestamp) -> Option<Freeze> {
        let holds = live.freeze.clone().filter(|freeze| freeze.holds_at(now));
        holds.or_else(|| self.withheld(live)).or_else(|| live.freeze.clone())
    }

    fn withheld(&self, live: &Live) -> Option<Freeze> {
        let record = self.db.unreadable().first_withholding().map(|key| format!("record {}", shown(&key)));
        let run = || self.runs.left_alone().first().map(|run| format!("the journal of {run}"));
        let reason = format!("{} can't be read", record.or_else(run)?);
        Some(Freeze { by: Actor::Automatic, reason, since: live.started_at, expires_at: None })
    }

    /// Block periods that stand though they can't be read: of which service and class is in their keys.
    pub(crate) fn unreadable_blocks(&self, now: Timestamp) -> Vec<Block> {
        let block = |key: String| {
            let (service, class) = kinds::of_block(&key)?;
            Some(Block { service, class, run: RunId::numbered(0), until: now + BLOCKED_FOR })
        };
        self.db.unreadable().under(keys::BLOCKS).into_iter().filter_map(block).collect()
    }

    /// What makes no sense, with the command that leads on.
    pub(crate) fn unreadable_view(&self) -> Vec<UnreadableRecord> {
        let place = self.records.command_line(&self.options.state_directory);
        let view = |(key, why): (String, String)| UnreadableRecord {
            severity: kinds::kind_of(&key).map_or(Severity::Warning, Kind::severity),
            meanwhile: kinds::meanwhile(&key).to_owned(),
            next: kinds::next_command(&key, &place),
            key: shown(&key),
            why,
        };
        self.db.unreadable().all().into_iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests;
