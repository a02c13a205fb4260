//! Everything that there is: what is true, what lasts, what DNS answers, and what the leader of the moment knows.

use crate::agent::{Agent, Sent};
use crate::deposed::Deposed;
use crate::invariants::Watch;
use crate::rights::Rights;
use crate::seeds::Seen;
use crate::truth::Truth;
use crate::world::Loaded;
use drover_core::opinion::Opinion;
use drover_core::panel::Panel;
use drover_core::targets::{initial_traffic, retarget};
use drover_core::vantage::Vantage;
use drover_exec::Execution;
use drover_exec::drive::Request;
use drover_model::Shared as SharedValue;
use drover_model::config::Config;
use drover_model::decision::{ActionDecision, FailureClass, VantageState};
use drover_model::journal::Record;
use drover_model::plan::{Plan, StandingVerdict};
use drover_model::traffic::{Block, Freeze, Hold, TrafficState};
use drover_model::units::Generation;
use drover_model::{AgentId, EndpointKey, Epoch, RegionId, RunId, ServiceId, Span, Timestamp, Weights};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use tokio::sync::{mpsc, watch};

/// Midnight of a day that is easy to read: every time in a script is the time since the world began.
pub(crate) const BEGINNING: Timestamp = Timestamp::from_millis(1_893_456_000_000);

/// How long a world is watched before a script begins, so that it begins with all that is to be known: four probes of
/// each endpoint by each vantage at the default interval.
pub(crate) const WARM_UP: Span = Span::from_mins(2);

/// The time now in a world that began then.
pub(crate) fn at(began: tokio::time::Instant) -> Timestamp {
    BEGINNING - WARM_UP + Span::from_duration(began.elapsed())
}

/// What survives a leader.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Who may write (I3).
    pub(crate) epoch: Epoch,
    pub(crate) journals: BTreeMap<RunId, Vec<Record>>,
    pub(crate) traffic: SharedValue<BTreeMap<ServiceId, TrafficState>>,
    pub(crate) holds: BTreeMap<RunId, Hold>,
    /// Holds that a run has ended, as they were: its undo puts them back.
    pub(crate) ended_holds: BTreeMap<RunId, Vec<Hold>>,
    pub(crate) blocks: BTreeMap<(ServiceId, FailureClass), Block>,
    /// What was settled about each endpoint, so that a trouble that outlives a leader stays one trouble.
    pub(crate) standing: BTreeMap<EndpointKey, StandingVerdict>,
    pub(crate) rearmed: BTreeMap<ServiceId, Timestamp>,
    pub(crate) freeze: Option<Freeze>,
    /// The generation that each run gave each service last: an undo touches just that.
    pub(crate) moved: BTreeMap<(RunId, ServiceId), Generation>,
    /// Keys of the pages that were told already.
    pub(crate) pages: BTreeSet<String>,
    pub(crate) runs_begun: u64,
    pub(crate) decisions: u64,
}

/// What one service's DNS name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) weights: Weights,
    pub(crate) generation: Generation,
}

/// The DNS server: it remembers the newest epoch that spoke to it.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    pub(crate) epoch: Epoch,
    pub(crate) answers: BTreeMap<ServiceId, Answers>,
}

/// Probes from outside that were accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) good: u64,
    pub(crate) failed: u64,
}

/// A run that some process drives.
pub(crate) struct Driven {
    pub(crate) snapshot: watch::Receiver<Execution>,
    pub(crate) commands: mpsc::Sender<Request>,
    pub(crate) task: Option<tokio::task::JoinHandle<()>>,
}

/// Who judges: made anew only when somebody may speak otherwise than before, or other vantages are configured.
pub(crate) struct Judges {
    pub(crate) config: Arc<Config>,
    pub(crate) states: BTreeMap<AgentId, VantageState>,
    pub(crate) panel: Panel,
}

/// What dies with the process.
#[derive(Default)]
pub(crate) struct Leader {
    pub(crate) started_at: Timestamp,
    pub(crate) gates: BTreeMap<AgentId, Vantage>,
    pub(crate) opinions: BTreeMap<EndpointKey, BTreeMap<AgentId, Opinion>>,
    pub(crate) standing: SharedValue<BTreeMap<EndpointKey, StandingVerdict>>,
    /// What its predecessor had settled, until it settles that itself.
    pub(crate) recalled: BTreeMap<EndpointKey, StandingVerdict>,
    pub(crate) decisions: BTreeMap<RegionId, ActionDecision>,
    pub(crate) tallies: BTreeMap<EndpointKey, Tally>,
    pub(crate) runs: BTreeMap<u64, Driven>,
    /// When it was tried last to end a drain whose time is over, by the drain's run.
    pub(crate) lapse_tried: BTreeMap<RunId, Timestamp>,
    /// Who may speak, as it was at the last look, with the panel that was made of it.
    pub(crate) judges: Option<Judges>,
}

/// Where a leader is to die: at this record, before or after it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CrashPoint {
    pub(crate) durable: bool,
    pub(crate) record: CrashRecord,
}

/// Which record a leader dies over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CrashRecord {
    /// The next of a step.
    OfStep {
        /// `started`, `done` or `failed`.
        entry: String,
        /// Word of the step's kind.
        step: String,
    },
    /// Of whatever kind, after so many others.
    After(u32),
}

pub(crate) struct State {
    pub(crate) loaded: Loaded,
    pub(crate) truth: Truth,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    /// Reports on their way, with the time at which each arrives.
    pub(crate) under_way: Vec<(Timestamp, Arc<Sent>)>,
    pub(crate) store: Store,
    pub(crate) dns: Dns,
    pub(crate) leader: Leader,
    pub(crate) crash_at: Option<CrashPoint>,
    /// The plan that a person was shown last.
    pub(crate) shown: Option<Plan>,
    /// The leader died at its crash point; nothing of it acts any more.
    pub(crate) leader_died: bool,
    /// Counts whatever a run did, so that it is known when nothing is left to do.
    pub(crate) happenings: u64,
    /// What happened since a script looked last.
    pub(crate) told: Vec<(Timestamp, String)>,
    pub(crate) watch: Watch,
    pub(crate) seen: Seen,
    pub(crate) deposed: Option<Deposed>,
    pub(crate) rights: Rights,
    /// What drives the runs of leaders that were deposed and do not know it.
    pub(crate) awake: Vec<tokio::task::JoinHandle<()>>,
    /// A record that was acknowledged and is not durable yet.
    pub(crate) late: Option<Record>,
    #[cfg(feature = "planted-bugs")]
    pub(crate) planted: Option<crate::planted::Planted>,
    began: tokio::time::Instant,
}

impl State {
    /// A world in which all is well and nothing was probed yet. Must be made inside of the runtime whose clock it uses.
    pub(crate) fn new(loaded: Loaded, fresh: bool) -> Self {
        let agents = loaded.config.agents();
        let agents =
            agents.into_iter().map(|(name, region)| (name.clone(), Agent::new(name, region))).collect();
        let mut state = Self {
            loaded,
            truth: Truth::default(),
            agents,
            under_way: vec![],
            store: Store::default(),
            dns: Dns::default(),
            leader: Leader::default(),
            crash_at: None,
            shown: None,
            leader_died: false,
            happenings: 0,
            told: vec![],
            watch: Watch::default(),
            seen: Seen::default(),
            deposed: None,
            rights: Rights::default(),
            awake: vec![],
            late: None,
            #[cfg(feature = "planted-bugs")]
            planted: None,
            began: tokio::time::Instant::now() - if fresh { WARM_UP } else { Span::ZERO }.to_duration(),
        };
        state.store.epoch = Epoch { incarnation: 1, counter: 1 };
        state.leader.started_at = state.now();
        for service in state.loaded.config.services.values() {
            state
                .store
                .traffic
                .insert(service.name.clone(), initial_traffic(service, state.leader.started_at));
        }
        state
    }

    /// Only right inside of the runtime whose clock it is.
    pub(crate) fn now(&self) -> Timestamp {
        at(self.began)
    }

    pub(crate) fn began(&self) -> tokio::time::Instant {
        self.began
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let now = self.now();
        self.told.push((now, what.into()));
    }

    /// Targets follow a changed configuration.
    pub(crate) fn retarget(&mut self) {
        let (now, config) = (self.now(), self.loaded.config.clone());
        for service in config.services.values() {
            let Some(standing) = self.store.traffic.get(&service.name) else { continue };
            match retarget(standing, service, now) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    self.store.traffic.insert(service.name.clone(), next);
                }
                Err(dark) => self.tell(format!("the old target stays: {dark}")),
            }
        }
        self.reconcile();
    }

    /// Every configured endpoint.
    pub(crate) fn endpoints(&self) -> Vec<EndpointKey> {
        self.loaded.endpoints.to_vec()
    }

    /// Every run that was ever created, as its journal tells it, oldest first. Nobody may go on with one while it is read.
    pub(crate) fn executions(&self) -> impl Iterator<Item = watch::Ref<'_, Execution>> {
        // By their numbers.
        self.leader.runs.values().map(|driven| driven.snapshot.borrow())
    }

    /// Does any process still drive a run?
    pub(crate) fn is_driven(&self) -> bool {
        let lives = |task: &tokio::task::JoinHandle<()>| !task.is_finished();
        let led = self.leader.runs.values().filter_map(|driven| driven.task.as_ref());
        led.chain(&self.awake).any(lives)
    }

    /// Is any run not over?
    pub(crate) fn is_busy(&self) -> bool {
        self.leader.runs.values().any(|driven| !driven.snapshot.borrow().is_over())
    }

    /// Names of regions and services, for verbs that take either.
    pub(crate) fn regions(&self) -> BTreeSet<RegionId> {
        self.loaded.config.regions.keys().cloned().collect()
    }
}

/// The number in `run-7`.
pub(crate) fn number_of(run: &RunId) -> u64 {
    run.as_str().rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The world, as every task of the simulation shares it. One thread, so that the lock is never waited for.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Waiting would be for ever: the one thread holds it already.
            Err(TryLockError::WouldBlock) => unreachable!("the world is locked twice"),
        }
    }
}
