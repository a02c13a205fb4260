//! Which coordinators share the store, and how much each hears.
//!
//! A follower says now and then that it is there, in a record of its own. No leader's record fences it: nothing is decided
//! by it but who of several that may lead does. A leader that can't judge as many regions as one of them hands over, since
//! an orchestrator that hears nobody moves nothing, however well it leads; and whoever can judge fewer than another one
//! gives way when the leader is lost.

use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::error::CoordinatorError;
use drover_core::quorum;
use drover_model::Span;
use drover_model::api::FollowerView;
use drover_model::traffic::Actor;
use drover_model::write_right::BootTime;
use drover_store::{Revision, Txn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What a follower says of itself, under its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    version: String,
    config_version: String,
    regions_judged: u32,
}

/// So many words of its own a follower may miss before it counts as silent.
const SILENT_AFTER_MISSED: u64 = 3;
/// A follower that was silent for so long is not coming back: the leader forgets it.
const FORGET_AFTER: Span = Span::from_mins(60);
/// A store that does not answer must not keep a process from ending.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// For this part of `silent_after` another one must hear more before a leader hands over: one probe interval as shipped.
/// That a vantage is silent at all has taken the whole of it already.
const PATIENCE_PART: u64 = 3;
/// Followers that are read, at most; there are a few.
const FOLLOWERS_MAX: usize = 100;

#[derive(Debug, Clone)]
struct Heard {
    presence: Presence,
    revision: Revision,
    /// When this revision was seen first, by this machine's clock.
    at: BootTime,
}

/// Those that share the store, as this process has heard them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    by_url: BTreeMap<String, Heard>,
    /// Without a word for so long, one is silent.
    silent_after: Span,
    /// Of how many regions this process hears enough vantages.
    pub(crate) own: u32,
    /// The configuration of this process: who goes by another one counts other regions, or none that this one has.
    config_version: String,
    /// Since when another one hears more.
    pub(crate) outdone_since: Option<BootTime>,
}

impl Roster {
    fn take(&mut self, read: Vec<(String, Presence, Revision)>, now: BootTime) {
        let known = std::mem::take(&mut self.by_url);
        self.by_url = read
            .into_iter()
            .map(|(url, presence, revision)| {
                let same = known.get(&url).filter(|heard| heard.revision == revision);
                let at = same.map_or(now, |heard| heard.at);
                (url, Heard { presence, revision, at })
            })
            .collect();
    }

    /// The one that can judge more regions than this process, and the most of them. Never the one at `lost`, which led and is
    /// gone, whatever it said while it followed.
    fn better(&self, now: BootTime, lost: Option<&String>) -> Option<(&String, &Presence)> {
        let speaks = |heard: &Heard| now.since(heard.at) < self.silent_after;
        let same = |heard: &Heard| heard.presence.config_version == self.config_version;
        let more = |heard: &Heard| same(heard) && heard.presence.regions_judged > self.own;
        let others = self.by_url.iter().filter(|(url, _)| Some(*url) != lost);
        let better = others.filter(|(_, heard)| speaks(heard) && more(heard));
        let best = better.max_by_key(|(_, heard)| heard.presence.regions_judged);
        best.map(|(url, heard)| (url, &heard.presence))
    }

    /// Whether another one has been able to judge more for `patience`, and which.
    fn is_outdone(&mut self, now: BootTime, patience: Span) -> Option<String> {
        let better = self.better(now, None).map(|(url, _)| url.clone());
        let since = better.as_ref().map(|_| self.outdone_since.unwrap_or(now));
        self.outdone_since = since;
        better.filter(|_| since.is_some_and(|since| now.since(since) >= patience))
    }

    fn views(&self, now: BootTime) -> Vec<FollowerView> {
        let view = |(url, heard): (&String, &Heard)| FollowerView {
            url: url.clone(),
            version: heard.presence.version.clone(),
            config_version: heard.presence.config_version.clone(),
            regions_judged: heard.presence.regions_judged,
            silent: Some(now.since(heard.at)).filter(|silent| *silent >= self.silent_after),
        };
        self.by_url.iter().map(view).collect()
    }
}

impl Coordinator {
    /// Says that this one is there, hears who else is, and hands over to one that hears more, until told to stop.
    pub(crate) async fn run_roster(self: Arc<Self>, every: Span) {
        self.roster().silent_after = Span::from_millis(every.as_millis().saturating_mul(SILENT_AFTER_MISSED));
        loop {
            match tokio::time::timeout(every.to_duration(), self.say_and_hear()).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => {
                    tracing::debug!(error = &e as &dyn std::error::Error, "can't hear other coordinators");
                }
                Err(_) => tracing::debug!("other coordinators can't be heard: the store does not answer"),
            }
            self.hand_over_when_outdone().await;
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(every.to_duration()) => {}
            }
        }
        // Who leaves on purpose is not missed.
        if let (false, Some(url)) = (self.db.is_leader(), self.leading.own_url()) {
            let own = [url.clone()];
            let left = self.forget_coordinators(&own);
            if !matches!(tokio::time::timeout(LEAVE_WITHIN, left).await, Ok(Ok(()))) {
                tracing::debug!("the store was not told that this coordinator ends");
            }
        }
    }

    pub(crate) fn roster(&self) -> std::sync::MutexGuard<'_, Roster> {
        self.leading.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say_and_hear(&self) -> Result<(), CoordinatorError> {
        let own = self.regions_judged();
        let config_version = self.loaded().version.clone();
        {
            let mut roster = self.roster();
            roster.own = own;
            roster.config_version.clone_from(&config_version);
        }
        if let (false, Some(url)) = (self.db.is_leader(), self.leading.own_url()) {
            let presence =
                Presence { version: env!("CARGO_PKG_VERSION").into(), config_version, regions_judged: own };
            let txn = self.db.put_op(Txn::new(), &keys::coordinator(url), &presence)?;
            self.write_unfenced("say that this coordinator is there", txn).await?;
        }
        let read = self.others().await?;
        let now = Clock::boot();
        self.roster().take(read, now);
        if self.db.is_leader() {
            let gone = |heard: &Heard| now.since(heard.at) >= FORGET_AFTER;
            let mut gone: Vec<String> =
                self.roster().by_url.iter().filter(|(_, h)| gone(h)).map(|(url, _)| url.clone()).collect();
            // What it said of itself while it followed.
            gone.extend(
                self.leading.own_url().filter(|own| self.roster().by_url.contains_key(*own)).cloned(),
            );
            self.forget_coordinators(&gone).await?;
        }
        Ok(())
    }

    /// Of how many regions this process hears enough vantages at this moment.
    fn regions_judged(&self) -> u32 {
        let world = self.world(self.clock.now());
        let judged = quorum::automatic_possible(&world, world.config.regions.keys());
        u32::try_from(judged.filter(|q| q.possible).count()).unwrap_or(u32::MAX)
    }

    async fn others(&self) -> Result<Vec<(String, Presence, Revision)>, CoordinatorError> {
        let what = "read which coordinators there are";
        let page = self.db.store().list(keys::COORDINATORS, None, FOLLOWERS_MAX).await;
        let page = page.map_err(|e| CoordinatorError::store(what, e))?;
        // One that can't be read is named by whoever looks through the store, and silences no other.
        let read = page.items.into_iter().filter_map(|item| {
            let url = item.key.strip_prefix(keys::COORDINATORS).unwrap_or(&item.key).to_owned();
            let presence = item.versioned.decode_json::<Presence>(&item.key).ok()?;
            Some((url, presence.value, presence.mod_revision))
        });
        Ok(read.collect())
    }

    async fn forget_coordinators(&self, urls: &[String]) -> Result<(), CoordinatorError> {
        if urls.is_empty() {
            return Ok(());
        }
        let txn = urls.iter().fold(Txn::new(), |txn, url| txn.delete(keys::coordinator(url)));
        self.write_unfenced("forget coordinators", txn).await
    }

    /// What every coordinator may write, whoever leads.
    async fn write_unfenced(&self, what: &str, txn: Txn) -> Result<(), CoordinatorError> {
        self.store.txn(txn).await.map(|_| ()).map_err(|e| CoordinatorError::store(what, e))
    }

    async fn hand_over_when_outdone(&self) {
        if !self.leads() || !self.acts() {
            return;
        }
        let patience = self.loaded().config.settings.vantage.silent_after.divided_by(PATIENCE_PART);
        let (better, own) = {
            let mut roster = self.roster();
            (roster.is_outdone(Clock::boot(), patience), roster.own)
        };
        let Some(url) = better else { return };
        let regions = self.loaded().config.regions.len();
        let why = format!(
            "this coordinator hears enough vantages to judge {own} of {regions} regions, and has heard fewer than {url} for \
             {patience}"
        );
        tracing::warn!("{why}; handing over");
        let me = self.leading.own_url().cloned().unwrap_or_default();
        if let Err(e) = self.audit(&Actor::Automatic, "hand over", &me, &why, "done").await {
            tracing::warn!(error = &e as &dyn std::error::Error, "the hand-over is not on record");
        }
        self.hand_over();
    }

    /// Whether another follower should rather take over than this one, by what this one hears now: at its last word it may have
    /// just begun, and heard nobody.
    pub(crate) fn gives_way(&self) -> bool {
        let lost = self.leading.leader().and_then(|leader| leader.advertise);
        let is_outdone = || self.roster().better(Clock::boot(), lost.as_ref()).is_some();
        if !is_outdone() {
            return false;
        }
        let own = self.regions_judged();
        self.roster().own = own;
        is_outdone()
    }

    /// Those that follow; the leader's own words from before it led are not among them.
    pub(crate) fn follower_views(&self) -> Vec<FollowerView> {
        let leader = match self.leads() {
            true => self.leading.own_url().cloned(),
            false => self.leading.leader().and_then(|leader| leader.advertise),
        };
        let mut views = self.roster().views(Clock::boot());
        views.retain(|view| Some(&view.url) != leader.as_ref());
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::after_boot(Span::from_millis(millis))
    }

    fn says(url: &str, regions_judged: u32, revision: u64) -> (String, Presence, Revision) {
        let presence = Presence { version: "0.1.0".into(), config_version: "aa".into(), regions_judged };
        (url.into(), presence, Revision(revision))
    }

    fn roster(own: u32) -> Roster {
        Roster { silent_after: Span::from_secs(9), own, config_version: "aa".into(), ..Roster::default() }
    }

    #[test]
    fn one_that_hears_more_for_long_enough_outdoes_another() {
        let mut roster = roster(1);
        roster.take(vec![says("b", 2, 1), says("c", 3, 2)], at(0));
        let patience = Span::from_secs(5);
        assert_eq!(roster.is_outdone(at(0), patience), None);
        assert_eq!(roster.is_outdone(at(4_999), patience), None);
        assert_eq!(roster.is_outdone(at(5_000), patience), Some("c".into()));
        roster.own = 3;
        assert_eq!(roster.is_outdone(at(6_000), patience), None, "as many are not more");
        roster.own = 1;
        assert_eq!(roster.is_outdone(at(7_000), patience), None, "it is counted anew");
        roster.config_version = "bb".into();
        assert_eq!(
            roster.is_outdone(at(70_000), patience),
            None,
            "by another configuration they are other regions"
        );
    }

    #[test]
    fn who_led_and_is_gone_outdoes_nobody() {
        let mut roster = roster(1);
        roster.take(vec![says("b", 3, 1), says("c", 2, 2)], at(0));
        let better = |lost: &str| roster.better(at(0), Some(&lost.to_owned())).map(|(url, _)| url.clone());
        assert_eq!(better("b"), Some("c".into()));
        assert_eq!(better("d"), Some("b".into()));
    }

    #[test]
    fn one_that_is_silent_outdoes_nobody_and_is_said_to_be() {
        let mut roster = roster(0);
        roster.take(vec![says("b", 3, 1)], at(0));
        roster.take(vec![says("b", 3, 1)], at(9_000));
        assert!(roster.better(at(8_999), None).is_some());
        assert!(roster.better(at(9_000), None).is_none());
        assert_eq!(roster.views(at(9_000))[0].silent, Some(Span::from_secs(9)));
        roster.take(vec![says("b", 3, 2)], at(9_000));
        assert_eq!(roster.views(at(9_000))[0].silent, None, "a word is a word");
    }
}
