//! A world written down as what differs from another one, its base.
//!
//! From one decision to the next most of a world is the same: its configuration, the verdicts of all endpoints that did
//! nothing, where traffic stands. What is put together again is exactly what was kept.

use drover_core::decide;
use drover_model::break_glass::HeldBy;
use drover_model::decision::VantageState;
use drover_model::plan::{ActiveRun, EndedRun, StandingVerdict, World};
use drover_model::traffic::{Block, Freeze, Hold, Load, TrafficState};
use drover_model::{AgentId, EndpointKey, Epoch, RegionId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is under a decision's number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum KeptWorld {
    /// What differs from a base.
    Differs(Box<Differs>),
    /// All of it, as versions before there were bases wrote it.
    Whole(Box<World>),
}

/// Of that, the base.
#[derive(Debug, Deserialize)]
pub(crate) struct OfBase {
    /// None: it is whole.
    #[serde(default)]
    pub base: Option<u64>,
}

/// A world, by its base.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differs {
    /// The number of the base.
    pub base: u64,
    /// What the decision was about: whoever asks is shown the part of the world that concerns it.
    region: RegionId,
    verdicts: Changed<EndpointKey, StandingVerdict>,
    traffic: Changed<ServiceId, TrafficState>,
    loads: Changed<ServiceId, Load>,
    vantages: BTreeMap<AgentId, VantageState>,
    holds: Vec<Hold>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    held: BTreeMap<ServiceId, HeldBy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns_of_another_store: Option<Epoch>,
    freeze: Option<Freeze>,
    blocks: Vec<Block>,
    runs: Vec<ActiveRun>,
    ended: Vec<EndedRun>,
    rearmed: BTreeMap<ServiceId, Timestamp>,
    heard_since_start: Vec<AgentId>,
}

impl Differs {
    /// `world`, by a base with the same configuration.
    pub(crate) fn of(world: &World, base: &World, number: u64, region: RegionId) -> Self {
        // Every part by its name: a new one must find its place here.
        let World {
            config: _, // That of the base,
            verdicts,
            vantages,
            traffic,
            loads,
            holds,
            held,
            dns_of_another_store,
            freeze,
            blocks,
            runs,
            ended,
            rearmed,
            runbooks: _, // and likewise.
            heard_since_start,
            service_versions: _, // Made of the configuration.
        } = world;
        Self {
            base: number,
            region,
            verdicts: Changed::between(&base.verdicts, verdicts),
            traffic: Changed::between(&base.traffic, traffic),
            loads: Changed::between(&base.loads, loads),
            vantages: vantages.clone(),
            holds: holds.clone(),
            held: held.clone(),
            dns_of_another_store: *dns_of_another_store,
            freeze: freeze.clone(),
            blocks: blocks.clone(),
            runs: runs.clone(),
            ended: ended.clone(),
            rearmed: rearmed.clone(),
            heard_since_start: heard_since_start.clone(),
        }
    }

    /// How much of what seldom changes is not as in the base.
    pub(crate) fn changes(&self) -> usize {
        self.verdicts.len() + self.traffic.len()
    }

    /// The world again, on its base: what of it concerns the region.
    pub(crate) fn on(self, base: World) -> World {
        let world = World {
            config: base.config,
            verdicts: self.verdicts.on(BTreeMap::clone(&base.verdicts)).into(),
            vantages: self.vantages,
            traffic: self.traffic.on(BTreeMap::clone(&base.traffic)).into(),
            loads: self.loads.on(base.loads),
            holds: self.holds,
            held: self.held,
            dns_of_another_store: self.dns_of_another_store,
            freeze: self.freeze,
            blocks: self.blocks,
            runs: self.runs,
            ended: self.ended,
            rearmed: self.rearmed,
            runbooks: base.runbooks,
            heard_since_start: self.heard_since_start,
            service_versions: base.service_versions,
        };
        concerning(&world, &self.region)
    }
}

/// What of a world a decision about this region depends on.
pub(crate) fn concerning(world: &World, region: &RegionId) -> World {
    world.narrowed(&decide::concerned(world, region))
}

/// Configuration and runbooks are never written in part.
pub(crate) fn have_one_configuration(a: &World, b: &World) -> bool {
    (Arc::ptr_eq(&a.config, &b.config) || a.config == b.config) && a.runbooks == b.runbooks
}

/// From one map to another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed<K: Ord, V> {
    now: BTreeMap<K, V>,
    gone: Vec<K>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Changed<K, V> {
    fn between(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Self {
        let mut changed = Self { now: BTreeMap::new(), gone: Vec::new() };
        // Both go on in the order of their keys: a look-up for each would cost more than the comparing.
        let mut before = before.iter().peekable();
        for (key, value) in after {
            while let Some((gone, _)) = before.next_if(|(k, _)| *k < key) {
                changed.gone.push(gone.clone());
            }
            let was = before.next_if(|(k, _)| *k == key);
            if was.is_none_or(|(_, was)| was != value) {
                changed.now.insert(key.clone(), value.clone());
            }
        }
        changed.gone.extend(before.map(|(gone, _)| gone.clone()));
        changed
    }

    fn on(self, mut before: BTreeMap<K, V>) -> BTreeMap<K, V> {
        for gone in &self.gone {
            before.remove(gone);
        }
        before.extend(self.now);
        before
    }

    fn len(&self) -> usize {
        self.now.len() + self.gone.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every map of three keys, each absent or with one of two values.
    fn maps() -> Vec<BTreeMap<u8, u8>> {
        let of = |n: u8| [n % 3, n / 3 % 3, n / 9].into_iter().zip(0..).filter(|(value, _)| *value > 0);
        (0..27).map(|n| of(n).map(|(value, key)| (key, value)).collect()).collect()
    }

    #[test]
    fn what_changed_leads_from_one_map_to_the_other_and_holds_no_more() {
        for before in maps() {
            for after in maps() {
                let changed = Changed::between(&before, &after);
                let differ = |k: &u8| before.get(k) != after.get(k);
                assert!(changed.now.keys().chain(&changed.gone).all(differ), "{changed:?}");
                assert_eq!(changed.on(before.clone()), after);
            }
        }
    }
}
