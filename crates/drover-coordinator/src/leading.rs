//! Leading, and following who leads: what `drover_exec::leadership` orders, done to a store that several coordinators
//! share. Where the records are on this machine, nobody shares them, and the one that has them leads.
//!
//! A process leads once at most. It follows, takes over, and when it is deposed it ends: whoever supervises it starts it
//! as a follower, which has nothing half done in its memory. Going back to following in one process would have to prove
//! that every task of the leader is over; the end of a process proves it.

#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::coordinator::{Coordinator, fresh_incarnation, recalled};
use crate::db::{Leader, keys};
use crate::error::CoordinatorError;
use crate::leader_record::LeaderSight;
use crate::mirror::Mirrored;
use crate::roster::Roster;
use arc_swap::ArcSwap;
use drover_exec::leadership::{Bounds, Effect, End, Event, Leadership, Sight};
use drover_model::Span;
use drover_model::api::{LeadershipView, StoreUnread};
use drover_model::write_right::BootTime;
use drover_store::{Revision, Watch, WatchItem};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What has ended by then when a process stops has ended; the record is put down all the same, since the fence refuses
/// whatever comes later, and a follower need not wait for a slow client.
const FINISH_WITHIN: Duration = Duration::from_millis(250);
/// A store that does not answer must not keep a process from ending.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);
/// Answers on their way to the machine: one each of four kinds, and whatever came late.
const ANSWERS_MAX: usize = 16;
/// Between two looks of a step whether its leader may act again.
const ACTS_AGAIN_EVERY: Duration = Duration::from_millis(50);

/// What the tasks know of who leads.
pub(crate) struct Leading {
    /// Milliseconds since boot until which this process may act: all of time where nobody else can lead.
    acts_until: AtomicU64,
    /// It leads, and what a leader has in memory is there.
    is_ready: AtomicBool,
    /// Another one took over.
    is_deposed: AtomicBool,
    seen: ArcSwap<Option<LeaderSight>>,
    heard_at: ArcSwap<Option<BootTime>>,
    advertise: OnceLock<String>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// What a follower has read of the store for those who ask it. Held while it reads, and when it begins to lead.
    pub(crate) mirrored: tokio::sync::Mutex<Mirrored>,
    /// What was read is old, whenever that was.
    pub(crate) is_mirror_old: AtomicBool,
    /// Since when a follower can't read the store.
    pub(crate) unread: ArcSwap<Option<StoreUnread>>,
    /// Those that share the store, as they were heard last.
    pub(crate) roster: Mutex<Roster>,
}

impl Leading {
    /// Of one whose store nobody shares, or that follows at first.
    pub(crate) fn new(alone: bool) -> Self {
        Self {
            acts_until: AtomicU64::new(if alone { u64::MAX } else { 0 }),
            is_ready: AtomicBool::new(alone),
            is_deposed: AtomicBool::new(false),
            seen: ArcSwap::from_pointee(None),
            heard_at: ArcSwap::from_pointee(None),
            advertise: OnceLock::new(),
            task: Mutex::default(),
            mirrored: tokio::sync::Mutex::default(),
            is_mirror_old: AtomicBool::new(false),
            unread: ArcSwap::from_pointee(None),
            roster: Mutex::default(),
        }
    }

    fn note(&self, machine: &Leadership) {
        let until = machine.acts_until().map_or(0, |t| t.since(BootTime::default()).as_millis());
        self.acts_until.store(until, Ordering::Release);
        self.heard_at.store(Arc::new(machine.heard_at()));
    }

    /// Where this one is reached.
    pub(crate) fn own_url(&self) -> Option<&String> {
        self.advertise.get()
    }

    /// The leader's record as it was seen last.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.seen.load().as_ref().as_ref()?.leader.clone()
    }
}

impl Coordinator {
    /// Says where others reach this one's API. Before [`Coordinator::start`]; a second word does not count.
    pub fn advertise(&self, url: String) {
        let _second = self.leading.advertise.set(url);
    }

    /// Puts the record down and ends, so that another one leads: whoever supervises this process starts it as a follower.
    pub(crate) fn hand_over(&self) {
        self.leading.is_deposed.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Does this coordinator do the leader's work?
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading.is_ready.load(Ordering::Acquire)
    }

    /// Did another one take over from it, or is it about to?
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.leading.is_deposed.load(Ordering::Acquire)
    }

    /// May it act at this moment? Asked right before an effect, by the clock, so that a process that was stopped for an
    /// hour says no before any of its timers has run.
    pub(crate) fn acts(&self) -> bool {
        let now = Clock::boot().since(BootTime::default()).as_millis();
        now < self.leading.acts_until.load(Ordering::Acquire)
    }

    /// Waits until it may act, or is told to stop.
    pub(crate) async fn until_it_acts(&self) {
        while !self.acts() && !self.stop.is_cancelled() {
            tokio::time::sleep(ACTS_AGAIN_EVERY).await;
        }
    }

    /// Waits until it may not act any more.
    pub(crate) async fn until_it_acts_no_more(&self) {
        while self.acts() {
            tokio::time::sleep(ACTS_AGAIN_EVERY).await;
        }
    }

    /// Who leads, where that is a question.
    pub(crate) fn leadership_view(&self) -> Option<LeadershipView> {
        self.records.shared_bound()?;
        // Who may not act at this moment is no leader that anybody could count on.
        let has_record = self.leads();
        let leads = has_record && self.acts();
        let leader = self.leading.leader();
        let heard_at = **self.leading.heard_at.load();
        let answered_by = self.leading.advertise.get().cloned();
        Some(LeadershipView {
            leader: if leads {
                answered_by.clone()
            } else {
                leader.as_ref().and_then(|l| l.advertise.clone())
            },
            answered_by,
            leads,
            since: leader.map(|l| l.since),
            heard: heard_at.filter(|_| !leads).map(|at| Clock::boot().since(at)),
            waits: has_record && !leads,
            followers: self.follower_views(),
        })
    }

    /// Follows and leads until told to stop, in a task of its own that outlives the others.
    pub(crate) fn begin_leadership(self: &Arc<Self>, lost_after: Span) {
        let (me, stop) = (self.clone(), self.stop.clone());
        let task = tokio::spawn(async move {
            let ended = tokio::spawn(me.run_leadership(Bounds::new(lost_after))).await;
            if let Err(e) = ended {
                tracing::error!("the leadership loop ended by itself ({e}); stopping");
            }
            stop.cancel();
        });
        *self.leading.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits until the leader's record is put down, after `stop`.
    pub async fn handed_over(&self) {
        let task = self.leading.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(e) = task.await
        {
            tracing::error!("the leadership loop ended by itself: {e}");
        }
    }

    async fn run_leadership(self: Arc<Self>, bounds: Bounds) {
        let (answers, mut heard) = mpsc::channel(ANSWERS_MAX);
        let mut machine = Leadership::follow(bounds, Clock::boot());
        let mut hint = Hint::default();
        loop {
            let wait = machine.wake_at().map_or(bounds.lost_after(), |at| at.since(Clock::boot()));
            let event = tokio::select! {
                () = self.stop.cancelled() => break,
                Some(event) = heard.recv() => event,
                () = hint.changed(&self) => Event::Changed,
                () = tokio::time::sleep(wait.to_duration()) => Event::Tick,
            };
            for effect in self.moved(&mut machine, event) {
                if let Effect::End(end) = effect {
                    return self.leadership_ended(end);
                }
                self.order(effect, bounds, &answers);
            }
        }
        let _ = tokio::time::timeout(FINISH_WITHIN, self.tasks.wait()).await;
        let mut event = Event::Release;
        let ended = tokio::time::timeout(RELEASE_WITHIN, async {
            loop {
                for effect in self.moved(&mut machine, event) {
                    if let Effect::End(end) = effect {
                        return self.leadership_ended(end);
                    }
                    self.order(effect, bounds, &answers);
                }
                let Some(next) = heard.recv().await else { return };
                event = next;
            }
        });
        if ended.await.is_err() {
            tracing::warn!(
                "the leader's record could not be put down in time; others take over after {}",
                bounds.lost_after()
            );
        }
    }

    fn moved(&self, machine: &mut Leadership, event: Event) -> Vec<Effect> {
        let effects = machine.handle(event, Clock::boot());
        self.leading.note(machine);
        effects
    }

    fn leadership_ended(&self, end: End) {
        match end {
            End::Deposed => {
                tracing::error!(epoch = %self.db.epoch(), "another coordinator took over; ending");
                self.leading.is_deposed.store(true, Ordering::Release);
            }
            End::HandedOver => tracing::info!(epoch = %self.db.epoch(), "the leader's record was put down"),
            End::NeverLed => {}
        }
        self.stop.cancel();
    }

    /// Does it in a task, whose answer comes back as an event. A store that takes longer than the bound for it has not
    /// answered.
    fn order(self: &Arc<Self>, effect: Effect, bounds: Bounds, answers: &mpsc::Sender<Event>) {
        let (me, answers) = (self.clone(), answers.clone());
        let within = bounds.lost_after().to_duration();
        tokio::spawn(async move {
            let lost = match effect {
                Effect::Look => Event::LookFailed,
                Effect::TakeOver(_) => Event::NotTakenOver,
                Effect::Beat(_) => Event::BeatLost,
                Effect::Release(_) => Event::Released,
                Effect::Lead(_) => return me.begin_to_lead().await,
                Effect::End(_) => return,
            };
            let done = tokio::time::timeout(within, async {
                match effect {
                    Effect::Look => me.look_for_leader().await,
                    Effect::TakeOver(sight) => me.take_over(sight).await,
                    Effect::Beat(_) => me.db.beat().await,
                    _ => me.put_down().await,
                }
            });
            let event = match done.await {
                Ok(Ok(event)) => event,
                Ok(Err(e)) => {
                    tracing::warn!(error = &e as &dyn std::error::Error, "leadership: {effect:?} failed");
                    lost
                }
                Err(_) => {
                    tracing::warn!("leadership: no answer to {effect:?} within {}", bounds.lost_after());
                    lost
                }
            };
            // Nobody listens once it is over.
            let _ = answers.send(event).await;
        });
    }

    async fn look_for_leader(&self) -> Result<Event, CoordinatorError> {
        let seen = self.db.sight().await?;
        if let Some(leader) = &seen.leader {
            self.db.note_leader(leader.epoch);
        }
        let sight = seen.sight;
        self.leading.seen.store(Arc::new(Some(seen)));
        Ok(Event::Saw { sight, gives_way: self.gives_way() })
    }

    /// Swaps the record as it was seen. A store that nobody may use any more ends the process.
    async fn take_over(&self, sight: Sight) -> Result<Event, CoordinatorError> {
        let seen = self.leading.seen.load_full();
        let Some(seen) = seen.as_ref().as_ref().filter(|seen| seen.sight == sight) else {
            return Ok(Event::NotTakenOver);
        };
        if let Err(e) = crate::transfer::refuse_unusable(&*self.store).await {
            if matches!(
                e,
                CoordinatorError::Retired { .. }
                    | CoordinatorError::HalfImported { .. }
                    | CoordinatorError::HigherLevel { .. }
            ) {
                tracing::error!(error = &e as &dyn std::error::Error, "stopping");
                self.stop.cancel();
            }
            return Err(e);
        }
        let (now, advertise) = (self.clock.now(), self.leading.advertise.get().cloned());
        let taken = self.db.take_over_from(seen, now, advertise, fresh_incarnation()).await?;
        let Some((leader, revision)) = taken else { return Ok(Event::NotTakenOver) };
        self.db.lead(leader.epoch, revision);
        let sight = Sight { record: Some(fence_of(revision)), is_released: false, beat: None };
        self.leading.seen.store(Arc::new(Some(LeaderSight { sight, leader: Some(leader) })));
        Ok(Event::TookOver(fence_of(revision)))
    }

    async fn put_down(&self) -> Result<Event, CoordinatorError> {
        let seen = self.leading.seen.load_full();
        match self.db.release((*seen).as_ref()).await {
            // Whoever noticed it first stopped everything: it ends as one that was deposed.
            Err(CoordinatorError::Fenced { .. }) => {
                self.leading.is_deposed.store(true, Ordering::Release);
                Ok(Event::Released)
            }
            done => done,
        }
    }

    /// Takes up the leader's work. What can't be read or written now is for the next one: this process ends.
    async fn begin_to_lead(self: Arc<Self>) {
        let began = Clock::boot();
        let done = tokio::select! {
            () = self.stop.cancelled() => return,
            done = self.take_up_and_start() => done,
        };
        match done {
            Ok(()) => {
                let took = Clock::boot().since(began);
                tracing::info!(epoch = %self.db.epoch(), "leading, after {took}");
                self.decide_wake.notify_one();
            }
            Err(e) => {
                tracing::error!(error = &e as &dyn std::error::Error, "can't begin to lead; stopping");
                self.stop.cancel();
            }
        }
    }

    async fn take_up_and_start(self: &Arc<Self>) -> Result<(), CoordinatorError> {
        self.take_up().await?;
        self.start_leading().await?;
        self.leading.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Reads what the leader before left, and keeps what the vantages have said to this process meanwhile.
    async fn take_up(&self) -> Result<(), CoordinatorError> {
        // A configuration that came in between would have its targets taken back by what was read before it.
        let _no_reload = self.reloading.lock().await;
        let mut mirrored = self.leading.mirrored.lock().await;
        *mirrored = Mirrored::default();
        self.leading.unread.store(Arc::new(None));
        let now = self.clock.now();
        let stored = recalled(&self.db, now).await?;
        let standing = self.stored_standing().await?;
        self.find_counters().await?;
        self.recall_tokens().await?;
        {
            let mut live = self.live();
            live.take_stored(stored);
            live.begin_to_lead(standing, now);
            live.keep_only(&self.loaded().config);
        }
        // At once: nobody shall be shown a world of which nothing is concluded.
        self.judge_all();
        self.runs.forget_open();
        self.connect_dns();
        self.retarget_all().await
    }
}

/// The record's revision, as the state machine names it.
pub(crate) fn fence_of(revision: Revision) -> drover_exec::write_right::Revision {
    drover_exec::write_right::Revision(revision.0)
}

/// Wakes a follower when the leader's record changes. Looks come by themselves as well, so that a watch that is lost
/// costs a part of the bound and no more.
#[derive(Default)]
struct Hint {
    watch: Option<Watch>,
    /// When one that could not be had is asked for again.
    not_before: Option<tokio::time::Instant>,
}

/// After a watch that could not be had.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

impl Hint {
    async fn changed(&mut self, c: &Coordinator) {
        if c.db.is_leader() {
            self.watch = None;
            return std::future::pending().await;
        }
        loop {
            let Some(watch) = &mut self.watch else {
                if let Some(at) = self.not_before {
                    tokio::time::sleep_until(at).await;
                }
                let opened = async { c.store.watch(keys::LEADER, c.store.revision().await?).await };
                match opened.await {
                    // What changed before it was there is seen by looking.
                    Ok(watch) => {
                        self.watch = Some(watch);
                        return;
                    }
                    Err(e) => {
                        tracing::debug!(
                            error = &e as &dyn std::error::Error,
                            "can't watch the leader's record"
                        );
                        self.not_before = Some(tokio::time::Instant::now() + WATCH_AGAIN);
                        continue;
                    }
                }
            };
            match watch.next().await {
                // A beat is seen by the next look, soon enough.
                Some(WatchItem::Changed(changes)) => {
                    if changes.changes.iter().any(|change| change.key == keys::LEADER) {
                        return;
                    }
                }
                Some(WatchItem::Lagged) | None => self.watch = None,
            }
        }
    }
}
