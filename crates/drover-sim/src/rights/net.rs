//! What holds of machines and links for one step of the world: who is cut off from whom, and how long a message takes.

use crate::agent::Way;
use crate::planted::Planted;
use crate::state::State;
use drover_model::{AgentId, Epoch, RegionId, Span};
use fastrand::Rng;

/// How long a message takes within a region and between two, at most, while all is well.
const NEAR: u64 = 4;
const FAR: u64 = 70;
/// Between an agent and the gate on its machine, at most, in milliseconds.
const SOCKET: u64 = 3;
/// One of so many takes longer: up to so many milliseconds.
const SLOW_ONE_IN: u32 = 50;
const SLOW: u64 = 800;

/// What is so about one agent's machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Nothing of it is left.
    pub(super) off: bool,
    /// Its agent is stopped, and everything else goes on.
    pub(super) stopped: bool,
    /// Nothing that it says arrives at a coordinator.
    pub(super) silent: bool,
    /// It reaches nothing but coordinators.
    pub(super) blind: bool,
    pub(super) way: Way,
    /// Of its clock, in parts of a million.
    pub(super) rate: i64,
    /// Which life of its agent.
    pub(super) boot: u64,
}

/// The world around a dataset, as it is until the next fault.
#[derive(Debug, Clone, Default)]
pub(super) struct Env {
    pub(super) epoch: Epoch,
    /// Who was deposed and does not know it.
    pub(super) asleep: Option<Epoch>,
    carries: Vec<Vec<bool>>,
    /// Coordinators that reach more than half of the store, one in each region.
    reads: Vec<bool>,
    pub(super) planted: Option<Planted>,
}

impl Env {
    pub(super) fn of(state: &State, places: &[RegionId]) -> Self {
        let truth = &state.truth;
        let up: Vec<bool> = places.iter().map(|place| !truth.dead_regions.contains(place)).collect();
        let from = |(n, a): (usize, &RegionId)| -> Vec<bool> {
            let to = places.iter().zip(&up);
            to.map(|(b, b_up)| up[n] && *b_up && truth.carries(a, b)).collect()
        };
        let carries: Vec<Vec<bool>> = places.iter().enumerate().map(from).collect();
        let members = |n: usize| (0..places.len()).filter(|m| carries[n][*m] && carries[*m][n]).count();
        let reads = (0..places.len()).map(|n| members(n) * 2 > places.len()).collect();
        Self {
            epoch: state.store.epoch,
            asleep: state.deposed.as_ref().map(crate::deposed::Deposed::epoch),
            carries,
            reads,
            planted: state.planted(),
        }
    }

    /// Is this rule the one that was taken away?
    pub(super) fn lacks(&self, rule: Planted) -> bool {
        self.planted == Some(rule)
    }

    /// Does what is sent from one place arrive at the other?
    pub(super) fn carries(&self, from: usize, to: usize) -> bool {
        self.carries[from][to]
    }

    /// How many there are.
    pub(super) fn coordinators(&self) -> usize {
        self.reads.len()
    }

    /// Has the coordinator there the store?
    pub(super) fn reads(&self, place: usize) -> bool {
        self.reads[place]
    }
}

impl Facts {
    pub(super) fn of(state: &State, agent: &AgentId, region: &RegionId, rate: i64) -> Self {
        let off = state.truth.dead_regions.contains(region);
        let Some(found) = state.agents.get(agent) else { return Self { off, rate, ..Self::default() } };
        let fate = &found.fate;
        Self {
            off,
            stopped: fate.stopped,
            silent: fate.silent,
            blind: fate.blind,
            way: fate.way,
            rate: rate + fate.drift_millionths,
            boot: found.boot(),
        }
    }
}

/// How long one message takes.
pub(super) fn latency(chance: &mut Rng, near: bool) -> Span {
    let usual = if near { NEAR } else { FAR };
    let most = if chance.u32(..SLOW_ONE_IN) == 0 { SLOW } else { usual };
    Span::from_millis(chance.u64(1..=most))
}

/// How long an order or an answer takes between an agent and the gate beside it.
pub(super) fn socket(chance: &mut Rng) -> Span {
    Span::from_millis(chance.u64(1..=SOCKET))
}
