//! Where results become opinions and wait for delivery.
//!
//! Each change of an opinion has a number. A coordinator's link remembers the highest number that it delivered and asks
//! for what came after; asking from 0 gives everything, which is how a coordinator that was away is brought up to date.

use crate::buffer::Buffer;
use crate::clock::monotonic_now;
use crate::probe::ProbeResult;
use crate::roster::Rosters;
use crate::target::{Held, Target};
use drover_model::decision::OpinionState;
use drover_model::probe::{AgentOpinion, Observation, REPORT_OBSERVATIONS_MAX};
use drover_model::{EndpointKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Opinions in one report, at most; the rest follow in the next.
pub const REPORT_OPINIONS_MAX: usize = 1_000;

/// This many waiting observations are worth a report before its time.
const WORTH_A_REPORT: u64 = REPORT_OBSERVATIONS_MAX as u64 / 2;

/// What a report carries.
#[derive(Debug)]
pub struct Batch {
    /// Results, oldest first.
    pub observations: Vec<Observation>,
    /// Opinions that changed, and those that the results belong to.
    pub opinions: Vec<AgentOpinion>,
    /// Dropped before this coordinator got them.
    pub dropped: u64,
    /// The changes delivered when this batch is.
    pub changes_up_to: u64,
    /// More changes wait than one report holds.
    pub more_opinions: bool,
}

/// Opinions and undelivered results.
#[derive(Debug)]
pub struct Ledger {
    rosters: Arc<Rosters>,
    buffer: Mutex<Buffer>,
    changes: AtomicU64,
    wake: watch::Sender<u64>,
    suspicion: Notify,
    /// Something outside answered since the light was last found out.
    light: AtomicBool,
    /// References are configured, and none of them answered in the last round.
    dark: AtomicBool,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(rosters: Arc<Rosters>, buffer: Buffer) -> Self {
        let (wake, _) = watch::channel(0);
        Self {
            rosters,
            buffer: Mutex::new(buffer),
            changes: AtomicU64::new(0),
            wake,
            suspicion: Notify::new(),
            light: AtomicBool::new(false),
            dark: AtomicBool::new(false),
        }
    }

    /// The buffer.
    pub fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the result of a probe of `target`. While the agent is blind it forms no opinion, and what was held stays
    /// until it is too old: what nobody could see is no agent's word either, which a new leader would begin from.
    pub fn record(&self, target: &Target, result: ProbeResult) {
        if target.watch().is_retired() {
            return;
        }
        let (good, kind) = (result.outcome.is_ok(), result.outcome.as_ref().err().map(|f| f.kind));
        // Before it is judged: the first answer from outside is seen already.
        target.watch().held().last_good = Some(good);
        let blind = self.is_blind();
        let changed = {
            let mut held = target.watch().held();
            if !blind {
                held.opinion.observe(result.began, good, kind, &target.spec().policy);
            }
            self.renew(&mut held, target, monotonic_now())
        };
        let sequence = self.buffer().push(Arc::clone(target.key()), result, blind);
        if changed || sequence.is_multiple_of(WORTH_A_REPORT) {
            self.wake.send_modify(|n| *n = n.wrapping_add(1));
        }
        if !target.is_outside() {
            return;
        }
        if good {
            self.light.store(true, Ordering::Release);
        } else {
            self.suspicion.notify_one();
        }
    }

    /// Looks at the opinion at `now`; true when its state changed. The first look is numbered as well.
    fn renew(&self, held: &mut Held, target: &Target, now: Timestamp) -> bool {
        let (state, _) = held.opinion.vote_at(now, target.spec().policy.stale_after);
        let before = held.state.replace(state);
        if before != Some(state) {
            held.change = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        }
        before.unwrap_or(OpinionState::Unknown) != state
    }

    /// Moves whenever something should be reported before its time.
    #[must_use]
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Returns when nothing outside the own region answers any more, once for each time that something did.
    pub async fn lights_out(&self) {
        loop {
            self.suspicion.notified().await;
            if !self.sees_something_outside() && self.light.swap(false, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Did the last probe of any endpoint outside the own region get its answer?
    #[must_use]
    pub fn sees_something_outside(&self) -> bool {
        let Some(roster) = self.rosters.current() else { return false };
        roster.targets.iter().any(|t| t.is_outside() && t.watch().held().last_good == Some(true))
    }

    /// Tells whether the last round of references found none of those that there are.
    pub fn set_dark(&self, dark: bool) {
        self.dark.store(dark, Ordering::Release);
    }

    /// Does nothing at all answer, neither a reference nor any endpoint outside the own region?
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.dark.load(Ordering::Acquire) && !self.sees_something_outside()
    }

    /// What is to be reported to coordinator `reader`, which was told of the changes up to `changes_told`.
    #[must_use]
    pub fn batch(&self, reader: usize, changes_told: u64) -> Batch {
        let now = monotonic_now();
        let (observations, dropped) = {
            let buffer = self.buffer();
            (buffer.batch(reader, REPORT_OBSERVATIONS_MAX, now), buffer.cursor(reader).dropped)
        };
        // Read before the opinions are: a change that is numbered from here on is delivered by the next report, and one
        // numbered before holds its lock until it can be read.
        let latest = self.changes.load(Ordering::Acquire);
        let mut changed =
            if latest > changes_told { self.changed_since(changes_told, now) } else { Vec::new() };
        let more_opinions = changed.len() > REPORT_OPINIONS_MAX;
        changed.truncate(REPORT_OPINIONS_MAX);
        let told = changed.last().map_or(latest, |(change, _)| *change);
        let changes_up_to = if more_opinions { told.min(latest) } else { latest };
        let opinions = self.with_those_of(&observations, changed, now);
        Batch { observations, opinions, dropped, changes_up_to, more_opinions }
    }

    /// Every opinion, for a status.
    #[must_use]
    pub fn opinions(&self) -> Vec<AgentOpinion> {
        let now = monotonic_now();
        self.changed_since(0, now).into_iter().map(|(_, o)| o).collect()
    }

    fn changed_since(&self, told: u64, now: Timestamp) -> Vec<(u64, AgentOpinion)> {
        let Some(roster) = self.rosters.current() else { return Vec::new() };
        let mut changed: Vec<_> = roster
            .targets
            .iter()
            .filter_map(|target| {
                let mut held = target.watch().held();
                if held.change <= told {
                    return None;
                }
                let opinion = self.opinion_of(target, &mut held, now)?;
                Some((held.change, opinion))
            })
            .collect();
        changed.sort_by_key(|(change, _)| *change);
        changed
    }

    fn opinion_of(&self, target: &Target, held: &mut Held, now: Timestamp) -> Option<AgentOpinion> {
        self.renew(held, target, now);
        let spec = target.spec();
        held.opinion.to_report(&spec.endpoint, now, spec.policy.stale_after)
    }

    /// Adds the opinions of the endpoints that were observed: a coordinator that was restarted unseen then holds every
    /// opinion after one round of probes.
    fn with_those_of(
        &self,
        observations: &[Observation],
        changed: Vec<(u64, AgentOpinion)>,
        now: Timestamp,
    ) -> Vec<AgentOpinion> {
        let mut opinions: BTreeMap<EndpointKey, AgentOpinion> =
            changed.into_iter().map(|(_, o)| (o.endpoint.clone(), o)).collect();
        let Some(roster) = self.rosters.current() else { return Vec::new() };
        for observation in observations.iter().rev() {
            if opinions.len() >= REPORT_OPINIONS_MAX {
                break;
            }
            if opinions.contains_key(&observation.endpoint) {
                continue;
            }
            let Ok(at) = roster.targets.binary_search_by(|t| t.spec().endpoint.cmp(&observation.endpoint))
            else {
                continue;
            };
            let target = &roster.targets[at];
            let mut held = target.watch().held();
            if let Some(opinion) = self.opinion_of(target, &mut held, now) {
                opinions.insert(opinion.endpoint.clone(), opinion);
            }
        }
        opinions.into_values().collect()
    }
}
